//! Turns ring-buffer bytes into typed events. This is the only module that trusts a layout;
//! it never panics and never allocates. The layout itself is in `monitor-common`.

use taffrail_common::{event as abi, kind};
use thiserror::Error;

use super::{Call, Cgroup, CgroupMove, Connect, Dns, Event, Exec, Open};

/// Why bytes are not an event. Each is counted by the receiver, never skipped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Fewer bytes than the record, or than its header says.
    #[error("record of kind {kind} is {got} bytes, needs {need}")]
    Short {
        /// The kind that the header says, 0 if there is no header.
        kind: u16,
        /// Bytes that there are.
        got: usize,
        /// Bytes that there should be.
        need: usize,
    },
    /// A kind that this build does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u16),
}

impl Malformed {
    /// The kind that it says it is.
    pub fn kind(self) -> u16 {
        match self {
            Malformed::Short { kind, .. } | Malformed::UnknownKind(kind) => kind,
        }
    }
}

/// The start of a record, if there is that much.
pub fn header(bytes: &[u8]) -> Option<abi::Header> {
    fixed(bytes, 0).ok()
}

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, Malformed> {
    let header: abi::Header = fixed(bytes, 0)?;
    let kind = header.kind;
    let need = header.len as usize;
    let Some(bytes) = bytes.get(..need) else {
        return Err(Malformed::Short { kind, got: bytes.len(), need });
    };
    match kind {
        kind::EXEC => {
            let record: abi::Exec = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Exec>(bytes, kind);
            Ok(Event::Exec(Exec {
                exe: payload.take(record.exe.len)?,
                cwd: payload.take(record.cwd.len)?,
                filename: payload.take(record.filename.len)?,
                args: payload.take(record.args.len)?,
                record,
            }))
        }
        kind::FORK => Ok(Event::Fork(fixed(bytes, kind)?)),
        kind::EXIT => Ok(Event::Exit(fixed(bytes, kind)?)),
        kind::OPEN => {
            let record: abi::Open = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Open>(bytes, kind);
            Ok(Event::Open(Open {
                asked: payload.take(record.asked.len)?,
                file: payload.take(record.file.len)?,
                base: payload.take(record.base.len)?,
                record,
            }))
        }
        kind::CONNECT | kind::BIND | kind::LISTEN | kind::ACCEPT | kind::DUP => {
            let record: abi::Connect = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Connect>(bytes, kind);
            Ok(Event::Connect(Connect { path: payload.take(record.path.len)?, record }))
        }
        kind::CRED => Ok(Event::Cred(fixed(bytes, kind)?)),
        kind::SIGNAL => Ok(Event::Signal(fixed(bytes, kind)?)),
        kind::FLOW => Ok(Event::Flow(fixed(bytes, kind)?)),
        kind::UDP => Ok(Event::Udp(fixed(bytes, kind)?)),
        kind::DNS => {
            let record: abi::Dns = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Dns>(bytes, kind);
            Ok(Event::Dns(Dns::new(record, payload.take(record.message.len)?)))
        }
        kind::CGROUP => {
            let record: abi::Cgroup = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Cgroup>(bytes, kind);
            Ok(Event::Cgroup(Cgroup { path: payload.take(record.path.len)?, record }))
        }
        kind::CGROUP_MOVE => {
            let record: abi::CgroupMove = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::CgroupMove>(bytes, kind);
            Ok(Event::CgroupMove(CgroupMove { path: payload.take(record.path.len)?, record }))
        }
        kind if CALL_KINDS & 1 << kind.min(63) != 0 => {
            let record: abi::Call = fixed(bytes, kind)?;
            let mut payload = Payload::after::<abi::Call>(bytes, kind);
            Ok(Event::Call(Call {
                file: payload.take(record.file.len)?,
                base: payload.take(record.base.len)?,
                target: payload.take(record.target.len)?,
                target_base: payload.take(record.target_base.len)?,
                text: payload.take(record.text.len)?,
                record,
            }))
        }
        unknown => Err(Malformed::UnknownKind(unknown)),
    }
}

