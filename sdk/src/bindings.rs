//! What `wit_bindgen` makes of the contract in `wit/`.
//!
//! The imports are generated once; a component imports only those of them that it calls, since the linker drops the rest. Every export
//! is a world of its own with an export macro of its own. The part of the component's type that says "this is exported" is written where
//! that macro is used, so a module exports exactly the callbacks for which `#[module]` used it.

#![allow(missing_docs)]

/// The imports: one module for each interface.
mod imports {
    wit_bindgen::generate!({
        inline: "
            package pomelo:sdk;
            world imports {
                import pomelo:admin/types@0.1.0;
                import pomelo:admin/agent@0.1.0;
                import pomelo:admin/store@0.1.0;
                import pomelo:admin/cluster@0.1.0;
                import pomelo:admin/uplink@0.1.0;
                import pomelo:admin/application@0.1.0;
                import pomelo:admin/process@0.1.0;
                import pomelo:admin/kept-output@0.1.0;
                import pomelo:admin/starter@0.1.0;
                import pomelo:admin/scripts@0.1.0;
                import pomelo:admin/profiler@0.1.0;
            }",
        world: "imports",
        generate_all,
    });
}

pub use imports::pomelo::admin::{
    agent, application, cluster, kept_output, process, profiler, scripts, starter, store, types, uplink,
};

/// One export: a module with the trait `Guest` of an interface, and a macro that exports an implementation of it.
macro_rules! export {
    ($interface:ident, $world:literal, $export_macro:literal) => {
        pub mod $interface {
            wit_bindgen::generate!({
                inline: "
                    package pomelo:sdk;
                    world descriptor { export pomelo:admin/descriptor@0.1.0; }
                    world master-handler { export pomelo:admin/master-handler@0.1.0; }
                    world monitor-handler { export pomelo:admin/monitor-handler@0.1.0; }
                    world client-handler { export pomelo:admin/client-handler@0.1.0; }
                    world lifecycle { export pomelo:admin/lifecycle@0.1.0; }
                    world server-events { export pomelo:admin/server-events@0.1.0; }",
                world: $world,
                with: { "pomelo:admin/types@0.1.0": crate::bindings::types },
                export_macro_name: $export_macro,
                pub_export_macro: true,
            });
            pub use self::exports::pomelo::admin::$interface::Guest;
        }
    };
}

export!(descriptor, "descriptor", "export_descriptor");
export!(master_handler, "master-handler", "export_master_handler");
export!(monitor_handler, "monitor-handler", "export_monitor_handler");
export!(client_handler, "client-handler", "export_client_handler");
export!(lifecycle, "lifecycle", "export_lifecycle");
export!(server_events, "server-events", "export_server_events");
