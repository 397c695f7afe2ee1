//! A cluster without nodes: a store, an API server and its controllers, each a real one, on ports of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taffrail_tests::cannot_load;

use crate::stage::{Certificates, free_port};

/// How long its start, and what its controllers do, may take: the programs are large, and not new.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why there is no cluster here.
pub fn unavailable() -> Option<String> {
    cannot_load().or_else(|| {
        (!program("kube-apiserver").exists()).then(|| {
            "no Kubernetes: `cargo xtask setup --kubernetes` builds it, which takes a while".to_owned()
        })
    })
}

fn program(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    PathBuf::from(home).join(".cache/taffrail/kubernetes").join(name)
}

/// The cluster, which is ended with this.
pub struct Cluster {
    pub certificates: Certificates,
    pub port: u16,
    store: String,
    children: Vec<(&'static str, Child)>,
}

impl Cluster {
    pub fn start() -> Self {
        let certificates = Certificates::new();
        certificates.issue("admin", "/O=system:masters/CN=admin");
        for arguments in ["genrsa -out sa.key 2048", "rsa -in sa.key -pubout -out sa.pub"] {
            let mut openssl = Command::new("openssl");
            let made = openssl.args(arguments.split(' ')).current_dir(certificates.folder.path()).output();
            assert!(made.unwrap().status.success(), "{arguments}");
        }
        let [port, client, peer, controllers] = [(); 4].map(|()| free_port());
        let store = format!("http://127.0.0.1:{client}");
        let mut cluster = Self { certificates, port, store: store.clone(), children: Vec::new() };
        cluster.run(
            "etcd",
            &[
                ("data-dir", "etcd"),
                ("listen-client-urls", &store),
                ("advertise-client-urls", &store),
                ("listen-peer-urls", &format!("http://127.0.0.1:{peer}")),
                ("unsafe-no-fsync", "true"),
            ],
        );
        cluster.start_api_server();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": cluster.url(), "certificate-authority": cluster.certificates.path("ca.pem") } }],
            "users": [{ "name": "c", "user": { "client-certificate": cluster.certificates.path("admin.pem"), "client-key": cluster.certificates.path("admin.key") } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
        });
        std::fs::write(cluster.certificates.path("config"), config.to_string()).unwrap();
        cluster.run(
            "kube-controller-manager",
            &[
                ("kubeconfig", "config"),
                ("service-account-private-key-file", "sa.key"),
                ("root-ca-file", "ca.pem"),
                // There are no nodes that could be looked after.
                ("controllers", "*,-nodelifecycle,-nodeipam,-ttl,-attachdetach,-persistentvolume-binder"),
                ("leader-elect", "false"),
                ("port", "0"),
                ("secure-port", &controllers.to_string()),
                ("bind-address", "127.0.0.1"),
                ("cert-dir", "certificates"),
            ],
        );
        cluster
    }

    /// Starts the API server; done when it answers.
    pub fn start_api_server(&mut self) {
        let (port, store) = (self.port.to_string(), self.store.clone());
        self.run(
            "kube-apiserver",
            &[
                ("etcd-servers", &store),
                ("secure-port", &port),
                ("bind-address", "127.0.0.1"),
                ("tls-cert-file", "server.pem"),
                ("tls-private-key-file", "server.key"),
                ("client-ca-file", "ca.pem"),
                ("service-account-key-file", "sa.pub"),
                ("service-account-signing-key-file", "sa.key"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("authorization-mode", "RBAC"),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                ("cert-dir", "certificates"),
                ("disable-admission-plugins", "TaintNodesByCondition"),
            ],
        );
        self.until("the API server is ready", || (self.ask("GET", "/readyz", None).0 == 200).then_some(()));
    }

    fn run(&mut self, name: &'static str, flags: &[(&str, &str)]) {
        let folder = self.certificates.folder.path();
        let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(program(name))
            .args(flags.iter().map(|(name, value)| format!("--{name}={value}")))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.children.push((name, child.unwrap()));
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Asks as an administrator: status and answer.
    pub fn ask(&self, method: &str, path: &str, object: Option<&Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--request", method, "--write-out", "\n%{http_code}"]);
        for (option, file) in [("--cacert", "ca.pem"), ("--cert", "admin.pem"), ("--key", "admin.key")] {
            curl.args([option, &self.certificates.path(file)]);
        }
        if let Some(object) = object {
            curl.args(["--header", "Content-Type: application/json", "--data", &object.to_string()]);
        }
        let output = curl.arg(format!("{}{path}", self.url())).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    /// Makes an object.
    pub fn make(&self, path: &str, object: Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(&object));
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Makes a service account that may do that, and gives a token of it, for that audience if there is one.
    pub fn account(&self, name: &str, rules: Value) {
        self.make("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": name } }));
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        self.make(&format!("{rbac}/clusterroles"), json!({ "metadata": { "name": name }, "rules": rules }));
        self.make(
            &format!("{rbac}/clusterrolebindings"),
            json!({
                "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
            }),
        );
    }

    /// A token of a service account, bound to an object of it as those in pods are.
    pub fn token(&self, account: &str, audience: Option<&str>) -> String {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let audiences: Vec<&str> = audience.into_iter().collect();
        let request = json!({ "spec": { "audiences": audiences, "expirationSeconds": 3607 } });
        self.make(&path, request)["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Waits until that is so.
    #[track_caller]
    pub fn until<T>(&self, what: &str, check: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = check() {
                return found;
            }
            assert!(Instant::now() < end, "it takes too long until {what}: see {}", self.said());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// The last lines of all programs.
    fn said(&self) -> String {
        let of = |name: &str| {
            let log =
                std::fs::read_to_string(self.certificates.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(5).collect();
            format!("{name}: {}\n", lines.join("\n"))
        };
        ["etcd", "kube-apiserver", "kube-controller-manager"].map(of).concat()
    }

    /// The API server is gone, with all connections.
    pub fn stop_api_server(&mut self) {
        let server = self.children.iter_mut().find(|(name, _)| *name == "kube-apiserver");
        let (_, child) = server.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.children.retain(|(name, _)| *name != "kube-apiserver");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
