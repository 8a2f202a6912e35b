//! A user's connection to a server's program that speaks line by line.

use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Conversation(BufReader<TcpStream>);

impl Conversation {
    pub fn with(port: u16) -> Conversation {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // It only keeps a failing test from hanging.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Conversation(BufReader::new(stream))
    }

    /// Writes a line. The program may have closed the connection already, which the next line shows.
    pub fn say(&mut self, line: &str) {
        match writeln!(self.0.get_mut(), "{line}") {
            Ok(()) => {}
            Err(error) => assert!(is_end(&error), "{error}"),
        }
    }

    /// Waits for a line, passing over others.
    pub fn hears(&mut self, wanted: &str) {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the connection ended before `{wanted}`"));
            if line == wanted {
                return;
            }
        }
    }

    /// The next line; nothing once the program has closed the connection.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether the program has closed the connection. One that is closed with data unread is reset.
fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
