//! Does what a module should not: for tests of the limits. A client's message says what, `{"do": "spin"}`.

use std::hint::black_box;

use pomelo_sdk::prelude::*;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

struct Misbehave;

#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    msg: Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Value(Value),
    Count(u32),
    NotJson(NotJson),
}

#[module(id = "misbehave", level = 2)]
impl Misbehave {
    fn client_handler(agent: &Agent, wish: Wish) -> Result<Answer> {
        match wish.what.as_str() {
            "echo" => Ok(Answer::Value(wish.msg)),
            "spin" => loop {
                black_box(());
            },
            "work" => Ok(Answer::Count(work(agent, wish.msg.as_u64().unwrap_or_default()))),
            "allocate" => allocate(),
            "trap" => panic!("as it was asked to"),
            "not-json" => Ok(Answer::NotJson(NotJson)),
            "recurse" => Ok(Answer::Count(recurse(1))),
            // For a server that does not answer, named in `msg`.
            "wait" => {
                let server = wish.msg.as_str().ok_or_else(|| Failure::new("bad-message", "`msg` names a server."))?;
                agent.cluster().request(server, "wait", Duration::from_secs(3600)).map(Answer::Value)
            }
            "log-flood" => {
                for line in 0..100_000 {
                    log::info!("line {line}");
                }
                Ok(Answer::Value(Value::Null))
            }
            "store-fill" => Err(fill(agent)),
            other => Err(Failure::new("bad-message", ["It cannot ", other, "."].concat())),
        }
    }

    /// Spins, too.
    fn monitor_handler() -> Result {
        loop {
            black_box(());
        }
    }
}

/// Works for so many milliseconds.
fn work(agent: &Agent, millis: u64) -> u32 {
    let end = agent.now() + Duration::from_millis(millis);
    let mut turns = 0;
    while agent.now() < end {
        work_hard();
        turns += 1;
    }
    turns
}

/// A part of it, to be found in a profile under its name.
#[inline(never)]
fn work_hard() {
    for turn in 0..100_000_u32 {
        black_box(turn);
    }
}

/// Takes memory and writes to it, until there is none.
fn allocate() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn recurse(depth: u32) -> u32 {
    if black_box(depth) == u32::MAX {
        return 0;
    }
    let frame = black_box([depth; 64]);
    // Used after the call, so that the call cannot be made a loop.
    recurse(depth.wrapping_add(1)).wrapping_add(black_box(frame)[0])
}

/// Sets keys until the store refuses.
fn fill(agent: &Agent) -> Failure {
    let value = "x".repeat(10_000);
    let mut number = 0_u32;
    loop {
        if let Err(failure) = agent.store().set(&number.to_string(), &value) {
            return failure;
        }
        number = number.wrapping_add(1);
    }
}

/// An answer that is not JSON. The SDK writes JSON only; this pretends to be serde_json's own type for text that is JSON already.
struct NotJson;

impl Serialize for NotJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const RAW_VALUE: &str = "$serde_json::private::RawValue";
        let mut value = serializer.serialize_struct(RAW_VALUE, 1)?;
        value.serialize_field(RAW_VALUE, "{not json")?;
        value.end()
    }
}
