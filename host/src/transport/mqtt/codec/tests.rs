use super::*;
use proptest::prelude::*;

/// The packet at the front, and what follows it.
fn take(bytes: &[u8], limit: usize) -> Result<Option<(Packet<'_>, &[u8])>, Bad> {
    match length(bytes, limit)? {
        Some(length) if bytes.len() >= length.total => {
            Ok(Some((decode(&bytes[..length.total], length)?, &bytes[length.total..])))
        }
        _ => Ok(None),
    }
}

#[test]
fn both_protocol_names_connect_and_others_do_not() {
    let check = |bytes: &[u8], expected| assert_eq!(take(bytes, 0), expected, "{bytes:?}");
    let hello = Ok(Some((Packet::Connect { keep_alive: 0 }, &[][..])));
    check(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc", hello);
    let hello = Ok(Some((Packet::Connect { keep_alive: 60 }, &[][..])));
    check(b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", hello);
    check(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00", Err(Bad::Protocol));
    check(b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00", Err(Bad::Protocol));
    check(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00", Err(Bad::Content("CONNECT")));
    check(b"\x10\x04\x00\x04MQ", Err(Bad::Content("CONNECT")));
    let mut ours = Vec::new();
    put_connect(&mut ours, "MQTT_ADMIN_1795355027631", 0);
    assert!(matches!(take(&ours, 0), Ok(Some((Packet::Connect { keep_alive: 0 }, [])))), "{ours:?}");
}

#[test]
fn what_is_refused_is_refused_by_its_first_bytes() {
    for first in [0x32, 0x34, 0x36, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xa2, 0xb0, 0xf0, 0x00, 0x11, 0xc1] {
        assert_eq!(length(&[first], 1 << 20), Err(Bad::Header(first)));
    }
    assert_eq!(length(b"\x30\xff\xff\xff\xff", usize::MAX), Err(Bad::Length));
    let size = Bad::Size { length: 1000 + OVERHEAD + 1, limit: 1000 };
    assert_eq!(length(&[0x30, 0xe9, 0x08], 1000), Err(size));
    assert_eq!(length(&[0x30, 0xe8], 1000), Ok(None));
    assert_eq!(length(&[0x30, 0xe8, 0x08], 1000), Ok(Some(Length { header: 3, total: 1131 })));
    assert_eq!(take(b"\x30\x01\x00", 9), Err(Bad::Content("PUBLISH")));
    assert_eq!(take(b"\x30\x03\x00\x02a", 9), Err(Bad::Content("PUBLISH")));
    assert_eq!(take(b"\xc0\x01\x00", 9), Err(Bad::Content("PINGREQ")));
}

#[test]
fn payloads_are_taken_in_both_forms() {
    let check = |payload: &str, expected: &str| {
        assert_eq!(Received::read(payload.as_bytes()).unwrap().text().get(), expected, "{payload}");
    };
    check(r#"{"moduleId":"m"}"#, r#"{"moduleId":"m"}"#);
    check(r#""{\"respId\":1,\"error\":1}""#, r#"{"respId":1,"error":1}"#);
    for bad in ["", "{", "\"{\"", "\"x", "{}{}", "\"\\ud800\""] {
        assert!(matches!(Received::read(bad.as_bytes()), Err(Bad::Payload(_))), "{bad}");
    }
    assert!(Received::read(b"\"\xff\"").is_err() && Received::read(b"\xff").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_refused(bytes: Vec<u8>, limit in 0usize..300) {
        let mut rest = &bytes[..];
        while let Ok(Some((packet, after))) = take(rest, limit) {
            if let Packet::Publish { payload, .. } = packet {
                prop_assert!(payload.len() <= limit + OVERHEAD);
                let _ = Received::read(payload);
            }
            prop_assert!(after.len() < rest.len());
            rest = after;
        }
    }

    #[test]
    fn frames_arrive_as_they_were_sent(topic in "[a-z_]{0,64}", text: String, quoted: bool) {
        let payload = serde_json::to_string(&serde_json::json!({ "text": text })).unwrap();
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        put_publish(&mut out, &mut scratch, &topic, &payload, quoted).unwrap();
        out.extend_from_slice(&PINGREQ);
        let limit = 2 * payload.len() + 9;
        for end in 0..out.len() - 2 {
            prop_assert_eq!(take(&out[..end], limit), Ok(None));
        }
        let Ok(Some((Packet::Publish { topic: got, payload: carried }, rest))) = take(&out, limit) else {
            return Err(TestCaseError::fail("no packet"));
        };
        prop_assert_eq!((got, rest), (&*topic, &PINGREQ[..]));
        let read = Received::read(carried).unwrap();
        prop_assert_eq!(read.text().get(), payload);
    }
}
