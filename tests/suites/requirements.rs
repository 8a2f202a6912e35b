//! The table of requirements is true: every id has a test, every test that it names is there and names the id, and every test whose name begins with
//! an id is in the id's row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every id of the specification that a test has to name.
const IDS: &str = "R1 R2 R3 R4 R5 R6 R7 M1 M2 M2b M3 M4 M5 M6 S1 S2 S3 S4 W1 W2 W3 W4 W5 C1 C2 C3 C4 C5 C6 C7 P T A1 A2 A3 A4 A5 X1 X2 X3 X4";

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names of all tests of the Rust files below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "node_modules" && name != "target" {
            tests_below(&path, names);
        } else if name.ends_with(".rs") {
            names.extend(tests_of(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Names of the functions that have an attribute of a test.
fn tests_of(text: &str) -> impl Iterator<Item = String> {
    let mut is_test = false;
    text.lines().map(str::trim).filter_map(move |line| {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let (before, rest) = line.split_once("fn ")?;
        let is_function = before.split_whitespace().all(|word| ["pub", "async"].contains(&word));
        let (name, _) = rest.split_once(['(', '<']).filter(|_| is_function)?;
        std::mem::take(&mut is_test).then(|| name.to_owned())
    })
}

/// The ids that a test's name begins with, as the name has them.
fn ids_of(test: &str) -> impl Iterator<Item = &str> {
    test.split('_').take_while(|word| IDS.split(' ').any(|id| id.to_lowercase() == *word))
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
        tests_below(&root.join(folder), &mut names);
    }
    for (id, cells) in rows {
        let tests: Vec<&str> = quoted(&cells[4]).collect();
        assert!(!tests.is_empty(), "{id} has no test");
        for &test in &tests {
            assert!(names.contains(test), "{id}: there is no test {test}");
            assert!(test.split('_').any(|word| word == id.to_lowercase()), "{id}: {test} does not name it");
        }
        let missing = names.iter().filter(|name| ids_of(name).any(|named| named == id.to_lowercase()));
        let missing: Vec<_> = missing.filter(|name| !tests.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{id}: these tests name it and are not in its row: {missing:?}");
        let paths = quoted(&cells[2]).filter(|word| word.contains('/'));
        for place in quoted(&cells[3]).chain(paths) {
            assert!(root.join(place).exists(), "{id}: there is no {place}");
        }
    }
}
