//! The licences of all that is linked: who has which, and each text once. A text is looked for in a crate's own folder, then
//! with its siblings; what a crate has from others lies deeper in it, with licences of its own, which are all taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::bill::Package;
use super::parts::Part;

/// Names that files with licences begin with.
const FILES: &[&str] = &["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The licence that is never chosen where there is another one; that there is, is checked.
const NOT_CHOSEN: &str = "GNU GENERAL PUBLIC LICENSE";

/// Folders are not looked into deeper than that.
const DEPTH: usize = 6;

/// Who has which licence, then the texts.
pub fn list(packages: &BTreeMap<&str, Package<'_>>, parts: &[&Part]) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = BTreeSet::new();
    for package in packages.values() {
        let name = format!("{} {}", package.name, package.version);
        list.insert(format!("{name}: {}\n", package.license()?));
        let own =
            of_package(package, packages).with_context(|| format!("{name} has no text of its licence"))?;
        for text in own.into_iter().chain(texts_within(package)?) {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for part in parts {
        let name = format!("{} {}", part.name, part.version);
        ensure!(!part.texts.is_empty(), "{name} has no text of its licence");
        list.insert(format!("{name}: {}\n", part.license));
        for text in &part.texts {
            texts.entry(text.clone()).or_default().insert(name.clone());
        }
    }
    let mut all = format!(
        "Taffrail is linked from these crates and libraries. Below are the texts of their licences.\n\n{}",
        list.into_iter().collect::<String>()
    );
    for (text, whose) in texts {
        let whose: Vec<String> = whose.into_iter().collect();
        all += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(80), whose.join(", "));
    }
    Ok(all)
}

/// The texts of a crate's own licence; `None` if there are none.
fn of_package(package: &Package<'_>, packages: &BTreeMap<&str, Package<'_>>) -> Option<Vec<String>> {
    // Some crates leave the text at the top of the repository that they share with others.
    let is_sibling = |other: &&Package<'_>| {
        ["repository", "license"].iter().all(|key| other.metadata[key] == package.metadata[key])
    };
    let own = |package: &Package<'_>| {
        // Ours are at the top of the workspace.
        let folder = if package.is_public { package.folder().ok()? } else { crate::root() };
        texts_in(&folder).ok().filter(|texts| !texts.is_empty())
    };
    let found = [package].into_iter().chain(packages.values().filter(is_sibling)).find_map(own);
    // The text of this one is the same for all: nobody's name is in it.
    let apache = || {
        let is_apache = package.license().is_ok_and(|license| license == "Apache-2.0");
        let mut texts = packages.values().filter(|_| is_apache).filter_map(own).flatten();
        texts.find(|text| text.trim_start().starts_with("Apache License")).map(|text| vec![text])
    };
    found.or_else(apache)
}

/// The licences of what a crate has from others.
fn texts_within(package: &Package<'_>) -> Result<Vec<String>> {
    if package.is_public { texts_below(&package.folder()?, DEPTH) } else { Ok(Vec::new()) }
}

/// The texts of licences in the folders of a folder.
fn texts_below(folder: &Path, depth: usize) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    if depth == 0 {
        return Ok(texts);
    }
    for path in entries(folder)?.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        texts.extend(texts_in(path)?);
        texts.extend(texts_below(path, depth - 1)?);
    }
    Ok(texts)
}

/// The texts of the licences in a folder, without what differs in invisible ways.
pub fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let is_license = |path: &&PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file() && !name.ends_with(".RS") && FILES.iter().any(|start| name.starts_with(start))
    };
    let read = |path: &PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
        Ok(lines.join("\n"))
    };
    let texts: Vec<String> = entries(folder)?.iter().filter(is_license).map(read).collect::<Result<_>>()?;
    let (not_chosen, chosen): (Vec<_>, Vec<_>) =
        texts.into_iter().partition(|text| text.trim_start().starts_with(NOT_CHOSEN));
    ensure!(not_chosen.is_empty() || !chosen.is_empty(), "{} has no other licence", folder.display());
    Ok(chosen)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn licences_deep_in_a_crate_are_found_and_the_gpl_is_not_taken_where_there_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("LICENSE", "the crate's");
        write("c_src/b/LICENSE.txt", "b's \r\n");
        write("c_src/a/COPYING", "GNU GENERAL PUBLIC LICENSE\nand so on");
        write("c_src/a/LICENSE", "a's");
        write("src/license.rs", "//! no licence");
        assert_eq!(texts_in(folder.path()).unwrap(), ["the crate's"]);
        assert_eq!(texts_below(folder.path(), DEPTH).unwrap(), ["a's", "b's"]);
        std::fs::remove_file(folder.path().join("c_src/a/LICENSE")).unwrap();
        assert!(texts_below(folder.path(), DEPTH).is_err());
    }
}
