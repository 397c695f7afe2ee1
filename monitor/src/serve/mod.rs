//! What the daemon can be asked while it runs: metrics, whether it is alive and ready, its status. A local socket that
//! only root and the daemon's own user may use is always there ([`local`]); an address is listened at only if the configuration
//! names one, by TLS and for callers who show who they are ([`network`], [`tls`], [`tokens`], [`identity`]). [`http`] answers both, [`access`] puts
//! every call into the audit log, [`metrics`] and [`status`] are the answers. The network has a thread of its own, of low priority, so that nobody out
//! there can hold up anything else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod access;
pub mod canary;
mod http;
pub mod identity;
pub mod local;
pub mod metrics;
pub mod network;
mod process;
pub mod status;
#[cfg(test)]
pub mod testing;
mod tls;
mod tokens;

use access::Calls;
use metrics::Sources;

/// Where the API listens, and whom it lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The local socket.
    pub socket: Socket,
    /// The address on the network, if any.
    pub listen: Option<SocketAddr>,
    /// Our certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Who signs certificates of clients.
    pub client_ca_file: Option<PathBuf>,
    /// Bearer tokens.
    pub tokens_file: Option<PathBuf>,
    /// Who else tells whose a bearer token is.
    pub providers: identity::Settings,
}

/// Where the local socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Socket {
    /// In the log's folder.
    #[default]
    InLog,
    /// There.
    At(PathBuf),
    /// Nowhere.
    None,
}

impl Settings {
    /// The path of the local socket, if there is to be one.
    pub fn socket_path(&self, log: &Path) -> Option<PathBuf> {
        match &self.socket {
            Socket::InLog => Some(log.join(local::NAME)),
            Socket::At(path) => Some(path.clone()),
            Socket::None => None,
        }
    }
}

/// What is asked.
pub struct Api {
    /// Where answers come from.
    pub sources: Sources,
    /// Where calls are put down.
    pub calls: Arc<Calls>,
    /// Who tells whose a token is that no file knows.
    pub providers: identity::Providers,
}
