//! pomelo-admin's wire, spoken by hand: what its own programs never send can be sent as well.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// What comes, one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// A PUBLISH: its topic, and its payload with the text that a JSON string carried.
    Frame(String, Value),
    /// A DISCONNECT.
    Goodbye,
    /// A PINGRESP.
    Pong,
    /// The connection was closed.
    Closed,
}

pub struct Wire(TcpStream);

impl Wire {
    /// Connects and is answered.
    pub fn connect(port: u16) -> Wire {
        let mut wire = Wire::open(port);
        wire.raw(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc");
        let mut answer = [0; 4];
        wire.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
        wire
    }

    /// Connects and says nothing.
    pub fn open(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire(stream)
    }

    /// Registers a monitor with its token; what it is sent comes after the answer.
    pub fn monitor(port: u16, id: &str, server_type: &str) -> Wire {
        let mut wire = Wire::connect(port);
        wire.send("register", &monitor(id, server_type, Some("t0ken")));
        assert_eq!(wire.next(), Came::Frame("register".into(), json!({"code": 1, "msg": "ok"})));
        wire
    }

    /// Registers a client.
    pub fn client(port: u16, id: &str, user: &str) -> Wire {
        let mut wire = Wire::connect(port);
        wire.send("register", &json!({"type": "client", "id": id, "username": user, "password": user, "md5": false}));
        let Came::Frame(topic, answer) = wire.next() else { panic!("no answer") };
        assert_eq!((&*topic, &answer["code"]), ("register", &json!(1)));
        wire
    }

    /// Sends bytes. The master may have closed the connection already: the test sees that by what comes, or does not.
    pub fn raw(&mut self, bytes: &[u8]) {
        match self.0.write_all(bytes) {
            Ok(()) => {}
            Err(error) => assert!(is_end(&error), "{error}"),
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        let mut packet = vec![0x30];
        let mut rest = 2 + topic.len() + payload.len();
        loop {
            packet.push((rest & 0x7f) as u8 | if rest > 0x7f { 0x80 } else { 0 });
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(payload);
        self.raw(&packet);
    }

    /// A plain frame.
    pub fn send(&mut self, topic: &str, payload: &Value) {
        self.publish(topic, payload.to_string().as_bytes());
    }

    /// A frame whose payload is encoded twice, as requests and answers are.
    pub fn quoted(&mut self, topic: &str, payload: &Value) {
        self.publish(topic, json!(payload.to_string()).to_string().as_bytes());
    }

    /// A client's request, and its answer; whatever else comes meanwhile is passed over.
    pub fn ask(&mut self, id: u64, module: &str, body: Value) -> Value {
        self.quoted("client", &json!({"reqId": id, "moduleId": module, "body": body}));
        loop {
            match self.next() {
                Came::Frame(_, answer) if answer["respId"] == id => return answer,
                Came::Frame(..) => {}
                other => panic!("an answer was expected, not {other:?}"),
            }
        }
    }

    /// What comes next.
    pub fn next(&mut self) -> Came {
        self.packet().unwrap_or(Came::Closed)
    }

    /// Whether nothing comes for a while.
    pub fn silent(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        matches!(peeked, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// The end, whatever comes before it.
    pub fn ended(&mut self) -> Vec<Came> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Came::Closed => return before,
                other => before.push(other),
            }
        }
    }

    /// All bytes until the end.
    pub fn rest(&mut self, into: &mut Vec<u8>) {
        match self.0.read_to_end(into) {
            Ok(_) => {}
            Err(error) => assert!(is_end(&error), "{error}"),
        }
    }

    fn packet(&mut self) -> Option<Came> {
        let [first] = self.bytes()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let [byte] = self.bytes()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut content = vec![0; length];
        self.read(&mut content)?;
        match first {
            0x30 => {
                let topic = usize::from(u16::from_be_bytes([content[0], content[1]])) + 2;
                let payload: Value = serde_json::from_slice(&content[topic..]).unwrap();
                let payload = payload.as_str().map(|text| serde_json::from_str(text).unwrap()).unwrap_or(payload);
                Some(Came::Frame(String::from_utf8(content[2..topic].to_vec()).unwrap(), payload))
            }
            0xe0 => Some(Came::Goodbye),
            0xd0 => Some(Came::Pong),
            other => panic!("a packet of type {other:#x}"),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Some(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> Option<()> {
        match self.0.read_exact(into) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for a minute")
            }
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether the other side has closed the connection. One that is closed with data unread is reset.
fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// The payload with which a monitor registers.
pub fn monitor(id: &str, server_type: &str, token: Option<&str>) -> Value {
    let info = json!({"id": id, "serverType": server_type, "host": "127.0.0.1", "port": 1});
    let mut payload = json!({"id": id, "type": "monitor", "serverType": server_type, "pid": 1, "info": info});
    if let Some(token) = token {
        payload["token"] = token.into();
    }
    payload
}
