//! Each source by files as its runtime writes them, and by files that somebody else would write.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const IMAGE: &str = "c76c1ff9ee6ee733afeee99ac78409e203f61a021630781cc44a24013995828c";
const UID: &str = "12345678-1234-1234-1234-123456789abc";

/// A host's files.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, path: &str, value: &Value) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
        self
    }

    fn folders(&self) -> Folders {
        let folder = |name: &str| vec![self.0.path().join(name).to_string_lossy().into_owned()];
        Folders {
            docker: folder("docker"),
            podman: folder("storage"),
            containerd: folder("containerd"),
            oci: folder("runc"),
        }
    }

    fn find(&self, runtime: Runtime, pod_uid: Option<&str>) -> Found {
        let path = pod_uid.map_or(format!("/x/{ID}"), |uid| format!("/kubepods/pod{uid}/{ID}"));
        find(&Container::new(ID.into(), runtime, pod_uid.map(Into::into), path), &self.folders())
    }
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().collect()
}

/// A bundle's configuration with these annotations.
fn config(annotations: &Value) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 1000, "gid": 0 }, "capabilities": { "bounding": ["CAP_CHOWN", "CAP_NEW"] } },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro", "rprivate"] },
        ],
        "annotations": annotations,
        "linux": { "maskedPaths": ["/proc/kcore"], "resources": { "devices": [{ "allow": false, "access": "rwm" }] } },
    })
}

fn docker_file(labels: &Value) -> Value {
    json!({
        "ID": ID, "Created": "2026-11-25T18:10:25.5Z", "Name": "/web", "Driver": "overlay2",
        "Image": format!("sha256:{IMAGE}"),
        "Config": { "User": "web", "Image": "localhost:5000/shop/web:1.2", "Labels": labels, "Env": ["A=b"] },
        "MountPoints": { "/data": { "Source": "/srv/data", "Destination": "/data", "RW": false, "Relabel": "ro",
            "Propagation": "rprivate" } },
    })
}

#[test]
fn docker_tells_all() {
    let digest = format!("sha256:{}", "d".repeat(64));
    let found = Host::new()
        .with(&format!("docker/containers/{ID}/config.v2.json"), &docker_file(&json!({ "app": "web" })))
        .with(&format!("docker/containers/{ID}/hostconfig.json"), &json!({ "Privileged": true }))
        .with(
            "docker/image/overlay2/repositories.json",
            &json!({ "Repositories": { "localhost:5000/shop/web": {
                "localhost:5000/shop/web:1.2": format!("sha256:{IMAGE}"),
                format!("localhost:5000/shop/web@{digest}"): format!("sha256:{IMAGE}"),
            } } }),
        )
        .with(
            &format!("containerd/{}/moby/{ID}/config.json", "io.containerd.runtime.v2.task"),
            &config(&json!({})),
        )
        .find(Runtime::Docker, None);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let metadata = found.metadata.unwrap();
    let image = &metadata.image;
    assert_eq!((image.repository(), image.tag()), (Some("localhost:5000/shop/web"), Some("1.2")));
    assert_eq!((image.digest.as_deref(), image.id.as_deref()), (Some(digest.as_str()), Some(IMAGE)));
    assert_eq!((metadata.name.as_deref(), metadata.user.as_deref()), (Some("web"), Some("web")));
    assert_eq!((metadata.is_privileged, metadata.capabilities), (Some(true), Some(1)));
    assert_eq!(pairs(&metadata.labels), [("app", "web")]);
    assert_eq!(metadata.created_ns, Some(1_795_630_225_500_000_000));
    assert_eq!(metadata.pod, None);
    let mount = &metadata.mounts[0];
    assert_eq!(mount.text(), "/srv/data:/data:ro:false:rprivate");
    assert_eq!((mount.source(), mount.destination(), mount.is_writable()), ("/srv/data", "/data", false));
    assert_eq!((mount.mode(), mount.propagation()), ("ro", "rprivate"));
}

/// Annotations of containerd's CRI plugin.
fn cri(kind: &str) -> Value {
    let mut annotations = json!({
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.sandbox-id": "f".repeat(64),
        "io.kubernetes.cri.sandbox-name": "front-1",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": UID,
    });
    if kind == "container" {
        annotations["io.kubernetes.cri.container-name"] = "web".into();
        annotations["io.kubernetes.cri.image-name"] = format!("example.org/web@sha256:{IMAGE}").into();
    }
    annotations
}

