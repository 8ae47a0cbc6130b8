//! The functions that a policy may call, and what each may cost.
//!
//! The engine raises a builtin's failure as the failure of the whole decision or hides it, and hides its own
//! limits with it. OPA makes a failed builtin undefined. So every builtin that can fail, grow or read a clock
//! is put before the engine's own: a few are written here, most are guarded and then asked of a second engine
//! that holds nothing else ([`context::Context::ask`]).

mod codec;
pub(crate) mod context;
mod glob;
mod guards;
mod hash;
mod jwt;
mod keys;
mod list;
mod pattern;
mod strings;
mod x509;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use regorus::{Engine, Value};

use context::{Answer, Context, Fault};

/// One function that a policy may call.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    pub(crate) arity: u8,
    how: How,
    /// Whether its answer hangs on the time.
    pub(crate) fleeting: bool,
}

enum How {
    /// The engine's own, which can neither fail nor grow.
    Engine,
    /// Ours, where the engine has one too.
    Ours(fn(&mut Context, &[Value]) -> Answer),
    /// Ours alone.
    Added(fn(&mut Context, &[Value]) -> Answer),
    /// The engine's, once the guard has passed.
    Guarded(fn(&Context, &[Value]) -> Result<(), Fault>),
}

impl Builtin {
    /// Whether the engine does not know it.
    pub(crate) fn added(&self) -> bool {
        matches!(self.how, How::Added(_))
    }
}

const fn of(name: &'static str, arity: u8, how: How) -> Builtin {
    Builtin { name, arity, how, fleeting: false }
}

const fn fleeting(name: &'static str, arity: u8, how: How) -> Builtin {
    Builtin { name, arity, how, fleeting: true }
}

use How::{Added, Engine as Native, Guarded, Ours};

