//! OPA's own test cases for its language, read from its Go module.
//!
//! A case belongs to us when its folder is about a builtin that we have, or about the language itself, and it
//! asks for one rule's value. Cases that call builtins which we refuse by name are counted apart.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use weft_rego::{Module, RegoVersion, Settings, Worker};

use crate::modules;

const MODULE: &str = "github.com/open-policy-agent/opa";
const VERSION: &str = "v1.22.2";
const SUM: &str = "h1:WzqReKk2VjcvBN/NQTlcIxKqFPKpzIdb6KYMHzPEbe0=";

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    refused: BTreeMap<String, usize>,
    other_form: usize,
}

enum Outcome {
    Passed,
    Failed(String),
    /// A builtin that we have not, by name.
    Refused(String),
    /// Not asked as one rule's value.
    OtherForm,
}

#[test]
fn opa_test_suite() {
    let Some(folder) = modules::folder(MODULE, VERSION, SUM) else { return };
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for (generation, version) in [("v1", RegoVersion::V1), ("v0", RegoVersion::V0)] {
        let folder = folder.join("v1/test/cases/testdata").join(generation);
        for file in
            modules::files(&folder).iter().filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        {
            let text = std::fs::read_to_string(file).unwrap();
            let group = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let cases: Json = match serde_saphyr::from_str(&text) {
                Ok(cases) => cases,
                Err(error) => {
                    let tally = tallies.entry(group).or_default();
                    tally.failed.push(format!("{}: {error}", file.display()));
                    continue;
                }
            };
            for case in cases["cases"].as_array().into_iter().flatten() {
                let name = format!("{generation} {}", case["note"].as_str().unwrap_or("?"));
                let tally = tallies.entry(group.clone()).or_default();
                match run(case, version) {
                    Outcome::Passed => tally.passed += 1,
                    Outcome::Failed(why) => tally.failed.push(format!("{name}: {why}")),
                    Outcome::Refused(name) => *tally.refused.entry(name).or_default() += 1,
                    Outcome::OtherForm => tally.other_form += 1,
                }
            }
        }
    }
    report(&tallies);
}

fn report(tallies: &BTreeMap<String, Tally>) {
    let (mut passed, mut all, mut language_passed, mut language) = (0, 0, 0, 0);
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for (group, tally) in tallies {
        let asked = tally.passed + tally.failed.len();
        let kind = if LANGUAGE.contains(&group.as_str()) {
            language_passed += tally.passed;
            language += asked;
            "language"
        } else if NOT_OURS.contains(&group.as_str()) {
            "not ours"
        } else {
            passed += tally.passed;
            all += asked;
            "builtin"
        };
        println!("{kind:9} {group:32} {:4} of {asked:4} (other form {})", tally.passed, tally.other_form);
        for failure in &tally.failed {
            println!("    {}", failure.chars().take(300).collect::<String>().replace('\n', " "));
        }
        for (name, count) in &tally.refused {
            *refused.entry(name).or_default() += count;
        }
    }
    println!("refused by name: {refused:?}");
    let share = |passed: usize, all: usize| 100.0 * passed as f64 / all.max(1) as f64;
    println!("builtins: {passed} of {all}, {:.2} %", share(passed, all));
    println!("language: {language_passed} of {language}, {:.2} %", share(language_passed, language));
    assert!(all > 500, "only {all} cases were found");
    assert!(share(passed, all) >= 99.0, "{:.2} % of the builtins' cases", share(passed, all));
    assert!(
        share(language_passed, language) >= 97.0,
        "{:.2} % of the language's",
        share(language_passed, language)
    );
}

