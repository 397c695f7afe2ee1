//! What happens on the node: containers come and go, services work, names are asked for, files and rules change, somebody
//! reads the log. Each thread counts what it does. All of it together takes less than half a core.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taffrail_tests::act::Act;
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::taffrail;

use crate::ledger::Ledger;

/// What an argument begins with that marks a program as counted.
pub const MARK: &str = "soak-";
/// Where files are that are counted.
pub const FILES: &str = "/tmp/soak-";
/// Where connections go that are counted: nobody, nginx, Redis.
pub const PORTS: [u64; 3] = [7, 8080, 6379];

/// A shipped rule that a container sets off again and again.
const PASSWORDS: &str = "Users or passwords changed";
/// How long the daemon may take to notice new rules, or to tell what was done.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that live for a moment, at the start: the daemon remembers 65,536. So its table is full when growth is
/// looked for.
pub const FLOOD: u64 = 70_000;

/// What all threads share.
pub struct Node<'a> {
    pub ledger: &'a Mutex<Ledger>,
    pub is_over: &'a AtomicBool,
    /// Folder of the log.
    pub log: &'a Path,
    /// The rule file.
    pub rules: &'a Path,
}

impl Node<'_> {
    /// Does something again and again, so often at most, until it is over.
    fn each(&self, period: Duration, mut what: impl FnMut(u64) -> Result<()>) -> Result<()> {
        for round in 0.. {
            let next = Instant::now() + period;
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            what(round)?;
            while Instant::now() < next && !self.is_over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    fn did(&self, container: &Container, what: &str, count: u64) {
        self.ledger.lock().expect("no panic in there").did(container.id(), what, count);
    }

    fn wait_for(&self, what: &str, check: impl Fn(&Ledger) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !check(&self.ledger.lock().expect("no panic in there")) {
            ensure!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A part of the load.
pub type Part = fn(&Node<'_>) -> Result<()>;

/// All that goes on at a time, and what each part is called.
pub const PARTS: &[(&str, Part)] = &[
    ("containers that come and go", come_and_go),
    ("nginx", web),
    ("Redis", store),
    ("names", names),
    ("rules", rules),
    ("reading the log", read),
];

fn script(container: &Container, script: &str) -> Result<()> {
    let output = container.sh(&format!("set -e\n{script}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{}: {script}: {said}", container.id());
    Ok(())
}

/// Fills the daemon's table of processes.
pub fn flood(node: &Node<'_>) -> Result<()> {
    let container = Container::start("soak-flood")?;
    let mut act = Act::prepare(&container, &["fork", &FLOOD.to_string()]);
    act.pin();
    act.go();
    act.end();
    // And `act` itself.
    node.did(&container, "exit", FLOOD + 1);
    Ok(())
}

/// A container each few seconds, which starts programs, writes files and tries to connect.
fn come_and_go(node: &Node<'_>) -> Result<()> {
    const ROUNDS: u64 = 10;
    node.each(Duration::from_secs(3), |_| {
        let container = Container::start("soak-short")?;
        script(
            &container,
            &format!(
                "i=0; while [ $i -lt {ROUNDS} ]; do /bin/true {MARK}$i; echo x >{FILES}$i; nc -w 1 127.0.0.1 7 || :; i=$((i+1)); done"
            ),
        )?;
        for what in ["exec", "open", "connect"] {
            node.did(&container, what, ROUNDS);
        }
        Ok(())
    })
}

/// A container with the machine's programs and those that the setup has unpacked, and files of its own.
fn service(name: &str, files: &[(&str, &str)]) -> Result<Container> {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    let layer = Path::new(&home).join(".cache/taffrail/services/usr");
    ensure!(layer.exists(), "no services: run `cargo xtask setup`");
    let machine = Machine { layers: &[&layer], host_processes: false, is_privileged: false };
    let write = |root: &Path| {
        let write = |(name, text): &(&str, &str)| {
            let path = root.join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, text)
        };
        files.iter().try_for_each(write)
    };
    let container: io::Result<Container> = Container::with_machine(name, &machine, write);
    container.with_context(|| format!("cannot start {name}"))
}

/// nginx, and somebody who asks it for a page.
fn web(node: &Node<'_>) -> Result<()> {
    const CONFIG: &str = "user root; worker_processes 1; pid /run/nginx.pid; error_log /var/log/error.log;\n\
        events { worker_connections 64; }\n\
        http { access_log off; server { listen 8080; root /srv; } }\n";
    const ASK: &str = "use IO::Socket::INET;\nfor my $number (1 .. $ARGV[0]) {\n\
        my $socket = IO::Socket::INET->new(\"127.0.0.1:8080\") or die;\n\
        print $socket \"GET / HTTP/1.0\\r\\n\\r\\n\";\ndie unless join(\"\", <$socket>) =~ /hello/;\n}\n";
    const REQUESTS: u64 = 40;
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/nginx.conf", CONFIG),
        ("srv/index.html", "hello\n"),
        ("scripts/ask.pl", ASK),
    ];
    let container = service("soak-web", &files)?;
    script(&container, "mkdir -p /var/log/nginx /var/lib/nginx; nginx -c /etc/nginx.conf")?;
    node.each(Duration::from_secs(2), |_| {
        script(&container, &format!("perl /scripts/ask.pl {REQUESTS}"))?;
        node.did(&container, "connect", REQUESTS);
        Ok(())
    })
}

/// Redis, and somebody who stores something in it.
fn store(node: &Node<'_>) -> Result<()> {
    const TIMES: u64 = 5;
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/redis.conf", "dir /srv\nlogfile /srv/redis.log\nappendonly yes\ndaemonize yes\n"),
    ];
    let container = service("soak-store", &files)?;
    script(
        &container,
        "redis-server /etc/redis.conf; until [ -S /run/redis ] || grep -q 'Ready to accept' /srv/redis.log; do sleep 0.1; done",
    )?;
    node.each(Duration::from_secs(3), |_| {
        script(
            &container,
            &format!("for n in $(seq {TIMES}); do redis-cli set {MARK}$n x >/dev/null; done"),
        )?;
        node.did(&container, "exec", TIMES);
        // Its library calls connect(2) once more to learn whether it went well.
        node.did(&container, "connect", 2 * TIMES);
        Ok(())
    })
}

/// Somebody who answers questions for names, and somebody who asks.
fn names(node: &Node<'_>) -> Result<()> {
    const ANSWER: &str = "use IO::Socket::INET;\n\
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp') or die;\n\
        while ($socket->recv(my $query, 512)) {\n\
        $socket->send(substr($query, 0, 2) . \"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0\" . substr($query, 12)\n\
        . \"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x7f\\0\\0\\1\");\n}\n";
    const ASK: &str = "use IO::Socket::INET;\nalarm 20;\nfor my $n (1 .. $ARGV[1]) {\n\
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 53, Proto => 'udp') or die;\n\
        my @labels = (\"n$ARGV[0]-$n\", 'soak', 'test');\n\
        my $name = join('', map { chr(length) . $_ } @labels) . \"\\0\";\n\
        $socket->send(pack('n', $n) . \"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\" . $name . \"\\0\\1\\0\\1\") or die;\n\
        $socket->recv(my $answer, 512);\ndie unless substr($answer, 0, 2) eq pack('n', $n);\n}\n";
    const QUESTIONS: u64 = 10;
    let container = service("soak-names", &[("scripts/answer.pl", ANSWER), ("scripts/ask.pl", ASK)])?;
    script(
        &container,
        "perl /scripts/answer.pl </dev/null >/dev/null 2>&1 &\nuntil grep -q :0035 /proc/net/udp; do sleep 0.1; done",
    )?;
    node.each(Duration::from_secs(3), |round| {
        script(&container, &format!("perl /scripts/ask.pl {round} {QUESTIONS}"))?;
        node.did(&container, "dns", QUESTIONS);
        Ok(())
    })
}

/// The rule file changes: a new rule, and then something that is no rule, with which the last one stays in force. After
/// each change a container does what the rule is about, and what a shipped rule is about.
fn rules(node: &Node<'_>) -> Result<()> {
    let container = Container::start("soak-rules")?;
    node.each(Duration::from_secs(15), |round| {
        let (number, is_good) = (round / 2, round % 2 == 0);
        let rule = format!("Soak {number}");
        let text = if is_good {
            format!(
                "- rule: {rule}\n  desc: Fires as often as it should.\n  condition: evt.kind = exec and proc.args = {MARK}round-{number}\n  output: round\n  priority: NOTICE\n"
            )
        } else {
            "- rule: Broken\n  condition: (\n".to_owned()
        };
        let new = node.rules.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, node.rules)?;
        let result = if is_good { "reloaded" } else { "refused" };
        node.wait_for("rules that have changed", |ledger| {
            ledger.rules.get(result).is_some_and(|count| *count > number)
        })?;
        script(&container, &format!("/bin/true {MARK}round-{number}; echo x:x:1:1:: >>/etc/passwd; echo x >{FILES}x; chmod 600 {FILES}x; mv {FILES}x /tmp/y; rm /tmp/y"))?;
        for what in ["exec", "open", &format!("alert: {rule}"), &format!("alert: {PASSWORDS}")] {
            node.did(&container, what, 1);
        }
        Ok(())
    })?;
    let ledger = node.ledger.lock().expect("no panic in there");
    let rounds = ledger.done.get(&(container.id().to_owned(), "exec".to_owned())).copied().unwrap_or(0);
    let loaded = |result: &str| ledger.rules.get(result).copied().unwrap_or(0);
    ensure!(loaded("reloaded") + loaded("refused") == rounds, "{:?} of {rounds} changes", ledger.rules);
    Ok(())
}

/// Another process verifies the log and searches it.
fn read(node: &Node<'_>) -> Result<()> {
    let log = node.log.to_str().context("a folder that is no text")?;
    node.each(Duration::from_secs(60), |_| {
        let verified = taffrail(&["audit", "verify", log]).output()?;
        ensure!(
            verified.status.success(),
            "the log does not verify: {}",
            String::from_utf8_lossy(&verified.stdout)
        );
        let search = ["audit", "search", "--log", log, "--since", "90s", "--limit", "5", "evt.kind = exec"];
        let found = taffrail(&search).output()?;
        // At first there is nothing to be found.
        ensure!(
            found.status.code().is_some_and(|code| code < 2),
            "search: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        Ok(())
    })
}
