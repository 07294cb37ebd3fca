//! The shape of the workspace: arrows between crates, and rules that no compiler knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The arrows that `docs/architecture.md` draws: lines of `crate → a, b` in its block called `arrows`.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let block = page.split("```arrows").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    block
        .lines()
        .filter_map(|line| line.split_once('→'))
        .map(|(from, to)| {
            let targets =
                to.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty() && name != "nothing");
            (from.trim().to_owned(), targets.collect())
        })
        .collect()
}

/// The arrows that the manifests draw, dev-dependencies left out.
fn built() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| name.strip_prefix("plexsphere-").unwrap_or(name).to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let arrows = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| name.starts_with("plexsphere-"))
                .map(short)
                .collect();
            (short(package["name"].as_str().unwrap()), arrows)
        })
        .collect()
}

#[test]
fn the_arrows_between_crates_are_those_of_the_architecture_page() {
    assert_eq!(built(), drawn());
}

#[test]
fn no_context_reaches_another_and_no_tier_another() {
    let built = built();
    let contexts = ["identity", "mesh", "signing", "audit"];
    for context in contexts {
        for other in contexts {
            assert!(!built[context].contains(other), "{context} reaches {other}");
        }
        assert!(!built[context].contains("edge") && !built[context].contains("pipelines"));
    }
    let edge: Vec<&str> = built["edge"].iter().map(String::as_str).collect();
    let pipelines: Vec<&str> = built["pipelines"].iter().map(String::as_str).collect();
    assert_eq!((edge, pipelines), (vec!["wire"], vec!["wire"]));
    assert!(built["wire"].is_empty());
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_are_one_story_each_and_leave_nothing_for_later() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 50);
    for path in files {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["mod", "utils", "common", "helpers", "misc"].contains(&stem.as_str()),
            "{name} has no name of its own"
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 600, "{name} has {lines} lines");
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")] {
            assert!(!text.contains(word), "{name} leaves a {word}");
        }
        if path.components().any(|part| part.as_os_str() == "src") {
            assert!(text.starts_with("//!") || stem == "tests", "{name} does not say what it is");
        }
    }
}

#[test]
fn only_migrations_and_their_own_crate_name_a_contexts_schema() {
    let mut files = Vec::new();
    for context in ["identity", "mesh", "signing", "audit"] {
        let folder = root().join("control").join(context).join("src");
        files.clear();
        sources(&folder, &mut files);
        for path in &files {
            let text = std::fs::read_to_string(path).unwrap();
            for other in ["identity", "mesh", "signing", "audit"] {
                if other != context {
                    for verb in ["FROM", "INTO", "UPDATE", "JOIN"] {
                        let needle = format!("{verb} {other}.");
                        assert!(!text.contains(&needle), "{} queries {other}", path.display());
                    }
                }
            }
        }
    }
}
