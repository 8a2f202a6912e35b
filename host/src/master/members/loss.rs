//! The loss of many servers at once.
//!
//! One server whose connection is lost has most likely died. If a large part of the fleet is lost at once, a failure of the network or of the master's
//! own machine is more likely, and telling the other servers that all those are gone would do more harm than good. The lost servers are then
//! *retained*: they stay in the table, and an alarm is raised. They are removed when the hold is over or when the operator says so. A server that comes
//! back takes its old place.
//!
//! A silent network is noticed connection by connection, as pings go unanswered, and that takes longer than the grace. Therefore servers that were
//! removed within that time count among the lost, and servers whose loss is noticed later are retained.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::primary;
use super::{LOST, Member, MemberTable, Members};
use crate::journal::{Event, kind};
use crate::transport::Transport;

/// When so many servers are lost that they are retained.
#[derive(Clone, Debug, PartialEq)]
pub struct MassLoss {
    /// More than this share of the servers, from 0 to 1; 1 for never. 0.5.
    pub share: f64,
    /// How long they are retained. 60 s.
    pub hold: Duration,
    /// Losses within this time count as one. 10.5 s, because it may take so long until a silent connection is noticed.
    pub window: Duration,
}

impl Default for MassLoss {
    fn default() -> Self {
        MassLoss { share: 0.5, hold: Duration::from_secs(60), window: Duration::from_millis(10_500) }
    }
}

/// Fewer lost servers than these are never a mass loss.
const FEWEST: usize = 3;

/// The losses of the last time, and the alarm.
#[derive(Default)]
pub(super) struct Losses {
    /// Servers that were removed since their connection was lost, the oldest first, and when.
    removed: VecDeque<(String, Instant)>,
    /// The number of the alarm, while servers that are lost are retained.
    alarm: Option<u64>,
    alarms: u64,
    /// Set when connections end because this host does.
    closing: bool,
}

/// Whether any monitor of an id is connected.
fn alive(members: &[Member]) -> bool {
    members.iter().any(|member| !member.lost)
}

impl MemberTable {
    /// The servers that count in a mass loss: where the configuration names servers, only those, because whoever may register could otherwise raise the alarm
    /// with ids of its own.
    fn fleet(&self) -> impl Iterator<Item = &Vec<Member>> {
        // The master's own monitor lives and dies with this process.
        let in_memory = |member: &Member| member.exchange.peer().transport() == Transport::Memory;
        let is_there = move |members: &&Vec<Member>| primary(members).is_some_and(|member| !in_memory(member));
        let is_named = |members: &Vec<Member>| members.iter().any(|member| member.named);
        let any_named = self.servers.values().filter(is_there).any(is_named);
        self.servers.values().filter(is_there).filter(move |members| !any_named || is_named(members))
    }

    /// How many servers the others see, and how many of them are lost. Servers that were removed within the window count as both.
    fn figures(&mut self, window: Duration, now: Instant) -> (usize, usize) {
        let servers = &self.servers;
        self.losses.removed.retain(|(id, at)| *at + window > now && !servers.contains_key(id));
        let removed = self.losses.removed.len();
        let (mut all, mut lost) = (0, 0);
        for members in self.fleet() {
            all += 1;
            lost += usize::from(!alive(members));
        }
        (all + removed, lost + removed)
    }
}

impl Members {
    /// A monitor whose connection was lost has not come back in time: it is removed, unless so many are lost that all are retained.
    pub(super) fn grace_is_over(self: &Arc<Self>, id: &str, connection: u64) {
        {
            let mut table = self.table.lock();
            let table = &mut *table;
            let Some(members) = table.servers.get(id) else { return };
            let Some(lost) = members.iter().find(|member| member.connection() == connection) else { return };
            // The others do not see the loss of a slave, or of a monitor whose server does not run.
            let seen = lost.present && !alive(members) && !table.losses.closing;
            let is_alarm = table.losses.alarm.is_some();
            // While the alarm is on, this makes no difference, and need not be looked for among many.
            let is_it = |members: &Vec<Member>| members.iter().any(|member| member.connection() == connection);
            let counts = seen && !is_alarm && table.fleet().any(is_it);
            if seen && is_alarm || counts && self.raises_the_alarm(table) {
                for member in table.servers.get_mut(id).into_iter().flatten() {
                    member.retained |= member.connection() == connection;
                }
                // The metric keeps the name that dashboards know.
                metrics::gauge!("pomelo_servers_held").set(retained(table).len() as f64);
                // The table is the same, and what the server is has changed.
                self.phases.send_modify(|changes| *changes += 1);
                return;
            }
            if counts {
                table.losses.removed.push_back((id.to_owned(), Instant::now()));
            }
        }
        self.remove(id, connection, LOST);
    }

    /// Raises the alarm if a large part of the fleet is lost, and says whether it did.
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
            // Servers may have been lost just before, whose time of grace ends later: they need another turn.
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

    /// Removes retained servers, those of the given ids or all, and gives their ids.
    pub fn forget(&self, ids: &[String], why: &str) -> Vec<String> {
        let mut gone = retained(&self.table.lock());
        gone.retain(|id| ids.is_empty() || ids.contains(id));
        for id in &gone {
            self.change(id, LOST, |members| members.retain(|member| !member.retained));
        }
        self.look_whether_it_is_over(|| format!("{} servers that vanished were removed: {why}", gone.len()));
        gone
    }

    /// A monitor has come. If no server is retained any more, the alarm is over.
    pub(super) fn look_whether_all_are_back(&self) {
        self.look_whether_it_is_over(|| "all servers that had vanished are back, or others stand for them".to_owned());
    }

    fn look_whether_it_is_over(&self, message: impl FnOnce() -> String) {
        let mut table = self.table.lock();
        if table.losses.alarm.is_none() {
            return;
        }
        let (retained, lost) = (retained(&table), table.servers.values().any(|members| !alive(members)));
        metrics::gauge!("pomelo_servers_held").set(retained.len() as f64);
        // A server whose time of grace is not over yet is looked at when it is.
        if retained.is_empty() && !lost {
            table.losses.alarm = None;
            drop(table);
            self.alarm(&format!("over: {}", message()));
        }
    }

    /// The ids of the retained servers.
    pub fn retained(&self) -> Vec<String> {
        retained(&self.table.lock())
    }

    /// From here on connections end because this host does. That is no loss.
    pub fn close(&self) {
        self.table.lock().losses.closing = true;
    }
}

fn retained(table: &MemberTable) -> Vec<String> {
    let retained = table.servers.iter().filter(|(_, members)| members.iter().any(|member| member.retained));
    retained.map(|(id, _)| id.clone()).collect()
}
