//! What lets a search skip: of each block of a segment, which is about a megabyte of whole lines, where it lies, which
//! records and times it has, and a Bloom filter of values in it. The filter's terms are fields of the rule language with
//! their values, taken from the lines as a search takes them, so that the two cannot disagree.
//!
//! An index is derived: `N.idx` beside a segment is only a copy that saves making it anew. It is checked against the
//! segment's length and for its form, and one that does not fit is not used. Whoever can write to the folder can make one
//! that hides records from a search; verification does not read it, and a search can go without.

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::archive::{BLOCK, TEMPORARY};
use super::read::seq_of;
use super::segment::{Form, Segment};
use crate::event::field::{self, Value, Values as _};
use crate::event::logged::Record;

/// Fields of which a term is made.
pub const FIELDS: &[&str] = &[
    "evt.kind",
    "evt.type",
    "proc.name",
    "proc.exepath",
    "proc.pname",
    "proc.key",
    "proc.pkey",
    "user.name",
    "container.id",
    "container.full_id",
    "container.name",
    "container.image",
    "k8s.ns.name",
    "k8s.pod.name",
    "k8s.workload.name",
    "fd.name",
    "dns.question.name",
];

/// The term of a record's kind: this name and the kind.
pub const KIND: &str = "kind";

/// The term of a rule: this name and the rule's.
pub const RULE: &str = "rule";

const MAGIC: &[u8; 8] = b"TFINDEX1";

/// No index is longer: one of a segment of 1 GiB is a few MiB.
const INDEX_MAX: u64 = 256 << 20;

/// Bits of a filter for each of its terms, and bits that are set for one: of 100 blocks without a value about one is taken
/// for one that has it.
const BITS: usize = 10;
const PROBES: u64 = 7;

/// What is known of a block's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Earliest time, in ns since 1970.
    pub from_ns: u64,
    /// Latest time.
    pub to_ns: u64,
    /// Which terms there may be.
    terms: Bloom,
}

/// A part of a segment that can be read alone: whole lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes in the file.
    pub len: u32,
    /// Its bytes when it is unpacked.
    pub plain_len: u32,
    /// The number of its first record, 0 if it has none.
    pub first: u64,
    /// What is in it, if that is known.
    pub content: Option<Content>,
}

impl Content {
    /// Reads lines.
    pub fn of(lines: &[u8]) -> Self {
        let (mut from_ns, mut to_ns) = (u64::MAX, 0);
        let mut terms = Vec::new();
        for record in lines.split(|byte| *byte == b'\n').filter_map(Record::parse) {
            if let Some(ns) = record.time_ns() {
                (from_ns, to_ns) = (from_ns.min(ns), to_ns.max(ns));
            }
            terms.push(term(KIND, record.kind().as_bytes()));
            terms.extend(record.top.text("rule").map(|rule| term(RULE, rule)));
            for name in FIELDS {
                let Some(field) = field::find(name) else { continue };
                record.any(field, None, &mut |value| {
                    terms.extend(term_of(name, &value));
                    false
                });
            }
        }
        terms.sort_unstable();
        terms.dedup();
        Self { from_ns, to_ns, terms: Bloom::of(&terms) }
    }

    /// Whether a term may be there.
    pub fn may_have(&self, term: u64) -> bool {
        self.terms.may_have(term)
    }
}

/// The term of a field and its value.
pub fn term(name: &str, value: &[u8]) -> u64 {
    let mut hash = SipHasher13::new();
    hash.write(name.as_bytes());
    hash.write_u8(0xff);
    hash.write(value);
    hash.finish()
}

fn term_of(name: &str, value: &Value<'_>) -> Option<u64> {
    value.text().map(|text| term(name, text))
}

/// A set that may take for a member what is none, but never the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bloom(Vec<u64>);

