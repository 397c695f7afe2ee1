//! Who is let in, by servers that say what the test wants.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use url::Url;

use super::jwt::tests::Signer;
use super::*;
use crate::remote::kubernetes;
use crate::remote::stub::{Asked, Reply, Stub};

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const SCRAPER: &str = "system:serviceaccount:monitoring:prometheus";

/// What was told of providers.
type Told = Arc<Mutex<Vec<Value>>>;

fn providers(settings: &Settings, server: &kubernetes::Settings) -> (Providers, Told) {
    let told = Told::default();
    let providers = Providers::new(settings, server, || {
        let told = Arc::clone(&told);
        Box::new(move |body| {
            let body = format!("{{{}}}", String::from_utf8(body).unwrap());
            told.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        })
    });
    (providers, told)
}

fn reviewed(settings: review::Settings) -> Settings {
    Settings { kubernetes: review::Settings { is_on: true, ..settings }, ..Settings::default() }
}

async fn who(providers: &Providers, token: &str) -> Result<Caller, (u16, &'static str)> {
    let found = providers.identify(token, FROM, "/metrics").await;
    found.map_err(|refusal| (refusal.status.as_u16(), refusal.why))
}

/// Answers reviews as the API server does; the recordings are of a real one.
fn api_server(_: &Url, asked: &Asked) -> Reply {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let spec = &body["spec"];
    let answer = match asked.what.rsplit('/').next() {
        Some("tokenreviews") => {
            match (spec["token"].as_str().unwrap(), spec["audiences"].as_array().unwrap().len()) {
                ("good", 0) => include_str!("../tests/tokenreview-good.json"),
                ("good", _) => include_str!("../tests/tokenreview-audience.json"),
                _ => include_str!("../tests/tokenreview-bad.json"),
            }
        }
        Some("subjectaccessreviews") => {
            assert_eq!(spec["nonResourceAttributes"], json!({ "path": "/metrics", "verb": "get" }));
            assert_eq!(spec["user"], SCRAPER);
            include_str!("../tests/subjectaccessreview-allowed.json")
        }
        other => panic!("{other:?}"),
    };
    Reply::whole(201, answer)
}

#[tokio::test]
async fn kubernetes_is_asked_whose_a_token_is_and_whether_he_may_and_not_again_for_a_while() {
    let stub = Stub::start(api_server).await;
    let (server, _token) = stub.settings(false);
    let (providers, told) = providers(&reviewed(review::Settings::default()), &server);
    // It has an end that no clock can tell.
    let endless = Signer::ed().sign(&json!({ "alg": "EdDSA" }), &json!({ "exp": -1e300 }));
    assert_eq!(who(&providers, &endless).await.unwrap_err().0, 401);
    for _ in 0..3 {
        assert_eq!(who(&providers, "good").await, Ok(Caller::Kubernetes(SCRAPER.to_owned())));
        assert_eq!(who(&providers, "bad").await, Err((401, "a token that Kubernetes does not take")));
    }
    assert_eq!((stub.count("tokenreviews"), stub.count("subjectaccessreviews")), (3, 1));
    // Kubernetes lets everybody ask for a path of that name: who may have the metrics is asked.
    assert!(providers.identify("good", FROM, "/readyz").await.is_ok());
    assert!(stub.asked.lock().unwrap().iter().all(|asked| asked.authorization == "Bearer ours"));
    assert!(told.lock().unwrap().is_empty());
    assert_eq!(providers.standings()[0].answered.get(), 4);
}

