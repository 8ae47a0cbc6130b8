//! Policies that want all of the machine. Each is refused at the door or ends soon and small.
//!
//! They run in a child process, on a thread with the stack that a worker may have, so that a stack that
//! overflows is seen, and so that the process's memory is theirs alone.

use std::time::Duration;

use serde_json::Value as Json;
use weft_rego::{Limits, Settings, Worker};

use crate::support::{NOW_NS, request, try_compile, with_body};

const CPU_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 50 });
const MEMORY_MAX_KIB: u64 = 16 * 1024;

fn policies() -> Vec<(&'static str, String)> {
    let rule = |body: &str| format!("package envoy.authz\nallow if {{\n{body}\n}}\n");
    let mut all: Vec<(&'static str, String)> = [
        ("a range of 1e9", "count(numbers.range(1, 1000000000)) > 0"),
        ("a range of 1e18", "count(numbers.range(1, 1000000000000000000)) > 0"),
        ("a range of all", "numbers.range(-9223372036854775808, 9223372036854775807)[3]"),
        ("a range by steps", "count(numbers.range_step(1, 1000000000, 2)) > 0"),
        ("loops of 1e9", "r := numbers.range(1, 1000)\nx := r[_]\ny := r[_]\nz := r[_]\nx + y + z < 0"),
        ("a comprehension of 1e9", "r := numbers.range(1, 1000)\ncount([1 | r[_]; r[_]; r[_]]) < 0"),
        ("a set of 1e6", "r := numbers.range(1, 1000)\ncount({[x, y] | x := r[_]; y := r[_]}) < 0"),
        ("an object of 1e6", "r := numbers.range(1, 1000)\ncount({k: 1 | x := r[_]; y := r[_]; k := sprintf(\"%d-%d\", [x, y])}) < 0"),
        ("every of every", "r := numbers.range(1, 1000)\nevery x in r { every y in r { every z in r { x + y + z > 0 } } }"),
        ("texts of 1e6", "r := numbers.range(1, 1000)\ncount([s | r[_]; s := concat(\",\", [x | x := format_int(r[_], 10)])]) < 0"),
        ("a wide format", "count(sprintf(\"%1000000000d\", [1])) > 0"),
        ("a wide format in steps", "x := sprintf(\"%999d%999d%999d%999d\", [1, 2, 3, 4])\ny := replace(x, \" \", x)\nz := replace(y, \" \", x)\ncount(z) > 0"),
        ("many decimals", "count(sprintf(\"%.1000000000f\", [1.5])) > 0"),
        ("a shift by 1e9", "bits.lsh(1, 1000000000) > 0"),
        ("shifts by 4096", "x := bits.lsh(1, 4096)\ny := bits.lsh(x, 4096)\nr := numbers.range(1, 10000)\ncount([z | r[_]; z := bits.lsh(y, 4096)]) < 0"),
        ("a network of all", "count(net.cidr_expand(\"0.0.0.0/0\")) > 0"),
        ("a network of all v6", "count(net.cidr_expand(\"::/0\")) > 0"),
        ("a number from text", "to_number(\"1e1000000000\") > 0"),
        ("a number from JSON", "json.unmarshal(`{\"$serde_json::private::Number\": \"1e1000000000\"}`) > 0"),
        ("a unit from text", "units.parse(\"1e1000000000\") > 0"),
        ("a unit of bytes from text", "units.parse_bytes(\"1e999999999EiB\") > 0"),
        ("a product", "product(numbers.range(1, 100000)) > 0"),
        ("a product of large ones", "product([x | numbers.range(1, 1000)[_]; x := bits.lsh(1, 4000)]) > 0"),
        ("deep JSON", "json.unmarshal(concat(\"\", [\"[\" | numbers.range(1, 100000)[_]]))"),
        ("wide JSON", "x := concat(\",\", [\"1\" | numbers.range(1, 100000)[_]])\ncount(json.unmarshal(sprintf(\"[%s]\", [x]))) < 0"),
        ("a large pattern", "regex.match(\"((a{1,100}){1,100}){1,100}\", input.parsed_path[0])"),
        ("a pattern that goes back", "regex.match(\"^(a+)+$\", concat(\"\", [\"a\" | numbers.range(1, 30000)[_]]))"),
        ("patterns of alternatives", "regex.match(concat(\"|\", [s | i := numbers.range(1, 5000)[_]; s := sprintf(\"a%db\", [i])]), input.parsed_path[0])"),
        ("many patterns", "r := numbers.range(1, 100000)\ncount([1 | i := r[_]; regex.match(sprintf(\"(a|b){%d}\", [(i % 500) + 1]), \"aaaa\")]) < 0"),
        ("many searches", "x := concat(\"\", [\"a\" | numbers.range(1, 10000)[_]])\nr := numbers.range(1, 1000)\ncount([1 | r[_]; regex.match(\"(.*)(.*)(.*)b\", x)]) > 0"),
        ("all parts of a text", "x := concat(\"\", [\"a\" | numbers.range(1, 30000)[_]])\ncount(regex.find_all_string_submatch_n(\"(a)(a)\", x, -1)) < 0"),
        ("a growing replacement", "x := concat(\"\", [\"a\" | numbers.range(1, 3000)[_]])\ncount(regex.replace(x, \"a\", x)) < 0"),
        ("a growing replacement of many", "x := concat(\"\", [\"a\" | numbers.range(1, 3000)[_]])\ncount(strings.replace_n({\"a\": x, \"b\": x}, x)) < 0"),
        ("a large glob", "glob.match(concat(\"\", [\"{a,b}*\" | numbers.range(1, 1000)[_]]), [], input.parsed_path[0])"),
        ("a glob of stars", "glob.match(\"*a*a*a*a*a*a*a*a*a*a*b\", [], concat(\"\", [\"a\" | numbers.range(1, 30000)[_]]))"),
        ("split into letters", "x := concat(\"\", [\"a\" | numbers.range(1, 30000)[_]])\nr := numbers.range(1, 1000)\ncount([y | r[_]; y := split(x, \"\")]) < 0"),
        ("a walk", "x := [y | numbers.range(1, 1000)[_]; y := numbers.range(1, 100)]\nwalk([x, x, x, x], [p, v])\nv == -1"),
        ("large integers", "x0 := 123456789012345678901234567890\nx1 := x0 * x0\nx2 := x1 * x1\nx3 := x2 * x2\nx4 := x3 * x3\nx5 := x4 * x4\nx6 := x5 * x5\nx7 := x6 * x6\nx8 := x7 * x7\nx9 := x8 * x8\nx10 := x9 * x9\nx11 := x10 * x10\nx12 := x11 * x11\nx13 := x12 * x12\nx14 := x13 * x13\nx14 > 0"),
        ("an index of every place", "x := concat(\"\", [\"a\" | numbers.range(1, 30000)[_]])\ncount(indexof_n(x, x)) < 0"),
        ("a token for every step", "count([1 | numbers.range(1, 100000)[_]; io.jwt.decode(\"eyJhbGciOiJub25lIn0.eyJhIjoxfQ.\")]) < 0"),
        ("hashes", "x := concat(\"\", [\"a\" | numbers.range(1, 30000)[_]])\ncount([1 | numbers.range(1, 100000)[_]; crypto.sha256(x)]) < 0"),
        ("a remainder of a float", "x := 1e300 * 1.5\nx % 2 == 0"),
        ("a remainder from the body", "input.parsed_body.n % 2 == 0"),
        ("a float from the body", "input.parsed_body.n * 1.5 % 7 == 0"),
        ("dates of no year", "time.add_date(0, 1000000000, 1000000000, 1000000000) > 0"),
        ("a duration", "time.parse_duration_ns(\"99999999999999999999999h\") > 0"),
        ("objects of objects", "r := numbers.range(1, 1000)\nx := object.union_n([{sprintf(\"%d\", [i]): r} | i := r[_]])\ncount(json.marshal(x)) < 0"),
        ("reachable", "r := numbers.range(1, 300)\ng := {i: r | i := r[_]}\ncount(graph.reachable(g, r)) < 0"),
    ]
    .into_iter()
    .map(|(name, body)| (name, rule(body)))
    .collect();
    let doubled = |one: &str, steps: usize| {
        let lines: Vec<String> =
            (1..=steps).map(|at| format!("x{at} := {}", one.replace('X', &format!("x{}", at - 1)))).collect();
        lines.join("\n")
    };
    let texts = [
        ("a list twice, 40 times", "array.concat(X, X)", "[1, 2]"),
        ("a text twice, 40 times", "concat(\"\", [X, X])", "\"ab\""),
        ("a text in hexadecimal, 40 times", "hex.encode(X)", "\"ab\""),
        ("a text in base64, 40 times", "base64.encode(X)", "\"ab\""),
        ("a text escaped, 40 times", "urlquery.encode(X)", "\"%%\""),
        ("a text in JSON, 40 times", "json.marshal(X)", "\"\\\"\""),
        ("a format twice, 40 times", "sprintf(\"%s%s\", [X, X])", "\"ab\""),
        ("a replacement, 40 times", "replace(X, \"a\", X)", "\"aa\""),
    ];
    for (name, step, first) in texts {
        all.push((name, rule(&format!("x0 := {first}\n{}\ncount(x40) > 0", doubled(step, 40)))));
    }
    all.push(("recursion", "package envoy.authz\nallow if f(1)\nf(x) := f(x + 1)\n".to_owned()));
    let chain: String = (0..31).map(|at| format!("f{at}(x) := f{}([x | x])\n", at + 1)).collect();
    all.push((
        "31 functions deep",
        format!("package envoy.authz\nallow if f0(true)\n{chain}f31(x) := true\n"),
    ));
    let nested = |depth: usize| format!("{}1{}", "[x | x := ".repeat(depth), "]".repeat(depth));
    all.push(("comprehensions in comprehensions", rule(&format!("count({}) > 0", nested(14)))));
    all.push(("brackets", rule(&format!("{}1{}", "(".repeat(5000), ")".repeat(5000)))));
    all.push(("a long sum", rule(&format!("0{} > 0", " + 1".repeat(10_000)))));
    all.push(("a long path", rule(&format!("input{}", ".a".repeat(10_000)))));
    all.push(("signs", rule(&format!("{}1 > 0", "-".repeat(10_000)))));
    all.push(("a large text", format!("package envoy.authz\nallow if true\n{}", "# x\n".repeat(1_000_000))));
    all.push(("a large number", rule("1e1000000000 > 0")));
    all.push(("many rules", format!("package envoy.authz\n{}", "allow if input.x\n".repeat(20_000))));
    all
}

