//! Which container a cgroup belongs to, from the cgroup's path; `state.rs` has what runtimes say that let the user
//! choose the path. Nothing in here comes from inside a container but names of cgroups below its own, and those are
//! never looked at: the outermost match wins.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::metadata::Metadata;
use super::process::ProcessKey;

/// A container that has been seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The runtime's full id: 64 hex digits for most, whatever the user chose for plain runc.
    pub id: String,
    /// Which runtime made it.
    pub runtime: Runtime,
    /// Kubernetes: the pod's uid with dashes, if the path names one.
    pub pod_uid: Option<String>,
    /// Path of its cgroup below the root of the tree, starting with `/`.
    pub cgroup_path: String,
    /// What it is called and was given, once that is known; empty if nobody can tell.
    #[serde(skip)]
    pub metadata: Described,
    /// The first process that ran a program of its own.
    #[serde(skip)]
    pub first: OnceLock<First>,
    /// What it was told when it asked for names.
    #[serde(skip)]
    pub answers: Answers,
    /// Whether it is watched, by what is known of it.
    #[serde(skip)]
    pub watched: Watched,
}

/// The first process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Which one.
    pub key: ProcessKey,
    /// Inode numbers of its namespaces for processes and for mounts, 0 if not known.
    pub namespaces: (u32, u32),
}

/// What is known of a container. More can be told later: what was known before stays, for whoever borrowed it.
#[derive(Clone, Debug, Default)]
pub struct Described {
    first: OnceLock<Box<Version>>,
    is_final: OnceLock<()>,
}

#[derive(Clone, Debug)]
struct Version {
    metadata: Metadata,
    newer: OnceLock<Box<Version>>,
}

/// How often something new is taken in.
const VERSIONS_MAX: usize = 64;

impl Described {
    /// What is known now.
    pub fn get(&self) -> Option<&Metadata> {
        let versions = std::iter::successors(self.first.get(), |version| version.newer.get());
        Some(&versions.last()?.metadata)
    }

    /// Takes in what is known from now on; tells whether that is new.
    pub fn set(&self, metadata: Metadata) -> bool {
        if self.get() == Some(&metadata) {
            return false;
        }
        let mut place = &self.first;
        for _ in 0..VERSIONS_MAX {
            match place.get() {
                Some(known) => place = &known.newer,
                None => return place.set(Box::new(Version { metadata, newer: OnceLock::new() })).is_ok(),
            }
        }
        false
    }

    /// Whether nothing more can come.
    pub fn is_final(&self) -> bool {
        self.is_final.get().is_some()
    }

    /// Nothing more can come.
    pub fn settle(&self) {
        self.is_final.get_or_init(|| ());
    }
}

/// Whether a container is watched, as it was decided last; it is until then.
#[derive(Debug)]
pub struct Watched(AtomicBool);

impl Default for Watched {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Clone for Watched {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.get()))
    }
}

impl Watched {
    /// The decision.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Decides; tells whether it was otherwise before.
    pub fn set(&self, is_watched: bool) -> bool {
        self.0.swap(is_watched, Ordering::Relaxed) != is_watched
    }
}

/// It is the same container, whatever is known of it.
impl PartialEq for Container {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.cgroup_path) == (&other.id, &other.cgroup_path)
    }
}

impl Eq for Container {}

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
    /// LXC, also by LXD, Incus, Proxmox and libvirt.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Kubernetes' cgroup path that does not say which runtime.
    Kubernetes,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Runtime; 8] = [
        Runtime::Docker,
        Runtime::Podman,
        Runtime::Containerd,
        Runtime::Crio,
        Runtime::Kubernetes,
        Runtime::Oci,
        Runtime::Lxc,
        Runtime::Nspawn,
    ];

    /// The name in fields and formats.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Podman => "podman",
            Runtime::Containerd => "containerd",
            Runtime::Crio => "cri-o",
            Runtime::Oci => "oci",
            Runtime::Lxc => "lxc",
            Runtime::Nspawn => "systemd-nspawn",
            Runtime::Kubernetes => "kubernetes",
        }
    }

    /// Whether its containers are whole systems, whose names are their ids and of which it keeps no files that are read.
    pub fn is_by_name(self) -> bool {
        matches!(self, Runtime::Lxc | Runtime::Nspawn)
    }
}

impl Container {
    /// One of which only this is known.
    pub fn new(id: String, runtime: Runtime, pod_uid: Option<String>, cgroup_path: String) -> Self {
        Self {
            id,
            runtime,
            pod_uid,
            cgroup_path,
            metadata: Described::default(),
            first: OnceLock::new(),
            answers: Answers::default(),
            watched: Watched::default(),
        }
    }

