//! One live instance: a wasmtime store with the module's exports looked up.

use std::fmt::{self, Write};
use std::sync::Arc;

use wasmtime::component::{self, InstancePre};
use wasmtime::{Store, WasmBacktrace};

use super::bindings::exports::pomelo::admin::{
    client_handler, lifecycle, master_handler, monitor_handler, server_events,
};
use super::instance_state::InstanceState;
use super::limited_store::limited_store;
use super::sampling::SamplingSwitch;
use super::share::CpuShare;
use super::{Engine, EngineLimits, Handler, Inspection, Limits, guest};
use crate::budget::{ModuleAccount, ModuleOver};
use crate::failure::{Failure, code};
use crate::wire::{sentence, shown};

/// Where the handlers are found in a compiled module. Looked up once for each version.
pub(super) struct Exports {
    master: Option<master_handler::GuestIndices>,
    monitor: Option<monitor_handler::GuestIndices>,
    client: Option<client_handler::GuestIndices>,
    events: Option<server_events::GuestIndices>,
    start: Option<lifecycle::GuestIndices>,
}

impl Exports {
    pub fn new(pre: &InstancePre<InstanceState>, inspection: &Inspection) -> wasmtime::Result<Self> {
        let has = |handler| inspection.has(handler);
        Ok(Exports {
            master: has(Handler::Master).then(|| master_handler::GuestIndices::new(pre)).transpose()?,
            monitor: has(Handler::Monitor).then(|| monitor_handler::GuestIndices::new(pre)).transpose()?,
            client: has(Handler::Client).then(|| client_handler::GuestIndices::new(pre)).transpose()?,
            events: has(Handler::Events).then(|| server_events::GuestIndices::new(pre)).transpose()?,
            start: has(Handler::Start).then(|| lifecycle::GuestIndices::new(pre)).transpose()?,
        })
    }

    fn load(&self, store: &mut Store<InstanceState>, instance: &component::Instance) -> wasmtime::Result<Guest> {
        Ok(Guest {
            master: self.master.as_ref().map(|export| export.load(&mut *store, instance)).transpose()?,
            monitor: self.monitor.as_ref().map(|export| export.load(&mut *store, instance)).transpose()?,
            client: self.client.as_ref().map(|export| export.load(&mut *store, instance)).transpose()?,
            events: self.events.as_ref().map(|export| export.load(&mut *store, instance)).transpose()?,
            start: self.start.as_ref().map(|export| export.load(&mut *store, instance)).transpose()?,
        })
    }
}

/// A live instance. It serves one call at a time, and is dropped after a trap.
pub(super) struct Instance {
    pub store: Store<InstanceState>,
    guest: Guest,
}

/// The exports of an instance.
struct Guest {
    master: Option<master_handler::Guest>,
    monitor: Option<monitor_handler::Guest>,
    client: Option<client_handler::Guest>,
    events: Option<server_events::Guest>,
    start: Option<lifecycle::Guest>,
}

/// Functions that the failure of a trap names.
const FUNCTIONS: usize = 3;
/// Bytes of a function's name, and those of one that is read: a mangled name of some hundred bytes can stand for a million.
const FUNCTION: usize = 128;
const MANGLED: usize = 4096;
/// How the names of the functions begin through which a panic of Rust comes to its trap. They say nothing of where it was.
const PANICS: [&str; 9] = [
    "__rustc::",
    "rust_",
    "core::panicking::",
    "std::panicking::",
    "std::sys::",
    "std::process::",
    "core::option::",
    "core::result::",
    "core::slice::",
];

/// The name of a function for people.
fn demangled(name: &str) -> String {
    let mut short = Short(String::new());
    let name = &name[..name.floor_char_boundary(MANGLED)];
    // Without the hash that makes a name of Rust unique. It ends with an error where there is more.
    let _ = write!(short, "{:#}", rustc_demangle::demangle(name));
    shown(&short.0)
}

/// The beginning of what is written.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = FUNCTION - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Why a guest's call did not return, and which limits it had exceeded.
pub(super) struct Trapped {
    pub error: wasmtime::Error,
    pub cpu_exceeded: bool,
    pub memory_exceeded: bool,
    /// Why memory was refused that the instance itself might have had.
    pub over: Option<ModuleOver>,
    /// What it printed last to standard error.
    last_words: Option<String>,
}

impl Trapped {
    pub fn new(error: wasmtime::Error, state: &InstanceState) -> Self {
        Trapped {
            error,
            cpu_exceeded: state.cpu.exceeded(),
            memory_exceeded: state.memory.exceeded,
            over: state.memory.over.clone(),
            last_words: state.last_words(),
        }
    }

