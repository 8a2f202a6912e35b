//! Built components, and variations of them that differ in a custom section.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of a component's header, before its first section.
const HEADER: usize = 8;
const DESCRIPTOR: &[u8] = b"pomelo:descriptor";

/// The component of one of the modules.
pub fn module(name: &str) -> Vec<u8> {
    read(&format!("{name}.wasm"))
}

/// The component of a fixture.
pub fn fixture(name: &str) -> Vec<u8> {
    read(&format!("fixtures/{name}.wasm"))
}

/// The component of a crate outside this workspace.
pub fn outside(name: &str) -> Vec<u8> {
    read(&format!("outside/{name}.wasm"))
}

fn read(name: &str) -> Vec<u8> {
    let directory = std::env::var_os("POMELO_TEST_MODULES").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules").into());
    let path = directory.join(name);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{} cannot be read ({error}): run modules/build.sh, and tests/fixtures/outside_module/build.sh for `outside`",
            path.display()
        )
    })
}

/// The same module with another digest.
pub fn renewed(component: &[u8], number: u8) -> Vec<u8> {
    let mut renewed = component.to_vec();
    renewed.extend(section(b"number", &[number]));
    renewed
}

/// The same code under another descriptor: the first one in a file is the one that counts.
pub fn described(component: &[u8], descriptor: &Value) -> Vec<u8> {
    let (header, rest) = component.split_at(HEADER);
    [header, &section(DESCRIPTOR, descriptor.to_string().as_bytes()), rest].concat()
}

/// The same module with the descriptor's section under a name that nobody looks for.
pub fn without_descriptor(component: &[u8]) -> Vec<u8> {
    let mut stripped = component.to_vec();
    let places: Vec<_> = component
        .windows(DESCRIPTOR.len())
        .enumerate()
        .filter(|(_, part)| *part == DESCRIPTOR)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the component has a descriptor's section");
    for at in places {
        stripped[at..at + DESCRIPTOR.len()].copy_from_slice(b"pomelo:undescribe");
    }
    stripped
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A custom section.
fn section(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut content = length(name.len());
    content.extend(name);
    content.extend(data);
    [vec![0], length(content.len()), content].concat()
}

/// LEB128.
fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}
