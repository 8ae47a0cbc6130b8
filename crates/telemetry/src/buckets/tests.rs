//! Windows, increments, folding.

use super::*;

const NOW: u64 = 1_700_000_000;

fn key(caller: &str) -> SeriesKey {
    SeriesKey { caller: caller.to_owned(), service: "default/be4".to_owned(), ..SeriesKey::default() }
}

fn ok(code: u32) -> Sample {
    Sample {
        code,
        grpc_status: -1,
        failed: false,
        request_bytes: 1,
        response_bytes: 2,
        duration_micros: 1000,
    }
}

fn requests(increments: &[Increment]) -> u64 {
    increments.iter().flat_map(|increment| &increment.cells).map(|(_, cell)| cell.requests).sum()
}

#[test]
fn what_is_taken_is_taken_once_and_names_its_window() {
    let mut window = Window::new(100);
    let series = window.series(key("default/fe"));
    window.record(NOW + 3, series, &ok(200));
    window.record(NOW + 3, series, &ok(200));
    window.record(NOW + 4, series, &ok(503));
    let taken = window.take_increments(NOW + 4);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].start_unix, NOW);
    let told: Vec<_> =
        taken[0].cells.iter().map(|(key, cell)| (key.code, cell.requests, cell.errors)).collect();
    assert_eq!(told, [(200, 2, 0), (503, 1, 1)]);
    assert_eq!(taken[0].cells[0].1.durations.count(), 2);
    assert!(window.take_increments(NOW + 5).is_empty(), "nothing new");
    window.record(NOW + 9, series, &ok(200));
    let taken = window.take_increments(NOW + 10);
    assert_eq!((taken.len(), taken[0].start_unix), (1, NOW), "an increment of the window that just ended");
}

#[test]
fn a_turn_of_the_window_between_two_takes_splits() {
    let mut window = Window::new(100);
    let series = window.series(key("default/fe"));
    window.record(NOW + 9, series, &ok(200));
    window.record(NOW + 10, series, &ok(200));
    window.record(NOW + 5, series, &ok(200));
    let starts: Vec<u64> =
        window.take_increments(NOW + 11).iter().map(|increment| increment.start_unix).collect();
    assert_eq!(starts, [NOW, NOW + 10, NOW], "also when time steps back");
}

#[test]
fn failures_without_a_status_are_errors() {
    let mut window = Window::new(100);
    let series = window.series(key("default/fe"));
    window.record(NOW, series, &Sample { failed: true, ..ok(0) });
    window.record(NOW, series, &Sample { grpc_status: 14, ..ok(200) });
    let taken = window.take_increments(NOW);
    let told: Vec<_> =
        taken[0].cells.iter().map(|(key, cell)| (key.code, key.grpc_status, cell.errors)).collect();
    assert_eq!(told, [(0, -1, 1), (200, 14, 0)]);
}

#[test]
fn too_many_series_fold_and_no_request_is_lost() {
    let mut window = Window::new(3);
    for n in 0..20 {
        let series = window.series(key(&format!("default/c{n}")));
        window.record(NOW, series, &ok(200));
    }
    for n in 0..20 {
        let series = window.series(SeriesKey { service: format!("default/s{n}"), ..key("x") });
        window.record(NOW, series, &ok(200));
    }
    let taken = window.take_increments(NOW);
    assert_eq!(requests(&taken), 40);
    assert!(taken[0].cells.len() <= 7, "{}", taken[0].cells.len());
    assert!(window.folded() > 0);
}

#[test]
fn windows_nobody_takes_are_bounded() {
    let mut window = Window::new(3);
    let series = window.series(key("default/fe"));
    for n in 0..100 {
        window.record(NOW + n * 10, series, &ok(200));
    }
    let taken = window.take_increments(NOW + 1000);
    assert_eq!(taken.len(), CLOSED_MAX);
    assert_eq!(requests(&taken) + window.lost_requests(), 100);
}

#[test]
fn workers_add_up() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut workers = [Window::new(10), Window::new(10)];
    let mut taken = Vec::new();
    for n in 0..1000 {
        let worker = &mut workers[random.usize(..2)];
        let series = worker.series(key(&format!("default/c{}", random.u8(..3))));
        worker.record(NOW + n / 20, series, &ok([200, 500][random.usize(..2)]));
        if random.u8(..9) == 0 {
            taken.extend(worker.take_increments(NOW + n / 20));
        }
    }
    taken.extend(workers.iter_mut().flat_map(|worker| worker.take_increments(NOW + 50)));
    let merged = merge(taken);
    assert_eq!(
        merged.iter().map(|increment| increment.start_unix - NOW).collect::<Vec<_>>(),
        [0, 10, 20, 30, 40]
    );
    for increment in &merged {
        let keys: std::collections::BTreeSet<&CellKey> = increment.cells.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), increment.cells.len(), "each cell once");
    }
    assert_eq!(requests(&merged), 1000);
}
