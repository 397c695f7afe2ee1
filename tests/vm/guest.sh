# guest.sh [FILTER]: runs in a VM. Runs each test of each executable in /vm/tests, in a process of its own and a second time
# if it fails, and tells of it in lines that begin with @@, which `xtask/src/vm/guest.rs` reads.
export TAFFRAIL_BIN=/vm/taffrail TAFFRAIL_SKIPPED=/tmp/skipped TAFFRAIL_REPORT=/tmp/report NO_COLOR=1
cd /tmp
echo "@@ kernel $(uname -r)"
now() { read up rest </proc/uptime; echo ${up%.*}${up#*.}0; }
for program in /vm/tests/*; do
  target=${program##*/}
  "$program" --list --format terse $1 >/tmp/list 2>/tmp/output || { echo "@@ broken $target"; tail -c 2000 /tmp/output; }
  for name in $(sed -n 's/: test$//p' /tmp/list); do
    for attempt in 1 2; do
      rm -f $TAFFRAIL_SKIPPED
      begin=$(now)
      timeout -k 5 90 "$program" --exact "$name" --test-threads=1 --nocapture >/tmp/output 2>&1 </dev/null
      code=$?
      echo "@@ test $target $name $attempt $code $(($(now) - begin))"
      [ $code = 0 ] && { [ -f $TAFFRAIL_SKIPPED ] && sed 's/^/@@ /' $TAFFRAIL_SKIPPED; break; }
      [ $code = 143 ] && echo "not done within 90 s"
      tail -c 6000 /tmp/output
      echo
      killall -9 taffrail 2>/dev/null
    done
  done
done
[ -f $TAFFRAIL_REPORT ] && sed 's/^/@@ report /' $TAFFRAIL_REPORT
echo "@@ done"