#[test]
fn containerd_tells_of_containers_and_sandboxes_of_cri() {
    let path = format!("containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
    let found = Host::new().with(&path, &config(&cri("container"))).find(Runtime::Kubernetes, Some(UID));
    let metadata = found.metadata.unwrap();
    assert_eq!((found.runtime, metadata.is_sandbox), (Some(Runtime::Containerd), Some(false)));
    assert_eq!(
        (metadata.name.as_deref(), metadata.image.repository()),
        (Some("web"), Some("example.org/web"))
    );
    let digest = format!("sha256:{IMAGE}");
    assert_eq!((metadata.image.tag(), metadata.image.digest.as_deref()), (None, Some(digest.as_str())));
    assert_eq!((metadata.user.as_deref(), metadata.is_privileged), (Some("1000:0"), Some(false)));
    assert_eq!(metadata.mounts.iter().map(Mount::destination).collect::<Vec<_>>(), ["/data"]);
    let pod = metadata.pod.unwrap();
    assert_eq!((pod.name.as_deref(), pod.namespace.as_deref()), (Some("front-1"), Some("shop")));
    assert_eq!((pod.uid.as_deref(), pod.sandbox_id), (Some(UID), Some("f".repeat(64))));

    let found = Host::new().with(&path, &config(&cri("sandbox"))).find(Runtime::Kubernetes, Some(UID));
    let metadata = found.metadata.unwrap();
    assert_eq!((metadata.name.as_deref(), metadata.is_sandbox), (Some("front-1"), Some(true)));
}

#[test]
fn crio_tells_of_pods_in_annotations_and_labels() {
    let labels = json!({
        "io.kubernetes.container.name": "web", "io.kubernetes.pod.name": "front-1",
        "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID,
    });
    let annotations = json!({
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "example.org/web:2",
        "io.kubernetes.cri-o.ImageRef": format!("example.org/web@sha256:{IMAGE}"),
        "io.kubernetes.cri-o.Labels": labels.to_string(),
        "io.kubernetes.cri-o.SandboxID": "f".repeat(64),
        "io.kubernetes.cri-o.Created": "2026-11-25T18:10:25Z",
        "note": "a",
    });
    let path = format!("storage/overlay-containers/{ID}/userdata/config.json");
    let found = Host::new().with(&path, &config(&annotations)).find(Runtime::Crio, Some(UID));
    let metadata = found.metadata.unwrap();
    let pod = metadata.pod.unwrap();
    assert_eq!((metadata.name.as_deref(), metadata.image.tag()), (Some("web"), Some("2")));
    assert_eq!((pod.name.as_deref(), pod.namespace.as_deref()), (Some("front-1"), Some("shop")));
    assert_eq!(pairs(&metadata.annotations), [("note", "a")]);
    assert_eq!(metadata.labels.get("io.kubernetes.pod.uid"), Some(UID));
    assert_eq!(metadata.created_ns, Some(1_795_630_225_000_000_000));
}

fn podman_list() -> Value {
    json!([
        { "id": "other", "names": ["other"] },
        { "id": ID, "names": ["web"], "image": IMAGE, "created": "2026-11-25T18:09:49Z",
            "metadata": json!({ "image-name": "localhost/shop/web:1.2", "name": "web" }).to_string() },
    ])
}

#[test]
fn podman_tells_name_and_image_in_its_list_and_by_the_state_of_a_storage_that_nobody_named() {
    let annotations =
        json!({ "io.container.manager": "libpod", "io.podman.annotations.privileged": "FALSE" });
    let host = |storage: &str, driver: &str| {
        Host::new()
            .with(&format!("{storage}/{driver}-containers/{ID}/userdata/config.json"), &config(&annotations))
            .with(&format!("{storage}/{driver}-containers/containers.json"), &podman_list())
            .with(
                &format!("{storage}/{driver}-images/images.json"),
                &json!([{ "id": IMAGE, "digest": "sha256:1fdd" }]),
            )
    };
    let elsewhere = host("elsewhere", "overlay");
    let bundle = elsewhere.0.path().join(format!("elsewhere/overlay-containers/{ID}/userdata"));
    let labels = [format!("bundle={}", bundle.display())];
    let state = json!({ "created": "2026-11-25T18:09:50Z", "config": { "labels": labels } });
    let elsewhere = elsewhere.with(&format!("runc/{ID}/state.json"), &state);
    // One without a cgroup is known by its state only.
    let found = elsewhere.find(Runtime::Oci, None);
    assert_eq!(
        (found.runtime, found.metadata.unwrap().name.as_deref()),
        (Some(Runtime::Podman), Some("web"))
    );
    for host in [host("storage", "overlay"), host("storage", "vfs"), elsewhere] {
        let metadata = host.find(Runtime::Podman, None).metadata.unwrap();
        let Image { name, digest, id } = &metadata.image;
        assert_eq!(metadata.name.as_deref(), Some("web"));
        assert_eq!(name.as_deref(), Some("localhost/shop/web:1.2"));
        assert_eq!((digest.as_deref(), id.as_deref()), (Some("sha256:1fdd"), Some(IMAGE)));
        assert_eq!((metadata.is_privileged, metadata.labels.is_empty()), (Some(false), true));
    }
}

#[test]
fn container_by_hand_is_called_by_its_id_and_its_annotations_are_its_labels() {
    let host = Host::new().with("bundle/config.json", &config(&json!({ "app": "web" })));
    let bundle = format!("bundle={}", host.0.path().join("bundle").display());
    let state = json!({ "created": "2026-11-25T18:10:25Z", "config": { "labels": [bundle] } });
    let host = host.with("runc/web/state.json", &state);
    let container = Container::new("web".into(), Runtime::Oci, None, "/web".into());
    let metadata = find(&container, &host.folders()).metadata.unwrap();
    assert_eq!((metadata.name.as_deref(), pairs(&metadata.labels)), (Some("web"), vec![("app", "web")]));
    assert_eq!(metadata.user.as_deref(), Some("1000:0"));
    // Not yet, before it is written.
    assert_eq!(find(&container, &Host::new().folders()).metadata, None);
}

#[test]
fn privileged_is_who_has_all_rights_and_devices_and_sees_all() {
    let mut all = config(&json!({}));
    all["process"]["capabilities"]["bounding"] =
        json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE"]);
    all["linux"] = json!({ "resources": { "devices": [{ "allow": true, "access": "rwm" }] } });
    let is_privileged = |config: &Value| {
        let path = format!("containerd/io.containerd.runtime.v2.task/default/{ID}/config.json");
        Host::new().with(&path, config).find(Runtime::Containerd, None).metadata.unwrap().is_privileged
    };
    assert_eq!(is_privileged(&all), Some(true));
    let mut masked = all.clone();
    masked["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    let mut one = all.clone();
    one["linux"]["resources"]["devices"] = json!([{ "allow": true, "type": "c", "major": 1, "minor": 3 }]);
    let mut few = all;
    few["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    assert_eq!([masked, one, few].map(|config| is_privileged(&config)), [Some(false); 3]);
}

#[test]
fn labels_of_an_image_and_annotations_of_another_manager_make_no_pod() {
    let fake = json!({
        "io.kubernetes.container.name": "kube-proxy", "io.kubernetes.pod.name": "kube-proxy",
        "io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.uid": UID,
        "io.kubernetes.docker.type": "podsandbox",
    });
    let path = format!("docker/containers/{ID}/config.v2.json");
    let metadata = Host::new().with(&path, &docker_file(&fake)).find(Runtime::Docker, None).metadata.unwrap();
    assert_eq!((metadata.name.as_deref(), metadata.pod, metadata.is_sandbox), (Some("web"), None, None));
    assert_eq!(metadata.labels.get("io.kubernetes.pod.name"), Some("kube-proxy"));

    let mut fake = cri("container");
    fake["io.kubernetes.cri-o.Labels"] = json!({ "io.kubernetes.pod.name": "x" }).to_string().into();
    let path = format!("storage/overlay-containers/{ID}/userdata/config.json");
    let host = Host::new().with(&path, &config(&fake));
    let metadata = host.with("storage/overlay-containers/containers.json", &podman_list());
    let metadata = metadata.find(Runtime::Podman, None).metadata.unwrap();
    assert_eq!((metadata.name.as_deref(), metadata.pod), (Some("web"), None));
}

#[test]
fn what_is_known_of_a_container_is_bounded_and_says_so() {
    let huge = "\u{e9}".repeat(64 << 10);
    let mut labels = serde_json::Map::new();
    labels.insert("a".into(), huge.clone().into());
    for n in 0..5_000 {
        labels.insert(format!("l{n}\u{1b}[2J\n"), "\"\u{202e}\\,x:y".into());
    }
    let mut file = docker_file(&labels.into());
    file["Name"] = format!("/{huge}").into();
    file["MountPoints"]["/x"] = json!({ "Source": huge, "Destination": huge, "RW": true, "Relabel": huge });
    let path = format!("docker/containers/{ID}/config.v2.json");
    let metadata = Host::new().with(&path, &file).find(Runtime::Docker, None).metadata.unwrap();
    assert!(metadata.is_cut);
    assert_eq!(metadata.name.as_ref().map(String::len), Some(TEXT_MAX));
    assert_eq!(metadata.image.id.as_ref().map(String::len), Some(64), "no text is cut for lists");
    // Those that fit are whole.
    assert_eq!(metadata.labels.get("a").map(str::len), Some(TEXT_MAX));
    assert_eq!(metadata.labels.get("l0\u{1b}[2J\n"), Some("\"\u{202e}\\,x:y"));
    let texts = serde_json::to_string(&metadata).unwrap().len();
    assert!(
        metadata.labels.text().len() <= LISTS_MAX && texts < 4 * (TEXTS_MAX + LISTS_MAX),
        "{texts} bytes"
    );
}

#[test]
fn damaged_files_are_reported_and_the_other_sources_are_asked_all_the_same() {
    let path = format!("docker/containers/{ID}/config.v2.json");
    let task = format!("containerd/io.containerd.runtime.v2.task/moby/{ID}/config.json");
    let host = || Host::new().with(&task, &config(&json!({})));
    let damages: &[&dyn Fn(&Path)] = &[
        &|path| std::fs::write(path, "{\"ID\": ").unwrap(),
        &|path| std::fs::write(path, "[".repeat(100_000)).unwrap(),
        &|path| std::fs::write(path, b"{\"ID\":\"\xff\"}").unwrap(),
        &|path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap(),
        &|path| std::fs::create_dir(path).unwrap(),
        &|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
    ];
    for (n, damage) in damages.iter().enumerate() {
        let host = host();
        let file = host.0.path().join(&path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        damage(&file);
        let found = host.find(Runtime::Docker, None);
        assert_eq!(found.problems.len(), 1, "damage {n}: {:?}", found.problems);
        assert!(found.problems[0].to_string().starts_with(&*file.to_string_lossy()), "damage {n}");
        assert_eq!(found.metadata.unwrap().user.as_deref(), Some("1000:0"), "damage {n}");
    }
}

#[test]
fn names_of_images_are_taken_apart() {
    let split = |name: &str| {
        let image = Image { name: Some(name.to_owned()), ..Image::default() };
        (image.repository().unwrap().to_owned(), image.tag().map(str::to_owned))
    };
    for (name, repository, tag) in [
        ("web", "web", None),
        ("web:1", "web", Some("1")),
        ("localhost:5000/web", "localhost:5000/web", None),
        ("localhost:5000/web:1@sha256:aa", "localhost:5000/web", Some("1")),
        ("", "", None),
    ] {
        assert_eq!(split(name), (repository.to_owned(), tag.map(str::to_owned)), "{name}");
    }
    assert!(is_image_id(IMAGE) && is_image_id(&format!("sha256:{IMAGE}")) && !is_image_id("sha256:web"));
}

#[test]
fn labels_come_back_from_a_recording_as_they_were_and_damaged_ones_are_no_panic() {
    let labels =
        Labels::from(vec![("a".to_owned(), "1,b:2".to_owned()), (String::new(), "\u{e9}".to_owned())]);
    assert_eq!(labels.text(), "a:1,b:2,:\u{e9}");
    let text = serde_json::to_string(&labels).unwrap();
    assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
    let mount: Mount = serde_json::from_str(r#"{"text":"a\u00e9","lengths":[2,9]}"#).unwrap();
    assert_eq!((mount.source(), mount.destination(), mount.is_writable()), ("", "", false));
}
