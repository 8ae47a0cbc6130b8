//! After the start, the start's pages leave memory.
//!
//! The binary holds a whole mesh, the kernel maps 64 KiB around each page that is touched, and the dynamic linker reads
//! megabytes of relocations: when a sidecar is ready, nearly all of the program counts as resident, though most of it
//! never runs or is read again. Giving those pages back costs a few hundred minor faults and leaves what traffic really
//! uses (`cargo xtask bench smoke`).
#![expect(unsafe_code, reason = "madvise on mapped files; the proof is at the call")]

use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Gives unchanged pages of the program and its libraries back to the page cache. Failing changes nothing.
pub fn clean_pages() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in clean(&smaps) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is a private mapping of a file that nobody may write to, and the kernel says that no page
        // of it differs from the file's; it stays so, as only a write could change that. MADV_DONTNEED
        // (`LinuxDontNeed`) drops such pages from the page table only; the next access reads them from the page cache
        // again, with the same bytes.
        if let Err(error) = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) } {
            tracing::debug!(%error, "the start's pages stay in memory");
        }
    }
}

/// The mappings of `/proc/self/smaps` whose pages all equal their file's. Relocated data is read-only too, but differs:
/// its pages count as anonymous, or as swapped.
fn clean(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    let (mut anonymous, mut swapped) = (None, None);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        match first {
            "Anonymous:" => anonymous = words.next(),
            "Swap:" => swapped = words.next(),
            // The last line of each mapping.
            "VmFlags:" => {
                let unchanged = (anonymous.take(), swapped.take()) == (Some("0"), Some("0"));
                found.extend(mapping.take().filter(|_| unchanged));
            }
            _ if !first.ends_with(':') => mapping = of_file(first, words),
            _ => {}
        }
    }
    found
}

/// The addresses of a mapping's first line, if it is a file's that nobody may write to.
fn of_file<'a>(range: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Range<usize>> {
    let permissions = words.next()?;
    let path = words.nth(3)?;
    if !matches!(permissions, "r--p" | "r-xp") || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::{clean, clean_pages};

    fn mapping(head: &str, anonymous: u32, swap: u32) -> String {
        format!(
            "{head}\nSize: 10 kB\nRss: 8 kB\nAnonymous:        {anonymous} kB\nSwap:   {swap} kB\nVmFlags: rd mr mw\n"
        )
    }

    #[test]
    fn only_unchanged_pages_of_files_are_given_back() {
        let code = "55d0c0a00000-55d0c1f00000 r-xp 00a00000 fe:00 131 /usr/bin/weft";
        let data = "55d0c0000000-55d0c0a00000 r--p 00000000 fe:00 131 /usr/bin/weft";
        let both = mapping(code, 0, 0) + &mapping(data, 0, 0);
        assert_eq!(clean(&both), [0x55d0c0a00000..0x55d0c1f00000, 0x55d0c0000000..0x55d0c0a00000]);
        for other in [
            mapping(data, 4, 0),
            mapping(data, 0, 4),
            mapping(&code.replace("r-xp", "rw-p"), 0, 0),
            mapping(&code.replace("r-xp", "rwxp"), 0, 0),
            mapping(&code.replace("r-xp", "r-xs"), 0, 0),
            mapping("7ffc-7ffd r-xp 00000000 00:00 0 [vdso]", 0, 0),
            mapping("7ffc-7ffd r--p 00000000 00:00 0", 0, 0),
            mapping("55d0 r-xp", 0, 0),
            mapping(code, 0, 0).replace("Anonymous", "Other"),
            mapping(code, 0, 0).replace("Swap", "Other"),
            String::new(),
        ] {
            assert!(clean(&other).is_empty(), "{other}");
        }
        // What one mapping says is not the next one's.
        let changed = mapping(data, 4, 0) + &mapping(code, 0, 0);
        assert_eq!(clean(&changed), std::slice::from_ref(&(0x55d0c0a00000..0x55d0c1f00000)));
    }

    #[test]
    fn the_program_runs_on_after_it() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(clean(&smaps).len() >= 2, "at least code and constants of the program");
        clean_pages();
        clean_pages();
    }
}
