//! The keys that sign. Time is cut into epochs; each has a key of its own, whose secret is kept in a file only as long as the
//! epoch lasts. A key's successor is signed by it, written to the log, and noted in `keys.ndjson`; then its secret is
//! erased, so that nobody who comes later can sign for that time. [`Keys`] keeps the files; the order of the steps, and
//! what a crash between them leaves, is [`super::writer`]'s part.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::disk::Disk;
use super::hex::{from_hex, push_hex};

/// A public key.
pub type PublicKey = [u8; 32];

/// The key of an epoch. Its secret is erased from memory when it is dropped.
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub number: u64,
    secret: SigningKey,
}

impl Epoch {
    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        self.secret.verifying_key().to_bytes()
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.secret.sign(bytes).to_bytes()
    }
}

/// The folder of the secrets: one file for each epoch that has one, `N.secret`, with 64 hex digits.
#[derive(Debug)]
pub struct Keys {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl Keys {
    /// Uses a folder; makes it, with mode 0700, if it is not there.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<Self> {
        super::make_folder(folder)?;
        if folder.metadata()?.mode() & 0o022 != 0 {
            return Err(io::Error::other(format!("{}: others may write to it", folder.display())));
        }
        Ok(Self { disk, folder: folder.to_owned() })
    }

    /// Numbers of the epochs whose secrets are there, or are half written or half erased; smallest first.
    pub fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in self.folder.read_dir()? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".secret")?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The key of an epoch; `None` if its secret is not there whole.
    pub fn load(&self, number: u64) -> io::Result<Option<Epoch>> {
        let text = match std::fs::read(self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => Zeroizing::new(text?),
        };
        let seed = text.strip_suffix(b"\n").and_then(from_hex).map(Zeroizing::new);
        Ok(seed.map(|seed| Epoch { number, secret: SigningKey::from_bytes(&seed) }))
    }

    /// Makes the key of an epoch and keeps its secret, durably.
    pub fn create(&self, number: u64) -> io::Result<Epoch> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(io::Error::other)?;
        // As long as it gets, so that no copy stays behind where it grew.
        let mut text = Zeroizing::new(Vec::with_capacity(65));
        push_hex(&mut text, seed.as_slice());
        text.push(b'\n');
        // A secret that is there was never used: the log would know of it.
        self.disk.overwrite(&self.path(number), &text)?;
        self.disk.sync_folder(&self.folder)?;
        Ok(Epoch { number, secret: SigningKey::from_bytes(&seed) })
    }

    /// Erases all secrets but that of one epoch: writes over each, then deletes it. It may be done again at any time.
    pub fn erase_all_but(&self, number: u64) -> io::Result<()> {
        for other in self.numbers()?.into_iter().filter(|other| *other != number) {
            let path = self.path(other);
            self.disk.overwrite(&path, &[b'-'; 65])?;
            self.disk.remove(&path)?;
        }
        self.disk.sync_folder(&self.folder)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.secret"))
    }
}
