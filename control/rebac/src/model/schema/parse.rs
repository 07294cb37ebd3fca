//! From text to declarations. Names are checked for their form only; what they mean is the compiler's matter.

use super::{Class, SchemaError, SchemaProblem};

/// A declared kind.
pub(super) struct KindText {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) singleton: Option<String>,
    pub(super) definitions: Vec<DefinitionText>,
}

/// A declared relation or permission.
pub(super) struct DefinitionText {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) class: Option<Class>,
    pub(super) subjects: Vec<(String, Option<String>)>,
    pub(super) rule: Vec<TermText>,
}

/// A declared term.
#[derive(PartialEq, Eq)]
pub(super) enum TermText {
    Own,
    Name(String),
    Arrow(String, String),
}

type Parsed<T> = Result<T, SchemaProblem>;

pub(super) fn parse(text: &str) -> Result<Vec<KindText>, SchemaError> {
    let mut kinds: Vec<KindText> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        take_line(&mut kinds, line, content).map_err(|problem| SchemaError { line, problem })?;
    }
    Ok(kinds)
}

fn take_line(kinds: &mut Vec<KindText>, line: usize, content: &str) -> Parsed<()> {
    let (word, rest) = content.split_once(' ').unwrap_or((content, ""));
    let rest = rest.trim();
    if word == "kind" {
        let (name, singleton) = kind_line(rest)?;
        kinds.push(KindText { line, name, singleton, definitions: Vec::new() });
        return Ok(());
    }
    let mut definition = match Class::ALL.into_iter().find(|class| class.as_str() == word) {
        Some(class) => relation(rest, class)?,
        None if word == "permission" => permission(rest)?,
        None => return Err(SchemaProblem::UnknownWord(word.to_owned())),
    };
    definition.line = line;
    kinds.last_mut().ok_or(SchemaProblem::OutsideKind)?.definitions.push(definition);
    Ok(())
}

fn kind_line(rest: &str) -> Parsed<(String, Option<String>)> {
    let Some((name, more)) = rest.split_once(' ') else { return Ok((name(rest)?, None)) };
    let id = more
        .trim()
        .strip_prefix("singleton \"")
        .and_then(|id| id.strip_suffix('"'))
        .ok_or(SchemaProblem::Expected("`singleton \"<id>\"` or nothing behind the kind's name"))?;
    Ok((self::name(name)?, Some(self::name(id)?)))
}

fn relation(rest: &str, class: Class) -> Parsed<DefinitionText> {
    let (head, tail) = rest.split_once(':').ok_or(SchemaProblem::Expected("`:` and the relation's subjects"))?;
    let (subjects, rule) = match tail.split_once('=') {
        Some((subjects, rule)) => (subjects, self::rule(rule)?),
        None => (tail, Vec::new()),
    };
    let mut listed = Vec::new();
    for part in subjects.split(',') {
        let subject = subject(part.trim())?;
        if listed.contains(&subject) {
            return Err(SchemaProblem::ListedTwice(part.trim().to_owned()));
        }
        listed.push(subject);
    }
    Ok(DefinitionText { line: 0, name: name(head.trim())?, class: Some(class), subjects: listed, rule })
}

fn permission(rest: &str) -> Parsed<DefinitionText> {
    let (head, rule) = rest.split_once('=').ok_or(SchemaProblem::Expected("`=` and the permission's rule"))?;
    let rule = self::rule(rule)?;
    Ok(DefinitionText { line: 0, name: name(head.trim())?, class: None, subjects: Vec::new(), rule })
}

fn subject(text: &str) -> Parsed<(String, Option<String>)> {
    match text.split_once('#') {
        Some((kind, userset)) => Ok((name(kind)?, Some(name(userset)?))),
        None => Ok((name(text)?, None)),
    }
}

fn rule(text: &str) -> Parsed<Vec<TermText>> {
    let mut terms = Vec::new();
    for part in text.split('|') {
        let part = part.trim();
        let term = match part.split_once("->") {
            Some((relation, target)) => TermText::Arrow(name(relation)?, name(target)?),
            None if part == "self" => TermText::Own,
            None => TermText::Name(name(part)?),
        };
        if terms.contains(&term) {
            return Err(SchemaProblem::ListedTwice(part.to_owned()));
        }
        terms.push(term);
    }
    Ok(terms)
}

fn name(text: &str) -> Parsed<String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
    if first && rest && text.len() <= 63 && text != "self" {
        Ok(text.to_owned())
    } else {
        Err(SchemaProblem::BadName(text.to_owned()))
    }
}
