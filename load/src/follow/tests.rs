use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::*;

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn only_what_is_added_is_read_and_only_complete_lines_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append(&path, "before\n");
    let mut follower = FileFollower::new(path.clone(), Start::End);
    assert_eq!(follower.poll().unwrap(), Vec::<String>::new());
    append(&path, "one\ntw");
    assert_eq!(follower.poll().unwrap(), ["one"]);
    append(&path, "o\r\n\nthree\n");
    assert_eq!(follower.poll().unwrap(), ["two", "three"]);
}

#[test]
fn a_rotation_loses_neither_the_end_of_the_old_file_nor_the_start_of_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append(&path, "1\n");
    let mut follower = FileFollower::new(path.clone(), Start::Beginning);
    assert_eq!(follower.poll().unwrap(), ["1"]);
    append(&path, "2\n");
    let rotated = folder.path().join("a.log.1");
    fs::rename(&path, &rotated).unwrap();
    append(&rotated, "3\nlast without line feed");
    append(&path, "4\n");
    assert_eq!(follower.poll().unwrap(), ["2", "3", "last without line feed", "4"]);
    append(&path, "5\n");
    assert_eq!(follower.poll().unwrap(), ["5"]);
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append(&path, "a long first line\npart");
    let mut follower = FileFollower::new(path.clone(), Start::Beginning);
    assert_eq!(follower.poll().unwrap(), ["a long first line"]);
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    append(&path, "new\n");
    assert_eq!(follower.poll().unwrap(), ["new"]);
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.log");
    let mut follower = FileFollower::new(path.clone(), Start::End);
    assert_eq!(follower.poll().unwrap(), Vec::<String>::new());
    append(&path, "hello\n");
    assert_eq!(follower.poll().unwrap(), ["hello"]);
}

#[test]
fn a_long_line_is_cut_at_a_character_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append(&path, &format!("x{}\nnext\n", "ü".repeat(MAX_LINE_BYTES)));
    let lines = FileFollower::new(path, Start::Beginning).poll().unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), MAX_LINE_BYTES - 1);
    assert!(lines[0].ends_with('ü'));
    assert_eq!(lines[1], "next");
}
