//! Peers that do what they must not, each for a bounded amount of work. What they are answered does not matter: what matters is what becomes of the others.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pomelo_host::wire::{Topic, raw};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::Registered;
use crate::plan::Role;
use crate::random::Random;

/// Connections of strangers at a time.
const STRANGERS: usize = 40;
/// Messages of one who has registered.
const MESSAGES: usize = 200;
/// How long a hostile peer stays after it has said what it has to say.
const STAYS: Duration = Duration::from_secs(1);

/// No two monitors have one id.
static MONITORS: AtomicUsize = AtomicUsize::new(0);

/// Does what that role can do.
pub async fn attack(role: Role, master: SocketAddr, seed: u64) {
    match role {
        Role::Stranger => {
            let attackers =
                (0..STRANGERS).map(|number| stranger(master, number, Random(seed.wrapping_add(number as u64))));
            futures_util::future::join_all(attackers).await;
        }
        Role::User => user(master).await,
        Role::Monitor => monitor(master).await,
    }
}

/// Begins something and does not end it, or sends anything.
async fn stranger(master: SocketAddr, number: usize, mut random: Random) {
    let Ok(mut stream) = TcpStream::connect(master).await else { return };
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let poll = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bytes = match number % 6 {
        0 => b"G".to_vec(),
        1 => b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ".to_vec(),
        2 => b"\x10\x0e\x00\x06MQ".to_vec(),
        3 => (0..4096).map(|_| (random.number() & 0xff) as u8).collect(),
        4 => [upgrade.as_bytes(), b"\x81\xfe\xff\xff\0\0\0\x00420["].concat(),
        _ => poll.repeat(20).into_bytes(),
    };
    let talk = async {
        let _ = stream.write_all(&bytes).await;
        let mut said = [0; 4096];
        while stream.read(&mut said).await.is_ok_and(|read| read > 0) {}
    };
    // It leaves by itself where the master lets it stay.
    let _ = tokio::time::timeout(STAYS, talk).await;
}

/// Asks for what needs level 1, sends what nobody can take, and registers as a monitor would.
async fn user(master: SocketAddr) {
    let user = Registered::user(master, &format!("user-{}", MONITORS.fetch_add(1, Ordering::Relaxed))).await;
    let wishes = [
        ("__console__", json!({"signal": "stop", "ids": ["chat-1"]})),
        ("__console__", json!({"signal": "kill"})),
        ("__console__", json!({"signal": "list", "padding": "x".repeat(32 << 10)})),
        ("__console__", json!({"signal": 5, "ids": {"a": []}})),
        ("__masterwatcher__", json!({"action": "record", "id": "chat-1"})),
        ("misbehave", json!({"do": "trap"})),
        ("misbehave", json!({"do": "not-json"})),
        ("echo", json!((0..60).fold(Value::Null, |inner, _| json!([inner])))),
        ("\u{202e}", Value::Null),
    ];
    for (number, (module, body)) in wishes.iter().cycle().take(MESSAGES).enumerate() {
        // It may be cut.
        let _ = user.request(Topic::Client, number, module, body);
    }
    let _ = user
        .peer
        .send(Topic::Register, raw(&json!({"type": "client", "id": "again", "username": "admin", "password": "no"})));
    tokio::time::sleep(STAYS).await;
    user.peer.cut("its time is over");
}

/// Joins as a server, floods the watchdog, answers nothing, and says that it is somebody else.
async fn monitor(master: SocketAddr) {
    let ghost = Registered::monitor(master, &format!("ghost-{}", MONITORS.fetch_add(1, Ordering::Relaxed))).await;
    let padding = "x".repeat(4 << 10);
    for number in 0..MESSAGES {
        let action = ["record", "subscribe", "unsubscribe", "no-such-action"][number % 4];
        let _ = ghost.notify(
            Topic::Monitor,
            "__masterwatcher__",
            &json!({"action": action, "id": "chat-1", "padding": padding}),
        );
    }
    let forged = json!({"type": "monitor", "id": "chat-1", "serverType": "gate", "pid": 1, "info": {"id": "chat-1"}});
    let _ = ghost.peer.send(Topic::Reconnect, raw(&forged));
    tokio::time::sleep(STAYS).await;
    ghost.peer.cut("its time is over");
}
