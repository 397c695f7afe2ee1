//! Tokens of a provider of OpenID Connect: its keys are found as OpenID Connect Discovery 1.0 says, and kept; with them each
//! token is checked here. New keys are fetched when a token names one that is not known, and now and then, so that keys that
//! the provider has taken back go; never more often than [`AGAIN`], whatever is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::jwt::{self, Bad, Claims, KeySet, Keys};
use super::{Refusal, is_named, name_of};
use crate::remote::{Client, Error, Standing, ask};
use crate::serve::access::Caller;

/// Keys are fetched anew after this time …
const FRESH: Duration = Duration::from_secs(600);

/// … for which those who come then wait this long …
const COURTESY: Duration = Duration::from_secs(2);

/// … and good for no longer than that without the provider.
const GOOD: Duration = Duration::from_secs(3600);

/// The least time between two tries to fetch them.
const AGAIN: Duration = Duration::from_secs(10);

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The provider, as its tokens name it; empty: none.
    pub issuer: String,
    /// For whom tokens have to be.
    pub audience: String,
    /// Who signs the provider's certificate; by default whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    pub user_claim: String,
    /// The claim that has the user's groups.
    pub group_claim: String,
    /// Users who are let in.
    pub users: Vec<String>,
    /// Groups whose members are let in.
    pub groups: Vec<String>,
    /// Claims that tokens need besides, and their values.
    pub claims: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        let (issuer, audience, ca_file, users, groups, claims) = Default::default();
        let [user_claim, group_claim] = ["sub", "groups"].map(str::to_owned);
        Self { issuer, audience, ca_file, user_claim, group_claim, users, groups, claims }
    }
}

/// The provider.
pub struct Provider {
    pub(super) settings: Settings,
    client: Client,
    pub(super) standing: Arc<Standing>,
    /// Its keys, and since when they are known.
    keys: Mutex<Option<(Instant, Arc<Keys>)>>,
    /// When they were to be fetched last. Whoever holds it fetches them.
    pub(super) tried: tokio::sync::Mutex<Option<Instant>>,
}

/// What the provider says of itself.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    pub(super) fn new(settings: Settings, standing: Arc<Standing>) -> Self {
        let client = Client::new(settings.ca_file.clone());
        Self { settings, client, standing, keys: Mutex::new(None), tried: tokio::sync::Mutex::new(None) }
    }

    /// Who has a token, if he is one of those who are let in.
    pub(super) async fn identify(self: &Arc<Self>, token: &str) -> Result<Caller, Refusal> {
        let away = |_| Refusal::undecided("the provider of OpenID Connect cannot be asked for its keys");
        let keys = self.keys(false).await.map_err(away)?;
        let claims = match keys.verify(token) {
            Err(Bad::UnknownKey) => self.keys(true).await.map_err(away)?.verify(token),
            other => other,
        };
        // By a key that it may have made since it was last heard of.
        if claims.as_ref().err() == Some(&Bad::UnknownKey) && self.standing.why_away().is_some() {
            return Err(away(Error::Unknown));
        }
        let claims = claims.map_err(|bad| Refusal::of_nobody(bad.why()))?;
        let (user, groups) = self.user(&claims).map_err(|bad| Refusal::of_nobody(bad.why()))?;
        let caller = Caller::Oidc(name_of(&user));
        let Settings { users, groups: of_groups, .. } = &self.settings;
        if is_named(&user, &groups, users, of_groups) { Ok(caller) } else { Err(Refusal::of(caller)) }
    }

    /// The user and the groups that a token names, if it is good.
    fn user(&self, claims: &Claims) -> Result<(String, Vec<String>), Bad> {
        let Settings { issuer, audience, user_claim, group_claim, claims: wanted, .. } = &self.settings;
        jwt::check(claims, issuer, audience, jiff::Timestamp::now().as_second())?;
        let is_met =
            |(name, value): &(String, String)| claims.get(name).is_some_and(|of| jwt::has(of, value));
        // Whoever enters an address that is not his is not its owner.
        let is_unproven = user_claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true));
        let user = claims.get(user_claim).and_then(Value::as_str).filter(|user| !user.is_empty());
        let user = user.filter(|_| !is_unproven && wanted.iter().all(is_met)).ok_or(Bad::Claims)?;
        let groups = match claims.get(group_claim) {
            Some(Value::String(group)) => vec![group.clone()],
            Some(Value::Array(groups)) => {
                groups.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Ok((user.to_owned(), groups))
    }

    /// The provider's keys; `is_lacking`: those that are known do not do.
    async fn keys(self: &Arc<Self>, is_lacking: bool) -> Result<Arc<Keys>, Error> {
        let known = self.known();
        let is_fresh = known.as_ref().is_some_and(|(since, _)| since.elapsed() < FRESH);
        if let Some((_, keys)) = &known
            && is_fresh
            && !is_lacking
        {
            return Ok(Arc::clone(keys));
        }
        let this = Arc::clone(self);
        // Whoever asks may hang up, which is not to stop others from being let in.
        let renewed = tokio::spawn(async move {
            this.renew(this.tried.lock().await).await;
            this.known()
        });
        // A key may have been taken back, but a provider that is slow is not to keep out whom it has let in.
        if let Some((_, keys)) = known
            && !is_lacking
        {
            let renewed = tokio::time::timeout(COURTESY, renewed).await;
            return Ok(renewed.ok().and_then(Result::ok).flatten().map_or(keys, |(_, keys)| keys));
        }
        let known = renewed.await.map_err(|error| Error::Away(error.to_string()))?;
        known.map(|(_, keys)| keys).ok_or_else(|| Error::Away("it has not told its keys".to_owned()))
    }

    /// Fetches the keys, unless that was tried a moment ago.
    async fn renew(&self, mut tried: tokio::sync::MutexGuard<'_, Option<Instant>>) {
        if tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return;
        }
        let keys = self.fetch().await;
        *tried = Some(Instant::now());
        self.standing.note(&keys);
        if let Ok(keys) = keys {
            let new = Some((Instant::now(), Arc::new(keys)));
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// The keys that are still good, and since when they are known.
    fn known(&self) -> Option<(Instant, Arc<Keys>)> {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|(since, _)| since.elapsed() < GOOD)
    }

    async fn fetch(&self) -> Result<Keys, Error> {
        let issuer = &self.settings.issuer;
        let wrong = |error: url::ParseError| Error::Wrong(error.to_string());
        let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(wrong)?;
        let found: Discovery = ask(self.client.question(Method::GET, place)?).await?;
        // Section 4.3: or somebody else would speak for it.
        if found.issuer != *issuer {
            return Err(Error::Wrong("it calls itself by another name than `api.oidc.issuer`".to_owned()));
        }
        let place = Url::parse(&found.jwks_uri).map_err(wrong)?;
        if place.scheme() != "https" {
            return Err(Error::Wrong("its keys are not to be had by HTTPS".to_owned()));
        }
        let set: KeySet = ask(self.client.question(Method::GET, place)?).await?;
        let keys = Keys::of(set);
        if keys.is_empty() {
            Err(Error::Wrong("it has no keys that can be used".to_owned()))
        } else {
            Ok(keys)
        }
    }
}
