//! What somebody can do who has not registered, and what a user of level 2 can do by logging in.
//!
//! Each attacker opens again what the master closes. The operator comes from the address of the flood, unless the test says otherwise.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pomelo_host::auth::hash_password;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use crate::support::{Cluster, SETTINGS, eventually, two_chats};
use crate::target::Target;

/// Where the operator is.
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Another address of this machine.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// Connections that the master serves at a time, so that few are many.
const CONNECTIONS: usize = 400;
/// Connections that attackers want to hold at a time.
const FLOOD: usize = CONNECTIONS + 50;

/// How long an attacker waits before it comes again.
const AGAIN: Duration = Duration::from_secs(1);

/// How many times larger an attack is than with the test command: for measuring it with as many connections as a master serves by default.
fn scale() -> usize {
    std::env::var("POMELO_ATTACK_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

/// A master whose users have hashed passwords, as `pomelo init` writes them. The operator has logged in before.
fn target() -> Target {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let settings = format!("{SETTINGS}[network]\nmax_connections = {}\n", CONNECTIONS * scale());
    let user = |name: &str, level| json!({"id": name, "username": name, "password": hash_password(name).unwrap(), "level": level});
    let users = json!([user("admin", 1), user("monitor", 2)]).to_string();
    Target::of(|| {
        let mut cluster = Cluster::configured(two_chats(), &settings);
        cluster.write("adminUser.json", &users);
        cluster.host("start", &[]);
        cluster
    })
}

/// Attackers, until it is dropped.
struct Flood {
    runtime: Runtime,
    done: Arc<AtomicUsize>,
}

impl Flood {
    /// So many attackers at a time, each doing the same again and again. What they do fails where the master closes them, and counts as done.
    fn of<F>(count: usize, attack: impl Fn(usize) -> F + Send + Sync + 'static) -> Flood
    where
        F: Future<Output = io::Result<()>> + Send,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (attack, done) = (Arc::new(attack), Arc::new(AtomicUsize::new(0)));
        for number in 0..count {
            let (attack, done) = (attack.clone(), done.clone());
            runtime.spawn(async move {
                for round in 0.. {
                    let _ = attack(number + round * count).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        Flood { runtime, done }
    }

    /// Waits until attackers have been closed and have come again: until then there were not enough of them.
    fn stands(&self, rounds: usize) {
        eventually("the attack stands", || (self.done.load(Ordering::Relaxed) >= rounds).then_some(()));
    }

    fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// While the attack stands: level 1 stops a server, and the other one stays.
fn holds(target: &Target, flood: Flood) {
    let before = target.peak_mib();
    for round in 0..3 {
        let begun = Instant::now();
        let stopped = target.stop("chat-1");
        eprintln!("stop: {:?}", begun.elapsed());
        assert_eq!(stopped.code, Some(0), "{round}: {stopped:?}");
        let started = target.cluster.ask(&["restart", "chat-1"]);
        assert_eq!(started.code, Some(0), "{round}: {started:?}");
    }
    let done = flood.done.load(Ordering::Relaxed);
    flood.end();
    let listed = target.cluster.list();
    assert_eq!(listed["chat-2"]["state"], "running", "{listed}");
    eprintln!("attacks: {done}; memory: {} MiB before, {} MiB at most", before, target.peak_mib());
    target.held();
}

async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if from != HERE {
        socket.bind((from, 0).into())?;
    }
    socket.connect(to).await
}

/// Sends bytes, and then nothing until the master closes the connection.
async fn hold(from: IpAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(from, to).await?;
    stream.write_all(bytes).await?;
    let mut said = [0; 1024];
    while stream.read(&mut said).await? > 0 {}
    Ok(())
}

/// Reads until the text has come; all that came.
async fn until(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    let mut said = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&said);
        if so_far.contains(text) {
            return Ok(so_far.into_owned());
        }
        if stream.read_buf(&mut said).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A text message of a WebSocket, masked with zeros; `missing` bytes of it are announced and not there.
fn message(text: &str, missing: usize) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() + missing {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// A connection that has joined the namespace.
async fn join(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(from, to).await?;
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await?;
    until(&mut stream, "\"sid\"").await?;
    stream.write_all(&message("40", 0)).await?;
    until(&mut stream, "40{").await?;
    Ok(stream)
}

/// Logs in; what the master says of it.
async fn log_in(from: IpAddr, to: SocketAddr, user: &str, password: &str) -> io::Result<String> {
    let mut stream = join(from, to).await?;
    let register = json!(["register", {"type": "client", "id": "flood", "username": user, "password": password}]);
    stream.write_all(&message(&format!("420{register}"), 0)).await?;
    until(&mut stream, "430[").await
}

const HALF_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ";

#[test]
fn connections_that_send_a_byte() {
    for from in [HERE, ELSEWHERE] {
        let target = target();
        let to = target.address();
        let flood = Flood::of(FLOOD * scale(), move |_| hold(from, to, b"G"));
        flood.stands(FLOOD * scale());
        holds(&target, flood);
    }
}

#[test]
fn half_heads_of_requests() {
    let target = target();
    let to = target.address();
    let flood = Flood::of(FLOOD * scale(), move |_| hold(HERE, to, HALF_HEAD));
    flood.stands(FLOOD * scale());
    holds(&target, flood);
}

/// Begins a session that polls; its id, or that it is refused.
async fn poll(stream: &mut TcpStream) -> io::Result<Option<String>> {
    stream.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let said = until(stream, "}").await?;
    Ok(said.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned))
}

#[test]
fn bodies_of_polling_sessions_that_never_come() {
    let target = target();
    let to = target.address();
    let last = Arc::new(std::sync::Mutex::new(String::new()));
    let flood = Flood::of(FLOOD * scale(), move |_| {
        let last = last.clone();
        async move {
            let mut stream = connect(HERE, to).await?;
            // One that is refused a session sends a body to that of another.
            let own = poll(&mut stream).await?;
            let sid = {
                let mut last = last.lock().unwrap();
                own.inspect(|sid| last.clone_from(sid)).unwrap_or_else(|| last.clone())
            };
            let head = format!(
                "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n4"
            );
            stream.write_all(head.as_bytes()).await?;
            while stream.read(&mut [0; 1024]).await? > 0 {}
            Ok(())
        }
    });
    flood.stands(FLOOD * scale());
    holds(&target, flood);
}

#[test]
fn handshakes_of_polling_sessions_over_a_few_connections() {
    let target = target();
    let to = target.address();
    let [begun, refused] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let counts = [begun.clone(), refused.clone()];
    let flood = Flood::of(4, move |_| {
        let counts = counts.clone();
        async move {
            let mut stream = connect(HERE, to).await?;
            loop {
                let own = poll(&mut stream).await?;
                counts[usize::from(own.is_none())].fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let handshakes = || begun.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed);
    eventually("the attack stands", || (handshakes() >= 2000 * scale()).then_some(()));
    holds(&target, flood);
    let (begun, refused) = (begun.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    eprintln!("sessions: {begun}, refused: {refused}");
    assert!(refused > begun, "{begun} sessions have begun, {refused} were refused");
}

#[test]
fn peers_that_join_and_send_half_a_registration() {
    let target = target();
    let to = target.address();
    let flood = Flood::of(FLOOD * scale(), move |_| async move {
        let mut stream = join(HERE, to).await?;
        stream.write_all(&message(&"x".repeat(15 << 10), 1 << 10)).await?;
        while stream.read(&mut [0; 1024]).await? > 0 {}
        Ok(())
    });
    flood.stands(FLOOD * scale() / 2);
    holds(&target, flood);
}

#[test]
fn introductions_on_pomelos_wire_that_are_not_completed() {
    let target = target();
    let to = target.address();
    let flood = Flood::of(FLOOD * scale(), move |_| hold(HERE, to, b"\x10\x0e\x00\x06MQ"));
    flood.stands(FLOOD * scale());
    holds(&target, flood);
}

/// Attackers that log in again and again, over 350 connections at a time.
fn logins(from: IpAddr, who: impl Fn(usize) -> (String, String) + Send + Sync + Copy + 'static) {
    let target = target();
    let to = target.address();
    let flood = Flood::of(350, move |number| async move {
        let (user, password) = who(number);
        log_in(from, to, &user, &password).await.map(drop)
    });
    flood.stands(350);
    holds(&target, flood);
}

#[test]
fn wrong_logins_under_many_names() {
    for from in [HERE, ELSEWHERE] {
        logins(from, |number| (format!("user-{number}"), "wrong".into()));
    }
}

#[test]
fn wrong_logins_for_a_user_that_there_is() {
    logins(HERE, |_| ("monitor".into(), "wrong".into()));
}

#[test]
fn right_logins_of_level_2() {
    for from in [HERE, ELSEWHERE] {
        logins(from, |_| ("monitor".into(), "monitor".into()));
    }
}
