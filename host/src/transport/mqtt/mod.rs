//! pomelo-admin 1.x's transport: packets of MQTT 3.1.1 (or 3.1) on plain TCP.
//!
//! The transport uses only MQTT's framing. After CONNECT and CONNACK every frame is a PUBLISH with QoS 0, in both directions, whose topic is the frame's.
//! Nobody subscribes. A pomelo server sends PINGREQ once a minute; without an answer it closes the connection and never comes back. DISCONNECT ends a
//! session in order. Some payloads travel as JSON text inside a JSON string ([`Frame::quoted`](super::Frame)). Both forms are accepted.

mod batch;
pub mod client;
pub mod codec;
mod input;
mod output;
mod reader;
pub(super) mod server;
