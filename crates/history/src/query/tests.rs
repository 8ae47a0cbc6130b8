//! Answers against a plain list of all facts.

use super::*;

const NOW: u64 = 1_700_000_000;

struct Fact {
    start: u64,
    series: Series,
    micros: u64,
}

/// A day of requests, kept by the history and as a plain list.
fn day(seed: u64) -> (History, Vec<Fact>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut history = History::default();
    let mut facts = Vec::new();
    history.expire(NOW - 24 * 3600);
    for second in (NOW - 24 * 3600..NOW).step_by(37) {
        history.expire(second);
        let fact = Fact {
            start: second / 10 * 10,
            series: Series {
                caller: format!("default/c{}", random.u8(..3)),
                service: format!("default/s{}", random.u8(..3)),
                version: format!("v{}", random.u8(..2)),
                route: format!("default/r{}#0", random.u8(..2)),
                code: [200, 404, 503][random.usize(..3)],
                grpc_status: [-1, 0, 14][random.usize(..3)],
                tls: ["mtls", "none"][random.usize(..2)].to_owned(),
                direction: ["inbound", "external"][random.usize(..2)].to_owned(),
            },
            micros: 1 << random.u32(..24),
        };
        let mut counts = Counts {
            requests: 1,
            errors: u64::from(fact.series.code >= 500),
            request_bytes: 10,
            response_bytes: 100,
            durations: Vec::new(),
        };
        counts.observe(fact.micros);
        history.add(fact.start, &fact.series, &counts);
        facts.push(fact);
    }
    history.expire(NOW);
    (history, facts)
}

fn callee(random: &mut fastrand::Rng) -> Callee {
    Callee {
        service: format!("default/s{}", random.u8(..4)),
        version: random.bool().then(|| format!("v{}", random.u8(..2))),
        counted: [Counted::ByCallee, Counted::ByCaller, Counted::ByEither][random.usize(..3)],
    }
}

/// The same by looking at every fact.
fn naive(facts: &[Fact], query: &Query, answer: &Answer) -> BTreeMap<Group, Counts> {
    let mut groups: BTreeMap<Group, Counts> = BTreeMap::new();
    for fact in facts {
        let inside = (answer.from..answer.to).contains(&fact.start);
        let service = query.callees.is_empty()
            || query.callees.iter().any(|callee| {
                callee.service == fact.series.service
                    && callee.version.as_ref().is_none_or(|version| *version == fact.series.version)
                    && match callee.counted {
                        Counted::ByCallee => fact.series.direction == "inbound",
                        Counted::ByCaller => fact.series.direction != "inbound",
                        Counted::ByEither => true,
                    }
            });
        let caller = query.caller.as_ref().is_none_or(|caller| *caller == fact.series.caller);
        if inside && service && caller {
            let counts = groups.entry(Group::of(&fact.series, &query.by)).or_default();
            counts.requests += 1;
            counts.errors += u64::from(fact.series.code >= 500);
            counts.request_bytes += 10;
            counts.response_bytes += 100;
            counts.observe(fact.micros);
        }
    }
    groups
}

#[test]
fn answers_are_exact() {
    let (history, facts) = day(11);
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..300 {
        let from = NOW - random.u64(1..26 * 3600);
        let query = Query {
            callees: (0..random.u8(..3)).map(|_| callee(&mut random)).collect(),
            caller: (random.u8(..4) == 0).then(|| "default/c1".to_owned()),
            direction: None,
            from,
            to: from + random.u64(..26 * 3600),
            by: Dimension::ALL.into_iter().filter(|_| random.bool()).collect(),
        };
        let answer = history.query(&query);
        assert!(answer.from <= query.from && answer.to >= query.to, "rounded outwards");
        let expected = naive(&facts, &query, &answer);
        let rows: BTreeMap<Group, Counts> =
            answer.rows.iter().map(|row| (row.group.clone(), row.counts.clone())).collect();
        assert_eq!(rows, expected);
        let mut total = Counts::default();
        rows.values().for_each(|counts| total.merge(counts));
        assert_eq!(answer.total, total);
    }
}

#[test]
fn windows_are_rounded_and_the_answer_says_to_what() {
    let (history, _) = day(13);
    let span = |from: u64, to: u64| {
        let answer = history.query(&Query { from, to, ..Query::default() });
        (answer.from, answer.to)
    };
    assert_eq!(span(NOW - 57, NOW), (NOW - 60, NOW));
    assert_eq!(span(NOW - 60, NOW - 50), (NOW - 60, NOW - 50), "already whole");
    assert_eq!(span(NOW - 60, NOW - 49), (NOW - 60, NOW - 40));
    let (from, to) = span(NOW - 10 * 3600 - 7, NOW - 10 * 3600);
    assert_eq!((from % 60, to % 60), (0, 0), "older than 6 h: by the minute");
    let (from, _) = span(NOW - 60 * 3600, NOW);
    assert_eq!(from % 600, 0, "older than 48 h: by ten minutes");
    assert_eq!(span(NOW, NOW - 100).1, NOW, "an empty span stays one");
    history.query(&Query { from: 0, to: u64::MAX, ..Query::default() });
}

#[test]
fn quantiles_are_within_a_thirty_second() {
    let mut random = fastrand::Rng::with_seed(14);
    let mut values: Vec<u64> = (0..5000)
        .map(|_| {
            let digits = random.u32(1..30);
            1 + random.u64(..1 << digits)
        })
        .collect();
    let mut counts = Counts::default();
    values.iter().for_each(|value| counts.observe(*value));
    values.sort_unstable();
    for q in [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let (exact, found) = (values[rank - 1], counts.quantile(q).unwrap_or(0));
        assert!(found >= exact && (found - exact) * 32 <= exact, "p{q}: {found} for {exact}");
    }
    assert_eq!(Counts::default().quantile(0.5), None);
}

#[test]
fn edges_say_who_calls_whom_and_how() {
    let mut history = History::default();
    history.expire(NOW);
    let mut add = |caller: &str, service: &str, code: u32, tls: &str, requests: u64| {
        let series = Series {
            caller: caller.to_owned(),
            service: service.to_owned(),
            code,
            tls: tls.to_owned(),
            ..Series::default()
        };
        history.add(NOW, &series, &Counts { requests, ..Counts::default() });
    };
    add("default/fe", "default/be1", 200, "mtls", 7);
    add("default/fe", "default/be1", 503, "mtls", 2);
    add("default/fe", "default/be4", 200, "none", 1);
    add("default/fe", "default/be4", 200, "mtls", 1);
    let edges = history.edges(NOW - 10, NOW + 10);
    let told: Vec<_> = edges
        .edges
        .iter()
        .map(|edge| (edge.from.as_str(), edge.to.as_str(), edge.counts.requests, edge.weakest_tls()))
        .collect();
    assert_eq!(told, [("default/fe", "default/be1", 9, "mtls"), ("default/fe", "default/be4", 2, "none")]);
    assert_eq!(edges.edges[0].codes, BTreeMap::from([(200, 7), (503, 2)]));
}

#[test]
fn dimensions_are_found_by_name() {
    for dimension in Dimension::ALL {
        assert_eq!(Dimension::find(dimension.name()), Some(dimension));
    }
    assert_eq!(Dimension::find("colour"), None);
}
