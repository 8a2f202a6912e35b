//! How jobs are kept on disk: a row for each job, and one for each of its servers, because a job of thousands of servers changes with every step of each
//! of them.
//!
//! The key of a job is its number, that of a server `NUMBER/PLACE`. Earlier versions kept the servers in the job's own row; such a row is still read.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::jobs::Part;
use super::record::{Job, ServerProgress};
use super::{JobId, Messages};
use crate::fleet::{Shelf, Store};

/// A job, as it is kept: with what is not shown, without its servers.
#[derive(Serialize, Deserialize)]
struct Row<J, M> {
    job: J,
    messages: M,
}

/// The jobs that are kept. What cannot be read is said, and left out.
pub(super) fn load(store: &dyn Store) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut servers: HashMap<JobId, Vec<(usize, ServerProgress)>> = HashMap::new();
    for (key, text) in store.load(Shelf::Jobs) {
        let read = match key.split_once('/') {
            None => serde_json::from_str(&text)
                .map(|Row { job, messages }: Row<Job, Messages>| jobs.push(Job { messages, ..job })),
            Some((id, place)) => serde_json::from_str(&text).map(|progress| {
                if let (Ok(id), Ok(place)) = (id.parse(), place.parse()) {
                    servers.entry(id).or_default().push((place, progress));
                }
            }),
        };
        if let Err(error) = read {
            tracing::error!(job = key, %error, "what was kept of a job cannot be read, and is left out");
        }
    }
    for job in &mut jobs {
        if let Some(mut own) = servers.remove(&job.id) {
            own.sort_by_key(|(place, _)| *place);
            job.servers = own.into_iter().map(|(_, progress)| progress).collect();
        }
    }
    jobs
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
    let row = serde_json::to_string(&Row { job: &*job, messages: &job.messages });
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
