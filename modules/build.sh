#!/usr/bin/env bash
# Builds admin modules as components.
#
#   modules/build.sh [--out DIR] [--commit]            the modules and test fixtures of this workspace
#   modules/build.sh --manifest-path FILE [--out DIR]  any crate that depends on pomelo-sdk, with its own `release` profile
#
# DIR (default: target/modules) receives a component for each of `modules` below and fixtures/*.wasm, or the crate's component.
# --toolchain only says which compiler and linker are used.
# --commit also copies the modules to modules/built, which the host carries inside its binary, and writes modules/built/SOURCES:
# the sha256 of what `sha256sum` prints for all the files they are made from (see `sources`), sorted by path; and modules/built/TOOLCHAIN.
#
# The same sources give the same bytes in whatever directory they lie.
# Exit code 3: there is no toolchain that can build a component.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$root/target/modules"
manifest=""
commit=false
only_toolchain=false

die() {
    echo "build.sh: $1" >&2
    exit "${2:-2}"
}

while [ $# -gt 0 ]; do
    case "$1" in
        --out) out="${2:?--out wants a directory}" && shift 2 ;;
        --manifest-path) manifest="${2:?--manifest-path wants a Cargo.toml}" && shift 2 ;;
        --commit) commit=true && shift ;;
        --toolchain) only_toolchain=true && shift ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit ;;
        *) die "unknown argument '$1'; try --help" ;;
    esac
done

# The files that the modules are made from, by paths from the root. Cargo.lock is not among them: it changes whenever the host's
# dependencies do.
sources() {
    (cd "$root" && {
        echo Cargo.toml
        find wit sdk/src sdk/macros/src modules/*/src -type f
        ls sdk/Cargo.toml sdk/macros/Cargo.toml modules/*/Cargo.toml
    } | LC_ALL=C sort)
}

# Where rustup's compiler keeps its tools; its wasm-component-ld makes the component while linking, also for Debian's compiler.
host="$(rustc -vV | sed -n 's/^host: //p')"
sysroot="$(rustc --print sysroot)"
tools="$sysroot/lib/rustlib/$host/bin"
component_ld="$tools/wasm-component-ld"
has_target() { [ -d "$sysroot/lib/rustlib/$1/lib" ]; }

# A stack of 64 KiB instead of 1 MiB: it is part of every instance's memory.
flags=(-Clink-arg=-zstack-size=65536)
cargo=(cargo)
target=wasm32-unknown-unknown
if has_target wasm32-unknown-unknown && [ -x "$component_ld" ]; then
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$component_ld"
    flags+=(-Clinker-flavor=wasm-ld "-Clink-arg=--wasm-ld-path=$tools/gcc-ld/wasm-ld" -Clink-arg=--wasi-adapter=none)
elif has_target wasm32-wasip2; then
    # The standard library of this target calls WASI, so these components import wasi:* interfaces.
    target=wasm32-wasip2
elif [ -x "$component_ld" ] && [ -x /usr/bin/cargo ] && [ -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src" ] \
    && wasm_ld="$(compgen -G '/usr/bin/wasm-ld*' | sort -V | tail -n 1)"; then
    # Debian's compiler, which builds the standard library from source.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$component_ld"
    sysroot="$(/usr/bin/rustc --print sysroot)"
    cargo=(/usr/bin/cargo -Zbuild-std=std,panic_abort)
    flags+=(-Clinker-flavor=wasm-ld "-Clink-arg=--wasm-ld-path=$wasm_ld" -Clink-arg=--wasi-adapter=none)
else
    die "no compiler for components. Install one of
  rustup target add wasm32-unknown-unknown
  apt-get install rustc-web cargo-web rust-web-src lld-22   (Debian, besides a rustup toolchain for its wasm-component-ld)" 3
fi

# What the bytes of a component depend on besides its sources and Cargo.lock.
toolchain() {
    echo "$("${RUSTC:-rustc}" --version) for $target, $("$component_ld" --version 2>/dev/null || echo "linker of rustc")"
}
if $only_toolchain; then
    toolchain
    exit
fi

# No path of this machine gets into a component.
registry="${CARGO_HOME:-$HOME/.cargo}/registry/src"
flags+=("--remap-path-prefix=$registry=/registry" "--remap-path-prefix=$sysroot=/rust" "--remap-path-prefix=$root=/pomelo")

# The workspace's own modules have no messages for their panics: they are a third of a small module. (Only a standard library that is
# built from source can do without.)
if [ -z "$manifest" ] && [ "${cargo[0]}" = /usr/bin/cargo ]; then
    flags+=(-Zunstable-options -Cpanic=immediate-abort --cfg=pomelo_silent_panics)
fi

export CARGO_TARGET_DIR="$root/target/guest"
# Encoded, since a path may have spaces.
CARGO_ENCODED_RUSTFLAGS="$(printf '%s\x1f' "${flags[@]}")"
export CARGO_ENCODED_RUSTFLAGS="${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}"

build() { "${cargo[@]}" build --target "$target" "$@"; }

mkdir -p "$out"
out="$(cd "$out" && pwd)"
if [ -n "$manifest" ]; then
    build --release --manifest-path "$manifest" --message-format=json-render-diagnostics \
        | grep -o '"[^"]*/[^"/]*\.wasm"' | sort -u | tr -d '"' | xargs -r -d '\n' -I{} cp {} "$out/"
    exit
fi

cd "$root"
built="$CARGO_TARGET_DIR/$target/guest"
mkdir -p "$out/fixtures"

modules=(watchdog console watch-server monitor-log node-info system-info profiler scripts time-report)
fixtures=(misbehave greedy serial relay probe roles served wasi hostile-memory hostile-pressure)
build --profile guest "${modules[@]/#/--package=}" "${fixtures[@]/#/--package=fixture-}"
for module in "${modules[@]}"; do
    cp "$built/${module//-/_}.wasm" "$out/$module.wasm"
done
for fixture in "${fixtures[@]}"; do
    cp "$built/fixture_${fixture//-/_}.wasm" "$out/fixtures/$fixture.wasm"
done
for flavour in v1 v2 bad-start bad-monitor trap; do
    build --profile guest --package=fixture-echo --features="${flavour/v1/}"
    cp "$built/fixture_echo.wasm" "$out/fixtures/echo-$flavour.wasm"
done

if $commit; then
    mkdir -p modules/built
    for module in "${modules[@]}"; do
        cp "$out/$module.wasm" modules/built/
    done
    sources | xargs -d '\n' sha256sum | sha256sum | cut -d ' ' -f 1 >modules/built/SOURCES
    toolchain >modules/built/TOOLCHAIN
fi
