//! Permits of Engine.IO sessions that begin with polling. Such a session outlives its connections, so that bounds on these do not bound it.

use std::net::IpAddr;
use std::sync::Arc;

use super::Places;
use crate::util::network;

/// Why a session that begins with polling is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::transport) enum NoPolling {
    /// Its address has as many as it may.
    #[error(
        "this address has too many sessions that poll (`[network] polling_per_address`); connect with a WebSocket, or try again later"
    )]
    Address,
    /// There are as many as there may be.
    #[error(
        "there are too many sessions that poll (`[network] polling_sessions`); connect with a WebSocket, or try again later"
    )]
    All,
}

/// Counts one session. It is given back when it is dropped.
pub(in crate::transport) struct PollingPermit {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// A session wants to begin with polling.
    pub fn polling(self: &Arc<Self>, address: IpAddr) -> Result<PollingPermit, NoPolling> {
        let address = network(address);
        let mut table = self.table.lock();
        let (of_address, all) = table.polling(address);
        if of_address >= self.bounds.polling_per_address {
            return Err(NoPolling::Address);
        }
        if all >= self.bounds.polling {
            return Err(NoPolling::All);
        }
        table.begin_polling(address);
        Ok(PollingPermit { places: self.clone(), address })
    }
}

impl Drop for PollingPermit {
    fn drop(&mut self) {
        self.places.table.lock().end_polling(self.address);
    }
}
