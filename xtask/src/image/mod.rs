//! The container image, made without a container engine: for each architecture one layer with the static binary, the
//! licences of what is in it and its bill of materials, and nothing else. It is written as an OCI layout of all
//! architectures and as an archive of each for `docker load` and the like. Nothing of the machine enters: no time, no
//! name, no order of a folder, so that the same binaries give the same digest wherever they are packed.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::build::{self, Arch};
use crate::{cargo, output, root, succeed, vm};

mod bill;
mod licenses;
mod parts;

/// The name under which an archive is loaded; whoever pushes it gives it another.
const NAME: &str = "localhost/taffrail";

/// Most bytes of an image as it is pulled, for one architecture.
const BYTES_MAX: u64 = 20_000_000;

/// When everything in an image was made.
const TIME: &str = "1970-01-01T00:00:00Z";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image is made of.
pub struct Part {
    /// What it runs on.
    pub arch: Arch,
    /// Files of its root: name, mode, bytes.
    pub files: Vec<(&'static str, u32, Vec<u8>)>,
}

/// What was written.
pub struct Image {
    /// The OCI layout.
    pub layout: PathBuf,
    /// An archive for each architecture, in their order.
    pub archives: Vec<PathBuf>,
    /// Digest of the index of all architectures.
    pub digest: String,
}

/// Builds the daemon for these architectures and packs it into `target/image`.
pub fn build(archs: &[Arch]) -> Result<Image> {
    let mut parts = Vec::new();
    for &arch in archs {
        let binary = std::fs::read(build::release(arch)?)?;
        let bill = bill::of(arch)?;
        let sbom = serde_json::to_vec_pretty(&bill.sbom)?;
        let files = vec![
            ("licenses.txt", 0o444, bill.licenses.into_bytes()),
            ("sbom.cdx.json", 0o444, sbom),
            ("taffrail", 0o555, binary),
        ];
        parts.push(Part { arch, files });
    }
    let folder = build::target().join("image");
    let image = pack(&parts, &folder)?;
    for Part { arch, files } in &parts {
        for (name, _, bytes) in files.iter().filter(|(name, ..)| *name != "taffrail") {
            std::fs::write(folder.join(format!("{}-{name}", arch.oci())), bytes)?;
        }
    }
    Ok(image)
}

/// What `--check` builds with elsewhere: none of it may reach a compiler.
const ELSEWHERE: &[(&str, &str)] = &[
    ("RUSTFLAGS", "--cfg elsewhere"),
    ("CFLAGS", "-march=native -DELSEWHERE"),
    ("TARGET_CFLAGS", "-O0"),
    ("CC", "false"),
    ("AR", "false"),
    ("CPATH", "/usr/include"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("TZ", "Asia/Kathmandu"),
];

/// Builds it all once more and compares the digests: from a copy of the sources in another folder, with crates that are
/// unpacked anew into another one, and with other flags and compilers in the environment.
pub fn check(archs: &[Arch], image: &Image) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("elsewhere");
    let here = root().display().to_string();
    let list = ["-C", &here, "ls-files", "--cached", "--others", "--exclude-standard"];
    let sources = output("git", &list).context("git knows no sources here")?;
    for source in sources.lines().filter(|source| root().join(source).is_file()) {
        let to = copy.join(source);
        std::fs::create_dir_all(to.parent().context("a path without a folder")?)?;
        std::fs::copy(root().join(source), to)?;
    }
    let mut build = cargo(&["run", "--quiet", "--package", "xtask", "--", "image"]);
    for arch in archs {
        build.args(["--arch", arch.to_possible_value().context("it has a name")?.get_name()]);
    }
    build.current_dir(&copy).env("CARGO_TARGET_DIR", copy.join("built"));
    build.env("CARGO_HOME", cargo_home(folder.path())?);
    build.envs(ELSEWHERE.iter().copied()).env_remove("CARGO_ENCODED_RUSTFLAGS");
    let built = build.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(built.status.success(), "it cannot be built elsewhere: {}", built.status);
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    let digest = said.lines().next().and_then(|line| line.split('\t').nth(1)).unwrap_or_default();
    if digest != image.digest {
        // Both stay, for whoever looks for the difference.
        let elsewhere = folder.keep().join("elsewhere/built/image");
        bail!("{} here, {digest} elsewhere: compare {}", image.digest, elsewhere.display());
    }
    let foreign = archs.iter().zip(&image.archives).filter(|(arch, _)| **arch != Arch::host());
    foreign.into_iter().try_for_each(|(arch, archive)| start(*arch, archive))
}

/// Makes another folder for cargo, with the archives of crates that are here, and what is configured here.
fn cargo_home(folder: &Path) -> Result<PathBuf> {
    let (here, there) = (build::cargo_home(), folder.join("crates"));
    std::fs::create_dir_all(there.join("registry"))?;
    for name in ["registry/index", "registry/cache"].iter().filter(|name| here.join(name).exists()) {
        succeed(Command::new("cp").arg("-R").args([here.join(name), there.join(name)]))?;
    }
    let config = here.join("config.toml");
    if config.exists() {
        symlink(&config, there.join("config.toml"))?;
    }
    Ok(there)
}

/// Starts what an archive holds on an emulated machine of its architecture.
fn start(arch: Arch, archive: &Path) -> Result<()> {
    let kernel = match arch {
        Arch::X86_64 => "6.12",
        Arch::Aarch64 => "arm64-6.12",
    };
    let name = archive.file_name().context("an archive has a name")?.to_string_lossy();
    let files = [archive.to_owned(), root().join("tests/vm/image.sh")];
    vm::run(kernel, &files, &["sh", "/vm/image.sh", &format!("/vm/{name}")].map(OsString::from))
}

/// Writes the images below a folder, in place of what is there.
pub fn pack(parts: &[Part], folder: &Path) -> Result<Image> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let layout = folder.join("oci");
    std::fs::create_dir_all(layout.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    let mut archives = Vec::new();
    for part in parts {
        let (manifest, archive) = pack_one(part, &layout)?;
        let path = folder.join(format!("taffrail-{}.docker.tar", part.arch.oci()));
        std::fs::write(&path, archive)?;
        manifests.push(manifest);
        archives.push(path);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = put(&layout, INDEX, &serde_json::to_vec(&index)?)?;
    let digest = index["digest"].as_str().unwrap_or_default().to_owned();
    let mut named = index;
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": version() });
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] });
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&top)?)?;
    std::fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(Image { layout, archives, digest })
}

