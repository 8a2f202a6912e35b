//! A monitor's side: keeps the application's view of the cluster.

use pomelo_sdk::{Failure, Result};

use crate::protocol::{Changes, Info, Infos, Known, Mark, Order, Request};

/// What this side needs of the host.
pub trait Host {
    /// Asks the master.
    fn ask(&self, request: &Request) -> Result<Known>;
    fn notify(&self, request: &Request) -> Result;
    /// This server's id.
    fn id(&self) -> String;
    fn add(&self, servers: &[Info]) -> Result;
    fn remove(&self, ids: &[String]) -> Result;
    fn replace(&self, servers: &Infos) -> Result;
    fn start_over(&self) -> Result;
    fn read(&self, key: &str) -> Option<String>;
    fn swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool>;
    fn write(&self, key: &str, text: Option<&str>) -> Result;
}

/// Key of the view's mark. Absent if it is not known where the view stands.
const MARK: &str = "mark";
/// Key of the ticket that was drawn last.
const TICKET: &str = "ticket";
/// Set once this server has finished starting.
const RECORDED: &str = "recorded";
/// Set once the application was told that all servers have started.
const OVER: &str = "over";
/// Set if an original master, which has no revisions, tells this monitor of changes.
const PLAIN: &str = "plain";
/// How often a table is asked for before the rest is left to the timer.
const ATTEMPTS: usize = 4;

/// The monitor has registered: subscribes, and tells the master that this server has finished starting.
pub fn start(host: &impl Host) -> Result {
    host.write(OVER, None)?;
    subscribe(host)?;
    host.write(RECORDED, Some("true"))?;
    record(host)
}

/// The timer: puts right whatever differs between the master and this monitor. Messages may have been lost with a connection, or a new process of the
/// master may not know its listeners.
pub fn check(host: &impl Host) -> Result {
    let own = mark(host);
    let plain = host.read(PLAIN).is_some();
    if plain && own.as_ref().is_some_and(Mark::is_plain) {
        // Every change since then has been carried out, and an original master could tell no more.
        return Ok(());
    }
    let known = ask(host, own.as_ref())?;
    // An original master counts: it takes a server that records twice for two.
    let is_recorded = known.is_plain() || known.recorded && host.read(OVER).is_some();
    if known.listener || known.is_plain() && plain {
        adopt(host, known)?
    } else {
        subscribe(host)?
    }
    if host.read(RECORDED).is_none() || is_recorded { Ok(()) } else { record(host) }
}

/// Tells the master that this server has finished starting. Our own masters may be told again.
fn record(host: &impl Host) -> Result {
    host.notify(&Request::new("record", host.id()))
}

/// An order of the master.
pub fn obey(host: &impl Host, order: Order) -> Result {
    match order.action.as_str() {
        "update" => update(host, order),
        "replaceServer" => replace(host, &order),
        "addServer" => add(host, order),
        "removeServer" => {
            let id = order.id.ok_or_else(|| missing("removeServer", "id"))?;
            plain_change(host, || host.remove(&[id]))
        }
        "startOver" => {
            // A restarted master does not know that this server was told before.
            if host.swap(OVER, None, Some("true"))? { host.start_over() } else { Ok(()) }
        }
        other => {
            let known = ": it is update, addServer, removeServer, replaceServer or startOver.";
            Err(Failure::new("bad-message", ["Unknown action ", other, known].concat()))
        }
    }
}

fn missing(action: &str, member: &str) -> Failure {
    Failure::new("bad-message", [action, " lacks the member ", member, "."].concat())
}

fn subscribe(host: &impl Host) -> Result {
    let known = host.ask(&Request::new("subscribe", host.id()).at(mark(host).as_ref()))?;
    host.write(PLAIN, known.is_plain().then_some("true"))?;
    let plain = known.is_plain();
    adopt(host, known)?;
    // A change that came meanwhile may be newer than this table, and nothing would show it. The timer asks again, when nothing runs beside it.
    if plain { unmark(host) } else { Ok(()) }
}

/// What to do with an update.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Ignore,
    Apply,
    /// Changes between the view and the update are missing.
    Gap,
}

fn step(own: Option<&Mark>, since: u64, exact: bool, new: &Mark) -> Step {
    let counts_from = |rev: u64| if exact { since == rev } else { since <= rev };
    match own {
        Some(own) if own.epoch == new.epoch && new.rev <= own.rev => Step::Ignore,
        Some(own) if own.epoch == new.epoch && counts_from(own.rev) => Step::Apply,
        _ => Step::Gap,
    }
}

fn update(host: &impl Host, order: Order) -> Result {
    let new = order.mark().ok_or_else(|| missing("update", "rev or epoch"))?;
    let since = order.since.ok_or_else(|| missing("update", "since"))?;
    let (exact, add, remove) = (order.exact, order.add.unwrap_or_default(), order.remove.unwrap_or_default());
    match apply(host, &new, &Changes { since, exact, add, remove })? {
        Step::Ignore | Step::Apply => Ok(()),
        // It may have missed little.
        Step::Gap => adopt(host, ask(host, mark(host).as_ref())?),
    }
}

/// Carries out changes that lead to the mark `new`, if they fit the view. If another callback was at work on the view meanwhile, there is a gap.
fn apply(host: &impl Host, new: &Mark, changes: &Changes) -> Result<Step> {
    let ticket = draw(host)?;
    let step = step(mark(host).as_ref(), changes.since, changes.exact, new);
    if step != Step::Apply {
        return Ok(step);
    }
    if !changes.remove.is_empty() {
        host.remove(&changes.remove)?;
    }
    if !changes.add.is_empty() {
        host.add(&changes.add)?;
    }
    set_mark(host, Some(new))?;
    if undisturbed(host, &ticket) {
        return Ok(Step::Apply);
    }
    unmark(host)?;
    Ok(Step::Gap)
}

