//! The rules of names, and turning an error into a sentence.

/// An error as a sentence for people: a capital letter and a full stop.
pub(crate) fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}

/// A name: trimmed, 1 to `max` Unicode scalar values, no control characters.
pub(crate) fn name(text: &str, max: usize) -> Option<String> {
    let trimmed = text.trim();
    let fits = (1..=max).contains(&trimmed.chars().count()) && !trimmed.chars().any(char::is_control);
    fits.then(|| trimmed.to_owned())
}

/// A description: empty, or at most 1,024 scalar values that are not white space alone. Line breaks are allowed.
pub(crate) fn description(text: &str) -> Option<String> {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let fits = text.chars().count() <= 1_024 && !text.chars().any(control);
    let blank = !text.is_empty() && text.trim().is_empty();
    (fits && !blank).then(|| text.to_owned())
}

/// A slug: `^[a-z0-9]+(-[a-z0-9]+)*$`, 1 to 64 characters.
pub(crate) fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}
