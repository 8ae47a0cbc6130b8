//! Texts, headers, query parameters, header edits.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, RuntimeFractionalPercent};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use http::{HeaderName, HeaderValue};
use regex::Regex;

use super::reader::Reader;
use crate::types::{
    EditAction, EditPart, EditValue, HeaderEdit, HeaderKey, HeaderMatch, HeaderTest, QueryMatch, StringMatch,
};

/// Header edits in one place of the configuration.
const EDITS_MAX: usize = 1000;

pub(super) fn string_match(reader: &mut Reader, test: &matcher::StringMatcher) -> Option<StringMatch> {
    let ignore_case = test.ignore_case;
    let text = |value: &str| -> Arc<str> { value.into() };
    match test.match_pattern.as_ref() {
        Some(MatchPattern::Exact(value)) => Some(StringMatch::Exact { value: text(value), ignore_case }),
        Some(MatchPattern::Prefix(value)) => {
            reader.required_text("prefix", value).map(|value| StringMatch::Prefix { value, ignore_case })
        }
        Some(MatchPattern::Suffix(value)) => {
            reader.required_text("suffix", value).map(|value| StringMatch::Suffix { value, ignore_case })
        }
        Some(MatchPattern::Contains(value)) => {
            reader.required_text("contains", value).map(|value| StringMatch::Contains { value, ignore_case })
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            if ignore_case {
                reader.problem_at("ignore_case", "does not go with safe_regex");
            }
            regex_match(reader, "safe_regex", regex).map(StringMatch::Regex)
        }
        Some(MatchPattern::Custom(_)) => None,
        None => {
            reader.problem("needs one of exact, prefix, suffix, contains, safe_regex");
            None
        }
    }
}

pub(super) fn regex_match(reader: &mut Reader, step: &str, regex: &matcher::RegexMatcher) -> Option<Regex> {
    reader.at(step, |reader| reader.at("regex", |reader| reader.regex(&regex.regex)))
}

/// Pattern and substitution; RE2's `\1` becomes `${1}`.
pub(super) fn substitution(
    reader: &mut Reader,
    step: &str,
    rewrite: &matcher::RegexMatchAndSubstitute,
) -> Option<(Regex, Arc<str>)> {
    reader.at(step, |reader| {
        let pattern = reader.required("pattern", rewrite.pattern.as_ref())?;
        let pattern = reader.at("pattern.regex", |reader| reader.search(&pattern.regex))?;
        let mut text = String::with_capacity(rewrite.substitution.len());
        let mut chars = rewrite.substitution.chars();
        while let Some(char) = chars.next() {
            match char {
                '$' => text.push_str("$$"),
                '\\' => match chars.next() {
                    Some('\\') => text.push('\\'),
                    Some(digit) if digit.is_ascii_digit() => {
                        if digit.to_digit(10).is_some_and(|group| group as usize >= pattern.captures_len()) {
                            reader.problem_at(
                                "substitution",
                                format!("names group {digit}, which the pattern has not"),
                            );
                        }
                        text.push_str(&format!("${{{digit}}}"));
                    }
                    _ => reader.problem_at(
                        "substitution",
                        "holds a backslash before neither a digit nor a backslash",
                    ),
                },
                char => text.push(char),
            }
        }
        Some((pattern, text.into()))
    })
}

pub(super) fn header_key(reader: &mut Reader, step: &str, name: &str) -> Option<HeaderKey> {
    match name {
        ":method" => Some(HeaderKey::Method),
        ":authority" => Some(HeaderKey::Authority),
        ":path" => Some(HeaderKey::Path),
        ":scheme" => Some(HeaderKey::Scheme),
        ":protocol" => Some(HeaderKey::Protocol),
        name if name.eq_ignore_ascii_case("host") => Some(HeaderKey::Authority),
        name => header_name(reader, step, name).map(HeaderKey::Name),
    }
}

pub(super) fn header_name(reader: &mut Reader, step: &str, name: &str) -> Option<HeaderName> {
    let found = HeaderName::from_bytes(name.as_bytes()).ok();
    if found.is_none() {
        reader.problem_at(step, format!("is no header name: {name:?}"));
    }
    found
}