#[tokio::test]
async fn users_and_groups_of_kubernetes_are_let_in_by_name_without_a_second_question() {
    let stub = Stub::start(api_server).await;
    let (server, _token) = stub.settings(false);
    let names = |users: &[&str], groups: &[&str]| {
        let [users, groups] =
            [users, groups].map(|names| names.iter().map(|&name| name.to_owned()).collect());
        reviewed(review::Settings { users, groups, ..review::Settings::default() })
    };
    let known = Ok(Caller::Kubernetes(SCRAPER.to_owned()));
    for (users, groups, expected) in [
        (&[SCRAPER][..], &[][..], known.clone()),
        (&["*"], &[], known.clone()),
        (&[], &["x", "system:serviceaccounts:monitoring"], known),
        (&["prometheus"], &[SCRAPER], Err((403, "may not ask that"))),
    ] {
        let (providers, _) = providers(&names(users, groups), &server);
        assert_eq!(who(&providers, "good").await, expected, "{users:?} {groups:?}");
    }
    let (providers, _) = providers(&names(&["eve"], &[]), &server);
    let refusal = providers.identify("good", FROM, "/metrics").await.unwrap_err();
    // The log is to say who tried.
    assert_eq!(refusal.caller, Caller::Kubernetes(SCRAPER.to_owned()));
    assert_eq!(stub.count("subjectaccessreviews"), 0);
}

#[tokio::test]
async fn token_for_another_audience_is_refused_also_if_the_server_knows_nothing_of_audiences() {
    let stub = Stub::start(api_server).await;
    let (server, _token) = stub.settings(false);
    for (audience, expected) in [
        ("taffrail", Ok(Caller::Kubernetes(SCRAPER.to_owned()))),
        ("vault", Err((401, "a token that Kubernetes does not take"))),
    ] {
        let settings = review::Settings { audiences: vec![audience.to_owned()], ..Default::default() };
        let (providers, _) = providers(&reviewed(settings), &server);
        assert_eq!(who(&providers, "good").await, expected, "{audience}");
    }
    let stub = Stub::start(|_, _| Reply::whole(201, include_str!("../tests/tokenreview-good.json"))).await;
    let (server, _token) = stub.settings(false);
    let mute = reviewed(review::Settings { audiences: vec!["x".to_owned()], ..Default::default() });
    let (providers, _) = providers(&mute, &server);
    assert_eq!(who(&providers, "good").await.unwrap_err().0, 401);
}

#[tokio::test]
async fn server_that_does_not_answer_as_it_should_lets_nobody_in_and_is_told_once_and_when_it_is_back() {
    type Answer = fn(&Url) -> Reply;
    let faults: &[Answer] = &[
        |_| Reply::whole(401, include_str!("../tests/unauthorized.json")),
        |_| Reply::whole(403, include_str!("../tests/forbidden.json")),
        |_| Reply::whole(404, "404 page not found"),
        |_| Reply::whole(410, ""),
        |_| Reply::whole(500, "\u{1b}[31m"),
        |_| Reply::whole(429, ""),
        |url| Reply::redirect(url.join("/elsewhere").unwrap().as_str()),
        |_| Reply::whole(201, "{"),
        |_| Reply::whole(201, "[]"),
        |_| Reply::whole(201, r#"{"status":7}"#),
        |_| Reply::whole(201, format!("{{\"status\":{}", "[".repeat(100_000))),
        |_| Reply::whole(201, vec![b' '; 2 << 20]),
        |_| {
            let (pen, reply) = Reply::open(201);
            pen.send(Ok("{\"status\":{\"authenticated\":tr".into())).unwrap();
            pen.send(Err(std::io::Error::other("cut"))).unwrap();
            reply
        },
    ];
    let step = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&step);
    let stub = Stub::start(move |url, asked| match faults.get(at.load(Ordering::Relaxed)) {
        Some(fault) => fault(url),
        None => api_server(url, asked),
    })
    .await;
    let (server, _token) = stub.settings(false);
    let (providers, told) = providers(&reviewed(review::Settings::default()), &server);
    for number in 0..faults.len() {
        step.store(number, Ordering::Relaxed);
        let expected = Err((503, "Kubernetes cannot be asked whose token it is"));
        assert_eq!(who(&providers, "good").await, expected, "{number}");
    }
    assert_eq!(stub.count("elsewhere"), 0, "a redirection was followed");
    step.store(faults.len(), Ordering::Relaxed);
    assert!(who(&providers, "good").await.is_ok());
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["what"], &told[1]["is_over"]), (&"kubernetes".into(), &true.into()));
    assert_eq!(told[1]["count"], faults.len());
}

