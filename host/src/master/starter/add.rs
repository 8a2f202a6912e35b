//! Servers that are added to the cluster while it runs.

use std::time::Duration;

use futures_util::future::join_all;

use super::ServerStarter;
use crate::failure::{Failure, code};
use crate::fleet::Named;
use crate::wire::Info;

/// Servers that can have been added at a time.
const MAX_ADDED: usize = 10_000;

impl ServerStarter {
    /// Adds servers. All are checked before any is added: their ids, what they name, whether their ports are free. `running` are the servers that are
    /// connected. `name` is told of the new ones and of all servers that there are then. Gives the ids of the new ones. Calls of this must not overlap.
    ///
    /// # Errors
    /// `bad-message` names all that is wrong; `busy` where there are too many.
    pub(in crate::master) async fn add(
        &self,
        added: &[Info],
        running: &[String],
        name: impl FnOnce(&[String], &[Named]),
    ) -> Result<Vec<String>, Failure> {
        // The id of a server that was added before and is down can be added anew.
        let mut config = self.roster.lock().config.clone();
        let again: Vec<String> = {
            let roster = self.roster.lock();
            let named = added.iter().filter_map(|info| info.get("id")?.as_str());
            let down =
                |id: &&str| roster.added.contains(*id) && !running.iter().any(|up| up == id) && roster.is_down(id);
            named.filter(down).map(str::to_owned).collect()
        };
        config.servers.retain(|server| !again.contains(&server.id));
        let refused = |wrong: Vec<String>| Failure::new(code::BAD_MESSAGE, wrong.join("; "));
        let servers = config.added(added, running, &self.master).map_err(refused)?;
        let checks = servers.iter().map(|server| self.reach(server, Duration::ZERO));
        let wrong: Vec<String> =
            join_all(checks).await.into_iter().filter_map(Result::err).map(|f| f.message).collect();
        if !wrong.is_empty() {
            return Err(refused(wrong));
        }
        let ids: Vec<String> = servers.iter().map(|server| server.id.clone()).collect();
        {
            let mut roster = self.roster.lock();
            if roster.added.len() + servers.len() > MAX_ADDED {
                let what = format!("at most {MAX_ADDED} servers can be added; {} are there", roster.added.len());
                return Err(Failure::new(code::BUSY, what));
            }
            // Those that are added anew may have been started meanwhile.
            if let Some(id) = again.iter().find(|id| !roster.is_down(id)) {
                return Err(Failure::new(code::BUSY, format!("{id} was added before, and is being started")));
            }
            roster.config.servers.retain(|server| !again.contains(&server.id));
            again.iter().for_each(|id| drop(roster.monitors.remove(id)));
            roster.added.extend(ids.iter().cloned());
            roster.config.servers.extend(servers);
            name(&ids, &roster.named());
        }
        Ok(ids)
    }
}
