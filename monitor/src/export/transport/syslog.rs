//! Syslog: messages of RFC 5424 over UDP (RFC 5426), a Unix socket, TCP (RFC 6587, octet counting) and TLS (RFC 5425).
//! Syslog never says that a message was taken. Over TCP and TLS, events therefore count as safe only a while after the
//! peer's kernel has acknowledged all of them and the connection still stands; if it breaks before, they are sent again.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, RawFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{UdpSocket, UnixDatagram};

use super::{Batch, Event, Failure, Opening, Receiver, Sending, Stage, Stream, Transport, net};
use crate::audit::LINE_MAX;
use crate::export::settings::Settings;

/// What rsyslog takes as it is installed is 8 KiB, with the header.
const MAX_EVENT: usize = 8000;

/// Facility 13, "log audit" (RFC 5424, section 6.2.1).
const FACILITY: u8 = 13;

/// How long a receiver that reads needs at most until what it has read is no more lost with it.
const SETTLE: Duration = Duration::from_secs(2);

pub static UDP: Receiver = Receiver {
    scheme: "syslog+udp",
    about: "`syslog+udp://HOST:514`: RFC 5424 over UDP, a datagram each. What the network drops is lost unseen.",
    open: open_udp,
    ..TCP
};

pub static TCP: Receiver = Receiver {
    scheme: "syslog+tcp",
    about: "`syslog+tcp://HOST:514`: RFC 5424 over TCP, with octet counting (RFC 6587).",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 514,
    max_event_bytes: MAX_EVENT,
    batch_wait: Duration::ZERO,
    open: open_tcp,
};

pub static TLS: Receiver = Receiver {
    scheme: "syslog+tls",
    about: "`syslog+tls://HOST:6514`: RFC 5424 over TLS (RFC 5425).",
    port: 6514,
    open: open_tls,
    ..TCP
};

pub static UNIX: Receiver = Receiver {
    scheme: "syslog+unix",
    about: "`syslog+unix:///dev/log`: RFC 5424 to a Unix datagram socket.",
    open: open_unix,
    ..TCP
};

fn open_udp(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let addresses = net::look_up(settings).await?;
        let failed = |error| Failure::new(Stage::Tcp, error);
        let any =
            if addresses.first().is_some_and(|address| address.is_ipv6()) { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await.map_err(failed)?;
        socket.connect(&addresses[..1]).await.map_err(failed)?;
        Ok(Box::new(Datagrams { socket: Datagram::Udp(socket), timeout: settings.timeout })
            as Box<dyn Transport>)
    })
}

fn open_unix(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let failed = |error| Failure::new(Stage::Tcp, format_args!("{}: {error}", settings.to.path()));
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.connect(settings.to.path()).map_err(failed)?;
        Ok(Box::new(Datagrams { socket: Datagram::Unix(socket), timeout: settings.timeout })
            as Box<dyn Transport>)
    })
}

fn open_tcp(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let stream = net::connect(settings, &net::look_up(settings).await?).await?;
        let socket = stream.as_raw_fd();
        Ok(Box::new(Connected { stream: Box::new(stream), socket, timeout: settings.timeout })
            as Box<dyn Transport>)
    })
}

fn open_tls(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let stream = net::connect(settings, &net::look_up(settings).await?).await?;
        let socket = stream.as_raw_fd();
        let stream = Box::new(net::secure(settings, stream).await?);
        Ok(Box::new(Connected { stream, socket, timeout: settings.timeout }) as Box<dyn Transport>)
    })
}

struct Datagrams {
    socket: Datagram,
    /// For each: a receiver that is slow and reads has not gone.
    timeout: Duration,
}

enum Datagram {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Transport for Datagrams {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(async move {
            let mut refused = Vec::new();
            let mut message = Vec::new();
            for (index, (event, bytes)) in batch.iter().enumerate() {
                message.clear();
                write_message(event, bytes, &mut message);
                net::within(self.timeout, Stage::Accepted, async {
                    let sent = match &self.socket {
                        Datagram::Udp(socket) => socket.send(&message).await,
                        Datagram::Unix(socket) => socket.send(&message).await,
                    };
                    match sent {
                        Ok(_) => Ok(()),
                        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                            refused.push(super::Refused { index, reason: error.to_string() });
                            Ok(())
                        }
                        Err(error) => Err(Failure::new(Stage::Accepted, error)),
                    }
                })
                .await?;
            }
            Ok(refused)
        })
    }
}

