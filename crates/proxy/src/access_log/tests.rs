use std::{
    fs,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use weft_routing::AccessLogTarget;

use super::*;

fn log(path: &Path) -> AccessLogConfig {
    AccessLogConfig {
        target: AccessLogTarget::File(path.to_owned()),
        format: AccessLogFormat::Text("%REQ(:PATH)%".into()),
    }
}

fn line(log: &AccessLog, path: &str) {
    log.write(&Record { path, ..Record::default() });
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn lines_of_two_workers_come_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (writer, written) = Writer::start().unwrap();
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let (writer, path) = (writer.clone(), path.clone());
            std::thread::spawn(move || {
                let logs = AccessLogs::new(writer);
                let open = logs.open(&[log(&path)]);
                for number in 0..20_000 {
                    line(&open[0], &format!("/{worker}/{number}"));
                    if number % 1000 == 0 {
                        logs.flush();
                    }
                    // As much of a worker's time as its requests would take: nothing is to be dropped here.
                    if number % 5000 == 4999 {
                        wait_for("the disk", || {
                            logs.flush();
                            lines(&path) > number / 2
                        });
                    }
                }
                logs.finish();
                assert_eq!(logs.lost(), 0);
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    drop(writer);
    written.wait();
    let text = fs::read_to_string(&path).unwrap();
    for worker in 0..2 {
        let of_worker = text.lines().filter(|line| line.starts_with(&format!("/{worker}/")));
        assert!(of_worker.eq((0..20_000).map(|number| format!("/{worker}/{number}"))), "{worker}");
    }
    assert_eq!(text.lines().count(), 40_000);
}

/// A pipe that nobody reads stands for a disk that stands still.
#[test]
fn a_stalled_disk_costs_lines_that_are_counted_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let (writer, written) = Writer::start().unwrap();
    let logs = AccessLogs::new(writer.clone());
    let open = logs.open(&[log(&path)]);
    const LINES: u64 = 40_000;
    let long = "x".repeat(100);
    for _ in 0..LINES {
        // It would never come back if it waited for the disk.
        line(&open[0], &long);
    }
    let lost = logs.lost();
    let kept = (BUFFER_BYTES_MAX + 2 * BUFFER_BYTES) as u64 / 101;
    assert!(lost > LINES - kept - 400, "{lost} of {LINES}");
    assert!(lost < LINES - BUFFER_BYTES_MAX as u64 / 101 + 400, "{lost} of {LINES}");
    // And when the disk comes round, all that was kept is there.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    wait_for("the buffers", || {
        logs.flush();
        open[0].waiting.borrow().is_empty()
    });
    line(&open[0], "/last");
    logs.finish();
    drop((logs, open, writer));
    written.wait();
    let text = reader.join().unwrap();
    assert_eq!(text.lines().count() as u64, LINES - lost + 1);
    assert!(text.lines().all(|line| line == long || line == "/last"), "a line is torn");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
    let (writer, written) = Writer::start().unwrap();
    let logs = AccessLogs::new(writer.clone());
    let open = logs.open(&[log(&path)]);
    for (number, expected) in [(1, 1), (2, 2), (3, 1)] {
        if number == 2 {
            fs::rename(&path, &moved).unwrap();
        }
        if number == 3 {
            writer.reopen();
        }
        line(&open[0], &format!("/{number}"));
        logs.flush();
        let at = if number == 2 { &moved } else { &path };
        wait_for("a line", || lines(at) == expected);
    }
    assert_eq!(fs::read_to_string(&moved).unwrap(), "/1\n/2\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "/3\n");
    drop((logs, open, writer));
    written.wait();
}

#[test]
fn what_cannot_be_opened_is_counted_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later/log");
    let (writer, written) = Writer::start().unwrap();
    let logs = AccessLogs::new(writer.clone());
    let open = logs.open(&[log(&path)]);
    line(&open[0], "/lost");
    logs.flush();
    let mut lost = 0;
    wait_for("the loss", || {
        lost += logs.lost();
        lost == 1
    });
    fs::create_dir(dir.path().join("later")).unwrap();
    wait_for("the file", || {
        line(&open[0], "/kept");
        logs.flush();
        lines(&path) > 0
    });
    drop((logs, open, writer));
    written.wait();
    assert!(fs::read_to_string(&path).unwrap().lines().all(|line| line == "/kept"));
}

/// Two buffers that change places: no more memory is asked for, however many lines there are.
#[test]
fn buffers_change_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (writer, written) = Writer::start().unwrap();
    let logs = AccessLogs::new(writer.clone());
    let open = logs.open(&[log(&path)]);
    let mut seen = std::collections::HashSet::new();
    for number in 1..=50 {
        line(&open[0], &"x".repeat(1000));
        wait_for("a line", || {
            logs.flush(); // its buffer may still be with the writer
            lines(&path) == number
        });
        if number > 2 {
            let waiting = open[0].waiting.borrow();
            assert!(waiting.is_empty());
            seen.insert((waiting.as_ptr() as usize, waiting.capacity()));
        }
    }
    assert!(seen.len() <= 4, "{seen:?}");
    drop((logs, open, writer));
    written.wait();
}
