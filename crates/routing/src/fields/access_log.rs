//! The table: access logs.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::any::ACCESS_LOGS;
use super::core::DATA_SOURCE;
use super::{NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, one};

/// Every message of this page.
pub static ALL: &[&Schema] =
    &[&ACCESS_LOG, &FILE_ACCESS_LOG, &STDOUT_ACCESS_LOG, &STDERR_ACCESS_LOG, &SUBSTITUTION_FORMAT_STRING];

pub static ACCESS_LOG: Schema = Schema {
    name: "envoy.config.accesslog.v3.AccessLog",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "filter", Warn("every request is logged"), OPAQUE),
        one(4, "typed_config", Supported, Any(ACCESS_LOGS)),
    ],
};

pub static FILE_ACCESS_LOG: Schema = Schema {
    name: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    rows: &[
        one(1, "path", Supported, TEXT),
        one(2, "format", Supported, TEXT),
        one(3, "json_format", Supported, OPAQUE),
        one(4, "typed_json_format", Supported, OPAQUE),
        one(5, "log_format", Supported, Message(&SUBSTITUTION_FORMAT_STRING)),
    ],
};

pub static STDOUT_ACCESS_LOG: Schema = Schema {
    name: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    rows: &[one(1, "log_format", Supported, Message(&SUBSTITUTION_FORMAT_STRING))],
};

pub static STDERR_ACCESS_LOG: Schema = Schema {
    name: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    rows: &[one(1, "log_format", Supported, Message(&SUBSTITUTION_FORMAT_STRING))],
};

pub static SUBSTITUTION_FORMAT_STRING: Schema = Schema {
    name: "envoy.config.core.v3.SubstitutionFormatString",
    rows: &[
        one(1, "text_format", Supported, TEXT),
        one(2, "json_format", Supported, OPAQUE),
        one(3, "omit_empty_values", Warn("empty values are written"), VARINT),
        one(4, "content_type", Harmless("for answers, not for logs"), TEXT),
        one(5, "text_format_source", Supported, Message(&DATA_SOURCE)),
        many(6, "formatters", NOT_DONE, OPAQUE),
        one(7, "json_format_options", Harmless("keys are always sorted"), OPAQUE),
    ],
};
