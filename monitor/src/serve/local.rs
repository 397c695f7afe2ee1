//! The local socket: HTTP for `taffrail status` and its like, for processes of this machine that are root or the daemon's
//! own user.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::Api;
use super::access::{Call, Caller};
use super::http::{self, Peer};
use super::tokens::Tokens;

/// Its name in the log's folder.
pub const NAME: &str = "control.sock";

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;

/// Bytes of an answer that are taken.
const ANSWER_MAX: usize = 16 << 20;

/// The socket; it is gone with this.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next start would replace it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket, in place of one that a daemon has left.
pub fn listen(path: &Path) -> io::Result<Socket> {
    let is_in_use = || std::os::unix::net::UnixStream::connect(path).is_ok();
    if path.exists() && is_in_use() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens there"));
    }
    // Under its name there is never a socket that others may use.
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    Ok(Socket { listener, path: path.to_owned() })
}

/// Answers for as long as it is awaited.
pub async fn serve(socket: &Socket, api: Arc<Api>) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // SAFETY: no arguments.
    let own = unsafe { libc::geteuid() };
    loop {
        // Others wait for their turn: who may connect is root.
        let turn = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
        let accepted =
            listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
        let (uid, stream) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptors, say: others need them more.
                log::debug!("a connection to the local socket was not taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if uid != 0 && uid != own {
            let refusal = Some("neither root nor the daemon's user");
            let caller = Caller::Local { uid };
            let (method, path) = (String::new(), String::new());
            api.calls.take(Call { caller, from: None, method, path, status: 0, refusal }, None);
            continue;
        }
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            http::serve(stream, Peer::Local { uid }, &Tokens::default(), &api).await;
            drop(turn);
        });
    }
}

/// Asks the daemon that listens there: HTTP status and body.
pub fn ask(socket: &Path, method: Method, path: &str) -> io::Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "local");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let asked = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body =
                Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(io::Error::other)?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the daemon does not answer");
        tokio::time::timeout(Duration::from_secs(10), asked).await.map_err(late)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_its_owners_alone_and_replaces_one_that_nobody_listens_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let left = UnixListener::bind(&path).unwrap();
        let error = listen(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(left);
        let socket = listen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }
}