    /// Whether all folders above its cgroup are such as container managers and systemd make. Below any other
    /// one the name may have been chosen inside a container whose own path its user chose.
    pub fn is_in_known_folder(&self) -> bool {
        let above = self.cgroup_path.rsplit_once('/').map_or("", |(above, _)| above);
        above.split('/').filter(|name| !name.is_empty()).all(|name| {
            let is_unit = [".slice", ".service"].iter().any(|suffix| name.ends_with(suffix));
            is_unit || KUBEPODS.contains(&name) || pod_uid_of(name).is_some()
        })
    }
}

/// Folders that the kubelet makes above those of pods.
const KUBEPODS: &[&str] = &["kubepods", "besteffort", "burstable"];

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
        let slice = name.split_once(":cri-containerd:").map_or(name, |(slice, _)| slice);
        if let Some(uid) = pod_uid_of(slice) {
            pod_uid = Some(uid);
        }
        if let Some((runtime, id)) = container_of(name, parent, pod_uid.is_some()) {
            let (id, cgroup_path) = (id.to_owned(), path[..end].to_owned());
            return Identity::Container(Container::new(id, runtime, pod_uid, cgroup_path));
        }
        if let Some((runtime, id)) = system_of(name, &path[..at]) {
            return Identity::Container(Container::new(id, runtime, None, path[..end].to_owned()));
        }
        if !name.is_empty() {
            parent = name;
        }
        at = end + 1;
    }
    if is_hosts(path) { Identity::Host } else { Identity::Unknown }
}

