//! Goes back and forth between the master and a monitor: for tests of nested calls.
//!
//! A client sends `{"target": id, "depth": n}`. The master asks the target, which asks the master, which asks the target with a depth less by
//! one, until that is 0. The answer is the number of handlers that were at work.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

struct Relay;

#[derive(Serialize, Deserialize)]
struct Leg {
    target: String,
    #[serde(default)]
    depth: u32,
}

const DEADLINE: Duration = Duration::from_secs(5);

#[module(id = "relay", level = 2)]
impl Relay {
    fn client_handler(agent: &Agent, leg: Leg) -> Result<u32> {
        down(agent, &leg)
    }

    fn monitor_handler(agent: &Agent, leg: Leg) -> Result<u32> {
        Ok(1 + agent.uplink().request::<u32>(&leg, DEADLINE)?)
    }

    fn master_handler(agent: &Agent, leg: Leg) -> Result<u32> {
        match leg.depth.checked_sub(1) {
            Some(depth) => down(agent, &Leg { depth, ..leg }),
            None => Ok(1),
        }
    }
}

fn down(agent: &Agent, leg: &Leg) -> Result<u32> {
    Ok(1 + agent.cluster().request::<u32>(&leg.target, leg, DEADLINE)?)
}
