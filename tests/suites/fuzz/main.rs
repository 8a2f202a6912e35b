//! The fuzz targets that need the whole host (`fuzz/src/targets`), on a stable toolchain: over their seeds, over inputs that once showed a fault, and over
//! changed seeds. `docs/fuzzing.md` tells of the long runs, which are guided by what code an input reaches.

#[path = "../../support/random.rs"]
mod random;
#[path = "../../../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use random::Random;

/// Changed inputs of a target.
const CHANGED: usize = 2_000;
/// The largest input, bytes.
const LARGEST: usize = 16 << 10;

/// The seeds of a target, and the inputs that showed a fault, in the order of their names.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut inputs = Vec::new();
    for folder in ["seeds", "found"] {
        // Not every target has shown a fault.
        let Ok(files) = fs::read_dir(root.join(folder).join(target)) else { continue };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        inputs.extend(files.iter().map(|file| fs::read(file).unwrap()));
    }
    inputs
}

/// An input of which something is left out, doubled, overwritten or exchanged with a part of another one.
fn change(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    // Inputs may be empty.
    let mut below = |end: usize| random.below(end.max(1));
    let mut bytes = inputs[below(inputs.len())].clone();
    for _ in 0..=below(4) {
        let (from, to) = (below(bytes.len()), below(bytes.len()));
        let part = from.min(to)..from.max(to);
        match below(5) {
            0 => drop(bytes.drain(part)),
            1 => {
                let again = bytes[part.clone()].repeat(1 + below(40));
                bytes.splice(part, again);
            }
            2 => bytes.iter_mut().skip(part.start).take(1 + below(4)).for_each(|byte| *byte = below(256) as u8),
            3 => bytes.iter_mut().skip(part.start).take(1).for_each(|byte| *byte ^= 1 << below(8)),
            _ => {
                let other = &inputs[below(inputs.len())];
                let (from, to) = (below(other.len()), below(other.len()));
                bytes.splice(part, other[from.min(to)..from.max(to)].iter().copied());
            }
        }
    }
    bytes.truncate(LARGEST);
    bytes
}

/// Runs a target over all its inputs. One that shows a fault is written down, to be kept in `fuzz/found`.
fn replay(target: &str, changed: usize, run: fn(&[u8])) {
    let inputs = inputs(target);
    assert!(inputs.len() > 1, "fuzz/seeds/{target} has seeds");
    let mut random = Random(1);
    let more = std::iter::repeat_with(|| change(&mut random, &inputs)).take(changed);
    for input in inputs.iter().cloned().chain(more) {
        if catch_unwind(|| run(&input)).is_err() {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("found-{target}"));
            fs::write(&file, &input).unwrap();
            panic!("{target}: {:?}, kept as {}", String::from_utf8_lossy(&input), file.display());
        }
    }
}

#[test]
fn any_bytes_are_a_component_or_are_refused() {
    replay("component", CHANGED, targets::component::run);
}

#[test]
fn any_text_is_a_descriptor_or_is_refused() {
    replay("descriptor", CHANGED, targets::descriptor::run);
}

#[test]
fn any_files_are_a_configuration_or_have_faults() {
    replay("config", CHANGED, targets::config::run);
}

#[test]
fn the_listener_survives_any_packets() {
    replay("socket_io", CHANGED / 4, targets::socket_io::run);
}