macro_rules! call_kinds {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => {
        0 $( | if matches!(stringify!($record).as_bytes(), b"Call") { 1u64 << $id } else { 0 } )*
    };
}

/// The kinds whose record is a [`Call`]: bit n is kind n.
pub const CALL_KINDS: u64 = taffrail_common::for_each_kind!(call_kinds);

/// A record of the ABI: `repr(C)`, integers and arrays of integers only, no implicit padding.
///
/// # Safety
/// Any bytes must be a valid value of the type.
unsafe trait Record: Copy {}

// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Header {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Exec {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Fork {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Exit {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Open {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Connect {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Cred {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Signal {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Cgroup {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::CgroupMove {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Flow {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Call {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Udp {}
// SAFETY: integers and arrays of integers only.
unsafe impl Record for abi::Dns {}

fn fixed<T: Record>(bytes: &[u8], kind: u16) -> Result<T, Malformed> {
    let need = size_of::<T>();
    if bytes.len() < need {
        return Err(Malformed::Short { kind, got: bytes.len(), need });
    }
    // SAFETY: there are enough bytes, any bytes are a `Record`, and alignment does not matter here.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The texts that follow a record, in the order of its fields.
struct Payload<'a> {
    bytes: &'a [u8],
    at: usize,
    kind: u16,
}

impl<'a> Payload<'a> {
    fn after<T>(bytes: &'a [u8], kind: u16) -> Self {
        Self { bytes, at: size_of::<T>(), kind }
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], Malformed> {
        let end = self.at.saturating_add(len as usize);
        let Some(text) = self.bytes.get(self.at..end) else {
            return Err(Malformed::Short { kind: self.kind, got: self.bytes.len(), need: end });
        };
        self.at = end;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, CallParts};
    use taffrail_common::call as id;