/// All of them.
pub(crate) const TABLE: &[Builtin] = &[
    of("is_array", 1, Native),
    of("is_boolean", 1, Native),
    of("is_null", 1, Native),
    of("is_number", 1, Native),
    of("is_object", 1, Native),
    of("is_set", 1, Native),
    of("is_string", 1, Native),
    of("type_name", 1, Native),
    of("walk", 1, Ours(list::walk)),
    of("trace", 1, Native),
    of("count", 1, Ours(list::count)),
    of("max", 1, Guarded(guards::weight)),
    of("min", 1, Guarded(guards::weight)),
    of("product", 1, Guarded(guards::product)),
    of("sort", 1, Guarded(guards::weight)),
    of("sum", 1, Guarded(guards::weight)),
    of("intersection", 1, Guarded(guards::weight)),
    of("union", 1, Guarded(guards::weight)),
    of("array.concat", 2, Ours(list::concat)),
    of("array.reverse", 1, Guarded(guards::weight)),
    of("array.slice", 3, Guarded(guards::weight)),
    of("json.filter", 2, Guarded(guards::weight)),
    of("json.remove", 2, Guarded(guards::weight)),
    of("object.filter", 2, Guarded(guards::weight)),
    of("object.get", 3, Ours(list::get)),
    of("object.keys", 1, Guarded(guards::weight)),
    of("object.remove", 2, Guarded(guards::weight)),
    of("object.subset", 2, Guarded(guards::weight)),
    of("object.union", 2, Guarded(guards::weight)),
    of("object.union_n", 1, Guarded(guards::weight)),
    of("graph.reachable", 2, Guarded(guards::weight)),
    of("abs", 1, Guarded(guards::weight)),
    of("ceil", 1, Guarded(guards::weight)),
    of("floor", 1, Guarded(guards::weight)),
    of("round", 1, Guarded(guards::weight)),
    of("numbers.range", 2, Ours(list::range)),
    of("numbers.range_step", 3, Ours(list::range_step)),
    of("bits.and", 2, Guarded(guards::weight)),
    of("bits.lsh", 2, Guarded(guards::shift)),
    of("bits.negate", 1, Guarded(guards::weight)),
    of("bits.or", 2, Guarded(guards::weight)),
    of("bits.rsh", 2, Guarded(guards::shift)),
    of("bits.xor", 2, Guarded(guards::weight)),
    of("to_number", 1, Ours(codec::to_number)),
    of("format_int", 2, Guarded(guards::weight)),
    of("units.parse", 1, Guarded(guards::number_text)),
    of("units.parse_bytes", 1, Guarded(guards::number_text)),
    of("concat", 2, Ours(strings::concat)),
    of("contains", 2, Ours(strings::contains)),
    of("endswith", 2, Ours(strings::ends_with)),
    of("indexof", 2, Guarded(guards::weight)),
    of("indexof_n", 2, Guarded(guards::weight)),
    of("lower", 1, Ours(strings::lower)),
    of("replace", 3, Ours(strings::replace)),
    of("split", 2, Ours(strings::split)),
    of("sprintf", 2, Guarded(guards::format)),
    of("startswith", 2, Ours(strings::starts_with)),
    of("strings.any_prefix_match", 2, Guarded(guards::weight)),
    of("strings.any_suffix_match", 2, Guarded(guards::weight)),
    of("strings.count", 2, Ours(strings::count)),
    of("strings.replace_n", 2, Ours(strings::replace_n)),
    of("strings.reverse", 1, Guarded(guards::weight)),
    of("substring", 3, Guarded(guards::weight)),
    of("trim", 2, Guarded(guards::weight)),
    of("trim_left", 2, Guarded(guards::weight)),
    of("trim_prefix", 2, Ours(strings::trim_prefix)),
    of("trim_right", 2, Guarded(guards::weight)),
    of("trim_space", 1, Guarded(guards::weight)),
    of("trim_suffix", 2, Ours(strings::trim_suffix)),
    of("upper", 1, Ours(strings::upper)),
    of("glob.match", 3, Ours(glob::matches)),
    of("glob.quote_meta", 1, Guarded(guards::weight)),
    of("regex.find_all_string_submatch_n", 3, Guarded(guards::weight)),
    of("regex.find_n", 3, Guarded(guards::weight)),
    of("regex.is_valid", 1, Guarded(guards::weight)),
    of("regex.match", 2, Ours(pattern::matches)),
    of("regex.replace", 3, Guarded(guards::replace)),
    of("regex.split", 2, Guarded(guards::weight)),
    of("regex.template_match", 4, Guarded(guards::weight)),
    of("base64.decode", 1, Guarded(guards::weight)),
    of("base64.encode", 1, Guarded(guards::weight)),
    of("base64.is_valid", 1, Guarded(guards::weight)),
    of("base64url.decode", 1, Ours(codec::base64url_decode)),
    of("base64url.encode", 1, Guarded(guards::weight)),
    of("base64url.encode_no_pad", 1, Guarded(guards::weight)),
    of("hex.decode", 1, Guarded(guards::weight)),
    of("hex.encode", 1, Guarded(guards::weight)),
    of("urlquery.decode", 1, Guarded(guards::weight)),
    of("urlquery.decode_object", 1, Guarded(guards::weight)),
    of("urlquery.encode", 1, Guarded(guards::weight)),
    of("urlquery.encode_object", 1, Guarded(guards::weight)),
    of("json.is_valid", 1, Ours(codec::json_is_valid)),
    of("json.marshal", 1, Guarded(guards::weight)),
    of("json.marshal_with_options", 2, Guarded(guards::marshal)),
    of("json.unmarshal", 1, Ours(codec::json_unmarshal)),
    of("net.cidr_contains", 2, Guarded(guards::weight)),
    of("net.cidr_expand", 1, Guarded(guards::expand)),
    of("net.cidr_is_valid", 1, Guarded(guards::weight)),
    of("semver.compare", 2, Guarded(guards::weight)),
    of("semver.is_valid", 1, Guarded(guards::weight)),
    of("time.add_date", 4, Guarded(guards::weight)),
    of("time.clock", 1, Guarded(guards::weight)),
    of("time.date", 1, Guarded(guards::weight)),
    of("time.diff", 2, Guarded(guards::weight)),
    of("time.format", 1, Guarded(guards::weight)),
    fleeting("time.now_ns", 0, Ours(codec::now)),
    of("time.parse_duration_ns", 1, Guarded(guards::weight)),
    of("time.parse_ns", 2, Guarded(guards::weight)),
    of("time.parse_rfc3339_ns", 1, Guarded(guards::weight)),
    of("time.weekday", 1, Guarded(guards::weight)),
    of("crypto.sha1", 1, Added(hash::sha1)),
    of("crypto.sha256", 1, Added(hash::sha256)),
    of("crypto.hmac.sha1", 2, Added(hash::hmac_sha1)),
    of("crypto.hmac.sha256", 2, Added(hash::hmac_sha256)),
    of("crypto.hmac.sha512", 2, Added(hash::hmac_sha512)),
    of("crypto.hmac.equal", 2, Added(hash::hmac_equal)),
    of("crypto.x509.parse_certificates", 1, Added(x509::parse)),
    fleeting("crypto.x509.parse_and_verify_certificates", 1, Added(x509::verify)),
    of("io.jwt.decode", 1, Added(jwt::decode)),
    fleeting("io.jwt.decode_verify", 2, Added(jwt::decode_verify)),
    of("io.jwt.verify_rs256", 2, Added(jwt::verify_rs256)),
    of("io.jwt.verify_rs384", 2, Added(jwt::verify_rs384)),
    of("io.jwt.verify_rs512", 2, Added(jwt::verify_rs512)),
    of("io.jwt.verify_ps256", 2, Added(jwt::verify_ps256)),
    of("io.jwt.verify_ps384", 2, Added(jwt::verify_ps384)),
    of("io.jwt.verify_ps512", 2, Added(jwt::verify_ps512)),
    of("io.jwt.verify_es256", 2, Added(jwt::verify_es256)),
    of("io.jwt.verify_es384", 2, Added(jwt::verify_es384)),
    of("io.jwt.verify_es512", 2, Added(jwt::verify_es512)),
    of("io.jwt.verify_eddsa", 2, Added(jwt::verify_eddsa)),
    of("io.jwt.verify_hs256", 2, Added(jwt::verify_hs256)),
    of("io.jwt.verify_hs384", 2, Added(jwt::verify_hs384)),
    of("io.jwt.verify_hs512", 2, Added(jwt::verify_hs512)),
];

