//! What the daemon itself has to say to the match thread: new rules, records of its own, what somebody asks for. It does not
//! stand in line with the events: that queue is full for as long as they come faster than they are dealt with. The
//! match thread looks here on each pass, and nobody waits to put something here; what there is no room for is counted, and
//! the count is told.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Anew, Message};
use crate::audit::RecordKind;

/// Words that wait, if the match thread is stuck: all of them, and those of who calls the API, whose crowds leave room for
/// the rest.
const MAX: usize = 2048;
/// See [`MAX`].
pub const CALLS_MAX: usize = 1024;

/// Something that is said.
pub enum Word {
    /// New rules and settings, checked whole.
    Anew(Box<Anew>),
    /// Somebody wants to see the last system calls of containers.
    Flights,
    /// A record for the log.
    Note(RecordKind, Vec<u8>),
}

/// Holds it until the match thread comes round.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    /// Wakes the match thread.
    to_match: Option<SyncSender<Message>>,
}

#[derive(Default)]
struct Waiting {
    words: VecDeque<Word>,
    left_out: u64,
}

impl Inbox {
    /// For the match thread behind that queue.
    pub fn new(to_match: SyncSender<Message>) -> Self {
        Self { to_match: Some(to_match), ..Self::default() }
    }

    /// Says something. If there is no room, it is counted as left out.
    pub fn put(&self, word: Word) {
        if !self.offer(word, MAX) {
            log::error!("the match thread takes nothing: what it was to be told is left out");
            self.lock().left_out += 1;
        }
    }

    /// Says something if fewer than so many wait; tells whether it did.
    pub fn offer(&self, word: Word, max: usize) -> bool {
        let mut waiting = self.lock();
        let count = waiting.words.len();
        if count >= max {
            return false;
        }
        waiting.words.push_back(word);
        drop(waiting);
        // Else it was woken for those before. One that has a full queue does not sleep, and one that has ended takes nothing.
        if count == 0
            && let Some(to_match) = &self.to_match
        {
            let _ = to_match.try_send(Message::Wake);
        }
        true
    }

    /// Whether new rules wait here, which are not in force yet.
    pub fn has_anew(&self) -> bool {
        self.lock().words.iter().any(|word| matches!(word, Word::Anew(_)))
    }

    /// Takes all of it, and how many there was no room for.
    pub fn take(&self) -> (VecDeque<Word>, u64) {
        let Waiting { words, left_out } = &mut *self.lock();
        (std::mem::take(words), std::mem::take(left_out))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn full_queue_of_events_keeps_nothing_out_and_an_idle_match_thread_is_woken_once() {
        let (to_match, messages) = sync_channel(1);
        let inbox = Inbox::new(to_match.clone());
        inbox.put(Word::Flights);
        inbox.put(Word::Flights);
        assert!(matches!(messages.try_iter().collect::<Vec<_>>()[..], [Message::Wake]));
        assert_eq!(inbox.take().0.len(), 2);
        assert!(to_match.try_send(Message::End).is_ok());
        inbox.put(Word::Flights);
        assert_eq!((inbox.take().0.len(), inbox.take().0.len()), (1, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_callers_leave_room_for_the_rest() {
        let inbox = Inbox::default();
        let offers = std::iter::repeat_with(|| inbox.offer(Word::Flights, CALLS_MAX));
        assert_eq!(offers.take_while(|is_taken| *is_taken).count(), CALLS_MAX);
        (CALLS_MAX..MAX + 3).for_each(|_| inbox.put(Word::Flights));
        let (words, left_out) = inbox.take();
        assert_eq!((words.len(), left_out), (MAX, 3));
        assert_eq!(inbox.take().1, 0);
    }
}
