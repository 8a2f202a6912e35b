//! Counts its calls with a read and a write that are not one step: only calls that run one at a time all count.
//!
//! A client's messages are serial. A monitor's, which do the same, are not, for contrast; the monitor sends them for the master's.

use pomelo_sdk::prelude::*;

struct Serial;

#[module(id = "serial", level = 2, serial(client_handler))]
impl Serial {
    fn client_handler(agent: &Agent, msg: Option<Value>) -> Result<usize> {
        count(agent, msg)
    }

    fn monitor_handler(agent: &Agent, msg: Option<Value>) -> Result<Value> {
        agent.uplink().request(&msg, Duration::from_secs(5))
    }

    fn master_handler(agent: &Agent, msg: Option<Value>) -> Result<usize> {
        count(agent, msg)
    }
}

/// Appends the message to the list under the key `list`; how long it is then.
fn count(agent: &Agent, msg: Option<Value>) -> Result<usize> {
    let mut list: Vec<Value> = agent.store().get("list")?.unwrap_or_default();
    list.push(msg.unwrap_or_default());
    agent.store().set("list", &list)?;
    Ok(list.len())
}
