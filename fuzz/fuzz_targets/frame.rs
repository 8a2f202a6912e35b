//! The frame decoder of pomelo-admin's wire: any bytes, in any pieces, are packets or refused, and nothing above the limit is waited for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pomelo_fuzz::codec::{OVERHEAD, Packet, Payload, decode, length, put_publish};

fuzz_target!(|input: (u16, &[u8])| {
    let (limit, bytes) = (usize::from(input.0), input.1);
    let mut rest = bytes;
    while let Ok(Some(measured)) = length(rest, limit) {
        assert!(measured.header <= 5 && measured.total <= limit + OVERHEAD + measured.header);
        // What is said of a packet does not change while more of it comes.
        for end in measured.header..measured.total.min(rest.len()) {
            assert_eq!(length(&rest[..end], limit), Ok(Some(measured)));
        }
        let Some(packet) = rest.get(..measured.total) else { return };
        if let Ok(Packet::Publish { topic, payload }) = decode(packet, measured) {
            if let Ok(payload) = Payload::read(payload) {
                again(topic, payload.text().get());
            }
        }
        rest = &rest[measured.total..];
    }
});

/// What was read is sent in both forms, and read as it was.
fn again(topic: &str, text: &str) {
    for quoted in [false, true] {
        // A text that is a JSON string itself would be taken for a quoted one.
        if !quoted && text.starts_with('"') {
            continue;
        }
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        put_publish(&mut out, &mut scratch, topic, text, quoted).unwrap();
        let measured = length(&out, usize::MAX / 2).unwrap().unwrap();
        let Ok(Packet::Publish { topic: read, payload }) = decode(&out, measured) else { panic!("no packet") };
        assert_eq!((read, Payload::read(payload).unwrap().text().get()), (topic, text));
    }
}
