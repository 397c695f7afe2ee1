//! Who called the API, as the audit log tells it. Every call is in the log: the first of its kind at once, and what is the
//! same within a minute as one record with a count, so that whoever scrapes every few seconds, or hammers at
//! the door, does not fill the log. A call that was not let in is an alert, one a minute for each peer. All tables here are bounded;
//! what does not fit is counted and told.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::http;
use crate::audit::RecordKind;
use crate::clock;
use crate::event::json::Members;
use crate::event::text::escaped;
use crate::pipeline::inbox::{CALLS_MAX, Inbox, Word};

/// What is the same within this time is one record.
const INTERVAL: Duration = Duration::from_secs(60);

/// Different calls, and peers, that are told apart within it.
const KEPT_MAX: usize = 64;

/// Bytes of what a caller chose.
const TEXT_MAX: usize = 128;

/// The status of a call that was refused since nobody could tell whose it is.
const UNDECIDED: u16 = 503;

/// The statuses of calls that were refused.
const REFUSED: [u16; 3] = [401, 403, 429];

/// The endpoint of calls that are for none of ours.
const OTHER: &str = "other";

/// The rule that alerts of callers who were not let in are by.
pub const RULE: &str = "API access refused";

/// Its priority.
pub const PRIORITY: &str = "Warning";

/// Who somebody has shown to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody: no token and no certificate, or none that is known.
    Nobody,
    /// Who has the token of this name.
    Token(String),
    /// Who has the key of a certificate with this subject.
    Certificate(String),
    /// The user of Kubernetes whose token it is.
    Kubernetes(String),
    /// The user of the provider of OpenID Connect whose token it is.
    Oidc(String),
    /// A process of this machine, by the local socket.
    Local {
        /// User id.
        uid: u32,
    },
}

impl Caller {
    fn method(&self) -> &'static str {
        match self {
            Caller::Nobody => "none",
            Caller::Token(_) => "token",
            Caller::Certificate(_) => "certificate",
            Caller::Kubernetes(_) => "kubernetes",
            Caller::Oidc(_) => "oidc",
            Caller::Local { .. } => "local",
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Caller::Nobody => None,
            Caller::Token(name)
            | Caller::Certificate(name)
            | Caller::Kubernetes(name)
            | Caller::Oidc(name) => Some(name.clone()),
            Caller::Local { uid } => Some(format!("uid {uid}")),
        }
    }
}

/// A call, or a try that came to none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Who.
    pub caller: Caller,
    /// From where; `None` is the local socket.
    pub from: Option<IpAddr>,
    /// HTTP method; empty if it did not come that far.
    pub method: String,
    /// The path without a query.
    pub path: String,
    /// HTTP status, 0 if there was no answer.
    pub status: u16,
    /// Why the caller was not let in.
    pub refusal: Option<&'static str>,
}

impl Call {
    /// Whether it is of somebody who is known and may ask for that.
    fn is_let_in(&self) -> bool {
        self.caller != Caller::Nobody && self.refusal.is_none()
    }
}

/// Keeps the books.
pub struct Calls {
    books: Mutex<Books>,
}

struct Books {
    /// Whoever asks while the match thread is stuck gets an answer.
    inbox: Arc<Inbox>,
    is_closed: bool,
    calls: HashMap<Call, Repeated>,
    omitted: Repeated,
    /// When an alert was raised last, by peer, and for all that there was no room for.
    alerted_ns: HashMap<Peer, u64>,
    other_alerted_ns: u64,
    alerts: u64,
    requests: BTreeMap<(&'static str, u16), u64>,
    refusals: BTreeMap<&'static str, u64>,
}

/// Whom alerts are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Address(IpAddr),
    /// A user of this machine, at the local socket.
    User(u32),
}

impl Peer {
    fn of(call: &Call) -> Option<Self> {
        match (call.from, &call.caller) {
            (Some(address), _) => Some(Self::Address(address)),
            (None, Caller::Local { uid }) => Some(Self::User(*uid)),
            (None, _) => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "local uid {uid}"),
        }
    }
}

/// What came again and is not told yet.
#[derive(Default)]
struct Repeated {
    count: u64,
    told_ns: u64,
}

/// Whether what was told then may be told again.
fn is_due(told_ns: u64, now_ns: u64) -> bool {
    told_ns == 0 || Duration::from_nanos(now_ns.saturating_sub(told_ns)) >= INTERVAL
}

