//! `greeter`: what a new author's first module looks like.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

struct Greeter;

#[derive(Deserialize)]
struct Ask {
    name: String,
}

#[derive(Serialize)]
struct Answer {
    greeting: String,
    version: &'static str,
}

#[module(id = "greeter", level = 2)]
impl Greeter {
    fn client_handler(ask: Ask) -> Result<Answer> {
        log::info!("greeting {}", ask.name);
        Ok(Answer { greeting: format!("Hello, {}!", ask.name), version: env!("CARGO_PKG_VERSION") })
    }
}
