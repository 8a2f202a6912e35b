//! Sixty clients that log in at the same time, with a password that is kept as a hash. Checking one takes 19 MiB, which must not stay.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Run, seconds};
use crate::client::{Client, Login};
use crate::master::Master;
use crate::wire::Wire;

const LOGINS: usize = 60;
const CASE: &str = "60 logins";
const USER: (&str, &str) = ("bench", "not a good password");
/// The memory that is left is looked at after it.
const QUIET: Duration = Duration::from_secs(3);

pub fn run(run: &mut Run<'_>) -> Result<()> {
    let home = run.home(0)?;
    home.add_user(run.kind, USER.0, USER.1).context("a user with a hashed password")?;
    let master = Master::start(run.kind, &home)?;
    thread::sleep(Duration::from_millis(500));
    run.tell(CASE, "memory before", "MiB", master.process().resident_mib()?);
    let (began, before) = (Instant::now(), master.process().cpu()?);
    let login = |number| {
        let login = Login { id: format!("bench-{number}"), username: USER.0, password: USER.1 };
        let address = master.address();
        thread::spawn(move || Client::login(address, Wire::Pomelo, login))
    };
    let logins: Vec<_> = (0..LOGINS).map(login).collect();
    let clients: Vec<_> = logins.into_iter().filter_map(|login| login.join().ok()).collect();
    run.tell(CASE, "until all are in", "s", seconds(began.elapsed()));
    run.tell(CASE, "CPU per login", "ms", (master.process().cpu()? - before).as_secs_f64() * 1e3 / LOGINS as f64);
    run.tell(CASE, "memory, peak", "MiB", master.process().peak_mib()?);
    let refused: Vec<_> = clients.iter().filter_map(|client| client.as_ref().err()).map(ToString::to_string).collect();
    drop(clients);
    thread::sleep(QUIET);
    run.tell(CASE, "memory after", "MiB", master.process().resident_mib()?);
    ensure!(refused.is_empty(), "{} logins were refused: {}", refused.len(), refused[0]);
    Ok(())
}
