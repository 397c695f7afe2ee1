//! Falco's stable rule file as it is: each of its rules set off by the real thing, and not by a harmless twin.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use taffrail::diagnostic::Source;
use taffrail::rules::RuleSet;
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::Daemon;

use super::acts::Act;
use super::{dump, make_programs, otherwise, play};

#[rustfmt::skip]
const ACTS: &[Act] = &[
    // The program has to have run for 5 s: that is what the rule is about.
    Act { rule: "Read sensitive file trusted after startup", does: &["nginx -c 'sleep 5.1; : </etc/shadow; true'"], twin: "nginx -c ': </etc/shadow; true'" },
    Act { rule: "Directory traversal monitored file read",
        does: &["nginx -c 'cat /srv/../usr/../etc/passwd; true'", "nginx -c 'cat /srv/../usr/../root/.ssh/id_rsa; true'"], twin: "nginx -c 'cat /etc/passwd; true'" },
    Act { rule: "Read sensitive file untrusted", does: &["cat /etc/shadow", "cd /etc; cat ../etc/shadow"], twin: "cat /etc/hosts" },
    Act { rule: "Run shell untrusted", does: &["nginx -c 'sh -c true; true'"], twin: "sh -c true" },
    Act { rule: "Contact K8S API Server From Container",
        does: &["perl /scripts/resolve.pl kubernetes.default.svc.cluster.local 127.0.0.8"], twin: "perl /scripts/resolve.pl www.example.com 127.0.0.9" },
    Act { rule: "Redirect STDOUT/STDIN to Network Connection in Container",
        does: &["perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 6); open STDIN, \"<&S\"'", "perl -e 'use Socket; socket(S, PF_INET6, SOCK_STREAM, 6); open STDOUT, \">&S\"'"],
        twin: "perl -e 'open STDIN, \"</etc/hosts\"; open STDOUT, \">&STDERR\"'" },
    Act { rule: "Netcat Remote Code Execution in Container", does: &["nc 127.0.0.1 9 -e sh"], twin: "nc -z 127.0.0.1 9" },
    Act { rule: "Search Private Keys or Passwords", does: &["find /srv -name id_rsa", "grep -r 'BEGIN OPENSSH PRIVATE' /srv"], twin: "find /srv -name hosts" },
    Act { rule: "Clear Log Activities", does: &[": >/var/log/auth.log", ": >/srv/syslog"], twin: "echo x >>/var/log/auth.log" },
    Act { rule: "Remove Bulk Data from Disk", does: &["shred /var/log/other.log"], twin: "rm -f /var/log/none.log" },
    Act { rule: "Create Symlink Over Sensitive Files", does: &["ln -s /etc/shadow /srv/soft", "ln -s /etc /srv/folder"], twin: "ln -s /etc/hosts /srv/soft2" },
    Act { rule: "Create Hardlink Over Sensitive Files", does: &["ln /etc/shadow /srv/hard", "cd /etc; ln shadow /srv/hard2"], twin: "ln /etc/hosts /srv/hard3" },
    Act { rule: "Packet socket created in container", does: &["perl -e 'socket(S, 17, 3, 0) or die'"], twin: "perl -e 'socket(S, 2, 1, 0) or die'" },
    Act { rule: "Detect release_agent File Container Escapes", does: &["echo /x >/srv/release_agent"], twin: "cat /srv/release_agent" },
    Act { rule: "PTRACE attached to process", does: &["deed trace", "deed poke"], twin: "deed be-traced" },
    Act { rule: "PTRACE anti-debug attempt", does: &["deed be-traced"], twin: "deed trace" },
    Act { rule: "Find AWS Credentials", does: &["grep -r aws_secret_access_key /srv", "find /srv -path .aws/credentials"], twin: "grep -r credentials /srv" },
    Act { rule: "Execution from /dev/shm", does: &["echo true >/dev/shm/x; sh /dev/shm/x", "echo true >/dev/shm/x; cd /dev/shm; sh -c /dev/shm/x"], twin: "echo true >/srv/x; sh /srv/x" },
    Act { rule: "Drop and execute new binary in container", does: &["cp /usr/local/bin/harmless /usr/local/bin/dropped; dropped"], twin: "harmless" },
    // An address that is neither private nor the loopback's, of this container alone.
    Act { rule: "Disallowed SSH Connection Non Standard Port",
        does: &["ip address add 203.0.113.1/32 dev lo && bash -c 'exec -a ssh perl /scripts/serve.pl 203.0.113.1 443 1'"],
        twin: "bash -c 'exec -a ssh perl /scripts/serve.pl 203.0.113.1 22 1'" },
    Act { rule: "Fileless execution via memfd_create", does: &["deed program-in-memory"], twin: "deed program" },
];

