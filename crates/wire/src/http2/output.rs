//! What is to be written: frames in one piece of memory, between them the large parts of bodies where they lie.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Data shorter than this is copied between the frames.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Written bytes in front of others are removed when there are so many.
const WRITTEN_BYTES_MAX: usize = 64 * 1024;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub struct Output {
    flat: Vec<u8>,
    /// How much of `flat` is written.
    written: usize,
    /// Data, and where in `flat` it belongs.
    data: VecDeque<(usize, Bytes)>,
    data_bytes: usize,
    passed: u64,
}

impl Output {
    /// Bytes written since the beginning.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.flat.len() && self.data.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.flat.len() - self.written + self.data_bytes
    }

    /// The end of the frames.
    pub fn flat(&mut self) -> &mut Vec<u8> {
        &mut self.flat
    }

    /// Whether there is no memory for frames yet: one lent by [`lend`](Output::lend) saves an allocation.
    pub fn is_bare(&self) -> bool {
        self.flat.capacity() == 0
    }

    /// Gives memory for frames, empty.
    pub fn lend(&mut self, memory: Vec<u8>) {
        if self.is_bare() {
            self.flat = memory;
        }
    }

    /// Takes the memory back when all is written.
    pub fn take_back(&mut self) -> Option<Vec<u8>> {
        if !self.is_empty() || self.is_bare() {
            return None;
        }
        self.written = 0;
        self.flat.clear();
        Some(std::mem::take(&mut self.flat))
    }

    pub fn push_data(&mut self, data: Bytes) {
        if data.len() < COPIED_BYTES_MAX {
            self.flat.extend_from_slice(&data);
        } else {
            self.data_bytes += data.len();
            self.data.push_back((self.flat.len(), data));
        }
    }

    /// The next parts to write, in their order; how many of `slices` are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut from, mut used) = (self.written, 0);
        let mut add = |part: &'a [u8]| {
            if part.is_empty() {
                return true;
            }
            let Some(slice) = slices.get_mut(used) else { return false };
            *slice = IoSlice::new(part);
            used += 1;
            true
        };
        for (at, data) in &self.data {
            if !add(self.flat.get(from..*at).unwrap_or_default()) || !add(data) {
                return used;
            }
            from = *at;
        }
        add(self.flat.get(from..).unwrap_or_default());
        used
    }

    /// So many of the bytes are written.
    pub fn advance(&mut self, mut count: usize) {
        self.passed += count as u64;
        while count > 0 {
            let next = self.data.front().map_or(self.flat.len(), |(at, _)| *at);
            let flat = count.min(next - self.written);
            self.written += flat;
            count -= flat;
            let Some((_, data)) = self.data.front_mut().filter(|_| self.written == next) else { break };
            let part = count.min(data.len());
            data.advance(part);
            self.data_bytes -= part;
            count -= part;
            if data.is_empty() {
                self.data.pop_front();
            } else {
                break;
            }
        }
        if self.is_empty() {
            self.flat.clear();
            self.written = 0;
        } else if self.written > WRITTEN_BYTES_MAX {
            self.flat.drain(..self.written);
            for (at, _) in &mut self.data {
                *at -= self.written;
            }
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = output.slices(&mut slices);
            let flat: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
            let count = flat.len().min(step);
            all.extend_from_slice(&flat[..count]);
            let before = output.len();
            output.advance(count);
            assert_eq!(output.len(), before - count);
        }
        all
    }

    #[test]
    fn the_order_stays_however_it_is_written() {
        let large = |byte: u8| Bytes::from(vec![byte; COPIED_BYTES_MAX + 7]);
        for step in [1, 3, 4096, 5000, usize::MAX] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (frame, data) in
                [(b"one", large(1)), (b"two", large(2)), (b"six", Bytes::from_static(b"small"))]
            {
                output.flat().extend_from_slice(frame);
                output.push_data(data.clone());
                expected.extend_from_slice(frame);
                expected.extend_from_slice(&data);
            }
            output.push_data(large(3));
            expected.extend_from_slice(&large(3));
            assert_eq!(written(&mut output, step), expected, "in steps of {step}");
            assert!(output.take_back().is_some() && output.is_bare());
        }
    }

    #[test]
    fn what_is_written_makes_room() {
        let mut output = Output::default();
        for round in 0..100_u8 {
            output.flat().extend_from_slice(&[round; 4096]);
            output.push_data(Bytes::from(vec![round; 5000]));
            output.advance(4096 + 5000 - 1);
            output.advance(1);
            output.flat().push(round);
            output.advance(0);
            assert!(output.flat.len() < 2 * WRITTEN_BYTES_MAX);
            output.advance(1);
        }
        assert!(output.is_empty());
    }
}
