//! The transports with real sockets and real peers: our own client and server with each other, npm's `socket.io-client` against our server,
//! and the reference `socket.io` server against our client.

mod admin_client;
mod hostile;
mod memory;
mod mqtt_client;
mod ours;
mod reference;
mod strangers;
mod support;
mod tls;