pub(crate) fn find(name: &str) -> Option<&'static Builtin> {
    TABLE.iter().find(|builtin| builtin.name == name)
}

/// The first of `called` whose answer hangs on the time.
pub(crate) fn first_fleeting(called: &BTreeSet<&'static str>) -> Option<&'static str> {
    TABLE.iter().filter(|builtin| builtin.fleeting).map(|builtin| builtin.name).find(|n| called.contains(n))
}

/// Puts ours before the engine's, as far as they are called.
pub(crate) fn install(
    engine: &mut Engine,
    called: &BTreeSet<&'static str>,
    shared: &Arc<Mutex<Context>>,
) -> Result<(), String> {
    for builtin in TABLE.iter().filter(|builtin| called.contains(builtin.name)) {
        let shared = Arc::clone(shared);
        let (name, added) = (builtin.name, builtin.arity);
        let result = match builtin.how {
            Native => continue,
            Ours(answer) | Added(answer) => {
                let call = move |arguments: Vec<Value>| {
                    let mut context = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let result = answer(&mut context, &arguments);
                    context.settle(name, result)
                };
                engine.add_extension(name.to_owned(), added, Box::new(call))
            }
            Guarded(guard) => {
                let call = move |arguments: Vec<Value>| {
                    let mut context = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let result = guard(&context, &arguments).and_then(|()| context.ask(name, arguments));
                    context.settle(name, result)
                };
                engine.add_extension(name.to_owned(), added, Box::new(call))
            }
        };
        result.map_err(|error| format!("builtin {name}: {error}"))?;
    }
    Ok(())
}

/// The rules of the second engine: each guarded builtin that is called, applied to its input.
pub(crate) fn asked(called: &BTreeSet<&'static str>) -> (String, Vec<&'static str>) {
    let mut text = "package weft\n".to_owned();
    let mut names = Vec::new();
    for builtin in TABLE.iter().filter(|builtin| called.contains(builtin.name)) {
        if let Guarded(_) = builtin.how {
            let arguments: Vec<String> = (0..builtin.arity).map(|index| format!("input[{index}]")).collect();
            text.push_str(&format!("f{} := {}({})\n", names.len(), builtin.name, arguments.join(", ")));
            names.push(builtin.name);
        }
    }
    (text, names)
}
