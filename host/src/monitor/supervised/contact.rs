//! How a program says that it is ready, and how it is asked to end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::config::Ready;
use crate::failure::{Failure, code};
use crate::monitor::application::{ask_to_end, control::Control};
use crate::supervise::Contact;

/// How often a port is tried.
const TRY: Duration = Duration::from_millis(50);
/// How long a try may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a program that closes its socket when it is asked to end may still run before it is sent a signal.
const ENDING: Duration = Duration::from_secs(1);

/// What a supervisor asks of a program over its control socket and its port.
pub(super) struct ByControl {
    pub control: Arc<Control>,
    pub ready: Ready,
    /// `host:port` to try, for [`Ready::Port`].
    pub address: Option<String>,
    pub ready_timeout: Duration,
}

impl Contact for ByControl {
    fn starting(&self) {
        self.control.restarted();
    }

    fn ready(&self, _pid: u32) -> Option<BoxFuture<'static, ()>> {
        match (self.ready, &self.address) {
            (Ready::Control, _) => Some(self.control.ready()),
            (Ready::Port, Some(address)) => Some(open(address.clone()).boxed()),
            (Ready::Port, None) | (Ready::Delay, _) => None,
        }
    }

    fn ready_timeout(&self) -> Duration {
        self.ready_timeout
    }

    fn awaited(&self) -> String {
        match (self.ready, &self.address) {
            (Ready::Port, Some(address)) => format!("nobody listened on {address}"),
            _ => "it did not say over its control socket that it is ready".to_owned(),
        }
    }

    fn ask_to_end(&self, deadline: Duration) -> Option<BoxFuture<'static, Result<(), Failure>>> {
        let asked = ask_to_end(&*self.control, deadline)?;
        let asked = async move {
            let answer = asked.await;
            if answer.as_ref().is_err_and(|failure| failure.code == code::DISCONNECTED) {
                sleep(ENDING).await;
            }
            answer
        };
        Some(asked.boxed())
    }
}

/// Waits until somebody listens.
async fn open(address: String) {
    while !matches!(timeout(CONNECT, TcpStream::connect(&address)).await, Ok(Ok(_))) {
        sleep(TRY).await;
    }
}
