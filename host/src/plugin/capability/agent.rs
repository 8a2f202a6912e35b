//! `agent`: what a call knows of its host, its caller and its deadline, and the log.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::unavailable::not_available;
use crate::plugin::bindings::pomelo::admin::agent::Host;
use crate::plugin::bindings::pomelo::admin::types;
use crate::plugin::guest_log;
use crate::plugin::instance_state::InstanceState;
use crate::plugin::{ModuleMessage, Progress};
use crate::wire::raw;

impl types::Host for InstanceState {}

// While a component is instantiated there is no call. These functions then answer with nothing, because they cannot fail.
impl Host for InstanceState {
    fn role(&mut self) -> String {
        self.call().map(|call| call.context.identity.role.as_str().to_owned()).unwrap_or_default()
    }

    fn server_id(&mut self) -> String {
        self.call().map(|call| call.context.identity.server_id.clone()).unwrap_or_default()
    }

    fn server_type(&mut self) -> String {
        self.call().map(|call| call.context.identity.server_type.clone()).unwrap_or_default()
    }

    fn module_id(&mut self) -> String {
        self.call().map(|call| call.context.id.clone()).unwrap_or_default()
    }

    fn modules(&mut self) -> Vec<String> {
        self.call().map(|call| call.context.neighbours.ids()).unwrap_or_default()
    }

    fn options(&mut self) -> String {
        self.call().map(|call| call.context.options()).unwrap_or_else(|_| "{}".into())
    }

    fn caller(&mut self) -> String {
        self.call().map(|call| raw(&*call.caller).get().to_owned()).unwrap_or_else(|_| "{}".into())
    }

    fn permits(&mut self, operation: String) -> bool {
        self.call().is_ok_and(|call| call.permits(&operation))
    }

    fn wants_answer(&mut self) -> bool {
        self.call().is_ok_and(|call| call.wants_answer)
    }

    fn time_left(&mut self) -> u64 {
        let left = self.call().map(|call| call.deadline.saturating_duration_since(Instant::now()));
        left.map_or(0, |left| left.as_millis().try_into().unwrap_or(u64::MAX))
    }

    fn now(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_millis().try_into().unwrap_or(u64::MAX)
    }

    async fn progress(&mut self, msg: String) -> Result<(), types::Failure> {
        let msg = self.json(msg)?.into();
        let (deadline, from) = (self.sent_by()?, self.account().clone());
        let call = self.call()?;
        let nobody = || not_available("agent.progress", "no client waits for the answer to this call");
        let waiting = call.caller.progress.as_ref().filter(|_| call.wants_answer);
        let Progress(send) = waiting.ok_or_else(nobody)?;
        let message = ModuleMessage { from, module: call.context.id.clone(), msg, depth: 0, deadline };
        let sent = send(message);
        Ok(self.wait_if_pending(sent).await?)
    }

    fn log(&mut self, level: String, message: String) {
        if let Ok(call) = self.call() {
            guest_log::log(&call.context, &level, message.into());
        }
    }
}
