//! A client of a master: it asks and waits, or has a number of requests under way at any time.
//!
//! It blocks its thread. What has come is read at once, and the requests that the answers make room for are written at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::scan::{Head, unquoted};
use crate::wire::{Frame, Wire};

/// How long a master may take to let a client in, or to answer one request.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that one read takes.
const READ: usize = 256 << 10;

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The client's own id.
    pub id: String,
    pub username: &'static str,
    pub password: &'static str,
}

impl Login {
    /// The user of level 1 that every master here has.
    pub fn admin() -> Login {
        Login { id: "bench".into(), username: "admin", password: "admin" }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// A module, with a body.
    Module(&'a str, &'a str),
    /// The host's own command. pomelo-admin wants the client's id in its body.
    Command(&'a str),
}

impl Ask<'_> {
    fn message(&self, number: usize, id: &str) -> String {
        match self {
            Ask::Module(module, body) => format!(r#"{{"reqId":{number},"moduleId":"{module}","body":{body}}}"#),
            Ask::Command(command) => {
                format!(r#"{{"reqId":{number},"command":"{command}","moduleId":null,"body":{{"clientId":"{id}"}}}}"#)
            }
        }
    }
}

/// What was asked and answered.
pub struct Asked {
    /// The time from each request to its answer, in the order of the answers.
    pub times: Vec<Duration>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Answers that were failures.
    pub failed: usize,
    /// What the first of them said.
    pub failure: Option<String>,
    /// The longest time in which no answer came.
    pub silence: Duration,
}

impl Asked {
    /// The time that so many of 100 requests did not exceed, microseconds.
    pub fn at(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

/// A registered client.
pub struct Client {
    stream: TcpStream,
    wire: Wire,
    id: String,
    input: Vec<u8>,
    output: Vec<u8>,
    room: Box<[u8]>,
}

impl Client {
    /// A client of level 1.
    ///
    /// # Errors
    /// If the master does not let it in.
    pub fn connect(master: SocketAddr, wire: Wire) -> Result<Client> {
        Client::login(master, wire, Login::admin())
    }

    /// A client that logs in as somebody.
    ///
    /// # Errors
    /// If the master does not let it in.
    pub fn login(master: SocketAddr, wire: Wire, login: Login) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&master, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Login { id, username, password } = login;
        let register =
            format!(r#"{{"id":"{id}","type":"client","username":"{username}","password":"{password}","md5":false}}"#);
        let room = vec![0; READ].into();
        let mut client = Client { stream, wire, id, input: Vec::new(), output: Vec::new(), room };
        wire.put_hello(&mut client.output);
        let mut answer = None;
        while answer.is_none() {
            client.receive(|frame, output| {
                match frame {
                    Frame::Open => wire.put_join(output),
                    Frame::Ready => wire.put_event(output, "register", &register, false),
                    Frame::Event { topic: b"register", payload } => answer = Some(unquoted(payload).into_owned()),
                    _ => {}
                }
                Ok(())
            })?;
        }
        let answer = answer.unwrap_or_default();
        let said: serde_json::Value = serde_json::from_slice(&answer)?;
        ensure!(said["code"] == 1 || said["code"] == 200, "the master does not let the client in: {said}");
        Ok(client)
    }

    /// Asks once. The answer is its whole message.
    ///
    /// # Errors
    /// If it is a failure, or does not come in time.
    pub fn ask(&mut self, ask: Ask<'_>, patience: Duration) -> Result<Vec<u8>> {
        let (wire, began) = (self.wire, Instant::now());
        wire.put_event(&mut self.output, "client", &ask.message(1, &self.id), true);
        let mut answer = None;
        self.stream.set_read_timeout(Some(patience))?;
        while answer.is_none() {
            ensure!(began.elapsed() < patience, "no answer within {patience:?}");
            self.receive(|frame, _| {
                if let Frame::Event { topic: b"client", payload } = frame
                    && Head::of(payload).number("\"respId\":").is_some()
                {
                    answer = Some((Head::of(payload).failed(), unquoted(payload).into_owned()));
                }
                Ok(())
            })?;
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match answer {
            Some((false, answer)) => Ok(answer),
            Some((true, answer)) => bail!("{}", String::from_utf8_lossy(&answer[..answer.len().min(300)])),
            None => bail!("no answer"),
        }
    }

    /// Waits until something is answered: a master listens before all of its modules are in force.
    ///
    /// # Errors
    /// The last failure, if it is not answered for too long.
    pub fn until_answered(&mut self, ask: Ask<'_>) -> Result<Duration> {
        let began = Instant::now();
        while let Err(why) = self.ask(ask, PATIENCE) {
            ensure!(began.elapsed() < PATIENCE, "{why}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    }

    /// Has so many requests under way until told to stop, and waits for the answers to all. `saw` is shown every answer.
    ///
    /// # Errors
    /// If the connection ends, or an answer does not come.
    pub fn load(
        &mut self,
        ask: Ask<'_>,
        at_once: usize,
        mut goes_on: impl FnMut(Instant) -> bool,
        mut saw: impl FnMut(&[u8], Instant),
    ) -> Result<Asked> {
        let (wire, began) = (self.wire, Instant::now());
        // pomelo-admin takes 0 for no number. A number is used again when its request was answered.
        let messages: Vec<String> = (0..at_once).map(|number| ask.message(number + 1, &self.id)).collect();
        let mut sent = vec![Some(began); at_once];
        for message in &messages {
            wire.put_event(&mut self.output, "client", message, true);
        }
        let mut asked =
            Asked { times: Vec::new(), took: Duration::ZERO, failed: 0, failure: None, silence: Duration::ZERO };
        let (mut under_way, mut last) = (at_once, began);
        while under_way > 0 {
            // Whatever one read brings has come at the same time.
            let mut now = None;
            self.receive(|frame, output| {
                let Frame::Event { topic: b"client", payload } = frame else { return Ok(()) };
                let head = Head::of(payload);
                let Some(number) = head.number("\"respId\":") else { return Ok(()) };
                let now = *now.get_or_insert_with(Instant::now);
                let number = usize::try_from(number)?.wrapping_sub(1);
                let since = sent.get_mut(number).and_then(Option::take);
                let since = since.context("an answer to a request that was not asked")?;
                asked.times.push(now.duration_since(since));
                if head.failed() {
                    asked.failed += 1;
                    asked.failure.get_or_insert_with(|| String::from_utf8_lossy(&unquoted(payload)).into_owned());
                }
                saw(payload, now);
                if goes_on(now) {
                    sent[number] = Some(now);
                    wire.put_event(output, "client", &messages[number], true);
                } else {
                    under_way -= 1;
                }
                Ok(())
            })?;
            if let Some(now) = now {
                asked.silence = asked.silence.max(now.duration_since(last));
                last = now;
            }
        }
        asked.took = began.elapsed();
        Ok(asked)
    }

    /// Writes what is to be written, waits for something, and hands out the frames that are whole. What a handler appends is written by the next call.
    fn receive(&mut self, mut handle: impl FnMut(Frame<'_>, &mut Vec<u8>) -> Result<()>) -> Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output)?;
            self.output.clear();
        }
        let count = self.stream.read(&mut self.room).context("no answer")?;
        ensure!(count > 0, "the master has closed the connection");
        self.input.extend_from_slice(&self.room[..count]);
        let mut at = 0;
        while let Some(length) = self.wire.length(&self.input[at..])?
            && at + length.total <= self.input.len()
        {
            match self.wire.frame(&self.input[at..at + length.total], length) {
                Frame::Ping => self.wire.put_pong(&mut self.output),
                Frame::Ended => bail!("the master ends the connection"),
                frame => handle(frame, &mut self.output)?,
            }
            at += length.total;
        }
        self.input.drain(..at);
        Ok(())
    }
}
