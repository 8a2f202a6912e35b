//! What tests ask of a master as its clients.

use pomelo_host::client::{AdminClient, ClientError};
use pomelo_host::failure::Failure;
use serde::Serialize;
use serde_json::Value;

/// A client's questions, with answers as values. Only what the master answers is an outcome; a broken connection fails the test.
pub trait Ask {
    async fn ask(&self, module: &str, body: impl Serialize) -> Result<Value, Failure>;
    async fn order(&self, command: &str, module: Option<&str>) -> Result<Value, Failure>;
}

impl Ask for AdminClient {
    async fn ask(&self, module: &str, body: impl Serialize) -> Result<Value, Failure> {
        outcome(self.request(module, body).await)
    }

    async fn order(&self, command: &str, module: Option<&str>) -> Result<Value, Failure> {
        outcome(self.command(command, module, ()).await)
    }
}

fn outcome(answer: Result<Box<serde_json::value::RawValue>, ClientError>) -> Result<Value, Failure> {
    match answer {
        Ok(answer) => Ok(serde_json::from_str(answer.get()).expect("an answer is JSON")),
        Err(ClientError::Failed(failure)) => Err(failure),
        Err(other) => panic!("there was no answer: {other}"),
    }
}

/// The code of a failure, or what came instead of it.
pub fn code_of(outcome: &Result<Value, Failure>) -> &str {
    match outcome {
        Ok(_) => "no failure",
        Err(failure) => &failure.code,
    }
}
