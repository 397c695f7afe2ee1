//! containerd's tasks: a bundle each, by namespace. Those of CRI have the pod in their annotations; those of docker
//! and of `ctr` and `nerdctl` are plain.

use std::path::Path;

use super::oci::Annotations;
use super::{Draft, Problem, Query, oci};
use crate::enrich::container::Runtime;

/// Below containerd's state folder.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Namespaces that are looked at, at most.
const NAMESPACES_MAX: usize = 64;

/// The namespace of CRI.
const CRI: &str = "k8s.io";

/// What containerd's CRI plugin tells in annotations.
#[rustfmt::skip]
const CRI_ANNOTATIONS: Annotations = &[
    ("io.kubernetes.cri.container-name", |draft, value| draft.name(value)),
    ("io.kubernetes.cri.container-type", |draft, value| draft.metadata.is_sandbox = Some(value == "sandbox")),
    ("io.kubernetes.cri.image-name", |draft, value| draft.image(value)),
    ("io.kubernetes.cri.sandbox-id", |draft, value| draft.pod(value, |pod| &mut pod.sandbox_id)),
    ("io.kubernetes.cri.sandbox-name", |draft, value| draft.pod(value, |pod| &mut pod.name)),
    ("io.kubernetes.cri.sandbox-namespace", |draft, value| draft.pod(value, |pod| &mut pod.namespace)),
    ("io.kubernetes.cri.sandbox-uid", |draft, value| draft.pod(value, |pod| &mut pod.uid)),
];

/// What nerdctl tells in annotations. It has no others than its labels.
const NERDCTL_NAME: &str = "nerdctl/name";

/// Looks for the container's bundle.
pub(super) fn read(query: &Query<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let runtime = query.container.runtime;
    if !matches!(runtime, Runtime::Containerd | Runtime::Kubernetes | Runtime::Docker) {
        return Ok(());
    }
    for folder in query.folders(|folders| &folders.containerd) {
        let namespaces = folder.join(TASKS).read_dir().into_iter().flatten().flatten();
        for namespace in namespaces.take(NAMESPACES_MAX) {
            if read_task(query, draft, &namespace.path().join(&query.container.id))? {
                if runtime == Runtime::Kubernetes {
                    draft.runtime = Some(Runtime::Containerd);
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads a task's bundle, which lies in the folder of its namespace; tells whether it is there.
pub(super) fn read_task(query: &Query<'_>, draft: &mut Draft, bundle: &Path) -> Result<bool, Problem> {
    let namespace = bundle.parent().and_then(Path::file_name);
    if namespace.is_some_and(|name| name == CRI) {
        return oci::read_bundle(query, draft, bundle, CRI_ANNOTATIONS);
    }
    let is_found = oci::read_bundle(query, draft, bundle, &[])?;
    let name = draft.metadata.labels.get(NERDCTL_NAME).map(ToOwned::to_owned);
    draft.name(name.as_deref().unwrap_or_default());
    Ok(is_found)
}
