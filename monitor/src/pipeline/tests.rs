//! Events on their way: what waits, what goes past, and what is lost.

use super::*;
use crate::detect::alert::Verdict;
use crate::enrich::Source;
use crate::enrich::executable::Version;
use crate::enrich::state::Folders;
use crate::rules::Filter;
use crate::scope::Selector;
use crate::testing;
use crate::yaml::Node;

/// Where, from when and until when something was lost.
#[derive(Default)]
struct Gaps(Vec<(&'static str, u64, u64)>);

impl Sink for Gaps {
    fn event(&mut self, _subject: &Subject<'_>, _verdict: Verdict<'_>) {}

    fn gap(&mut self, gap: &Gap<'_>) {
        self.0.push((gap.place, gap.from_boot_ns, gap.to_boot_ns));
    }

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}

/// Whose events came, in order: the container's id and whether its name is to come.
#[derive(Default)]
struct Owners(Vec<(u32, Option<String>, bool)>);

impl Sink for Owners {
    fn event(&mut self, subject: &Subject<'_>, _verdict: Verdict<'_>) {
        let container = subject.container;
        let is_pending = container.is_some_and(|container| container.metadata.get().is_none());
        self.0.push((subject.process.key.tgid, container.map(|of| of.id.clone()), is_pending));
    }

    fn gap(&mut self, _gap: &Gap<'_>) {}

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}

fn in_cgroup(mut record: Vec<u8>, id: u64) -> Vec<u8> {
    let at = std::mem::offset_of!(taffrail_common::event::Header, cgroup_id);
    record[at..at + 8].copy_from_slice(&id.to_ne_bytes());
    record
}

/// A worker with crun's state in that folder, which has been told of a move into the cgroup `/my/web`; and that
/// cgroup's id.
fn waiting(oci: &std::path::Path, wait: Duration) -> (Worker<Owners>, u64) {
    let mut enricher = Enricher::new(Source::Live(None), 64);
    let oci = vec![oci.to_string_lossy().into_owned()];
    let folders = Folders { docker: vec![], podman: vec![], containerd: vec![], oci };
    enricher.set_runtimes(folders, wait);
    let rules = (Arc::new(RuleSet::default()), Limits::default());
    let mut worker = Worker::new(enricher, rules, Clock { offset_ns: 0 }, Owners::default());
    let moved = testing::cgroup_move(10, 1_000, (11, 2_000), "/my/web");
    let Ok(Event::CgroupMove(event)) = event::decode(&moved) else { panic!("no move") };
    let id = event.record.cgroup_id;
    worker.record(&in_cgroup(moved, 0));
    worker.sink.0.clear();
    (worker, id)
}

fn write_state(oci: &std::path::Path) {
    std::fs::create_dir(oci.join("web")).unwrap();
    std::fs::write(oci.join("web/status"), r#"{"cgroup-path":"/my/web"}"#).unwrap();
}

fn tgids(worker: &Worker<Owners>) -> Vec<u32> {
    worker.sink.0.iter().map(|(tgid, ..)| *tgid).collect()
}

#[test]
fn event_waits_for_the_name_of_its_container_with_all_of_its_process_and_no_others() {
    let oci = tempfile::tempdir().unwrap();
    let (mut worker, id) = waiting(oci.path(), Duration::from_secs(600));
    let open = |tgid, cgroup| in_cgroup(testing::open(tgid, u64::from(tgid) * 1_000, "/x", 0, 3), cgroup);
    worker.record(&open(11, id));
    // Another one of the container; what the first one does elsewhere, and its child; and others.
    worker.record(&open(13, id));
    worker.record(&open(11, 0));
    worker.record(&in_cgroup(testing::fork(11, 11_000, (14, 14_000)), 0));
    worker.record(&open(14, 0));
    worker.record(&open(12, 0));
    worker.release(HELD_BYTES_MAX);
    assert_eq!(tgids(&worker), [12]);
    write_state(oci.path());
    let deadline = Instant::now() + Duration::from_secs(60);
    while worker.sink.0.len() < 6 && Instant::now() < deadline {
        std::thread::yield_now();
        worker.release(HELD_BYTES_MAX);
    }
    assert_eq!(tgids(&worker), [12, 11, 13, 11, 11, 14]);
    let whose = |at: usize| (worker.sink.0[at].1.as_deref(), worker.sink.0[at].2);
    assert_eq!((whose(1), whose(5)), ((Some("web"), false), (Some("web"), false)));
    assert!(worker.held.is_empty());
}

#[test]
fn event_that_has_waited_long_enough_or_for_which_there_is_no_room_goes_out_as_it_is() {
    let oci = tempfile::tempdir().unwrap();
    let (mut worker, id) = waiting(oci.path(), Duration::ZERO);
    worker.record(&in_cgroup(testing::open(11, 2_000, "/x", 0, 3), id));
    assert_eq!(worker.sink.0, [(11, None, false)]);

    let (mut worker, id) = waiting(oci.path(), Duration::from_secs(600));
    for tgid in 11..15 {
        worker.record(&in_cgroup(testing::open(tgid, 2_000, "/x", 0, 3), id));
    }
    assert_eq!(worker.sink.0, []);
    worker.release(worker.held.bytes() / 2);
    assert_eq!(worker.sink.0.iter().map(|(tgid, ..)| *tgid).collect::<Vec<_>>(), [11, 12]);
    worker.release(0);
    assert_eq!(worker.sink.0.iter().map(|(tgid, ..)| *tgid).collect::<Vec<_>>(), [11, 12, 13, 14]);
}

/// The hash of what each event's process runs.
#[derive(Default)]
struct Hashes(Vec<Option<String>>);

impl Sink for Hashes {
    fn event(&mut self, subject: &Subject<'_>, _verdict: Verdict<'_>) {
        self.0.push(subject.process.image.digest().and_then(|digest| digest.clone().ok()));
    }

    fn gap(&mut self, _gap: &Gap<'_>) {}

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}

/// An exec by this process of what it runs.
fn own_exec() -> Vec<u8> {
    let sample = testing::exec(std::process::id(), 1_000, (1, 0), "/own", &["own"]);
    let Ok(Event::Exec(exec)) = event::decode(&sample) else { panic!("no exec") };
    let mut record = exec.record;
    let own = Version::of_process(std::process::id()).unwrap();
    (record.exe.dev, record.exe.ino) = (own.dev, own.ino);
    (record.exe_ctime_ns, record.exe_bytes) = (own.ctime_ns, own.bytes);
    record.header.cgroup_id = 0;
    testing::record_bytes(&record, &[exec.exe, exec.cwd, exec.filename, exec.args])
}

#[test]
fn exec_waits_for_its_hash_if_anything_asks_for_it_and_a_recording_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let rules = || (Arc::new(RuleSet::default()), Limits::default());
    let mut enricher = Enricher::new(Source::Live(None), 64);
    enricher.set_runtimes(Folders::default(), Duration::from_secs(600));
    let mut worker = Worker::new(enricher, rules(), Clock { offset_ns: 0 }, Hashes::default());
    worker.record(&own_exec());
    assert_eq!(worker.sink.0, [None], "nobody asks");
    worker.hash_if_needed(EXE_HASH);
    worker.recording = Some(capture::Writer::create(&path).unwrap());
    worker.record(&own_exec());
    let deadline = Instant::now() + Duration::from_secs(60);
    while worker.sink.0.len() < 2 && Instant::now() < deadline {
        std::thread::yield_now();
        worker.release(HELD_BYTES_MAX);
    }
    let [_, Some(hash)] = &worker.sink.0[..] else { panic!("{:?}", worker.sink.0) };
    assert_eq!(hash.len(), 64);
    worker.recording.take().unwrap().finish().unwrap();

    let enricher = Enricher::new(Source::Recorded, 64);
    let mut replayed = Worker::new(enricher, rules(), Clock { offset_ns: 0 }, Hashes::default());
    let recording = std::fs::File::open(&path).unwrap();
    replayed.replay(&mut capture::Reader::new(recording).unwrap()).unwrap();
    assert_eq!(replayed.sink.0, [Some(hash.clone())]);
}

#[test]
fn gap_of_a_replay_lies_between_the_look_before_and_the_last_record_and_not_in_the_present() {
    let enricher = Enricher::new(Source::Recorded, 64);
    let rules = (Arc::new(RuleSet::default()), Limits::default());
    let mut worker = Worker::new(enricher, rules, Clock { offset_ns: 0 }, Gaps::default());
    let mut record = testing::open(10, 1_000, "/x", 0, 3);
    let at = std::mem::offset_of!(taffrail_common::event::Header, boot_ns);
    record[at..at + 8].copy_from_slice(&9_000_u64.to_ne_bytes());
    worker.record(&record);
    worker.record(&record[..record.len() - 1]);
    worker.loss(&Loss { kind: taffrail_common::kind::OPEN, cgroup_id: None, count: 2, since_ns: 4_000 });
    assert_eq!(worker.sink.0, [("decode", 9_000, 9_000), ("ring", 4_000, 9_000)]);
}

#[test]
fn scope_that_changes_holds_for_a_container_that_came_back_under_its_path() {
    let id = "c".repeat(64);
    let path = format!("/docker/{id}");
    let mut enricher = Enricher::new(Source::Live(None), 64);
    let none = Vec::new;
    let folders = Folders { docker: none(), podman: none(), containerd: none(), oci: none() };
    enricher.set_runtimes(folders, Duration::ZERO);
    let rules = Arc::new(RuleSet::default());
    let mut worker = Worker::new(
        enricher,
        (Arc::clone(&rules), Limits::default()),
        Clock { offset_ns: 0 },
        Owners::default(),
    );
    let made = |cgroup: u64, removed| in_cgroup(testing::cgroup(1, 1, (cgroup, &path), removed), 0);
    for record in [made(10, false), made(10, true), made(11, false)] {
        worker.record(&record);
    }
    let exec = in_cgroup(testing::exec(7, 70, (1, 1), "/bin/x", &["x"]), 11);
    let exec_before = in_cgroup(testing::exec(6, 60, (1, 1), "/bin/x", &["x"]), 10);
    let of_containers = |worker: &mut Worker<Owners>| {
        worker.sink.0.clear();
        [&exec, &exec_before].into_iter().for_each(|record| worker.record(record));
        worker.sink.0.iter().filter(|(_, container, _)| container.as_deref() == Some(&id)).count()
    };
    let anew = |scope: Option<Scope>| Anew {
        rules: Arc::clone(&rules),
        limits: Limits::default(),
        scope,
        record: Filter::from_text("evt.kind = exec", "test").unwrap(),
        notes: Vec::new(),
    };
    assert_eq!(of_containers(&mut worker), 2);
    let not_it = format!("container={id}");
    let source = Arc::new(crate::diagnostic::Source { name: "test".to_owned(), text: not_it });
    let exclude = vec![Selector::parse(&Node::whole(&source)).unwrap()];
    worker.take_anew(anew(Some(Scope { exclude, ..Scope::default() })));
    assert_eq!(of_containers(&mut worker), 0);
    worker.take_anew(anew(None));
    assert_eq!(of_containers(&mut worker), 0, "other rules alone change nothing of it");
    worker.take_anew(anew(Some(Scope::default())));
    assert_eq!(of_containers(&mut worker), 2);
}

/// What was noted, and how many events came before it.
#[derive(Default)]
struct Notes {
    events: usize,
    notes: Vec<(usize, RecordKind, String)>,
}

impl Sink for Notes {
    fn event(&mut self, _subject: &Subject<'_>, _verdict: Verdict<'_>) {
        self.events += 1;
    }

    fn gap(&mut self, _gap: &Gap<'_>) {}

    fn note(&mut self, kind: RecordKind, _boot_ns: u64, _time_ns: u64, body: &[u8]) {
        self.notes.push((self.events, kind, String::from_utf8_lossy(body).into_owned()));
    }
}

#[test]
fn what_the_daemon_itself_says_is_taken_before_the_events_of_a_full_queue() {
    let rules = (Arc::new(RuleSet::default()), Limits::default());
    let enricher = Enricher::new(Source::Recorded, 64);
    let mut worker = Worker::new(enricher, rules, Clock { offset_ns: 0 }, Notes::default());
    let (to_match, messages) = receive::queue();
    let inbox = Arc::new(Inbox::new(to_match.clone()));
    worker.inbox = Arc::clone(&inbox);
    let (give_back, _empty) = std::sync::mpsc::sync_channel(1);
    let mut batch = Batch::default();
    batch.push(&testing::open(10, 1_000, "/x", 0, 3));
    to_match.send(Message::Batch(batch, give_back)).unwrap();
    to_match.send(Message::End).unwrap();
    while to_match.try_send(Message::Wake).is_ok() {}
    let note = |text: &str| Word::Note(RecordKind::Degraded, text.as_bytes().to_vec());
    inbox.put(note("first"));
    while inbox.offer(note("more"), inbox::CALLS_MAX) {}
    worker.run(&messages);
    let Notes { events, notes } = &worker.sink;
    assert_eq!((*events, notes.len()), (1, inbox::CALLS_MAX));
    assert_eq!(notes[0], (0, RecordKind::Degraded, "first".to_owned()));
}
