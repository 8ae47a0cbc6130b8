//! After the start, the start's code leaves memory.
//!
//! The binary holds a whole mesh, and the kernel maps 64 KiB around each page that is touched: when a sidecar is
//! ready, nearly all of the program's text counts as resident, though most of it never runs again. Giving the text
//! mapping back once costs a few hundred minor faults and leaves what traffic really uses: 16 MiB became 6 for an idle
//! sidecar (`cargo xtask bench smoke`).
#![expect(unsafe_code, reason = "madvise on our own text; the proof is at the call")]

use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Gives the pages of the program's own code back to the page cache. Failing changes nothing.
pub fn text() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let Some(program) = program.to_str() else { return };
    for range in maps.lines().filter_map(|line| code_of(line, program)) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is a mapping of this program's file, private, readable and executable and not writable, so
        // every page of it equals the file's. MADV_DONTNEED (`LinuxDontNeed`) drops such pages from the page table only; the next access reads
        // them from the page cache again, with the same bytes.
        if let Err(error) = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) } {
            tracing::debug!(%error, "the start's code stays in memory");
        }
    }
}

/// The address range of a line of `/proc/self/maps`, when it is this program's code and nothing else. Relocated data
/// is read-only too, but differs from the file: the execute bit tells them apart.
fn code_of(line: &str, program: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    if permissions != "r-xp" || words.nth(3)? != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::{code_of, text};

    #[test]
    fn only_the_program_s_own_code_is_given_back() {
        let line = "55d0c0a00000-55d0c1f00000 r-xp 00a00000 fe:00 131 /usr/bin/weft";
        assert_eq!(code_of(line, "/usr/bin/weft"), Some(0x55d0c0a00000..0x55d0c1f00000));
        for other in [
            line.replace("r-xp", "r--p"),
            line.replace("r-xp", "rwxp"),
            line.replace("/usr/bin/weft", "/lib/libc.so.6"),
            "7ffc-7ffd r-xp 00000000 00:00 0 [vdso]".to_owned(),
            "55d0 r-xp".to_owned(),
            String::new(),
        ] {
            assert_eq!(code_of(&other, "/usr/bin/weft"), None, "{other}");
        }
    }

    #[test]
    fn the_program_runs_on_after_it() {
        text();
        text();
    }
}
