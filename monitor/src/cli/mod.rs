//! The command line: one file per sub-command.

use std::process::ExitCode;

/// Runs the command line that the process was started with.
pub fn main() -> ExitCode {
    let options = crate::probe::Options { urgent_bytes: 1 << 20, bulk_bytes: 1 << 22, kinds: u32::MAX, cgroup_root: Some(std::env::args().nth(1).unwrap_or("/sys/fs/cgroup/unified".into()).into()), debug: false };
    let (mut probes, mut receiver, losses) = match crate::probe::Probes::load(&options) { Ok(x) => x, Err(e) => { eprintln!("{e}: {:?}: {}", std::error::Error::source(&e), e.hint()); return ExitCode::FAILURE } };
    for s in &probes.states { eprintln!("{} {:?} {:?}", s.hook.program, s.status, s.verified_instructions); }
    eprintln!("missing {:?}", probes.missing_fields);
    probes.set_default_scope(u32::MAX).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(4);
    while std::time::Instant::now() < end {
        receiver.wait();
        receiver.round(|b| { match crate::event::decode(b) {
            Ok(e) => { let h = e.header(); print!("{} {} {}/{} {} {}: ", e.kind(), h.boot_ns, h.tgid, h.tid, h.cgroup_id, String::from_utf8_lossy(&h.comm).trim_end_matches('\0'));
                match e { crate::event::Event::Exec(x) => println!("{:?} cwd {:?} file {:?} args {:?} {:x?}", String::from_utf8_lossy(x.exe), String::from_utf8_lossy(x.cwd), String::from_utf8_lossy(x.filename), String::from_utf8_lossy(x.args), x.record),
                  crate::event::Event::Open(x) => println!("{:?} base {:?} {} flags {:o} {:?}", String::from_utf8_lossy(x.file), String::from_utf8_lossy(x.base), x.record.result, x.record.flags, x.record.file),
                  crate::event::Event::Connect(x) => println!("{:?} {:?}", String::from_utf8_lossy(x.path), x.record),
                  other => println!("{other:?}") } }
            Err(e) => println!("{e}") }; true });
    }
    eprintln!("{:?} {:?}", losses.flow(), probes.skipped_runs());
    ExitCode::SUCCESS
}
