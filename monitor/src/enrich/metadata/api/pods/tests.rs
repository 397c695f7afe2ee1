//! What becomes of pods that a server tells of; what it says is recorded from a real one.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::enrich::metadata::Metadata;
use crate::remote::stub::{Asked, Pen, Reply, Stub};

/// Lists, objects and lines of watches of a real API server (1.20).
const LIST: &str = include_str!("../tests/pods.json");
const WATCHED: &str = include_str!("../tests/watch.ndjson");
const REPLICA_SET: &str = include_str!("../tests/replicaset.json");
const JOB: &str = include_str!("../tests/job.json");
const GONE: &str = include_str!("../tests/gone.ndjson");
const FORBIDDEN: &str = include_str!("../../../../serve/tests/forbidden.json");
const UNAUTHORIZED: &str = include_str!("../../../../serve/tests/unauthorized.json");

type Told = Arc<Mutex<Vec<Value>>>;

/// Pods of that server, what is told of it, and our token.
fn pods(stub: &Stub) -> (Arc<Pods>, Told, tempfile::NamedTempFile) {
    let (settings, token) = stub.settings(true);
    let told = Told::default();
    let mut pods = Pods::new(settings, "n1".to_owned(), || {
        let told = Arc::clone(&told);
        Box::new(move |body| {
            let body = format!("{{{}}}", String::from_utf8(body).unwrap());
            told.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        })
    });
    pods.pause = Duration::from_millis(1);
    let pods = Arc::new(pods);
    let keeping = Arc::clone(&pods);
    tokio::spawn(async move { keeping.keep().await });
    (pods, told, token)
}

/// The uid of the recorded pod whose name begins so.
fn uid(name: &str) -> String {
    let list: Value = serde_json::from_str(LIST).unwrap();
    let found = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["metadata"]["name"].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("{name}"))["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Waits until a pod is as it should be.
async fn until<T>(pods: &Pods, wanted: impl Fn() -> Option<T>) -> T {
    let mut news = pods.news();
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        let waited = tokio::time::timeout(Duration::from_secs(60), news.changed()).await;
        waited.expect("it does not come").unwrap();
    }
}

/// Waits until that is so.
async fn eventually(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("it does not come");
}

async fn known(pods: &Pods, uid: &str) -> Arc<Pod> {
    until(pods, || pods.look(uid)).await
}

/// What a pod's containers get.
async fn filled(pods: &Pods, uid: &str) -> (String, String, String) {
    let mut draft = Draft::of(Metadata::default());
    pods.about(uid).await(&mut draft);
    let pod = draft.metadata.pod.unwrap();
    let text = |text: Option<String>| text.unwrap_or_default();
    (text(pod.workload_kind), text(pod.workload_name), text(pod.service_account))
}

fn quiet() -> Reply {
    let (pen, reply) = Reply::open(200);
    // It goes on, and says nothing.
    tokio::spawn(async move { pen.closed().await });
    reply
}

fn server(asked: &Asked) -> Reply {
    match asked.what.split(['?', ' ']).nth(1).unwrap() {
        "/api/v1/pods" if asked.what.contains("watch=true") => quiet(),
        "/api/v1/pods" => Reply::whole(200, LIST),
        path if path.contains("/replicasets/") => Reply::whole(200, REPLICA_SET),
        path if path.contains("/jobs/backup-") => Reply::whole(200, JOB),
        path if path.contains("/jobs/") => Reply::whole(404, "{}"),
        path => panic!("{path}"),
    }
}

#[tokio::test]
async fn each_pods_workload_is_found_by_its_owners_and_each_owner_is_asked_for_once() {
    let stub = Stub::start(|_, asked| server(asked)).await;
    let (pods, told, _token) = pods(&stub);
    for _ in 0..2 {
        for (name, kind, workload, account) in [
            ("web-", "Deployment", "web", "shop-web"),
            ("db-", "StatefulSet", "db", "default"),
            ("agent-", "DaemonSet", "agent", "default"),
            ("backup-", "CronJob", "backup", "default"),
            ("migrate-", "Job", "migrate", "default"),
            ("alone", "", "", "default"),
        ] {
            let expected = (kind.to_owned(), workload.to_owned(), account.to_owned());
            assert_eq!(filled(&pods, &uid(name)).await, expected, "{name}");
        }
    }
    assert_eq!((stub.count("/replicasets/web-"), stub.count("/jobs/backup-")), (1, 1));
    let ended = "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    assert_eq!(stub.count(&format!("pods?fieldSelector=spec.nodeName%3Dn1%2C{ended}&resourceVersion=0")), 1);
    assert!(told.lock().unwrap().is_empty());
    assert!(pods.look("of nobody").is_none());
}

