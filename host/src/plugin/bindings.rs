//! What wasmtime generates from the WIT package.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "module",
    imports: {
        "pomelo:admin/cluster.request": async,
        "pomelo:admin/cluster.request-many": async,
        "pomelo:admin/uplink.request": async,
        "pomelo:admin/application.add-servers": async,
        "pomelo:admin/application.remove-servers": async,
        "pomelo:admin/application.replace-servers": async,
        "pomelo:admin/application.start-over": async,
        "pomelo:admin/process.stop": async,
        "pomelo:admin/process.kill": async,
        "pomelo:admin/process.restart": async,
        "pomelo:admin/starter.start": async,
    },
    exports: { default: async },
});

use crate::failure::Failure;
use pomelo::admin::types;

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        types::Failure { code: failure.code.into_owned(), message: failure.message }
    }
}

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        Failure::new(failure.code, failure.message)
    }
}
