//! A cluster without nodes: a store, an API server and its controllers, each a real one, on ports of its own. Nodes can be
//! added where it has a network of its own.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taffrail_tests::cannot_load;
use taffrail_tests::net::{Certificates, free_port};

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

fn started_by(prefix: &[String], program: &OsStr) -> Command {
    let Some((first, more)) = prefix.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(more).arg(program).stdin(Stdio::null());
    command
}

/// Where a program of Kubernetes is.
pub fn program(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    PathBuf::from(home).join(".cache/taffrail/kubernetes").join(name)
}

/// Where pods find the API server, in a network of its own.
pub const SERVICE: &str = "10.0.0.1";

/// The cluster, which is ended with this.
pub struct Cluster {
    pub certificates: Certificates,
    pub port: u16,
    /// Whether nodes can reach it.
    is_open: bool,
    store: String,
    /// By which a program is started.
    prefix: Vec<String>,
    children: Vec<(&'static str, Child)>,
}

impl Cluster {
    pub fn start() -> Self {
        let ports = [(); 4].map(|()| free_port());
        Self::start_as(Certificates::new(), ports, Vec::new())
    }

    /// One where nodes can be: `prefix` starts a program in a network of its own.
    #[allow(dead_code, reason = "the tests of the chart use it")]
    pub fn open(prefix: &[&str]) -> Self {
        let certificates = Certificates::with_addresses(&["127.0.0.1", SERVICE]);
        let prefix: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
        let address = ["ip", "address", "add", SERVICE, "dev", "lo"];
        let mut command = started_by(&prefix, address[0].as_ref());
        assert!(command.args(&address[1..]).status().unwrap().success());
        let mut cluster = Self::start_as(certificates, [443, 2379, 2380, 10257], prefix);
        let scheduler = [
            ("kubeconfig", "config"),
            ("leader-elect", "false"),
            ("port", "0"),
            ("secure-port", "10259"),
            ("cert-dir", "certificates"),
        ];
        cluster.run("kube-scheduler", &scheduler);
        cluster
    }

    fn start_as(
        certificates: Certificates,
        [port, client, peer, controllers]: [u16; 4],
        prefix: Vec<String>,
    ) -> Self {
        certificates.issue("admin", "/O=system:masters/CN=admin");
        for arguments in ["genrsa -out sa.key 2048", "rsa -in sa.key -pubout -out sa.pub"] {
            let mut openssl = Command::new("openssl");
            let made = openssl.args(arguments.split(' ')).current_dir(certificates.folder.path()).output();
            assert!(made.unwrap().status.success(), "{arguments}");
        }
        let store = format!("http://127.0.0.1:{client}");
        let is_open = !prefix.is_empty();
        let mut cluster =
            Self { certificates, port, is_open, store: store.clone(), prefix, children: Vec::new() };
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
        cluster.configure("config", "admin");
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
                ("bind-address", if self.is_open { "0.0.0.0" } else { "127.0.0.1" }),
                ("advertise-address", SERVICE),
                ("tls-cert-file", "server.pem"),
                ("tls-private-key-file", "server.key"),
                ("client-ca-file", "ca.pem"),
                ("service-account-key-file", "sa.pub"),
                ("service-account-signing-key-file", "sa.key"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("authorization-mode", "Node,RBAC"),
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
        let child = self
            .command("env")
            // Who enters another mount namespace is at its root.
            .arg(format!("--chdir={}", folder.display()))
            .arg(program(name))
            .args(flags.iter().map(|(name, value)| format!("--{name}={value}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.children.push((name, child.unwrap()));
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Writes by what a program reaches it with that certificate.
    pub fn configure(&self, name: &str, who: &str) {
        let path = |name: &str| self.certificates.path(name);
        let [certificate, key] = ["pem", "key"].map(|kind| path(&format!("{who}.{kind}")));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": self.url(), "certificate-authority": path("ca.pem") } }],
            "users": [{ "name": "c", "user": { "client-certificate": certificate, "client-key": key } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
        });
        std::fs::write(path(name), config.to_string()).unwrap();
    }

    /// A command where it runs.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        started_by(&self.prefix, program.as_ref())
    }

    /// Asks as an administrator: status and answer.
    pub fn ask(&self, method: &str, path: &str, object: Option<&Value>) -> (u16, Value) {
        let mut curl = self.command("curl");
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
