//! What happens to the processes that the starter has begun: monitors, and servers of pomelo 2.x.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::fleet::{End, Fleet, Happening, Input, LastExit};
use crate::monitor::GIVEN_UP;
use crate::supervise::{Exit, Happened, How, TURN, Watcher};

/// Why a server has failed whose monitor could not say it.
const UNTOLD: &str = "its program has ended, and its monitor could not tell the master how; its log has the last lines";

/// A watcher that tells the fleet, and then another watcher. `what` is the subject of its sentences: `its monitor`, or `it` for a server that has none.
pub fn feed(fleet: Arc<Fleet>, id: String, what: &'static str, then: Watcher) -> Watcher {
    Arc::new(move |happened| {
        match happened {
            // It is wanted up as before, and there is more to say of it.
            Happened::Waits => fleet.input(&id, None, Input::Up, Happening::why(TURN)),
            Happened::Started { .. } => fleet.input(&id, None, Input::Launched, Happening::default()),
            Happened::Ended { exit, back, .. } => {
                let (end, mut happening) = ended(exit, *back, what);
                // The monitor says how its program has ended, and the fleet keeps that, unless it ends before it has reached the master.
                if given_up(exit) {
                    happening.why = UNTOLD.to_owned();
                }
                fleet.input(&id, None, Input::Exited(end), happening);
            }
        }
        then(happened);
    })
}

/// Whether a monitor has ended because its program had ended for good.
fn given_up(exit: &Exit) -> bool {
    exit.how == How::Code(i32::from(GIVEN_UP))
}

fn ended(exit: &Exit, back: bool, what: &str) -> (End, Happening) {
    let end = match exit.how {
        _ if back => End::Again,
        How::Code(0) => End::Clean,
        _ => End::Final,
    };
    let how = match &exit.how {
        _ if given_up(exit) => return (end, Happening::default()),
        How::NotStarted(why) => why.clone(),
        how => format!("{what} {how}"),
    };
    let time = exit.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let time = u64::try_from(time).unwrap_or(u64::MAX);
    let last = LastExit { how: how.clone(), time, lines: exit.last_lines.clone(), id: 0 };
    (end, Happening { why: how, exit: Some(last), ..Happening::default() })
}
