//! `admit`: lets servers of pomelo 2.x reconnect to a master that does not know them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;

use super::admin::{Session, parse};
use super::{print, table};

/// Admits servers for some seconds. Without ids and without `all`, shows those that tried and were refused.
pub(super) async fn admit(session: &Session, ids: Vec<String>, all: bool, seconds: u64) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        waiting: BTreeMap<String, Waiting>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Waiting {
        server_type: String,
        address: Option<String>,
        last: u64,
        tries: u64,
    }
    let body = json!({ "ids": ids, "all": all, "seconds": seconds });
    let answer = session.client.command("admit", None, body).await?;
    if session.json {
        return Ok(print::json(answer)?);
    }
    let Answer { waiting } = parse(&answer)?;
    if all || !ids.is_empty() {
        let who = if all { "all servers".to_owned() } else { ids.join(", ") };
        return Ok(print::line(format!("admitted for {seconds} s: {who}"))?);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let rows = waiting.into_iter().map(|(id, one)| {
        let ago = format!("{} s ago", now.saturating_sub(one.last));
        vec![id, one.server_type, one.address.unwrap_or_else(|| "-".into()), one.tries.to_string(), ago]
    });
    Ok(table::print(&["waiting", "type", "from", "tries", "last"], rows.collect())?)
}
