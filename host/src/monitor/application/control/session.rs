//! The host's side of one connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::RwLock;
use serde_json::value::RawValue;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::super::{Answer, MAX_CALLS, late};
use super::message::{self, Message, Offers};
use super::outbox::Outbox;
use super::server::Shared;
use super::{HELLO_DEADLINE, MAX_INFO, MAX_LINE};
use crate::exchange::Pending;
use crate::failure::{Failure, code};
use crate::util::line_reader::{LineRead, read_line};
use crate::wire::{Info, null, raw, shown};

/// What the host offers the program.
const OFFERS: [&str; 4] = ["ready", "info", "offers", "servers"];
/// Members of a server's `info` that come from its registration.
const REGISTERED: [&str; 3] = ["id", "serverType", "pid"];

/// A connection that has said `hello`. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Session(Arc<Inner>);

struct Inner {
    number: u64,
    /// Which process of the program was running when it connected.
    process: u64,
    /// Whose it is, for the log.
    id: String,
    offers: RwLock<BTreeSet<String>>,
    outbox: Outbox,
    pending: Pending,
}

impl Session {
    pub(super) fn offers(&self) -> Vec<String> {
        self.0.offers.read().iter().cloned().collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.offers.read().contains(name)
    }

    /// Which process of the program was running when this was made.
    pub(super) fn process(&self) -> u64 {
        self.0.process
    }

    pub(super) fn is(&self, other: &Session) -> bool {
        self.0.number == other.0.number
    }

    /// Calls a function of the program's; on its way when this returns.
    pub(super) fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer> {
        let waiting = match self.0.pending.wait() {
            Ok(waiting) => waiting,
            Err(failure) => return ready(Err(failure)).boxed(),
        };
        if !self.0.outbox.send(message::call(waiting.id, name, args)) {
            let what = "the program is not connected to its control socket any more";
            return ready(Err(Failure::new(code::DISCONNECTED, what))).boxed();
        }
        let (name, begun) = (name.to_owned(), Instant::now());
        async move {
            let answer = match tokio::time::timeout(deadline, waiting).await {
                Ok(answer) => answer,
                Err(_) => Err(late(&name, deadline)),
            };
            metrics::histogram!("pomelo_control_call_seconds").record(begun.elapsed());
            answer
        }
        .boxed()
    }

    /// Ends the connection.
    pub(super) fn close(&self, why: &str) {
        self.0.pending.fail_all(&Failure::new(code::DISCONNECTED, why.to_owned()));
        let failure = Failure::new(code::DISCONNECTED, why.to_owned());
        self.0.outbox.send(message::answer(null(), &Err(failure)));
        self.0.outbox.close();
    }

    /// Does what the program calls for.
    fn serve(&self, shared: &Shared, name: &str, args: &RawValue) -> Answer {
        let bad = |error: serde_json::Error| Failure::new(code::BAD_MESSAGE, format!("`{name}`: {error}"));
        let replaced = || Failure::new(code::DISCONNECTED, "another connection has taken the place of this one");
        let own = |word: &dyn Fn(&Shared)| shared.if_current(self, |shared| word(shared)).ok_or_else(replaced);
        match name {
            "ready" => own(&|shared| shared.set_ready())?,
            "info" => {
                let info = checked(serde_json::from_str(args.get()).map_err(bad)?)?;
                own(&|shared| shared.set_info(info.clone()))?;
            }
            "offers" => *self.0.offers.write() = serde_json::from_str::<Offers>(args.get()).map_err(bad)?.0,
            // Whoever gives no id wants no answer; see `read` for those who do.
            "servers" => {}
            other => {
                let what = format!("the host does not offer `{}`; it offers: {}", shown(other), OFFERS.join(", "));
                return Err(Failure::new(code::NOT_AVAILABLE, what));
            }
        }
        Ok(null().to_owned())
    }
}

/// What a program may add to its server's `info`.
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
pub(super) async fn serve(stream: UnixStream, shared: &Arc<Shared>, cut: CancellationToken) {
    let (reader, writer) = stream.into_split();
    let outbox = Outbox::new(writer, cut.clone());
    let reading = read(BufReader::new(reader), shared, &outbox);
    cut.run_until_cancelled(reading).await;
    outbox.close();
}

async fn read(mut stream: BufReader<impl tokio::io::AsyncRead + Unpin>, shared: &Arc<Shared>, outbox: &Outbox) {
    let deadline = tokio::time::sleep(HELLO_DEADLINE);
    tokio::pin!(deadline);
    let process = shared.process();
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
                tracing::warn!(server = shared.id, why = malformed.why, "the program sent a malformed line");
                outbox.send(message::refusal(malformed))
            }
            Ok(Message::Hello(_)) if entered.is_some() => {
                let what = "`hello` is said once; `offers` and `info` can be called later";
                outbox.send(message::answer(null(), &Err(Failure::new(code::BAD_MESSAGE, what))))
            }
            Ok(Message::Hello(hello)) => match checked(hello.info.clone()) {
                Ok(_) => {
                    let session = Session(Arc::new(Inner {
                        number: shared.next_number(),
                        process,
                        id: shared.id.clone(),
                        offers: RwLock::new(hello.offers.0.clone()),
                        outbox: outbox.clone(),
                        pending: Pending::new(MAX_CALLS),
                    }));
                    let sent = outbox.send(message::welcome(&shared.id, &shared.server_type));
                    let is_in = shared.enter(&session, hello);
                    entered = Some(Left { session, shared: shared.clone() });
                    sent && is_in
                }
                Err(failure) => outbox.send(message::answer(null(), &Err(failure))),
            },
            Ok(Message::Refused(failure)) => {
                tracing::warn!(server = shared.id, %failure, "the program refuses a line");
                continue;
            }
            Ok(Message::Welcome) => continue,
            // Sent while nobody changes the view, so that no change which is told before is missing in it.
            Ok(Message::Call { id: Some(id), name, .. }) if name == "servers" && entered.is_some() => {
                shared.view.look(|state| outbox.send(message::answer(id, &Ok(raw(&state.servers)))))
            }
            Ok(Message::Call { id, name, args }) => {
                let outcome = match &entered {
                    Some(Left { session, .. }) => session.serve(shared, &name, args),
                    None => Err(Failure::new(code::NOT_REGISTERED, "say `hello` first")),
                };
                match id {
                    Some(id) => outbox.send(message::answer(id, &outcome)),
                    None => {
                        if let Err(failure) = outcome {
                            tracing::warn!(server = shared.id, name = %shown(&name), %failure, "a call of the program's failed");
                        }
                        true
                    }
                }
            }
            Ok(Message::Answer { id, outcome }) => {
                let waited = entered.as_ref().is_some_and(|left| left.session.0.pending.complete(id, outcome));
                if !waited {
                    tracing::debug!(server = shared.id, id, "the program's answer came too late, or was not asked for");
                }
                true
            }
        };
        if !sent {
            return;
        }
    }
}

/// Takes the connection out when it is over, however it ends.
struct Left {
    session: Session,
    shared: Arc<Shared>,
}

impl Drop for Left {
    fn drop(&mut self) {
        let id = &self.session.0.id;
        let what = format!("the program of {id} has closed its control socket");
        self.session.0.pending.fail_all(&Failure::new(code::DISCONNECTED, what));
        self.shared.leave(&self.session);
    }
}