    /// The failure that callers see in its place. `place` is where in the module it was.
    pub fn failure(&self, place: &str, limits: &Limits) -> Failure {
        if self.cpu_exceeded {
            let message = format!("{place} used more than {} ms of CPU time", limits.cpu.as_millis());
            return Failure::new(code::CPU_LIMIT, message);
        }
        if let Some(over) = &self.over {
            return Failure::new(code::MEMORY_LIMIT, format!("{place}: {over}"));
        }
        if self.memory_exceeded {
            let message = format!("{place} wanted more than {} KiB of memory", limits.memory >> 10);
            return Failure::new(code::MEMORY_LIMIT, message);
        }
        // wasmtime has no type for it.
        if self.error.root_cause().to_string().contains("fuel allocated for hostcalls") {
            let kib = limits.handed_over() >> 10;
            let message = format!(
                "{place} handed its host more than {kib} KiB at once (`answer_kib`, `message_kib`, `store_kib` in [limits])"
            );
            return Failure::new(code::MEMORY_LIMIT, message);
        }
        match self.error.downcast_ref::<wasmtime::Trap>() {
            Some(trap) => {
                Failure::new(code::TRAP, format!("{place} trapped: {trap}{}{}", self.functions(), self.said()))
            }
            None => {
                let why = self.error.root_cause();
                Failure::new(code::TRAP, format!("{place} failed: {why}{}{}", self.functions(), self.said()))
            }
        }
    }

    /// The innermost functions, as the end of a sentence. Empty where the file has no names of functions.
    fn functions(&self) -> String {
        let frames = self.error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
        let names = frames.iter().filter_map(|frame| frame.func_name()).map(demangled);
        let mut inner: Vec<String> = Vec::new();
        for name in names.skip_while(|name| name == "abort" || PANICS.iter().any(|start| name.starts_with(start))) {
            if inner.len() == FUNCTIONS {
                break;
            }
            // One that calls itself is named once.
            if inner.last() != Some(&name) {
                inner.push(name);
            }
        }
        if inner.is_empty() { String::new() } else { format!(" in {}", inner.join(", called by ")) }
    }

    /// The reason that the guest itself gave, as the end of a sentence: an exception, or a panic's message.
    fn said(&self) -> String {
        self.last_words.as_ref().map_or_else(String::new, |words| format!("; it printed: {}", sentence(words)))
    }

    /// There is no room for the instance.
    fn no_room(over: ModuleOver) -> Self {
        let error = wasmtime::Error::msg(over.to_string());
        Trapped { error, cpu_exceeded: false, memory_exceeded: false, over: Some(over), last_words: None }
    }

    /// The host could not let the guest run to its end.
    fn lost(why: Failure) -> Self {
        let error = wasmtime::Error::msg(why.to_string());
        Trapped { error, cpu_exceeded: false, memory_exceeded: false, over: None, last_words: None }
    }
}

impl Instance {
    pub async fn new(
        engine: &Engine,
        pre: &InstancePre<InstanceState>,
        exports: &Exports,
        limits: &Limits,
        account: &ModuleAccount,
        sampling: &Arc<SamplingSwitch>,
        share: &Arc<CpuShare>,
    ) -> Result<Self, Trapped> {
        let charge = account.instance(EngineLimits::INSTANCE).map_err(Trapped::no_room)?;
        let mut store = limited_store(engine, limits, charge, sampling, share);
        let (clock, pre) = (store.data().cpu.clone(), pre.clone());
        // What a component does when it is instantiated may compute as long as any call.
        let making = async move {
            let made = pre.instantiate_async(&mut store).await;
            (store, made)
        };
        let (mut store, made) = guest::run(engine.scheduler(), &clock, making).await.map_err(Trapped::lost)?;
        match made.and_then(|instance| exports.load(&mut store, &instance)) {
            Ok(guest) => Ok(Instance { store, guest }),
            Err(error) => Err(Trapped::new(error, store.data())),
        }
    }

    /// Calls a handler. Its answer is text, and absent for handlers that have none. The outer error is a trap, the inner one the handler's own
    /// failure.
    pub async fn call(
        &mut self,
        handler: Handler,
        msg: Option<&String>,
    ) -> wasmtime::Result<Result<Option<String>, Failure>> {
        let (store, guest) = (&mut self.store, &self.guest);
        let answer = match handler {
            Handler::Master => exported(&guest.master)?.call_handle(store, msg).await?.map(Some),
            Handler::Monitor => exported(&guest.monitor)?.call_handle(store, msg).await?.map(Some),
            Handler::Client => exported(&guest.client)?.call_handle(store, msg).await?.map(Some),
            Handler::Events => {
                exported(&guest.events)?.call_handle(store, msg.unwrap_or(&String::new())).await?.map(|()| None)
            }
            Handler::Start => exported(&guest.start)?.call_start(store).await?.map(|()| None),
        };
        Ok(answer.map_err(Failure::from))
    }
}

fn exported<T>(guest: &Option<T>) -> wasmtime::Result<&T> {
    guest.as_ref().ok_or_else(|| wasmtime::Error::msg("the module does not export this handler"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_name_is_readable_and_short() {
        assert_eq!(demangled("_ZN7greeter5greet17h0123456789abcdefE"), "greeter::greet");
        assert_eq!(demangled("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(demangled("handle"), "handle");
        assert!(demangled(&"ü".repeat(1 << 20)).len() < 2 * FUNCTION);
        // Each back reference doubles what it stands for.
        let doubled = (0..16).fold("NvC1a1b".to_owned(), |inner, _| format!("I{inner}NvC1a1bB2_E"));
        assert!(demangled(&format!("_R{doubled}")).len() < 2 * FUNCTION);
    }
}
