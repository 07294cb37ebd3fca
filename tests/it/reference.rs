//! The reference pages against the code that they describe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plexsphere_wire::Code;

#[test]
fn every_problem_code_has_its_page_with_its_statuses_and_its_line_in_the_index() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let index = std::fs::read_to_string(folder.join("problems.md")).unwrap();
    let mut pages: BTreeSet<String> = std::fs::read_dir(folder.join("problems"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut statuses: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    for code in Code::ALL {
        statuses.entry(code.as_str()).or_default().insert(code.status_u16());
    }
    for (word, statuses) in statuses {
        let slug = word.replace('_', "-");
        let name = format!("{slug}.md");
        assert!(pages.remove(&name), "{name} is missing");
        let page = std::fs::read_to_string(folder.join("problems").join(&name)).unwrap();
        let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
        let head =
            format!("# `{word}`\n\nStatus {} · type `https://plexsphere.com/errors/{slug}`\n\n", statuses.join(", "));
        assert!(page.starts_with(&head), "{name} does not begin with:\n{head}");
        assert!(page.contains("**What to do.** "), "{name} does not say what to do");
        let line = format!("| [`{word}`](problems/{name}) | {} | ", statuses.join(", "));
        assert!(index.contains(&line), "the index lacks {line}");
    }
    assert!(pages.is_empty(), "pages of no code: {pages:?}");
}
