//! Goes through a log for what a [`Query`] wants, oldest or newest first. Segments are read block by block, several at once;
//! blocks whose index says that nothing wanted is in them are not read at all.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use super::index::{self, Block};
use super::query::Query;
use super::read::{ReadError, segments};
use super::segment::{Form, Segment};
use crate::event::logged::Record;

/// In which order records are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were written.
    OldestFirst,
    /// The last one first.
    NewestFirst,
}

/// What a search did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records that were given out.
    pub found: u64,
    /// Blocks that were read.
    pub read: u64,
    /// Blocks that the index spared.
    pub spared: u64,
    /// What could not be read, and why.
    pub damaged: Vec<(PathBuf, String)>,
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// In which order.
    pub order: Order,
    /// Whether indexes are used, and made where they are missing.
    pub with_index: bool,
}

/// So many containers can have the name that is asked for, each with records from before it was known.
const NAMED_MAX: usize = 100_000;

/// Gives out each line that is wanted, without its newline, until `give` returns false.
pub fn search(
    folder: &Path,
    query: &Query,
    options: Options,
    give: &mut dyn FnMut(&[u8]) -> io::Result<bool>,
) -> Result<Outcome, SearchError> {
    let (query, first) = complete(folder, query, options)?;
    let mut outcome = search_as_told(folder, &query, options, give)?;
    (outcome.read, outcome.spared) = (outcome.read + first.read, outcome.spared + first.spared);
    outcome.damaged.extend(first.damaged);
    outcome.damaged.sort();
    outcome.damaged.dedup();
    Ok(outcome)
}

/// The query with the ids of the containers whose names it asks for, by what the log tells of them: what was seen before a name
/// was known has the id alone.
pub fn complete(folder: &Path, query: &Query, options: Options) -> Result<(Query, Outcome), SearchError> {
    let Some(naming) = query.naming() else { return Ok((query.clone(), Outcome::default())) };
    let mut ids = HashSet::new();
    let options = Options { order: Order::OldestFirst, ..options };
    let mut outcome = search_as_told(folder, &naming, options, &mut |line| {
        let record = Record::parse(line);
        ids.extend(record.as_ref().and_then(|record| record.container()?.text("id")).map(<[u8]>::to_vec));
        Ok(ids.len() < NAMED_MAX)
    })?;
    if ids.len() >= NAMED_MAX {
        let more = "more containers have that name than are looked for in records that have an id alone";
        outcome.damaged.push((folder.to_owned(), more.to_owned()));
    }
    Ok((query.clone().or_of_ids(&ids), outcome))
}

/// Takes the query by its word.
fn search_as_told(
    folder: &Path,
    query: &Query,
    options: Options,
    give: &mut dyn FnMut(&[u8]) -> io::Result<bool>,
) -> Result<Outcome, SearchError> {
    let mut segments = segments(folder)?;
    let last = segments.last().map(|segment| segment.first);
    if options.order == Order::NewestFirst {
        segments.reverse();
    }
    let mut search = Search { query, options, give, outcome: Outcome::default(), is_over: false };
    for segment in &segments {
        search.segment(segment, Some(segment.first) == last)?;
        if search.is_over {
            break;
        }
    }
    Ok(search.outcome)
}

/// A search failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was found cannot be written.
    #[error("cannot write what was found")]
    Write(#[source] io::Error),
}

struct Search<'a> {
    query: &'a Query,
    options: Options,
    give: &'a mut dyn FnMut(&[u8]) -> io::Result<bool>,
    outcome: Outcome,
    is_over: bool,
}

/// The lines of a block, which of them are wanted, and how many have what is looked for but are no records.
type Found = (Vec<u8>, Vec<Range<usize>>, u64);

/// Why a block has nothing: it is not what the index says, or it cannot be read.
type Unread = io::Error;

