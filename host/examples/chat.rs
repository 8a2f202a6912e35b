//! A server in Rust that serves its administrators with one set of functions, in either of the two ways that there are.
//!
//! Under a monitor it talks over the control socket:
//!
//! ```console
//! $ cargo build --example chat
//! $ pomelo monitor --id chat-9 --type chat --ready control -- target/debug/examples/chat
//! ```
//!
//! By itself it has its monitor within, and joins the master that it is told:
//!
//! ```console
//! $ target/debug/examples/chat chat-9 127.0.0.1:3005
//! ```
//!
//! Then `pomelo request watchServer '{"comd": "get", "context": "chat-9", "param": "greeting"}'` asks it. Where the master wants a token it is taken
//! from `POMELO_TOKEN`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pomelo_host::failure::Failure;
use pomelo_host::monitor::application::control::Client;
use pomelo_host::monitor::application::{Change, Embedded, Functions};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Notify;

#[derive(Deserialize)]
struct Setting {
    key: String,
    #[serde(default)]
    value: Value,
}

/// What the server can be asked. `end` is told when it is to end.
fn functions(end: Arc<Notify>) -> Functions {
    let settings = Arc::new(Mutex::new(BTreeMap::from([("greeting".to_owned(), Value::from("welcome"))])));
    let (all, get, set) = (settings.clone(), settings.clone(), settings);
    Functions::new()
        .on("settings", move |_: IgnoredAny| {
            let all = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { Ok(all) }
        })
        .on("get", move |Setting { key, .. }| {
            let value = get.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            async move { value.ok_or_else(|| Failure::new("not-found", format!("there is no setting {key}"))) }
        })
        .on("set", move |Setting { key, value }| {
            set.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
            async { Ok(()) }
        })
        .on("chatCron.send", async |cron: Value| {
            say(format!("cron {} is due", cron["id"]));
            Ok(())
        })
        .on_change(async |change| {
            match change {
                Change::Added(servers) => say(format!("{} servers have joined", servers.len())),
                Change::Removed(ids) => say(format!("{} have left", ids.join(", "))),
                Change::Replaced(servers) => say(format!("there are {} servers", servers.len())),
                Change::StartOver => say("all servers have started"),
            }
            Ok(())
        })
        .on_stop(move |deadline| {
            say(format!("ending within {deadline:?}"));
            end.notify_one();
            async { Ok(()) }
        })
}

/// Prints a line. `println!` would panic where it cannot, and the server goes on without its output.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let end = Arc::new(Notify::new());
    let functions = functions(end.clone());
    if let Some(_client) = Client::from_environment(functions.clone(), true).await? {
        end.notified().await;
        return Ok(());
    }
    let mut arguments = std::env::args().skip(1);
    let (Some(id), Some(master)) = (arguments.next(), arguments.next()) else {
        return Err("it is run by a monitor, or as: chat ID HOST:PORT".into());
    };
    let mut server = Embedded::new(&id, "chat", functions);
    if let Ok(token) = std::env::var("POMELO_TOKEN") {
        server = server.token(&token);
    }
    let joined = server.join(&master).await?;
    joined.registered().await;
    say(format!("registered with {} servers", joined.servers().len()));
    joined.asked_to_end().await;
    joined.shut_down(Duration::from_secs(5)).await;
    Ok(())
}
