//! One step of a frame's way, done so many times: for a profiler that counts instructions, which says the same on a busy machine as on a quiet one.
//!
//! `tests/bench/count.sh` runs all of them under valgrind, and tells the instructions of each. `count CASE TIMES` is one of them. A module's call is not among
//! them, because the engine reserves more address space than valgrind allows: it is in `call`.

#[path = "../src/transport/socket_io/packet.rs"]
#[allow(dead_code, unused_imports)]
mod packet;
#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;

use pomelo_host::transport::mqtt::codec::{self, Packet, Received};
use pomelo_host::wire::{Message, Request, Response, Topic, raw};
use serde_json::value::RawValue;

/// A case: its name, and what makes the step that is counted.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

const CASES: &[Case] = &[
    ("envelope: read a request", read_request),
    ("envelope: write an answer", write_answer),
    ("pomelo's wire: read a packet", read_packet),
    ("pomelo's wire: write a packet", write_packet),
    ("Socket.IO: read an event", read_event),
    ("Socket.IO: write an event", write_event),
    ("a module in the host's own code", native),
];

fn request() -> Box<RawValue> {
    let body = support::question();
    raw(&Request { req_id: 4711, module_id: "echo", body: Some(&body), depth: 1, trace: None })
}

fn read_request() -> Box<dyn FnMut()> {
    let request = request();
    Box::new(move || {
        black_box(matches!(Message::parse(black_box(&request)), Ok(Message::Request { .. })));
    })
}

fn write_answer() -> Box<dyn FnMut()> {
    let (request, outcome) = (request(), Ok(support::question()));
    Box::new(move || {
        let Ok(Message::Request { id, .. }) = Message::parse(&request) else { panic!("it is a request") };
        black_box(raw(&Response::new(&id, &outcome)));
    })
}

/// A packet as pomelo-admin sends it: its payload is a JSON string.
fn packet() -> Vec<u8> {
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    codec::put_publish(&mut out, &mut scratch, Topic::Client.as_str(), request().get(), true).expect("a packet");
    out
}

fn read_packet() -> Box<dyn FnMut()> {
    let packet = packet();
    Box::new(move || {
        let length = codec::length(black_box(&packet), 1 << 20).expect("a length").expect("a whole packet");
        let Ok(Packet::Publish { payload, .. }) = codec::decode(&packet, length) else { panic!("it is a PUBLISH") };
        black_box(Received::read(payload).expect("JSON").text());
    })
}

fn write_packet() -> Box<dyn FnMut()> {
    let (request, mut out, mut scratch) = (request(), Vec::new(), Vec::new());
    Box::new(move || {
        out.clear();
        let topic = Topic::Client.as_str();
        codec::put_publish(&mut out, &mut scratch, topic, black_box(&request).get(), true).expect("a packet");
        black_box(&out);
    })
}

fn read_event() -> Box<dyn FnMut()> {
    let text = format!("[\"{}\",{}]", Topic::Client.as_str(), request().get());
    let data = socketioxide_core::Value::Str(text.into(), None);
    Box::new(move || {
        black_box(packet::event(black_box(&data)).expect("an event"));
    })
}

fn write_event() -> Box<dyn FnMut()> {
    let request = request();
    Box::new(move || {
        black_box(packet::write_event(Topic::Client.as_str(), black_box(&request)));
    })
}

fn native() -> Box<dyn FnMut()> {
    let question = support::question();
    Box::new(move || {
        black_box(support::native(black_box(&question)));
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, times] = arguments.as_slice() else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let (_, make) = CASES.iter().find(|(case, _)| case == name).expect("a case");
    let mut step = make();
    for _ in 0..times.parse::<usize>().expect("a number") {
        step();
    }
}
