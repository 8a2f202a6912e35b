//! The drain of a program: others do not see its server any more, and its connections come to an end.
//!
//! A drain belongs to one process. It ends with that process, when it is taken back, and not when whoever asked for it has gone. When the connections
//! are gone or the time is over, the server stays hidden until it is ended or the drain is taken back, because whoever drains a server ends it next.
//! This part knows the program's state and the way to its functions. It knows neither the master nor the views.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::failure::{Failure, code};
use crate::monitor::application::{Reach, connections, tell_drain, tell_undrain};
use crate::supervise::{Phase, Status};

/// How often a program is asked for its connections.
const ASK: Duration = Duration::from_secs(1);
/// How long a program may take to answer, whatever it is told or asked.
const ANSWER: Duration = Duration::from_secs(5);

/// A program that drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draining {
    /// Tells one drain from another.
    number: u64,
    /// The process that drains.
    pub pid: u32,
    /// The connections that are left; absent until the program has said it.
    pub connections: Option<u64>,
    /// Whether the connections are gone or the time is over.
    over: bool,
}

#[cfg(test)]
impl Draining {
    /// A drain of that process.
    pub fn of(pid: u32) -> Self {
        Draining { number: 0, pid, connections: None, over: false }
    }
}

/// The drains of one program.
pub(super) struct Drains {
    id: String,
    reach: Arc<dyn Reach>,
    status: watch::Receiver<Status>,
    state: Arc<watch::Sender<Option<Draining>>>,
}

impl Drains {
    /// `id` is the server's.
    pub fn new(id: &str, reach: Arc<dyn Reach>, status: watch::Receiver<Status>) -> Self {
        Drains { id: id.to_owned(), reach, status, state: Arc::new(watch::Sender::new(None)) }
    }

    /// The drain; changes are told. It counts only while the process that it names runs.
    pub fn state(&self) -> watch::Receiver<Option<Draining>> {
        self.state.subscribe()
    }

    /// Whether that process drains.
    pub fn drains(&self, pid: Option<u32>) -> bool {
        self.state.borrow().as_ref().is_some_and(|draining| Some(draining.pid) == pid)
    }

    /// Drains the program: at once others are not to see it any more, and it is told. Waits until it has no connections, or has ended, or the time is
    /// over. One that drains already is given the new time.
    ///
    /// # Errors
    /// `not-available` where the program does not run, and where the drain is taken back meanwhile.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Failure> {
        let Phase::Running(pid) = self.status.borrow().phase else {
            let what = format!("the program of {} does not run, so that there is nothing to drain", self.id);
            return Err(Failure::new(code::NOT_AVAILABLE, what));
        };
        let mut state = self.state.subscribe();
        let (mut begun, mut told) = (0, None);
        // The call is put on its way while the state is locked, so that the program is told what happens in its order.
        self.state.send_modify(|state| {
            let before = state.take();
            let connections = before.as_ref().filter(|before| before.pid == pid).and_then(|before| before.connections);
            begun = before.map_or(0, |before| before.number + 1);
            *state = Some(Draining { number: begun, pid, connections, over: false });
            told = tell_drain(&*self.reach, deadline, ANSWER);
        });
        let course = Course {
            id: self.id.clone(),
            reach: self.reach.clone(),
            status: self.status.clone(),
            state: self.state.clone(),
            number: begun,
            pid,
        };
        // A task of its own, because the call that asks for the drain may be cut off.
        tokio::spawn(course.run(Instant::now() + deadline, told));
        let over =
            |state: &Option<Draining>| state.as_ref().is_none_or(|draining| draining.over || draining.pid != pid);
        // The sender is part of this.
        let taken_back = state.wait_for(over).await.is_ok_and(|state| state.is_none());
        if taken_back && self.status.borrow().phase == Phase::Running(pid) {
            return Err(Failure::new(code::NOT_AVAILABLE, format!("the drain of {} was taken back", self.id)));
        }
        Ok(())
    }

    /// Takes a drain back: others see the server again, and its program is told. Does nothing where it does not drain.
    ///
    /// # Errors
    /// Where the program could not be told. Others see the server all the same.
    pub async fn undrain(&self) -> Result<(), Failure> {
        let pid = self.status.borrow().pid();
        let mut told = None;
        self.state.send_if_modified(|state| {
            let Some(draining) = state.take() else { return false };
            told = (Some(draining.pid) == pid).then(|| tell_undrain(&*self.reach, ANSWER)).flatten();
            true
        });
        let Some(told) = told else { return Ok(()) };
        told.await.map_err(|failure| {
            let Failure { code, message } = failure;
            let what = format!("others see {} again, but its program could not be told: {message}", self.id);
            Failure::new(code, what)
        })
    }
}

