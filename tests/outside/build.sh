#!/usr/bin/env bash
# Builds a module as an author outside this workspace would, in a fresh crate, in two versions: OUT/greeter-1.wasm and OUT/greeter-2.wasm.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
out="${1:?a directory for the components}"
mkdir -p "$out"

crate="$(mktemp -d)"
trap 'rm -rf "$crate"' EXIT
cp -r "$here/src" "$crate/src"
# Outside the workspace there is no lock file; with the workspace's, nothing newer than what is tested here is taken.
cp "$root/Cargo.lock" "$crate/Cargo.lock"
for version in 1 2; do
    sed -e "s|@SDK@|$root/sdk|" -e "s|@VERSION@|$version.0.0|" "$here/Cargo.toml.in" >"$crate/Cargo.toml"
    bash "$root/modules/build.sh" --manifest-path "$crate/Cargo.toml" --out "$crate/out"
    cp "$crate/out/greeter.wasm" "$out/greeter-$version.wasm"
done
