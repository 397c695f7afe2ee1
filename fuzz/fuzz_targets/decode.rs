//! Whatever bytes a ring could hold: through the decoder, the process table, the shipped rules, all fields, and the
//! JSON and human writers.
#![no_main]

use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::fuzz_target;
use taffrail::detect::Detector;
use taffrail::enrich::{Enricher, Handled, Source, Subject};
use taffrail::event::field::{FIELDS, Values as _};
use taffrail::event::{decode, human, json};
use taffrail::rules::{RuleSet, embedded};

static DETECTOR: LazyLock<Mutex<Detector>> =
    LazyLock::new(|| Mutex::new(Detector::new(RuleSet::load(&embedded()).expect("valid rules").0.into())));

fuzz_target!(|data: &[u8]| {
    let mut detector = DETECTOR.lock().unwrap_or_else(PoisonError::into_inner);
    let mut enricher = Enricher::new(Source::Recorded, 64);
    // Records of up to 510 bytes each, which the largest fits in, so that one input can be a session.
    let mut rest = data;
    while let Some((&len, after)) = rest.split_first() {
        let (record, after) = after.split_at(after.len().min(2 * usize::from(len)));
        rest = after;
        let Ok(event) = decode(record) else { continue };
        let Handled::Process(key) = enricher.handle(&event) else { continue };
        let Some(process) = enricher.processes.get(key) else { continue };
        let subject = Subject {
            event: &event,
            time_ns: event.header().boot_ns,
            number: enricher.events,
            process,
            processes: &enricher.processes,
            container: process.container.as_deref(),
            answers: enricher.answers(process.container.as_deref()),
            target: event
                .model()
                .target()
                .and_then(|target| enricher.processes.target(&target, event.header().pid_ns)),
        };
        let mut line = String::new();
        for rule in detector.matches(event.header().kind, &subject) {
            rule.output.render(&subject, &mut line);
        }
        for field in FIELDS {
            subject.any(field, None, &mut |_| false);
        }
        human::write_line(&subject, &mut line);
        assert!(!line.contains(['\n', '\u{1b}']));
        let mut object = b"{".to_vec();
        json::write_subject(&subject, &mut object);
        object.push(b'}');
        assert!(!object.iter().any(|byte| *byte < b' '));
        assert!(std::str::from_utf8(&object).is_ok());
    }
});
