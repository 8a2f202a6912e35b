//! Many who are lost at once.
//!
//! One server whose connection is lost has most likely died. Where a large part of the fleet is lost at once, a network or the master's own machine
//! is the likelier cause, and to tell the rest that all those are gone would do more harm than to keep them for a while. They then stay in
//! the table, an alarm is raised, and they are removed when the hold is over or the operator says so; whoever comes back is back.
//!
//! A silent network is noticed connection by connection, as their pings go unanswered, over a time that is longer than the grace: those who were
//! removed within that time count among the lost, and those who are lost after them are kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::primary;
use super::{LOST, Member, MemberTable, Members};
use crate::journal::{Event, kind};
use crate::transport::Transport;

/// When so many are lost that they are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct MassLoss {
    /// More than this share of the servers, from 0 to 1; 1 for never. 0.5.
    pub share: f64,
    /// How long they are kept. 60 s.
    pub hold: Duration,
    /// Losses within this time count as one. 10.5 s: what it may take until a silent connection is noticed.
    pub window: Duration,
}

impl Default for MassLoss {
    fn default() -> Self {
        MassLoss { share: 0.5, hold: Duration::from_secs(60), window: Duration::from_millis(10_500) }
    }
}

/// Fewer than these are no large part of anything.
const FEWEST: usize = 3;

/// Who was lost.
#[derive(Default)]
pub(super) struct Losses {
    /// Servers that were removed since their connection was lost, the oldest first, and when.
    removed: VecDeque<(String, Instant)>,
    /// Whether those who are lost are kept now; the number of the alarm.
    alarm: Option<u64>,
    alarms: u64,
    /// From here on connections end since this host does.
    closing: bool,
}

/// Whether somebody stands for the id whose connection is there.
fn alive(members: &[Member]) -> bool {
    members.iter().any(|member| !member.lost)
}

impl MemberTable {
    /// How many servers others see, and how many of them are lost; those removed within the window count as both.
    fn figures(&mut self, window: Duration, now: Instant) -> (usize, usize) {
        let servers = &self.servers;
        self.losses.removed.retain(|(id, at)| *at + window > now && !servers.contains_key(id));
        let removed = self.losses.removed.len();
        let fleet = servers.values().filter(|members| {
            // The master's own monitor lives and dies with this process.
            primary(members).is_some_and(|member| member.exchange.peer().transport() != Transport::Memory)
        });
        let (mut all, mut lost) = (0, 0);
        for members in fleet {
            all += 1;
            lost += usize::from(!alive(members));
        }
        (all + removed, lost + removed)
    }
}

impl Members {
    /// A connection that was lost is not back in time: its place is given up, unless so many are lost that all are kept.
    pub(super) fn grace_is_over(self: &Arc<Self>, id: &str, connection: u64) {
        {
            let mut table = self.table.lock();
            let table = &mut *table;
            let Some(members) = table.servers.get(id) else { return };
            let Some(lost) = members.iter().find(|member| member.connection() == connection) else { return };
            // Nothing that others see is lost with a slave, or with one whose server does not run.
            let seen = lost.present && !alive(members) && !table.losses.closing;
            if seen && (table.losses.alarm.is_some() || self.raises_the_alarm(table)) {
                for member in table.servers.get_mut(id).into_iter().flatten() {
                    member.retained |= member.connection() == connection;
                }
                // The metric keeps the name that dashboards know.
                metrics::gauge!("pomelo_servers_held").set(retained(table).len() as f64);
                return;
            }
            if seen {
                table.losses.removed.push_back((id.to_owned(), Instant::now()));
            }
        }
        self.remove(id, connection, LOST);
    }

    /// Whether a large part of the fleet is lost; the alarm is raised if so.
    fn raises_the_alarm(self: &Arc<Self>, table: &mut MemberTable) -> bool {
        let (all, lost) = table.figures(self.mass_loss.window, Instant::now());
        if lost < FEWEST || lost as f64 <= self.mass_loss.share * all as f64 {
            return false;
        }
        let hold = self.mass_loss.hold;
        let message = format!(
            "{lost} of {all} servers vanished at once: they are kept in every view for {} s; `pomelo forget` removes them now",
            hold.as_secs_f64()
        );
        self.alarm(&message);
        metrics::counter!("pomelo_mass_losses_total").increment(1);
        table.losses.alarms += 1;
        let number = table.losses.alarms;
        table.losses.alarm = Some(number);
        let members = self.clone();
        tokio::spawn(async move {
            // More than once where some were lost just before.
            loop {
                tokio::time::sleep(hold).await;
                if members.table.lock().losses.alarm != Some(number) {
                    return;
                }
                members.forget(&[], "the time for which they were kept is over");
            }
        });
        true
    }

    fn alarm(&self, message: &str) {
        tracing::error!("{message}");
        self.journal.record(Event::new(kind::ALARM, message));
    }

    /// Removes servers that vanished and are kept, those of the given ids or all; which.
    pub fn forget(&self, ids: &[String], why: &str) -> Vec<String> {
        let mut gone = retained(&self.table.lock());
        gone.retain(|id| ids.is_empty() || ids.contains(id));
        for id in &gone {
            self.change(id, LOST, |members| members.retain(|member| !member.retained));
        }
        self.look_whether_it_is_over(|| format!("{} servers that vanished were removed: {why}", gone.len()));
        gone
    }

    /// Somebody came; if nobody is kept any more, the alarm is over.
    pub(super) fn look_whether_all_are_back(&self) {
        self.look_whether_it_is_over(|| "all servers that had vanished are back, or others stand for them".to_owned());
    }

    fn look_whether_it_is_over(&self, message: impl FnOnce() -> String) {
        let mut table = self.table.lock();
        if table.losses.alarm.is_none() {
            return;
        }
        let (kept, lost) = (retained(&table), table.servers.values().any(|members| !alive(members)));
        metrics::gauge!("pomelo_servers_held").set(kept.len() as f64);
        // One whose time of grace is not over yet will be looked at when it is.
        if kept.is_empty() && !lost {
            table.losses.alarm = None;
            drop(table);
            self.alarm(&format!("over: {}", message()));
        }
    }

    /// The ids of servers that vanished and are kept.
    pub fn retained(&self) -> Vec<String> {
        retained(&self.table.lock())
    }

    /// From here on connections end since this host does, and that is no loss.
    pub fn close(&self) {
        self.table.lock().losses.closing = true;
    }
}

fn retained(table: &MemberTable) -> Vec<String> {
    let kept = table.servers.iter().filter(|(_, members)| members.iter().any(|member| member.retained));
    kept.map(|(id, _)| id.clone()).collect()
}
