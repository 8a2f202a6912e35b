//! The demo cluster's server program: a small server that shows what a monitor gives it.
//!
//! It listens on its port and answers lines: `members` with the ids of the servers it knows, `login NAME` with a greeting, everything else with the
//! same line. Over its control socket it follows the view of the cluster, says that it is ready, and offers its functions (`application`). It runs
//! without a control socket as well. The cluster's configuration is [`Config::demo`](crate::config::Config::demo).

mod application;

use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::monitor::application::control::Client;
use crate::util::line_reader::{LineRead, read_line};
use crate::util::write_whole;
use application::{Application, Connected};

/// How long the server waits after it could not accept a connection.
const PAUSE: Duration = Duration::from_millis(250);
/// The most connections at a time. One more is closed at once.
const CONNECTIONS: usize = 64;
/// The longest line, bytes.
const MAX_LINE: usize = 1024;
/// A connection that sends nothing for this time is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Runs the server on 127.0.0.1 until SIGTERM or SIGINT, or until its monitor asks it to end.
///
/// # Errors
/// If it cannot listen on the port, or cannot connect to its monitor's control socket.
pub async fn server(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let end = CancellationToken::new();
    let signalled = end.clone();
    tokio::spawn(async move {
        asked_to_end().await;
        signalled.cancel();
    });
    let application = Arc::<Application>::default();
    let _client = Client::from_environment(application.functions(end.clone()), true).await?;
    serve(listener, application, end).await
}

/// Serves until `end` is cancelled.
async fn serve(listener: TcpListener, application: Arc<Application>, end: CancellationToken) -> io::Result<()> {
    say(format!("listening on {}", listener.local_addr()?));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok((stream, address)), Ok(place)) => {
                // A connection from an address on the blacklist, or to a server that drains, is closed at once.
                let Some(connected) = application.connected(address) else { continue };
                tokio::spawn(end.clone().run_until_cancelled_owned(async move {
                    let _place = place;
                    // A connection that fails concerns its client alone.
                    let _ = answer(stream, &connected).await;
                }));
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                // There are usually no file descriptors left, so trying again at once would only spin.
                say(format!("cannot accept a connection: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    say("ending");
    Ok(())
}

/// Prints a line. One that cannot be printed is lost, because the server goes on without its output.
fn say(text: impl Display) {
    let _ = write_whole(io::stdout(), format!("{text}\n").as_bytes());
}

/// Answers the lines of one connection.
async fn answer(stream: TcpStream, connected: &Connected) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let (mut reader, mut line) = (BufReader::new(reader), Vec::new());
    loop {
        // Dropping a line that is half read does no harm, because the connection then ends.
        match tokio::time::timeout(IDLE, read_line(&mut reader, &mut line, MAX_LINE)).await?? {
            LineRead::Whole => line.push(b'\n'),
            LineRead::Longer | LineRead::End => return Ok(()),
        }
        let said = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        if said == "members" {
            line = format!("{}\n", connected.members()).into_bytes();
        } else if let Some(name) = said.strip_prefix("login ") {
            connected.login(name);
            line = format!("welcome, {name}\n").into_bytes();
        }
        tokio::time::timeout(IDLE, writer.write_all(&line)).await??;
        connected.answered();
    }
}

#[cfg(unix)]
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn asked_to_end() {
    let _ = tokio::signal::ctrl_c().await;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::AsyncBufReadExt;

    use super::*;
    use crate::monitor::application::Embedded;

    /// The answer to a line; empty if the connection was closed.
    async fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> String {
        let mut answer = String::new();
        if stream.write_all(format!("{line}\n").as_bytes()).await.is_ok() {
            let _ = stream.read_line(&mut answer).await;
        }
        answer.trim_end().to_owned()
    }

    #[tokio::test]
    async fn it_answers_lines_and_its_monitor_and_ends_when_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let application = Arc::<Application>::default();
        let functions = application.functions(end.clone());
        let server = tokio::spawn(serve(listener, application, end));
        // The server joins no master, because the test calls what a module would call.
        let joined = Embedded::new("gate-1", "gate", functions).join("127.0.0.1:9").await.unwrap();
        let call = async |name: &str, args: Value| -> Value {
            let answer = joined.application().call(name.into(), crate::wire::raw(&args)).await.unwrap();
            serde_json::from_str(answer.get()).unwrap()
        };

        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        assert_eq!(ask(&mut stream, "hello").await, "hello");
        assert_eq!(ask(&mut stream, "login ann").await, "welcome, ann");
        let server_info = json!({"id": "chat-1"}).as_object().unwrap().clone();
        joined.application().add_servers(vec![server_info]).await.unwrap();
        assert_eq!(ask(&mut stream, "members").await, "chat-1");
        let logins = call("logins", json!({})).await;
        assert_eq!((&logins["totalConnCount"], &logins["loginedList"][0]["uid"]), (&json!(1), &json!("ann")));
        assert_eq!(call("status", json!({})).await["answered"], 3);

        call("set", json!({"key": "color", "value": "red"})).await;
        call("enable", json!({"key": "echo"})).await;
        assert_eq!(call("get", json!({"key": "color"})).await, "red");
        assert_eq!(call("settings", json!({})).await, json!({"color": "red", "echo": true}));

        call("blacklist", json!(["127.0.*.*"])).await;
        let mut refused = BufReader::new(TcpStream::connect(address).await.unwrap());
        assert_eq!(ask(&mut refused, "hello").await, "");

        joined.process().stop().await.unwrap();
        server.await.unwrap().unwrap();
        joined.asked_to_end().await;
        joined.shut_down(Duration::from_secs(5)).await;
    }
}
