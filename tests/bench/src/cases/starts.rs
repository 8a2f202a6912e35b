//! From the start of the program until it listens: without code that was compiled before, and with it.

use anyhow::Result;

use super::{Run, millis};
use crate::client::{Ask, Client};
use crate::master::{Home, Master};
use crate::wire::Wire;

pub fn run(run: &mut Run<'_>) -> Result<()> {
    let code = tempfile::tempdir()?;
    let home = Home::new(0, code.path())?;
    let listens = "from start to listening";
    run.tell("start, cold", listens, "ms", millis(Master::start(run.kind, &home)?.listened));
    run.tell("start, warm", listens, "ms", millis(Master::start(run.kind, &home)?.listened));
    if !run.kind.is_ours() {
        return Ok(());
    }
    let [module, _] = run.probes()?;
    home.put_module("probe.wasm", &module)?;
    for case in ["start with a module, cold", "start with a module, warm"] {
        let master = Master::start(run.kind, &home)?;
        run.tell(case, listens, "ms", millis(master.listened));
        let mut client = Client::connect(master.address(), Wire::Pomelo)?;
        client.until_answered(super::reloads::LOOK)?;
        run.tell(case, "from start to the module's answer", "ms", millis(master.started.elapsed()));
        client.until_answered(Ask::Module("nodeInfo", "{}"))?;
        run.tell(case, "from start to the answer of a built-in one", "ms", millis(master.started.elapsed()));
    }
    Ok(())
}