/// Folders about the language, not about a builtin.
const LANGUAGE: &[&str] = &[
    "arithmetic",
    "array",
    "assignments",
    "baseandvirtualdocs",
    "comparisonexpr",
    "completedoc",
    "compositebasedereference",
    "compositereferences",
    "comprehensions",
    "containskeyword",
    "dataderef",
    "defaultkeyword",
    "disjunction",
    "elsekeyword",
    "embeddedvirtualdoc",
    "eqexpr",
    "evaltermexpr",
    "every",
    "example",
    "fix1863",
    "functionerrors",
    "functions",
    "helloworld",
    "indexing",
    "indirectreferences",
    "inputvalues",
    "invalidkeyerror",
    "negation",
    "nestedreferences",
    "partialdocconstants",
    "partialiter",
    "partialobjectdoc",
    "partialsetdoc",
    "planner-ir",
    "refheads",
    "sets",
    "topdowndynamicdispatch",
    "type",
    "undos",
    "varreferences",
    "virtualdocs",
    "withkeyword",
];
/// Folders whose subject OPA has and we have not: syntax that is younger than the engine, and builtins that
/// are refused.
const NOT_OURS: &[&str] = &[
    "keywordrefs",
    "logic_operators",
    "rego_v2_import",
    "stringinterpolation",
    "jsonpatch",
    "regoparsemodule",
];

fn run(case: &Json, version: RegoVersion) -> Outcome {
    let query = case["query"].as_str().unwrap_or_default();
    let Some(entry) = query.strip_suffix(" = x").filter(|path| {
        path.starts_with("data.")
            && path.split('.').count() >= 3
            && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_')
    }) else {
        return Outcome::OtherForm;
    };
    if case.get("input_term").is_some_and(|term| !term.is_null())
        || case.get("env").is_some_and(|e| !e.is_null())
    {
        return Outcome::OtherForm;
    }
    let modules: Vec<Module> = case["modules"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, text)| Module {
            name: format!("m{index}.rego"),
            text: text.as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    let settings =
        Settings { entry: entry.to_owned(), version, jwt_without_exp: true, ..crate::support::patient() };
    let wants_error = case.get("want_error_code").is_some_and(|code| !code.is_null())
        || case.get("want_error").is_some_and(|error| !error.is_null());
    let strict = case["strict_error"] == true;
    let compiled = match weft_rego::compile(&modules, &case["data"], &settings) {
        Ok(compiled) => compiled,
        Err(problems) => {
            let text = problems.to_string();
            let refused = text
                .split('`')
                .nth(1)
                .filter(|_| text.contains("not supported") || text.contains("may not be named"));
            return match refused {
                Some(name) => Outcome::Refused(name.to_owned()),
                None if wants_error => Outcome::Passed,
                None => Outcome::Failed(text),
            };
        }
    };
    let mut worker = Worker::new(&compiled, 0).unwrap();
    let answer = worker.answer(case.get("input"), crate::support::NOW_NS);
    let wanted =
        case["want_result"].as_array().and_then(|results| results.first()).map(|result| &result["x"]);
    match (answer, wanted) {
        (Err(_), _) if wants_error => Outcome::Passed,
        (Ok(None), _) if wants_error && strict => Outcome::Passed,
        (Err(decision), _) => Outcome::Failed(decision.detail),
        (Ok(answer), _) if wants_error => Outcome::Failed(format!("no error, but {answer:?}")),
        (Ok(None), None) => Outcome::Passed,
        (Ok(Some(answer)), Some(wanted)) if same(&answer, wanted) => Outcome::Passed,
        (Ok(Some(_)), None) if case["want_defined"] == true => Outcome::Passed,
        (Ok(answer), wanted) => Outcome::Failed(format!("{answer:?}, not {wanted:?}")),
    }
}

/// Sets stand as lists on both sides, in no order; 1 and 1.0 are one number.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Json::Array(left), Json::Array(right)) => {
            let mut rest: Vec<&Json> = right.iter().collect();
            left.len() == right.len()
                && (left.iter().zip(right).all(|(left, right)| same(left, right))
                    || left.iter().all(|item| {
                        let at = rest.iter().position(|other| same(item, other));
                        at.map(|at| rest.swap_remove(at)).is_some()
                    }))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}
