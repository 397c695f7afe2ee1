//! `config.json` of an OCI bundle, which all runtimes write, and the state that runc and crun keep of it.
//! (OCI runtime specification 1.2, `config.md`.)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Draft, Mount, Problem, Query, containerd, podman};
use crate::enrich::container::Runtime;
use crate::event::capability;

/// A bundle's configuration, as far as it matters.
#[derive(Deserialize)]
pub(super) struct Config {
    process: Option<Process>,
    root: Option<Root>,
    mounts: Option<Vec<OciMount>>,
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Process {
    user: Option<User>,
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

#[derive(Deserialize)]
struct Capabilities {
    bounding: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct OciMount {
    destination: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    source: Option<String>,
    options: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    resources: Option<Resources>,
    masked_paths: Option<Vec<String>>,
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Deserialize)]
struct Resources {
    devices: Option<Vec<Device>>,
}

#[derive(Deserialize)]
struct Device {
    #[serde(default)]
    allow: bool,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
}

/// What some annotations tell, by their key.
pub(super) type Annotations = &'static [(&'static str, fn(&mut Draft, &str))];

/// What annotations that managers write for themselves begin with: they are nobody's label.
const MANAGERS: &[&str] =
    &["io.kubernetes.cri.", "io.kubernetes.cri-o.", "io.podman.annotations.", "io.container.manager"];

/// Looks into the states of runc and crun, which say where the bundle is.
pub(super) fn read(query: &Query<'_>, draft: &mut Draft) -> Result<(), Problem> {
    /// Of runc's `state.json` and crun's `status`.
    #[derive(Deserialize)]
    struct State {
        created: Option<String>,
        bundle: Option<PathBuf>,
        config: Option<Stated>,
    }
    #[derive(Deserialize)]
    struct Stated {
        labels: Option<Vec<String>>,
    }
    for folder in query.folders(|folders| &folders.oci) {
        let folder = folder.join(&query.container.id);
        let state = match query.json::<State>(&folder.join("state.json"))? {
            Some(state) => state,
            None => match query.json::<State>(&folder.join("status"))? {
                Some(state) => state,
                None => continue,
            },
        };
        draft.created(state.created.as_deref().unwrap_or_default());
        let labels = state.config.and_then(|config| config.labels).unwrap_or_default();
        let label = labels.iter().find_map(|label| label.strip_prefix("bundle="));
        let bundle = state.bundle.or(label.map(PathBuf::from));
        // Whoever made the container may be done with the bundle: what counts is that it is known.
        draft.is_found = true;
        let Some(bundle) = bundle.filter(|bundle| bundle.is_absolute()) else { return Ok(()) };
        return match query.container.runtime {
            Runtime::Containerd | Runtime::Kubernetes => {
                containerd::read_task(query, draft, &bundle).map(drop)
            }
            Runtime::Podman | Runtime::Crio => podman::read_around(query, draft, &bundle),
            // One that podman could give no cgroup.
            Runtime::Oci if podman::is_in_storage(&bundle, &query.container.id) => {
                draft.runtime = Some(Runtime::Podman);
                podman::read_around(query, draft, &bundle)
            }
            Runtime::Oci | Runtime::Docker | Runtime::Lxc | Runtime::Nspawn => {
                read_bundle(query, draft, &bundle, &[]).map(drop)
            }
        };
    }
    Ok(())
}

/// Reads a bundle's configuration, if it is there; tells whether it is. Of its annotations only those that its manager
/// writes are believed: others may be the image's.
pub(super) fn read_bundle(
    query: &Query<'_>,
    draft: &mut Draft,
    folder: &Path,
    known: Annotations,
) -> Result<bool, Problem> {
    let Some(config) = query.json::<Config>(&folder.join("config.json"))? else { return Ok(false) };
    draft.is_found = true;
    take(config, draft, folder, known);
    Ok(true)
}

fn take(config: Config, draft: &mut Draft, folder: &Path, known: Annotations) {
    let Config { process, root, mounts, annotations, linux } = config;
    let process = process.unwrap_or(Process { user: None, capabilities: None });
    let annotations = annotations.unwrap_or_default();
    for (key, take) in known {
        if let Some(value) = annotations.get(*key) {
            take(draft, value);
        }
    }
    if let Some(Root { path }) = root {
        // A path that is not absolute is one in the bundle.
        draft.fill(&folder.join(path).to_string_lossy(), |metadata| &mut metadata.root);
    }
    let namespaces = linux.as_ref().and_then(|linux| linux.namespaces.as_deref()).unwrap_or_default();
    draft.metadata.has_user_namespace |= namespaces.iter().any(|namespace| namespace.kind == "user");
    if let Some(User { uid, gid }) = process.user {
        draft.fill(&format!("{uid}:{gid}"), |metadata| &mut metadata.user);
    }
    let bounding = process.capabilities.and_then(|of| of.bounding).unwrap_or_default();
    let set = bounding.iter().filter_map(|name| capability::number(name)).fold(0, |set, bit| set | 1 << bit);
    draft.metadata.capabilities.get_or_insert(set);
    draft.metadata.is_privileged.get_or_insert(is_privileged(set, linux.as_ref()));
    let is_managers = |key: &str| MANAGERS.iter().any(|prefix| key.starts_with(prefix));
    let rest = annotations.iter().filter(|(key, _)| !is_managers(key));
    if known.is_empty() {
        draft.labels(rest, |metadata| &mut metadata.labels);
    } else {
        draft.labels(rest, |metadata| &mut metadata.annotations);
    }
    draft.mounts(mounts.unwrap_or_default().iter().filter_map(mount));
}

/// What managers mean by it: all rights, all devices, nothing hidden.
fn is_privileged(capabilities: u64, linux: Option<&Linux>) -> bool {
    let Some(Linux { resources, masked_paths, namespaces: _ }) = linux else { return false };
    let devices = resources.as_ref().and_then(|of| of.devices.as_deref()).unwrap_or_default();
    let is_all = |device: &Device| {
        device.allow && device.major.is_none() && device.kind.as_deref().is_none_or(|kind| kind == "a")
    };
    let has_all = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE"];
    has_all.iter().all(|name| capability::number(name).is_some_and(|bit| capabilities >> bit & 1 != 0))
        && masked_paths.as_ref().is_none_or(Vec::is_empty)
        && devices.iter().any(is_all)
}

/// A mount of something of the host's.
fn mount(mount: &OciMount) -> Option<Mount> {
    let OciMount { destination, kind, source, options } = mount;
    let options = options.as_deref().unwrap_or_default();
    let has = |wanted: &[&str]| options.iter().find(|option| wanted.contains(&option.as_str()));
    let is_bind = kind.as_deref() == Some("bind") || has(&["bind", "rbind"]).is_some();
    let propagation = has(&["private", "rprivate", "shared", "rshared", "slave", "rslave"]);
    let mode: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .filter(|option| matches!(*option, "z" | "Z" | "ro" | "rw"))
        .collect();
    is_bind.then(|| {
        let propagation = propagation.map_or("", String::as_str);
        Mount::new(source.as_deref()?, destination, &mode.join(","), has(&["ro"]).is_none(), propagation)
            .into()
    })?
}