    fn samples() -> Vec<Vec<u8>> {
        let parts = CallParts {
            opened: Some("/x.ko"),
            text: "a=1",
            args: [3, 0, 2, 0, 0, 0],
            ..CallParts::default()
        };
        vec![
            testing::exec(7, 1_000, (1, 10), "/bin/sh", &["sh", "-c", "true"]),
            testing::fork(7, 1_000, (8, 2_000)),
            testing::exit(7, 1_000, 0x100),
            testing::open(7, 1_000, "/etc/passwd", 0, 3),
            testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0),
            testing::connect_unix(7, 1_000, "/run/x.sock"),
            testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind::ACCEPT),
            testing::cred(7, 1_000, (1000, 1), 0),
            testing::signal(7, 1_000, (6, 500), 9),
            testing::cgroup_move(7, 1_000, (6, 500), "/elsewhere"),
            testing::flow(7, 1_000, ([10, 0, 0, 1], 443), 104),
            testing::call(
                7,
                1_000,
                id::RENAME,
                CallParts { name: "/a", target: "/b", ..CallParts::default() },
            ),
            testing::call(7, 1_000, id::FINIT_MODULE, parts),
            testing::udp(7, 1_000, ([10, 0, 0, 1], 123)),
            testing::dns(7, 1_000, testing::DNS_ANSWER),
            testing::cgroup(7, 1_000, (9, "/docker/x"), false),
        ]
    }

    #[test]
    fn records_decode_to_what_was_put_in() {
        let exec = testing::exec(7, 1_000, (1, 10), "/bin/sh", &["sh", "-c", "true"]);
        let Ok(Event::Exec(exec)) = decode(&exec) else { panic!("no exec") };
        assert_eq!((exec.exe, exec.cwd, exec.args), (&b"/bin/sh"[..], &b"/"[..], &b"sh\0-c\0true\0"[..]));
        let open = testing::open(7, 1_000, "/etc/passwd", 0, -2);
        let Ok(Event::Open(open)) = decode(&open) else { panic!("no open") };
        assert_eq!((open.file, open.record.result), (&b"/etc/passwd"[..], -2));
        let connect = testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0);
        let Ok(Event::Connect(connect)) = decode(&connect) else { panic!("no connect") };
        assert_eq!(connect.remote(), "10.0.0.1:443".parse().ok());
        let parts = CallParts { name: "/a", target: "/b", text: "", ..CallParts::default() };
        let rename = testing::call(7, 1_000, id::RENAME, parts);
        let Ok(Event::Call(rename)) = decode(&rename) else { panic!("no call") };
        assert_eq!((rename.file, rename.target, rename.text), (&b"/a"[..], &b"/b"[..], &b""[..]));
        let moved = testing::cgroup_move(7, 1_000, (6, 500), "/elsewhere");
        let Ok(Event::CgroupMove(moved)) = decode(&moved) else { panic!("no move") };
        assert_eq!((moved.path, moved.record.target_tgid), (&b"/elsewhere"[..], 6));
        let removed = testing::cgroup(7, 1_000, (9, "/docker/x"), true);
        let Ok(Event::Cgroup(removed)) = decode(&removed) else { panic!("no cgroup") };
        assert_eq!((removed.path, removed.record.cgroup_id), (&b"/docker/x"[..], 9));
        assert_eq!((removed.record.level, removed.record.removed), (2, 1));
    }

    #[test]
    fn truncated_record_is_rejected_with_its_length() {
        for sample in samples() {
            for len in 0..sample.len() {
                let Err(Malformed::Short { got, need, .. }) = decode(&sample[..len]) else { panic!("{len}") };
                assert!(got == len && need > len);
            }
        }
    }

    #[test]
    fn length_in_the_header_decides_what_belongs_to_the_record() {
        for sample in samples() {
            // Bytes after the record are not its own.
            let longer = [&sample[..], b"more"].concat();
            assert_eq!(format!("{:?}", decode(&longer)), format!("{:?}", decode(&sample)));
            for len in [0, 4, sample.len() as u32 - 1, sample.len() as u32 + 1, u32::MAX] {
                let mut bad = sample.clone();
                bad[..4].copy_from_slice(&len.to_ne_bytes());
                assert!(matches!(decode(&bad), Err(Malformed::Short { .. })), "{len}");
            }
        }
    }

    #[test]
    fn record_of_an_unknown_kind_is_told() {
        let mut sample = testing::exit(7, 1_000, 0);
        sample[4..6].copy_from_slice(&999u16.to_ne_bytes());
        assert_eq!(decode(&sample).err(), Some(Malformed::UnknownKind(999)));
    }

    #[test]
    fn payload_that_goes_beyond_the_record_is_rejected() {
        for (sample, field) in [
            (&samples()[0], std::mem::offset_of!(abi::Exec, args)),
            (&samples()[3], std::mem::offset_of!(abi::Open, file)),
            (&samples()[11], std::mem::offset_of!(abi::Call, target)),
            (&samples()[12], std::mem::offset_of!(abi::Call, text)),
            (&samples()[9], std::mem::offset_of!(abi::CgroupMove, path)),
            (&samples()[14], std::mem::offset_of!(abi::Dns, message)),
            (&samples()[15], std::mem::offset_of!(abi::Cgroup, path)),
        ] {
            for len in [sample.len() as u32, u32::MAX] {
                let mut bad = sample.clone();
                bad[field..field + 4].copy_from_slice(&len.to_ne_bytes());
                assert!(matches!(decode(&bad), Err(Malformed::Short { .. })));
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_are_rejected_but_never_panic() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        for sample in samples() {
            for _ in 0..20_000 {
                let mut bad = sample.clone();
                for _ in 0..1 + random() % 6 {
                    let at = random() % bad.len();
                    bad[at] = random() as u8;
                }
                bad.truncate(random() % (bad.len() + 40));
                let _ = decode(&bad);
            }
        }
    }
}
