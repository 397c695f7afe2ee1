//! Which container a cgroup belongs to, from the cgroup's path alone.

/// A container that has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
