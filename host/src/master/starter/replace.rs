//! Another configuration for a starter that runs: which servers there are, and how each is run from its next start on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::ServerStarter;
use super::command::Commands;
use crate::config::{Config, Origin};
use crate::failure::{Failure, code};
use crate::fleet::Named;
use crate::supervise::Restart;

impl ServerStarter {
    /// The same starter, whose monitors on this machine read the configuration as it is in force, from that file, and not the directory's files. The
    /// file is written now.
    ///
    /// # Errors
    /// `failed` where the file cannot be written.
    pub fn handing_on(mut self, file: PathBuf) -> Result<Self, Failure> {
        let config = &self.roster.get_mut().config;
        if config.origin != Origin::Demo {
            write(config, &file)?;
            self.commands.get_mut().reads(&file)?;
            self.handed_on = Some(file);
        }
        Ok(self)
    }

    /// Takes another configuration over. `name` is told of all servers that there are then. Servers that were added stay, unless the configuration names
    /// them now. What runs goes on as it is: a process that was begun with another spec is one that [has changed](Self::has_changed).
    ///
    /// # Errors
    /// `not-available` where its paths are not Unicode, `failed` where it cannot be handed on to monitors. Nothing has changed then.
    pub(in crate::master) async fn replace(&self, config: &Config, name: impl FnOnce(&[Named])) -> Result<(), Failure> {
        let policy = config.settings.supervise.policy(Restart::OnFailure);
        let mut commands = Commands::new(config, &self.master, self.program.clone(), policy)?;
        if let Some(file) = self.handed_on.clone() {
            commands.reads(&file)?;
            let config = config.clone();
            let written = tokio::task::spawn_blocking(move || write(&config, &file)).await;
            written.map_err(|error| Failure::new(code::FAILED, error.to_string()))??;
        }
        let starts = {
            let mut roster = self.roster.lock();
            let mut config = config.clone();
            let named: BTreeSet<String> = config.servers.iter().map(|server| server.id.clone()).collect();
            roster.added.retain(|id| !named.contains(id));
            let added = roster.config.servers.iter().filter(|server| roster.added.contains(&server.id));
            // They run what the others of their type run, or go on as they are where there are no others any more.
            let anew = added.map(|server| match config.added(std::slice::from_ref(&server.info), &[], &self.master) {
                Ok(anew) => anew,
                Err(wrong) => {
                    let why = wrong.join("; ");
                    tracing::warn!(server = %server.id, %why, "a server that was added does not fit the files, and goes on as it is");
                    vec![server.clone()]
                }
            });
            let anew: Vec<_> = anew.flatten().collect();
            config.servers.extend(anew);
            roster.config = config;
            let over = |id: &&String| roster.is_down(id) && roster.config.server(id).is_none();
            let over: Vec<String> = roster.monitors.keys().filter(over).cloned().collect();
            over.iter().for_each(|id| drop(roster.monitors.remove(id)));
            *self.commands.write() = commands;
            roster.starts
        };
        name(&self.named(starts).await);
        Ok(())
    }
}

fn write(config: &Config, file: &std::path::Path) -> Result<(), Failure> {
    let why = |error: std::io::Error| {
        let what = format!("the configuration cannot be kept for the monitors in {}: {error}", file.display());
        Failure::new(code::FAILED, what)
    };
    config.texts.write(file).map_err(why)
}
