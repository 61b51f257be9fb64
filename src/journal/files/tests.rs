//! Days, sizes, ages, torn lines, and folders that are not what they were.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::units::DiskSize;

const DAY_MS: u64 = 86_400_000;
/// 2026-04-22T00:00:00Z
const START_MS: u64 = 1_776_816_000_000;

fn options(folder: &Path) -> Options {
    Options {
        folder: folder.join("journal"),
        keep: Duration::from_hours(10 * 24),
        max_bytes: 1000,
        file_bytes: 100,
        min_free: DiskSize::Bytes(0),
    }
}

fn in_folder(files: &Files) -> Vec<(String, u64)> {
    let found = list(&files.options.folder).unwrap().into_iter();
    let found: Vec<_> = found.map(|(name, size)| (name.to_string(), size)).collect();
    assert_eq!(files.bytes(), found.iter().map(|(_, size)| size).sum::<u64>());
    found
}

fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

fn line(size: usize) -> Vec<u8> {
    let mut line = vec![b'x'; size - 1];
    line.push(b'\n');
    line
}

#[test]
fn a_file_is_begun_each_day_and_when_one_is_large() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    for (size, day) in [(60, 0), (40, 0), (1, 0), (99, 0), (150, 0), (10, 1)] {
        files.append(&line(size), START_MS + day * DAY_MS).unwrap();
    }
    let expected = [
        ("2026-04-22-0000.jsonl", 100),
        ("2026-04-22-0001.jsonl", 100),
        ("2026-04-22-0002.jsonl", 150),
        ("2026-04-23-0000.jsonl", 10),
    ];
    assert_eq!(in_folder(&files), named(&expected));
    // A clock that goes back: the day's last file goes on, or a new one of that day is begun.
    files.append(&line(10), START_MS + DAY_MS - 1).unwrap();
    files.append(&line(10), START_MS - 1).unwrap();
    files.append(&line(10), START_MS + DAY_MS).unwrap();
    let expected = [
        ("2026-04-21-0000.jsonl", 10),
        ("2026-04-22-0000.jsonl", 100),
        ("2026-04-22-0001.jsonl", 100),
        ("2026-04-22-0002.jsonl", 150),
        ("2026-04-22-0003.jsonl", 10),
        ("2026-04-23-0000.jsonl", 20),
    ];
    assert_eq!(in_folder(&files), named(&expected));
}

#[test]
fn only_the_own_user_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    files.append(&line(10), START_MS).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.options.folder), 0o700);
    assert_eq!(mode(&files.options.folder.join("2026-04-22-0000.jsonl")), 0o600);
}

#[test]
fn the_oldest_go_when_it_is_too_much_even_the_one_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    for number in 0..40 {
        files.append(&line(50), START_MS + number).unwrap();
        assert!(files.bytes() <= 1000, "{}", files.bytes());
    }
    let left = in_folder(&files);
    assert_eq!(left.len(), 10);
    assert_eq!(left[0].0, "2026-04-22-0010.jsonl");
    // Of an older day, by a clock that went back: it is the first to go.
    files.append(&line(50), START_MS - DAY_MS).unwrap();
    files.append(&line(100), START_MS).unwrap();
    assert!(in_folder(&files).iter().all(|(name, _)| name.starts_with("2026-04-22")));
}

#[test]
fn files_go_when_all_of_them_is_older_than_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    for day in 0..3 {
        files.append(&line(10), START_MS + day * DAY_MS).unwrap();
    }
    files.expire(START_MS + 11 * DAY_MS - 1).unwrap();
    assert_eq!(in_folder(&files).len(), 3);
    files.expire(START_MS + 11 * DAY_MS).unwrap();
    assert_eq!(in_folder(&files)[0].0, "2026-04-23-0000.jsonl");
    files.expire(START_MS + 30 * DAY_MS).unwrap();
    assert_eq!(in_folder(&files), []);
    files.append(&line(10), START_MS + 30 * DAY_MS).unwrap();
    assert_eq!(in_folder(&files).len(), 1);
    files.expire(0).unwrap();
    assert_eq!(in_folder(&files).len(), 1, "before 1970 there is nothing");
}

#[test]
fn a_torn_line_is_ended_before_the_next_and_a_whole_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = options(folder.path()).folder.join("2026-04-22-0000.jsonl");
    Files::new(options(folder.path())).append(b"one\n", START_MS).unwrap();
    Files::new(options(folder.path())).append(b"two\n", START_MS).unwrap();
    fs::write(&first, "one\ntwo\nto").unwrap();
    let mut files = Files::new(options(folder.path()));
    files.append(b"three\n", START_MS).unwrap();
    assert_eq!(fs::read_to_string(&first).unwrap(), "one\ntwo\nto\nthree\n");
    assert_eq!(in_folder(&files), named(&[("2026-04-22-0000.jsonl", 17)]));
}

#[test]
fn whoever_removes_files_or_the_folder_gets_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    for _ in 0..3 {
        files.append(&line(60), START_MS).unwrap();
    }
    fs::remove_dir_all(&files.options.folder).unwrap();
    files.append(&line(60), START_MS).unwrap();
    assert_eq!(in_folder(&files), named(&[("2026-04-22-0003.jsonl", 60)]));
    fs::remove_file(files.options.folder.join("2026-04-22-0003.jsonl")).unwrap();
    files.append(&line(40), START_MS).unwrap();
    assert_eq!(in_folder(&files), named(&[("2026-04-22-0003.jsonl", 40)]));
}

#[test]
fn a_folder_that_cannot_be_one_is_an_error_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    fs::write(&files.options.folder, "no folder").unwrap();
    files.append(&line(60), START_MS).unwrap_err();
    fs::remove_file(&files.options.folder).unwrap();
    files.append(&line(60), START_MS).unwrap();
    assert_eq!(in_folder(&files).len(), 1);
}

#[test]
fn below_min_free_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.min_free = DiskSize::Bytes(u64::MAX);
    let mut files = Files::new(options);
    let error = files.append(&line(60), START_MS).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    files.options.min_free = DiskSize::Bytes(1);
    files.append(&line(60), START_MS).unwrap();
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::new(options(folder.path()));
    files.append(&line(10), START_MS).unwrap();
    let other = files.options.folder.join("notes.txt");
    fs::write(&other, "mine").unwrap();
    let mut files = Files::new(options(folder.path()));
    files.expire(START_MS + 100 * DAY_MS).unwrap();
    assert!(other.exists() && in_folder(&files).is_empty());
}
