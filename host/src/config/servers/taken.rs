//! Ids and addresses that are in use, so that no two servers share one.

use std::collections::HashMap;

use super::counted::counted_id;
use super::server::{Master, Server};
use super::values::port_number;
use crate::config::reader::File;

/// Ids and addresses that are taken, each with the place that took it.
#[derive(Default)]
pub(in crate::config) struct Taken {
    ids: HashMap<String, String>,
    addresses: HashMap<(String, u16), String>,
}

impl Taken {
    /// The ids and addresses of servers that are known already.
    pub(in crate::config) fn by(master: &Master, servers: &[Server]) -> Self {
        let mut taken = Taken::default();
        let all = servers.iter().map(|server| (&server.id, &server.host, &server.info));
        for (id, host, info) in all.chain([(&master.id, &master.host, &master.info)]) {
            taken.ids.insert(id.clone(), format!("`{id}`"));
            for port in ["port", "clientPort"].into_iter().filter_map(|key| info.get(key).and_then(port_number)) {
                taken.addresses.insert((host.clone(), port), format!("`{id}`"));
            }
        }
        taken
    }

    /// Takes the id of a running server that is not configured.
    pub(in crate::config) fn running(&mut self, id: &str) {
        self.ids.entry(id.to_owned()).or_insert_with(|| format!("the running server `{id}`"));
    }

    /// The number of the next counted server of that type. Numbers go on over all entries of the type, as in pomelo.
    pub(super) fn next_number(&self, server_type: &str) -> u64 {
        let number = |id: &String| id.strip_prefix(&counted_id(server_type, ""))?.parse::<u64>().ok();
        self.ids.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    pub(super) fn id(&mut self, file: File<'_>, id: &str, at: usize) {
        let here = place(file, at);
        if let Some(first) = self.ids.get(id) {
            file.fault(
                at,
                format!("the id `{id}` is used twice"),
                format!("it is first used at {first}; ids are unique"),
            );
        } else {
            self.ids.insert(id.to_owned(), here);
        }
    }

    pub(super) fn address(&mut self, file: File<'_>, host: &str, port: u16, at: usize) {
        let here = place(file, at);
        if let Some(first) = self.addresses.get(&(host.to_owned(), port)) {
            let hint = format!("{first} has it already; give one of them another port");
            file.fault(at, format!("{host}:{port} is used twice"), hint);
        } else {
            self.addresses.insert((host.to_owned(), port), here);
        }
    }
}

fn place(file: File<'_>, at: usize) -> String {
    // Added servers come from no file, so their place has no name.
    if file.source.is_nowhere() {
        return "another of them".to_owned();
    }
    let fault = file.source.fault(at, "", "");
    format!("{}:{}:{}", fault.file.display(), fault.line, fault.column)
}
