#!/usr/bin/env bash
# Instructions of each step of a frame's way, counted by valgrind: the same on a busy machine as on a quiet one, so that two builds can be compared.
# A step is done so many times and twice as many, and the difference is what it takes. Needs valgrind.
#
# usage: tests/bench/count.sh [--times 1000] [CASE]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

times=1000 only=
while [ $# -gt 0 ]; do
    case "$1" in
        --times) times=${2:?"--times needs a number"} && shift 2 ;;
        -*) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
        *) only=$1 && shift ;;
    esac
done
command -v valgrind > /dev/null || { echo "valgrind is needed: apt-get install valgrind" >&2 && exit 1; }

bench=$(cargo bench --locked -p pomelo-host --bench count --no-run --message-format=json \
    | sed -n 's/.*"name":"count".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
[ -n "$bench" ] || { echo "cargo has not said where the bench is" >&2 && exit 1; }

counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" "$1" "$2" 2>&1 >/dev/null | tee "$log" \
        | sed -n 's/.*Collected : \([0-9]*\).*/\1/p' | grep . || { cat "$log" >&2 && exit 1; }
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "| step | instructions |"
echo "|---|---|"
"$bench" | while read -r name; do
    [ -z "$only" ] || [ "$name" = "$only" ] || continue
    once=$(counted "$name" "$times")
    twice=$(counted "$name" $((2 * times)))
    echo "| $name | $(((twice - once) / times)) |"
done
