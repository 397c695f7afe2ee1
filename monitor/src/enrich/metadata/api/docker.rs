//! Docker's API, which podman's service speaks too; and podman's own, for its pods.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::socket::Socket;
use super::{Error, Fill};
use crate::enrich::container::Container;
use crate::enrich::metadata::docker::{Config, HostConfig};
use crate::enrich::metadata::{Draft, Mount};

/// `GET /containers/ID/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: Option<String>,
    created: Option<String>,
    image: Option<String>,
    config: Option<Config>,
    host_config: Option<HostConfig>,
    mounts: Option<Vec<MountPoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountPoint {
    source: Option<String>,
    destination: Option<String>,
    mode: Option<String>,
    #[serde(rename = "RW", default)]
    is_writable: bool,
    propagation: Option<String>,
}

/// `GET /libpod/pods/ID/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedPod {
    id: String,
    name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "InfraContainerID")]
    infra_container_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

/// `GET /events`, of a container that gets another name.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: Option<String>,
    actor: Option<Actor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    attributes: BTreeMap<String, String>,
}

/// Asks about a container.
pub(super) async fn ask(socket: &Socket, container: &Container) -> Result<Fill, Error> {
    let found = inspect(socket, &container.id).await?;
    Ok(Box::new(move |draft| take(found, draft)))
}

/// Asks about a container of podman, and its pod.
pub(super) async fn ask_podman(socket: &Socket, container: &Container) -> Result<Fill, Error> {
    let found = inspect(socket, &container.id).await?;
    let pod = match pod_of(&container.cgroup_path) {
        // The least version that has pods as they are now.
        Some(id) => match socket.get::<InspectedPod>(&format!("/v4.0.0/libpod/pods/{id}/json")).await {
            Ok(pod) => Some(pod).filter(|pod| pod.id == id),
            Err(Error::Unknown) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    Ok(Box::new(move |draft| {
        let id = found.id.clone();
        take(found, draft);
        if let Some(pod) = pod {
            take_pod(pod, &id, draft);
        }
    }))
}

/// Tells id and new name of each container that is renamed, also of those since a time in seconds since 1970; until the
/// runtime hangs up or nobody wants to know.
pub(super) async fn watch_names(
    socket: &Socket,
    since_s: i64,
    tell: impl Fn(&str, &str) -> bool,
) -> Result<(), Error> {
    // {"type":["container"],"event":["rename"]}
    const FILTERS: &str = "%7B%22type%22:%5B%22container%22%5D,%22event%22:%5B%22rename%22%5D%7D";
    let path = format!("/events?since={since_s}&filters={FILTERS}");
    socket.lines(&path, |line| renamed(line).is_none_or(|(id, name)| tell(&id, &name))).await
}

/// Whose new name a line tells, and which; others may come all the same.
fn renamed(line: &[u8]) -> Option<(String, String)> {
    let Event { action, actor } = serde_json::from_slice(line).ok()?;
    let Actor { id, mut attributes } = actor.filter(|_| action.as_deref() == Some("rename"))?;
    let name = attributes.remove("name").filter(|name| !name.is_empty() && is_id(&id))?;
    Some((id, name))
}

async fn inspect(socket: &Socket, id: &str) -> Result<Inspected, Error> {
    // It becomes part of an address.
    if !is_id(id) {
        return Err(Error::Unknown);
    }
    let found: Inspected = socket.get(&format!("/containers/{id}/json")).await?;
    if found.id == id { Ok(found) } else { Err(Error::Unknown) }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn take(found: Inspected, draft: &mut Draft) {
    let Inspected { id: _, name, created, image, config, host_config, mounts } = found;
    let name = name.unwrap_or_default();
    draft.name(name.strip_prefix('/').unwrap_or(&name));
    draft.created(created.as_deref().unwrap_or_default());
    draft.image_id(image.as_deref().unwrap_or_default());
    if let Some(config) = config {
        config.take(draft);
    }
    if let Some(HostConfig { privileged: Some(privileged) }) = host_config {
        draft.metadata.is_privileged.get_or_insert(privileged);
    }
    draft.mounts(mounts.unwrap_or_default().into_iter().map(|point| {
        let MountPoint { source, destination, mode, is_writable, propagation } = point;
        let [source, destination, mode, propagation] =
            [source, destination, mode, propagation].map(Option::unwrap_or_default);
        Mount::new(&source, &destination, &mode, is_writable, &propagation)
    }));
}

fn take_pod(pod: InspectedPod, container_id: &str, draft: &mut Draft) {
    let InspectedPod { id: _, name, labels, infra_container_id } = pod;
    let infra = infra_container_id.unwrap_or_default();
    draft.metadata.is_sandbox.get_or_insert(infra == container_id);
    draft.pod(&infra, |pod| &mut pod.sandbox_id);
    draft.pod(name.as_deref().unwrap_or_default(), |pod| &mut pod.name);
    draft.labels(&labels.unwrap_or_default(), |metadata| &mut metadata.pod.get_or_insert_default().labels);
}

/// The id of a container's pod, by the path of its cgroup: a folder of that name, or a slice of systemd.
pub(super) fn pod_of(cgroup_path: &str) -> Option<&str> {
    let (above, own) = cgroup_path.rsplit_once('/')?;
    let folder = above.rsplit('/').next().filter(|_| own.starts_with("libpod-"))?;
    let slice = folder.strip_suffix(".slice").and_then(|name| name.rsplit_once("libpod_pod_"));
    Some(slice.map_or(folder, |(_, id)| id)).filter(|id| is_id(id))
}

/// Who answers.
pub(super) async fn version(socket: &Socket) -> Result<String, Error> {
    let Version { version, components } = socket.get("/version").await?;
    let name = components.unwrap_or_default().into_iter().next().map(|component| component.name);
    Ok(format!("{} {version}", name.as_deref().unwrap_or("version")))
}