impl Search<'_> {
    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), SearchError> {
        let given = self.outcome.found;
        let first = match self.blocks_by_index(segment, is_last) {
            Some(blocks) => self.blocks(segment, &blocks)?,
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        // Without an index, or with one that was wrong before anything was given out.
        let second = match first {
            Err(_) if given == self.outcome.found => match index::cut(segment) {
                Ok(blocks) => self.blocks(segment, &blocks)?,
                Err(error) => Err(error),
            },
            first => first,
        };
        match second {
            Ok(()) => Ok(()),
            // It was packed meanwhile; or deleted, as old ones are.
            Err(error) if error.kind() == io::ErrorKind::NotFound && segment.form == Form::Plain => {
                let packed = segment.packed();
                if packed.path.exists() { self.segment(&packed, is_last) } else { Ok(()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                self.outcome.damaged.push((segment.path.clone(), error.to_string()));
                Ok(())
            }
        }
    }

    fn blocks_by_index(&self, segment: &Segment, is_last: bool) -> Option<Vec<Block>> {
        if !self.options.with_index || (is_last && segment.form == Form::Plain) {
            return None;
        }
        let load = || index::load(segment).ok().flatten();
        load().or_else(|| {
            // Whoever may only read the folder goes without.
            index::make(segment).ok()?;
            load()
        })
    }

    /// Reads blocks, some at once, and gives out what is wanted, in order.
    fn blocks(&mut self, segment: &Segment, blocks: &[Block]) -> Result<Result<(), Unread>, SearchError> {
        let query = self.query;
        let is_wanted =
            |block: &&Block| block.content.as_ref().is_none_or(|content| query.may_be_among(content));
        let mut wanted: Vec<&Block> = blocks.iter().filter(is_wanted).collect();
        self.outcome.spared += (blocks.len() - wanted.len()) as u64;
        if wanted.is_empty() {
            return Ok(Ok(()));
        }
        if self.options.order == Order::NewestFirst {
            wanted.reverse();
        }
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let threads = thread::available_parallelism().map_or(1, Into::into);
        for some in wanted.chunks(threads) {
            let look = |block: &Block| look(&file, segment.form, block, query);
            let found: Vec<io::Result<Found>> = match some {
                [block] => vec![look(block)],
                some => thread::scope(|scope| {
                    let threads: Vec<_> = some.iter().map(|block| scope.spawn(|| look(block))).collect();
                    let failed = |_| Err(io::Error::other("a thread failed"));
                    threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
                }),
            };
            for found in found {
                let (lines, mut ranges, damaged) = match found {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                self.outcome.read += 1;
                if damaged > 0 {
                    self.outcome
                        .damaged
                        .push((segment.path.clone(), format!("{damaged} lines are no records")));
                }
                if self.options.order == Order::NewestFirst {
                    ranges.reverse();
                }
                for range in ranges {
                    self.outcome.found += 1;
                    if !(self.give)(&lines[range]).map_err(SearchError::Write)? {
                        self.is_over = true;
                        return Ok(Ok(()));
                    }
                }
            }
        }
        Ok(Ok(()))
    }
}

/// The lines of a block that are wanted. Half a line at the end of the log is none.
fn look(file: &File, form: Form, block: &Block, query: &Query) -> io::Result<Found> {
    let lines = index::read(file, form, block)?;
    let (mut ranges, mut damaged) = (Vec::new(), 0);
    if query.may_be_in(&lines) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &lines) {
            match query.judge(&lines[start..end]) {
                Some(true) => ranges.push(start..end),
                Some(false) => {}
                None => damaged += 1,
            }
            start = end + 1;
        }
    }
    Ok((lines, ranges, damaged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::archive::pack;
    use crate::audit::read::seq_of;
    use crate::rules::Filter;

    const NEWEST: Options = Options { order: Order::NewestFirst, with_index: true };
    const OLDEST: Options = Options { order: Order::OldestFirst, with_index: true };

    /// A record of second `seq` of the year 1970, of one of ten containers.
    fn record(seq: u64) -> String {
        let time = crate::clock::rfc3339(seq * 1_000_000_000);
        let time = std::str::from_utf8(time.as_bytes()).unwrap();
        let (kind, rule) = if seq.is_multiple_of(100) {
            ("alert", format!("\"rule\":\"R{seq}\","))
        } else {
            ("event", String::new())
        };
        let id = (seq % 10).to_string().repeat(64);
        format!(
            "{{\"seq\":{seq},\"prev\":\"\",\"kind\":\"{kind}\",\"time\":\"{time}\",\"boot_ns\":{seq},{rule}\
             \"event\":{{\"kind\":\"open\",\"type\":\"openat\",\"result\":3,\"file\":\"/data/{seq}\"}},\
             \"process\":{{\"name\":\"p{}\",\"pid\":{seq}}},\"container\":{{\"id\":\"{id}\",\"name\":\"web{}\",\"pad\":\"{}\"}}}}\n",
            seq / 1000,
            seq % 10,
            "x".repeat(1000),
        )
    }

    /// A log of three segments of about 6 MiB, of which one is packed.
    fn log() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for first in [1, 5_001, 10_001] {
            let text: String = (first..first + 5_000).map(record).collect();
            std::fs::write(Segment::new(folder.path(), first).path, text).unwrap();
        }
        pack(&Segment::new(folder.path(), 1)).unwrap();
        folder
    }

    fn condition(text: &str) -> Query {
        Query::all().with_condition(Filter::from_text(text, "t").unwrap()).unwrap()
    }

    fn found(folder: &Path, query: &Query, options: Options, limit: usize) -> (Vec<u64>, Outcome) {
        let mut seqs = Vec::new();
        let outcome = search(folder, query, options, &mut |line| {
            assert_eq!(line, record(seq_of(line).unwrap()).trim_end().as_bytes());
            seqs.push(seq_of(line).unwrap());
            Ok(seqs.len() < limit)
        });
        (seqs, outcome.unwrap())
    }

    #[test]
    fn narrow_search_reads_few_blocks_and_finds_the_same_as_one_that_reads_all() {
        let folder = log();
        let second = 1_000_000_000;
        let queries = [
            (condition("fd.name = /data/77"), 1),
            (condition("proc.name = p3 and container.id = 444444444444"), 100),
            (condition("fd.name in (/data/1, /data/9000, /data/15000)"), 3),
            (condition("fd.name startswith /data/1234 or proc.name = p9 and proc.pid < 9010"), 21),
            (condition("evt.type = openat and proc.pid = 4321"), 1),
            (condition("not fd.name startswith /data/1"), 8_888),
            (condition("container.full_id contains 555"), 1_500),
            (Query::all().of_rules(vec!["R7700".to_owned()]), 1),
            (Query::all().of_kinds(vec!["alert".to_owned()]), 150),
            (Query::all().of_container("web3").between(Some(10 * second), Some(100 * second)), 9),
            (Query::all().of_container("33333"), 1_500),
            (Query::all().of_container("3".repeat(64).as_str()), 1_500),
            (Query::all().of_pod("none"), 0),
            (Query::all().between(Some(14_999 * second), None), 2),
            (Query::all(), 15_000),
        ];
        let mut spared = Vec::new();
        for (query, count) in &queries {
            let (seqs, outcome) = found(folder.path(), query, OLDEST, usize::MAX);
            assert_eq!((seqs.len(), outcome.found, outcome.damaged.len()), (*count, *count as u64, 0));
            assert!(seqs.is_sorted());
            let without = Options { with_index: false, ..OLDEST };
            assert_eq!(found(folder.path(), query, without, usize::MAX).0, seqs);
            let (newest, _) = found(folder.path(), query, NEWEST, 3);
            assert_eq!(newest, seqs.iter().rev().take(3).copied().collect::<Vec<_>>());
            spared.push(outcome.spared);
        }
        // The last of three segments has no index; of the others' 14 blocks one has the record. For a name all are asked
        // twice: who has it, and what they did.
        assert_eq!((spared[0], spared[4], spared[7], spared[12], spared[14]), (13, 0, 13, 28, 0));
    }

    #[test]
    fn index_that_is_missing_or_wrong_is_made_anew_and_hides_nothing() {
        let folder = log();
        let query = condition("fd.name = /data/77");
        let (plain, packed) = (Segment::new(folder.path(), 5_001), Segment::new(folder.path(), 1).packed());
        assert_eq!(found(folder.path(), &query, OLDEST, usize::MAX).0, [77]);
        let good = std::fs::read(packed.index_path()).unwrap();
        assert!(plain.index_path().exists());
        let wrong = [
            Vec::new(),
            good[..good.len() - 1].to_vec(),
            good.iter().rev().copied().collect(),
            std::fs::read(plain.index_path()).unwrap(),
        ];
        for wrong in wrong {
            std::fs::write(packed.index_path(), wrong).unwrap();
            assert_eq!(found(folder.path(), &query, OLDEST, usize::MAX).0, [77]);
            assert!(std::fs::read(packed.index_path()).unwrap() == good);
        }
    }

    #[test]
    fn what_was_seen_before_its_container_had_a_name_is_found_by_that_name() {
        let folder = log();
        let (nameless, other) = ("e".repeat(64), "f".repeat(64));
        let record = |seq: u64, kind: &str, id: &str, more: &str| {
            format!(
                "{{\"seq\":{seq},\"prev\":\"\",\"kind\":\"{kind}\",\"time\":\"1970-01-01T05:00:00.000000000Z\",\"boot_ns\":1,\
                 \"event\":{{\"kind\":\"exec\"}},\"container\":{{\"id\":\"{id}\"{more}}}}}\n"
            )
        };
        let name = ",\"name\":\"late\",\"pod_name\":\"p\",\"pod_namespace\":\"n\"";
        let first = record(15_001, "event", &nameless, "") + &record(15_002, "event", &other, "");
        let second = record(15_003, "event", &nameless, "") + &record(15_004, "container", &nameless, name);
        for (first, text) in [(15_001, first), (15_003, second)] {
            std::fs::write(Segment::new(folder.path(), first).path, text).unwrap();
        }
        for query in [Query::all().of_container("late"), Query::all().of_pod("n/p"), Query::all().of_pod("p")]
        {
            let mut seqs = Vec::new();
            let outcome = search(folder.path(), &query, OLDEST, &mut |line| {
                seqs.push(seq_of(line).unwrap());
                Ok(true)
            });
            assert_eq!((seqs, outcome.unwrap().damaged), (vec![15_001, 15_003, 15_004], Vec::new()));
        }
    }

    #[test]
    fn segment_that_is_damaged_is_told_and_the_others_are_searched() {
        let folder = log();
        let packed = Segment::new(folder.path(), 1).packed();
        let good = std::fs::read(&packed.path).unwrap();
        let mut state = 5u64;
        for _ in 0..20 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bad = good.clone();
            bad[(state >> 33) as usize % good.len()] ^= 1;
            std::fs::write(&packed.path, &bad).unwrap();
            let mut last = 0;
            let outcome = search(folder.path(), &Query::all(), OLDEST, &mut |line| {
                last = seq_of(line).unwrap();
                Ok(true)
            });
            let outcome = outcome.unwrap();
            assert_eq!(last, 15_000);
            assert!(outcome.damaged.len() == 1 || outcome.found == 15_000, "{outcome:?}");
        }
    }

    #[test]
    fn field_that_the_log_does_not_have_is_an_error_and_one_that_it_seldom_has_a_warning() {
        let of = |text| Query::all().with_condition(Filter::from_text(text, "t").unwrap());
        for text in
            ["proc.aname = x", "evt.num > 3", "tolower(proc.pcmdline) = x", "not proc.name = val(proc.pexe)"]
        {
            let errors = of(text).err().unwrap();
            assert_eq!((errors.len(), errors[0].code), (1, "A101"), "{text}");
        }
        for (text, count) in
            [("proc.cwd = /", 1), ("evt.kind = exec and proc.cwd = /", 0), ("container.label[a] = b", 1)]
        {
            assert_eq!(of(text).unwrap().warnings().len(), count, "{text}");
        }
    }
}
