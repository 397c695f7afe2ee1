//! The bill of materials of the binary (CycloneDX 1.6), from cargo's own account of what is linked, from what crates have
//! inside and from what the toolchain adds (`parts.rs`). It may name a crate too many, where two parts of the workspace
//! want other features; never one too few. `licenses.rs` has the licences of all of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::licenses;
use super::parts::{self, Part};
use crate::build::{self, Arch};
use crate::{cargo, root};

/// Members of the workspace that are in the binary: the daemon, and the probes, which are data in it.
const ROOTS: &[&str] = &["taffrail", "taffrail-ebpf"];

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
    let mut within = Vec::new();
    for package in packages.values() {
        within.extend(parts::within(package)?.map(|part| (package.purl(), part)));
    }
    let of_toolchain = parts::of_toolchain(arch)?;
    let all: Vec<&Part> = within.iter().map(|(_, part)| part).chain(&of_toolchain).collect();
    let licenses = licenses::list(&packages, &all)?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let mut sbom = sbom(&packages, &checksums(&lock), &within, &of_toolchain)?;
    let property = |(name, value)| json!({ "name": format!("taffrail:build:{name}"), "value": value });
    sbom["metadata"]["properties"] = build::tools(arch)?.into_iter().map(property).collect();
    Ok(Bill { sbom, licenses })
}

/// A crate that is linked.
pub struct Package<'a> {
    pub metadata: &'a Value,
    pub name: &'a str,
    pub version: &'a str,
    /// Where others get it from.
    pub is_public: bool,
    pub features: Vec<&'a str>,
    depends_on: Vec<&'a str>,
}

impl Package<'_> {
    /// Its name in the world (purl).
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    /// Its licence as an SPDX expression.
    pub fn license(&self) -> Result<String> {
        let text = self.metadata["license"].as_str();
        text.map(spdx).with_context(|| format!("{} has no licence", self.name))
    }

    /// Where its sources are.
    pub fn folder(&self) -> Result<PathBuf> {
        let manifest = self.metadata["manifest_path"].as_str().map(Path::new);
        let folder = manifest.and_then(Path::parent).with_context(|| format!("where {} is", self.name))?;
        Ok(folder.to_owned())
    }
}

/// A licence as crates tell it; some still write `/` for `OR`.
pub fn spdx(text: &str) -> String {
    text.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
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
        let features = node["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        found.insert(id, Package { metadata: package, name, version, is_public, features, depends_on });
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

fn sbom(
    packages: &BTreeMap<&str, Package<'_>>,
    checksums: &HashMap<(&str, &str), &str>,
    within: &[(String, Part)],
    of_toolchain: &[Part],
) -> Result<Value> {
    let [rust_std, of_rust_std @ ..] = of_toolchain else { bail!("nothing is of the toolchain") };
    let mut components = BTreeMap::new();
    let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
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
        let depends_on = package.depends_on.iter().filter_map(|id| packages.get(id)).map(Package::purl);
        let depends_on = dependencies.entry(package.purl()).or_insert_with(|| depends_on.collect());
        if package.name == ROOTS[0] {
            depends_on.insert(rust_std.id());
            component["type"] = "application".into();
            main = component;
        } else {
            components.insert(package.purl(), component);
        }
    }
    for (purl, part) in within {
        dependencies.entry(purl.clone()).or_default().insert(part.id());
    }
    dependencies.insert(rust_std.id(), of_rust_std.iter().map(Part::id).collect());
    for part in within.iter().map(|(_, part)| part).chain(of_toolchain) {
        // Rust's library has crates that are also linked otherwise, in the same version.
        components.entry(part.id()).or_insert_with(|| part.component());
        dependencies.entry(part.id()).or_default();
    }
    let dependencies = dependencies.iter().map(|(id, on)| json!({ "ref": id, "dependsOn": on }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": main },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_all_that_is_linked_and_nothing_of_the_tests() {
        let bill = of(Arch::host()).unwrap();
        assert_eq!(bill.sbom["metadata"]["component"]["name"], "taffrail");
        let components = bill.sbom["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        let crates = ["aya", "taffrail-common", "taffrail-ebpf", "aya-ebpf", "libmimalloc-sys"];
        let parts = ["mimalloc", "zstd", "rust-std", "musl", "llvm-libunwind-and-compiler-rt"];
        let of_rust = ["addr2line", "hashbrown", "rustc-demangle"];
        for name in crates.iter().chain(&parts).chain(&of_rust) {
            assert!(named(name).is_some(), "{name}");
        }
        for name in ["taffrail-tests", "xtask", "prost-build", "aya-build"] {
            assert!(named(name).is_none(), "{name}");
        }
        let is_crate = |component: &&Value| {
            component["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/"))
        };
        for component in components.iter().filter(is_crate) {
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
        }
        let refs: Vec<&str> = components
            .iter()
            .chain([&bill.sbom["metadata"]["component"]])
            .map(|component| component["bom-ref"].as_str().unwrap())
            .collect();
        let distinct: BTreeSet<&str> = refs.iter().copied().collect();
        assert_eq!(distinct.len(), refs.len(), "{refs:?}");
        let mut needed = BTreeSet::from(["pkg:cargo/taffrail@0.1.0"]);
        for dependency in bill.sbom["dependencies"].as_array().unwrap() {
            assert!(distinct.contains(dependency["ref"].as_str().unwrap()), "{dependency}");
            needed.extend(dependency["dependsOn"].as_array().unwrap().iter().filter_map(Value::as_str));
        }
        needed.insert(refs.iter().find(|name| name.contains("taffrail-ebpf")).unwrap());
        assert_eq!(needed, distinct);
    }

    #[test]
    fn the_bill_names_what_the_binary_was_made_by() {
        let bill = of(Arch::host()).unwrap();
        let properties = bill.sbom["metadata"]["properties"].as_array().unwrap();
        let value = |name: &str| {
            properties.iter().find(|property| property["name"] == name).unwrap()["value"].as_str()
        };
        assert!(value("taffrail:build:clang").unwrap().contains("clang version"));
        assert_eq!(value("taffrail:build:musl-headers").unwrap().len(), "sha256:".len() + 64);
    }

    #[test]
    fn all_that_is_linked_has_its_licence_in_the_list() {
        let text = of(Arch::host()).unwrap().licenses;
        let (list, texts) = text.split_once(&"=".repeat(80)).unwrap();
        for name in ["aya 0.16.0: ", "mimalloc 3.", "zstd 1.5.", "musl 1.2.5: MIT", "rust-std 1."] {
            assert!(list.lines().any(|line| line.starts_with(name)), "{name}: {list}");
        }
        let notices = [
            "Permission is hereby granted",
            "Apache License",
            "Microsoft Corporation, Daan Leijen",
            "Meta Platforms, Inc. and affiliates",
            "the fiat-crypto authors",
            "Rich Felker, et al.",
            "Copyright © 1994 David Burren",
            "The Rust Project Developers",
            "UNICODE LICENSE V3",
            "---- LLVM Exceptions to the Apache 2.0 License ----",
        ];
        for notice in notices {
            assert!(texts.contains(notice), "{notice}");
        }
        assert!(!texts.contains("GNU GENERAL PUBLIC LICENSE"));
        assert!(list.lines().all(|line| !line.contains("GPL") || line.contains("MIT OR GPL-2.0")), "{list}");
    }
}