pub(super) fn header_match(reader: &mut Reader, test: &pb::HeaderMatcher) -> Option<HeaderMatch> {
    let key = header_key(reader, "name", &test.name);
    let exact = |value: &str| StringMatch::Exact { value: value.into(), ignore_case: false };
    let verdict = match test.header_match_specifier.as_ref() {
        None => Some(HeaderTest::Present(true)),
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => Some(HeaderTest::Present(*wanted)),
        Some(HeaderMatchSpecifier::ExactMatch(value)) => Some(HeaderTest::Text(exact(value))),
        Some(HeaderMatchSpecifier::PrefixMatch(value)) => reader
            .required_text("prefix_match", value)
            .map(|value| HeaderTest::Text(StringMatch::Prefix { value, ignore_case: false })),
        Some(HeaderMatchSpecifier::SuffixMatch(value)) => reader
            .required_text("suffix_match", value)
            .map(|value| HeaderTest::Text(StringMatch::Suffix { value, ignore_case: false })),
        Some(HeaderMatchSpecifier::ContainsMatch(value)) => reader
            .required_text("contains_match", value)
            .map(|value| HeaderTest::Text(StringMatch::Contains { value, ignore_case: false })),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => regex_match(reader, "safe_regex_match", regex)
            .map(|regex| HeaderTest::Text(StringMatch::Regex(regex))),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            if range.start >= range.end {
                reader.problem_at("range_match", format!("is empty: {} to {}", range.start, range.end));
            }
            Some(HeaderTest::Range { start: range.start, end: range.end })
        }
        Some(HeaderMatchSpecifier::StringMatch(test)) => {
            reader.at("string_match", |reader| string_match(reader, test)).map(HeaderTest::Text)
        }
    };
    Some(HeaderMatch {
        key: key?,
        test: verdict?,
        invert: test.invert_match,
        missing_as_empty: test.treat_missing_header_as_empty,
    })
}

pub(super) fn query_match(reader: &mut Reader, test: &pb::QueryParameterMatcher) -> Option<QueryMatch> {
    let name = reader.required_text("name", &test.name);
    let value = match test.query_parameter_match_specifier.as_ref() {
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => None,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            reader.problem_at("present_match", "can only be true");
            None
        }
        Some(QueryParameterMatchSpecifier::StringMatch(test)) => {
            Some(reader.at("string_match", |reader| string_match(reader, test))?)
        }
    };
    Some(QueryMatch { name: name?, value })
}