/// A connection, and its socket: open as long as the stream is.
struct Connected {
    stream: Box<dyn Stream>,
    socket: RawFd,
    timeout: Duration,
}

impl Transport for Connected {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(async move {
            // The runtime hears of a connection that was closed.
            tokio::task::yield_now().await;
            self.has_arrived()?;
            let mut frames = Vec::with_capacity(batch.bytes.len() + 128 * batch.events.len());
            let mut message = Vec::new();
            for (event, bytes) in batch.iter() {
                message.clear();
                write_message(event, bytes, &mut message);
                // Writing to memory cannot fail.
                let _ = write!(frames, "{} ", message.len());
                frames.extend_from_slice(&message);
            }
            let failed = |error| Failure::new(Stage::Accepted, error);
            net::within(self.timeout, Stage::Accepted, async {
                self.stream.write_all(&frames).await.map_err(failed)?;
                self.stream.flush().await.map_err(failed)
            })
            .await?;
            Ok(Vec::new())
        })
    }

    fn has_arrived(&mut self) -> Result<bool, Failure> {
        let mut room = [0; 256];
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Err(error)) => return Err(Failure::new(Stage::Accepted, error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Err(Failure::new(Stage::Accepted, "the receiver has closed the connection"));
            }
            // A syslog receiver has nothing to say.
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let mut waiting: libc::c_int = 0;
        // SAFETY: the descriptor is open, and TIOCOUTQ (of a socket: SIOCOUTQ) writes one int.
        let asked = unsafe { libc::ioctl(self.socket, libc::TIOCOUTQ, &raw mut waiting) };
        Ok(asked != 0 || waiting == 0)
    }

    fn settles_after(&self) -> Duration {
        SETTLE
    }
}

/// Appends a message of RFC 5424: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG`.
fn write_message(event: &Event, bytes: &[u8], out: &mut Vec<u8>) {
    let priority = FACILITY * 8 + event.severity.min(7);
    // Six digits of a second at most.
    let time = event.time.get(..26).unwrap_or("1970-01-01T00:00:00.000000");
    // Writing to memory cannot fail.
    let _ = write!(out, "<{priority}>1 {time}Z ");
    header_field(&event.node, 255, out);
    let _ = write!(out, " taffrail {} ", std::process::id());
    header_field(&event.kind, 32, out);
    out.extend_from_slice(b" - ");
    out.extend_from_slice(bytes);
}

/// Printable ASCII without spaces, or `-`.
fn header_field(text: &str, max: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(text.bytes().filter(u8::is_ascii_graphic).take(max));
    if out.len() == start {
        out.push(b'-');
    }
}

const _: () = assert!(MAX_EVENT < LINE_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_the_header_of_rfc_5424_whatever_the_node_is_called() {
        let written = |node: &str| {
            let event = Event {
                seq: 1,
                id: "x-1".into(),
                time_ns: 0,
                time: "2026-11-24T12:00:00.123456789Z".into(),
                severity: 4,
                kind: "alert".into(),
                node: node.into(),
                container: String::new(),
                range: 0..0,
            };
            let mut out = Vec::new();
            write_message(&event, b"{\"a\":1}", &mut out);
            String::from_utf8(out).unwrap().replace(&format!(" {} ", std::process::id()), " PID ")
        };
        assert_eq!(
            written("node-1"),
            "<108>1 2026-11-24T12:00:00.123456Z node-1 taffrail PID alert - {\"a\":1}"
        );
        assert_eq!(
            written(" \n[x]ä"),
            "<108>1 2026-11-24T12:00:00.123456Z [x] taffrail PID alert - {\"a\":1}"
        );
        assert!(written("\u{7}").contains("Z - taffrail "));
        assert!(written(&"x".repeat(300)).contains(&format!(" {} ", "x".repeat(255))));
    }
}
