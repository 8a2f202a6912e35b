//! A master's health, and its metrics that are states.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::gauge;

use super::MasterCore;
use crate::budget::Class;
use crate::fleet::{ServerRecord, State, Wanted, now};
use crate::observe::{Family, Health, Observed, Type};
use crate::reload::ConfigDifference;
use crate::tls;
use crate::util::proc::{ProcessUsage, process_usage};

/// How long a server may be there without being ready before that is a problem.
const UNREADY: Duration = Duration::from_secs(60);
/// Servers that the health names.
const NAMED: usize = 100;
/// Servers up to which each has metrics of its own.
const EACH: usize = 2000;

/// How far a master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Modules are being started.
    Starting,
    /// It serves.
    Serving,
    /// It only answers the calls under way.
    Ending,
}

impl Observed for MasterCore {
    fn health(&self) -> Health {
        match *self.stage.lock() {
            Stage::Starting => {
                let mut health = Health::not("starting", "the modules are being started");
                health.faults(&self.options.journal);
                health
            }
            Stage::Ending => Health::not("shutting-down", "the master is shutting down"),
            Stage::Serving => self.serving(),
        }
    }

    fn refresh(&self) {
        self.console.observe();
        let (servers, clients) = self.members.count();
        let monitors = self.members.all();
        let outboxes = monitors.iter().map(|member| member.exchange.peer().waiting());
        let (sum, max) = outboxes.fold((0, 0), |(sum, max), waiting| (sum + waiting, max.max(waiting)));
        let under_way: usize = monitors.iter().map(|member| member.exchange.under_way()).sum();
        for (name, value) in [
            ("pomelo_servers", servers),
            ("pomelo_clients", clients),
            ("pomelo_monitors", monitors.len()),
            ("pomelo_servers_held", self.members.retained().len()),
            ("pomelo_outbox_frames", sum),
            ("pomelo_outbox_frames_max", max),
            ("pomelo_requests_under_way", under_way),
            ("pomelo_jobs_under_way", self.fleet.as_ref().map_or(0, |fleet| fleet.jobs.count_under_way())),
        ] {
            gauge!(name).set(value as f64);
        }
        let held = self.options.listener.budget.held();
        gauge!("pomelo_peers_shared_bytes").set(held.shared as f64);
        for (class, bytes) in Class::ALL.into_iter().zip(held.by_class) {
            gauge!("pomelo_peers_bytes", "class" => class.as_str()).set(bytes as f64);
        }
    }

    fn families(&self) -> Vec<Family> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let (here, table) = (fleet.starter.here(), self.members.snapshot());
        // A process of another machine is none of this one's. Its monitor has the figures.
        let usage = |id: &str| {
            let pid = table.servers.get(id).filter(|_| here.contains(id))?.info.get("pid")?.as_u64()?;
            process_usage(u32::try_from(pid).ok()?)
        };
        families(&fleet.fleet.servers(), usage)
    }
}

impl MasterCore {
    /// The health of a master that serves. It is degraded where servers do not run that are to run.
    fn serving(&self) -> Health {
        let mut health = Health::ok();
        let retained = self.members.retained();
        if !retained.is_empty() {
            health.problems.push(format!("servers that vanished are kept: {}", retained.join(", ")));
        }
        if let Some(fleet) = &self.fleet {
            let servers = fleet.fleet.servers();
            let is_owned = |id: &str| fleet.fleet.owner(id).is_some();
            health.problems.extend(problems(&servers, now(), is_owned));
            for record in &servers {
                *health.servers.entry(record.state.as_str()).or_default() += 1;
            }
        }
        if !health.problems.is_empty() {
            health.status = "degraded";
        }
        health.faults(&self.options.journal);
        if let Some(tls) = &self.options.listener.tls
            && tls.until() - tls::now() <= tls::WARN_DAYS * tls::DAY
        {
            health.problems.push(format!("the certificate ends on {}", tls::when(tls.until())));
        }
        // No degradation: what runs goes on as it is.
        let difference = self.options.files.as_ref().and_then(|files| files.in_force.difference());
        match difference.as_deref() {
            None => {}
            Some(ConfigDifference::Differs { plan, .. }) => {
                health.problems.push(format!("the files differ from what runs: {}", plan.summary()));
            }
            Some(ConfigDifference::Faults(_)) => {
                health.problems.push("the files of the configuration cannot be read: `pomelo plan` says why".into());
            }
        }
        health
    }
}

