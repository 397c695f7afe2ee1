//! Recordings of all that enters the daemon, so that whatever runs as root in production can be replayed
//! without root: records of the probes, processes that were there at the start, cgroup paths, losses.
//!
//! A recording is the line [`MAGIC`], then frames: a kind byte, a little-endian `u32` length, that many
//! bytes. Records are as the probes wrote them; the other frames are JSON.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::enrich::container::Container;
use crate::enrich::executable::{Digest, Version};
use crate::enrich::metadata::Metadata;
use crate::enrich::users::Names;

/// First line of a recording. The number changes with the ABI.
pub const MAGIC: &str = "taffrail recording 3\n";

/// Largest frame that is read: no record comes near.
const FRAME_MAX: u32 = 1 << 20;

/// One thing that entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A record as the probes wrote it.
    Record(Vec<u8>),
    /// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME`, in ns, from here on.
    Clock(i64),
    /// Anything else, as JSON.
    Note(Box<Note>),
}

/// What the daemon found out elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A process that ran already.
    Process(crate::enrich::seed::Seed),
    /// Whose a cgroup is.
    Cgroup {
        /// Its id.
        id: u64,
        /// Its path below the v2 root; `None`: it was gone.
        path: Option<String>,
        /// Its container; `None`: the host's, or not known.
        container: Option<Container>,
    },
    /// What a container is called and was given.
    Container {
        /// Path of its cgroup.
        cgroup_path: String,
        /// All that is known.
        metadata: Box<Metadata>,
    },
    /// The hash of an executable, or why there is none.
    Digest {
        /// Of which version of which file.
        version: Version,
        /// The hash.
        digest: Digest,
    },
    /// Names of users and groups.
    Names {
        /// Path of the container's cgroup; empty for the host.
        cgroup_path: String,
        /// All of them.
        names: Names,
    },
    /// Events that the kernel lost.
    Loss {
        /// Their kind.
        kind: u16,
        /// Their cgroup, if known.
        cgroup_id: Option<u64>,
        /// How many.
        count: u64,
        /// After this time of the boot clock; 0 in recordings that do not tell.
        #[serde(default)]
        since_ns: u64,
        /// Before this time of the boot clock; 0 in recordings that do not tell.
        #[serde(default)]
        until_ns: u64,
    },
}

/// Writes a recording.
pub struct Writer {
    out: BufWriter<File>,
}

impl Writer {
    /// Starts a new file; an existing one is refused.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create_new(path)?);
        out.write_all(MAGIC.as_bytes())?;
        Ok(Self { out })
    }

    /// Adds a record.
    pub fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame(b'R', bytes)
    }

    /// Adds the clock's offset.
    pub fn clock(&mut self, offset_ns: i64) -> io::Result<()> {
        self.frame(b'T', &offset_ns.to_le_bytes())
    }

    /// Adds anything else.
    pub fn note(&mut self, note: &Note) -> io::Result<()> {
        self.frame(b'N', &serde_json::to_vec(note)?)
    }

    /// Makes sure that all of it is in the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&[kind])?;
        self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.out.write_all(bytes)
    }
}

/// Reads a recording.
pub struct Reader<R> {
    input: BufReader<R>,
}

impl<R: io::Read> Reader<R> {
    /// Checks the first line.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut magic = Vec::new();
        io::Read::by_ref(&mut input).take(MAGIC.len() as u64).read_until(b'\n', &mut magic)?;
        if magic != MAGIC.as_bytes() {
            return Err(invalid("not a taffrail recording of this version".to_owned()));
        }
        Ok(Self { input })
    }

    /// The next frame; `None` at the end. A frame that is cut short is an error.
    pub fn frame(&mut self) -> io::Result<Option<Frame>> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut head = [0; 5];
        self.input.read_exact(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u32::from_le_bytes(len);
        if len > FRAME_MAX {
            return Err(invalid(format!("a frame of {len} bytes")));
        }
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes)?;
        let frame = match kind {
            b'R' => Frame::Record(bytes),
            b'T' => {
                let offset = bytes.try_into().map_err(|_| invalid("a clock of the wrong size".to_owned()))?;
                Frame::Clock(i64::from_le_bytes(offset))
            }
            b'N' => Frame::Note(Box::new(serde_json::from_slice(&bytes)?)),
            other => return Err(invalid(format!("a frame of unknown kind {other}"))),
        };
        Ok(Some(frame))
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let notes = [
            Note::Cgroup { id: 7, path: Some("/a\u{1b}".to_owned()), container: None },
            Note::Cgroup { id: 8, path: None, container: None },
            Note::Loss { kind: 4, cgroup_id: None, count: 9, since_ns: 5, until_ns: 6 },
        ];
        let mut writer = Writer::create(&path).unwrap();
        writer.clock(-5).unwrap();
        writer.record(b"\0\xff").unwrap();
        for note in &notes {
            writer.note(note).unwrap();
        }
        writer.finish().unwrap();

        let mut reader = Reader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.frame().unwrap(), Some(Frame::Clock(-5)));
        assert_eq!(reader.frame().unwrap(), Some(Frame::Record(b"\0\xff".to_vec())));
        for note in notes {
            assert_eq!(reader.frame().unwrap(), Some(Frame::Note(Box::new(note))));
        }
        assert_eq!(reader.frame().unwrap(), None);
        assert_eq!(Writer::create(&path).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn recording_cut_anywhere_is_an_end_or_an_error_never_a_panic() {
        let mut whole = MAGIC.as_bytes().to_vec();
        for (kind, bytes) in [(b'R', b"abc".as_slice()), (b'T', &7i64.to_le_bytes()), (b'N', b"{}")] {
            whole.push(kind);
            whole.extend((bytes.len() as u32).to_le_bytes());
            whole.extend(bytes);
        }
        for cut in 0..whole.len() {
            if let Ok(mut reader) = Reader::new(&whole[..cut]) {
                while let Ok(Some(_)) = reader.frame() {}
            }
        }
        assert!(Reader::new(b"something else\n".as_slice()).is_err());
    }
}
