//! Who has a bearer token that no file knows: asked of Kubernetes ([`review`]), or proven by the keys of a provider of
//! OpenID Connect ([`oidc`], [`jwt`]). Whatever goes wrong, nobody is let in; a provider that cannot be asked is told apart
//! from a token that is bad, since only the latter is somebody's deed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::access::Caller;
use super::network::neighbourhood;
use crate::remote::{self, Standing, Tell};

mod jwt;
pub mod oidc;
pub mod review;
#[cfg(test)]
mod tests;

/// How long somebody waits to be let in, whomever we have to ask for that.
const PATIENCE: Duration = Duration::from_secs(8);

/// Bytes of a user's name that are kept.
const NAME_MAX: usize = 256;

/// Whose tokens are taken besides those in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Those that Kubernetes knows.
    pub kubernetes: review::Settings,
    /// Those of a provider of OpenID Connect.
    pub oidc: oidc::Settings,
}

/// Somebody who is not let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who it is, as far as that is known.
    pub caller: Caller,
    /// What HTTP calls it.
    pub status: StatusCode,
    /// Why, for the log and for the caller.
    pub why: &'static str,
}

impl Refusal {
    /// Of somebody of whom nothing is known.
    pub fn of_nobody(why: &'static str) -> Self {
        Self { caller: Caller::Nobody, status: StatusCode::UNAUTHORIZED, why }
    }

    fn of(caller: Caller) -> Self {
        Self { caller, status: StatusCode::FORBIDDEN, why: "may not ask that" }
    }

    fn undecided(why: &'static str) -> Self {
        Self { caller: Caller::Nobody, status: StatusCode::SERVICE_UNAVAILABLE, why }
    }
}

/// All who can tell.
#[derive(Default)]
pub struct Providers {
    oidc: Option<Arc<oidc::Provider>>,
    kubernetes: Option<Arc<review::Reviewer>>,
    guesses: Guesses,
}

impl Providers {
    /// Those that the settings name. `tell` makes what takes records of a provider that is away, and back.
    pub fn new(settings: &Settings, server: &remote::kubernetes::Settings, tell: impl Fn() -> Tell) -> Self {
        let Settings { kubernetes, oidc } = settings;
        let standing = |what| Arc::new(Standing::new(what, tell()));
        Self {
            oidc: (!oidc.issuer.is_empty())
                .then(|| Arc::new(oidc::Provider::new(oidc.clone(), standing("oidc")))),
            kubernetes: kubernetes.is_on.then(|| {
                let standing = standing("kubernetes");
                Arc::new(review::Reviewer::new(kubernetes.clone(), server.clone(), standing))
            }),
            guesses: Guesses::default(),
        }
    }

    /// How they are.
    pub fn standings(&self) -> Vec<Arc<Standing>> {
        let oidc = self.oidc.iter().map(|provider| &provider.standing);
        oidc.chain(self.kubernetes.iter().map(|reviewer| &reviewer.standing)).cloned().collect()
    }

    /// Who has a token, if he may ask for that path.
    pub async fn identify(&self, token: &str, from: IpAddr, path: &'static str) -> Result<Caller, Refusal> {
        let late = |_| Refusal::undecided("nobody could tell in time whose token it is");
        tokio::time::timeout(PATIENCE, self.decide(token, from, path)).await.map_err(late)?
    }

    async fn decide(&self, token: &str, from: IpAddr, path: &'static str) -> Result<Caller, Refusal> {
        // Whose it claims to be chooses whom to ask, and nothing else.
        if let Some(provider) = &self.oidc
            && jwt::claimed_issuer(token).as_ref() == Some(&provider.settings.issuer)
        {
            return provider.identify(token).await;
        }
        match &self.kubernetes {
            Some(reviewer) => {
                let from = neighbourhood(from);
                let found = reviewer.identify(token, path, || self.guesses.may(from)).await;
                if found.is_ok() {
                    self.guesses.forgive(from);
                }
                found
            }
            None => Err(Refusal::of_nobody("unknown token")),
        }
    }
}

/// How often an address may have somebody else asked about a token that is not known yet.
#[derive(Default)]
struct Guesses(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Guesses {
    /// In [`Self::INTERVAL`], of one address.
    const MAX: u32 = 20;
    const INTERVAL: Duration = Duration::from_secs(60);

    /// Addresses that are told apart; others have to wait then.
    const ADDRESSES_MAX: usize = 1024;

    /// Whether one more is all right, which is noted.
    fn may(&self, from: IpAddr) -> bool {
        let now = Instant::now();
        let of = &mut *self.lock();
        if of.len() >= Self::ADDRESSES_MAX && !of.contains_key(&from) {
            of.retain(|_, (since, _)| now.duration_since(*since) < Self::INTERVAL);
        }
        if of.len() >= Self::ADDRESSES_MAX && !of.contains_key(&from) {
            return false;
        }
        let (since, count) = of.entry(from).or_insert((now, 0));
        if now.duration_since(*since) >= Self::INTERVAL {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= Self::MAX
    }

    /// One who guesses at that address has a good token: others of his may be behind it.
    fn forgive(&self, from: IpAddr) {
        if let Some((_, count)) = self.lock().get_mut(&from) {
            *count = count.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, (Instant, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a user is one of these, or in one of these groups; `*` stands for all users.
fn is_named(user: &str, groups: &[String], users: &[String], of_groups: &[String]) -> bool {
    users.iter().any(|named| named == "*" || named == user)
        || groups.iter().any(|group| of_groups.contains(group))
}

/// A user's name, cut to what is kept.
fn name_of(user: &str) -> String {
    user[..user.floor_char_boundary(NAME_MAX)].to_owned()
}
