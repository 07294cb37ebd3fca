use super::{EntriesText, Entry, EntryKind, is_key, is_text};

#[test]
fn a_key_begins_with_a_letter_and_is_short_and_plain() {
    let longest = "k".repeat(128);
    for key in ["a", "a.b_c-9", longest.as_str()] {
        assert!(is_key(key), "{key}");
    }
    let too_long = "k".repeat(129);
    for key in ["", "9a", ".a", "A", "aB", "a b", "a/b", "a\n", "ä", "aä", too_long.as_str()] {
        assert!(!is_key(key), "{key}");
    }
}

#[test]
fn a_value_is_measured_in_bytes() {
    assert!(is_text("") && is_text(&"x".repeat(4_096)) && is_text(&"ä".repeat(2_048)));
    assert!(!is_text(&"x".repeat(4_097)) && !is_text(&"ä".repeat(2_049)) && !is_text("a\0"));
}

#[test]
fn entries_read_by_kind_without_empty_tags_and_none_reads_as_three_empty_lists() {
    let entry = |kind, key: &str, tag: &str| Entry {
        kind,
        key: key.to_owned(),
        value: "\"v\"".to_owned(),
        workload_tag: tag.to_owned(),
    };
    let entries =
        [entry(EntryKind::Report, "a", "w"), entry(EntryKind::Report, "b", ""), entry(EntryKind::Data, "c", "")];
    let text = EntriesText::render(7, &entries).unwrap();
    let expected = r#"{"metadata":[],"data":[{"key":"c","value":"\"v\""}],"reports":[{"key":"a","value":"\"v\"","workload_tag":"w"},{"key":"b","value":"\"v\""}]}"#;
    assert_eq!((text.version(), text.as_str()), (7, expected));
    assert_eq!(EntriesText::default().as_str(), EntriesText::render(0, &[]).unwrap().as_str());
}
