//! What happens to a program, written into a journal.

use std::sync::Arc;

use super::{Happened, How, Watcher};
use crate::journal::{Event, Journal, kind};

/// A watcher that records each end and each restart of a program. `what` is the subject of the sentences, such as `the program`. With `quiet`, an
/// end that was asked for or had code 0 is not recorded.
pub fn recorder(journal: Journal, server: String, what: &'static str, quiet: bool) -> Watcher {
    Arc::new(move |happened| {
        if let Some(event) = event(happened, what, quiet) {
            journal.record(event.server(server.clone()));
        }
    })
}

fn event(happened: &Happened<'_>, what: &str, quiet: bool) -> Option<Event> {
    match happened {
        Happened::Started { pid, again: true } => {
            metrics::counter!("pomelo_program_restarts_total").increment(1);
            Some(Event::new(kind::RESTART, format!("{what} runs again, as process {pid}")))
        }
        Happened::Waits | Happened::Started { again: false, .. } => None,
        Happened::Ended { exit, asked, .. } if quiet && (*asked || exit.how == How::Code(0)) => None,
        Happened::Ended { exit, asked, back } => {
            let (kind, then) = match (asked, back) {
                (true, _) => (kind::EXIT, ", as it was asked to"),
                (false, true) => (kind::EXIT, " and is started again"),
                (false, false) if exit.how == How::Code(0) && exit.why.is_none() => {
                    (kind::EXIT, " and is not started again")
                }
                (false, false) => (kind::GIVEN_UP, " and stays down"),
            };
            let message = match &exit.how {
                // `why` says everything, so `then` is left out.
                How::NotStarted(why) => format!("{what} was not started: {why}"),
                how => match &exit.why {
                    Some(why) => format!("{what} was ended, because {why}; it {how}{then}"),
                    None => format!("{what} {how}{then}"),
                },
            };
            let (code, signal) = match exit.how {
                How::Code(code) => (Some(code), None),
                How::Signal(signal) => (None, Some(signal)),
                How::NotStarted(_) => (None, None),
            };
            Some(Event::new(kind, message).exit(code, signal, exit.last_lines.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::Exit;

    #[test]
    fn an_exit_is_told_with_code_and_last_lines_and_what_follows() {
        let last_lines = vec!["no such table".into()];
        let exit = Exit { how: How::Code(7), why: None, time: std::time::SystemTime::now(), last_lines };
        let ended = |asked, back| event(&Happened::Ended { exit: &exit, asked, back }, "the program", false).unwrap();
        let event_ = ended(false, true);
        assert_eq!((&*event_.kind, event_.code, event_.lines.len()), (kind::EXIT, Some(7), 1));
        assert_eq!(event_.message, "the program ended with code 7 and is started again");
        assert_eq!(&*ended(false, false).kind, kind::GIVEN_UP);
        assert_eq!(ended(true, false).message, "the program ended with code 7, as it was asked to");
        let late = Exit { why: Some("nobody listened on h:1 for 60 s".into()), ..exit.clone() };
        let late = event(&Happened::Ended { exit: &late, asked: false, back: true }, "the program", false).unwrap();
        let said =
            "the program was ended, because nobody listened on h:1 for 60 s; it ended with code 7 and is started again";
        assert_eq!(late.message, said);
        assert!(event(&Happened::Ended { exit: &exit, asked: true, back: false }, "the monitor", true).is_none());
        assert!(event(&Happened::Started { pid: 1, again: false }, "the program", false).is_none());
    }
}
