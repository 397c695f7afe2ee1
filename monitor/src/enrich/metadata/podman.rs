//! The storage that podman and CRI-O share (containers/storage): a list of containers with their names and images, and
//! a bundle each. Podman's labels are in its database only.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::oci::Annotations;
use super::{Draft, Problem, Query, oci};
use crate::enrich::container::Runtime;

/// Ways to keep layers. Each has folders of its own below the storage's root, which holds what survives a restart, and
/// its run root.
const DRIVERS: &[&str] = &["overlay", "vfs", "btrfs", "zfs"];

/// Lists of containers in there: such as are removed after a crash have one of their own.
const LISTS: &[&str] = &["containers.json", "volatile-containers.json"];

/// What CRI-O tells in annotations.
#[rustfmt::skip]
const CRIO_ANNOTATIONS: Annotations = &[
    ("io.kubernetes.cri-o.ContainerType", |draft, value| draft.metadata.is_sandbox = Some(value == "sandbox")),
    ("io.kubernetes.cri-o.Created", |draft, value| draft.created(value)),
    ("io.kubernetes.cri-o.ImageName", |draft, value| draft.image(value)),
    ("io.kubernetes.cri-o.ImageRef", image_reference),
    ("io.kubernetes.cri-o.KubeName", |draft, value| draft.pod(value, |pod| &mut pod.name)),
    ("io.kubernetes.cri-o.Labels", labels),
    ("io.kubernetes.cri-o.Namespace", |draft, value| draft.pod(value, |pod| &mut pod.namespace)),
    ("io.kubernetes.cri-o.PrivilegedRuntime", privileged),
    ("io.kubernetes.cri-o.SandboxID", |draft, value| draft.pod(value, |pod| &mut pod.sandbox_id)),
];

/// What podman tells in annotations. It writes them after those of the image, so that no image can give them.
const PODMAN_ANNOTATIONS: Annotations = &[
    ("io.kubernetes.cri-o.Created", |draft, value| draft.created(value)),
    ("io.podman.annotations.privileged", privileged),
];

/// Only what adds to what the bundle itself says.
fn privileged(draft: &mut Draft, value: &str) {
    if value.eq_ignore_ascii_case("true") {
        draft.metadata.is_privileged = Some(true);
    }
}

/// An image's id, or its name with its digest.
fn image_reference(draft: &mut Draft, value: &str) {
    match value.split_once('@') {
        Some((_, digest)) => draft.digest(digest),
        None => draft.image_id(value),
    }
}

/// Labels are JSON in a text.
fn labels(draft: &mut Draft, value: &str) {
    if let Ok(labels) = serde_json::from_str::<BTreeMap<String, String>>(value) {
        draft.labels(&labels, |metadata| &mut metadata.labels);
    }
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    names: Option<Vec<String>>,
    /// The image's id.
    image: Option<String>,
    created: Option<String>,
    /// JSON in a text.
    metadata: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    image_name: Option<String>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: String,
    digest: Option<String>,
}

/// Looks for the container's bundle and its line in the lists.
pub(super) fn read(query: &Query<'_>, draft: &mut Draft) -> Result<(), Problem> {
    if !matches!(query.container.runtime, Runtime::Podman | Runtime::Crio | Runtime::Kubernetes) {
        return Ok(());
    }
    query.folders(|folders| &folders.podman).iter().try_for_each(|root| read_storage(query, draft, root))
}

/// Whether a bundle is one of the storage's, `ROOT/DRIVER-containers/ID/userdata`.
pub(super) fn is_in_storage(bundle: &Path, id: &str) -> bool {
    DRIVERS.iter().any(|driver| bundle.ends_with(format!("{driver}-containers/{id}/userdata")))
}

/// Looks into the storage that a bundle lies in.
pub(super) fn read_around(query: &Query<'_>, draft: &mut Draft, bundle: &Path) -> Result<(), Problem> {
    bundle.ancestors().nth(3).map_or(Ok(()), |root| read_storage(query, draft, root))
}

fn read_storage(query: &Query<'_>, draft: &mut Draft, root: &Path) -> Result<(), Problem> {
    DRIVERS.iter().try_for_each(|driver| read_driver(query, draft, root, driver))
}

fn read_driver(query: &Query<'_>, draft: &mut Draft, root: &Path, driver: &str) -> Result<(), Problem> {
    let folder = root.join(format!("{driver}-containers"));
    let is_podmans = !matches!(query.container.runtime, Runtime::Crio | Runtime::Kubernetes);
    let known = if is_podmans { PODMAN_ANNOTATIONS } else { CRIO_ANNOTATIONS };
    let bundle = folder.join(&query.container.id).join("userdata");
    if oci::read_bundle(query, draft, &bundle, known)? && query.container.runtime == Runtime::Kubernetes {
        draft.runtime = Some(Runtime::Crio);
    }
    for list in LISTS {
        let entries = query.json::<Vec<Entry>>(&folder.join(list))?.unwrap_or_default();
        let Some(entry) = entries.into_iter().find(|entry| entry.id == query.container.id) else { continue };
        let Entry { id: _, names, image, created, metadata } = entry;
        draft.is_found = true;
        draft.created(created.as_deref().unwrap_or_default());
        draft.image_id(image.as_deref().unwrap_or_default());
        let metadata = metadata.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
        draft.image(metadata.and_then(|metadata| metadata.image_name).as_deref().unwrap_or_default());
        // CRI-O puts names together from those of pod and container.
        if is_podmans {
            draft.name(names.unwrap_or_default().first().map_or("", String::as_str));
        }
        let images = query.json::<Vec<ImageEntry>>(&root.join(format!("{driver}-images/images.json")))?;
        let entry = images.unwrap_or_default().into_iter().find(|entry| Some(&entry.id) == image.as_ref());
        draft.digest(entry.and_then(|entry| entry.digest).as_deref().unwrap_or_default());
        return Ok(());
    }
    Ok(())
}
