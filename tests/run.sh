#!/usr/bin/env bash
# Runs all tests, from nothing: installs what they need (Debian's packages where something is missing, npm's for the JavaScript peers), builds
# the modules, and runs the tests with the modules that were just built.
#
# Where no WASM toolchain can be installed it says so and tests with the committed modules; in CI (CI=true) that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

debian() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

step "JavaScript peers"
if ! command -v npm >/dev/null; then
    debian nodejs npm || { echo "npm is needed: install Node.js 18 or later" >&2 && exit 1; }
fi
npm --prefix tests/fixtures/js ci --ignore-scripts --no-audit --no-fund
# The web page is tested in a real browser; CHROMIUM names one that is elsewhere.
if ! [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
    debian chromium || { echo "chromium is needed: install it, or name it in CHROMIUM" >&2 && exit 1; }
fi

step "OpenSSL"
command -v openssl >/dev/null || debian openssl || { echo "openssl is needed: install it" >&2 && exit 1; }

step "OpenSSH"
if ! { [ -x /usr/sbin/sshd ] && command -v ssh ssh-keygen >/dev/null; }; then
    debian openssh-server openssh-client || { echo "sshd, ssh and ssh-keygen are needed: install OpenSSH" >&2 && exit 1; }
fi

step "perf"
if ! command -v perf >/dev/null; then
    debian linux-perf || echo "NO perf: of the CPU profile of a process only the refusal is tested"
fi

step "Faults of the machine"
faketime() { compgen -G '/usr/lib*/faketime/libfaketimeMT.so.1' || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1'; }
faketime >/dev/null || { debian libfaketime && faketime >/dev/null; } || echo "NO libfaketime: what hosts do when the clock is set is not tested"
# Root has a mount namespace of its own, others need one of users beside it.
unshare --mount true 2>/dev/null || unshare --mount --map-root-user true 2>/dev/null \
    || echo "NO MOUNT NAMESPACES: what hosts do on a full disk is not tested"
command -v prlimit >/dev/null || debian util-linux || { echo "prlimit is needed: install util-linux" >&2 && exit 1; }

step "Admin modules"
# 0: built; 3: there is no toolchain; anything else is an error in the modules.
build() {
    local code=0
    bash modules/build.sh || code=$?
    case $code in 0 | 3) return $code ;; *) exit $code ;; esac
}
# A toolchain of rustup's wasm32-wasip2 counts as none, because what it makes imports WASI, which the built-in modules do without.
plain() { [[ "$(bash modules/build.sh --toolchain)" != *wasip2* ]]; }
if { plain && build; } || { debian rustc-web cargo-web rust-web-src lld-22 && plain && build; }; then
    bash tests/fixtures/outside_module/build.sh target/modules/outside
    # The same compiler makes the same bytes of the same sources.
    if [ "$(bash modules/build.sh --toolchain)" = "$(cat modules/built/TOOLCHAIN)" ]; then
        for module in modules/built/*.wasm; do
            cmp "$module" "target/modules/$(basename "$module")" \
                || { echo "$module is not what its sources make: run modules/build.sh --commit" >&2 && exit 1; }
        done
        echo "the committed modules are what their sources make"
    else
        echo "this toolchain is not the one of modules/built/TOOLCHAIN: the committed modules are compared by their sources alone"
    fi
    export POMELO_BUILTINS="$PWD/target/modules"
    tests=(--tests)
elif [ "${CI:-}" = true ]; then
    echo "no WASM toolchain" >&2
    exit 1
else
    echo "NO WASM TOOLCHAIN: testing with the committed modules, and without the tests that need others"
    tests=(--lib --bins --test transport --test fuzz --test built)
fi

step "Format"
cargo fmt --all --check
step "Tests"
cargo test --locked -p pomelo-host "${tests[@]}"
cargo test --locked -p pomelo-sdk -p pomelo-sdk-macros \
    -p watchdog -p console -p watch-server -p monitor-log -p node-info -p system-info -p scripts -p time-report -p pomelo-bench
step "Lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
step "Fuzz targets"
# Those that include sources of the host as files, over their seeds. The others are the suite `fuzz`, with the host that is built already.
cargo test --locked --manifest-path fuzz/Cargo.toml
step "Documentation"
# With the examples, dependencies have the features that they have for the lints, and are not checked a second time.
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --lib --bins --examples
step "Done"
