//! How jobs are kept on disk: a row for each job, and one for each of its servers, because a job of thousands of servers changes with every step of each
//! of them.
//!
//! The key of a job is its number, that of a server `NUMBER/PLACE`. The servers are written before the job, so that a job that is there has all of them.
//! Earlier versions kept the servers in the job's own row; such a row is still read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{Job, ServerProgress};
use super::{JobId, Messages};
use crate::fleet::{Shelf, Store};

/// What of a job changes, and is to be kept anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The job without its servers.
    Job,
    /// The server in that place.
    Server(usize),
    /// The job and all its servers.
    Whole,
}

/// A job, as it is kept: with what is not shown, without its servers.
#[derive(Serialize, Deserialize)]
struct Row<J, M> {
    job: J,
    messages: M,
    /// How many servers have rows of their own. Absent where an earlier version has written the row.
    #[serde(default)]
    servers: Option<usize>,
}

/// The jobs that are kept, and the highest number of which anything is left. What cannot be read is said, and left out. Rows without a job are removed: a
/// crash may have come before the job was written, or while it was being forgotten.
pub(super) fn load(store: &dyn Store) -> (Vec<Job>, JobId) {
    let (mut jobs, mut last) = (Vec::new(), 0);
    let mut servers: BTreeMap<JobId, BTreeMap<usize, ServerProgress>> = BTreeMap::new();
    let unread = |key: &str, error: serde_json::Error| {
        tracing::error!(job = key, %error, "what was kept of a job cannot be read, and is left out");
    };
    for (key, text) in store.load(Shelf::Jobs) {
        match key.split_once('/') {
            None => match serde_json::from_str::<Row<Job, Messages>>(&text) {
                Ok(Row { job, messages, servers }) => jobs.push((Job { messages, ..job }, servers)),
                Err(error) => unread(&key, error),
            },
            Some((id, place)) => match (id.parse(), place.parse(), serde_json::from_str(&text)) {
                (Ok(id), Ok(place), Ok(progress)) => drop(servers.entry(id).or_default().insert(place, progress)),
                (_, _, Err(error)) => unread(&key, error),
                _ => store.put(Shelf::Jobs, &key, None),
            },
        }
    }
    for (job, count) in &mut jobs {
        last = last.max(job.id);
        let mut own = servers.remove(&job.id).unwrap_or_default();
        let beyond = own.split_off(&count.unwrap_or(job.servers.len()));
        servers.extend((!beyond.is_empty()).then_some((job.id, beyond)));
        match count {
            Some(_) => job.servers = own.into_values().collect(),
            None => own.into_iter().for_each(|(place, progress)| job.servers[place] = progress),
        }
    }
    for (id, places) in servers {
        last = last.max(id);
        places.into_keys().for_each(|place| store.put(Shelf::Jobs, &format!("{id}/{place}"), None));
    }
    (jobs.into_iter().map(|(job, _)| job).collect(), last)
}

/// Keeps a part of a job.
pub(super) fn keep(store: &dyn Store, job: &mut Job, part: Part) {
    let id = job.id;
    let server = |place: usize, progress: &ServerProgress| {
        store.put(Shelf::Jobs, &format!("{id}/{place}"), serde_json::to_string(progress).ok());
    };
    match part {
        Part::Server(place) => {
            if let Some(progress) = job.servers.get(place) {
                server(place, progress);
            }
            return;
        }
        Part::Job => {}
        Part::Whole => job.servers.iter().enumerate().for_each(|(place, progress)| server(place, progress)),
    }
    let servers = std::mem::take(&mut job.servers);
    let row = serde_json::to_string(&Row { job: &*job, messages: &job.messages, servers: Some(servers.len()) });
    job.servers = servers;
    store.put(Shelf::Jobs, &id.to_string(), row.ok());
}

/// Keeps nothing of a job any more.
pub(super) fn forget(store: &dyn Store, job: &Job) {
    store.put(Shelf::Jobs, &job.id.to_string(), None);
    for place in 0..job.servers.len() {
        store.put(Shelf::Jobs, &format!("{}/{place}", job.id), None);
    }
}
