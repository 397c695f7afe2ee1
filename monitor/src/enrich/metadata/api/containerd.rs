//! containerd's own API (`containerd.services`): the images of containers that no CRI knows, such as those of `ctr`.

use std::collections::BTreeMap;

use prost::Message;

use super::socket::Socket;
use super::{Error, Fill, grpc};
use crate::enrich::container::Container;

/// Namespaces that are looked at, at most.
const NAMESPACES_MAX: usize = 64;

/// Says in which namespace a question is meant.
const NAMESPACE_HEADER: &str = "containerd-namespace";

#[derive(Message)]
struct ListNamespacesRequest {}

#[derive(Message)]
struct ListNamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct GetContainerRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Message)]
struct GetContainerResponse {
    #[prost(message, tag = "1")]
    container: Option<ContainerdContainer>,
}

#[derive(Message)]
struct ContainerdContainer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
}

#[derive(Message)]
struct VersionResponse {
    #[prost(string, tag = "1")]
    version: String,
}

/// Asks about a container, in the namespace that its cgroup's path names, or in each: an id is one container's only in
/// its own.
pub(super) async fn ask(socket: &Socket, container: &Container) -> Result<Fill, Error> {
    let method = "containerd.services.namespaces.v1.Namespaces/List";
    let ListNamespacesResponse { namespaces } =
        grpc::call(socket, method, None, &ListNamespacesRequest {}).await?;
    let question = GetContainerRequest { id: container.id.clone() };
    let folder = container.cgroup_path.rsplit('/').nth(1);
    let own = namespaces.iter().position(|namespace| Some(namespace.name.as_str()) == folder);
    let (skipped, taken) = own.map_or((0, NAMESPACES_MAX), |own| (own, 1));
    let mut found = None;
    for Namespace { name } in namespaces.into_iter().skip(skipped).take(taken) {
        let header = Some((NAMESPACE_HEADER, name.as_str()));
        match grpc::call(socket, "containerd.services.containers.v1.Containers/Get", header, &question).await
        {
            Ok(GetContainerResponse { container: Some(told) }) if told.id == question.id => {
                // Two of one name cannot be told apart by it.
                if found.replace(told).is_some() {
                    return Err(Error::Wrong(format!("several containers are called {}", question.id)));
                }
            }
            Ok(_) | Err(Error::Unknown) => {}
            Err(error) => return Err(error),
        }
    }
    let Some(ContainerdContainer { id: _, labels, image }) = found else { return Err(Error::Unknown) };
    Ok(Box::new(move |draft| {
        draft.image(&image);
        draft.labels(&labels, |metadata| &mut metadata.labels);
    }))
}

/// Who answers.
pub(super) async fn version(socket: &Socket) -> Result<String, Error> {
    let VersionResponse { version } =
        grpc::call(socket, "containerd.services.version.v1.Version/Version", None, &()).await?;
    Ok(format!("containerd {version}"))
}