/// In millionths.
pub(super) fn fraction(reader: &mut Reader, step: &str, fraction: Option<&FractionalPercent>) -> Option<u32> {
    let Some(fraction) = fraction else {
        return Some(0);
    };
    let denominator: DenominatorType =
        reader.at(step, |reader| reader.choice("denominator", fraction.denominator))?;
    let factor = match denominator {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Some(fraction.numerator.saturating_mul(factor).min(1_000_000))
}

/// Absent: all requests.
pub(super) fn runtime_fraction(
    reader: &mut Reader,
    step: &str,
    share: Option<&RuntimeFractionalPercent>,
) -> Option<u32> {
    match share {
        None => Some(1_000_000),
        Some(share) => reader.at(step, |reader| match share.default_value.as_ref() {
            Some(value) => fraction(reader, "default_value", Some(value)),
            None => {
                reader.problem_at("default_value", "is required");
                None
            }
        }),
    }
}

/// Removals first, as Envoy does.
pub(super) fn edits(
    reader: &mut Reader,
    prefix: &str,
    remove: &[String],
    add: &[HeaderValueOption],
) -> Vec<HeaderEdit> {
    if remove.len() + add.len() > EDITS_MAX {
        reader.problem(format!("has more than {EDITS_MAX} header edits in one place"));
        return Vec::new();
    }
    let mut edits = reader.list(&format!("{prefix}_headers_to_remove"), remove, |reader, name| {
        editable(reader, "", name).map(HeaderEdit::Remove)
    });
    let added = reader.list(&format!("{prefix}_headers_to_add"), add, |reader, option| {
        let edit = addition(reader, option)?;
        if let Some(HeaderEdit::Add { value: EditValue::Format(parts), .. }) = &edit
            && let Some(unknown) = parts.iter().find(|part| unknown_there(prefix, part))
        {
            reader.problem_at("header.value", format!("holds {unknown:?}, which is not known in a {prefix}"));
        }
        Some(edit)
    });
    edits.extend(added.into_iter().flatten());
    edits
}

/// What the proxy cannot fill in where the edit is made.
fn unknown_there(prefix: &str, part: &EditPart) -> bool {
    match part {
        EditPart::Request(HeaderKey::Name(_)) => prefix == "response",
        EditPart::Request(_) => true,
        EditPart::UpstreamHost => prefix == "request",
        _ => false,
    }
}

/// Some(None): an edit that does nothing.
pub(super) fn addition(reader: &mut Reader, option: &HeaderValueOption) -> Option<Option<HeaderEdit>> {
    let header = reader.required("header", option.header.as_ref())?;
    let name = reader.at("header", |reader| editable(reader, "key", &header.key));
    let action = match option.append.as_ref() {
        Some(append) if option.append_action == 0 => {
            Some(if append.value { EditAction::Append } else { EditAction::Overwrite })
        }
        Some(_) => {
            reader.problem_at("append", "does not go with append_action");
            None
        }
        None => reader.choice("append_action", option.append_action).map(|action| match action {
            HeaderAppendAction::AppendIfExistsOrAdd => EditAction::Append,
            HeaderAppendAction::AddIfAbsent => EditAction::AddIfAbsent,
            HeaderAppendAction::OverwriteIfExistsOrAdd => EditAction::Overwrite,
            HeaderAppendAction::OverwriteIfExists => EditAction::OverwriteIfExists,
        }),
    };
    if header.value.is_empty() && !option.keep_empty_value {
        name?;
        return Some(None);
    }
    let value = reader.at("header.value", |reader| edit_value(reader, &header.value));
    if matches!(value, Some(EditValue::Format(_))) && option.keep_empty_value {
        reader.problem_at("keep_empty_value", "does not go with commands in the value");
    }
    Some(Some(HeaderEdit::Add { name: name?, value: value?, action: action? }))
}

/// The head's own parts are not headers to edit: routing and authorization have seen them.
fn editable(reader: &mut Reader, step: &str, name: &str) -> Option<HeaderName> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        let message = format!("{name:?} cannot be edited as a header");
        if step.is_empty() {
            reader.problem(message);
        } else {
            reader.problem_at(step, message);
        }
        return None;
    }
    let found = HeaderName::from_bytes(name.as_bytes()).ok();
    if found.is_none() {
        reader.problem(format!("{name:?} is no header name"));
    }
    found
}

fn edit_value(reader: &mut Reader, text: &str) -> Option<EditValue> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        let Some((command, left)) = after.split_once('%') else {
            reader.problem("holds a single %; write %% for one");
            return None;
        };
        rest = left;
        if command.is_empty() {
            literal.push('%');
            continue;
        }
        if !literal.is_empty() {
            parts.push(EditPart::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(edit_command(reader, command)?);
    }
    literal.push_str(rest);
    if HeaderValue::from_str(&literal).is_err() {
        reader.problem("is no header value");
        return None;
    }
    if parts.is_empty() {
        return HeaderValue::from_str(&literal).ok().map(EditValue::Literal);
    }
    if !literal.is_empty() {
        parts.push(EditPart::Text(literal.into()));
    }
    Some(EditValue::Format(parts.into()))
}

fn edit_command(reader: &mut Reader, command: &str) -> Option<EditPart> {
    Some(match command {
        "DOWNSTREAM_REMOTE_ADDRESS" => EditPart::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => EditPart::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_LOCAL_ADDRESS" => EditPart::DownstreamLocalAddress,
        "DOWNSTREAM_PEER_URI_SAN" => EditPart::DownstreamPeerUriSan,
        "UPSTREAM_HOST" => EditPart::UpstreamHost,
        "PROTOCOL" => EditPart::Protocol,
        "HOSTNAME" => EditPart::Hostname,
        other => match other.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')')) {
            Some(name) => {
                let found = match name {
                    ":method" | ":authority" | ":path" | ":scheme" => header_key(reader, "", name),
                    name => HeaderName::from_bytes(name.as_bytes()).ok().map(HeaderKey::Name),
                };
                if found.is_none() {
                    reader.problem(format!("%{other}% names no header"));
                }
                EditPart::Request(found?)
            }
            None => {
                reader.problem(format!("%{other}% is not known here"));
                return None;
            }
        },
    })
}
