//! Against a socket where the test says what a runtime answers, as no real one would.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde_json::{Value, json};

use super::super::{LISTS_MAX, Mount, TEXTS_MAX};
use super::*;

const ID: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
const POD: &str = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

fn container(runtime: Runtime, cgroup_path: String) -> Arc<Container> {
    Arc::new(Container::new(ID.into(), runtime, None, cgroup_path))
}

/// Answers each request at a socket by its path, until the test ends.
fn serve(path: &Path, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
    serve_only(path, false, answer);
}

/// Answers those for events, or all others.
fn serve_only(path: &Path, events: bool, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default();
            if path.starts_with("/events") != events {
                continue;
            }
            // The other side hangs up in the middle of what is too long.
            let _ = stream.write_all(&answer(path));
        }
    });
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn no_folders() -> Folders {
    Folders { docker: vec![], podman: vec![], containerd: vec![], oci: vec![] }
}

/// Somebody who asks docker and podman at that socket, and what he is told.
fn asking(path: &Path) -> (Apis, mpsc::Receiver<Told>) {
    let path = vec![path.to_string_lossy().into_owned()];
    let sockets = Sockets { docker: path.clone(), podman: path, cri: vec![], containerd: vec![] };
    let (tell, told) = mpsc::channel();
    (Apis::start(sockets, no_folders(), None, move |answer| tell.send(answer).is_ok()).unwrap(), told)
}

/// The next answer about a container.
fn next(told: &mpsc::Receiver<Told>) -> (Arc<Container>, Option<Box<Found>>) {
    loop {
        if let Told::Answer { container, found, next: _ } =
            told.recv_timeout(Duration::from_secs(60)).unwrap()
        {
            return (container, found);
        }
    }
}

/// What comes of asking docker about a container, if that is the answer.
fn found(answer: Vec<u8>) -> Found {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    serve(&path, move |_| answer.clone());
    let (mut apis, told) = asking(&path);
    apis.ask(&container(Runtime::Docker, format!("/docker/{ID}")));
    *next(&told).1.unwrap()
}

#[test]
fn what_is_no_answer_is_a_problem_and_changes_nothing() {
    let deep = format!("{{\"Id\":\"{ID}\",\"X\":{}", "[".repeat(100_000));
    let cases = [
        (http("200 OK", "{"), "EOF"),
        (http("200 OK", &json!({ "Id": 7 }).to_string()), "invalid type"),
        (http("200 OK", &json!({ "Id": ID, "Config": { "Labels": ["a"] } }).to_string()), "invalid type"),
        (http("200 OK", &deep), "EOF while parsing a list"),
        (http("200 OK", &" ".repeat(2 << 20)), "more than 1048576 bytes"),
        (http("400 Bad Request", "\u{1b}no"), "400 Bad Request: \u{1b}no"),
        (http("302 Found", ""), "302 Found"),
    ];
    for (answer, expected) in cases {
        let Found { metadata, runtime: _, problems } = found(answer);
        assert_eq!(metadata, None, "{expected}");
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.to_string().contains(expected), "{problem} is not {expected}");
    }
}

#[test]
fn answer_is_taken_within_its_bounds() {
    let huge = "x".repeat(64 << 10);
    let labels = json!({ "a\u{1b}\n\"": "\u{202e}", "huge": huge, "io.kubernetes.pod.name": "kube-proxy" });
    let body = json!({
        "Id": ID, "Name": "/web", "Image": format!("sha256:{POD}"), "Created": "2026-01-02T03:04:05.5Z",
        "Config": { "Image": "shop/web:1", "Labels": labels, "User": "web" }, "HostConfig": { "Privileged": true },
        "Mounts": [{ "Source": "/srv", "Destination": "/data", "Mode": "ro", "RW": false, "Propagation": "rprivate" }],
    });
    let known = found(http("200 OK", &body.to_string())).metadata.unwrap();
    assert_eq!((known.name.as_deref(), known.image.name.as_deref()), (Some("web"), Some("shop/web:1")));
    assert_eq!((known.image.id.as_deref(), known.user.as_deref()), (Some(POD), Some("web")));
    assert_eq!((known.is_privileged, known.is_cut, known.pod.clone()), (Some(true), true, None));
    assert_eq!(known.labels.get("a\u{1b}\n\""), Some("\u{202e}"));
    assert_eq!(known.labels.get("huge").map(str::len), Some(1024));
    assert_eq!(known.mounts[0].text(), "/srv:/data:ro:false:rprivate");
    assert!(known.bytes().0 <= TEXTS_MAX && known.bytes().1 <= LISTS_MAX);
}

