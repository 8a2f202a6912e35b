//! Counts its calls with a read and a write that are not one step: only calls that run one at a time all count.
//!
//! A monitor's `start` has the master send a message back before it is over; the order of the two can be asked for.

use pomelo_sdk::prelude::*;

struct Serial;

#[module(id = "serial", level = 2, serial(client_handler, monitor_handler, start))]
impl Serial {
    /// The message `{"server": id}` asks for what that monitor has counted; any other counts here.
    fn client_handler(agent: &Agent, msg: Option<Value>) -> Result<Value> {
        match msg.as_ref().and_then(|msg| msg.get("server")?.as_str()) {
            Some(server) => agent.cluster().request(server, &Value::Null, Duration::from_secs(5)),
            None => count(agent, msg).map(Value::from),
        }
    }

    fn master_handler(agent: &Agent) -> Result {
        agent.cluster().notify(&[agent.caller_id()?], "message")
    }

    fn monitor_handler(agent: &Agent, msg: Option<Value>) -> Result<Option<Value>> {
        match msg {
            Some(msg) => count(agent, Some(msg)).map(|_| None),
            None => agent.store().get("list"),
        }
    }

    fn start(agent: &Agent) -> Result {
        if agent.role() == pomelo_sdk::Role::Monitor {
            agent.uplink().request::<Value>(&"start", Duration::from_secs(5))?;
            count(agent, Some("start".into()))?;
        }
        Ok(())
    }
}

/// Appends the message to the list under the key `list`; how long it is then.
fn count(agent: &Agent, msg: Option<Value>) -> Result<usize> {
    let mut list: Vec<Value> = agent.store().get("list")?.unwrap_or_default();
    list.push(msg.unwrap_or_default());
    agent.store().set("list", &list)?;
    Ok(list.len())
}
