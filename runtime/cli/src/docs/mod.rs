//! Holds what README and docs/ say against what is true: commands parse, settings are settings, links lead somewhere.

mod commands;
mod page;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use page::Page;
use wisp_config::Config;

/// The pages that people read, by their path from the checkout's root.
fn pages() -> BTreeMap<PathBuf, Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
    let files = |folder: &str| fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let found = files("docs").chain(files("examples"));
    paths.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.extend(files("examples").map(|folder| folder.join("README.md")).filter(|page| page.is_file()));
    assert!(paths.len() > 25, "{paths:?}");
    paths
        .into_iter()
        .map(|path| {
            let page = Page::of(&fs::read_to_string(&path).unwrap());
            (path, page)
        })
        .collect()
}

#[test]
fn every_command_in_the_documentation_is_one() {
    let mut checked = 0;
    for (path, page) in pages() {
        let typed = page.shell_lines().map(|line| (line, false));
        for (line, is_spoken_of) in typed.chain(page.code.iter().map(|code| (code.clone(), true))) {
            for command in commands::of_wisp(&line) {
                commands::check(&command, is_spoken_of)
                    .unwrap_or_else(|error| panic!("{}: {line}: {error}", path.display()));
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked} commands were found");
}

#[test]
fn every_setting_in_the_documentation_is_one() {
    let mut checked = 0;
    for (path, page) in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "toml") {
            let table: toml::Table =
                block.text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let is_containerds = ["version", "plugins", "imports"].iter().any(|key| table.contains_key(*key));
            if table.contains_key("wasm") {
                toml::from_str::<crate::images::project::Toml>(&block.text).unwrap();
            } else if !is_containerds {
                Config::parse(&path, &block.text).unwrap();
            }
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn every_object_in_the_documentation_is_one() {
    let mut checked = 0;
    for (path, page) in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "yaml") {
            for document in serde_yaml_ng::Deserializer::from_str(&block.text) {
                let value = <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let has = |keys: &[&str]| keys.iter().all(|key| value.get(key).is_some());
                // A whole object, or the containers of one.
                assert!(
                    has(&["apiVersion", "kind", "metadata"]) || has(&["containers"]),
                    "{}: {value:?}",
                    path.display()
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 1);
}

/// What is quoted in a table of docs/troubleshooting.md, unless another's program says it, is a text of ours.
#[test]
fn what_troubleshooting_quotes_is_what_wisp_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sources = sources::text(&[root.join("shim/src"), root.join("runtime")]);
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let mut checked = 0;
    for quoted in cells.filter_map(|cell| cell.strip_suffix('`')) {
        for part in quoted.split('…').map(str::trim) {
            assert!(sources.contains(part), "Wisp does not print {part:?}");
            checked += 1;
        }
    }
    assert!(checked > 8, "{checked} texts were found");
}

#[test]
fn every_page_is_in_the_summary() {
    let pages = pages();
    let (summary, contents) = pages.iter().find(|(path, _)| path.ends_with("docs/SUMMARY.md")).unwrap();
    for (path, _) in pages.iter().filter(|(path, _)| path.parent() == summary.parent() && *path != summary) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(contents.links.iter().any(|link| link == name), "{name} is missing in docs/SUMMARY.md");
    }
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let pages = pages();
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let target =
                target.canonicalize().unwrap_or_else(|error| panic!("{}: {link}: {error}", path.display()));
            let is_there = anchor.is_empty()
                || pages.get(&target).is_some_and(|page| page.anchors.iter().any(|of| of == anchor));
            assert!(is_there, "{}: {link}: there is no such heading", path.display());
        }
    }
}