#[test]
fn files_come_first_and_an_answer_fills_the_room_that_they_leave() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    serve(&path, |path| {
        let body: Value = match path.strip_prefix("/v4.0.0/libpod/pods/") {
            Some(pod) => {
                json!({ "Id": pod.strip_suffix("/json").unwrap(), "Name": "front", "Labels": { "a": "pod" } })
            }
            None => {
                json!({ "Id": ID, "Name": "other", "Config": { "Labels": { "a": "b", "c": "d".repeat(100) } } })
            }
        };
        http("200 OK", &body.to_string())
    });
    let (mut apis, told) = asking(&path);
    let container = container(Runtime::Podman, format!("/libpod_parent/{POD}/libpod-{ID}"));
    let mut files = Draft::of(Metadata { name: Some("db".into()), ..Metadata::default() });
    files.image_id(POD);
    let long = "x".repeat(1000);
    files.mounts((0..100).map(|n| Mount::new(&format!("/{n}{long}"), "/data", "", false, "")));
    let files = files.metadata;
    assert!(container.metadata.set(files.clone()));
    apis.ask(&container);
    assert!(apis.expects(&container), "the name of its pod is to come");
    let (_, found) = next(&told);
    let known = found.unwrap().metadata.unwrap();
    apis.take(&container, Next::Never);
    assert!(!apis.expects(&container));
    assert_eq!((&known.name, &known.mounts), (&files.name, &files.mounts));
    let pod = known.pod.as_ref().unwrap();
    assert_eq!((pod.name.as_deref(), pod.labels.text()), (Some("front"), "a:pod"));
    assert_eq!(known.labels.get("a"), Some("b"));
    assert!(known.bytes().0 <= TEXTS_MAX && known.bytes().1 <= LISTS_MAX);
}

#[test]
fn runtime_that_is_gone_is_asked_again_when_it_is_back_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("socket");
    let (mut apis, told) = asking(&path);
    let container = container(Runtime::Docker, format!("/docker/{ID}"));
    apis.ask(&container);
    let (of, found) = next(&told);
    assert!(of == container && found.is_none());
    // It is up, and still starts.
    let times = std::sync::atomic::AtomicUsize::new(0);
    serve(&path, move |_| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Vec::new(),
        1 => http("503 Service Unavailable", ""),
        2 => http("404 Not Found", ""),
        _ => http("200 OK", &json!({ "Id": ID, "Name": "/web" }).to_string()),
    });
    let (_, found) = next(&told);
    assert_eq!(found.unwrap().metadata.unwrap().name.as_deref(), Some("web"));
    assert!(told.try_recv().is_err(), "it is told once");
}

#[test]
fn runtime_is_not_asked_for_what_its_files_tell_nor_about_what_it_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let (mut apis, _told) = asking(&folder.path().join("socket"));
    let image = super::super::Image { name: Some("web".into()), ..Default::default() };
    let whole = Metadata { name: Some("web".into()), image, ..Metadata::default() };
    let cases =
        [(Runtime::Docker, true, false), (Runtime::Docker, false, true), (Runtime::Oci, false, false)];
    for (runtime, is_told, expected) in cases {
        let container = container(runtime, format!("/x/{runtime:?}-{is_told}"));
        if is_told {
            container.metadata.set(whole.clone());
        }
        apis.ask(&container);
        assert_eq!(apis.expects(&container), expected, "{runtime:?} {is_told}");
    }
}

