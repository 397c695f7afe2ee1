//! Usual services and a build of a package in containers of their own: started, put to work, and stopped again. The rules
//! that are on by default have nothing to say about any of it.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::Daemon;

/// A container that works.
struct Work {
    name: &'static str,
    /// Files in its root.
    files: &'static [(&'static str, &'static str)],
    /// What it does; it fails if anything does.
    script: &'static str,
}

/// Users that services run as.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/srv:/bin/sh\npostgres:x:70:70::/srv:/bin/sh\nredis:x:71:71::/srv:/bin/sh\n";
const HOSTS: &str = "127.0.0.1 localhost\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\npostgres:x:70:\nredis:x:71:\n";

const NGINX: Work = Work {
    name: "nginx",
    files: &[
        ("srv/index.html", "<p>hello</p>\n"),
        (
            "etc/nginx.conf",
            "user www-data; worker_processes 2; pid /run/nginx.pid; error_log /var/log/error.log;\n\
             events { worker_connections 64; }\n\
             http { access_log /var/log/access.log; server { listen 8080; root /srv; } }\n",
        ),
        (
            "scripts/requests.pl",
            "use IO::Socket::INET;\nfor my $number (1 .. 300) {\n\
             my $socket = IO::Socket::INET->new(\"127.0.0.1:8080\") or die;\n\
             print $socket \"GET / HTTP/1.0\\r\\n\\r\\n\";\n\
             die unless join(\"\", <$socket>) =~ /hello/;\n}\n",
        ),
    ],
    script: "mkdir -p /var/log/nginx /var/lib/nginx\n\
             nginx -t -c /etc/nginx.conf\n\
             nginx -c /etc/nginx.conf\n\
             perl /scripts/requests.pl\n\
             nginx -c /etc/nginx.conf -s reload\n\
             perl /scripts/requests.pl\n\
             nginx -c /etc/nginx.conf -s reopen\n\
             nginx -c /etc/nginx.conf -s quit\n\
             grep -q 'GET /' /var/log/access.log\n",
};

const POSTGRES: Work = Work {
    name: "postgres",
    files: &[],
    script: "PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH\n\
             mkdir -p /srv/data /run/postgresql\n\
             chown postgres:postgres /srv/data /run/postgresql\n\
             as='setpriv --reuid postgres --regid postgres --clear-groups'\n\
             $as env TZ=UTC initdb --no-sync --pgdata /srv/data --auth trust\n\
             $as pg_ctl --pgdata /srv/data --log /srv/data/log --wait start\n\
             $as psql --command 'create table t as select generate_series(1, 10000) as n; create index on t (n)'\n\
             for n in 1 2 3 4 5; do $as psql --command 'select sum(n) from t' --command 'vacuum analyze t' --command checkpoint; done\n\
             $as pg_dump --file /srv/data/dump postgres\n\
             $as pg_ctl --pgdata /srv/data reload\n\
             $as pg_ctl --pgdata /srv/data --wait --mode fast stop\n",
};

const REDIS: Work = Work {
    name: "redis",
    files: &[("etc/redis.conf", "dir /srv\nlogfile /var/log/redis.log\nappendonly yes\nsave 1 1\n")],
    script: "chown redis:redis /srv /var/log\n\
             setpriv --reuid redis --regid redis --clear-groups redis-server /etc/redis.conf &\n\
             until redis-cli ping | grep -q PONG; do sleep 0.05; done\n\
             redis-benchmark -q -n 2000 -c 5 -t set,get,lpush,hset\n\
             redis-cli bgsave\n\
             redis-cli bgrewriteaof\n\
             redis-cli config set maxmemory 10mb\n\
             redis-cli shutdown save\n\
             wait\n",
};