/// The course of one drain.
struct Course {
    id: String,
    reach: Arc<dyn Reach>,
    status: watch::Receiver<Status>,
    state: Arc<watch::Sender<Option<Draining>>>,
    number: u64,
    pid: u32,
}

impl Course {
    /// Follows the drain to its end. `told` is what the program answers.
    async fn run(self, until: Instant, told: Option<BoxFuture<'static, Result<(), Failure>>>) {
        let (mut status, mut state) = (self.status.clone(), self.state.subscribe());
        let telling = async {
            if let Some(told) = told
                && let Err(failure) = told.await
            {
                tracing::warn!(server = self.id, %failure, "the program could not be told that it drains");
            }
            std::future::pending::<Infallible>().await
        };
        let why = tokio::select! {
            // The other end of either is gone only when all of this is.
            _ = status.wait_for(|status| status.phase != Phase::Running(self.pid)) => {
                self.change(|state| *state = None);
                "the program does not run any more"
            }
            _ = state.wait_for(|state| !self.is(state)) => "it was taken back, or begun anew",
            never = telling => match never {},
            () = self.emptied() => {
                self.change(|state| state.iter_mut().for_each(|draining| draining.over = true));
                "no connections are left"
            }
            () = sleep_until(until) => {
                self.change(|state| state.iter_mut().for_each(|draining| draining.over = true));
                "its time is over"
            }
        };
        tracing::info!(server = self.id, pid = self.pid, why, "the drain is over");
    }

    /// Waits until the program has no connections: for ever if it does not say how many it has.
    async fn emptied(&self) {
        let mut warned = false;
        loop {
            if let Some(asked) = connections(&*self.reach, ANSWER) {
                match asked.await {
                    Ok(left) => {
                        self.change(|state| state.iter_mut().for_each(|draining| draining.connections = Some(left)));
                        if left == 0 {
                            return;
                        }
                    }
                    Err(failure) => {
                        if !warned {
                            tracing::warn!(server = self.id, %failure, "the program does not say how many connections are left");
                        }
                        warned = true;
                    }
                }
            }
            sleep(ASK).await;
        }
    }

    /// Whether the state is that of this drain.
    fn is(&self, state: &Option<Draining>) -> bool {
        state.as_ref().is_some_and(|draining| (draining.number, draining.pid) == (self.number, self.pid))
    }

