//! Which container a cgroup belongs to: from the cgroup's path, and for runtimes that let the user choose
//! the path from the state that the runtime keeps on the host. Nothing in here comes from inside a
//! container but names of cgroups below its own, and those are never looked at: the outermost match wins.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A container that has been seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The runtime's full id: 64 hex digits for most, whatever the user chose for plain runc.
    pub id: String,
    /// Which runtime made it.
    pub runtime: Runtime,
    /// Kubernetes: the pod's uid with dashes, if the path names one.
    pub pod_uid: Option<String>,
    /// Path of its cgroup below the v2 mount, starting with `/`.
    pub cgroup_path: String,
}

/// The program that made a container, as far as the path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman or another user of libpod.
    Podman,
    /// containerd, by CRI or by itself.
    Containerd,
    /// CRI-O.
    Crio,
    /// An OCI runtime without a manager: runc, crun.
    Oci,
    /// Kubernetes' cgroup path that does not say which runtime.
    Kubernetes,
}

impl Runtime {
    /// The name in fields and formats.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Podman => "podman",
            Runtime::Containerd => "containerd",
            Runtime::Crio => "cri-o",
            Runtime::Oci => "oci",
            Runtime::Kubernetes => "kubernetes",
        }
    }
}

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A container's, or a cgroup below it.
    Container(Container),
    /// The host's for sure: the root, systemd's services and sessions.
    Host,
    /// Not a form that we know: the host's, or a container's whose path the user chose.
    Unknown,
}

/// Tells a container by the path of its cgroup.
pub fn identify(path: &str) -> Identity {
    let mut pod_uid = None;
    let mut parent = "";
    let mut at = 0;
    for name in path.split('/') {
        let end = at + name.len();
        if let Some(uid) = pod_uid_of(name) {
            pod_uid = Some(uid);
        }
        if let Some((runtime, id)) = container_of(name, parent, pod_uid.is_some()) {
            let (id, cgroup_path) = (id.to_owned(), path[..end].to_owned());
            return Identity::Container(Container { id, runtime, pod_uid, cgroup_path });
        }
        if !name.is_empty() {
            parent = name;
        }
        at = end + 1;
    }
    let first = path.split('/').find(|name| !name.is_empty());
    match first {
        None
        | Some(
            "init.scope" | "system.slice" | "user.slice" | "machine.slice" | "kubepods" | "kubepods.slice",
        ) => Identity::Host,
        Some(_) => Identity::Unknown,
    }
}

/// The container that one name in a path stands for.
fn container_of<'a>(name: &'a str, parent: &str, in_pod: bool) -> Option<(Runtime, &'a str)> {
    let unit = name.strip_suffix(".scope").unwrap_or(name);
    // containerd with a systemd path under the cgroupfs driver: `slice:cri-containerd:id`.
    if let Some((_, id)) = unit.rsplit_once(":cri-containerd:") {
        return is_id(id).then_some((Runtime::Containerd, id));
    }
    const PREFIXES: &[(&str, Runtime)] = &[
        ("docker-", Runtime::Docker),
        ("libpod-", Runtime::Podman),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::Crio),
    ];
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = unit.strip_prefix(prefix)
            && is_id(id)
        {
            return Some((*runtime, id));
        }
    }
    if !is_id(name) {
        return None;
    }
    match parent {
        "docker" => Some((Runtime::Docker, name)),
        "k8s.io" | "default" | "moby" => Some((Runtime::Containerd, name)),
        // A pod of podman is a folder with 64 digits too; its containers below say `libpod-`.
        "libpod_parent" => None,
        _ if in_pod => Some((Runtime::Kubernetes, name)),
        _ => Some((Runtime::Oci, name)),
    }
}

/// Whether it is 64 hex digits, as all container managers choose.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The uid in `pod<uid>` or `kubepods-…-pod<uid>.slice`, with dashes.
fn pod_uid_of(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) if slice.starts_with("kubepods") => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        Some(_) => return None,
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A static pod's uid is a hash without dashes.
    let dashed = uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    (digits(&uid.replace('-', "")) && (dashed || (uid.len() == 32 && digits(&uid)))).then_some(uid)
}

/// State that OCI runtimes without a manager keep on the host, by default.
const STATE_FOLDERS: &[&str] = &["/run/runc", "/run/crun"];

/// Containers of a state folder that are looked at, at most.
const STATES_MAX: usize = 4096;

/// Asks the state of runc and crun who owns that cgroup path.
pub fn identify_by_state(path: &str) -> Option<Container> {
    let mut folders: Vec<PathBuf> = STATE_FOLDERS.iter().map(PathBuf::from).collect();
    for user in Path::new("/run/user").read_dir().into_iter().flatten().flatten().take(STATES_MAX) {
        folders.extend(["runc", "crun"].map(|name| user.path().join(name)));
    }
    folders.iter().find_map(|folder| {
        let states = folder.read_dir().ok()?;
        states.flatten().take(STATES_MAX).find_map(|entry| in_state(&entry.path(), path))
    })
}