impl Calls {
    /// With nobody having called.
    pub fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            books: Mutex::new(Books {
                inbox,
                is_closed: false,
                calls: HashMap::new(),
                omitted: Repeated::default(),
                alerted_ns: HashMap::new(),
                other_alerted_ns: 0,
                alerts: 0,
                // Whoever scrapes sees that one was refused only if he has seen that none was.
                requests: http::endpoints()
                    .chain([OTHER])
                    .flat_map(|endpoint| REFUSED.map(|status| ((endpoint, status), 0)))
                    .collect(),
                refusals: BTreeMap::new(),
            }),
        }
    }

    /// Somebody has called. `endpoint` is the path, if it is one of ours.
    pub fn take(&self, mut call: Call, endpoint: Option<&'static str>) {
        for text in [&mut call.method, &mut call.path] {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
        }
        let now_ns = clock::boot_ns();
        let books = &mut *self.lock();
        if call.status > 0 {
            *books.requests.entry((endpoint.unwrap_or(OTHER), call.status)).or_default() += 1;
        }
        // Who could not be judged has not done anything.
        if call.refusal.is_some() && call.status != UNDECIDED {
            books.alert(&call, now_ns);
        }
        // Those who are let in have places of their own; beyond these, what they asked for is left out, and not who they are.
        let of_such = books.calls.keys().filter(|kept| kept.is_let_in() == call.is_let_in()).count();
        if of_such >= KEPT_MAX && !books.calls.contains_key(&call) {
            call.method.clear();
            call.path.clear();
        }
        let room = of_such < 2 * KEPT_MAX;
        match books.calls.get_mut(&call) {
            Some(repeated) if !is_due(repeated.told_ns, now_ns) => repeated.count += 1,
            Some(repeated) => {
                let count = std::mem::take(&mut repeated.count) + 1;
                let from_ns = std::mem::replace(&mut repeated.told_ns, now_ns);
                books.tell_call(&call, (count, from_ns, now_ns));
            }
            None if room => {
                books.calls.insert(call.clone(), Repeated { count: 0, told_ns: now_ns });
                books.tell_call(&call, (1, now_ns, now_ns));
            }
            None => books.omit(1),
        }
    }

    /// A connection ended without an answer.
    pub fn refuse(&self, reason: &'static str) {
        *self.lock().refusals.entry(reason).or_default() += 1;
    }

    /// Tells what has come again for long enough. To be called now and then.
    pub fn settle(&self) {
        self.lock().settle(is_due);
    }

    /// Tells all that is left. Of later calls nothing is told.
    pub fn close(&self) {
        let books = &mut *self.lock();
        books.settle(|_, _| true);
        books.is_closed = true;
    }

    /// Requests by endpoint and status.
    pub fn each(&self, mut each: impl FnMut(&'static str, &str, u64)) {
        let requests = self.lock().requests.clone();
        for ((endpoint, status), count) in requests {
            each(endpoint, &status.to_string(), count);
        }
    }

    /// Alerts that were raised, of [`RULE`] and [`PRIORITY`].
    pub fn alerts(&self) -> u64 {
        self.lock().alerts
    }

    /// Connections without an answer, by the reason.
    pub fn each_refusal(&self, mut each: impl FnMut(&'static str, u64)) {
        let refusals = self.lock().refusals.clone();
        refusals.into_iter().for_each(|(reason, count)| each(reason, count));
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Tells what is due by the time when it was told last, and now.
    fn settle(&mut self, is_due: impl Fn(u64, u64) -> bool) {
        let now_ns = clock::boot_ns();
        let due = self.calls.iter().filter(|(_, repeated)| is_due(repeated.told_ns, now_ns));
        let due: Vec<Call> = due.map(|(call, _)| call.clone()).collect();
        for call in due {
            // One that has not come again makes room.
            if let Some(Repeated { count: count @ 1.., told_ns }) = self.calls.remove(&call) {
                self.tell_call(&call, (count, told_ns, now_ns));
                self.calls.insert(call, Repeated { count: 0, told_ns: now_ns });
            }
        }
        if self.omitted.count > 0 && is_due(self.omitted.told_ns, now_ns) {
            let Repeated { count, told_ns } = std::mem::take(&mut self.omitted);
            let body = format!("\"omitted\":{count},\"from_boot_ns\":{told_ns},\"to_boot_ns\":{now_ns}");
            // There is room for it always: it is one in a minute.
            self.inbox.offer(Word::Note(RecordKind::Api, body.into_bytes()), usize::MAX);
        }
        self.alerted_ns.retain(|_, told_ns| !is_due(*told_ns, now_ns));
    }

    /// Puts it into the log, if there is room; tells whether there was.
    fn tell(&self, kind: RecordKind, body: Vec<u8>) -> bool {
        !self.is_closed && self.inbox.offer(Word::Note(kind, body), CALLS_MAX)
    }

    fn omit(&mut self, count: u64) {
        if self.omitted.count == 0 {
            self.omitted.told_ns = clock::boot_ns();
        }
        self.omitted.count += count;
    }

    fn tell_call(&mut self, call: &Call, (count, from_ns, to_ns): (u64, u64, u64)) {
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        write_call(call, &mut members);
        members.number("count", count as i64);
        if count > 1 {
            members.number("from_boot_ns", from_ns as i64);
            members.number("to_boot_ns", to_ns as i64);
        }
        if !self.tell(RecordKind::Api, body) {
            self.omit(count);
        }
    }

    /// At most one a minute for each peer: how many there were, records of the kind `access` tell.
    fn alert(&mut self, call: &Call, now_ns: u64) {
        let Some(peer) = Peer::of(call) else { return };
        let has_room = self.alerted_ns.contains_key(&peer) || self.alerted_ns.len() < KEPT_MAX;
        let own_ns = self.alerted_ns.get(&peer).copied().unwrap_or_default();
        let told_ns = if has_room { own_ns } else { self.other_alerted_ns };
        if !is_due(told_ns, now_ns) {
            return;
        }
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        members.text("rule", RULE.as_bytes());
        members.text("priority", PRIORITY.as_bytes());
        let why = call.refusal.unwrap_or_default();
        let what = escaped(format!("{} {}", call.method, call.path).trim().as_bytes());
        members.text("output", format!("{RULE}: {why} (from={peer} request={what})").as_bytes());
        let way = if call.from.is_some() { "network" } else { "host" };
        members.raw("tags", format_args!("[\"{way}\",\"mitre_credential_access\",\"T1110\"]"));
        let mut access = members.object("access");
        write_call(call, &mut access);
        access.close();
        // Else the next one is an alert, once there is room.
        if !self.tell(RecordKind::Alert, body) {
            return;
        }
        self.alerts += 1;
        if has_room {
            self.alerted_ns.insert(peer, now_ns);
        } else {
            self.other_alerted_ns = now_ns;
        }
    }
}

fn write_call(call: &Call, members: &mut Members<'_>) {
    let Call { caller, from, method, path, status, refusal } = call;
    members.text("by", caller.method().as_bytes());
    members.optional("name", caller.name().as_deref());
    members.optional("from", from.map(|from| from.to_string()).as_deref());
    if !method.is_empty() {
        members.text("method", method.as_bytes());
        members.text("path", path.as_bytes());
    }
    if *status > 0 {
        members.number("status", (*status).into());
    }
    members.optional("refused", *refusal);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What was told, each as an object.
    fn told(inbox: &Inbox) -> Vec<(RecordKind, Value)> {
        let notes = inbox.take().0.into_iter().filter_map(|word| {
            let Word::Note(kind, body) = word else { return None };
            let body = format!("{{{}}}", String::from_utf8(body).unwrap());
            Some((kind, serde_json::from_str(&body).unwrap()))
        });
        notes.collect()
    }

    fn calls() -> (Calls, Arc<Inbox>) {
        let inbox = Arc::<Inbox>::default();
        (Calls::new(Arc::clone(&inbox)), inbox)
    }

    /// Nobody takes anything, until there is room for none of them any more.
    fn fill(inbox: &Inbox) {
        while inbox.offer(Word::Flights, CALLS_MAX) {}
    }

    fn call(path: &str) -> Call {
        Call {
            caller: Caller::Token("prometheus".to_owned()),
            from: Some([10, 0, 0, 1].into()),
            method: "GET".to_owned(),
            path: path.to_owned(),
            status: 200,
            refusal: None,
        }
    }

    fn refused(path: &str, from: [u8; 4]) -> Call {
        let refusal = Some("unknown token");
        Call { caller: Caller::Nobody, from: Some(from.into()), status: 401, refusal, ..call(path) }
    }

    #[test]
    fn refused_requests_are_counted_from_zero() {
        let (calls, _messages) = calls();
        calls.take(refused("/metrics", [10, 0, 0, 1]), Some("/metrics"));
        let mut counts = BTreeMap::new();
        calls.each(|endpoint, status, count| {
            counts.insert((endpoint, status.to_owned()), count);
        });
        for (endpoint, status, expected) in [("/metrics", "401", 1), ("/livez", "403", 0), (OTHER, "429", 0)]
        {
            assert_eq!(counts.get(&(endpoint, status.to_owned())), Some(&expected), "{endpoint} {status}");
        }
    }

    #[test]
    fn first_call_is_told_at_once_and_the_same_again_as_one_record_with_a_count() {
        let (calls, inbox) = calls();
        for _ in 0..4 {
            calls.take(call("/metrics"), Some("/metrics"));
        }
        calls.take(call("/livez"), Some("/livez"));
        calls.settle();
        let mut told = told(&inbox);
        assert_eq!(told.len(), 2);
        calls.close();
        told.extend(super::tests::told(&inbox));
        let counts: Vec<_> = told
            .iter()
            .map(|(_, body)| (body["path"].as_str().unwrap(), body["count"].as_u64().unwrap()))
            .collect();
        assert_eq!(counts, [("/metrics", 1), ("/livez", 1), ("/metrics", 3)]);
        let (kind, first) = &told[0];
        assert_eq!(*kind, RecordKind::Api);
        let expected = serde_json::json!({
            "by": "token", "name": "prometheus", "from": "10.0.0.1", "method": "GET", "path": "/metrics", "status": 200,
            "count": 1,
        });
        assert_eq!(*first, expected);
    }

    #[test]
    fn flood_of_different_calls_is_counted_and_none_is_missing() {
        let (calls, inbox) = calls();
        for number in 0..10_000 {
            calls.take(call(&format!("/{number}")), None);
        }
        calls.close();
        let told = told(&inbox);
        // What was asked for is left out then, and not who asked.
        assert_eq!(told.len(), KEPT_MAX + 2);
        let last = &told[KEPT_MAX + 1].1;
        assert_eq!(
            (&last["name"], last["count"].as_u64()),
            (&"prometheus".into(), Some(10_000 - KEPT_MAX as u64 - 1))
        );
        let counted = |name: &str| told.iter().filter_map(|(_, body)| body[name].as_u64()).sum::<u64>();
        assert_eq!(counted("count") + counted("omitted"), 10_000);
    }

    #[test]
    fn refusal_is_an_alert_once_a_minute_for_each_peer_and_its_text_is_escaped() {
        let (calls, inbox) = calls();
        for _ in 0..3 {
            calls.take(refused("/a\"\u{1b}[31m", [10, 0, 0, 2]), None);
        }
        calls.take(refused("/metrics", [10, 0, 0, 3]), Some("/metrics"));
        let told = told(&inbox);
        let alerts: Vec<&Value> =
            told.iter().filter(|(kind, _)| *kind == RecordKind::Alert).map(|(_, body)| body).collect();
        assert_eq!((alerts.len(), calls.alerts()), (2, 2));
        let output = alerts[0]["output"].as_str().unwrap();
        assert!(output.contains("unknown token (from=10.0.0.2 ") && !output.contains('\u{1b}'), "{output}");
        assert_eq!((&alerts[0]["rule"], &alerts[0]["priority"]), (&RULE.into(), &"Warning".into()));
    }

    #[test]
    fn user_who_is_refused_at_the_local_socket_is_an_alert_once_a_minute_too() {
        let (calls, inbox) = calls();
        for uid in [1000, 1000, 33] {
            let caller = Caller::Local { uid };
            let refusal = Some("neither root nor the daemon's user");
            let (method, path) = (String::new(), String::new());
            calls.take(Call { caller, from: None, method, path, status: 0, refusal }, None);
        }
        let told = told(&inbox);
        let alerts: Vec<_> = told
            .iter()
            .filter(|(kind, _)| *kind == RecordKind::Alert)
            .map(|(_, body)| (body["access"]["name"].as_str().unwrap(), body["output"].as_str().unwrap()))
            .collect();
        let output = |uid| {
            format!("API access refused: neither root nor the daemon's user (from=local uid {uid} request=)")
        };
        assert_eq!(alerts, [("uid 1000", output(1000).as_str()), ("uid 33", output(33).as_str())]);
    }

    #[test]
    fn long_texts_of_callers_are_cut() {
        let (calls, inbox) = calls();
        calls.take(call(&"/ä".repeat(1000)), None);
        let path = told(&inbox)[0].1["path"].as_str().unwrap().len();
        assert!(path <= TEXT_MAX && path > TEXT_MAX - 4);
    }

    #[test]
    fn calls_that_a_stuck_match_thread_leaves_no_room_for_are_counted_each_and_told_at_the_end() {
        let (calls, inbox) = calls();
        calls.take(call("/metrics"), Some("/metrics"));
        fill(&inbox);
        for _ in 0..500 {
            calls.take(call("/metrics"), Some("/metrics"));
        }
        calls.take(call("/livez"), Some("/livez"));
        calls.close();
        let told = told(&inbox);
        let counts: Vec<_> =
            told.iter().map(|(_, body)| (body["count"].as_u64(), body["omitted"].as_u64())).collect();
        assert_eq!(counts, [(Some(1), None), (None, Some(501))]);
    }

    #[test]
    fn alert_that_there_was_no_room_for_is_not_counted_and_the_next_is_told() {
        let (calls, inbox) = calls();
        fill(&inbox);
        calls.take(refused("/metrics", [10, 0, 0, 2]), None);
        assert_eq!(calls.alerts(), 0);
        inbox.take();
        calls.take(refused("/metrics", [10, 0, 0, 2]), None);
        let alerts = told(&inbox).iter().filter(|(kind, _)| *kind == RecordKind::Alert).count();
        assert_eq!((alerts, calls.alerts()), (1, 1));
    }
}
