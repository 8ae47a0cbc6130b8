//! The policies of OPA's plugin for Envoy, and of OPA's own pages about it, as they stand there.
//!
//! The plugin's Go tests say which request gets which answer from which policy; that much of Go is read here:
//! a function's policy is its raw string that begins with `package`, or that of the helper it calls, its
//! request the JSON that it names, its answer the status that it asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weft_rego::{Body, Decision, Module, Peer, Request, Settings, Worker};

use crate::modules;
use crate::support::{NOW_NS, patient};

const PLUGIN: (&str, &str, &str) = (
    "github.com/open-policy-agent/opa-envoy-plugin",
    "v1.14.1-envoy",
    "h1:oO2Pp1r3SgCF3c+zDwYjrA2c9fjYlbhOUm2m0tGPtDo=",
);
const OPA: (&str, &str, &str) =
    ("github.com/open-policy-agent/opa", "v1.22.2", "h1:WzqReKk2VjcvBN/NQTlcIxKqFPKpzIdb6KYMHzPEbe0=");

fn plugin() -> Option<PathBuf> {
    modules::folder(PLUGIN.0, PLUGIN.1, PLUGIN.2)
}

struct Policy {
    name: String,
    text: String,
}

#[test]
fn every_policy_of_the_plugin_passes_unchanged() {
    let Some(plugin) = plugin() else { return };
    let policies = policies(&plugin);
    let (passed, named) = judge(&policies);
    println!("opa-envoy-plugin: {passed} of {} policies", policies.len());
    named.iter().for_each(|why| println!("    not: {why}"));
    assert!(policies.len() >= 20, "only {} policies were found", policies.len());
    assert!(passed * 100 >= policies.len() * 80, "{named:#?}");
}

#[test]
fn every_policy_of_opas_pages_about_envoy_passes_unchanged() {
    let Some(opa) = modules::folder(OPA.0, OPA.1, OPA.2) else { return };
    let mut policies = policies(&opa.join("docs/docs/envoy"));
    policies.extend(self::policies(
        &opa.join("docs/docs/policy-reference/_examples/encoding/envoy_header_manipulation"),
    ));
    let (passed, named) = judge(&policies);
    println!("OPA's pages about Envoy: {passed} of {} policies", policies.len());
    named.iter().for_each(|why| println!("    not: {why}"));
    assert!(policies.len() >= 8, "only {} policies were found", policies.len());
    assert!(passed * 100 >= policies.len() * 80, "{named:#?}");
}

/// Compiles each policy and asks each of its rules that could be an entry about a request.
fn judge(policies: &[Policy]) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut named = Vec::new();
    for policy in policies {
        match asked(policy) {
            Ok(()) => passed += 1,
            Err(why) => named.push(format!("{}: {why}", policy.name)),
        }
    }
    (passed, named)
}

fn asked(policy: &Policy) -> Result<(), String> {
    let package =
        policy.text.lines().find_map(|line| line.trim().strip_prefix("package ")).unwrap_or_default();
    let package = package.split('#').next().unwrap_or_default().trim().to_owned();
    let mut worker = compile(&policy.text, &package).map_err(|why| why.replace('\n', "; "))?;
    let headers: &[(&str, &[u8])] =
        &[("authorization", b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoiZ3Vlc3QifQ.x")];
    for path in ["/people", "/", "/health?x=1"] {
        let decision = worker.decide(&crate::support::request(path, headers), NOW_NS);
        // The whole package is asked for, so that every rule is: that it is no decision is no fault.
        if !matches!(decision.reason.label(), "allowed" | "denied" | "undefined" | "wrong_type") {
            return Err(format!("{}: {}", decision.reason.label(), decision.detail));
        }
    }
    Ok(())
}

fn compile(text: &str, entry: &str) -> Result<Worker, String> {
    let settings = Settings { entry: format!("data.{entry}"), ..patient() };
    let module = Module { name: "policy.rego".to_owned(), text: text.to_owned() };
    let compiled =
        weft_rego::compile(&[module], &Json::Null, &settings).map_err(|problems| problems.to_string())?;
    Worker::new(&compiled, 0)
}

/// Whole files of Rego, blocks of YAML, fences of Markdown, raw strings of Go.
fn policies(folder: &Path) -> Vec<Policy> {
    let mut found = Vec::new();
    for file in modules::files(folder) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        let texts = match file.extension().and_then(|end| end.to_str()) {
            Some("rego") => vec![text],
            Some("yaml" | "yml") => indented(&text),
            Some("md" | "mdx") => fenced(&text),
            Some("go") => raw_strings(&text),
            _ => continue,
        };
        for (index, text) in texts.into_iter().enumerate().filter(|(_, text)| begins(text)) {
            found.push(Policy { name: format!("{name}#{index}"), text });
        }
    }
    found
}

fn begins(text: &str) -> bool {
    let code = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    // Go fills in what stands for an address or the like.
    code.is_some_and(|line| line.starts_with("package ")) && !text.contains("%s") && !text.contains("%v")
}

fn fenced(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start().starts_with("```")) {
            (Some(_), true) => found.extend(open.take()),
            (None, true) => open = Some(String::new()),
            (Some(block), false) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, false) => {}
        }
    }
    found
}

