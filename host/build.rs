//! Finds the built-in modules: those committed in `modules/built`, or those of the directory that `POMELO_BUILTINS` names.

use std::path::PathBuf;
use std::{env, fs};

/// Names of the modules that the program carries: those that always run, and those that `[modules] system_monitor` switches on.
const ALWAYS: &[&str] = &["console", "watchdog", "watch-server"];
const SYSTEM_MONITOR: &[&str] = &["monitor-log", "node-info", "profiler", "scripts", "system-info"];

fn main() {
    println!("cargo:rerun-if-env-changed=POMELO_BUILTINS");
    let directory = env::var_os("POMELO_BUILTINS").map_or_else(|| "../modules/built".into(), PathBuf::from);
    let entry = |name: &str, system_monitor: bool| {
        let path = directory.join(name).with_extension("wasm");
        println!("cargo:rerun-if-changed={}", path.display());
        let path = fs::canonicalize(&path).unwrap_or_else(|error| {
            panic!("the built-in module {} cannot be found ({error}): run modules/build.sh", path.display())
        });
        format!("({name:?}, {system_monitor}, include_bytes!({path:?})),")
    };
    let always = ALWAYS.iter().map(|name| entry(name, false));
    let list: String = always.chain(SYSTEM_MONITOR.iter().map(|name| entry(name, true))).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("built_in.rs"), format!("&[{list}]")).expect("OUT_DIR can be written");
}
