//! The demo cluster's server program: as small as a server can be that shows what a monitor gives it.
//!
//! It listens on its port and answers lines: `members` with the ids of the servers it knows, everything else with the same line. When the
//! view that its monitor keeps for it changes, it says so. It knows nothing of pomelo but the environment variables that a program
//! finds; the cluster's configuration is [`Config::demo`](crate::config::Config::demo).

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How often the view's file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 64;
/// The longest line, bytes.
const MAX_LINE: u64 = 1024;
/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// What the program reads of its view; the rest is there for others.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    servers: Map<String, Value>,
    #[serde(default)]
    start_over: bool,
}

/// Runs the server on 127.0.0.1 until SIGTERM or SIGINT.
///
/// # Errors
/// Where it cannot listen on the port.
pub async fn server(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let end = CancellationToken::new();
    let signalled = end.clone();
    tokio::spawn(async move {
        asked_to_end().await;
        signalled.cancel();
    });
    serve(listener, std::env::var_os("POMELO_CLUSTER").map(PathBuf::from), end).await
}

/// Serves until `end` is cancelled. `view` is the file to read the view from.
async fn serve(listener: TcpListener, view: Option<PathBuf>, end: CancellationToken) -> io::Result<()> {
    println!("listening on {}", listener.local_addr()?);
    let members: Members = Arc::default();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    if let Some(view) = view {
        tokio::spawn(end.clone().run_until_cancelled_owned(follow(view, members.clone())));
    }
    loop {
        let stream = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
        };
        match (stream, places.clone().try_acquire_owned()) {
            (Ok(stream), Ok(place)) => {
                let members = members.clone();
                tokio::spawn(end.clone().run_until_cancelled_owned(async move {
                    let _place = place;
                    // What goes wrong on one connection is that client's matter.
                    let _ = answer(stream, members).await;
                }));
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                // Out of file descriptors, as a rule: trying again at once would only spin.
                println!("cannot accept a connection: {error}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    println!("ending");
    Ok(())
}

type Members = Arc<Mutex<BTreeSet<String>>>;

/// Answers the lines of one connection.
async fn answer(stream: TcpStream, members: Members) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_LINE);
        if tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await?? == 0 || line.last() != Some(&b'\n')
        {
            return Ok(());
        }
        if line.trim_ascii() == b"members" {
            let ids: Vec<String> = members.lock().iter().cloned().collect();
            line = format!("{}\n", ids.join(" ")).into_bytes();
        }
        tokio::time::timeout(IDLE, writer.write_all(&line)).await??;
    }
}

/// Follows the view's file, and says what has changed.
async fn follow(path: PathBuf, members: Members) {
    let mut seen = None;
    let mut over = false;
    loop {
        let stamp = stamp(&path).await;
        if stamp.is_some() && stamp != seen {
            let text = tokio::fs::read(&path).await.unwrap_or_default();
            if let Ok(view) = serde_json::from_slice::<View>(&text) {
                seen = stamp;
                let now: BTreeSet<String> = view.servers.keys().cloned().collect();
                let before = std::mem::replace(&mut *members.lock(), now.clone());
                now.difference(&before).for_each(|id| println!("{id} has joined"));
                before.difference(&now).for_each(|id| println!("{id} has left"));
                if view.start_over && !over {
                    println!("all servers have started");
                }
                over = view.start_over;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What tells one version of the file from another: it is replaced, never changed in place, but may keep its length.
async fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
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
    use super::*;

    #[tokio::test]
    async fn it_echoes_answers_members_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.json");
        std::fs::write(&file, r#"{"self":"a","servers":{"a":{"id":"a"},"b":{"id":"b"}},"startOver":false}"#).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let server = tokio::spawn(serve(listener, Some(file.clone()), end.clone()));
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut ask = async |line: &str| {
            stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_line(&mut answer).await.unwrap();
            answer.trim_end().to_owned()
        };
        assert_eq!(ask("hello").await, "hello");
        members_become(&mut ask, "a b").await;
        std::fs::write(dir.path().join("new"), r#"{"self":"a","servers":{"c":{},"d":{}},"startOver":true}"#).unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        members_become(&mut ask, "c d").await;
        end.cancel();
        server.await.unwrap().unwrap();
    }

    async fn members_become(ask: &mut impl AsyncFnMut(&str) -> String, expected: &str) {
        let become_so = async {
            while ask("members").await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), become_so).await.expect("the view is followed");
    }
}