#[tokio::test]
async fn who_guesses_tokens_is_not_asked_about_for_ever_and_does_not_keep_out_others() {
    let stub = Stub::start(api_server).await;
    let (server, _token) = stub.settings(false);
    let (providers, _) = providers(&reviewed(review::Settings::default()), &server);
    for number in 0..200 {
        let status = who(&providers, &format!("guess {number}")).await.unwrap_err().0;
        assert_eq!(status, if number < Guesses::MAX { 401 } else { 429 }, "{number}");
    }
    assert_eq!(stub.count("tokenreviews"), Guesses::MAX as usize);
    let other = providers.identify("good", [10, 0, 0, 2].into(), "/metrics").await;
    assert_eq!(other, Ok(Caller::Kubernetes(SCRAPER.to_owned())));
    // What is known is known, whoever has it.
    assert!(who(&providers, "good").await.is_ok());
}

#[tokio::test]
async fn somebody_who_waits_for_a_slow_server_is_refused_in_time_and_others_need_not_wait() {
    let held: Arc<Mutex<Vec<crate::remote::stub::Pen>>> = Arc::default();
    let pens = Arc::clone(&held);
    let stub = Stub::start(move |url, asked| {
        if !String::from_utf8_lossy(&asked.body).contains("\"slow\"") {
            return api_server(url, asked);
        }
        let (pen, reply) = Reply::open(201);
        pens.lock().unwrap().push(pen);
        reply
    })
    .await;
    let (server, _token) = stub.settings(false);
    let (providers, _) = providers(&reviewed(review::Settings::default()), &server);
    let (slow, quick) = tokio::join!(who(&providers, "slow"), who(&providers, "good"));
    assert_eq!(slow.unwrap_err().0, 503);
    assert!(quick.is_ok());
}

#[tokio::test]
async fn what_came_of_a_question_is_known_though_whoever_asked_has_hung_up() {
    let held: Arc<Mutex<Vec<crate::remote::stub::Pen>>> = Arc::default();
    let pens = Arc::clone(&held);
    let stub = Stub::start(move |_, _| {
        let (pen, reply) = Reply::open(503);
        pens.lock().unwrap().push(pen);
        reply
    })
    .await;
    let (server, _token) = stub.settings(false);
    let (providers, _) = providers(&reviewed(review::Settings::default()), &server);
    let standing = providers.standings().remove(0);
    tokio::select! {
        found = who(&providers, "slow") => panic!("{found:?}"),
        () = async { while held.lock().unwrap().is_empty() { tokio::task::yield_now().await } } => {}
    }
    held.lock().unwrap().clear();
    while standing.failed.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(standing.why_away().is_some());
}

/// A provider whose keys the test changes.
struct Provider {
    stub: Stub,
    keys: Arc<Mutex<Value>>,
    /// What it answers with.
    status: Arc<AtomicU16>,
}

impl Provider {
    async fn start() -> Self {
        let keys = Arc::new(Mutex::new(json!({ "keys": [] })));
        let status = Arc::new(AtomicU16::new(200));
        let (set, with) = (Arc::clone(&keys), Arc::clone(&status));
        let stub = Stub::start(move |url, asked| {
            let answer = match asked.what.as_str() {
                "GET /realm/.well-known/openid-configuration" => {
                    json!({ "issuer": format!("{url}realm"), "jwks_uri": format!("{url}keys") }).to_string()
                }
                "GET /keys" => set.lock().unwrap().to_string(),
                other => panic!("{other}"),
            };
            Reply::whole(with.load(Ordering::Relaxed), answer)
        })
        .await;
        Self { stub, keys, status }
    }

    fn issuer(&self) -> String {
        format!("{}realm", self.stub.url)
    }

