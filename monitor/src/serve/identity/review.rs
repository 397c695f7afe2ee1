//! Asks the API server of Kubernetes whose a token is (`TokenReview`), and, if the settings name nobody, whether who has it
//! may ask for a path (`SubjectAccessReview` of a `nonResourceURL`), as its own components do. Answers are kept for a short
//! time, so that a scraper costs one question a minute, and a token that was taken back is good for no longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{Refusal, is_named, jwt, name_of};
use crate::remote::kubernetes::{self, Server};
use crate::remote::{Error, Standing};
use crate::serve::access::Caller;

/// How long an answer holds for a token that is good, and for one that is not.
const GOOD: Duration = Duration::from_secs(60);
const BAD: Duration = Duration::from_secs(10);

/// Answers that are kept.
const KEPT_MAX: usize = 256;

/// Questions at once.
const TURNS: usize = 8;

/// Whose tokens are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether any is.
    pub is_on: bool,
    /// For whom the token has to be; by default for the API server.
    pub audiences: Vec<String>,
    /// Users who are let in.
    pub users: Vec<String>,
    /// Groups whose members are let in.
    pub groups: Vec<String>,
}

impl Settings {
    /// Whether they say who is let in; else the API server does.
    fn names_anybody(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }
}

/// Asks, and remembers.
pub struct Reviewer {
    settings: Settings,
    server: Server,
    pub(super) standing: Arc<Standing>,
    known: Mutex<HashMap<Question, (Instant, Verdict)>>,
    /// For tokens that nobody knows, and for those that were good before.
    turns: [Arc<Semaphore>; 2],
}

/// A token's SHA-256, and a path.
type Question = ([u8; 32], &'static str);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// This user may.
    Allowed(String),
    /// This one may not.
    Forbidden(String),
    /// Nobody has it.
    Unknown,
}

impl Verdict {
    fn is_allowed(&self) -> bool {
        matches!(self, Verdict::Allowed(_))
    }

    fn result(self) -> Result<Caller, Refusal> {
        match self {
            Verdict::Allowed(user) => Ok(Caller::Kubernetes(user)),
            Verdict::Forbidden(user) => Err(Refusal::of(Caller::Kubernetes(user))),
            Verdict::Unknown => Err(Refusal::of_nobody("a token that Kubernetes does not take")),
        }
    }
}

#[derive(Deserialize)]
struct Review<T> {
    status: T,
}

#[derive(Deserialize)]
struct TokenStatus {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct AccessStatus {
    #[serde(default)]
    allowed: bool,
    #[serde(default)]
    denied: bool,
}

/// Tries whether the API server says whose a token is and, if that is asked, what somebody may: of a token that nobody has,
/// and of nobody.
pub async fn try_out(settings: Settings, server: kubernetes::Settings) -> Result<(), Error> {
    let nobody = "taffrail-doctor";
    let standing = Arc::new(Standing::new("kubernetes", Box::new(drop)));
    let reviewer = Reviewer::new(settings, server, standing);
    reviewer.ask(nobody, "/metrics").await?;
    if !reviewer.settings.names_anybody() {
        reviewer.may(&User { username: nobody.to_owned(), ..User::default() }, "/metrics").await?;
    }
    Ok(())
}

impl Reviewer {
    pub(super) fn new(settings: Settings, server: kubernetes::Settings, standing: Arc<Standing>) -> Self {
        let turns = || Arc::new(Semaphore::new(TURNS));
        let (known, turns) = (Mutex::default(), [turns(), turns()]);
        Self { settings, server: Server::new(server), standing, known, turns }
    }

    /// What is known of a token and a path: whether it was good when it was asked about last, and whether that still holds.
    fn last(&self, question: &Question) -> (bool, Option<Verdict>) {
        match self.known().get(question) {
            Some((until, verdict)) => {
                (verdict.is_allowed(), (*until > Instant::now()).then(|| verdict.clone()))
            }
            None => (false, None),
        }
    }