#[test]
fn hostile_policies_end() {
    if std::env::var_os("WEFT_HOSTILE").is_some() {
        let child = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run_all).unwrap();
        return child.join().unwrap();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::hostile_policies_end", "--nocapture"])
        .env("WEFT_HOSTILE", "1")
        // A panic of the engine costs its message; to read symbols for a trace is the tester's own wish.
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("hostile policies: all ended"), "{text}");
}

fn run_all() {
    let policies = policies();
    assert!(policies.len() >= 50);
    let settings = Settings { limits: Limits::default(), ..Settings::default() };
    // What the process needs once: tables, caches, the first engine.
    let warm =
        try_compile("package envoy.authz\nallow if regex.match(\"a\", \"a\")\n", &Json::Null, &settings)
            .unwrap();
    Worker::new(&warm, 0).unwrap().decide(&request("/", &[]), NOW_NS);
    let mut bad = Vec::new();
    for (name, text) in &policies {
        let before = cpu();
        let compiled = try_compile(text, &Json::Null, &settings);
        let compiling = cpu() - before;
        let Ok(compiled) = compiled else {
            let why = compiled.unwrap_err().to_string();
            println!(
                "{name:36} refused in {:6.1} ms: {}",
                ms(compiling),
                why.lines().next().unwrap_or_default()
            );
            continue;
        };
        let mut worker = Worker::new(&compiled, 0).unwrap();
        let json: &[(&str, &[u8])] = &[("content-type", b"application/json")];
        let request = with_body(request("/aaaaaaaaaaaaaaaaaaaaaaaaaaaa", json), br#"{"n": 1e300}"#);
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (memory, before) = (status("VmRSS:"), cpu());
        let decision = worker.decide(&request, NOW_NS);
        let (spent, grown) = (cpu() - before, status("VmHWM:").saturating_sub(memory));
        println!(
            "{name:36} {:14} {:6.1} ms {grown:6} KiB (compiled in {:.1} ms) {}",
            decision.reason.label(),
            ms(spent),
            ms(compiling),
            decision.detail.lines().next().unwrap_or_default()
        );
        if spent > CPU_MAX || grown > MEMORY_MAX_KIB {
            bad.push(format!("{name}: {:.1} ms, {grown} KiB", ms(spent)));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    println!("hostile policies: all ended");
}

/// What this thread has run.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
