//! One server of a job: drained, ended, started, ready.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::record::{Outcome, Step};
use super::request::{Action, Messages};
use super::{Actuator, NotEnded};
use crate::failure::{Failure, code};
use crate::fleet::{Fleet, Happening, Input, State, Wanted};

/// Time on top of a server's own, for what the host does around it.
const MARGIN: Duration = Duration::from_secs(5);

/// How one server of a job is carried out.
pub(super) struct Course<'a> {
    pub fleet: &'a Fleet,
    pub actuator: &'a dyn Actuator,
    pub id: &'a str,
    pub action: Action,
    pub messages: &'a Messages,
    pub by: &'a str,
    /// Whether it drains before it ends.
    pub drain: bool,
    pub min_ready: Duration,
    /// Ends what can be ended without leaving the server half-way: a drain.
    pub cancelled: &'a CancellationToken,
    /// Told of each step.
    pub step: &'a (dyn Fn(Step) + Send + Sync),
}

/// What has come of the server, and why.
pub(super) type Came = (Outcome, Option<Failure>);

impl Course<'_> {
    /// Carries it out.
    pub async fn run(&self) -> Came {
        let done = match self.action {
            Action::Start => self.start().await.map(|()| Outcome::Done),
            Action::Restart => self.restart().await,
            Action::Stop => self.end(false).await.map(|()| Outcome::Done),
            Action::Kill => self.end(true).await.map(|()| Outcome::Done),
            Action::Drain => self.drain_and_end().await,
        };
        match done {
            Ok(outcome) => (outcome, None),
            Err(failure) => (Outcome::Failed, Some(failure)),
        }
    }

    fn state(&self) -> State {
        self.fleet.state(self.id).unwrap_or(State::Elsewhere)
    }

    fn joins(&self) -> u64 {
        self.fleet.get(self.id).map_or(0, |record| record.joins)
    }

    /// Starts a server that is down, and waits until it is ready. A server that runs already is one that was started.
    async fn start(&self) -> Result<(), Failure> {
        (self.step)(Step::Starting);
        let before = self.joins();
        match self.state() {
            State::Running => return Ok(()),
            // Its process is there, or will be by itself.
            State::Starting | State::Unready => return self.ready(before).await,
            State::Draining => {
                self.put_back().await?;
                return if self.state() == State::Running { Ok(()) } else { self.ready(before).await };
            }
            // Its monitor may be there and wait with its program. A new one does not wait.
            State::BackingOff => self.end(false).await?,
            State::Pending | State::Stopping | State::Stopped | State::Failed | State::Lost | State::Elsewhere => {}
        }
        // Whoever waits for it to be ready must not take its last end for the next one.
        self.fleet.input(self.id, None, Input::Up, Happening::default());
        (self.step)(Step::Starting);
        if let Err(failure) = self.actuator.launch(self.id.to_owned()).await {
            let why = Happening::why(failure.message.clone());
            let input = match self.fleet.get(self.id) {
                // It belongs to somebody else, who starts it.
                Some(record) if record.state == State::Elsewhere => None,
                _ => Some(Input::NotLaunched),
            };
            if let Some(input) = input {
                self.fleet.input(self.id, None, input, why);
            }
            return Err(failure);
        }
        self.ready(before).await
    }

    /// Waits until the server has joined once more, and has stayed for a while.
    async fn ready(&self, before: u64) -> Result<(), Failure> {
        let within = self.actuator.times(self.id).ready + MARGIN;
        let came = self.fleet.until(self.id, |record| match record.state {
            State::Running if record.joins > before => Some(Ok(())),
            State::BackingOff | State::Failed | State::Stopped => Some(Err(said(record))),
            _ => None,
        });
        match tokio::time::timeout(within, came).await {
            Ok(Some(came)) => came?,
            Ok(None) => return Err(Failure::new(code::NOT_FOUND, format!("{} was removed meanwhile", self.id))),
            Err(_) => {
                let why = self.fleet.get(self.id).map(|record| record.why).filter(|why| !why.is_empty());
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                let what = format!("{} was started and is not ready after {} s{why}", self.id, within.as_secs());
                return Err(Failure::new(code::TIMEOUT, what));
            }
        }
        self.settled().await
    }

    /// Waits until the server has been ready for long enough.
    async fn settled(&self) -> Result<(), Failure> {
        if self.min_ready.is_zero() {
            return Ok(());
        }
        (self.step)(Step::Settling);
        let joins = self.joins();
        let lost = self
            .fleet
            .until(self.id, |record| (record.state != State::Running || record.joins != joins).then(|| said(record)));
        match tokio::time::timeout(self.min_ready, lost).await {
            Err(_) => Ok(()),
            Ok(failure) => Err(failure.unwrap_or_else(|| Failure::new(code::NOT_FOUND, "it was removed meanwhile"))),
        }
    }

    async fn restart(&self) -> Result<Outcome, Failure> {
        if self.state().is_down() {
            return self.start().await.map(|()| Outcome::Done);
        }
        if self.drain && !self.drained().await? {
            return Ok(Outcome::Cancelled);
        }
        let before = self.joins();
        (self.step)(Step::Stopping);
        // A program that is not there cannot be told from one that has just ended, so that its monitor is ended too.
        if self.has_program() && self.actuator.restart(self.id.to_owned(), self.messages).await? {
            (self.step)(Step::Starting);
            self.ready(before).await?;
            return Ok(Outcome::Done);
        }
        self.end(false).await?;
        self.start().await.map(|()| Outcome::Done)
    }

    async fn drain_and_end(&self) -> Result<Outcome, Failure> {
        if !self.state().is_down() && !self.drained().await? {
            return Ok(Outcome::Cancelled);
        }
        self.end(false).await?;
        Ok(Outcome::Done)
    }

    /// Drains the server, as long as it may. Returns false if that was taken back. One that drains already is given its time anew, because whoever began
    /// that has gone.
    async fn drained(&self) -> Result<bool, Failure> {
        if self.actuator.times(self.id).drain.is_zero() || !self.has_program() {
            return Ok(true);
        }
        (self.step)(Step::Draining);
        self.fleet.input(self.id, None, Input::SaysDraining, Happening::default());
        let drained = self.actuator.drain(self.id.to_owned(), self.messages);
        match self.cancelled.run_until_cancelled(drained).await {
            // A server that cannot be drained is ended all the same, after what it said was written down.
            Some(Err(failure)) => {
                tracing::warn!(server = self.id, %failure, "could not be drained, and is ended without");
                Ok(true)
            }
            Some(Ok(())) => Ok(true),
            None => {
                // Also where it cannot be put back: it is not to be ended.
                self.fleet.want(&[self.id.to_owned()], Wanted::Up, self.by);
                self.put_back().await?;
                Ok(false)
            }
        }
    }

    /// Whether its program runs and has been ready.
    fn has_program(&self) -> bool {
        matches!(self.state(), State::Running | State::Unready | State::Draining)
    }

    /// Takes a drain back.
    async fn put_back(&self) -> Result<(), Failure> {
        self.actuator.undrain(self.id.to_owned(), self.messages).await?;
        // A server whose drain had not begun does not join once more.
        if self.actuator.is_present(self.id) {
            self.fleet.input(self.id, None, Input::StillRuns, Happening::default());
        }
        Ok(())
    }

    async fn end(&self, kill: bool) -> Result<(), Failure> {
        (self.step)(Step::Stopping);
        self.fleet.input(self.id, None, Input::Ending, Happening::default());
        match self.actuator.end(self.id.to_owned(), kill, self.messages).await {
            Ok(()) => {
                self.fleet.input(self.id, None, Input::Gone, Happening::default());
                Ok(())
            }
            Err(NotEnded { failure, refused }) => {
                let present = self.actuator.is_present(self.id);
                let input = if present { Input::StillRuns } else { Input::StillThere };
                if refused && self.action.ends() {
                    // It goes on, and nobody tries again.
                    self.fleet.want(&[self.id.to_owned()], Wanted::Up, &format!("it did not end: {}", failure.message));
                }
                self.fleet.input(self.id, None, input, Happening::why(failure.message.clone()));
                Err(failure)
            }
        }
    }
}

/// The failure of a server that is not ready, as its record says it.
fn said(record: &crate::fleet::ServerRecord) -> Failure {
    let why = if record.why.is_empty() { "it does not say why" } else { &record.why };
    Failure::new(code::FAILED, format!("{} is {}: {why}", record.id, record.state.as_str()))
}
