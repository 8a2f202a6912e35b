//! The thread of the simulated monitors: one loop over all of their sockets.
//!
//! What is read goes through one buffer for all, and nothing is kept of a frame that can be read in pieces: a table of ten thousand servers has 2 MB, and ten thousand
//! monitors are given it at the same time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::net::{RecvFlags, recv};

use super::monitor::{LARGE, Monitor, Shared};
use super::view::{Known, Servers};
use super::{Counts, Species};
use crate::wire::Wire;

/// Connections that may be on their way to being registered: a master lets in no more from one address.
const STRANGERS: usize = 1000;
/// Those of them that the master may not have greeted yet: the backlog of a listener is short.
const UNGREETED: usize = 400;
/// How long a lost connection stays so.
const BACK_AFTER: Duration = Duration::from_secs(1);
/// The monitors take turns within this time.
const TURN: Duration = Duration::from_millis(500);
/// How many groups of them do.
const GROUPS: usize = 10;
/// Bytes that one read takes.
const READ: usize = 256 << 10;
/// Token of the waker.
pub const WAKE: Token = Token(usize::MAX);

/// What the thread is told.
pub enum Order {
    /// These join.
    Join(Range<usize>),
    /// The connections of these break, without a goodbye.
    Cut(Range<usize>),
    /// These are all servers.
    All(Range<usize>),
}

struct Connection {
    monitor: Monitor,
    stream: Option<TcpStream>,
    /// The beginning of a frame.
    input: Vec<u8>,
    knows: bool,
    registered: bool,
    greeted: bool,
}

/// The thread's state.
pub struct Shard {
    poll: Poll,
    connections: Vec<Connection>,
    master: SocketAddr,
    wire: Wire,
    species: Species,
    counts: Arc<Counts>,
    known: Known,
    all: Servers,
    /// Those that are to connect, and when.
    joining: VecDeque<(Instant, usize)>,
    /// How many have connected and are not registered.
    strangers: usize,
    /// How many of them were not greeted.
    ungreeted: usize,
    room: Box<[u8]>,
}

impl Shard {
    pub fn new(
        poll: Poll,
        master: SocketAddr,
        wire: Wire,
        species: Species,
        most: usize,
        counts: Arc<Counts>,
    ) -> Shard {
        let connection = |number| Connection {
            monitor: Monitor::new(number, most),
            stream: None,
            input: Vec::new(),
            knows: false,
            registered: false,
            greeted: false,
        };
        Shard {
            poll,
            connections: (0..most).map(connection).collect(),
            master,
            wire,
            species,
            counts,
            known: Known::default(),
            all: Servers::none(most),
            joining: VecDeque::new(),
            strangers: 0,
            ungreeted: 0,
            room: vec![0; READ].into(),
        }
    }

