//! Access logs: lines gathered in a worker's memory, written in one call when enough are there or time has passed.
//!
//! The file is opened for appending, so that the lines of several workers mix but never tear.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::Write,
    rc::Rc,
};

use weft_routing::{AccessLogConfig, AccessLogFormat, AccessLogTarget};
use weft_telemetry::{Format, Record};

/// Lines are written out when this many bytes wait.
const BUFFER_BYTES: usize = 16 * 1024;
/// Lines are dropped while a slow disk leaves this many waiting.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// The logs of one worker, each open once.
#[derive(Default)]
pub struct AccessLogs {
    open: RefCell<Vec<(AccessLogConfig, Rc<AccessLog>)>>,
}

/// One target with one format.
pub struct AccessLog {
    format: Format,
    sink: RefCell<Sink>,
    waiting: RefCell<Vec<u8>>,
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

impl AccessLogs {
    /// The logs of these settings; what cannot be opened is said once and left out.
    pub fn open(&self, configs: &[AccessLogConfig]) -> Vec<Rc<AccessLog>> {
        configs.iter().filter_map(|config| self.open_one(config)).collect()
    }

    fn open_one(&self, config: &AccessLogConfig) -> Option<Rc<AccessLog>> {
        let mut open = self.open.borrow_mut();
        if let Some((_, log)) = open.iter().find(|(known, _)| known == config) {
            return Some(Rc::clone(log));
        }
        match AccessLog::open(config) {
            Ok(log) => {
                let log = Rc::new(log);
                open.push((config.clone(), Rc::clone(&log)));
                Some(log)
            }
            Err(error) => {
                tracing::warn!(error, target = ?config.target, "an access log cannot be written");
                None
            }
        }
    }

    /// Writes out what waits.
    pub fn flush(&self) {
        for (_, log) in self.open.borrow().iter() {
            log.flush();
        }
    }
}

impl AccessLog {
    fn open(config: &AccessLogConfig) -> Result<AccessLog, String> {
        let format = format(&config.format)?;
        let sink = match &config.target {
            AccessLogTarget::Stdout => Sink::Stdout,
            AccessLogTarget::Stderr => Sink::Stderr,
            AccessLogTarget::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Sink::File(file.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        Ok(AccessLog { format, sink: RefCell::new(sink), waiting: RefCell::default() })
    }

    pub fn write(&self, record: &Record<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < BUFFER_BYTES_MAX {
            self.format.render(record, &mut waiting);
        }
        let full = waiting.len() >= BUFFER_BYTES;
        drop(waiting);
        if full {
            self.flush();
        }
    }

    fn flush(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        let written = match &mut *self.sink.borrow_mut() {
            Sink::Stdout => std::io::stdout().write_all(&waiting),
            Sink::Stderr => std::io::stderr().write_all(&waiting),
            Sink::File(file) => file.write_all(&waiting),
        };
        // A full disk must not stop the traffic.
        if let Err(error) = written {
            tracing::warn!(%error, "access log lines were lost");
        }
        waiting.clear();
    }
}

fn format(format: &AccessLogFormat) -> Result<Format, String> {
    match format {
        AccessLogFormat::Default => Ok(Format::text()),
        AccessLogFormat::Text(text) => {
            Format::parse(text.trim_end_matches('\n')).map_err(|error| error.to_string())
        }
        AccessLogFormat::Json(serde_json::Value::Object(keys)) => {
            let keys: Option<Vec<(&str, &str)>> =
                keys.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
            let keys = keys.ok_or("json_format: values must be texts")?;
            Format::json_of(keys).map_err(|error| error.to_string())
        }
        AccessLogFormat::Json(_) => Err("json_format: must be an object".to_owned()),
    }
}
