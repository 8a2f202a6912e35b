//! pomelo-admin 1.x's transport: packets of MQTT 3.1.1 (or 3.1) on plain TCP.
//!
//! Of MQTT it has the framing alone. After CONNECT and CONNACK everything is a PUBLISH with QoS 0, both ways, whose topic is the frame's; nobody
//! subscribes. PINGREQ comes once a minute and must be answered, or a pomelo server closes and never comes back. DISCONNECT ends a session in order.
//! Some payloads travel as JSON text inside a JSON string ([`Frame::quoted`](super::Frame)); what comes is taken in both forms.

pub mod client;
pub mod codec;
mod input;
mod output;
mod reader;
pub(super) mod server;
