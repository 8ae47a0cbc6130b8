//! Access logs: where to, and in which format.

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, data_source::Specifier};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};

use super::core;
use super::reader::Reader;
use crate::fields::type_name;
use crate::types::{AccessLogConfig, AccessLogFormat, AccessLogTarget};

/// A format's text, bytes.
const FORMAT_BYTES_MAX: usize = 64 << 10;

pub(super) fn access_logs(reader: &mut Reader, logs: &[pb::AccessLog]) -> Vec<AccessLogConfig> {
    reader.list("access_log", logs, |reader, log| {
        let Some(ConfigType::TypedConfig(any)) = log.config_type.as_ref() else {
            reader.problem_at("typed_config", "is required");
            return None;
        };
        reader.at("typed_config", |reader| match type_name(&any.type_url) {
            "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
                let log: FileAccessLog = reader.any(any)?;
                file(reader, &log)
            }
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
                let log: StdoutAccessLog = reader.any(any)?;
                let format =
                    log.access_log_format.map(|stdout_access_log::AccessLogFormat::LogFormat(format)| format);
                log_format(reader, format.as_ref())
                    .map(|format| AccessLogConfig { target: AccessLogTarget::Stdout, format })
            }
            "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
                let log: StderrAccessLog = reader.any(any)?;
                let format =
                    log.access_log_format.map(|stderr_access_log::AccessLogFormat::LogFormat(format)| format);
                log_format(reader, format.as_ref())
                    .map(|format| AccessLogConfig { target: AccessLogTarget::Stderr, format })
            }
            // The table has refused it.
            _ => None,
        })
    })
}

fn file(reader: &mut Reader, log: &FileAccessLog) -> Option<AccessLogConfig> {
    use file_access_log::AccessLogFormat as Pb;
    let path = reader.required_text("path", &log.path)?;
    let target = match &*path {
        "/dev/stdout" => AccessLogTarget::Stdout,
        "/dev/stderr" => AccessLogTarget::Stderr,
        path => AccessLogTarget::File(path.into()),
    };
    let format = match log.access_log_format.as_ref() {
        None => AccessLogFormat::Default,
        Some(Pb::Format(format)) => text(reader, format)?,
        Some(Pb::JsonFormat(format)) => AccessLogFormat::Json(core::json(reader, format)),
        Some(Pb::TypedJsonFormat(format)) => AccessLogFormat::Json(core::json(reader, format)),
        Some(Pb::LogFormat(format)) => log_format(reader, Some(format))?,
    };
    Some(AccessLogConfig { target, format })
}

fn log_format(reader: &mut Reader, format: Option<&SubstitutionFormatString>) -> Option<AccessLogFormat> {
    let Some(format) = format else {
        return Some(AccessLogFormat::Default);
    };
    reader.at("log_format", |reader| match format.format.as_ref() {
        Some(Format::TextFormat(format)) => text(reader, format),
        Some(Format::JsonFormat(format)) => {
            Some(AccessLogFormat::Json(reader.at("json_format", |reader| core::json(reader, format))))
        }
        Some(Format::TextFormatSource(source)) => match source.specifier.as_ref() {
            Some(Specifier::InlineString(format)) => text(reader, format),
            _ => {
                reader.problem_at("text_format_source", "must be inline_string");
                None
            }
        },
        None => {
            reader.problem("needs one of text_format, text_format_source, json_format");
            None
        }
    })
}

fn text(reader: &mut Reader, format: &str) -> Option<AccessLogFormat> {
    if format.len() > FORMAT_BYTES_MAX {
        reader.problem(format!("has a format of more than {FORMAT_BYTES_MAX} bytes"));
        return None;
    }
    Some(if format.is_empty() { AccessLogFormat::Default } else { AccessLogFormat::Text(format.into()) })
}
