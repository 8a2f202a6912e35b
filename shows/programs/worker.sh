#!/bin/sh
# A program of which one at a time may run for each server: it holds a lock, and writes down what happens in its life. Argument: the directory of
# locks and of the journal, `lives`: lines of `MILLISECONDS WHAT SERVER PROCESS`, where WHAT is `start`, `end` or, where another one still runs,
# `second`.
dir=$1
say() { echo "$(date +%s%3N) $1 $POMELO_SERVER_ID $$" >> "$dir/lives"; }
exec 9> "$dir/$POMELO_SERVER_ID.lock"
flock -n 9 || { say second; exit 99; }
say start
# Not at once, so that servers are away for a while.
trap 'kill $! 2>/dev/null; sleep 0.1 9>&-; say end; exit 0' TERM
# The lock is this process's alone.
while :; do
    sleep 1000 9>&- &
    wait $!
done
