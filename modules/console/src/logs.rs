//! `logs`: reads what a server's program writes.

use pomelo_sdk::prelude::*;
use serde_json::value::RawValue;

use crate::arguments::bad;
use crate::ask::{ask, is_unknown, reason};
use crate::message::{Message, Wanted};

/// How many lines are read if the client does not say.
const LINES: u32 = 100;

/// On the master: asks the server's monitor. The wait is cut short so that the answer comes back within this call.
pub fn forward(agent: &Agent, id: Option<String>, wanted: Wanted) -> Result<Box<RawValue>> {
    let id = id.ok_or_else(|| bad("`logs` needs the `id` of a server."))?;
    let left = agent.time_left();
    let longest = u64::try_from((left * 6 / 10).as_millis()).unwrap_or(u64::MAX);
    let wanted = Wanted { wait: wanted.wait.map(|wait| wait.min(longest)), ..wanted };
    let message = Message { logs: Some(wanted), ..Message::new("logs") };
    let timeout = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let mut answers = ask::<Box<RawValue>>(agent, &[&id], &message, timeout)?;
    match answers.pop() {
        Some((_, Err(failure))) if is_unknown(&failure) => Err(Failure::new("not-found", reason(&failure))),
        Some((_, answer)) => answer,
        None => Err(Failure::new("not-found", ["There is no server ", &id, "."].concat())),
    }
}

/// On a monitor: reads what its program has written.
pub fn read(agent: &Agent, wanted: Option<Wanted>) -> Result<Box<RawValue>> {
    let wanted = wanted.unwrap_or_default();
    let wait = Duration::from_millis(wanted.wait.unwrap_or(0));
    agent.process().output(wanted.since, wanted.lines.unwrap_or(LINES), wait)
}
