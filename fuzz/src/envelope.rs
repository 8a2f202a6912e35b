//! The envelope. Any payload, as JSON or as text in a JSON string, is a message or is refused. Its answer is a message again and is read as it was
//! meant. A registration that is written and read again stays the same, and shows no secret in a log.

use crate::failure::Failure;
use crate::mqtt::codec::Received;
use crate::wire::{Message, Register, ReqId, Response, ResponseInError, check_id, raw, shown};
use serde_json::value::RawValue;

/// Reads the bytes.
pub fn run(input: &[u8]) {
    let Ok(payload) = Received::read(input) else { return };
    if let Ok(register) = serde_json::from_str::<Register>(payload.text().get()) {
        registers(register);
    }
    match Message::parse(payload.text()) {
        Ok(Message::Request { id, .. } | Message::Command { id: Some(id), .. }) => answers(&id),
        // An answer that is passed on is an answer again.
        Ok(Message::Response { outcome, .. }) => {
            serde_json::from_str::<&RawValue>(raw(&outcome.unwrap_or_else(|failure| raw(&failure))).get()).unwrap();
        }
        _ => {}
    }
}

fn answers(id: &ReqId) {
    for outcome in [Ok(raw(&1)), Err(Failure::new("busy", "later"))] {
        let answer = raw(&Response::new(id, &outcome));
        let Ok(Message::Response { outcome: read, .. }) = Message::parse(&answer) else { panic!("{answer}") };
        match (read, outcome) {
            (Ok(read), Ok(told)) => assert_eq!(read.get(), told.get()),
            (read, told) => assert_eq!(read.err(), told.err()),
        }
    }
    for (answer, done) in [(raw(&1), true), (raw(&0), false)] {
        let answer = raw(&ResponseInError { resp_id: id, error: &answer });
        let Ok(Message::Response { outcome, .. }) = Message::parse(&answer) else { panic!("{answer}") };
        assert_eq!(outcome.is_ok(), done);
    }
}

fn registers(register: Register) {
    if check_id(&register.id).is_ok() {
        assert_eq!(shown(&register.id), register.id, "an id is shown as it is");
    }
    assert!(!shown(&register.id).contains(crate::util::visible::steers));
    let (told, shown) = (serde_json::to_string(&register).unwrap(), format!("{register:?}"));
    assert!(!shown.contains("password") && !shown.contains("token: "));
    // What is sent on is read as it was, but for the last bit of numbers in `info` that have more digits than a number keeps.
    let again: Register = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&again.id, again.role, &again.server_type, again.pid),
        (&register.id, register.role, &register.server_type, register.pid)
    );
    let members = |register: &Register| register.info.as_ref().map(|info| info.keys().cloned().collect::<Vec<_>>());
    assert_eq!(members(&again), members(&register));
    let plain = register.in_pomelos_form();
    assert!(plain.is_pomelos() && plain.info.is_some_and(|info| info["id"] == plain.id));
}