const PACKAGE: Work = Work {
    name: "package",
    files: &[
        // The machine's programs without its list of them.
        ("var/lib/dpkg/status", ""),
        ("build/hello/hello.c", "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n"),
        (
            "build/hello/Makefile",
            "hello: hello.c\n\tgcc -O2 -o $@ $<\n\
             install: hello\n\tinstall -D -m 755 hello $(DESTDIR)/usr/bin/hello\n\
             test: hello\n\t./hello | grep -q hello\n",
        ),
        (
            "build/hello/debian/control",
            "Source: hello\nMaintainer: Nobody <nobody@example.com>\nStandards-Version: 4.6.2\n\n\
             Package: hello\nArchitecture: any\nDescription: greets\n It says hello.\n",
        ),
        (
            "build/hello/debian/changelog",
            "hello (1.0) unstable; urgency=low\n\n  * First.\n\n -- Nobody <nobody@example.com>  Mon, 05 Jan 2026 10:00:00 +0000\n",
        ),
        (
            "build/hello/debian/rules",
            "#!/usr/bin/make -f\nclean:\n\trm -rf hello debian/files debian/hello\n\
             build build-arch build-indep:\n\t$(MAKE) hello test\n\
             binary binary-arch: build\n\t$(MAKE) install DESTDIR=debian/hello\n\
             \tmkdir -p debian/hello/DEBIAN\n\tdpkg-gencontrol -phello -Pdebian/hello\n\
             \tdpkg-deb --root-owner-group --build debian/hello ..\nbinary-indep:\n",
        ),
    ],
    script: "cd /build/hello\n\
             chmod 755 debian/rules\n\
             dpkg-buildpackage --build=binary --no-sign --no-check-builddeps\n\
             dpkg-deb --contents ../hello_1.0_*.deb | grep -q usr/bin/hello\n",
};

/// Where the setup has unpacked the services; their programs are over those of the machine.
fn services() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    PathBuf::from(home).join(".cache/taffrail/services/usr")
}

/// Why the services cannot run here; `None` if they can.
fn unavailable(layer: &Path) -> Option<String> {
    let is_there = |name: &str| layer.join(name).exists() || Path::new("/usr").join(name).exists();
    let programs =
        ["sbin/nginx", "bin/redis-server", "lib/postgresql", "bin/dpkg-buildpackage", "bin/make", "bin/gcc"];
    let missing = programs.into_iter().find(|name| !is_there(name))?;
    Some(format!("no {missing}: `cargo xtask setup` unpacks it"))
}

fn make_root(root: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    for (name, text) in
        [&[("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/hosts", HOSTS)], files].concat()
    {
        let path = root.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

#[test]
fn usual_services_and_a_build_of_a_package_raise_no_alert() {
    const TEST: &str = "usual_services_and_a_build_of_a_package_raise_no_alert";
    let layer = services();
    if let Some(reason) = taffrail_tests::cannot_trace().or_else(|| unavailable(&layer)) {
        taffrail_tests::skip!(TEST, "{reason}");
    }
    let layers: &[&Path] = if layer.exists() { &[&layer] } else { &[] };
    let machine = Machine { layers, host_processes: false, is_privileged: false };
    // What is recorded besides shows that the events were there to be looked at.
    let daemon = Daemon::start(&[
        "log.record=container.id != host and evt.kind = exec",
        // A daemon that is built for debugging is slow.
        "probes.bulk_ring_bytes=64MiB",
    ]);
    let mut ids = Vec::new();
    for Work { name, files, script } in [NGINX, POSTGRES, REDIS, PACKAGE] {
        let container = Container::with_machine(name, &machine, |root| make_root(root, files)).unwrap();
        let output = container.sh(&format!("set -e\n{script}")).unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name} does not work here: {said}");
        ids.push(container.id().to_owned());
    }
    let (status, records) = daemon.stop();
    assert!(status.success());
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<&Value>>();
    let gaps = of("gap");
    assert!(gaps.iter().all(|gap| gap["where"] == "probe"), "events were lost: {gaps:?}");
    for id in ids {
        let seen = of("event").iter().filter(|record| record["container"]["id"] == *id).count();
        assert!(seen >= 10, "only {seen} programs of {id} were seen");
    }
    let alerts: Vec<String> =
        of("alert").iter().map(|alert| format!("{}: {}", alert["rule"], alert["output"])).collect();
    assert!(alerts.is_empty(), "{} alerts\n{}", alerts.len(), alerts.join("\n"));
}
