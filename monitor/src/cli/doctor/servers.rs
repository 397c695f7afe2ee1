//! Who is asked for what no file says: runtimes by their sockets, and the API server of Kubernetes, if the settings want it.

use super::Finding;
use crate::config::Settings;
use crate::enrich::metadata::api::{self, Look};
use crate::event::text::escaped;
use crate::remote::Error;
use crate::serve::identity::review;

/// Which runtimes can be asked. None has to be there.
pub fn runtimes(settings: &Settings) -> Vec<Finding> {
    const WHAT: &str = "runtimes";
    let looks = match api::look(&settings.sockets) {
        Ok(looks) => looks,
        Err(error) => {
            let advice = "no runtime can be asked for what its files do not say";
            return vec![Finding::less(WHAT, error.to_string(), advice)];
        }
    };
    let finding = |Look { api, path, found }| {
        let path = escaped(path.as_bytes());
        Some(match found? {
            Ok(version) => Finding::ok(api, format!("{} at {path}", escaped(version.as_bytes()))),
            Err(why) => Finding::less(
                api,
                format!("{path}: {}", escaped(why.as_bytes())),
                "what only this runtime can tell of its containers is not known; see `enrich.sockets`",
            ),
        })
    };
    let findings: Vec<Finding> = looks.into_iter().filter_map(finding).collect();
    if findings.is_empty() {
        let found =
            "no socket of one is there: what is in no file, such as labels of pods, is not known".to_owned();
        return vec![Finding::ok(WHAT, found)];
    }
    findings
}

/// Whether the API server tells what the settings want of it.
pub fn api_server(settings: &Settings) -> Vec<Finding> {
    let (server, tokens) = (&settings.kubernetes, &settings.api.providers.kubernetes);
    if !server.workloads && !tokens.is_on {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let advice = "the API server cannot be asked for what the settings want of it";
            return vec![Finding::less("API server", error.to_string(), advice)];
        }
    };
    let pods = server.workloads.then(|| {
        let tried = runtime.block_on(api::try_pods(server.clone(), settings.node_name.clone()));
        answer("workloads", tried, "events do not say whose a pod is")
    });
    let reviews = tokens.is_on.then(|| {
        let tried = runtime.block_on(review::try_out(tokens.clone(), server.clone()));
        answer("tokens", tried, "no token of Kubernetes lets anybody in")
    });
    pods.into_iter().chain(reviews).collect()
}

/// What came of asking it for something, without which that is so.
fn answer(what: &'static str, tried: Result<(), Error>, cost: &str) -> Finding {
    let Err(error) = tried else { return Finding::ok(what, "the API server tells them".to_owned()) };
    let advice = match error {
        Error::Denied(_) => {
            "give the daemon's service account its token and the rights (docs/deploy.md; the chart does)"
        }
        Error::Away(_) => {
            "let the daemon through to it: a NetworkPolicy such as the chart's forbids that until its addresses are in \
             `networkPolicy.egress`"
        }
        Error::Unknown | Error::Gone | Error::Wrong(_) => "see `kubernetes.server` and `kubernetes.ca_file`",
    };
    let found = format!("the API server does not tell them: {}", escaped(error.to_string().as_bytes()));
    Finding::less(what, found, &format!("{cost}; {advice}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::super::Verdict;
    use super::*;
    use crate::remote::stub::{Asked, Reply, Stub};

    const FORBIDDEN: &str = include_str!("../../serve/tests/forbidden.json");
    const BAD_TOKEN: &str = include_str!("../../serve/tests/tokenreview-bad.json");
    const ALLOWED: &str = include_str!("../../serve/tests/subjectaccessreview-allowed.json");

    /// What the doctor says with a server that gives these answers, and what that was asked.
    fn findings(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (Vec<Finding>, Vec<String>) {
        let (started, stub) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                started.send(Stub::start(move |_, asked| answer(asked)).await).unwrap();
                // Until all has been asked.
                let _ = ended.await;
            });
        });
        let stub = stub.recv().unwrap();
        let (kubernetes, _token) = stub.settings(true);
        let mut settings = Settings { kubernetes, ..Settings::default() };
        settings.api.providers.kubernetes.is_on = true;
        let findings = api_server(&settings);
        drop(end);
        let asked = stub.asked.lock().unwrap().iter().map(|asked| asked.what.clone()).collect();
        (findings, asked)
    }

    #[test]
    fn api_server_is_asked_for_all_that_the_daemon_asks_it_for() {
        let (findings, asked) = findings(|asked| match &asked.what {
            what if what.contains("tokenreviews") => Reply::whole(201, BAD_TOKEN),
            what if what.contains("subjectaccessreviews") => Reply::whole(201, ALLOWED),
            _ => Reply::whole(200, "{}"),
        });
        let found: Vec<_> =
            findings.iter().map(|finding| (finding.what, finding.verdict == Verdict::Ok)).collect();
        assert_eq!(found, [("workloads", true), ("tokens", true)]);
        for (asked, of) in
            asked.iter().zip(["GET /api/v1/pods?", "POST /apis/authentication", "POST /apis/authorization"])
        {
            assert!(asked.starts_with(of), "{asked}");
        }
        assert_eq!(asked.len(), 3);
    }

    #[test]
    fn what_the_api_server_refuses_is_told_with_what_it_costs() {
        let (findings, _) = findings(|_| Reply::whole(403, FORBIDDEN));
        for (finding, cost) in findings.iter().zip(["whose a pod is; give", "lets anybody in; give"]) {
            assert!(
                finding.verdict == Verdict::Less && finding.found.contains("403 Forbidden"),
                "{}",
                finding.found
            );
            assert!(finding.advice.as_ref().unwrap().contains(cost), "{:?}", finding.advice);
        }
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn api_server_that_is_not_asked_for_anything_is_left_alone_and_one_that_is_away_is_told() {
        assert!(api_server(&Settings::default()).is_empty());
        let mut settings = Settings::default();
        settings.kubernetes.workloads = true;
        // A port that nobody listens at any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        drop(listener);
        settings.kubernetes.server = Some(address.parse().unwrap());
        settings.kubernetes.ca_file = Stub::ca_file();
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "ours\n").unwrap();
        settings.kubernetes.token_file = token.path().to_owned();
        let findings = api_server(&settings);
        assert!(
            findings[0].advice.as_ref().unwrap().contains("networkPolicy.egress"),
            "{}",
            findings[0].found
        );
    }
}
