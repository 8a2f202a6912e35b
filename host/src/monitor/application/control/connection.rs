//! The host's side of one connection: reads and answers its lines.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::super::Answer;
use super::message::{self, Message};
use super::outbox::Outbox;
use super::program::ProgramState;
use super::session::Session;
use super::{HELLO_DEADLINE, MAX_INFO, MAX_LINE};
use crate::failure::{Failure, code};
use crate::util::line_reader::{LineRead, read_line};
use crate::wire::{Info, null, raw, shown};

/// What the host offers the program.
const OFFERS: [&str; 4] = ["ready", "info", "offers", "servers"];
/// Members of a server's `info` that come from its registration.
const REGISTERED: [&str; 3] = ["id", "serverType", "pid"];

/// Carries out a call of the program's.
fn answer(session: &Session, program: &ProgramState, name: &str, args: &RawValue) -> Answer {
    let bad = |error: serde_json::Error| Failure::new(code::BAD_MESSAGE, format!("`{name}`: {error}"));
    let replaced = || Failure::new(code::DISCONNECTED, "another connection has taken the place of this one");
    let own = |word: &dyn Fn(&ProgramState)| program.if_current(session, word).ok_or_else(replaced);
    match name {
        "ready" => own(&|program| program.set_ready())?,
        "info" => {
            let info = checked(serde_json::from_str(args.get()).map_err(bad)?)?;
            own(&|program| program.set_info(info.clone()))?;
        }
        "offers" => session.set_offers(serde_json::from_str(args.get()).map_err(bad)?),
        // A call without an id wants no answer. `read` answers the others.
        "servers" => {}
        other => {
            let what = format!("the host does not offer `{}`; it offers: {}", shown(other), OFFERS.join(", "));
            return Err(Failure::new(code::NOT_AVAILABLE, what));
        }
    }
    Ok(null().to_owned())
}

/// Refuses members that a program may not add to its server's `info`.
fn checked(info: Info) -> Result<Info, Failure> {
    let refused = |what: String| Failure::new(code::BAD_MESSAGE, what);
    if let Some(name) = REGISTERED.iter().find(|name| info.contains_key(**name)) {
        return Err(refused(format!(
            "`{name}` of a server's `info` comes from its registration and cannot be changed"
        )));
    }
    let (members, bytes) = MAX_INFO;
    if info.len() > members || raw(&info).get().len() > bytes {
        return Err(refused(format!("`info` has at most {members} members of at most {bytes} bytes together")));
    }
    Ok(info)
}

/// Serves a connection until its end.
pub(super) async fn serve(stream: UnixStream, program: &Arc<ProgramState>, cut: CancellationToken) {
    let (reader, writer) = stream.into_split();
    let outbox = Outbox::new(writer, cut.clone());
    let reading = read(BufReader::new(reader), program, &outbox);
    cut.run_until_cancelled(reading).await;
    outbox.close();
}

async fn read(mut stream: BufReader<impl tokio::io::AsyncRead + Unpin>, program: &Arc<ProgramState>, outbox: &Outbox) {
    let deadline = tokio::time::sleep(HELLO_DEADLINE);
    tokio::pin!(deadline);
    let process = program.process();
    let mut entered: Option<Left> = None;
    let mut line = Vec::new();
    loop {
        let next = tokio::select! {
            next = read_line(&mut stream, &mut line, MAX_LINE) => next,
            () = &mut deadline, if entered.is_none() => {
                let what = format!("`hello` did not come within {} s", HELLO_DEADLINE.as_secs());
                outbox.send(message::answer(null(), &Err(Failure::new(code::TIMEOUT, what))));
                return;
            }
        };
        let read = match next {
            Ok(LineRead::End) | Err(_) => return,
            Ok(LineRead::Longer) => {
                Err(message::Malformed { id: null().to_owned(), why: format!("it is longer than {MAX_LINE} bytes") })
            }
            Ok(LineRead::Whole) if line.trim_ascii().is_empty() => continue,
            Ok(LineRead::Whole) => message::parse(&line),
        };
        let sent = match read {
            Err(malformed) => {
                metrics::counter!("pomelo_control_malformed_total").increment(1);
                tracing::warn!(server = program.id, why = malformed.why, "the program sent a malformed line");
                outbox.send(message::refusal(malformed))
            }
            Ok(Message::Hello(_)) if entered.is_some() => {
                let what = "`hello` is said once; `offers` and `info` can be called later";
                outbox.send(message::answer(null(), &Err(Failure::new(code::BAD_MESSAGE, what))))
            }
            Ok(Message::Hello(hello)) => match checked(hello.info.clone()) {
                Ok(_) => {
                    let number = program.next_number();
                    let session = Session::new(number, process, &program.id, hello.offers.clone(), outbox.clone());
                    let sent = outbox.send(message::welcome(&program.id, &program.server_type));
                    let is_in = program.enter(&session, hello);
                    entered = Some(Left { session, program: program.clone() });
                    sent && is_in
                }
                Err(failure) => outbox.send(message::answer(null(), &Err(failure))),
            },
            Ok(Message::Refused(failure)) => {
                tracing::warn!(server = program.id, %failure, "the program refuses a line");
                continue;
            }
            Ok(Message::Welcome) => continue,
            // The answer is sent while the view is locked, so that it has every change that the program was told before.
            Ok(Message::Call { id: Some(id), name, .. }) if name == "servers" && entered.is_some() => {
                program.view.look(|state| outbox.send(message::answer(id, &Ok(raw(&state.servers)))))
            }
            Ok(Message::Call { id, name, args }) => {
                let outcome = match &entered {
                    Some(Left { session, .. }) => answer(session, program, &name, args),
                    None => Err(Failure::new(code::NOT_REGISTERED, "say `hello` first")),
                };
                match id {
                    Some(id) => outbox.send(message::answer(id, &outcome)),
                    None => {
                        if let Err(failure) = outcome {
                            tracing::warn!(server = program.id, name = %shown(&name), %failure, "a call of the program's failed");
                        }
                        true
                    }
                }
            }
            Ok(Message::Answer { id, outcome }) => {
                let waited = entered.as_ref().is_some_and(|left| left.session.complete(id, outcome));
                if !waited {
                    tracing::debug!(
                        server = program.id,
                        id,
                        "the program's answer came too late, or was not asked for"
                    );
                }
                true
            }
        };
        if !sent {
            return;
        }
    }
}

/// Ends the session when the connection is over, however it ends.
struct Left {
    session: Session,
    program: Arc<ProgramState>,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.session.over();
        self.program.leave(&self.session);
    }
}
