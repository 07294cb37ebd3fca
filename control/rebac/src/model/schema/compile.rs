//! From declarations to a schema: names are interned, resolved and checked, and each rule is flattened to what a walk
//! needs.

use std::collections::HashMap;

use super::parse::{DefinitionText, KindText, TermText};
use super::{Definition, Expansion, Kind, KindId, MAX_SYMBOLS, NameId, Schema, SchemaError, SchemaProblem};
use super::{SubjectForm, Term};

/// A name on a kind, as usersets have one.
type Userset = (KindId, NameId);

/// The declarations with interned names.
struct Symbols<'a> {
    texts: &'a [KindText],
    kinds: HashMap<String, KindId>,
    names: Vec<String>,
    by_name: HashMap<String, NameId>,
}

pub(super) fn compile(texts: Vec<KindText>) -> Result<Schema, SchemaError> {
    let symbols = Symbols::intern(&texts)?;
    let mut kinds = Vec::with_capacity(texts.len());
    for text in &texts {
        let mut kind = Kind {
            name: text.name.clone(),
            singleton: text.singleton.clone(),
            definitions: Vec::with_capacity(text.definitions.len()),
            places: vec![None; symbols.names.len()],
            arrows: Vec::new(),
        };
        for definition in &text.definitions {
            let compiled = symbols.definition(text, definition).map_err(|problem| at(definition.line, problem))?;
            let place = kind.places.get_mut(usize::from(compiled.name.0));
            *place.ok_or_else(|| at(definition.line, SchemaProblem::TooMany))? =
                u8::try_from(kind.definitions.len()).ok();
            kind.definitions.push(compiled);
        }
        flatten(&mut kind, text, &symbols.names)?;
        kinds.push(kind);
    }
    let plain = mark_plain(&mut kinds);
    let Symbols { kinds: kinds_by_name, names, by_name, .. } = symbols;
    Ok(Schema { kinds, names, plain, kinds_by_name, names_by_name: by_name })
}

/// Finds the relations that usersets are made of and whose tuples alone say who belongs: without a rule, and over
/// usersets of the same sort only.
fn mark_plain(kinds: &mut [Kind]) -> Vec<Userset> {
    let definitions = || kinds.iter().flat_map(|kind| &kind.definitions);
    let userset = |form: &SubjectForm| Some((form.kind, form.name?));
    let usersets: Vec<_> = definitions().flat_map(|definition| &definition.subjects).filter_map(userset).collect();
    let all = (0..).map(KindId).zip(&*kinds).flat_map(|(id, kind)| kind.definitions.iter().map(move |one| (id, one)));
    let bare = all.filter(|(_, one)| one.class.is_some() && one.rule.is_empty());
    let mut plain: Vec<(Userset, Vec<Userset>)> = bare
        .map(|(id, one)| ((id, one.name), one.subjects.iter().filter_map(userset).collect()))
        .filter(|(place, _)| usersets.contains(place))
        .collect();
    loop {
        let known: Vec<Userset> = plain.iter().map(|(place, _)| *place).collect();
        plain.retain(|(_, over)| over.iter().all(|userset| known.contains(userset)));
        if plain.len() == known.len() {
            for (id, name) in &known {
                let kind = kinds.get_mut(usize::from(id.0));
                let definition = kind.and_then(|kind| kind.definitions.iter_mut().find(|one| one.name == *name));
                if let Some(definition) = definition {
                    definition.plain = true;
                }
            }
            return known;
        }
    }
}

const fn at(line: usize, problem: SchemaProblem) -> SchemaError {
    SchemaError { line, problem }
}

// === impl Symbols ===

impl<'a> Symbols<'a> {
    fn intern(texts: &'a [KindText]) -> Result<Self, SchemaError> {
        // Place 0 stays empty, so that a 0 in an edge can mean "no name".
        let mut symbols = Self { texts, kinds: HashMap::new(), names: vec![String::new()], by_name: HashMap::new() };
        for (place, text) in texts.iter().enumerate() {
            let id = u8::try_from(place).ok().filter(|id| usize::from(*id) < MAX_SYMBOLS);
            let id = id.ok_or_else(|| at(text.line, SchemaProblem::TooMany))?;
            if symbols.kinds.insert(text.name.clone(), KindId(id)).is_some() {
                return Err(at(text.line, SchemaProblem::KindTwice(text.name.clone())));
            }
            for (place, definition) in text.definitions.iter().enumerate() {
                if text.definitions.iter().take(place).any(|earlier| earlier.name == definition.name) {
                    return Err(at(definition.line, SchemaProblem::NameTwice(definition.name.clone())));
                }
                if symbols.by_name.contains_key(&definition.name) {
                    continue;
                }
                let id = u8::try_from(symbols.names.len()).ok().filter(|id| usize::from(*id) <= MAX_SYMBOLS);
                let id = id.ok_or_else(|| at(definition.line, SchemaProblem::TooMany))?;
                symbols.names.push(definition.name.clone());
                symbols.by_name.insert(definition.name.clone(), NameId(id));
            }
        }
        Ok(symbols)
    }