fn indented(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !line.trim_end().ends_with(".rego: |") {
            continue;
        }
        let margin = |line: &str| line.len() - line.trim_start().len();
        let block =
            lines[at + 1..].iter().take_while(|next| next.trim().is_empty() || margin(next) > margin(line));
        let block: Vec<&str> = block.copied().collect();
        let inner =
            block.iter().filter(|line| !line.trim().is_empty()).map(|line| margin(line)).min().unwrap_or(0);
        found.push(block.iter().map(|line| line.get(inner..).unwrap_or("")).collect::<Vec<_>>().join("\n"));
    }
    found
}

fn raw_strings(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_plugins_own_tests_get_their_answers() {
    let Some(plugin) = plugin() else { return };
    let text = std::fs::read_to_string(plugin.join("internal/internal_test.go")).unwrap();
    let functions = functions(&text);
    let (mut passed, mut failed, mut other) = (0, Vec::new(), Vec::new());
    for (name, body) in functions.iter().filter(|(name, _)| name.starts_with("TestCheck")) {
        match expected(body, &functions).ok_or("asks no policy for one answer") {
            Err(why) => other.push(format!("{name}: {why}")),
            Ok((policy, entry, allow)) => {
                let requests = requests(body, &text);
                if requests.is_empty() {
                    other.push(format!("{name}: its request is not written out"));
                }
                for request in requests {
                    let decision = answer(&policy, &entry, &request);
                    match decision {
                        Ok(decision) if decision.allow == allow => passed += 1,
                        Ok(decision) => failed.push(format!("{name}: {decision:?}")),
                        Err(why) => failed.push(format!("{name}: {why}")),
                    }
                }
            }
        }
    }
    println!("the plugin's tests: {passed} answers as expected, {} not", failed.len());
    failed.iter().for_each(|why| println!("    not: {why}"));
    other.iter().for_each(|why| println!("    not asked: {why}"));
    assert!(passed >= 15, "only {passed} answers");
    assert!(passed * 100 >= (passed + failed.len()) * 80, "{failed:#?}");
}

/// Go's functions by name.
fn functions(text: &str) -> BTreeMap<String, String> {
    let parts = text.split("\nfunc ").skip(1);
    parts.filter_map(|part| Some((part.split('(').next()?.to_owned(), part.to_owned()))).collect()
}

/// Policy, entry and whether it allows.
fn expected(body: &str, functions: &BTreeMap<String, String>) -> Option<(String, String, bool)> {
    let special = ["DryRun", "SkipRequestBodyParse", "protoSet", "ext_authz_v2", "Sprintf", "context.With"];
    if special.iter().any(|word| body.contains(word)) {
        return None;
    }
    let allow = match (
        body.contains("!= int32(code.Code_OK)"),
        body.contains("!= int32(code.Code_PERMISSION_DENIED)"),
    ) {
        (true, false) => true,
        (false, true) => false,
        _ => return None,
    };
    let of = |body: &str| {
        let text = raw_strings(body).into_iter().find(|text| begins(text))?;
        let at = body.find("\"envoy/authz/")?;
        let entry = body[at + 1..].split('"').next()?.replace('/', ".");
        Some((text, entry))
    };
    let (text, entry) = of(body).or_else(|| {
        let called = functions.iter().filter(|(name, _)| name.starts_with("testAuthzServer"));
        called.filter(|(name, _)| body.contains(&format!("{name}("))).find_map(|(_, body)| of(body))
    })?;
    Some((text, entry, allow))
}

/// The requests that a function sends: constants that it names, or JSON in it.
fn requests(body: &str, text: &str) -> Vec<Json> {
    let mut found = Vec::new();
    for (name, value) in text.split("\nconst ").skip(1).filter_map(|part| part.split_once(" = `")) {
        if body.contains(&format!("[]byte({name})")) {
            found.extend(value.split('`').next().map(str::to_owned));
        }
    }
    found.extend(
        raw_strings(body)
            .into_iter()
            .filter(|text| text.trim_start().starts_with('{') && text.contains("\"http\"")),
    );
    // Go's tests read them as YAML, which minds no comma too many.
    found.iter().filter_map(|text| serde_saphyr::from_str(&text.replace('\t', " ")).ok()).collect()
}

fn answer(policy: &str, entry: &str, request: &Json) -> Result<Decision, String> {
    let mut worker = compile(policy, entry)?;
    let http = &request["attributes"]["request"]["http"];
    let text = |name: &str| http[name].as_str().unwrap_or_default();
    let headers = http["headers"].as_object().into_iter().flatten();
    let headers: Vec<(&str, &[u8])> = headers
        .filter(|(name, _)| !name.starts_with(':'))
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default().as_bytes()))
        .collect();
    let truncated =
        headers.iter().any(|(name, value)| *name == "x-envoy-auth-partial-body" && *value == b"true");
    let source = &request["attributes"]["source"]["principal"];
    Ok(worker.decide(
        &Request {
            id: text("id"),
            method: text("method"),
            scheme: text("scheme"),
            authority: text("host"),
            path: text("path"),
            protocol: text("protocol"),
            headers: &headers,
            size: 0,
            body: http["body"].as_str().map(|body| Body { bytes: body.as_bytes(), truncated }),
            source: Peer { principal: source.as_str().unwrap_or_default(), ..Peer::default() },
            destination: Peer::default(),
            sni: "",
            extensions: &[],
        },
        NOW_NS,
    ))
}
