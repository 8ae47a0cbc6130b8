//! Envoy's format language: text with `%NAME%`, `%NAME(ARGUMENT)%`, `%NAME(ARGUMENT):LENGTH%`, and
//! `%%` for a percent sign.

use super::FormatError;
use super::ops::{self, FIELDS, Field, Named, Op, Query, Side};

/// The longest that a header value is shown when the format doesn't say.
const HEADER_BYTES_MAX: usize = 8192;

pub fn parse(format: &str) -> Result<Vec<Op>, FormatError> {
    let mut ops = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        let here = &rest[at..];
        let fail = |message: String| {
            let column = format[..format.len() - here.len()].chars().count() + 1;
            FormatError { column, message }
        };
        if let Some(after) = here.strip_prefix("%%") {
            literal.push('%');
            rest = after;
            continue;
        }
        let (operator, after) = Operator::read(here).map_err(fail)?;
        if !literal.is_empty() {
            ops.push(Op::Literal(std::mem::take(&mut literal)));
        }
        ops.push(operator.op().map_err(fail)?);
        rest = after;
    }
    literal.push_str(rest);
    // A trailing line break is ours to write; one inside would make two lines of one request.
    let literal = literal.trim_end_matches(['\r', '\n']);
    if !literal.is_empty() {
        ops.push(Op::Literal(literal.to_owned()));
    }
    for op in &mut ops {
        if let Op::Literal(text) = op {
            *text = text.replace(['\r', '\n'], " ");
        }
    }
    Ok(ops)
}

/// `%NAME(ARGUMENT):LENGTH%`, taken apart.
struct Operator<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    length: Option<&'a str>,
}

impl<'a> Operator<'a> {
    /// From text that begins with the operator's percent sign; answers what follows its last.
    fn read(text: &'a str) -> Result<(Self, &'a str), String> {
        let body = &text[1..];
        let end = body
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .unwrap_or(body.len());
        let (name, mut rest) = body.split_at(end);
        if name.is_empty() {
            return Err("`%` begins an operator (NAME in capitals); write `%%` for a percent sign".to_owned());
        }
        let mut argument = None;
        if let Some(inside) = rest.strip_prefix('(') {
            // An argument may hold percent signs (START_TIME), but no closing parenthesis.
            let close = inside.find(')').ok_or_else(|| format!("`%{name}(` has no closing `)`"))?;
            argument = Some(&inside[..close]);
            rest = &inside[close + 1..];
        }
        let mut length = None;
        if let Some(after) = rest.strip_prefix(':') {
            let close = after.find('%').ok_or_else(|| unclosed(name))?;
            length = Some(&after[..close]);
            rest = &after[close..];
        }
        let rest = rest.strip_prefix('%').ok_or_else(|| unclosed(name))?;
        Ok((Self { name, argument, length }, rest))
    }

    fn op(&self) -> Result<Op, String> {
        match self.name {
            "START_TIME" => self.start_time(),
            "REQ" => self.header(Side::Request, Query::AsTheFormatSays),
            "REQ_WITHOUT_QUERY" => self.header(Side::Request, Query::Never),
            "RESP" => self.header(Side::Response, Query::AsTheFormatSays),
            "TRAILER" => self.header(Side::Trailer, Query::AsTheFormatSays),
            // Envoy writes the status as CamelString unless asked for the number.
            "GRPC_STATUS" => match self.argument {
                None | Some("CAMEL_STRING") => self.plain_length().map(|()| Op::Field(Field::GrpcStatus)),
                Some("NUMBER") => self.plain_length().map(|()| Op::Field(Field::GrpcStatusNumber)),
                Some(other) => Err(format!("`%GRPC_STATUS({other})%`: CAMEL_STRING and NUMBER are known")),
            },
            name => {
                let field = FIELDS.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(name))?;
                if self.argument.is_some_and(|argument| !argument.is_empty()) {
                    return Err(format!("`%{name}%` takes no argument"));
                }
                self.plain_length().map(|()| Op::Field(field.1))
            }
        }
    }

    fn plain_length(&self) -> Result<(), String> {
        match self.length {
            None => Ok(()),
            Some(_) => Err(format!("`%{}%` takes no length", self.name)),
        }
    }

    fn start_time(&self) -> Result<Op, String> {
        self.plain_length()?;
        let format = self.argument.filter(|format| !format.is_empty());
        if let Some(problem) = format.and_then(ops::start_time_problem) {
            return Err(format!("`%START_TIME(…)%`: {problem}"));
        }
        Ok(Op::StartTime(format.map(str::to_owned)))
    }

    fn header(&self, of: Side, query: Query) -> Result<Op, String> {
        let name = self.name;
        let argument = self.argument.unwrap_or_default();
        let (first, other) = match argument.split_once('?') {
            Some((first, other)) => (first, Some(other)),
            None => (argument, None),
        };
        for header in [Some(first), other].into_iter().flatten() {
            let plain = header.strip_prefix(':').unwrap_or(header);
            if plain.is_empty()
                || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b))
            {
                return Err(format!("`%{name}({argument})%`: {header:?} is not a header name"));
            }
        }
        let bytes_max = match self.length {
            None => HEADER_BYTES_MAX,
            Some(length) => length
                .parse::<usize>()
                .map_err(|_| format!("`%{name}({argument}):{length}%`: {length:?} is not a length"))?
                .min(HEADER_BYTES_MAX),
        };
        Ok(Op::Header {
            first: Named::new(of, first.to_ascii_lowercase()),
            other: other.map(|other| Named::new(of, other.to_ascii_lowercase())),
            bytes_max,
            query,
        })
    }
}

fn unclosed(name: &str) -> String {
    format!("`%{name}` has no closing `%`")
}

fn unknown(name: &str) -> String {
    const OTHERS: [&str; 5] = ["START_TIME", "REQ", "REQ_WITHOUT_QUERY", "RESP", "TRAILER"];
    let near = FIELDS
        .iter()
        .map(|(known, _)| *known)
        .chain(OTHERS)
        .min_by_key(|known| distance(known, name))
        .filter(|known| distance(known, name) <= 3);
    match near {
        Some(near) => format!("unknown operator `%{name}%` (did you mean `%{near}%`?)"),
        None => format!("unknown operator `%{name}%`"),
    }
}

/// Levenshtein's, on short ASCII names.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(a != b)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[right.len()]
}
