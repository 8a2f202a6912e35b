//! Simulated monitors: thousands of them in one thread, which register, subscribe and keep a view of the cluster as monitors do.
//!
//! - `view` is what a monitor knows, and how it is read from what it is told.
//! - `monitor` is one monitor, without its socket.
//! - `shard` is the thread with all sockets.
//!
//! Where nothing else is said they are as quick as they can be: what is measured is the master, with which they share the machine.

mod monitor;
mod shard;
#[cfg(test)]
mod tests;
mod view;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mio::{Poll, Waker};

use crate::master::Master;
use crate::process::Measured;
use crate::wire::Wire;
use shard::{Order, Shard, WAKE};

/// A master that takes more is given up, before the machine is: MiB.
const TOO_MUCH: f64 = 12_000.0;

/// How monitors behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Species {
    /// As ours: their views have revisions, and they ask every ten seconds whether they have missed something.
    Ours,
    /// As ours, and they take modules from the master: each fetches every version, as if it had a machine for itself.
    Taking,
    /// As those of pomelo 2.x.
    Plain,
}

/// What can be seen of the monitors from outside of their thread.
#[derive(Default)]
pub struct Counts {
    pub registered: AtomicUsize,
    /// Those whose view is the whole fleet.
    pub knowing: AtomicUsize,
    /// Orders that have come.
    pub orders: AtomicUsize,
    /// Versions of modules that were fetched, by whomever.
    pub fetched: AtomicUsize,
    /// What the console says without wanting an answer.
    pub notified: AtomicUsize,
    /// Requests that were answered with a failure.
    pub failed: AtomicUsize,
    /// Requests that were not answered in time.
    pub late: AtomicUsize,
    /// Connections that broke.
    pub lost: AtomicUsize,
    /// Updates that could not be applied.
    pub gaps: AtomicUsize,
    /// What went wrong first.
    said: Mutex<Option<String>>,
}

impl Counts {
    /// Keeps what went wrong, if nothing has before.
    fn says(&self, what: impl FnOnce() -> String) {
        // A thread that panicked with the lock has not left half a sentence.
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert_with(what);
    }

    /// All that went wrong, in words; empty for nothing.
    pub fn troubles(&self) -> String {
        let counts = [("failed", &self.failed), ("late", &self.late), ("lost", &self.lost)];
        let words = counts.iter().map(|(name, count)| (name, count.load(Relaxed))).filter(|(_, count)| *count > 0);
        let words: Vec<String> = words.map(|(name, count)| format!("{count} {name}")).collect();
        let said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().unwrap_or_default();
        if words.is_empty() { said } else { format!("{}: {said}", words.join(", ")) }
    }

    /// Requests and connections that came to nothing.
    pub fn trouble(&self) -> usize {
        [&self.failed, &self.late, &self.lost].iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// The simulated monitors of a master. Dropped, they are gone.
pub struct Fleet {
    pub counts: Arc<Counts>,
    master: Measured,
    orders: Option<Sender<Order>>,
    waker: Waker,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Fleet {
    /// So many at most; none of them has joined.
    ///
    /// # Errors
    /// If there is no thread, or nothing to wait with.
    pub fn new(master: &Master, wire: Wire, species: Species, most: usize) -> Result<Fleet> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let counts = Arc::<Counts>::default();
        let (orders, receiver) = channel();
        let address = master.address();
        let (spawned, shared) = (std::thread::Builder::new().name("monitors".into()), counts.clone());
        // The views share what they have read, so that they cannot leave the thread.
        let thread = spawned.spawn(move || Shard::new(poll, address, wire, species, most, shared).run(&receiver))?;
        Ok(Fleet { counts, master: master.process(), orders: Some(orders), waker, thread: Some(thread) })
    }

    fn order(&self, order: Order) -> Result<()> {
        match &self.orders {
            Some(orders) if orders.send(order).is_ok() => Ok(self.waker.wake()?),
            _ => bail!("the thread of the monitors has ended"),
        }
    }

    /// These connect and register.
    ///
    /// # Errors
    /// If the thread has ended, as with the others.
    pub fn join(&self, which: Range<usize>) -> Result<()> {
        self.order(Order::Join(which))
    }

    /// The connections of these break.
    pub fn cut(&self, which: Range<usize>) -> Result<()> {
        self.order(Order::Cut(which))
    }

    /// From now on these are all: whoever knows them knows all.
    pub fn all_are(&self, which: Range<usize>) -> Result<()> {
        self.order(Order::All(which))
    }

    /// Waits until a count is reached, which is looked at every millisecond. The time from `began`.
    ///
    /// # Errors
    /// If it is not reached in time; says how far it has come.
    pub fn wait(
        &self,
        began: Instant,
        patience: Duration,
        what: &str,
        wanted: usize,
        count: impl Fn(&Counts) -> usize,
    ) -> Result<Duration> {
        let mut looks = 0_u32;
        while count(&self.counts) != wanted {
            looks += 1;
            // Not every time, because that takes longer.
            let resident = if looks.is_multiple_of(250) { self.master.resident_mib()? } else { 0.0 };
            if began.elapsed() > patience || resident > TOO_MUCH {
                let (reached, troubles, took) = (count(&self.counts), self.counts.troubles(), began.elapsed());
                let much = if resident > TOO_MUCH {
                    format!(", with {resident:.0} MiB in the master,")
                } else {
                    String::new()
                };
                bail!("after {:.0} s{much} {reached} of {wanted} {what}; {troubles}", took.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(began.elapsed())
    }

    /// Waits until all of so many are registered.
    pub fn until_registered(&self, began: Instant, patience: Duration, all: usize) -> Result<Duration> {
        self.wait(began, patience, "are registered", all, |counts| counts.registered.load(Relaxed))
    }

    /// Waits until so many know all.
    pub fn until_knowing(&self, began: Instant, patience: Duration, all: usize) -> Result<Duration> {
        self.wait(began, patience, "know all", all, |counts| counts.knowing.load(Relaxed))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.orders = None;
        // Both fail only if the thread has ended, which is what is wanted.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
