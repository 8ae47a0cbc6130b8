//! Access logs: lines gathered in a worker's memory, handed to the thread that writes them, [`writer`], when enough
//! are there or time has passed.
//!
//! The file is opened for appending, so that the lines of several workers mix but never tear.

mod writer;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use http::HeaderName;
use weft_routing::{AccessLogConfig, AccessLogFormat};
use weft_telemetry::{Format, Record, accesslog::Side};

pub use writer::{Writer, Written};

use writer::Outlet;

/// Lines are handed over when this many bytes wait.
const BUFFER_BYTES: usize = 16 * 1024;
/// Lines are dropped while a slow disk leaves this many waiting.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// The logs of one worker, each open once.
pub struct AccessLogs {
    writer: Writer,
    open: RefCell<Vec<(AccessLogConfig, Rc<AccessLog>)>>,
}

/// One target with one format.
pub struct AccessLog {
    format: Format,
    pub names: Names,
    waiting: RefCell<Vec<u8>>,
    outlet: Outlet,
    /// How many of its two buffers there are.
    buffers: Cell<u8>,
}

/// The header fields that a log's lines name, in the format's order.
pub struct Names {
    pub request: Vec<HeaderName>,
    pub response: Vec<HeaderName>,
    pub trailers: Vec<HeaderName>,
}

impl Names {
    fn of(format: &Format) -> Names {
        // Its names are tokens; the fallback is unreachable and harmless.
        let names = |side| {
            let names = format.header_names(side).iter();
            names.map(|name| name.parse().unwrap_or(HeaderName::from_static("-"))).collect()
        };
        Names {
            request: names(Side::Request),
            response: names(Side::Response),
            trailers: names(Side::Trailer),
        }
    }
}

impl AccessLogs {
    pub fn new(writer: Writer) -> AccessLogs {
        AccessLogs { writer, open: RefCell::default() }
    }

    /// The logs of these settings; what cannot be read is said once and left out.
    pub fn open(&self, configs: &[AccessLogConfig]) -> Vec<Rc<AccessLog>> {
        configs.iter().filter_map(|config| self.open_one(config)).collect()
    }

    fn open_one(&self, config: &AccessLogConfig) -> Option<Rc<AccessLog>> {
        let mut open = self.open.borrow_mut();
        if let Some((_, log)) = open.iter().find(|(known, _)| known == config) {
            return Some(Rc::clone(log));
        }
        match format(&config.format) {
            Ok(format) => {
                let outlet = self.writer.outlet(config.target.clone());
                let names = Names::of(&format);
                let log =
                    AccessLog { format, names, waiting: RefCell::default(), outlet, buffers: Cell::new(1) };
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

    /// Hands over what waits.
    pub fn flush(&self) {
        for (_, log) in self.open.borrow().iter() {
            log.flush();
        }
    }

    /// The same at the worker's end, when nobody waits for it any more.
    pub fn finish(&self) {
        for (_, log) in self.open.borrow().iter() {
            log.buffers.set(1);
            log.flush();
        }
    }

    /// Lines that were dropped or could not be written, since it was last asked.
    pub fn lost(&self) -> u64 {
        self.open.borrow().iter().map(|(_, log)| log.outlet.lost()).sum()
    }
}

impl AccessLog {
    pub fn write(&self, record: &Record<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= BUFFER_BYTES_MAX {
            self.outlet.lose(1);
        } else {
            self.format.render(record, &mut waiting);
        }
        if waiting.len() >= BUFFER_BYTES {
            self.hand_over(&mut waiting);
        }
    }

    fn flush(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            self.hand_over(&mut waiting);
        }
    }

    fn hand_over(&self, waiting: &mut Vec<u8>) {
        let first = self.buffers.get() < 2;
        if self.outlet.hand_over(waiting, first) && first {
            self.buffers.set(2);
        }
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

#[cfg(test)]
mod tests;
