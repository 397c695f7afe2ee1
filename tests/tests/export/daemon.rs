//! The daemon itself, with real containers: it is killed while a receiver is away and the network cut, and every record
//! of its log arrives.

use taffrail_tests::container::Container;
use taffrail_tests::daemon::Daemon;
use taffrail_tests::{cannot_trace, skip};

use crate::http::{Stub, webhook};
use crate::stage::{EVENTS, Network, Receiver as _, is_failing, judge, log_lines, wait_for};

#[test]
fn daemon_that_is_killed_has_every_event_of_its_containers_sent() {
    if let Some(reason) = cannot_trace() {
        skip!("daemon_that_is_killed_has_every_event_of_its_containers_sent", "{reason}");
    }
    let mut stub = Stub::new(webhook);
    stub.start();
    let network = Network::to(stub.port);
    let to = format!("export.x.to=webhook+http://127.0.0.1:{}/", network.port);
    let settings = [
        &to,
        "export.x.timeout_ms=3000",
        "export.x.batch_wait_ms=20",
        "export.x.compression=gzip",
        "log.record=container.id != host",
    ];
    let containers = ["ship-a", "ship-b"].map(|name| Container::start(name).unwrap());
    // Each is a fork, an exec and an exit at least.
    let act = |round: &str| {
        let script = format!("for n in $(seq {}); do /bin/true {round} $n; done", EVENTS / 20);
        std::thread::scope(|scope| {
            let work = containers.each_ref().map(|container| scope.spawn(|| container.sh(&script).unwrap()));
            for work in work {
                assert!(work.join().unwrap().status.success());
            }
        });
    };
    let has_all_of = |lines: &[String], round: &str| {
        let last = format!("\"{round}\",\"{}\"]", EVENTS / 20);
        containers
            .iter()
            .all(|container| lines.iter().any(|line| line.contains(&last) && line.contains(container.id())))
    };
    let daemon = Daemon::start(&settings);
    act("first");
    wait_for("what was done first has arrived", || has_all_of(&stub.streams().concat(), "first"));

    stub.kill();
    act("second");
    wait_for("the exporter notices that the receiver is gone", || is_failing(&daemon.log()));
    // What is not durable yet is lost with the daemon.
    wait_for("what was done is in the log", || has_all_of(&log_lines(&daemon.log()), "second"));
    let folder = daemon.kill();
    stub.start();
    let daemon = Daemon::start_in(folder, &settings);
    wait_for("what was done meanwhile has arrived", || has_all_of(&stub.streams().concat(), "second"));

    network.cut();
    act("third");
    wait_for("the exporter notices that the network is cut", || is_failing(&daemon.log()));
    stub.kill();
    network.mend();
    stub.start();
    act("fourth");
    wait_for("what was done last has arrived", || has_all_of(&stub.streams().concat(), "fourth"));
    let (log, folder) = (daemon.log(), daemon.end(libc::SIGTERM));
    stub.kill();
    judge(&stub.streams(), &log_lines(&log));
    drop(folder);
}
