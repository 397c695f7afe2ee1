//! The bill of materials of the binary (CycloneDX 1.6) and the licences of all of it, from cargo's own account of
//! what is linked. It may name a crate too many, where two parts of the workspace want other features; never one too few.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::build::Arch;
use crate::{cargo, output, root};

/// Members of the workspace that are in the binary: the daemon, and the probes, which are data in it.
const ROOTS: &[&str] = &["taffrail", "taffrail-ebpf"];

/// Names that files with licences begin with.
const LICENSE_FILES: &[&str] = &["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// What is said of a binary.
pub struct Bill {
    /// The CycloneDX document.
    pub sbom: Value,
    /// All licences, each text once, with whose it is.
    pub licenses: String,
}

/// The bill of the daemon for an architecture.
pub fn of(arch: Arch) -> Result<Bill> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", arch.target()];
    let metadata = cargo(&arguments).stderr(std::process::Stdio::inherit()).output()?;
    ensure!(metadata.status.success(), "cargo metadata: {}", metadata.status);
    let metadata: Value = serde_json::from_slice(&metadata.stdout).context("what cargo metadata says")?;
    let packages = linked(&metadata)?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    Ok(Bill { sbom: sbom(&packages, &checksums(&lock))?, licenses: licenses(&packages)? })
}

/// A crate that is linked.
struct Package<'a> {
    metadata: &'a Value,
    name: &'a str,
    version: &'a str,
    /// Where others get it from.
    is_public: bool,
    depends_on: Vec<&'a str>,
}

impl Package<'_> {
    /// Its name in the world (purl).
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    /// Its licence as an SPDX expression; some crates still write `/` for `OR`.
    fn license(&self) -> Result<String> {
        let text =
            self.metadata["license"].as_str().with_context(|| format!("{} has no licence", self.name))?;
        Ok(text.split('/').map(str::trim).collect::<Vec<_>>().join(" OR "))
    }

    /// The texts of its licences that it comes with.
    fn license_texts(&self) -> Result<Vec<String>> {
        let manifest = self.metadata["manifest_path"].as_str().map(Path::new);
        let folder = manifest.and_then(Path::parent).with_context(|| format!("where {} is", self.name))?;
        // Our own are at the top of the workspace.
        let top = root();
        texts_in(if self.is_public { folder } else { &top })
    }
}

/// What is linked into the binary, by cargo's id: not what only builds or tests it.
fn linked(metadata: &Value) -> Result<BTreeMap<&str, Package<'_>>> {
    let list = |value: &'static str, of: &'static str| {
        let list = if value.is_empty() { &metadata[of] } else { &metadata[value][of] };
        list.as_array().with_context(|| format!("cargo metadata tells no {of}"))
    };
    let by_id = |items: &'_ [Value]| -> HashMap<String, usize> {
        items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| Some((item["id"].as_str()?.to_owned(), at)))
            .collect()
    };
    let (packages, nodes) = (list("", "packages")?, list("resolve", "nodes")?);
    let (package_at, node_at) = (by_id(packages), by_id(nodes));
    let is_root = |package: &&Value| {
        package["source"].is_null() && package["name"].as_str().is_some_and(|name| ROOTS.contains(&name))
    };
    let mut pending: Vec<&str> =
        packages.iter().filter(is_root).filter_map(|package| package["id"].as_str()).collect();
    ensure!(pending.len() == ROOTS.len(), "not all of {ROOTS:?} are in the workspace");
    let mut found = BTreeMap::new();
    while let Some(id) = pending.pop() {
        if found.contains_key(id) {
            continue;
        }
        let (Some(&package), Some(&node)) = (package_at.get(id), node_at.get(id)) else {
            bail!("cargo metadata does not tell of {id}");
        };
        let (package, node) = (&packages[package], &nodes[node]);
        let is_linked = |dependency: &&Value| {
            let is_normal = |kind: &Value| kind["kind"].is_null();
            dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(is_normal))
        };
        let depends_on: Vec<&str> = node["deps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(is_linked)
            .filter_map(|dependency| dependency["pkg"].as_str())
            .collect();
        pending.extend(&depends_on);
        let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str()) else {
            bail!("{id} has no name and version");
        };
        let is_public = !package["source"].is_null();
        found.insert(id, Package { metadata: package, name, version, is_public, depends_on });
    }
    Ok(found)
}

/// Checksums of crates in `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> HashMap<(&str, &str), &str> {
    let entry = |block| {
        let value = |key: &str| {
            let line = str::lines(block).find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.and_then(|rest| rest.strip_suffix('"'))
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    };
    lock.split("[[package]]").filter_map(entry).collect()
}

