//! The table of requirements is true: every id has a test, and every test that it names is there and names the id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every id of the specification that a test has to name.
const IDS: &str = "R1 R2 R3 R4 R5 R6 R7 M1 M2 M2b M3 M4 M5 M6 S1 S2 S3 S4 W1 W2 W3 W4 W5 C1 C2 C3 C4 C5 C6 C7 P T A1 A2 A3 A4 A5 X1 X2 X3 X4";

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names of all functions of the Rust files below a folder.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "node_modules" && name != "target" {
            functions(&path, names);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let found = text.split("fn ").skip(1).filter_map(|rest| rest.split_once(['(', '<']));
            names.extend(found.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_requirement_has_a_test_that_names_it_and_a_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("docs/requirements.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells.len() == 6 && !cells[1].starts_with('-') && cells[1] != "id").then(|| (cells[1].clone(), cells))
    };
    let rows: BTreeMap<String, Vec<String>> = table.lines().filter_map(row).collect();
    let ids: BTreeSet<String> = IDS.split(' ').map(str::to_owned).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), ids);
    let mut names = BTreeSet::new();
    for folder in ["tests", "host/src", "modules", "sdk"] {
        functions(&root.join(folder), &mut names);
    }
    for (id, cells) in rows {
        let tests: Vec<&str> = quoted(&cells[4]).collect();
        assert!(!tests.is_empty(), "{id} has no test");
        for test in tests {
            assert!(names.contains(test), "{id}: there is no test {test}");
            assert!(test.split('_').any(|word| word == id.to_lowercase()), "{id}: {test} does not name it");
        }
        for place in quoted(&cells[3]).filter(|place| place.contains('/')) {
            assert!(root.join(place).exists(), "{id}: there is no {place}");
        }
    }
}
