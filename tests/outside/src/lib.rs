//! `greeter`: what a new author's first module looks like.

use pomelo_sdk::prelude::*;
use serde::Serialize;

struct Greeter;

#[derive(Serialize)]
struct Answer {
    echo: Value,
    version: u32,
}

#[module(id = "greeter", level = 2)]
impl Greeter {
    fn client_handler(message: Value) -> Result<Answer> {
        log::debug!("asked: {message}");
        Ok(Answer { echo: message, version: env!("CARGO_PKG_VERSION_MAJOR").parse()? })
    }
}
