//! Imports `process`, and ends the program of whoever lets it.

use pomelo_sdk::prelude::*;

struct Greedy;

#[module(id = "greedy")]
impl Greedy {
    fn client_handler(agent: &Agent) -> Result {
        agent.process().kill()
    }
}
