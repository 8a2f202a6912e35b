//! Answers what it is sent; in flavours (the package's features) for tests of hot reload.

use pomelo_sdk::prelude::*;
use serde::Serialize;

struct Echo;

#[derive(Serialize)]
struct Answer {
    version: u32,
    echo: Option<Value>,
}

#[cfg_attr(not(feature = "v2"), module(id = "echo", level = 2, version = "1.0.0"))]
#[cfg_attr(feature = "v2", module(id = "echo", level = 2, version = "2.0.0"))]
impl Echo {
    fn client_handler(msg: Option<Value>) -> Result<Answer> {
        if cfg!(feature = "trap") {
            panic!("this flavour traps");
        }
        Ok(Answer {
            version: if cfg!(feature = "v2") { 2 } else { 1 },
            echo: msg,
        })
    }

    #[cfg(feature = "bad-start")]
    fn start() -> Result {
        Err(Failure::new("bad-start", "This flavour does not start."))
    }
}
