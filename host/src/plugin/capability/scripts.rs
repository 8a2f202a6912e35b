//! `scripts`: programs that are run once.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::Failure;
use crate::plugin::Caller;
use crate::plugin::bindings::pomelo::admin::{scripts::Host, types};
use crate::plugin::instance_state::InstanceState;

/// What is run.
#[derive(Clone, Debug)]
pub enum Script {
    /// A saved one, by its name.
    Saved(String),
    /// A component, or its text form.
    Content(Vec<u8>),
}

/// One run of a script.
#[derive(Clone, Debug)]
pub struct ScriptRun {
    /// What is run.
    pub script: Script,
    /// What its handler is given as its message.
    pub args: Box<RawValue>,
    /// Who called the module that runs it.
    pub caller: Arc<Caller>,
    /// In how many calls the run is nested.
    pub depth: u8,
    /// When it must have been answered.
    pub deadline: Instant,
}

/// What the interface `scripts` acts on.
pub trait Scripts: Send + Sync + 'static {
    /// Names of the saved scripts.
    fn names(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;
    /// A saved script as it was saved.
    fn get(&self, name: String) -> BoxFuture<'_, Result<Vec<u8>, Failure>>;
    /// Saves a script.
    fn save(&self, name: String, content: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Runs a script once and waits for its answer.
    fn run(&self, run: ScriptRun) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
}

impl InstanceState {
    fn scripts(&self) -> Result<Arc<dyn Scripts>, Failure> {
        let scripts = self.call()?.context.services.scripts.clone();
        scripts.ok_or_else(|| not_available("scripts", "this host runs no scripts"))
    }

    async fn run_script(&mut self, script: Script, args: String) -> Result<String, types::Failure> {
        let scripts = self.scripts()?;
        let args = self.json(args)?;
        let content = match &script {
            Script::Saved(name) => name.len(),
            Script::Content(content) => content.len(),
        };
        self.holds(args.get().len() + content)?;
        let (depth, deadline) = self.nested(std::time::Duration::MAX)?;
        let caller = self.call()?.caller.clone();
        let answer = self.wait(scripts.run(ScriptRun { script, args, caller, depth, deadline })).await?;
        Ok(Box::<str>::from(answer).into())
    }
}

impl Host for InstanceState {
    async fn names(&mut self) -> Result<Vec<String>, types::Failure> {
        let scripts = self.scripts()?;
        Ok(self.wait(scripts.names()).await?)
    }

    async fn get(&mut self, name: String) -> Result<Vec<u8>, types::Failure> {
        let scripts = self.scripts()?;
        Ok(self.wait(scripts.get(name)).await?)
    }

    async fn save(&mut self, name: String, content: Vec<u8>) -> Result<(), types::Failure> {
        let scripts = self.scripts()?;
        self.holds(name.len() + content.len())?;
        Ok(self.wait(scripts.save(name, content)).await?)
    }

    async fn run(&mut self, name: String, args: String) -> Result<String, types::Failure> {
        self.run_script(Script::Saved(name), args).await
    }

    async fn run_content(&mut self, content: Vec<u8>, args: String) -> Result<String, types::Failure> {
        self.run_script(Script::Content(content), args).await
    }
}
