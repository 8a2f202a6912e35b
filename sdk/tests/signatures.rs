//! Every way in which a callback may be written compiles.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Answer {
    length: usize,
}

/// A failure of the author's own.
struct Mine;

impl From<Mine> for Failure {
    fn from(_: Mine) -> Self {
        Failure::new("mine", "It is mine.")
    }
}

mod with_state {
    use super::*;

    #[derive(Default)]
    struct Counter {
        calls: u32,
    }

    #[module(id("a", roles(master), pull, interval = 5), id("b", push, interval = 1.5), serial(master_handler))]
    impl Counter {
        fn master_handler(&mut self, _agent: &Agent, _msg: Option<Value>) -> Result<u32> {
            self.calls += 1;
            Ok(self.calls)
        }

        fn monitor_handler(&self) -> Result<u32, Mine> {
            Err(Mine)
        }

        fn client_handler(&mut self, msg: Borrowed<'_>) -> Result<Answer> {
            Ok(Answer { length: Self::length(msg.name) })
        }

        fn start(&mut self) -> Result<(), std::io::Error> {
            Ok(())
        }

        fn server_events(&mut self, _events: Value) -> Result {
            Ok(())
        }

        fn length(text: &str) -> usize {
            text.len()
        }
    }
}

mod without_state {
    use super::*;

    struct Plain;

    #[module(id = "plain", level = 2, durable("data"))]
    impl Plain {
        fn client_handler(agent: &Agent, name: String) -> Result<Option<String>> {
            let number: u32 = name.parse()?;
            agent.set(&number)?;
            agent.get()
        }

        fn start(_agent: &Agent) -> Result {
            Ok(())
        }

        fn server_events() -> Result {
            Ok(())
        }
    }
}

#[test]
fn they_compile() {}
