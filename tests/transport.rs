//! The transports with real sockets and real peers: our own client and server with each other, npm's `socket.io-client` against our server,
//! and the reference `socket.io` server against our client.

#[path = "transport/admin_client.rs"]
mod admin_client;
#[path = "transport/hostile.rs"]
mod hostile;
#[path = "transport/memory.rs"]
mod memory;
#[path = "transport/mqtt_client.rs"]
mod mqtt_client;
#[path = "transport/ours.rs"]
mod ours;
#[path = "transport/reference.rs"]
mod reference;
#[path = "transport/support.rs"]
mod support;
