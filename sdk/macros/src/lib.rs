//! The attribute macro of `pomelo-sdk`.
//!
//! `syntax` reads what stands in the parentheses, `module` gives it a meaning and makes the descriptor, `callback` reads the signatures
//! in the `impl`, and `expand` writes the code that connects them with the host.

#![deny(missing_docs)]

mod callback;
mod expand;
mod module;
mod syntax;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes an admin module of an `impl`. The callbacks that are in it are exported: `master_handler`, `monitor_handler`, `client_handler`, `start`
/// and `server_events`. The arguments describe the module to the host.
///
/// | argument | meaning |
/// |---|---|
/// | `id = "timeReport"` | The module's id, by which messages are addressed to it. |
/// | `roles(master)` | The hosts on which it runs: `master`, `monitor`. Both where this is absent. |
/// | `pull` or `push` | It has a timer: the master calls `master_handler`, or the monitor calls `monitor_handler`, without a message. |
/// | `interval = 5`, `delay = 1` | Seconds between two turns of the timer, at least 1; and before the first. |
/// | `id("a", roles(…), pull, …)` | For a module with several ids: one for each, with the arguments above inside. |
/// | `level = 2` | The highest level of a user who may ask `client_handler` for anything. Where this is absent, only level 1 may, which may do everything. |
/// | `operations(by = "signal", list = 2)` | The operation is what the message's member `signal` says; level 2 may ask for `list`, level 1 for the rest. `"*" = 2` sets the level of the operations that are not listed. `reads("jobs")` names operations of level 1 that only show something. |
/// | `serial(master_handler, …)` | Calls of these callbacks run one at a time, in the order of their arrival, whichever of the callbacks they are for. With `start` among them, messages that come while `start` runs wait for it. |
/// | `limits(wall_ms = 60000, …)` | Limits that the module needs where the common ones are too low: `cpu_ms`, `wall_ms`, `memory_mib`, `answer_kib`, `message_kib`, `store_kib`. Only the built-in modules get them without the operator's configuration. |
/// | `durable("key", "prefix*")` | Keys of the store that outlive the host's process. A `*` at the end stands for any ending. |
/// | `version = "2.0.0"` | The module's version; the package's where this is absent. |
///
/// See the documentation of `pomelo_sdk` for what the callbacks look like.
#[proc_macro_attribute]
pub fn module(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::module(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