/// Whether one container's state folder owns that path.
fn in_state(folder: &Path, path: &str) -> Option<Container> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
    };
    let own = match read("state.json") {
        // runc: paths by controller, absolute on the host; the empty controller is v2.
        Some(state) => {
            let paths = state.get("cgroup_paths")?.as_object()?;
            let v2 =
                paths.get("").or_else(|| paths.get("unified")).or_else(|| paths.values().next())?.as_str()?;
            below_cgroup_mount(v2)?.to_owned()
        }
        // crun: the path below the mount.
        None => read("status")?.get("cgroup-path")?.as_str()?.to_owned(),
    };
    let own = own.trim_end_matches('/');
    let below = path.strip_prefix(own)?;
    if own.is_empty() || !(below.is_empty() || below.starts_with('/')) {
        return None;
    }
    let id = folder.file_name()?.to_str()?.to_owned();
    Some(Container { id, runtime: Runtime::Oci, pod_uid: None, cgroup_path: own.to_owned() })
}

/// `/sys/fs/cgroup/unified/a/b` and `/sys/fs/cgroup/memory/a/b` are `/a/b`; so is `/sys/fs/cgroup/a/b` where
/// that is the v2 mount.
fn below_cgroup_mount(path: &str) -> Option<&str> {
    let layout = super::cgroup::Layout::detect();
    if let Some(below) = layout.root().and_then(|root| path.strip_prefix(root.to_str()?)) {
        return Some(below);
    }
    let below = path.strip_prefix("/sys/fs/cgroup/")?;
    Some(&below[below.find('/')?..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "12345678-1234-1234-1234-123456789abc";
    const UID_UNDERSCORES: &str = "12345678_1234_1234_1234_123456789abc";
    const STATIC_UID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn paths_of_all_runtimes_and_drivers_are_told() {
        use Runtime::*;
        let table: &[(String, Runtime, Option<&str>)] = &[
            (format!("/docker/{ID}"), Docker, None),
            (format!("/system.slice/docker-{ID}.scope"), Docker, None),
            (format!("/libpod_parent/libpod-{ID}"), Podman, None),
            (format!("/machine.slice/libpod-{ID}.scope"), Podman, None),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Podman, None),
            (format!("/libpod_parent/{OTHER}/libpod-{ID}"), Podman, None),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
                Podman,
                None,
            ),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), Kubernetes, Some(UID)),
            (format!("/kubepods/pod{STATIC_UID}/{ID}"), Kubernetes, Some(STATIC_UID)),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_UNDERSCORES}.slice/cri-containerd-{ID}.scope"
                ),
                Containerd,
                Some(UID),
            ),
            (format!("/kubepods.slice/kubepods-pod{UID_UNDERSCORES}.slice/crio-{ID}.scope"), Crio, Some(UID)),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-pod{UID_UNDERSCORES}.slice:cri-containerd:{ID}"
                ),
                Containerd,
                None,
            ),
            (format!("/k8s.io/{ID}"), Containerd, None),
            (format!("/{ID}"), Oci, None),
        ];
        for (path, runtime, pod_uid) in table {
            let Identity::Container(container) = identify(path) else { panic!("{path}: no container") };
            let found = (container.id.as_str(), container.runtime, container.pod_uid.as_deref());
            assert_eq!(found, (ID, *runtime, *pod_uid), "{path}");
        }
    }

    #[test]
    fn host_paths_and_helpers_of_runtimes_are_no_containers() {
        for path in [
            "/",
            "/init.scope",
            "/system.slice/docker.service",
            "/user.slice/user-0.slice/session-1.scope",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/kubepods/burstable",
        ] {
            assert_eq!(identify(path), Identity::Host, "{path}");
        }
        for path in ["/mycontainer", "/a/b/c", "/docker/short", &format!("/libpod_parent/{ID}")] {
            assert_eq!(identify(path), Identity::Unknown, "{path}");
        }
    }

    #[test]
    fn cgroups_made_inside_a_container_cannot_change_whose_they_are() {
        for below in [
            format!("docker-{OTHER}.scope"),
            format!("x/docker/{OTHER}"),
            "a\n\u{1b}[2J".to_owned(),
            "n".repeat(4096),
        ] {
            let path = format!("/system.slice/docker-{ID}.scope/{below}");
            let Identity::Container(container) = identify(&path) else { panic!("{path}: no container") };
            assert_eq!(container.id, ID);
            assert_eq!(container.cgroup_path, format!("/system.slice/docker-{ID}.scope"));
        }
    }

    #[test]
    fn state_of_runc_and_crun_names_paths_that_the_user_chose() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, file: &str, text: &str| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join(file), text).unwrap();
            root.path().join(name)
        };
        let runc = write("web", "state.json", r#"{"cgroup_paths":{"cpu":"/sys/fs/cgroup/cpu/my/web"}}"#);
        let crun = write("db", "status", r#"{"cgroup-path":"/my/db"}"#);
        let junk = write("junk", "state.json", "{");
        let id = |folder, path| in_state(folder, path).map(|container| container.id);
        assert_eq!(id(&runc, "/my/web"), Some("web".to_owned()));
        assert_eq!(id(&runc, "/my/web/below"), Some("web".to_owned()));
        assert_eq!(id(&runc, "/my/website"), None);
        assert_eq!(id(&crun, "/my/db"), Some("db".to_owned()));
        assert_eq!(id(&junk, "/my/web"), None);
    }
}
