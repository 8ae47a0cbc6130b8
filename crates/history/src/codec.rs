//! Cells and windows as bytes, with a version in front.
//!
//! Numbers are LEB128 varints; bucket indexes are coded as differences. A window names each string
//! once, in a table before its cells. What is decoded was written by ourselves, but a file may be
//! damaged: every length is checked against what is left, nothing is allocated on a length's word.

use std::collections::HashMap;

use crate::counts::BUCKETS;
use crate::{Counts, Series};

/// The version of both encodings. An older reader refuses a newer one.
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("measurements of format {0}; this binary knows format 1: start the newer one")]
    Version(u8),
    #[error("measurements are cut short or damaged: {0}")]
    Damaged(&'static str),
}

/// One cell, complete in itself.
pub fn encode_cell(series: &Series, counts: &Counts) -> Vec<u8> {
    let mut out = vec![VERSION];
    for text in texts(series) {
        put_bytes(&mut out, text.as_bytes());
    }
    put_outcome(&mut out, series);
    put_counts(&mut out, counts);
    out
}

/// # Errors
/// When the bytes are not a cell of a version known here.
pub fn decode_cell(bytes: &[u8]) -> Result<(Series, Counts), DecodeError> {
    let mut input = Input::versioned(bytes)?;
    let mut text = || input.text().map(str::to_owned);
    let mut series = Series {
        caller: text()?,
        service: text()?,
        version: text()?,
        route: text()?,
        tls: text()?,
        direction: text()?,
        ..Series::default()
    };
    (series.code, series.grpc_status) = input.outcome()?;
    let counts = input.counts()?;
    input.end()?;
    Ok((series, counts))
}

fn texts(series: &Series) -> [&str; 6] {
    [&series.caller, &series.service, &series.version, &series.route, &series.tls, &series.direction]
}

fn put_outcome(out: &mut Vec<u8>, series: &Series) {
    put(out, u64::from(series.code));
    let status = i64::from(series.grpc_status);
    put(out, ((status << 1) ^ (status >> 63)) as u64);
}

/// The counts alone, as cells in memory are kept.
pub(crate) fn pack(counts: &Counts) -> Box<[u8]> {
    let mut out = Vec::with_capacity(12 + counts.durations.len() * 3);
    put_counts(&mut out, counts);
    out.into_boxed_slice()
}

/// Calls `pair` for each duration pair of packed counts; the other fields come back.
pub(crate) fn unpack(bytes: &[u8], pair: impl FnMut(u32, u64)) -> Result<Counts, DecodeError> {
    Input { rest: bytes }.counts_into(pair)
}

pub(crate) fn unpack_whole(bytes: &[u8]) -> Result<Counts, DecodeError> {
    Input { rest: bytes }.counts()
}

fn put_counts(out: &mut Vec<u8>, counts: &Counts) {
    for number in [counts.requests, counts.errors, counts.request_bytes, counts.response_bytes] {
        put(out, number);
    }
    put(out, counts.durations.len() as u64);
    let mut last = 0;
    for (index, count) in &counts.durations {
        put(out, u64::from(index.wrapping_sub(last)));
        put(out, *count);
        last = *index;
    }
}

/// A window's cells as bytes: start, string table, cells.
pub(crate) fn encode_window<'a>(
    resolution: u8,
    start: u64,
    cells: impl Iterator<Item = (&'a Series, &'a [u8])>,
) -> Vec<u8> {
    let mut places: HashMap<&str, u64> = HashMap::new();
    let mut table: Vec<&str> = Vec::new();
    let mut body = Vec::new();
    let mut count = 0_u64;
    for (series, packed) in cells {
        for text in texts(series) {
            let place = *places.entry(text).or_insert_with(|| {
                table.push(text);
                table.len() as u64 - 1
            });
            put(&mut body, place);
        }
        put_outcome(&mut body, series);
        put_bytes(&mut body, packed);
        count += 1;
    }
    let mut out = vec![VERSION, resolution];
    put(&mut out, start);
    put(&mut out, table.len() as u64);
    for text in table {
        put_bytes(&mut out, text.as_bytes());
    }
    put(&mut out, count);
    out.extend_from_slice(&body);
    out
}

pub(crate) struct DecodedWindow {
    pub resolution: u8,
    pub start: u64,
    pub cells: Vec<(Series, Counts)>,
}

pub(crate) fn decode_window(bytes: &[u8]) -> Result<DecodedWindow, DecodeError> {
    let mut input = Input::versioned(bytes)?;
    let resolution = input.byte()?;
    let start = input.number()?;
    let mut table = Vec::new();
    for _ in 0..input.number()? {
        table.push(input.text()?);
    }
    let mut cells = Vec::new();
    for _ in 0..input.number()? {
        let mut text = || -> Result<String, DecodeError> {
            let place = usize::try_from(input.number()?).ok();
            let text = place.and_then(|place| table.get(place));
            text.map(|text| (*text).to_owned()).ok_or(DecodeError::Damaged("a string of no table"))
        };
        let mut series = Series {
            caller: text()?,
            service: text()?,
            version: text()?,
            route: text()?,
            tls: text()?,
            direction: text()?,
            ..Series::default()
        };
        (series.code, series.grpc_status) = input.outcome()?;
        let mut packed = Input { rest: input.bytes()? };
        let counts = packed.counts()?;
        packed.end()?;
        cells.push((series, counts));
    }
    input.end()?;
    Ok(DecodedWindow { resolution, start, cells })
}

pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn versioned(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Self { rest: bytes };
        match input.byte()? {
            VERSION => Ok(input),
            other => Err(DecodeError::Version(other)),
        }
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Damaged("it ends early"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Damaged("a number is too long"))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(DecodeError::Damaged("a length is beyond the end"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Damaged("a name is not UTF-8"))
    }

    pub fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Damaged("something follows the end")) }
    }

    fn outcome(&mut self) -> Result<(u32, i32), DecodeError> {
        let code = u32::try_from(self.number()?).map_err(|_| DecodeError::Damaged("a code is too large"))?;
        let status = self.number()?;
        let status = (status >> 1) as i64 ^ -((status & 1) as i64);
        let status = i32::try_from(status).map_err(|_| DecodeError::Damaged("a gRPC status is too large"))?;
        Ok((code, status))
    }

    fn counts(&mut self) -> Result<Counts, DecodeError> {
        let mut durations = Vec::new();
        let counts = self.counts_into(|index, count| durations.push((index, count)))?;
        Ok(Counts { durations, ..counts })
    }

    fn counts_into(&mut self, mut pair: impl FnMut(u32, u64)) -> Result<Counts, DecodeError> {
        let counts = Counts {
            requests: self.number()?,
            errors: self.number()?,
            request_bytes: self.number()?,
            response_bytes: self.number()?,
            durations: Vec::new(),
        };
        let mut index = 0_u64;
        for place in 0..self.number()? {
            let step = self.number()?;
            index = index.saturating_add(step);
            if index >= u64::from(BUCKETS) || (place > 0 && step == 0) {
                return Err(DecodeError::Damaged("a bucket is out of order"));
            }
            pair(index as u32, self.number()?);
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests;