#[tokio::test]
async fn pods_come_and_go_with_the_watch_which_goes_on_behind_the_last_version_when_it_is_cut() {
    let pens: Arc<Mutex<Vec<Pen>>> = Arc::default();
    let held = Arc::clone(&pens);
    let empty = json!({ "metadata": { "resourceVersion": "7" }, "items": [] }).to_string();
    let stub = Stub::start(move |_, asked| match asked.what.contains("watch=true") {
        true => {
            let (pen, reply) = Reply::open(200);
            held.lock().unwrap().push(pen);
            reply
        }
        false => Reply::whole(200, empty.clone()),
    })
    .await;
    let (pods, told, _token) = pods(&stub);
    let pen = |number: usize| {
        let pens = Arc::clone(&pens);
        async move {
            loop {
                if let Some(pen) = pens.lock().unwrap().get(number) {
                    return pen.clone();
                }
                tokio::task::yield_now().await;
            }
        }
    };
    let first = pen(0).await;
    let lines: Vec<&str> = WATCHED.lines().collect();
    let object: Value = serde_json::from_str(lines[0]).unwrap();
    let uid = object["object"]["metadata"]["uid"].as_str().unwrap();
    // In pieces that are no lines.
    for piece in format!("{}\n", lines[0]).as_bytes().chunks(100) {
        first.send(Ok(piece.to_vec().into())).unwrap();
    }
    assert_eq!(known(&pods, uid).await.name, object["object"]["metadata"]["name"].as_str().unwrap());
    first.send(Err(std::io::Error::other("cut"))).unwrap();
    let second = pen(1).await;
    let version = object["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(stub.count(&format!("resourceVersion={version}&")), 1);
    assert_eq!(stub.count("resourceVersion=7&"), 1);
    assert!(pods.look(uid).is_some(), "it is forgotten when a watch is cut");
    for line in &lines[1..] {
        second.send(Ok(format!("{line}\n").into())).unwrap();
    }
    assert!(WATCHED.contains("\"DELETED\""));
    until(&pods, || pods.look(uid).is_none().then_some(())).await;
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_too_old_begins_anew_whether_the_answer_or_an_event_says_so() {
    let number = Arc::new(AtomicUsize::new(0));
    let next = Arc::clone(&number);
    let stub = Stub::start(move |_, asked| {
        if !asked.what.contains("watch=true") {
            return server(asked);
        }
        match next.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::whole(410, "{}"),
            1 => Reply::whole(200, GONE),
            _ => quiet(),
        }
    })
    .await;
    let (pods, told, _token) = pods(&stub);
    known(&pods, &uid("web-")).await;
    eventually(|| number.load(Ordering::Relaxed) == 3).await;
    assert_eq!(stub.count("resourceVersion=0"), 3);
    assert!(told.lock().unwrap().is_empty(), "that is no failure");
}

#[tokio::test]
async fn server_that_says_what_it_should_not_is_told_of_once_and_asked_until_it_does() {
    type Answer = fn(&Url) -> Reply;
    let faults: &[Answer] = &[
        |_| Reply::whole(401, UNAUTHORIZED),
        |_| Reply::whole(403, FORBIDDEN),
        |_| Reply::whole(503, ""),
        |url| Reply::redirect(url.join("/elsewhere").unwrap().as_str()),
        |_| Reply::whole(200, "{"),
        |_| Reply::whole(200, format!("{{\"metadata\":{{}},\"items\":{}", "[".repeat(1 << 20))),
        |_| Reply::whole(200, format!("{{\"metadata\":{{}},\"more\":{}", "{\"a\":".repeat(1 << 20))),
    ];
    let step = Arc::new(AtomicUsize::new(0));
    let next = Arc::clone(&step);
    let stub = Stub::start(move |url, asked| {
        if asked.what.contains("watch=true") {
            return quiet();
        }
        faults.get(next.fetch_add(1, Ordering::Relaxed)).map_or_else(|| server(asked), |fault| fault(url))
    })
    .await;
    let (pods, told, _token) = pods(&stub);
    known(&pods, &uid("web-")).await;
    assert_eq!(stub.count("elsewhere"), 0, "a redirection was followed");
    eventually(|| told.lock().unwrap().len() == 2).await;
    let told = told.lock().unwrap();
    assert_eq!((&told[0]["what"], &told[1]["is_over"]), (&"workloads".into(), &true.into()));
}

#[tokio::test]
async fn hostile_pods_take_no_more_room_than_others_and_cannot_be_another_pod() {
    let huge = "x".repeat(1 << 16);
    let small = |number: usize| json!({ "metadata": { "uid": format!("p{number}") } });
    let labels: Value = (0..1000)
        .map(|number| (format!("k{number}"), json!(huge[..63])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let pod = |uid: &str, mirror: Option<&str>| {
        json!({
            "metadata": {
                "name": huge, "namespace": "../../secrets", "uid": uid, "labels": labels,
                "annotations": { "kubernetes.io/config.mirror": mirror, "x": huge },
                "ownerReferences": [
                    { "kind": "Node", "name": "n", "uid": "u" },
                    { "kind": "ReplicaSet", "name": "../../../api?x", "uid": "r", "controller": true },
                ],
            },
            "spec": { "serviceAccountName": huge },
        })
    };
    let of_node = |uid: &str, mirror: &str, node: &str| {
        let mut pod = pod(uid, Some(mirror));
        pod["metadata"]["ownerReferences"] =
            json!([{ "kind": "Node", "name": node, "uid": "u", "controller": true }]);
        pod
    };
    let mut items = vec![pod("a", None), pod("", None), pod(&huge, None)];
    items.extend([of_node("m1", "once", "n1"), pod("m2", Some("once"))]);
    items.extend([of_node("m3", "twice", "n1"), of_node("m4", "twice", "n1")]);
    items.push(of_node("m5", "of another node", "n2"));
    items.extend((0..2000).map(small));
    let list = json!({ "metadata": { "resourceVersion": "1" }, "items": &items[..300] }).to_string();
    let more: Vec<String> =
        items[300..].iter().map(|pod| json!({ "type": "ADDED", "object": pod }).to_string() + "\n").collect();
    let stub = Stub::start(move |_, asked| match asked.what.as_str() {
        what if what.contains("watch=true") => {
            let (pen, reply) = Reply::open(200);
            more.iter().for_each(|line| pen.send(Ok(line.clone().into())).unwrap());
            tokio::spawn(async move { pen.closed().await });
            reply
        }
        what if what.contains("/api/v1/pods") => Reply::whole(200, list.clone()),
        what => {
            assert_eq!(
                what,
                "GET /apis/apps/v1/namespaces/..%2F..%2Fsecrets/replicasets/..%2F..%2F..%2Fapi%3Fx"
            );
            Reply::whole(200, json!({ "metadata": { "uid": "another" } }).to_string())
        }
    })
    .await;
    let (pods, _told, _token) = pods(&stub);
    until(&pods, || (pods.table().by_uid.len() == PODS_MAX).then_some(())).await;
    let (kind, name, account) = filled(&pods, "a").await;
    assert_eq!((kind.as_str(), name.as_str(), account.len()), ("ReplicaSet", "../../../api?x", NAME_MAX));
    let a = known(&pods, "a").await;
    assert!(a.labels.text().len() <= LABELS_MAX && a.name.len() == NAME_MAX);
    assert_eq!(known(&pods, "once").await.owner.as_ref().map(|of| of.workload.kind.as_str()), Some("Node"));
    assert!(pods.look("twice").is_none(), "two say that they are it");
    assert!(pods.look("of another node").is_none() && pods.look(&huge).is_none());
}

#[tokio::test]
async fn pods_of_one_owner_wait_for_one_question_that_is_repeated_until_it_is_answered() {
    let times = AtomicUsize::new(0);
    let stub = Stub::start(move |_, asked| {
        let is_question = asked.what.contains("/replicasets/");
        match is_question && times.fetch_add(1, Ordering::Relaxed) < 3 {
            true => Reply::whole(429, "{}"),
            false => server(asked),
        }
    })
    .await;
    let (pods, told, _token) = pods(&stub);
    let uid = uid("web-");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pods, uid) = (Arc::clone(&pods), uid.clone());
        waiting.spawn(async move { filled(&pods, &uid).await.1 });
    }
    assert_eq!(waiting.join_all().await, vec!["web"; 50]);
    assert_eq!(stub.count("/replicasets/"), 4);
    assert!(!pods.is_away());
    let told = told.lock().unwrap();
    assert_eq!((&told[0]["what"], &told[1]["is_over"]), (&"owners".into(), &true.into()));
}

#[tokio::test]
async fn list_may_be_larger_than_memory_but_no_pod_of_it_and_nothing_is_an_empty_one() {
    let huge = "x".repeat(1 << 20);
    let list = |items: &Value| json!({ "items": items, "metadata": { "resourceVersion": "1" } }).to_string();
    let pod =
        |number: usize| json!({ "metadata": { "uid": format!("p{number}"), "annotations": { "a": huge } } });
    let large = list(&(0..20).map(pod).collect());
    let one = list(&json!([{ "metadata": { "uid": "u", "name": huge.repeat(8) } }]));
    let answers = [list(&Value::Null), one, large];
    let next = AtomicUsize::new(0);
    let stub = Stub::start(move |_, asked| match asked.what.contains("watch=true") {
        true if next.load(Ordering::Relaxed) < answers.len() => Reply::whole(410, "{}"),
        true => quiet(),
        false => Reply::whole(200, answers[next.fetch_add(1, Ordering::Relaxed)].clone()),
    })
    .await;
    let (pods, told, _token) = pods(&stub);
    known(&pods, "p19").await;
    assert_eq!(pods.table().by_uid.len(), 20);
    eventually(|| told.lock().unwrap().len() == 2).await;
    let told = told.lock().unwrap();
    assert!(told[0]["error"].as_str().unwrap().contains("more than 4194304 bytes of one pod"), "{told:?}");
}
