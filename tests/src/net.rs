//! What tests with servers share: ports that nobody has, and certificates.

use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

/// A port that nobody has.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("loopback has free ports").port()
}

/// A certificate authority, and a certificate of it for `localhost`.
pub struct Certificates {
    /// Where they all are.
    pub folder: TempDir,
}

/// How keys are made.
const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

impl Certificates {
    /// Makes `ca` and `server`.
    #[expect(clippy::new_without_default, reason = "it takes a while and can fail")]
    pub fn new() -> Self {
        Self::with_addresses(&["127.0.0.1"])
    }

    /// As [`Certificates::new`], for a server that is reached at these addresses, too.
    pub fn with_addresses(addresses: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let addresses: String = addresses.iter().map(|address| format!(",IP:{address}")).collect();
        let extensions = format!("subjectAltName=DNS:localhost{addresses}\n");
        std::fs::write(folder.path().join("extensions"), extensions).expect("it can be written to");
        let new = Self { folder };
        new.openssl(&format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
        new.issue("server", "/CN=localhost");
        new
    }

    /// Makes `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, subject: &str) {
        self.openssl(&format!("req -new {NEW_KEY} -keyout {name}.key -out {name}.csr -subj {subject}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile extensions"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let run = Command::new("openssl").args(arguments.split(' ')).current_dir(self.folder.path()).output();
        let run = run.unwrap_or_else(|error| panic!("openssl: {error}"));
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    /// The path of one, or of its key.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}
