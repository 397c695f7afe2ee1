//! How far an exporter has come: a small file beside the log, replaced as a whole, so that after a crash it is the old
//! one or the new one. It says where the log goes on, what the last record was (another log is noticed by that), and
//! what has been counted.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the files of exporters are.
pub fn folder(log: &Path) -> PathBuf {
    log.join("export")
}

/// What an exporter has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The last record that the receiver has, or that was not for it; 0 before the first.
    pub seq: u64,
    /// SHA-256 of that record's line: the `prev` of the next.
    pub hash: String,
    /// Events that the receiver has taken.
    pub sent: u64,
    /// Times that sending failed.
    pub failed: u64,
    /// Events that the receiver will not take, or that are damaged: they are in the file of dead letters.
    pub refused: u64,
    /// Records that were deleted from the log before they were sent.
    pub dropped: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// Since when nothing gets through, in UTC.
    pub failing_since: Option<String>,
    /// Whether that is since the log cannot be read.
    pub is_unreadable: bool,
}

/// The files of one exporter.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    name: String,
}

impl Files {
    /// Of the exporter with that name, beside the log in a folder.
    pub fn new(log: &Path, name: &str) -> Self {
        Self { folder: folder(log), name: name.to_owned() }
    }

    /// Of one of them, by its end.
    pub fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    /// How far it has come; `None` if it never ran, or if the file cannot be understood (it is set aside then).
    pub fn load(&self) -> io::Result<Option<Position>> {
        let path = self.path("json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        match serde_json::from_slice(&text) {
            Ok(position) => Ok(Some(position)),
            Err(_) => {
                std::fs::rename(&path, self.path("json.damaged"))?;
                Ok(None)
            }
        }
    }

    /// Makes a position durable.
    pub fn save(&self, position: &Position) -> io::Result<()> {
        let text = serde_json::to_vec(position)?;
        self.replace("json", &text)
    }

    fn replace(&self, extension: &str, text: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let new = self.path(&format!("{extension}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, self.path(extension))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Asks the exporter, which may be running, to send all from a record on again.
    pub fn ask_for_replay(&self, from: u64) -> io::Result<()> {
        self.replace("replay", from.to_string().as_bytes())
    }

    /// Where somebody wants it to begin anew, if somebody does.
    pub fn wanted_replay(&self) -> Option<u64> {
        std::fs::read_to_string(self.path("replay")).ok()?.trim().parse().ok()
    }

    /// What was wanted is done.
    pub fn forget_replay(&self) -> io::Result<()> {
        std::fs::remove_file(self.path("replay"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_back_and_a_damaged_one_is_set_aside() {
        let log = tempfile::tempdir().unwrap();
        let files = Files::new(log.path(), "siem");
        assert_eq!(files.load().unwrap(), None);
        let position = Position {
            seq: 7,
            hash: "ab".into(),
            sent: 5,
            error: Some("\u{1b}\"".into()),
            ..Position::default()
        };
        files.save(&position).unwrap();
        files.save(&position).unwrap();
        assert_eq!(files.load().unwrap(), Some(position));
        std::fs::write(log.path().join("export/siem.json"), "{\"seq\":").unwrap();
        assert_eq!(files.load().unwrap(), None);
        assert!(log.path().join("export/siem.json.damaged").exists());
    }

    #[test]
    fn replay_is_wanted_until_it_is_done() {
        let log = tempfile::tempdir().unwrap();
        let files = Files::new(log.path(), "siem");
        assert_eq!(files.wanted_replay(), None);
        files.ask_for_replay(12).unwrap();
        assert_eq!(files.wanted_replay(), Some(12));
        files.forget_replay().unwrap();
        assert_eq!(files.wanted_replay(), None);
    }
}
