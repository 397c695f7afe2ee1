#!/bin/sh
# Runs in a VM with /vm/taffrail; prints the recording as base64.
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
cgroup=/sys/fs/cgroup/docker/$id
mkdir -p "$cgroup" /etc /usr/bin
echo 'root:*:19000:0:99999:7:::' >/etc/shadow
/vm/taffrail trace --record /tmp/recording --filter 'container.id != host' >/tmp/said 2>&1 &
pid=$!
until grep -q watching /tmp/said; do usleep 50000; done
sleep 1
cat >/tmp/deeds <<'E'
cat /etc/shadow >/dev/null
cp /bin/busybox /tmp/true; /tmp/true 'a b'
echo x >/usr/bin/evil
nc -w 1 169.254.169.254 80
nc -w 1 127.0.0.1 9
cat /tmp/nothing
(exit 3)
true
E
sh -c "echo \$\$ >$cgroup/cgroup.procs; exec sh /tmp/deeds" 2>/dev/null
sleep 1
kill -INT $pid; wait $pid
base64 /tmp/recording
