//! Names of modules and files as labels of metrics. A label that was used once stays for as long as the process runs, and whoever can put a file into
//! the modules' directory can make up names without end. So there are only so many.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// The most names of this process that have labels of their own. The built-in modules are first.
const MAX: usize = 1024;
/// The label of all other names. No module id has a space.
const OTHER: &str = "other names";

static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The label of a module id or a file's name.
pub fn label(name: &str) -> String {
    of(&mut KNOWN.lock(), MAX, name)
}

fn of(known: &mut BTreeSet<String>, most: usize, name: &str) -> String {
    if !known.contains(name) {
        if known.len() >= most {
            return OTHER.to_owned();
        }
        known.insert(name.to_owned());
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_share_a_label() {
        let mut known = BTreeSet::new();
        let labels = ["a", "b", "a", "c", "b"].map(|name| of(&mut known, 2, name));
        assert_eq!(labels, ["a", "b", "a", OTHER, "b"]);
    }
}