#[test]
fn users_socket_that_is_anothers_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    serve(&path, |_| http("200 OK", "{}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let own = std::fs::metadata(&path).map(|of| std::os::unix::fs::MetadataExt::uid(&of)).unwrap();
    let ask = |user| {
        let socket = Socket { path: path.clone(), user };
        runtime.block_on(socket.get::<Value>("/")).map_err(|error| error.to_string())
    };
    assert_eq!(ask(Some(own)), Ok(json!({})));
    assert_eq!(ask(None), Ok(json!({})));
    assert_eq!(ask(Some(own + 1)), Err(format!("user {own} listens there")));
}

#[test]
fn pods_of_podman_are_told_by_the_path() {
    for (path, expected) in [
        (format!("/libpod_parent/{POD}/libpod-{ID}"), Some(POD)),
        (format!("/machine.slice/machine-libpod_pod_{POD}.slice/libpod-{ID}.scope"), Some(POD)),
        (
            format!(
                "/user.slice/user-7.slice/user@7.service/user.slice/user-libpod_pod_{POD}.slice/libpod-{ID}.scope"
            ),
            Some(POD),
        ),
        (format!("/libpod_parent/libpod-{ID}"), None),
        (format!("/{POD}/{ID}"), None),
        (format!("/machine.slice/machine-libpod_pod_../libpod-{ID}"), None),
    ] {
        assert_eq!(docker::pod_of(&path), expected, "{path}");
    }
}

#[test]
fn new_names_are_told_also_after_the_runtime_was_gone_and_other_lines_are_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let event = |id: &str, name: Value| {
        json!({ "Action": "rename", "Actor": { "ID": id, "Attributes": { "name": name } } }).to_string()
    };
    let lines = [
        "{".to_owned(),
        event("../web", json!("x")),
        event(ID, json!(7)),
        event(ID, json!("")),
        json!({ "Action": "start", "Actor": { "ID": ID, "Attributes": { "name": "x" } } }).to_string(),
        event(ID, json!("new\u{1b}")),
        "x".repeat(100_000),
    ];
    let all = lines.join("\n");
    let (_apis, told) = asking(&path);
    serve_only(&path, true, move |_| {
        // Without a length it goes on until it hangs up.
        format!("HTTP/1.1 200 OK\r\n\r\n{all}").into_bytes()
    });
    for _ in 0..2 {
        let Told::Name { id, name } = told.recv_timeout(Duration::from_secs(60)).unwrap() else {
            panic!("a name")
        };
        assert_eq!((id.as_str(), name.as_str()), (ID, "new\u{1b}"));
    }
    let container = container(Runtime::Docker, format!("/docker/{ID}"));
    assert_eq!(renamed(&container, "new"), None);
    container.metadata.set(Metadata { name: Some("old".into()), ..Metadata::default() });
    assert_eq!(renamed(&container, &"n".repeat(5000)).unwrap().name.unwrap().len(), 1024);
}

#[tokio::test]
async fn workload_is_waited_for_while_the_server_does_not_let_us_ask_and_the_container_is_there() {
    use crate::remote::stub::{Reply, Stub};
    let is_open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let door = Arc::clone(&is_open);
    let pod =
        json!({ "metadata": { "uid": "p1", "name": "web-0" }, "spec": { "serviceAccountName": "shop" } });
    let list = json!({ "metadata": { "resourceVersion": "1" }, "items": [pod] }).to_string();
    let stub = Stub::start(move |_, asked| match asked.what.contains("watch=true") {
        _ if !door.load(std::sync::atomic::Ordering::Relaxed) => Reply::whole(403, "{}"),
        true => Reply::open(200).1,
        false => Reply::whole(200, list.clone()),
    })
    .await;
    let (server, _token) = stub.settings(true);
    let workloads = Workloads { server, node: "n1".to_owned(), tell: Box::new(|| Box::new(|_| {})) };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let none = Sockets { docker: vec![], podman: vec![], cri: vec![], containerd: vec![] };
    let mut apis =
        Apis::start(none, no_folders(), Some(workloads), move |answer| tell.send(answer).is_ok()).unwrap();
    let of_pod = |uid: &str| {
        let path = format!("/kubepods/pod{uid}/{ID}");
        let container = Container::new(ID.into(), Runtime::Kubernetes, Some(uid.into()), path);
        let image = super::super::Image { name: Some("web".into()), ..Default::default() };
        let pod = super::super::Pod { name: Some("web-0".into()), ..Default::default() };
        let labels = vec![("a".to_owned(), "b".to_owned())].into();
        let (pod, is_sandbox) = (Some(pod), Some(true));
        container.metadata.set(Metadata { image, pod, is_sandbox, labels, ..Metadata::default() });
        Arc::new(container)
    };
    let (known, unknown) = (of_pod("p1"), of_pod("p2"));
    let mut said_of = async |wanted: &Container, is_it: fn(&Option<Box<Found>>, Next) -> bool| {
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
            if let Some(Told::Answer { container, found, next }) = answer.expect("it does not come")
                && *container == *wanted
                && is_it(&found, next)
            {
                return found;
            }
        }
    };
    apis.ask(&known);
    apis.ask(&unknown);
    said_of(&known, |_, next| next == Next::Later).await;
    apis.gone(&unknown.cgroup_path);
    said_of(&unknown, |_, next| next == Next::Never).await;
    is_open.store(true, std::sync::atomic::Ordering::Relaxed);
    let found = said_of(&known, |found, _| found.is_some()).await.unwrap();
    assert_eq!(found.metadata.unwrap().pod.unwrap().service_account.as_deref(), Some("shop"));
}
