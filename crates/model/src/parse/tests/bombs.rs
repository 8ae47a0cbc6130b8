//! Texts made to hurt: each ends soon, in little memory, with a sentence.

use super::super::tree::{DEPTH_MAX, NODES_MAX};
use super::*;

fn one_sentence(text: &str, expected: &str) {
    let (documents, problems) = parse_text("bomb.yaml", text);
    assert_eq!(documents.len(), 0);
    assert!(problems.len() == 1 && problems[0].message.contains(expected), "{problems:?}");
}

#[test]
fn a_billion_laughs_are_refused_before_they_are_told() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        yaml.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    one_sentence(&yaml, "grows beyond");
}

#[test]
fn a_long_text_repeated_is_paid_for_by_its_bytes() {
    let yaml = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 200].join(", "));
    one_sentence(&yaml, "grows beyond 100 MB");
}

#[test]
fn nesting_ends_at_its_limit_in_both_styles_and_by_aliases() {
    one_sentence(&format!("{}{}", "[".repeat(100), "]".repeat(100)), "nested deeper");
    // Far beyond, the scanner itself refuses.
    one_sentence(&"[".repeat(1_000_000), "recursion limit");
    let block: String = (0..DEPTH_MAX + 1).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    one_sentence(&block, "nested deeper");
    let half = DEPTH_MAX / 2 + 1;
    let yaml = format!(
        "a: &a {}{}\nb: {}*a{}\n",
        "[".repeat(half),
        "]".repeat(half),
        "[".repeat(half),
        "]".repeat(half)
    );
    one_sentence(&yaml, "nested deeper");
}

#[test]
fn an_alias_inside_what_it_repeats_ends() {
    let (_, problems) = parse_text("f", "a: &a [*a]\n");
    assert!(
        problems.iter().any(|problem| problem.message.contains("inside what it repeats")),
        "{problems:?}"
    );
}

#[test]
fn very_many_values_are_refused() {
    let yaml = format!("[{}]", "1,".repeat(NODES_MAX + 1));
    one_sentence(&yaml, "grows beyond");
}

#[test]
fn problems_are_bounded_too() {
    let fields: String = (0..5000).map(|index| format!("  x{index}: 1\n")).collect();
    let yaml = format!("apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec:\n{fields}");
    assert_eq!(parse_text("f", &yaml).1.len(), PROBLEMS_MAX);
}

#[test]
fn odd_bytes_and_odd_yaml_do_not_panic() {
    for text in [
        "\u{feff}a: 1",
        "\0",
        "%YAML 9.9\n---\na",
        "? [a]\n: b",
        "!!int x: !!bool y",
        "&a",
        "*a",
        "- - - -",
        "\t",
        "a: |\n",
        "'",
        "---\n...\n---",
        "<<: 1",
        "{<<: [1, {a: b}]}",
    ] {
        let _ = parse_text("f", text);
    }
}

#[test]
fn a_text_with_any_one_byte_changed_or_gone_does_not_panic() {
    for (index, byte) in FIVE_MISTAKES.bytes().enumerate() {
        if byte.is_ascii() {
            let (before, after) = (&FIVE_MISTAKES[..index], &FIVE_MISTAKES[index + 1..]);
            for middle in ["", "0", "-", "{", "]", "\"", "\n", "&a ", "*", ":"] {
                let _ = parse_text("f", &format!("{before}{middle}{after}"));
            }
        }
    }
}