    fn settings(&self) -> Settings {
        let oidc = oidc::Settings {
            issuer: self.issuer(),
            audience: "taffrail".to_owned(),
            ca_file: Some(Stub::ca_file()),
            groups: vec!["ops".to_owned()],
            claims: vec![("env".to_owned(), "prod".to_owned())],
            ..oidc::Settings::default()
        };
        Settings { oidc, ..Settings::default() }
    }

    fn claims(&self) -> Value {
        let now_s = jiff::Timestamp::now().as_second();
        json!({
            "iss": self.issuer(), "aud": "taffrail", "sub": "alice", "groups": ["dev", "ops"], "env": ["prod"],
            "iat": now_s, "exp": now_s + 300,
        })
    }
}

#[tokio::test]
async fn token_of_the_provider_is_taken_and_each_that_is_not_whole_is_refused_for_its_reason() {
    let (provider, signer) = (Provider::start().await, Signer::ec());
    *provider.keys.lock().unwrap() = json!({ "keys": [signer.public("k")] });
    let (providers, _) = providers(&provider.settings(), &kubernetes::Settings::default());
    let header = json!({ "alg": "ES256", "kid": "k" });
    let token = |change: &dyn Fn(&mut Value)| {
        let mut claims = provider.claims();
        change(&mut claims);
        signer.sign(&header, &claims)
    };
    assert_eq!(who(&providers, &token(&|_| {})).await, Ok(Caller::Oidc("alice".to_owned())));
    let now_s = jiff::Timestamp::now().as_second();
    for (name, value, expected) in [
        ("aud", json!("other"), (401, "a token for another audience")),
        ("exp", json!(now_s - 100), (401, "a token that has expired")),
        ("nbf", json!(now_s + 100), (401, "a token that is not valid yet")),
        ("sub", json!(""), (401, "a token without the claims that are required")),
        ("sub", json!(7), (401, "a token without the claims that are required")),
        ("env", json!("test"), (401, "a token without the claims that are required")),
        ("groups", json!(["dev"]), (403, "may not ask that")),
        ("groups", json!({ "ops": true }), (403, "may not ask that")),
        // Another issuer's is nobody's here.
        ("iss", json!("https://elsewhere"), (401, "unknown token")),
    ] {
        let found = who(&providers, &token(&|claims| claims[name] = value.clone())).await;
        assert_eq!(found, Err(expected), "{name} {value}");
    }
    let other = Signer::ec().sign(&header, &provider.claims());
    assert_eq!(who(&providers, &other).await, Err((401, "a token whose signature is wrong")));
    assert_eq!(provider.stub.count("GET /keys"), 1);
}

#[tokio::test]
async fn email_counts_only_if_it_is_verified() {
    let (provider, signer) = (Provider::start().await, Signer::ed());
    *provider.keys.lock().unwrap() = json!({ "keys": [signer.public("k")] });
    let mut settings = provider.settings();
    settings.oidc.user_claim = "email".to_owned();
    let (providers, _) = providers(&settings, &kubernetes::Settings::default());
    for (verified, is_taken) in
        [(json!(true), true), (json!("true"), false), (json!(false), false), (Value::Null, false)]
    {
        let mut claims = provider.claims();
        claims["email"] = "alice@example.com".into();
        claims["email_verified"] = verified;
        let token = signer.sign(&json!({ "alg": "EdDSA" }), &claims);
        assert_eq!(who(&providers, &token).await.is_ok(), is_taken, "{claims}");
    }
}

