//! The envelope: any JSON text is a message or refused, and what is answered to it is a message again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pomelo_fuzz::envelope::{Message, Response, raw};
use pomelo_fuzz::failure::Failure;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let Ok(payload) = serde_json::from_str::<&RawValue>(text) else { return };
    let id = match Message::parse(payload) {
        Ok(Message::Request { id, .. } | Message::Command { id: Some(id), .. }) => id,
        _ => return,
    };
    for outcome in [Ok(raw(&1)), Err(Failure::new("busy", "later"))] {
        let answer = raw(&Response::new(&id, &outcome));
        let Ok(Message::Response { outcome: read, .. }) = Message::parse(&answer) else { panic!("{answer}") };
        assert_eq!(read.is_ok(), outcome.is_ok());
    }
});
