# guest.sh FILTER TARGET…: runs in a VM. Runs the tests whose names contain FILTER of each executable /vm/tests/TARGET, each in a process
# of its own and a second time if it fails, and tells of it in lines that begin with @@, which `xtask/src/vm/guest.rs` reads:
# first all that will be run. What a test writes into TAFFRAIL_SCORES is told after it, and what tests write into
# TAFFRAIL_REPORT after each target.
export TAFFRAIL_BIN=/vm/taffrail TAFFRAIL_SKIPPED=/tmp/skipped TAFFRAIL_REPORT=/tmp/report TAFFRAIL_SCORES=/tmp/scores TAFFRAIL_SLOW=1 TAFFRAIL_VM=1 NO_COLOR=1
SECONDS_PER_TEST=180
[ -d /run/systemd/system ] && export TAFFRAIL_SYSTEMD=1
filter=$1
shift
cd /tmp
now() { read -r up rest </proc/uptime; echo "${up%.*}${up#*.}0"; }
echo "@@ kernel $(uname -r)"
for target; do
  "/vm/tests/$target" --list --format terse $filter >/tmp/list 2>/tmp/output || { echo "@@ broken $target"; tail -c 2000 /tmp/output; }
  sed -n 's/: test$//p' /tmp/list >/tmp/list.$target
  sed "s/^/@@ planned $target /" /tmp/list.$target
done
for target; do
  program=/vm/tests/$target
  for name in $(cat /tmp/list.$target); do
    for attempt in 1 2; do
      rm -f $TAFFRAIL_SKIPPED $TAFFRAIL_SCORES
      echo "@@ begin $target $name"
      begin=$(now)
      timeout -k 5 $SECONDS_PER_TEST "$program" --exact "$name" --test-threads=1 --nocapture >/tmp/output 2>&1 </dev/null
      code=$?
      echo "@@ test $target $name $attempt $code $(($(now) - begin))"
      [ $code = 0 ] && {
        [ -f $TAFFRAIL_SKIPPED ] && sed 's/^/@@ /' $TAFFRAIL_SKIPPED
        [ -f $TAFFRAIL_SCORES ] && sed 's/^/@@ score /' $TAFFRAIL_SCORES
        break
      }
      case $code in 124|143) echo "not done within $SECONDS_PER_TEST s" ;; esac
      # What was expected comes first, the end says how it ended.
      if [ "$(wc -c </tmp/output)" -lt 6000 ]; then cat /tmp/output; else head -c 3000 /tmp/output; echo ' […]'; tail -c 3000 /tmp/output; fi
      echo
      killall -9 taffrail 2>/dev/null
    done
  done
  [ -f $TAFFRAIL_REPORT ] && { sed 's/^/@@ report /' $TAFFRAIL_REPORT; rm $TAFFRAIL_REPORT; }
done
echo "@@ done"