#[tokio::test]
async fn new_key_of_the_provider_is_fetched_once_and_a_flood_of_unknown_ones_fetches_nothing() {
    let (provider, old, new) = (Provider::start().await, Signer::ec(), Signer::ed());
    *provider.keys.lock().unwrap() = json!({ "keys": [old.public("old")] });
    let (providers, told) = providers(&provider.settings(), &kubernetes::Settings::default());
    let by_old = old.sign(&json!({ "alg": "ES256", "kid": "old" }), &provider.claims());
    assert!(who(&providers, &by_old).await.is_ok());
    for number in 0..50 {
        let token = new.sign(&json!({ "alg": "EdDSA", "kid": format!("k{number}") }), &provider.claims());
        assert_eq!(who(&providers, &token).await, Err((401, "a token that is signed by an unknown key")));
    }
    assert_eq!(provider.stub.count("GET /keys"), 1);
    assert!(told.lock().unwrap().is_empty());
    // Once it may be asked again, the new one is found.
    *provider.keys.lock().unwrap() = json!({ "keys": [old.public("old"), new.public("k0")] });
    *providers.oidc.as_ref().unwrap().tried.lock().await = None;
    let by_new = new.sign(&json!({ "alg": "EdDSA", "kid": "k0" }), &provider.claims());
    assert!(who(&providers, &by_new).await.is_ok());
    assert_eq!(provider.stub.count("GET /keys"), 2);
}

#[tokio::test]
async fn provider_that_is_away_or_speaks_for_another_lets_nobody_in() {
    type Answer = fn(&Url) -> Reply;
    let answers: &[Answer] = &[
        |_| Reply::whole(503, ""),
        |_| Reply::whole(404, "<html>"),
        |_| Reply::whole(410, ""),
        |_| Reply::whole(200, "<html>"),
        |url| Reply::redirect(url.as_str()),
        |url| {
            Reply::whole(
                200,
                json!({ "issuer": "https://evil", "jwks_uri": format!("{url}keys") }).to_string(),
            )
        },
        |url| {
            let found = json!({ "issuer": format!("{url}realm"), "jwks_uri": "http://127.0.0.1/keys" });
            Reply::whole(200, found.to_string())
        },
        |url| {
            let found =
                json!({ "issuer": format!("{url}realm"), "jwks_uri": format!("{url}keys"), "keys": [] });
            Reply::whole(200, found.to_string())
        },
    ];
    for (number, answer) in answers.iter().enumerate() {
        let answer = *answer;
        let stub = Stub::start(move |url, _| answer(url)).await;
        let provider = Provider { stub, keys: Arc::default(), status: Arc::default() };
        let (providers, told) = providers(&provider.settings(), &kubernetes::Settings::default());
        let token = Signer::ec().sign(&json!({ "alg": "ES256", "kid": "k" }), &provider.claims());
        for _ in 0..3 {
            let why = "the provider of OpenID Connect cannot be asked for its keys";
            assert_eq!(who(&providers, &token).await, Err((503, why)), "{number}");
        }
        assert!(provider.stub.asked.lock().unwrap().len() <= 2, "asked again at once");
        assert_eq!(told.lock().unwrap()[0]["what"], "oidc");
        assert_eq!(providers.standings()[0].failed.get(), 1);
    }
}

#[tokio::test]
async fn token_by_a_key_that_a_provider_which_is_not_there_any_more_may_have_made_is_not_called_bad() {
    let (provider, old, new) = (Provider::start().await, Signer::ec(), Signer::ed());
    *provider.keys.lock().unwrap() = json!({ "keys": [old.public("old")] });
    let (providers, told) = providers(&provider.settings(), &kubernetes::Settings::default());
    let by_old = old.sign(&json!({ "alg": "ES256", "kid": "old" }), &provider.claims());
    assert!(who(&providers, &by_old).await.is_ok());
    provider.status.store(404, Ordering::Relaxed);
    *providers.oidc.as_ref().unwrap().tried.lock().await = None;
    let by_new = new.sign(&json!({ "alg": "EdDSA", "kid": "new" }), &provider.claims());
    let why = "the provider of OpenID Connect cannot be asked for its keys";
    assert_eq!(who(&providers, &by_new).await, Err((503, why)));
    assert!(who(&providers, &by_old).await.is_ok());
    assert_eq!(told.lock().unwrap()[0]["error"], "not known there (404)");
}
