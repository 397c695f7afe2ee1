//! Whatever could come over port 53: taken apart, to an end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taffrail::event::dns::Message;

fuzz_target!(|data: &[u8]| {
    let Some(message) = Message::parse(data) else { return };
    let read = message.answers(data).count();
    assert!(read <= usize::from(message.answer_count()) && read <= data.len() / 11);
});