fn sbom(packages: &BTreeMap<&str, Package<'_>>, checksums: &HashMap<(&str, &str), &str>) -> Result<Value> {
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut main = Value::Null;
    for package in packages.values() {
        let mut component = json!({
            "type": "library",
            "bom-ref": package.purl(),
            "name": package.name,
            "version": package.version,
            "licenses": [{ "expression": package.license()? }],
        });
        if package.is_public {
            component["purl"] = package.purl().into();
        }
        if let Some(checksum) = checksums.get(&(package.name, package.version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        let depends_on: BTreeSet<String> =
            package.depends_on.iter().filter_map(|id| packages.get(id)).map(Package::purl).collect();
        dependencies.push(json!({ "ref": package.purl(), "dependsOn": depends_on }));
        if package.name == ROOTS[0] {
            component["type"] = "application".into();
            main = component;
        } else {
            components.push(component);
        }
    }
    components.push(toolchain()?);
    for list in [&mut components, &mut dependencies] {
        list.sort_by_cached_key(|item| item["bom-ref"].as_str().or(item["ref"].as_str()).map(str::to_owned));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": main },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Rust's own library, and the C library that comes with it.
fn toolchain() -> Result<Value> {
    let version = output("rustc", &["--version"]).context("there is no rustc")?;
    let version = version.split(' ').nth(1).context("rustc has no version")?.to_owned();
    Ok(json!({
        "type": "library",
        "bom-ref": format!("rust-std@{version}"),
        "name": "rust-std",
        "version": version,
        "description": "Rust's standard library, with musl (MIT) and LLVM's libunwind",
        "licenses": [{ "expression": "(MIT OR Apache-2.0) AND MIT AND Apache-2.0 WITH LLVM-exception" }],
    }))
}

/// Each text once: most crates have the same.
fn licenses(packages: &BTreeMap<&str, Package<'_>>) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    for package in packages.values() {
        let name = format!("{} {}", package.name, package.version);
        list += &format!("{name}: {}\n", package.license()?);
        // Some crates leave the text at the top of the repository that they share with others.
        let is_sibling = |other: &&Package<'_>| {
            ["repository", "license"].iter().all(|key| other.metadata[key] == package.metadata[key])
        };
        let family = [package].into_iter().chain(packages.values().filter(is_sibling));
        let found =
            family.map(Package::license_texts).find(|texts| !matches!(texts, Ok(list) if list.is_empty()));
        // The text of this one is the same for all: nobody's name is in it.
        let apache = || {
            let texts = packages.values().filter_map(|other| other.license_texts().ok()).flatten();
            let is_apache = package.license().is_ok_and(|license| license == "Apache-2.0");
            let mut texts = texts.filter(|text| is_apache && text.trim_start().starts_with("Apache License"));
            texts.next().map(|text| Ok(vec![text]))
        };
        let found = found.or_else(apache);
        for text in found.with_context(|| format!("{name} has no text of its licence"))?? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut all = format!(
        "Taffrail is linked from these crates. Below are the texts of their licences.\n\
         Rust's standard library, which is in it too, is MIT OR Apache-2.0, and its C library musl is MIT.\n\n{list}"
    );
    for (text, whose) in texts {
        let whose: Vec<String> = whose.into_iter().collect();
        all += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(80), whose.join(", "));
    }
    Ok(all)
}

/// The texts of the licences in a crate's folder, without what differs in invisible ways.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let mut paths: Vec<_> = folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let is_license = |path: &&std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file() && LICENSE_FILES.iter().any(|start| name.starts_with(start))
    };
    let read = |path: &std::path::PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
        Ok(lines.join("\n"))
    };
    paths.iter().filter(is_license).map(read).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_each_linked_crate_with_its_checksum_and_no_crate_of_the_tests() {
        let bill = of(Arch::X86_64).unwrap();
        assert_eq!(bill.sbom["metadata"]["component"]["name"], "taffrail");
        let components = bill.sbom["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        for name in ["aya", "taffrail-common", "taffrail-ebpf", "aya-ebpf", "libmimalloc-sys", "rust-std"] {
            assert!(named(name).is_some(), "{name}");
        }
        for name in ["taffrail-tests", "xtask", "prost-build", "aya-build"] {
            assert!(named(name).is_none(), "{name}");
        }
        for component in components.iter().filter(|component| !component["purl"].is_null()) {
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
        }
        let refs: BTreeSet<&str> = components
            .iter()
            .chain([&bill.sbom["metadata"]["component"]])
            .filter_map(|component| component["bom-ref"].as_str())
            .collect();
        for dependency in bill.sbom["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(refs.contains(on.as_str().unwrap()), "{on}");
            }
        }
    }

    #[test]
    fn every_linked_crate_has_its_licence_in_the_list() {
        let text = of(Arch::Aarch64).unwrap().licenses;
        let (list, texts) = text.split_once(&"=".repeat(80)).unwrap();
        assert!(list.lines().any(|line| line.starts_with("aya 0.16.0: ")), "{list}");
        assert!(texts.contains("Permission is hereby granted") && texts.contains("Apache License"));
        assert!(list.lines().all(|line| !line.contains("GPL") || line.contains("MIT OR GPL-2.0")), "{list}");
    }
}
