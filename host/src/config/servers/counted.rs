//! `clusterCount`: one entry that stands for several servers, and numbers that count up (`"3050++"`).

use serde_json::{Map, Value};

use crate::config::reader::Table;
use crate::config::tree::Tree;

/// The most servers that one `clusterCount` may stand for.
const MAX_CLUSTER_COUNT: u64 = 10_000;

/// `clusterCount`: how many servers an entry stands for.
pub(super) fn cluster_count(table: &mut Table<'_>) -> Option<u64> {
    let node = table.get("clusterCount")?;
    let count = match &node.value {
        Tree::Number(number) => number.as_u64(),
        Tree::Text(text) => text.parse().ok(),
        _ => None,
    };
    let count = count.filter(|count| (1..=MAX_CLUSTER_COUNT).contains(count));
    if count.is_none() {
        let what = format!("`clusterCount` must be a whole number from 1 to {MAX_CLUSTER_COUNT}");
        table.file.fault(node.at, what, r#"for example: "clusterCount": 4"#);
    }
    count
}

/// The id of a server that a `clusterCount` stands for.
pub(super) fn counted_id(server_type: &str, number: &str) -> String {
    format!("cluster-server-{server_type}-{number}")
}

/// The members of each server that an entry stands for. With `clusterCount`, texts that end in `++` count up, and each server gets an id.
pub(super) fn counted_members(
    table: &Table<'_>,
    server_type: &str,
    count: Option<u64>,
    before: &mut u64,
) -> Vec<Map<String, Value>> {
    let members = table.to_json();
    let Some(count) = count else { return vec![members] };
    let first = *before;
    *before = before.saturating_add(count);
    let one = |n: u64| {
        let mut members = members.clone();
        members.insert("id".into(), counted_id(server_type, &first.saturating_add(n).to_string()).into());
        for value in members.values_mut() {
            let base =
                value.as_str().and_then(|text| text.strip_suffix("++")).and_then(|base| base.parse::<u64>().ok());
            if let Some(number) = base.and_then(|base| base.checked_add(n)) {
                *value = number.into();
            }
        }
        members
    };
    (0..count).map(one).collect()
}