fn add(host: &impl Host, order: Order) -> Result {
    let servers = match (order.server, order.servers) {
        (Some(server), _) => vec![server],
        (None, Some(servers)) => serde_json::from_str(servers.get())?,
        (None, None) => return Err(missing("addServer", "server")),
    };
    plain_change(host, || host.add(&servers))
}

/// Carries out a change in pomelo's form. An original master sends no other form, and a view that was whole stays whole. One of our own masters sends it
/// after a restart, when it does not know this monitor yet. The change has no revision then, and may be older than the view, so that the view loses its mark.
fn plain_change(host: &impl Host, change: impl FnOnce() -> Result) -> Result {
    let before = mark(host);
    unmark(host)?;
    change()?;
    match before {
        Some(plain) if plain.is_plain() => set_mark(host, Some(&plain)),
        // Once more, because a callback that runs beside this one may have given the view a mark since.
        _ => unmark(host),
    }
}

/// Removes the mark. A callback that is at work on the view learns it by the ticket, and the timer asks for the whole table.
fn unmark(host: &impl Host) -> Result {
    draw(host)?;
    set_mark(host, None)
}

fn replace(host: &impl Host, order: &Order) -> Result {
    let servers = order.servers.clone().ok_or_else(|| missing("replaceServer", "servers"))?;
    match order.mark() {
        Some(Mark { epoch, rev }) => {
            let servers = Some(servers);
            adopt(host, Known { epoch, rev, servers, changes: None, listener: true, recorded: true })
        }
        None => {
            unmark(host)?;
            host.replace(&servers)?;
            // Without a mark once more, because a callback that runs beside this one may have given the view one since.
            if host.read(PLAIN).is_some() { set_mark(host, Some(&Mark::plain())) } else { unmark(host) }
        }
    }
}

/// Asks what the view lacks that stands at `mark`.
fn ask(host: &impl Host, mark: Option<&Mark>) -> Result<Known> {
    host.ask(&Request::new("query", host.id()).at(mark))
}

/// Asks for the whole table. The view has no mark meanwhile, and keeps none if the question fails.
fn again(host: &impl Host) -> Result<Known> {
    unmark(host)?;
    ask(host, None)
}

/// Makes a table the view, unless the view is newer.
fn adopt(host: &impl Host, mut known: Known) -> Result {
    for _ in 0..ATTEMPTS {
        if let Some(changes) = &known.changes {
            if apply(host, &known.mark(), &serde_json::from_str(changes.get())?)? != Step::Gap {
                return Ok(());
            }
            known = again(host)?;
            continue;
        }
        let Some(servers) = &known.servers else {
            return Ok(());
        };
        let ticket = draw(host)?;
        if mark(host).is_some_and(|own| own.epoch == known.epoch && own.rev > known.rev) {
            return Ok(());
        }
        set_mark(host, None)?;
        host.replace(servers)?;
        set_mark(host, Some(&known.mark()))?;
        if undisturbed(host, &ticket) {
            return Ok(());
        }
        known = again(host)?;
    }
    // The view has no mark, so that the timer asks again.
    Ok(())
}

fn mark(host: &impl Host) -> Option<Mark> {
    serde_json::from_str(&host.read(MARK)?).ok()
}

fn set_mark(host: &impl Host, mark: Option<&Mark>) -> Result {
    match mark {
        Some(mark) => host.write(MARK, Some(&serde_json::to_string(mark)?)),
        None => host.write(MARK, None),
    }
}

/// Draws the next ticket.
fn draw(host: &impl Host) -> Result<String> {
    loop {
        let last = host.read(TICKET);
        let number: u64 = last.as_deref().and_then(|last| last.parse().ok()).unwrap_or(0);
        let next = number.wrapping_add(1).to_string();
        if host.swap(TICKET, last.as_deref(), Some(&next))? {
            return Ok(next);
        }
    }
}

/// Whether this ticket is still the last that was drawn, so that nothing else has touched the view.
fn undisturbed(host: &impl Host, ticket: &str) -> bool {
    host.read(TICKET).as_deref() == Some(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_applied_only_where_nothing_is_missing() {
        let at = |epoch: &str, rev| Mark { epoch: epoch.into(), rev };
        assert_eq!(step(Some(&at("a", 5)), 5, true, &at("a", 6)), Step::Apply);
        assert_eq!(step(Some(&at("a", 5)), 4, true, &at("a", 6)), Step::Gap);
        let cases = [
            (None, 0, at("a", 1), Step::Gap),
            (Some(at("a", 4)), 4, at("a", 5), Step::Apply),
            (Some(at("a", 4)), 2, at("a", 5), Step::Apply),
            (Some(at("a", 4)), 5, at("a", 6), Step::Gap),
            (Some(at("a", 5)), 4, at("a", 5), Step::Ignore),
            (Some(at("a", 6)), 4, at("a", 5), Step::Ignore),
            (Some(at("a", 6)), 6, at("b", 7), Step::Gap),
            (Some(at("a", 9)), 0, at("b", 1), Step::Gap),
        ];
        for (own, since, new, expected) in cases {
            assert_eq!(step(own.as_ref(), since, false, &new), expected, "{own:?} {since} {new:?}");
        }
    }
}