/// Puts one architecture's blobs into the layout. Gives what the index says of its manifest, and its docker archive.
fn pack_one(Part { arch, files }: &Part, layout: &Path) -> Result<(Value, Vec<u8>)> {
    let layer = archive(files)?;
    let diff = format!("sha256:{}", hex(&layer));
    // No name and no time in the header.
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
    packed.write_all(&layer)?;
    let packed = packed.finish()?;
    ensure!(packed.len() as u64 <= BYTES_MAX, "the {} image has {} bytes", arch.oci(), packed.len());
    let config = serde_json::to_vec(&json!({
        "architecture": arch.oci(),
        "os": "linux",
        "created": TIME,
        "config": {
            "Entrypoint": ["/taffrail"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": labels(),
        },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
        "history": [{ "created": TIME, "created_by": "cargo xtask image" }],
    }))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(layout, CONFIG, &config)?,
        "layers": [put(layout, LAYER, &packed)?],
        "annotations": labels(),
    });
    let mut manifest = put(layout, MANIFEST, &serde_json::to_vec(&manifest)?)?;
    manifest["platform"] = json!({ "architecture": arch.oci(), "os": "linux" });

    let names = [format!("{}.json", hex(&config)), format!("{}.tar", hex(&layer))];
    let list = json!([{
        "Config": names[0], "RepoTags": [format!("{NAME}:{}", version())], "Layers": [names[1]],
    }]);
    let list = serde_json::to_vec(&list)?;
    let entries = [(&*names[0], 0o444, config), (&*names[1], 0o444, layer), ("manifest.json", 0o444, list)];
    Ok((manifest, archive(&entries)?))
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "taffrail",
        "org.opencontainers.image.description": "An eBPF runtime monitor for containers",
        "org.opencontainers.image.version": version(),
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    })
}

/// Writes a blob and gives its descriptor.
fn put(layout: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = hex(bytes);
    let path = layout.join("blobs/sha256").join(&digest);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive of files that are nobody's but root's, and of no time.
fn archive(files: &[(&str, u32, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let files =
            || vec![("sbom.cdx.json", 0o444, b"{}".to_vec()), ("taffrail", 0o555, b"\x7fELF".to_vec())];
        [Arch::X86_64, Arch::Aarch64].map(|arch| Part { arch, files: files() }).into()
    }

    /// All files below a folder, by name.
    fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(tree(&path));
            } else {
                files.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
        files.sort();
        files
    }

    #[test]
    fn same_binaries_give_the_same_bytes_in_another_folder() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = folders.each_ref().map(|folder| {
            let image = pack(&parts(), &folder.path().join("image")).unwrap();
            let below = |(path, bytes): (PathBuf, Vec<u8>)| {
                (path.strip_prefix(folder.path()).unwrap().to_owned(), bytes)
            };
            (image.digest, tree(folder.path()).into_iter().map(below).collect::<Vec<_>>())
        });
        assert_eq!(one, two);
    }

    #[test]
    fn other_binaries_give_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |parts: &[Part]| pack(parts, &folder.path().join("image")).unwrap().digest;
        let mut changed = parts();
        changed[1].files[1].2.push(0);
        assert_ne!(digest(&parts()), digest(&changed));
    }

    #[test]
    fn every_blob_has_the_digest_and_size_that_is_told_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = pack(&parts(), &folder.path().join("image")).unwrap().layout;
        let read = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = std::fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
            assert_eq!(
                (hex(&bytes).as_str(), bytes.len() as u64),
                (digest, descriptor["size"].as_u64().unwrap())
            );
            bytes
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let top = json(&std::fs::read(layout.join("index.json")).unwrap());
        let index = json(&read(&top["manifests"][0]));
        let architectures: Vec<&Value> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["platform"]["architecture"])
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
        for manifest in index["manifests"].as_array().unwrap() {
            let manifest = json(&read(manifest));
            let config = json(&read(&manifest["config"]));
            let mut layer = Vec::new();
            let packed = read(&manifest["layers"][0]);
            std::io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut layer).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&layer)));
        }
    }
}