    fn definition(&self, kind: &KindText, text: &DefinitionText) -> Result<Definition, SchemaProblem> {
        let mut subjects = Vec::with_capacity(text.subjects.len());
        for (subject, userset) in &text.subjects {
            let id = *self.kinds.get(subject).ok_or_else(|| SchemaProblem::NoKind(subject.clone()))?;
            let name = match userset {
                Some(userset) => Some(self.name_on(self.text_of(subject)?, userset)?),
                None => None,
            };
            subjects.push(SubjectForm { kind: id, name });
        }
        let rule = text.rule.iter().map(|term| self.term(kind, term)).collect::<Result<Vec<_>, _>>()?;
        Ok(Definition {
            name: self.name_on(kind, &text.name)?,
            class: text.class,
            subjects,
            rule,
            expansion: Expansion::default(),
            implied: Vec::new(),
            plain: false,
        })
    }

    fn term(&self, kind: &KindText, term: &TermText) -> Result<Term, SchemaProblem> {
        match term {
            TermText::Own => Ok(Term::Own),
            TermText::Name(name) => Ok(Term::Name(self.name_on(kind, name)?)),
            TermText::Arrow(relation, target) => {
                let over = self.name_on(kind, relation)?;
                let followed = kind.definitions.iter().find(|definition| definition.name == *relation);
                let followed = followed.filter(|definition| definition.class.is_some());
                let arrow = || format!("{relation}->{target}");
                let followed = followed.ok_or_else(|| SchemaProblem::ArrowOverPermission(arrow()))?;
                if !followed.rule.is_empty() {
                    return Err(SchemaProblem::ArrowOverPermission(arrow()));
                }
                let mut to = NameId(0);
                for (subject, userset) in &followed.subjects {
                    if userset.is_some() {
                        return Err(SchemaProblem::ArrowOverUserset(arrow()));
                    }
                    to = self.name_on(self.text_of(subject)?, target)?;
                }
                Ok(Term::Arrow(over, to))
            }
        }
    }

    fn text_of(&self, kind: &str) -> Result<&'a KindText, SchemaProblem> {
        self.texts.iter().find(|text| text.name == kind).ok_or_else(|| SchemaProblem::NoKind(kind.to_owned()))
    }

    fn name_on(&self, kind: &KindText, name: &str) -> Result<NameId, SchemaProblem> {
        let declared = kind.definitions.iter().any(|definition| definition.name == name);
        let missing = || SchemaProblem::NoName { kind: kind.name.clone(), name: name.to_owned() };
        self.by_name.get(name).copied().filter(|_| declared).ok_or_else(missing)
    }
}

/// Resolves every rule of a kind down to relations, arrows and identity, and turns the rules around.
fn flatten(kind: &mut Kind, text: &KindText, names: &[String]) -> Result<(), SchemaError> {
    let mut expansions = Vec::with_capacity(kind.definitions.len());
    for (definition, text) in kind.definitions.iter().zip(&text.definitions) {
        let (mut expansion, mut path) = (Expansion::default(), Vec::new());
        expand(kind, definition, &mut path, &mut expansion).map_err(|circle| {
            let name = names.get(usize::from(circle.0)).cloned().unwrap_or_default();
            at(text.line, SchemaProblem::Circle(name))
        })?;
        expansions.push((expansion, path));
    }
    let implied: Vec<Vec<NameId>> = kind
        .definitions
        .iter()
        .map(|from| {
            let follows = kind.definitions.iter().zip(&expansions).filter(|(_, (_, uses))| uses.contains(&from.name));
            follows.map(|(definition, _)| definition.name).collect()
        })
        .collect();
    for definition in &kind.definitions {
        for term in &definition.rule {
            let Term::Arrow(over, to) = term else { continue };
            match kind.arrows.iter_mut().find(|(relation, _)| relation == over) {
                Some((_, pairs)) => pairs.push((*to, definition.name)),
                None => kind.arrows.push((*over, vec![(*to, definition.name)])),
            }
        }
    }
    for ((definition, (expansion, _)), implied) in kind.definitions.iter_mut().zip(expansions).zip(implied) {
        definition.expansion = expansion;
        definition.implied = implied;
    }
    Ok(())
}

/// Adds what `definition` comes down to; `seen` ends as every name it uses, itself included.
fn expand(
    kind: &Kind,
    definition: &Definition,
    seen: &mut Vec<NameId>,
    expansion: &mut Expansion,
) -> Result<(), NameId> {
    fn walk(
        kind: &Kind,
        definition: &Definition,
        (path, seen): (&mut Vec<NameId>, &mut Vec<NameId>),
        expansion: &mut Expansion,
    ) -> Result<(), NameId> {
        if path.contains(&definition.name) {
            return Err(definition.name);
        }
        if seen.contains(&definition.name) {
            return Ok(());
        }
        seen.push(definition.name);
        path.push(definition.name);
        if definition.class.is_some() {
            expansion.relations.push(definition.name);
        }
        for term in &definition.rule {
            match *term {
                Term::Own => expansion.own = true,
                Term::Arrow(over, to) if !expansion.arrows.contains(&(over, to)) => expansion.arrows.push((over, to)),
                Term::Arrow(..) => {}
                Term::Name(name) => {
                    if let Some(next) = kind.definition(name) {
                        walk(kind, next, (path, seen), expansion)?;
                    }
                }
            }
        }
        path.pop();
        Ok(())
    }
    walk(kind, definition, (&mut Vec::new(), seen), expansion)
}
