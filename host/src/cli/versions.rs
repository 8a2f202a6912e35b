//! `modules history` and `modules rollback`: the versions of a module's file that the master has kept.

use chrono::{DateTime, Local};
use serde_json::json;

use super::admin::{Session, parse};
use super::print;
use super::table::{self, Column};
use crate::console::{History, RolledBack};
use crate::master::{Offbeat, OnMonitors, UnderWay};
use crate::versions::{State, short};

/// Shows what is kept of a module's file.
pub(super) async fn history(session: &Session, id: &str) -> anyhow::Result<()> {
    let answer = session.client.command("history", Some(id), json!({})).await?;
    if session.json {
        return Ok(print::json(&answer)?);
    }
    let History { source, in_force, versions } = parse(&answer)?;
    let is_kept = versions.iter().any(|version| version.digest == in_force && version.state == State::Good);
    let rows = versions.iter().map(|version| {
        let seconds = i64::try_from(version.since).unwrap_or(i64::MAX);
        let since = DateTime::from_timestamp(seconds, 0).unwrap_or_default().with_timezone(&Local);
        let state = match (version.digest == in_force, version.state) {
            (true, _) => "in force",
            (false, State::Good) => "good",
            (false, State::RolledBack) => "rolled back",
            (false, State::TakenBack) => "taken back",
        };
        let since = since.format("%Y-%m-%d %H:%M:%S").to_string();
        vec![short(&version.digest).to_owned(), state.to_owned(), since, version.size.to_string()]
    });
    let columns = [Column::whole("digest"), Column::whole("state"), Column::whole("since"), Column::whole("bytes")];
    table::print(&columns, rows.collect())?;
    if !is_kept {
        print::line(format!("{} is in force and is kept once it has outlived its first seconds", short(&in_force)))?;
    }
    Ok(print::line(format!("{}", source.display()))?)
}

/// What the monitors that take modules from the master run of a file, a line for each thing that there is to say.
pub(super) fn on_monitors(file: &str, on: &OnMonitors) -> String {
    let OnMonitors { monitors, as_wanted, running, others, rollout } = on;
    let mut lines = vec![match running.len() {
        0 | 1 => format!("{file}: {as_wanted} of {monitors} monitors run what they are to run"),
        _ => {
            let each = running.iter().map(|(digest, count)| format!("{count} run {}", short(digest)));
            let each = Vec::from_iter(each).join(", ");
            format!("{file}: {as_wanted} of {monitors} monitors run what they are to run: {each}")
        }
    }];
    if let Some(UnderWay { digest, wave, waves, reached }) = rollout {
        let digest = short(digest);
        lines.push(format!("{file}: version {digest} is rolled out, wave {wave} of {waves}, {reached} servers so far"));
    }
    lines.extend(others.iter().map(|Offbeat { server, why }| match why {
        Some(why) => format!("{file}: {server} does not: {why}"),
        None => format!("{file}: {server} does not yet"),
    }));
    let unnamed = monitors.saturating_sub(as_wanted.saturating_add(others.len()));
    if unnamed > 0 {
        lines.push(format!("{file}: {unnamed} more do not"));
    }
    lines.join("\n")
}

/// Puts a version back.
pub(super) async fn roll_back(session: &Session, id: &str, digest: Option<&str>) -> anyhow::Result<()> {
    let answer = session.client.command("rollback", Some(id), json!({ "digest": digest })).await?;
    if session.json {
        return Ok(print::json(&answer)?);
    }
    let RolledBack { source, digest, from } = parse(&answer)?;
    let was = from.as_deref().map_or("a file that cannot be read", short);
    print::line(format!("{} is {} again; it was {was}", source.display(), short(&digest)))?;
    print::note("(the hosts that follow its directory take it over: `pomelo modules` shows it)");
    Ok(())
}
