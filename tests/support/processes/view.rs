//! What a server's program sees of the cluster: the file that its monitor keeps for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::eventually_or;

/// The file with a program's view of the cluster, as the program itself finds it.
pub fn view_file(pid: u32) -> Option<PathBuf> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
    environment.split('\0').find_map(|variable| variable.strip_prefix("POMELO_CLUSTER=")).map(PathBuf::from)
}

/// A program's view of the cluster.
pub fn view(file: &Path) -> Value {
    fs::read(file).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("a view is never half written"))
}

/// The ids in a view.
pub fn members(file: &Path) -> BTreeSet<String> {
    view(file)["servers"].as_object().into_iter().flat_map(Map::keys).cloned().collect()
}

pub fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

/// Waits until a view has these members and the master.
pub fn wait_for_members(file: &Path, servers: &[&str]) {
    let mut wanted = ids(servers);
    wanted.insert("master".into());
    eventually_or(&format!("{} has {wanted:?}", file.display()), || {
        let seen = members(file);
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{:?} differ", seen.symmetric_difference(&wanted).collect::<Vec<_>>()))
        }
    });
}
