#!/usr/bin/env bash
# The long form of the suite `chaos`: a cluster under everything at once, for ten minutes, with a seed that is new unless it is given.
# Needs what tests/run.sh has installed and built.
#
# usage: tests/chaos/run.sh [--seed N] [--minutes 10] [--runs 1]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seed=$RANDOM minutes=10 runs=1
while [ $# -gt 0 ]; do
    case "$1" in
        --seed) seed=${2:?"--seed needs a number"} ;;
        --minutes) minutes=${2:?"--minutes needs a number"} ;;
        --runs) runs=${2:?"--runs needs a number"} ;;
        *) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
    esac
    shift 2
done

export POMELO_BUILTINS="$PWD/target/modules" POMELO_CHAOS_MINUTES=$minutes
for ((run = 0; run < runs; run++)); do
    export POMELO_CHAOS_SEED=$((seed + run))
    cargo test --locked -p pomelo-host --test chaos -- --ignored --exact as_long_as_it_is_told_to --nocapture \
        || { echo "seed $POMELO_CHAOS_SEED failed: keep it in tests/suites/chaos/main.rs (seeds!) with what mends it" >&2 && exit 1; }
done
