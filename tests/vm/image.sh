# image.sh ARCHIVE: runs in a VM. That the binary works there, as it lies in the layer of an image's archive: it says its version, `doctor`
# what it can do, `trace` and the daemon see a program that is started in a container, and the log that the daemon leaves is whole.
set -eu
mkdir /image /log
cd /image
tar -xf "$1"
tar -xf ./*.tar
taffrail=/image/taffrail
$taffrail --version
# Of a small machine something is always missing: 1.
$taffrail doctor || [ $? = 1 ]

# For the kernel a container is a cgroup; this is what docker calls it.
id=$(printf 'c0ffee%058d' 0)
cgroup=/sys/fs/cgroup/docker-$id.scope
mkdir "$cgroup"

# Starts a program in the container again and again until a command succeeds.
until_seen() {
  for attempt in $(seq 120); do
    (echo 0 >"$cgroup/cgroup.procs" && exec /bin/cat /marker) 2>/dev/null || true
    "$@" >/tmp/found 2>&1 && return
    sleep 0.5
  done
  echo "not within a minute: $*" >&2
  tail -n 20 /tmp/found /tmp/said >&2
  return 1
}

$taffrail trace --json --container "$id" >/tmp/traced 2>/tmp/said &
until_seen grep "\"kind\":\"exec\".*/marker.*$id\|$id.*\"kind\":\"exec\".*/marker" /tmp/traced
kill -TERM $!
wait $!
echo "trace has seen a program that was started in a container"

$taffrail run -o log.dir=/log >/tmp/said 2>&1 &
until_seen $taffrail audit search --log /log --container "$id" --kind exec 'proc.cmdline contains /marker'
kill -TERM $!
wait $!
$taffrail audit verify /log
echo "the daemon has recorded a program that was started in a container"
