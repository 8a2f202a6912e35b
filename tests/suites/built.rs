//! The committed modules are those of the committed sources.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What `sha256sum` prints for the files that the modules are made from, hashed again; see `sources` in modules/build.sh.
fn sources(root: &Path) -> String {
    let mut files = vec![PathBuf::from("Cargo.toml")];
    for folder in ["wit", "sdk/src", "sdk/macros/src"] {
        collect(root, Path::new(folder), &mut files);
    }
    files.extend(["sdk/Cargo.toml", "sdk/macros/Cargo.toml"].map(PathBuf::from));
    for entry in std::fs::read_dir(root.join("modules")).unwrap() {
        let module = PathBuf::from("modules").join(entry.unwrap().file_name());
        if root.join(&module).join("Cargo.toml").is_file() {
            files.push(module.join("Cargo.toml"));
            collect(root, &module.join("src"), &mut files);
        }
    }
    let mut lines: Vec<_> = files.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    lines.sort();
    let line =
        |path: &String| format!("{}  {path}\n", hex::encode(Sha256::digest(std::fs::read(root.join(path)).unwrap())));
    hex::encode(Sha256::digest(lines.iter().map(line).collect::<String>()))
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() { collect(root, &path, files) } else { files.push(path) }
    }
}

#[test]
fn the_committed_modules_are_those_of_the_committed_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let recorded = std::fs::read_to_string(root.join("modules/built/SOURCES")).unwrap();
    assert_eq!(recorded.trim(), sources(root), "the sources have changed since: run modules/build.sh --commit");
}
