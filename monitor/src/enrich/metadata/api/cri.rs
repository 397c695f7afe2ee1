//! The Container Runtime Interface of Kubernetes, version 1 (`k8s.io/cri-api`, `api.proto`): names and labels of
//! containers and pods.

use std::collections::BTreeMap;

use prost::Message;

use super::socket::Socket;
use super::{Error, Fill, grpc};
use crate::enrich::container::Container;

#[derive(Message)]
struct ListContainersRequest {
    #[prost(message, tag = "1")]
    filter: Option<ContainerFilter>,
}

#[derive(Message)]
struct ContainerFilter {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<CriContainer>,
}

#[derive(Message)]
struct CriContainer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, tag = "4")]
    image: Option<ImageSpec>,
    #[prost(btree_map = "string, string", tag = "8")]
    labels: BTreeMap<String, String>,
}

#[derive(Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Message)]
struct PodSandboxStatusRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Message)]
struct PodSandboxStatusResponse {
    #[prost(message, tag = "1")]
    status: Option<PodSandboxStatus>,
}

#[derive(Message)]
struct PodSandboxStatus {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(btree_map = "string, string", tag = "7")]
    labels: BTreeMap<String, String>,
}

#[derive(Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Message)]
struct VersionRequest {}

#[derive(Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
}

async fn call<A: Message + Default>(
    socket: &Socket,
    method: &str,
    question: &impl Message,
) -> Result<A, Error> {
    grpc::call(socket, &format!("runtime.v1.RuntimeService/{method}"), None, question).await
}

/// Asks about a container and its pod; a sandbox is the pod's own.
pub(super) async fn ask(socket: &Socket, container: &Container) -> Result<Fill, Error> {
    let filter = Some(ContainerFilter { id: container.id.clone() });
    let ListContainersResponse { containers } =
        call(socket, "ListContainers", &ListContainersRequest { filter }).await?;
    let found = containers.into_iter().find(|found| found.id == container.id);
    let pod_sandbox_id = found.as_ref().map_or(&container.id, |found| &found.pod_sandbox_id).clone();
    let question = PodSandboxStatusRequest { pod_sandbox_id };
    let pod = match call(socket, "PodSandboxStatus", &question).await {
        Ok(PodSandboxStatusResponse { status }) => status.filter(|pod| pod.id == question.pod_sandbox_id),
        // The pod may be on its way out.
        Err(Error::Unknown) => None,
        Err(error) => return Err(error),
    };
    if found.is_none() && pod.is_none() {
        return Err(Error::Unknown);
    }
    Ok(Box::new(move |draft| {
        let is_sandbox = found.is_none();
        draft.metadata.is_sandbox.get_or_insert(is_sandbox);
        if let Some(CriContainer { id: _, pod_sandbox_id, metadata, image, labels }) = found {
            draft.name(metadata.as_ref().map_or("", |metadata| &metadata.name));
            draft.pod(&pod_sandbox_id, |pod| &mut pod.sandbox_id);
            if let Some(ImageSpec { image, user_specified_image }) = image {
                draft.image(if user_specified_image.is_empty() { &image } else { &user_specified_image });
            }
            draft.labels(&labels, |metadata| &mut metadata.labels);
        }
        let Some(PodSandboxStatus { id: _, metadata, labels }) = pod else { return };
        if let Some(PodSandboxMetadata { name, uid, namespace }) = metadata {
            draft.pod(&name, |pod| &mut pod.name);
            draft.pod(&uid, |pod| &mut pod.uid);
            draft.pod(&namespace, |pod| &mut pod.namespace);
        }
        if is_sandbox {
            draft.labels(&labels, |metadata| &mut metadata.labels);
        } else {
            draft.labels(&labels, |metadata| &mut metadata.pod.get_or_insert_default().labels);
        }
    }))
}

/// Who answers.
pub(super) async fn version(socket: &Socket) -> Result<String, Error> {
    let VersionResponse { runtime_name, runtime_version } =
        call(socket, "Version", &VersionRequest {}).await?;
    Ok(format!("{runtime_name} {runtime_version}"))
}