    /// Runs until nobody gives orders any more.
    pub fn run(mut self, orders: &Receiver<Order>) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let (mut group, mut turn_at) = (0, Instant::now());
        loop {
            let wait = if self.joining.is_empty() || !self.has_room() {
                turn_at.saturating_duration_since(Instant::now())
            } else {
                Duration::from_millis(1)
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() != WAKE {
                    self.serve(event.token().0);
                }
            }
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = Instant::now();
            self.connect(now);
            if now >= turn_at {
                turn_at = now + TURN / u32::try_from(GROUPS)?;
                group = (group + 1) % GROUPS;
                for number in (group..self.connections.len()).step_by(GROUPS) {
                    let Shard { connections, counts, known, species, wire, .. } = &mut self;
                    let most = connections.len();
                    let shared = Shared { counts, known, species: *species, wire: *wire, most };
                    connections[number].monitor.turn(&shared, now);
                    self.flush(number);
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Join(range) => self.joining.extend(range.map(|number| (Instant::now(), number))),
            Order::Cut(range) => range.for_each(|number| self.drop_connection(number)),
            Order::All(range) => {
                self.all = Servers::none(self.connections.len());
                range.for_each(|number| self.all.insert(number));
                (0..self.connections.len()).for_each(|number| self.look(number));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.strangers < STRANGERS && self.ungreeted < UNGREETED
    }

    /// Connects those that are to, as far as there is room.
    fn connect(&mut self, now: Instant) {
        while self.has_room()
            && let Some(&(when, number)) = self.joining.front()
            && when <= now
        {
            self.joining.pop_front();
            match open(self.master, number, self.poll.registry()) {
                Ok(stream) => {
                    self.strangers += 1;
                    self.ungreeted += 1;
                    self.connections[number].stream = Some(stream);
                    self.wire.put_hello(&mut self.connections[number].monitor.output);
                }
                Err(error) => {
                    self.counts.says(|| format!("no connection: {error}"));
                    self.joining.push_back((now + BACK_AFTER, number));
                }
            }
        }
    }

    fn drop_connection(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        if connection.stream.take().is_none() {
            return;
        }
        if connection.monitor.registered {
            self.counts.registered.fetch_sub(1, Relaxed);
        }
        if !connection.registered {
            self.strangers -= 1;
        }
        if !connection.greeted {
            self.ungreeted -= 1;
        }
        (connection.registered, connection.greeted) = (false, false);
        connection.input = Vec::new();
        connection.monitor.lost();
        self.look(number);
    }

    /// The connection has broken by itself: it comes back as a monitor does.
    fn broken(&mut self, number: usize, why: &dyn std::fmt::Display) {
        self.counts.lost.fetch_add(1, Relaxed);
        self.counts.says(|| why.to_string());
        self.drop_connection(number);
        self.joining.push_back((Instant::now() + BACK_AFTER, number));
    }

    fn serve(&mut self, number: usize) {
        match self.read(number) {
            Ok(true) => self.flush(number),
            Ok(false) => self.broken(number, &"the master has closed a connection"),
            Err(error) => self.broken(number, &error),
        }
        self.look(number);
    }

    /// Reads until nothing is left. False at the end of the connection.
    fn read(&mut self, number: usize) -> Result<bool> {
        loop {
            let Shard { connections, counts, known, species, wire, room, .. } = self;
            let most = connections.len();
            let connection = &mut connections[number];
            let mut shared = Shared { counts, known, species: *species, wire: *wire, most };
            let Some(stream) = &mut connection.stream else { return Ok(true) };
            if let Some(large) = connection.monitor.large.as_ref().filter(|large| large.is_known()) {
                // The kernel throws away what is known already.
                let (stream, count) = (&*stream, large.left.min(room.len()));
                let skipped = stream.try_io(|| Ok(recv(stream, &mut room[..count], RecvFlags::TRUNC)?.1));
                match skipped {
                    Ok(0) => return Ok(false),
                    Ok(count) => {
                        connection.monitor.skip_large(&mut shared, count);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
            }
            let count = match stream.read(room) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let of_large = connection.monitor.more_large(&mut shared, &room[..count]);
            let rest = &room[of_large..count];
            let goes_on = if connection.input.is_empty() {
                let (used, goes_on) = frames(&mut connection.monitor, &mut shared, rest)?;
                connection.input.extend_from_slice(&rest[used..]);
                goes_on
            } else {
                let mut input = std::mem::take(&mut connection.input);
                input.extend_from_slice(rest);
                let (used, goes_on) = frames(&mut connection.monitor, &mut shared, &input)?;
                if used < input.len() {
                    input.drain(..used);
                    connection.input = input;
                }
                goes_on
            };
            if !goes_on {
                return Ok(false);
            }
            if !connection.greeted {
                connection.greeted = true;
                self.ungreeted -= 1;
            }
            if connection.monitor.registered && !connection.registered {
                connection.registered = true;
                self.strangers -= 1;
            }
            // A short read has emptied the socket; there is another event when more comes.
            if count < self.room.len() && self.connections[number].monitor.large.is_none() {
                return Ok(true);
            }
        }
    }

    fn flush(&mut self, number: usize) {
        let Connection { monitor, stream: Some(stream), .. } = &mut self.connections[number] else { return };
        let mut written = 0;
        while written < monitor.output.len() {
            match stream.write(&monitor.output[written..]) {
                Ok(count) => written += count,
                // The rest goes when there is room: that is an event.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.broken(number, &error),
            }
        }
        if written == monitor.output.len() {
            // Thousands of buffers are not kept for what is rarely long.
            monitor.output = Vec::new();
        } else {
            monitor.output.drain(..written);
        }
    }

    /// Looks whether it knows all.
    fn look(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let knows = connection.monitor.knows(&self.all);
        if knows != connection.knows {
            connection.knows = knows;
            if knows {
                self.counts.knowing.fetch_add(1, Relaxed);
            } else {
                self.counts.knowing.fetch_sub(1, Relaxed);
            }
        }
    }
}

fn open(master: SocketAddr, number: usize, registry: &Registry) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(master)?;
    stream.set_nodelay(true)?;
    registry.register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// Hands out the frames that are whole, and begins with one that is to be read in pieces. How many bytes were used, and whether the connection goes on.
fn frames(monitor: &mut Monitor, shared: &mut Shared<'_>, bytes: &[u8]) -> Result<(usize, bool)> {
    let mut at = 0;
    while let Some(length) = shared.wire.length(&bytes[at..])? {
        let begun = &bytes[at..];
        if length.total <= begun.len() {
            if !monitor.frame(shared, shared.wire.frame(&begun[..length.total], length)) {
                return Ok((at, false));
            }
            at += length.total;
        } else {
            if length.total > LARGE && monitor.begin_large(shared, begun, length) {
                at = bytes.len();
            }
            break;
        }
    }
    Ok((at, true))
}