/// What is wrong with servers that are wanted up, a sentence each.
fn problems(servers: &[ServerRecord], now: u64, is_owned: impl Fn(&str) -> bool) -> Vec<String> {
    let long = u64::try_from(UNREADY.as_millis()).unwrap_or(u64::MAX);
    let is_wrong = |record: &&ServerRecord| match record.state {
        _ if record.wanted == Wanted::Down => false,
        State::Failed | State::BackingOff | State::Lost => true,
        State::Unready => now.saturating_sub(record.since) >= long,
        // On its way down and up again.
        State::Stopped => !is_owned(&record.id),
        State::Pending | State::Starting | State::Running | State::Draining | State::Stopping | State::Elsewhere => {
            false
        }
    };
    let wrong: Vec<&ServerRecord> = servers.iter().filter(is_wrong).collect();
    let said = wrong.iter().take(NAMED).map(|record| match record.why.as_str() {
        "" => format!("{} is {}", record.id, record.state.as_str()),
        why => format!("{} is {}: {why}", record.id, record.state.as_str()),
    });
    let more = wrong.len().saturating_sub(NAMED);
    said.chain((more > 0).then(|| format!("and {more} more servers"))).collect()
}

/// The metrics of a fleet. `usage` is what a server's process has used, where that is known.
fn families(servers: &[ServerRecord], usage: impl Fn(&str) -> Option<ProcessUsage>) -> Vec<Family> {
    let mut wanted_of_type = Family::gauge("pomelo_servers_wanted", "Servers of a type that are to run.");
    let mut running_of_type = Family::gauge("pomelo_servers_running", "Servers of a type that run.");
    let mut types: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for record in servers {
        let (wanted, running) = types.entry(&record.server_type).or_default();
        *wanted += usize::from(record.wanted == Wanted::Up);
        *running += usize::from(record.state == State::Running);
    }
    for (server_type, (wanted, running)) in types {
        wanted_of_type.add(&[("type", server_type)], wanted as f64);
        running_of_type.add(&[("type", server_type)], running as f64);
    }
    let mut families = vec![wanted_of_type, running_of_type];
    if servers.len() > EACH {
        return families;
    }
    let mut up = Family::gauge("pomelo_server_up", "Whether a server runs.");
    let mut wanted = Family::gauge("pomelo_server_wanted", "Whether a server is to run.");
    let mut state = Family::gauge("pomelo_server_state", "1; what a server is, is in the label `state`.");
    let mut restarts =
        Family::gauge("pomelo_server_restarts", "How often a server was started again after it had ended by itself.");
    let mut ready =
        Family::gauge("pomelo_server_ready_seconds", "How long a server took to become ready the last time.");
    let mut cpu = Family::new("pomelo_server_cpu_seconds_total", Type::Counter, "CPU time of a server's process.");
    let mut resident = Family::gauge("pomelo_server_resident_memory_bytes", "Resident memory of a server's process.");
    for record in servers {
        let labels = [("id", record.id.as_str()), ("type", record.server_type.as_str())];
        up.add(&labels, f64::from(record.state == State::Running));
        wanted.add(&labels, f64::from(record.wanted == Wanted::Up));
        state.add(&[labels[0], labels[1], ("state", record.state.as_str())], 1.0);
        restarts.add(&labels, record.restarts as f64);
        if let Some(ms) = record.ready_ms {
            ready.add(&labels, ms as f64 / 1000.0);
        }
        if let Some(usage) = usage(&record.id) {
            cpu.add(&labels, usage.user + usage.system);
            resident.add(&labels, usage.resident as f64);
        }
    }
    families.extend([up, wanted, state, restarts, ready, cpu, resident]);
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Origin, Place};

    fn server(id: &str, state: State, wanted: Wanted) -> ServerRecord {
        let record = ServerRecord::new(id, "chat", Origin::Configured, Place::Ours, "configuration");
        ServerRecord { state, wanted, since: 1_000, ..record }
    }

    #[test]
    fn what_is_wanted_and_does_not_run_is_a_problem_unless_it_is_on_its_way() {
        for state in State::ALL {
            let wrong = [State::Failed, State::BackingOff, State::Lost, State::Stopped].contains(&state);
            let said = |wanted, owned| problems(&[server("a", state, wanted)], 2_000, |_| owned);
            assert_eq!(said(Wanted::Up, false).len(), usize::from(wrong), "{state:?}");
            assert_eq!(said(Wanted::Down, false).len(), 0, "{state:?}");
            assert_eq!(said(Wanted::Up, true).len(), usize::from(wrong && state != State::Stopped), "{state:?}");
        }
        let unready = [server("a", State::Unready, Wanted::Up)];
        assert_eq!(problems(&unready, 61_000, |_| false), ["a is unready"], "for long");
        let failed = ServerRecord { why: "no table".into(), ..server("a", State::Failed, Wanted::Up) };
        let many = vec![failed; NAMED + 3];
        let said = problems(&many, 0, |_| false);
        assert_eq!(
            (said[0].as_str(), said[NAMED].as_str(), said.len()),
            ("a is failed: no table", "and 3 more servers", NAMED + 1)
        );
    }

    #[test]
    fn a_fleet_that_is_too_large_has_only_metrics_of_its_types() {
        let few = vec![server("a", State::Running, Wanted::Up); EACH];
        let many = vec![server("a", State::Running, Wanted::Up); EACH + 1];
        assert_eq!((families(&few, |_| None).len(), families(&many, |_| None).len()), (9, 2));
    }
}
