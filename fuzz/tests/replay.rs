//! The seeds of the targets that do without the host, on a stable toolchain.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    for folder in ["seeds", "found"] {
        // Not every target has shown a fault.
        let Ok(files) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target)) else { continue };
        let inputs: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(folder == "found" || !inputs.is_empty());
        inputs.iter().for_each(|input| run(input));
    }
}

#[test]
fn frames_of_recorded_sessions() {
    replay("mqtt_frame", pomelo_fuzz::frame::run);
}

#[test]
fn envelopes_of_recorded_sessions() {
    replay("envelope", pomelo_fuzz::envelope::run);
}