/// Those in a privileged container.
#[rustfmt::skip]
const PRIVILEGED: &[Act] = &[
    Act { rule: "Linux Kernel Module Injection Detected", does: &["deed load-module"], twin: "cat /proc/modules" },
    Act { rule: "Debugfs Launched in Privileged Container", does: &["cp /usr/local/bin/harmless /srv/debugfs; /srv/debugfs"], twin: "harmless" },
];

/// The same without the capabilities is harmless.
#[rustfmt::skip]
const UNPRIVILEGED: &[Act] = &[
    Act { rule: "Linux Kernel Module Injection Detected", does: &[], twin: "deed load-module" },
    Act { rule: "Debugfs Launched in Privileged Container", does: &[], twin: "cp /usr/local/bin/harmless /srv/debugfs; /srv/debugfs" },
];

fn rule_file() -> PathBuf {
    let folder = std::env::var_os("TAFFRAIL_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    folder.join("falco/falco_rules.yaml")
}

#[test]
fn each_of_falcos_stable_rules_is_set_off_by_the_real_thing() {
    const TEST: &str = "each_of_falcos_stable_rules_is_set_off_by_the_real_thing";
    if let Some(reason) = taffrail_tests::cannot_trace() {
        taffrail_tests::skip!(TEST, "{reason}");
    }
    let file = rule_file();
    let Ok(text) = std::fs::read_to_string(&file) else {
        taffrail_tests::skip!(TEST, "no {}", file.display());
    };
    let (set, _) = RuleSet::load(&[Arc::new(Source { name: "falco_rules.yaml".to_owned(), text })]).unwrap();
    let daemon = Daemon::start(&[
        "rules.embedded=false",
        &format!("rules.files=[{}]", file.display()),
        "log.record=container.id != host and evt.kind in (exec, fork)",
    ]);
    let programs = tempfile::tempdir().unwrap();
    make_programs(programs.path());
    let machine = Machine { layers: &[programs.path()], host_processes: false, is_privileged: false };
    let mut done = play("falco", &machine, ACTS, 0, |_| Ok(()));
    done.extend(play("weak", &machine, UNPRIVILEGED, done.len(), |_| Ok(())));
    let machine = Machine { is_privileged: true, ..machine };
    done.extend(play("strong", &machine, PRIVILEGED, done.len(), |_| Ok(())));
    let machine = Machine { is_privileged: false, ..machine };
    let terminal = Container::with_machine("terminal", &machine, super::acts::prepare).unwrap();
    open_terminal(&terminal);
    log_in_as_system_user();
    let (status, records) = daemon.stop();
    assert!(status.success());
    let gaps: Vec<_> = records.iter().filter(|record| record["kind"] == "gap").collect();
    assert!(gaps.iter().all(|gap| gap["where"] == "probe"), "events were lost: {gaps:?}");

    let mut wrong = otherwise(&done, &records);
    let others = [("Terminal shell in container", Some(terminal.id())), ("System user interactive", None)];
    for (rule, container) in others {
        let is_it = |record: &&Value| record["kind"] == "alert" && record["rule"] == rule;
        if !records.iter().filter(is_it).any(|alert| alert["container"]["id"].as_str() == container) {
            wrong.push(format!("{rule}: not set off in {container:?}"));
        }
    }
    for rule in &set.rules {
        if !done.iter().any(|done| done.rule == rule.name && done.alerts)
            && !others.iter().any(|(name, _)| *name == rule.name)
        {
            wrong.push(format!("{}: nothing sets it off", rule.name));
        }
    }
    assert!(wrong.is_empty(), "{}\n\n{}", wrong.join("\n"), dump(&records));
}

/// A shell with a terminal of its own, as the runtime starts it.
fn open_terminal(container: &Container) {
    let command = format!("runc exec --tty {} sh -c true", container.id());
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = script.status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// A system user of the host that starts something below a server for SSH.
fn log_in_as_system_user() {
    /// `daemon` on every Linux.
    const DAEMON: u32 = 1;
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("sshd");
    std::fs::copy("/bin/dash", &server).unwrap();
    for path in [folder.path(), &server] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let status = Command::new(&server).args(["-c", "/bin/true; true"]).uid(DAEMON).status().unwrap();
    assert!(status.success(), "{status}");
}