    /// Who has a token, if he may ask for that path. `may_ask` is asked first if the token was not good before.
    pub(super) async fn identify(
        self: &Arc<Self>,
        token: &str,
        path: &'static str,
        may_ask: impl FnOnce() -> bool,
    ) -> Result<Caller, Refusal> {
        let question = (Sha256::digest(token).into(), path);
        let (was_good, verdict) = self.last(&question);
        if let Some(verdict) = verdict {
            return verdict.result();
        }
        if !was_good && !may_ask() {
            let why = "too many unknown tokens from this address";
            return Err(Refusal { status: StatusCode::TOO_MANY_REQUESTS, ..Refusal::of_nobody(why) });
        }
        let away = || Refusal::undecided("Kubernetes cannot be asked whose token it is");
        // Whoever guesses takes no turn of who was let in before.
        let turn = Arc::clone(&self.turns[usize::from(was_good)]).acquire_owned().await;
        let (this, token) = (Arc::clone(self), Zeroizing::new(token.to_owned()));
        // Whoever asks may hang up, or have waited enough: what came of it is to be known all the same.
        let asked = tokio::spawn(async move {
            let _turn = turn;
            let verdict = this.ask(&token, path).await;
            this.standing.note(&verdict);
            let verdict = verdict.ok()?;
            this.keep(question, &verdict, &token);
            Some(verdict)
        });
        asked.await.ok().flatten().ok_or_else(away)?.result()
    }

    async fn ask(&self, token: &str, path: &str) -> Result<Verdict, Error> {
        let Settings { is_on: _, audiences, users, groups } = &self.settings;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences },
        });
        let Review { status } =
            self.server.review(&["apis", "authentication.k8s.io", "v1", "tokenreviews"], &review).await?;
        let TokenStatus { authenticated, user, audiences: of } = status;
        // A server that knows nothing of audiences names none: the token is its own then, and not for us.
        let is_for_us = audiences.is_empty() || audiences.iter().any(|wanted| of.contains(wanted));
        if !authenticated || !is_for_us || user.username.is_empty() {
            return Ok(Verdict::Unknown);
        }
        let name = name_of(&user.username);
        let is_allowed = if self.settings.names_anybody() {
            is_named(&user.username, &user.groups, users, groups)
        } else {
            self.may(&user, path).await?
        };
        Ok(if is_allowed { Verdict::Allowed(name) } else { Verdict::Forbidden(name) })
    }

    /// Whether Kubernetes lets a user ask for a path. All that there is on the network can only be read. Its own `/livez` and
    /// `/readyz` it lets everybody ask for; whether the node is watched is for those who may have the metrics.
    async fn may(&self, user: &User, path: &str) -> Result<bool, Error> {
        let path = if matches!(path, "/livez" | "/readyz") { "/metrics" } else { path };
        let User { username, uid, groups, extra } = user;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": username, "uid": uid, "groups": groups, "extra": extra,
                "nonResourceAttributes": { "path": path, "verb": "get" },
            },
        });
        let Review { status: AccessStatus { allowed, denied } } = self
            .server
            .review(&["apis", "authorization.k8s.io", "v1", "subjectaccessreviews"], &review)
            .await?;
        Ok(allowed && !denied)
    }

    /// Keeps an answer, for no longer than the token says that it lives.
    fn keep(&self, question: Question, verdict: &Verdict, token: &str) {
        let now = Instant::now();
        let time = if verdict.is_allowed() { GOOD } else { BAD };
        let left = jwt::claimed_end(token).map(|end| {
            Duration::from_secs(
                u64::try_from(end.saturating_sub(jiff::Timestamp::now().as_second())).unwrap_or(0),
            )
        });
        let until = now + left.map_or(time, |left| left.min(time));
        let known = &mut *self.known();
        // Those that were not taken come in any number.
        let keeps: [fn(bool, bool) -> bool; 3] =
            [|is_good, is_valid| is_good || is_valid, |is_good, _| is_good, |_, is_valid| is_valid];
        for keeps in keeps {
            if known.len() >= KEPT_MAX {
                known.retain(|_, (until, verdict)| keeps(verdict.is_allowed(), *until > now));
            }
        }
        if known.len() < KEPT_MAX {
            known.insert(question, (until, verdict.clone()));
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Question, (Instant, Verdict)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