/// Whether a path that names no container is one of systemd's units and sessions, of a pod or of a runtime's
/// helper. Not so a scope or a plain folder in there: runtimes make those for containers too, named at will.
fn is_hosts(path: &str) -> bool {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let is_systemds = |name: &str| {
        const UNITS: &[&str] = &[".slice", ".service", ".mount", ".socket", ".swap"];
        let is_session = name == "init.scope" || name.starts_with("session-") && name.ends_with(".scope");
        let is_helper = name.starts_with("libpod-conmon-") || name.starts_with("crio-conmon-");
        is_session || is_helper || UNITS.iter().any(|suffix| name.ends_with(suffix))
    };
    let is_below = |name: &str| is_systemds(name) || KUBEPODS.contains(&name) || pod_uid_of(name).is_some();
    match names.next() {
        None | Some("init.scope") => true,
        Some(name) if name.starts_with("lxc.monitor") || name.starts_with("lxc.pivot") => true,
        Some("system.slice" | "user.slice" | "machine.slice" | "kubepods" | "kubepods.slice") => {
            names.all(is_below)
        }
        Some(_) => false,
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

/// The container of a whole system that one name in a path stands for, by what is above it. What LXC's `lxc.monitor` and
/// nspawn's `supervisor` run is the host's; the latter is below the container's own cgroup, and counted as that.
fn system_of(name: &str, above: &str) -> Option<(Runtime, String)> {
    if let Some(id) = name.strip_prefix("lxc.payload.")
        && !id.is_empty()
    {
        return Some((Runtime::Lxc, id.to_owned()));
    }
    match above {
        "/lxc/" | "/lxc.payload/" if !name.is_empty() => Some((Runtime::Lxc, name.to_owned())),
        "/machine.slice/" => {
            if let Some(id) = name.strip_prefix("systemd-nspawn@").and_then(|id| id.strip_suffix(".service"))
            {
                return Some((Runtime::Nspawn, unescape(id)));
            }
            let machine = unescape(name.strip_prefix("machine-")?.strip_suffix(".scope")?);
            // libvirt's: virtual machines are no containers.
            match machine.strip_prefix("lxc-") {
                Some(id) => Some((Runtime::Lxc, id.to_owned())),
                None => (!machine.starts_with("qemu-")).then_some((Runtime::Nspawn, machine)),
            }
        }
        _ => None,
    }
}

/// A part of a unit's name as it was before systemd put `\x2d` for each `-` in it (systemd-escape(1)).
fn unescape(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.strip_prefix(b"x").and_then(|code| code.get(..2)).filter(|_| first == b'\\');
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it is 64 hex digits, as all container managers choose.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The uid in `pod<uid>` or `kubepods-…-pod<uid>.slice`, with dashes.
fn pod_uid_of(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        // The kubelet can be told to make its slices below another one.
        Some(slice) if slice.split('-').any(|part| part == "kubepods") => {
            slice.rsplit_once("-pod")?.1.replace('_', "-")
        }
        Some(_) => return None,
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A static pod's uid is a hash without dashes.
    let dashed = uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    (digits(&uid.replace('-', "")) && (dashed || (uid.len() == 32 && digits(&uid)))).then_some(uid)
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
                Some(UID),
            ),
            (format!("/k8s.io/{ID}"), Containerd, None),
            (format!("/k8s.io/{ID}/init.scope"), Containerd, None),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"),
                Docker,
                None,
            ),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/app.slice/nerdctl-{ID}.scope"),
                Containerd,
                None,
            ),
            (format!("/user.slice/libpod_parent/libpod-{ID}"), Podman, None),
            (
                format!("/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope/container"),
                Podman,
                None,
            ),
            (format!("/kubepods/besteffort/pod{UID}/crio-{ID}"), Crio, Some(UID)),
            (
                format!("/kubepods.slice/kubepods-pod{UID_UNDERSCORES}.slice/crio-{ID}.scope/container"),
                Crio,
                Some(UID),
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_UNDERSCORES}.slice/cri-containerd-{ID}.scope"
                ),
                Containerd,
                Some(UID),
            ),
            (format!("/{ID}"), Oci, None),
        ];
        for (path, runtime, pod_uid) in table {
            let Identity::Container(container) = identify(path) else { panic!("{path}: no container") };
            let found = (container.id.as_str(), container.runtime, container.pod_uid.as_deref());
            assert_eq!(found, (ID, *runtime, *pod_uid), "{path}");
        }
    }

    #[test]
    fn paths_of_whole_systems_are_told_by_their_names() {
        use Runtime::*;
        for (path, runtime, id, own) in [
            ("/lxc.payload.web", Lxc, "web", "/lxc.payload.web"),
            ("/lxc.payload.shop_web/system.slice/ssh.service", Lxc, "shop_web", "/lxc.payload.shop_web"),
            ("/lxc.payload/101/ns", Lxc, "101", "/lxc.payload/101"),
            ("/lxc/101", Lxc, "101", "/lxc/101"),
            ("/lxc/101/ns/init.scope", Lxc, "101", "/lxc/101"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/lxc.payload.mine",
                Lxc,
                "mine",
                "/user.slice/user-1000.slice/user@1000.service/app.slice/lxc.payload.mine",
            ),
            (
                r"/machine.slice/machine-lxc\x2d12345\x2dweb.scope/libvirt",
                Lxc,
                "12345-web",
                r"/machine.slice/machine-lxc\x2d12345\x2dweb.scope",
            ),
            (
                r"/machine.slice/machine-my\x2dweb.scope/payload/init.scope",
                Nspawn,
                "my-web",
                r"/machine.slice/machine-my\x2dweb.scope",
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload",
                Nspawn,
                "web",
                "/machine.slice/systemd-nspawn@web.service",
            ),
            // What runs in there is nobody else's.
            (&format!("/lxc.payload.web/docker/{ID}"), Lxc, "web", "/lxc.payload.web"),
            (
                &format!("/machine.slice/systemd-nspawn@web.service/payload/system.slice/docker-{ID}.scope"),
                Nspawn,
                "web",
                "/machine.slice/systemd-nspawn@web.service",
            ),
        ] {
            let Identity::Container(container) = identify(path) else { panic!("{path}: no container") };
            let found = (container.id.as_str(), container.runtime, container.cgroup_path.as_str());
            assert_eq!(found, (id, runtime, own), "{path}");
        }
        for (escaped, name) in [(r"\x2d\x2", "-\\x2"), (r"\xzz\", "\\xzz\\"), (r"\xff", "\u{fffd}"), ("", "")]
        {
            assert_eq!(unescape(escaped), name);
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
            "/user.slice/user-0.slice/user@0.service/init.scope",
            "/kubepods/burstable",
            &format!("/kubepods/pod{UID}"),
            "/lxc.monitor.web",
            "/lxc.monitor/101",
            "/machine.slice",
        ] {
            assert_eq!(identify(path), Identity::Host, "{path}");
        }
        for path in [
            "/mycontainer",
            "/a/b/c",
            "/docker/short",
            &format!("/libpod_parent/{ID}"),
            // What runc and crun make by systemd's hand, and what a user can ask them for.
            "/system.slice/runc-web.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/crun-web.scope",
            "/system.slice/some.service/web",
            // A virtual machine of libvirt, and what any user can call his scope.
            r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
            "/user.slice/user-1000.slice/user@1000.service/machine-web.scope",
            "/lxc",
            "/x/lxc/101",
            &format!("/kubepods/burstable/pod{UID}/web"),
        ] {
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
    fn folders_of_container_managers_are_told_from_those_that_a_user_chose() {
        let known = |path: &str| match identify(path) {
            Identity::Container(container) => container.is_in_known_folder(),
            other => panic!("{path}: {other:?}"),
        };
        for path in [
            format!("/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods.slice/kubepods-pod{UID_UNDERSCORES}.slice/crio-{ID}.scope"),
        ] {
            assert!(known(&path), "{path}");
        }
        // `docker` may be a folder of docker's as well as a container that its user called so.
        for path in [format!("/web/docker-{ID}.scope"), format!("/docker/{ID}"), format!("/a/b/{ID}")] {
            assert!(!known(&path), "{path}");
        }
    }
}