    /// Changes the state if it is still that of this drain.
    fn change(&self, change: impl FnOnce(&mut Option<Draining>)) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            if self.is(state) {
                change(state);
            }
            *state != before
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use parking_lot::Mutex;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};

    use super::*;
    use crate::monitor::application::{Functions, Runner};
    use crate::supervise::DownReason;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A program that has so many connections, and writes down what it is told.
    struct Fake {
        left: Arc<AtomicU64>,
        told: Arc<Mutex<Vec<String>>>,
        status: watch::Sender<Status>,
        drains: Arc<Drains>,
    }

    fn status(phase: Phase) -> Status {
        Status { phase, restarts: 0, last_exit: None, since: None }
    }

    /// The program of one server, which offers `connections` or does not.
    fn fake(counts: bool) -> Fake {
        let (left, told) = (Arc::new(AtomicU64::new(2)), Arc::<Mutex<Vec<String>>>::default());
        let (drained, undrained, count) = (told.clone(), told.clone(), left.clone());
        let mut functions = Functions::new()
            .on_drain(move |deadline| {
                drained.lock().push(format!("drain {}", deadline.as_millis()));
                async { Ok(()) }
            })
            .on_undrain(move || {
                undrained.lock().push("undrain".into());
                async { Ok(()) }
            });
        if counts {
            functions = functions.on("connections", move |_: IgnoredAny| {
                let left = count.load(Ordering::SeqCst);
                async move { Ok(json!({"totalConnCount": left})) }
            });
        }
        let (status, seen) = watch::channel(status(Phase::Running(7)));
        let drains = Arc::new(Drains::new("chat-1", Arc::new(Runner::new("chat-1", functions)), seen));
        Fake { left, told, status, drains }
    }

    impl Fake {
        /// Begins a drain, and waits until it shows so many connections.
        async fn drain(&self, time: Duration, shows: Option<u64>) -> tokio::task::JoinHandle<Result<(), Failure>> {
            let drains = self.drains.clone();
            let drain = tokio::spawn(async move { drains.drain(time).await });
            self.shows(shows).await;
            drain
        }

        async fn shows(&self, left: Option<u64>) {
            let is = |state: &Option<Draining>| {
                state.as_ref().is_some_and(|draining| draining.pid == 7 && draining.connections == left)
            };
            drop(self.drains.state().wait_for(is).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_over_when_no_connections_are_left_and_the_server_stays_hidden() {
        let fake = fake(true);
        let drain = fake.drain(MINUTE, Some(2)).await;
        assert!(fake.drains.drains(Some(7)));
        fake.left.store(1, Ordering::SeqCst);
        fake.shows(Some(1)).await;
        assert!(!drain.is_finished());
        let begun = Instant::now();
        fake.left.store(0, Ordering::SeqCst);
        drain.await.unwrap().unwrap();
        assert!(begun.elapsed() < MINUTE, "nobody waits for the rest of the time");
        assert!(fake.drains.drains(Some(7)) && !fake.drains.drains(Some(8)) && !fake.drains.drains(None));
        assert_eq!(*fake.told.lock(), ["drain 60000"]);
        fake.drains.undrain().await.unwrap();
        assert!(!fake.drains.drains(Some(7)));
        assert_eq!(*fake.told.lock(), ["drain 60000", "undrain"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_has_its_time_and_no_more() {
        for counts in [true, false] {
            let fake = fake(counts);
            let begun = Instant::now();
            fake.drains.drain(MINUTE).await.unwrap();
            assert!(begun.elapsed() >= MINUTE, "{counts}");
            assert_eq!(fake.drains.state().borrow().as_ref().unwrap().connections, counts.then_some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_taken_back_says_so_and_the_next_has_its_own_time() {
        let fake = fake(true);
        let drain = fake.drain(MINUTE, Some(2)).await;
        fake.drains.undrain().await.unwrap();
        let refused = drain.await.unwrap().unwrap_err();
        assert_eq!((&*refused.code, &*refused.message), (code::NOT_AVAILABLE, "the drain of chat-1 was taken back"));
        fake.drains.undrain().await.unwrap();
        assert_eq!(*fake.told.lock(), ["drain 60000", "undrain"], "who does not drain is not told");

        // One that is asked for twice has the time that was said last.
        let first = fake.drain(MINUTE, Some(2)).await;
        let begun = Instant::now();
        fake.drains.drain(MINUTE * 3).await.unwrap();
        first.await.unwrap().unwrap();
        assert!(begun.elapsed() >= MINUTE * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_with_its_process() {
        for ended in [Phase::Stopping(7), Phase::Exited(DownReason::Stopped), Phase::Running(8)] {
            let fake = fake(true);
            let drain = fake.drain(MINUTE, Some(2)).await;
            fake.status.send_replace(status(ended));
            drain.await.unwrap().unwrap();
            assert_eq!(*fake.drains.state().borrow(), None);
            fake.drains.undrain().await.unwrap();
            assert_eq!(*fake.told.lock(), ["drain 60000"]);
        }
        let fake = fake(true);
        fake.status.send_replace(status(Phase::Starting(Some(7))));
        assert_eq!(fake.drains.drain(MINUTE).await.unwrap_err().code, code::NOT_AVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_fails_drains_all_the_same_and_its_words_are_told() {
        let functions = Functions::new()
            .on("connections", async |_: Value| Ok("many"))
            .on("drain", async |_: Value| Err::<(), _>(Failure::new(code::FAILED, "not today")))
            .on("undrain", async |_: Value| Err::<(), _>(Failure::new(code::FAILED, "not today")));
        let (_status, seen) = watch::channel(status(Phase::Running(7)));
        let drains = Drains::new("chat-1", Arc::new(Runner::new("chat-1", functions)), seen);
        drains.drain(MINUTE).await.unwrap();
        let failure = drains.undrain().await.unwrap_err();
        assert_eq!((&*failure.code, drains.drains(Some(7))), (code::FAILED, false));
        assert!(failure.message.contains("chat-1") && failure.message.contains("not today"), "{failure}");
    }
}