impl Bloom {
    fn of(terms: &[u64]) -> Self {
        let mut bloom = Self(vec![0; (terms.len() * BITS).div_ceil(64).max(1)]);
        for term in terms {
            for bit in bloom.bits(*term) {
                bloom.0[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
        bloom
    }

    fn may_have(&self, term: u64) -> bool {
        self.bits(term).all(|bit| self.0[(bit / 64) as usize] & 1 << (bit % 64) != 0)
    }

    /// The bits of a term: two halves of its hash, added up again and again.
    fn bits(&self, term: u64) -> impl Iterator<Item = u64> + use<> {
        let count = self.0.len().max(1) as u64 * 64;
        let (first, step) = (term >> 32, term & 0xffff_ffff | 1);
        (0..PROBES).map(move |n| (first + n * step) % count)
    }
}

/// Makes the index of a segment that is not written any more, and keeps it beside it.
pub fn make(segment: &Segment) -> io::Result<()> {
    // Whoever may not keep it need not make it.
    let place = Place::of(segment)?;
    let mut blocks = cut(segment)?;
    let file = File::open(&segment.path)?;
    for block in &mut blocks {
        let lines = read(&file, segment.form, block)?;
        block.learn(&lines);
    }
    place.save(&blocks)
}

impl Block {
    /// Notes what is in its lines.
    pub fn learn(&mut self, lines: &[u8]) {
        self.first = lines.split(|byte| *byte == b'\n').find_map(seq_of).unwrap_or(0);
        self.content = Some(Content::of(lines));
    }
}

/// Keeps an index beside its segment.
pub fn save(segment: &Segment, blocks: &[Block]) -> io::Result<()> {
    Place::of(segment)?.save(blocks)
}

/// Where an index is written, and where it is then.
struct Place {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Place {
    fn of(segment: &Segment) -> io::Result<Self> {
        let path = segment.index_path();
        let temporary = path.with_extension(format!("idx.{TEMPORARY}"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            // Whoever made the folder may have made that name, to have something else written over.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&temporary)?;
        Ok(Self { file, temporary, path })
    }

    fn save(mut self, blocks: &[Block]) -> io::Result<()> {
        self.file.write_all(&bytes_of(blocks))?;
        // It need not last: what is lost is made again.
        std::fs::rename(&self.temporary, &self.path)
    }
}

fn bytes_of(blocks: &[Block]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(blocks.len() as u64).to_le_bytes());
    for Block { offset: _, len, plain_len, first, content } in blocks {
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&plain_len.to_le_bytes());
        let empty = Content { from_ns: 0, to_ns: u64::MAX, terms: Bloom(Vec::new()) };
        let Content { from_ns, to_ns, terms } = content.as_ref().unwrap_or(&empty);
        for number in [*first, *from_ns, *to_ns, terms.0.len() as u64].iter().chain(&terms.0) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = SipHasher13::new();
    hash.write(bytes);
    hash.finish()
}

/// Reads the index of a segment; `None` if there is none that fits.
pub fn load(segment: &Segment) -> io::Result<Option<Vec<Block>>> {
    let file_len = segment.path.metadata()?.len();
    let Some(bytes) = read_bounded(&segment.index_path()) else { return Ok(None) };
    Ok(parse(&bytes, file_len, segment.form))
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = file.ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
    let mut bytes = Vec::new();
    file.take(INDEX_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn parse(bytes: &[u8], file_len: u64, form: Form) -> Option<Vec<Block>> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*sum) != checksum(body) {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let count = number(&mut rest)?;
    let (mut blocks, mut offset) = (Vec::new(), 0u64);
    for _ in 0..count {
        let lens = number(&mut rest)?;
        let (len, plain_len) = (lens as u32, (lens >> 32) as u32);
        let [first, from_ns, to_ns, words] = [(); 4].map(|()| number(&mut rest));
        let (bits, after) = rest.split_at_checked(usize::try_from(words?).ok()?.checked_mul(8)?)?;
        rest = after;
        let terms = Bloom(bits.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect());
        let len_max = match form {
            Form::Plain => plain_len as usize,
            Form::Packed => zstd::zstd_safe::compress_bound(BLOCK),
        };
        if plain_len as usize > BLOCK || len as usize > len_max {
            return None;
        }
        let content = Content { from_ns: from_ns?, to_ns: to_ns?, terms };
        let content = (!content.terms.0.is_empty()).then_some(content);
        blocks.push(Block { offset, len, plain_len, first: first?, content });
        offset = offset.checked_add(len.into())?;
    }
    (rest.is_empty() && offset == file_len).then_some(blocks)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

/// The blocks of a segment by its bytes alone.
pub fn cut(segment: &Segment) -> io::Result<Vec<Block>> {
    let mut file = File::open(&segment.path)?;
    let len = file.metadata()?.len();
    let (mut blocks, mut offset) = (Vec::new(), 0);
    while offset < len {
        let next = match segment.form {
            Form::Plain => plain_block(&file, offset, len)?,
            Form::Packed => frame(&mut file, offset)?,
        };
        offset += u64::from(next.len);
        blocks.push(next);
    }
    Ok(blocks)
}

/// A block of a plain file: as many whole lines as fit.
fn plain_block(file: &File, offset: u64, len: u64) -> io::Result<Block> {
    let end = len.min(offset + BLOCK as u64);
    let (mut at, mut chunk) = (end, [0; 4096]);
    // Backwards to the last newline; without one it is no line and can be cut anywhere.
    let mut cut = end;
    while end < len && at > offset {
        let start = at.saturating_sub(chunk.len() as u64).max(offset);
        let bytes = &mut chunk[..(at - start) as usize];
        file.read_exact_at(bytes, start)?;
        if let Some(newline) = memchr::memrchr(b'\n', bytes) {
            cut = start + newline as u64 + 1;
            break;
        }
        at = start;
    }
    let len = (cut - offset) as u32;
    Ok(Block { offset, len, plain_len: len, first: 0, content: None })
}

/// A frame of a packed file.
fn frame(file: &mut File, offset: u64) -> io::Result<Block> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(zstd::zstd_safe::compress_bound(BLOCK) as u64).read_to_end(&mut bytes)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not packed by taffrail");
    let len = zstd::zstd_safe::find_frame_compressed_size(&bytes).map_err(|_| wrong())?;
    let plain_len = zstd::zstd_safe::get_frame_content_size(&bytes).map_err(|_| wrong())?;
    let plain_len = plain_len.filter(|len| *len <= BLOCK as u64).ok_or_else(wrong)? as u32;
    Ok(Block { offset, len: len as u32, plain_len, first: 0, content: None })
}

/// The lines of a block.
pub fn read(file: &File, form: Form, block: &Block) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; block.len as usize];
    file.read_exact_at(&mut bytes, block.offset)?;
    match form {
        Form::Plain => Ok(bytes),
        Form::Packed => zstd::bulk::decompress(&bytes, BLOCK.min(block.plain_len as usize)),
    }
}
