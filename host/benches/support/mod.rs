//! What the benches share: the echo fixture, and a native handler that does the same.

// Each bench uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use pomelo_host::console::{Origin, Source};
use pomelo_host::plugin::Grants;
use pomelo_host::wire::raw;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A client's question of some 200 bytes.
pub fn question() -> Box<RawValue> {
    let text = "a line of text that a management tool might send along with its question, as long as such lines are";
    raw(&serde_json::json!({ "signal": "echo", "ids": ["chat-1", "chat-2", "gate-1"], "limit": 25, "text": text }))
}

/// The fixture `echo`, which `modules/build.sh` makes.
pub fn echo() -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/modules/fixtures/echo-v1.wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{} cannot be read ({error}): run modules/build.sh", path.display());
    });
    Source { name: "echo".into(), origin: Origin::File(path), bytes: Arc::from(bytes), grants: Grants::default() }
}

/// What the fixture does, in the host's own code.
pub fn native(msg: &RawValue) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Answer {
        version: u32,
        echo: Option<Value>,
    }
    raw(&Answer { version: 1, echo: serde_json::from_str(msg.get()).ok() })
}
