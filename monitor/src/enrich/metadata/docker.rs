//! Docker's own files of a container: `config.v2.json` and `hostconfig.json` in `containers/ID` of its root folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Draft, Mount, Problem, Query};
use crate::enrich::container::Runtime;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    #[serde(rename = "ID")]
    id: String,
    name: Option<String>,
    created: Option<String>,
    /// `sha256:` and the image's id.
    image: Option<String>,
    /// Its storage driver.
    driver: Option<String>,
    config: Option<Config>,
    mount_points: Option<BTreeMap<String, MountPoint>>,
}

/// What it was asked to be, which docker's API has in the same words.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    image: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl Config {
    pub(super) fn take(self, draft: &mut Draft) {
        let Self { image, user, labels } = self;
        draft.image(image.as_deref().unwrap_or_default());
        draft.fill(user.as_deref().unwrap_or_default(), |metadata| &mut metadata.user);
        draft.labels(&labels.unwrap_or_default(), |metadata| &mut metadata.labels);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountPoint {
    source: Option<String>,
    destination: Option<String>,
    #[serde(rename = "RW", default)]
    is_writable: bool,
    /// The mode.
    relabel: Option<String>,
    propagation: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) privileged: Option<bool>,
}

/// Which images there are: by repository, then by name with tag or digest, `sha256:` and the id.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    repositories: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

/// Looks for the container's files.
pub(super) fn read(query: &Query<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let container = query.container;
    if !matches!(container.runtime, Runtime::Docker | Runtime::Kubernetes) {
        return Ok(());
    }
    for root in query.folders(|folders| &folders.docker) {
        let folder = root.join("containers").join(&container.id);
        let Some(file) = query.json::<File>(&folder.join("config.v2.json"))? else { continue };
        if file.id != container.id {
            continue;
        }
        draft.is_found = true;
        if container.runtime == Runtime::Kubernetes {
            draft.runtime = Some(Runtime::Docker);
        }
        let (image, driver) = (file.image.clone(), file.driver.clone());
        take(file, draft);
        if let Some(HostConfig { privileged: Some(privileged) }) =
            query.json(&folder.join("hostconfig.json"))?
        {
            draft.metadata.is_privileged = Some(privileged);
        }
        return digest(query, draft, &root, (driver.as_deref(), image.as_deref()));
    }
    Ok(())
}

fn take(file: File, draft: &mut Draft) {
    let File { id: _, name, created, image, driver: _, config, mount_points } = file;
    let name = name.unwrap_or_default();
    draft.name(name.strip_prefix('/').unwrap_or(&name));
    draft.created(created.as_deref().unwrap_or_default());
    draft.image_id(image.as_deref().unwrap_or_default());
    if let Some(config) = config {
        config.take(draft);
    }
    draft.mounts(mount_points.unwrap_or_default().values().map(|point| {
        let MountPoint { source, destination, is_writable, relabel, propagation } = point;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Mount::new(&text(source), &text(destination), &text(relabel), *is_writable, &text(propagation))
    }));
}

/// The digest that the image was pulled by; one that was built here has none.
fn digest(
    query: &Query<'_>,
    draft: &mut Draft,
    root: &Path,
    (driver, image): (Option<&str>, Option<&str>),
) -> Result<(), Problem> {
    let (Some(driver), Some(image)) = (driver, image) else { return Ok(()) };
    if !driver.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let path = root.join("image").join(driver).join("repositories.json");
    let Some(Repositories { repositories: Some(repositories) }) = query.json(&path)? else { return Ok(()) };
    let names = repositories.values().flatten().filter(|(_, id)| *id == image);
    if let Some(digest) = names.filter_map(|(name, _)| Some(name.split_once('@')?.1)).next() {
        draft.digest(digest);
    }
    Ok(())
}
