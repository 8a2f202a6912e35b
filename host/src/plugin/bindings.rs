//! What wasmtime generates from the WIT package.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "module",
    imports: {
        "pomelo:admin/agent.progress": async,
        "pomelo:admin/cluster.tell": async,
        "pomelo:admin/cluster.notify": async,
        "pomelo:admin/uplink.notify": async,
        "pomelo:admin/cluster.request": async,
        "pomelo:admin/cluster.request-many": async,
        "pomelo:admin/uplink.request": async,
        "pomelo:admin/application.add-servers": async,
        "pomelo:admin/application.remove-servers": async,
        "pomelo:admin/application.replace-servers": async,
        "pomelo:admin/application.start-over": async,
        "pomelo:admin/application.call": async,
        "pomelo:admin/application.add-crons": async,
        "pomelo:admin/application.remove-crons": async,
        "pomelo:admin/process.system": async,
        "pomelo:admin/process.usage": async,
        "pomelo:admin/process.output": async,
        "pomelo:admin/process.logs": async,
        "pomelo:admin/process.log-tail": async,
        "pomelo:admin/process.stop": async,
        "pomelo:admin/process.kill": async,
        "pomelo:admin/process.restart": async,
        "pomelo:admin/process.drain": async,
        "pomelo:admin/process.undrain": async,
        "pomelo:admin/starter.submit": async,
        "pomelo:admin/starter.wait": async,
        "pomelo:admin/kept-output.read": async,
        "pomelo:admin/scripts.names": async,
        "pomelo:admin/scripts.get": async,
        "pomelo:admin/scripts.save": async,
        "pomelo:admin/scripts.run": async,
        "pomelo:admin/scripts.run-content": async,
        "pomelo:admin/profiler.cpu": async,
        "pomelo:admin/profiler.guest": async,
    },
    exports: { default: async },
});

use crate::failure::Failure;
use crate::util::cut;
use pomelo::admin::types;

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        types::Failure { code: failure.code.into_owned(), message: failure.message }
    }
}

/// A guest's failure goes into answers, logs and figures: it is cut to what a code and a sentence may need.
impl From<types::Failure> for Failure {
    fn from(types::Failure { mut code, mut message }: types::Failure) -> Self {
        code.truncate(code.floor_char_boundary(MAX_CODE));
        cut(&mut message, MAX_MESSAGE);
        Failure::new(code, message)
    }
}

/// Bytes of a guest's failure that are kept.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 4096;
