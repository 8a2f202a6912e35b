//! `store`: what a module keeps.

use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{store::Host, types};
use crate::plugin::instance_state::InstanceState;

impl Host for InstanceState {
    fn get(&mut self, key: String) -> Option<String> {
        self.call().ok()?.store.get(&key).map(|value| value.to_string())
    }

    fn set(&mut self, key: String, value: String) -> Result<(), types::Failure> {
        Ok(self.call()?.store.set(&key, Some(&value))?)
    }

    fn delete(&mut self, key: String) -> bool {
        self.call().is_ok_and(|call| call.store.delete(&key))
    }

    fn entries(&mut self, prefix: String) -> Vec<(String, String)> {
        self.call().map(|call| call.store.entries(&prefix)).unwrap_or_default()
    }

    fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<String>,
        new: Option<String>,
    ) -> Result<bool, types::Failure> {
        Ok(self.call()?.store.compare_and_swap(&key, expected.as_deref(), new.as_deref())?)
    }

    fn durable(&mut self, key: String) -> bool {
        self.call().is_ok_and(|call| call.context.is_durable(&key))
    }

    fn read(&mut self, module_id: String, key: String) -> Result<Option<String>, types::Failure> {
        let context = &self.call()?.context;
        if context.id != module_id && !context.reaches("store", &module_id) {
            let message = format!(
                "module {} may not read the store of {module_id}: it lacks the grant `store:{module_id}`",
                context.id
            );
            return Err(Failure::new(code::FORBIDDEN, message).into());
        }
        let store = context
            .neighbours
            .store(&module_id)
            .ok_or_else(|| Failure::new(code::UNKNOWN_MODULE, format!("unknown module {module_id}")))?;
        Ok(store.get(&key).map(|value| value.to_string()))
    }
}
