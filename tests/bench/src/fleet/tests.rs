//! A monitor without its socket, which is told what a master tells.

use std::sync::atomic::Ordering::Relaxed;

use super::monitor::{LARGE, Monitor, Shared};
use super::view::{Known, Servers};
use super::{Counts, Species};
use crate::wire::{Frame, Wire};

const MOST: usize = 3000;

struct Told {
    monitor: Monitor,
    known: Known,
    counts: Counts,
    species: Species,
    wire: Wire,
}

impl Told {
    /// A monitor that has been let in.
    fn new(species: Species, wire: Wire) -> Told {
        let monitor = Monitor::new(7, MOST);
        let mut told = Told { monitor, known: Known::default(), counts: Counts::default(), species, wire };
        told.frame(Frame::Ready);
        assert!(told.said().contains("register"));
        told.frame(Frame::Event { topic: b"register", payload: br#"{"code":1,"msg":"ok"}"# });
        assert!(told.said().contains("subscribe"));
        told
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Monitor, &mut Shared<'_>) -> T) -> T {
        let Told { monitor, known, counts, species, wire } = self;
        act(monitor, &mut Shared { counts, known, species: *species, wire: *wire, most: MOST })
    }

    fn frame(&mut self, frame: Frame<'_>) {
        assert!(self.with(|monitor, shared| monitor.frame(shared, frame)));
    }

    fn message(&mut self, text: &str) {
        self.frame(Frame::Event { topic: b"monitor", payload: text.as_bytes() });
    }

    /// The same as a frame that comes in pieces.
    fn in_pieces(&mut self, text: &str) {
        let mut frame = Vec::new();
        self.wire.put_event(&mut frame, "monitor", text, true);
        if self.wire == Wire::SocketIo {
            // A master masks nothing: the bit and the four bytes go.
            frame[1] &= 0x7f;
            let mask = if frame[1] == 127 { 10 } else { 4 };
            frame.drain(mask..mask + 4);
        }
        let length = self.wire.length(&frame).unwrap().unwrap();
        assert!(length.total > LARGE && length.total == frame.len());
        let (begun, rest) = frame.split_at(1000);
        assert!(self.with(|monitor, shared| monitor.begin_large(shared, begun, length)));
        for piece in rest.chunks(777) {
            assert_eq!(self.with(|monitor, shared| monitor.more_large(shared, piece)), piece.len());
        }
        assert!(self.monitor.large.is_none());
    }

    fn said(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.monitor.output)).replace('\\', "")
    }

    fn knows(&self, numbers: impl Iterator<Item = usize>) -> bool {
        let mut all = Servers::none(MOST);
        numbers.for_each(|number| all.insert(number));
        self.monitor.knows(&all)
    }
}

fn table(count: usize) -> String {
    let servers: Vec<String> =
        (0..count).map(|number| format!(r#""bench-{number}":{{"id":"bench-{number}"}}"#)).collect();
    servers.join(",")
}

fn known(answer: usize, rev: usize, count: usize) -> String {
    format!(
        r#"{{"respId":{answer},"error":null,"body":{{"epoch":"e","rev":{rev},"servers":{{{}}},"listener":true,"recorded":true}}}}"#,
        table(count)
    )
}

#[test]
fn a_monitor_of_ours_follows_the_revisions() {
    for wire in [Wire::SocketIo, Wire::Pomelo] {
        let mut told = Told::new(Species::Ours, wire);
        let update = r#"{"reqId":5,"moduleId":"__monitorwatcher__","body":{"action":"update","epoch":"e","rev":4,"since":3,"add":[{"id":"bench-9"}],"remove":["bench-1"]}}"#;
        // It waits for the table.
        told.message(update);
        assert!(told.said().contains(r#""respId":5,"error":null"#));
        told.message(&known(1, 3, 2));
        assert!(told.said().contains("record"));
        assert!(told.knows([0, 9].into_iter()));
        // Something is missing between this one and the view.
        told.message(&update.replace(r#""rev":4,"since":3"#, r#""rev":9,"since":8"#));
        assert!(told.said().contains(r#""action":"query","id":"bench-7","rev":4,"epoch":"e","changes":true"#));
        told.in_pieces(&known(2, 9, 2000));
        assert!(told.knows(0..2000));
        assert_eq!(told.counts.gaps.load(Relaxed), 1);
        // The next one that is given this table does not read it.
        told.monitor = Monitor::new(8, MOST);
        told.frame(Frame::Event { topic: b"register", payload: br#"{"code":1}"# });
        told.in_pieces(&known(1, 9, 2000));
        assert!(told.knows(0..2000));
    }
}

#[test]
fn a_monitor_of_pomelos_follows_the_orders() {
    let mut told = Told::new(Species::Plain, Wire::Pomelo);
    told.message(
        r#"{"reqId":3,"moduleId":"__monitorwatcher__","body":{"action":"addServer","server":{"id":"bench-5"}}}"#,
    );
    assert!(told.said().contains(r#"{"respId":3,"error":1}"#));
    told.in_pieces(&format!(r#"{{"respId":1,"error":null,"body":{{{}}}}}"#, table(2000)));
    told.message(r#"{"reqId":4,"moduleId":"__monitorwatcher__","body":{"action":"removeServer","id":"bench-0"}}"#);
    assert!(told.knows(1..2000));
    told.message(r#"{"reqId":"6","moduleId":"__console__","body":{"signal":"list"}}"#);
    assert!(told.said().contains(r#"{"respId":"6","error":{"serverId":"bench-7""#));
    told.in_pieces(&format!(
        r#"{{"reqId":8,"moduleId":"__monitorwatcher__","body":{{"action":"replaceServer","servers":{{{}}}}}}}"#,
        table(1500)
    ));
    assert!(told.knows(0..1500) && told.said().contains(r#"{"respId":8,"error":1}"#));
}
