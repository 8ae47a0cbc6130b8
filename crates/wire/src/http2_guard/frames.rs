//! Finds the heads of frames in bytes that come in pieces.

use super::{DATA, Flood, HEADERS, PADDED};

/// RFC 9113 section 3.4.
const PREFACE_BYTES: u32 = 24;
const HEAD_BYTES: usize = 9;

/// What a frame's head says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    /// Bytes of the payload that are not padding.
    pub carried: u32,
}

/// Where in a direction's frames we are.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that are here.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u32,
    /// The frame whose padding's length is still to come.
    padded: Option<Frame>,
}

impl Frames {
    pub fn behind_preface() -> Frames {
        Frames { left: PREFACE_BYTES, ..Frames::default() }
    }

    /// Whether no frame is begun.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Goes through the bytes that follow those of the last call.
    #[inline]
    pub fn follow(
        &mut self,
        mut bytes: &[u8],
        mut on: impl FnMut(Frame) -> Result<(), Flood>,
    ) -> Result<(), Flood> {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                if let Some(mut frame) = self.padded.take() {
                    frame.carried = (self.left - 1).saturating_sub(u32::from(*first));
                    on(frame)?;
                }
                match bytes.get(self.left as usize..) {
                    Some(rest) => {
                        self.left = 0;
                        bytes = rest;
                        continue;
                    }
                    None => {
                        self.left -= u32::try_from(bytes.len()).unwrap_or(self.left);
                        return Ok(());
                    }
                }
            }
            let head = match bytes.split_first_chunk::<HEAD_BYTES>() {
                Some((head, rest)) if self.have == 0 => {
                    bytes = rest;
                    *head
                }
                _ => match self.piece(&mut bytes) {
                    Some(head) => head,
                    None => return Ok(()),
                },
            };
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
            self.left = u32::from_be_bytes([0, l0, l1, l2]);
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            let frame = Frame { kind, flags, stream, carried: self.left };
            if flags & PADDED != 0 && matches!(kind, DATA | HEADERS) && self.left > 0 {
                self.padded = Some(frame);
            } else {
                on(frame)?;
            }
        }
        Ok(())
    }

    /// A head that comes in pieces.
    #[cold]
    fn piece(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEAD_BYTES]> {
        let (now, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.have));
        self.head[self.have..self.have + now.len()].copy_from_slice(now);
        self.have += now.len();
        *bytes = rest;
        (self.have == HEAD_BYTES).then(|| {
            self.have = 0;
            self.head
        })
    }
}
