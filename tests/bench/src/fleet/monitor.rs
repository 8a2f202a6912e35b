//! One simulated monitor: what it has been told, and what it says. Bytes come and go by [`super::shard`].

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::view::{Known, Search, Servers, Step, Update, first_name};
use super::{Counts, Species};
use crate::scan::{HEAD, Head, unquoted};
use crate::wire::{Frame, Length, Wire};

/// How often a monitor of ours asks whether its view is the master's.
pub const CHECKS: Duration = Duration::from_secs(10);
/// How often a peer on pomelo's wire shows that it is there.
const PINGS: Duration = Duration::from_secs(60);
/// How long it waits for the master's answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// When it asks again after the first failure to subscribe, and at the longest; the time doubles in between.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A frame that is longer is not kept until it is whole, if it can be read in pieces.
pub const LARGE: usize = 16 << 10;

/// What all monitors of a thread share.
pub struct Shared<'a> {
    pub counts: &'a Counts,
    pub known: &'a mut Known,
    pub species: Species,
    pub wire: Wire,
    /// How many servers there may be.
    pub most: usize,
}

/// What it asks the master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Subscribe,
    Query,
}

/// A version of a module that is being fetched.
struct Fetch {
    digest: String,
    size: u64,
    got: u64,
    /// The request for the next part.
    request: u64,
}

/// A frame that is read in pieces.
pub struct Large {
    /// Bytes that are still to come.
    pub left: usize,
    /// Reads it. Absent where the same was read before.
    search: Option<Search>,
    content: Content,
}

impl Large {
    /// Whether its bytes need not be looked at.
    pub fn is_known(&self) -> bool {
        self.search.is_none()
    }
}

enum Content {
    /// A table, of a revision where it says one; the request that wants an answer, as it stood there.
    Table { rev: Option<u64>, request: Option<Vec<u8>>, answer: Option<u64> },
    /// An update that is known.
    Update { update: Rc<Update>, request: Option<Vec<u8>> },
}

/// A monitor.
pub struct Monitor {
    number: usize,
    /// Whether it has been registered before.
    again: bool,
    pub registered: bool,
    servers: Servers,
    /// The revision of its view, if that is whole.
    rev: Option<u64>,
    /// What it has asked: the number, and when.
    asked: Option<(u64, Question, Instant)>,
    /// Whether it is told of changes, and has said that it has started.
    subscribed: bool,
    next: u64,
    /// Updates that have come before the answer that it waits for.
    held: VecDeque<Rc<Update>>,
    ask_at: Option<Instant>,
    /// How long it waits after the next failure.
    wait: Duration,
    check_at: Instant,
    ping_at: Instant,
    pub large: Option<Large>,
    /// What it fetches, and what it has fetched last.
    fetch: Option<Fetch>,
    fetched: String,
    pub output: Vec<u8>,
}

impl Monitor {
    pub fn new(number: usize, most: usize) -> Monitor {
        let now = Instant::now();
        Monitor {
            number,
            again: false,
            registered: false,
            servers: Servers::none(most),
            rev: None,
            asked: None,
            subscribed: false,
            next: 1,
            held: VecDeque::new(),
            ask_at: None,
            wait: AGAIN.0,
            check_at: now + CHECKS,
            ping_at: now + PINGS,
            large: None,
            fetch: None,
            fetched: String::new(),
            output: Vec::new(),
        }
    }

    /// Its connection is gone. What it knows it keeps.
    pub fn lost(&mut self) {
        (self.registered, self.large, self.asked, self.ask_at) = (false, None, None, None);
        self.fetch = None;
        self.output = Vec::new();
        self.held.clear();
    }

    pub fn knows(&self, all: &Servers) -> bool {
        self.registered && self.servers == *all
    }

    /// What is due: a check, a question that is to be asked again, a ping.
    pub fn turn(&mut self, shared: &Shared<'_>, now: Instant) {
        if !self.registered {
            return;
        }
        if now >= self.ping_at {
            self.ping_at = now + PINGS;
            shared.wire.put_ping(&mut self.output);
        }
        if self.asked.is_some_and(|(_, _, when)| now.duration_since(when) > DEADLINE) {
            shared.counts.late.fetch_add(1, Relaxed);
            self.has_failed(now);
        }
        let ours = shared.species != Species::Plain;
        if self.asked.is_none() && self.ask_at.is_some_and(|when| now >= when) {
            self.ask(shared, Question::Subscribe, now);
        } else if ours && self.subscribed && self.asked.is_none() && now >= self.check_at {
            self.ask(shared, Question::Query, now);
        }
        if now >= self.check_at {
            self.check_at = now + CHECKS;
        }
    }

    /// A frame of which only the beginning has come: begins to read it in pieces, if that can be done. How many bytes of `begun` belong to it then: all.
    pub fn begin_large(&mut self, shared: &mut Shared<'_>, begun: &[u8], length: Length) -> bool {
        let Some((topic, at)) = shared.wire.begins(begun, length) else { return false };
        if topic != b"monitor" || begun.len() < at + HEAD {
            return false;
        }
        let head = Head::of(&begun[at..]);
        let rev = self.revision(shared, &head);
        let request = request(&head);
        let is_answer = head.number("\"respId\":").filter(|_| !head.failed());
        let (search, content) = if head.has("\"action\":\"update\"") {
            let known = rev.zip(head.number("\"since\":")).and_then(|(rev, since)| shared.known.update(since, rev));
            let Some(update) = known else { return false };
            (None, Content::Update { update, request })
        } else if is_answer.is_some() && (head.has("\"servers\":{") || shared.species == Species::Plain)
            || head.has("replaceServer")
        {
            let known = rev.is_some_and(|rev| shared.known.table(rev).is_some());
            let search = (!known).then(|| Search::new(shared.most));
            (search, Content::Table { rev, request, answer: is_answer })
        } else {
            return false;
        };
        let mut large = Large { left: length.total - begun.len(), search, content };
        if let Some(search) = &mut large.search {
            search.piece(&begun[at..]);
        }
        self.large = Some(large);
        true
    }

    /// More of such a frame has come. How many of the bytes belonged to it.
    pub fn more_large(&mut self, shared: &mut Shared<'_>, bytes: &[u8]) -> usize {
        let Some(large) = &mut self.large else { return 0 };
        let count = large.left.min(bytes.len());
        if let Some(search) = &mut large.search {
            search.piece(&bytes[..count]);
        }
        large.left -= count;
        self.end_large(shared);
        count
    }

    /// So many bytes of it have come and were thrown away.
    pub fn skip_large(&mut self, shared: &mut Shared<'_>, count: usize) {
        if let Some(large) = &mut self.large {
            large.left = large.left.saturating_sub(count);
        }
        self.end_large(shared);
    }

    fn end_large(&mut self, shared: &mut Shared<'_>) {
        let Some(large) = self.large.take_if(|large| large.left == 0) else { return };
        match large.content {
            Content::Table { rev, request, answer } => {
                let servers = match (rev, large.search) {
                    (Some(rev), Some(search)) => Some(shared.known.keep_table(rev, search.found)),
                    (None, Some(search)) => Some(Rc::new(search.found)),
                    (Some(rev), None) => shared.known.table(rev),
                    (None, None) => None,
                };
                self.adopt(shared, servers, rev, answer);
                self.obeyed(shared, request);
            }
            Content::Update { update, request } => {
                self.update(shared, update);
                self.obeyed(shared, request);
            }
        }
    }

    /// A whole frame. False if the connection is to be given up.
    pub fn frame(&mut self, shared: &mut Shared<'_>, frame: Frame<'_>) -> bool {
        let wire = shared.wire;
        match frame {
            Frame::Open => wire.put_join(&mut self.output),
            Frame::Ready => {
                let topic = if self.again { "reconnect" } else { "register" };
                let registration = self.registration(shared.species);
                wire.put_event(&mut self.output, topic, &registration, false);
            }
            Frame::Ping => wire.put_pong(&mut self.output),
            Frame::Event { topic: b"register" | b"reconnect_ok", payload } => {
                if Head::of(payload).number("\"code\":") != Some(1) {
                    return false;
                }
                self.is_registered(shared);
            }
            Frame::Event { topic: b"monitor", payload } => self.message(shared, payload),
            Frame::Event { .. } | Frame::Other => {}
            Frame::Ended => return false,
        }
        true
    }

    fn registration(&self, species: Species) -> String {
        let (number, pid) = (self.number, 1000 + self.number);
        let id = format!(r#""id":"{}{number}","#, super::view::NAME);
        let info = format!(
            r#""info":{{{id}"serverType":"bench","host":"127.0.0.1","port":{},"clientPort":{},"frontend":"true"}}"#,
            10_000 + number,
            30_000 + number
        );
        let common = format!(r#"{{{id}"type":"monitor","serverType":"bench","pid":{pid},{info}"#);
        match species {
            Species::Plain if self.again => format!("{common}}}"),
            Species::Plain => format!(r#"{common},"token":null}}"#),
            Species::Ours | Species::Taking => {
                let takes = if species == Species::Taking { r#","modules""# } else { "" };
                format!(
                    r#"{common},"phase":{{"phase":"running","pid":{pid},"restarts":0}},"version":"0.1.0","wit":["0.1.0"],"capabilities":["commands","revisions","trace","apply"{takes}]}}"#
                )
            }
        }
    }

    fn is_registered(&mut self, shared: &Shared<'_>) {
        self.registered = true;
        shared.counts.registered.fetch_add(1, Relaxed);
        let now = Instant::now();
        self.check_at = now + CHECKS;
        // One that has subscribed before is given the table unasked.
        if !self.subscribed {
            self.ask(shared, Question::Subscribe, now);
        }
        self.again = true;
    }

    /// What it asked has failed. It subscribes again; any other question is for the next check.
    fn has_failed(&mut self, now: Instant) {
        self.asked = None;
        if !self.subscribed {
            self.ask_at = Some(now + self.wait);
            self.wait = (self.wait * 2).min(AGAIN.1);
        }
    }

    fn ask(&mut self, shared: &Shared<'_>, question: Question, now: Instant) {
        let number = self.next;
        self.next += 1;
        let action = if question == Question::Subscribe { "subscribe" } else { "query" };
        let epoch = String::from_utf8_lossy(shared.known.epoch());
        let mark = match (shared.species, self.rev) {
            (Species::Plain, _) => String::new(),
            (_, Some(rev)) => format!(r#","rev":{rev},"epoch":{epoch},"changes":true"#),
            (_, None) => r#","rev":true"#.to_owned(),
        };
        let id = format!("{}{}", super::view::NAME, self.number);
        let message = format!(
            r#"{{"reqId":{number},"moduleId":"__masterwatcher__","body":{{"action":"{action}","id":"{id}"{mark}}}}}"#
        );
        shared.wire.put_event(&mut self.output, "monitor", &message, true);
        (self.asked, self.ask_at) = (Some((number, question, now)), None);
    }

    fn message(&mut self, shared: &mut Shared<'_>, payload: &[u8]) {
        let head = Head::of(payload);
        if let Some(answer) = head.number("\"respId\":") {
            if self.fetch.as_ref().is_some_and(|fetch| fetch.request == answer) {
                return self.part(shared, payload);
            }
            return self.answer(shared, &head, answer, payload);
        }
        let request = request(&head);
        if head.has("\"command\":\"offer\"") {
            self.offered(shared, payload);
        } else if head.has("\"__monitorwatcher__\"") {
            self.order(shared, &head, payload);
            self.obeyed(shared, request);
        } else if let Some(request) = request {
            let request = String::from_utf8_lossy(&request);
            let lists = head.has("\"__console__\"") && head.has("\"list\"");
            let (id, pid) = (format!("{}{}", super::view::NAME, self.number), 1000 + self.number);
            let said = if lists {
                format!(
                    r#"{{"serverId":"{id}","body":{{"serverId":"{id}","serverType":"bench","pid":{pid},"rss":"41.50","heapTotal":"12.25","heapUsed":"9.75","uptime":"1.00"}}}}"#
                )
            } else {
                "1".to_owned()
            };
            self.respond(shared, &request, &said);
        } else if head.has("\"__console__\"") {
            shared.counts.notified.fetch_add(1, Relaxed);
        }
    }

    /// Plain monitors give their answers where others have an error.
    fn respond(&mut self, shared: &Shared<'_>, request: &str, said: &str) {
        let message = match shared.species {
            Species::Ours | Species::Taking => format!(r#"{{"respId":{request},"error":null,"body":{said}}}"#),
            Species::Plain => format!(r#"{{"respId":{request},"error":{said}}}"#),
        };
        shared.wire.put_event(&mut self.output, "monitor", &message, true);
    }

    /// The master says what is to be run: of the measured ones, one file.
    fn offered(&mut self, shared: &Shared<'_>, payload: &[u8]) {
        let said: serde_json::Value = serde_json::from_slice(&unquoted(payload)).unwrap_or_default();
        let version = &said["body"]["files"][0]["version"];
        let (Some(digest), Some(size)) = (version["digest"].as_str(), version["size"].as_u64()) else { return };
        if digest != self.fetched {
            self.fetch = Some(Fetch { digest: digest.to_owned(), size, got: 0, request: 0 });
            self.fetch(shared);
        }
    }

    /// Asks for the next part.
    fn fetch(&mut self, shared: &Shared<'_>) {
        let Some(fetch) = &mut self.fetch else { return };
        fetch.request = self.next;
        self.next += 1;
        let Fetch { digest, got, request, .. } = fetch;
        let message = format!(
            r#"{{"reqId":{request},"moduleId":"__modules__","body":{{"get":{{"digest":"{digest}","offset":{got}}}}}}}"#
        );
        shared.wire.put_event(&mut self.output, "monitor", &message, true);
    }

    /// A part has come. The bytes themselves are thrown away.
    fn part(&mut self, shared: &Shared<'_>, payload: &[u8]) {
        let said: serde_json::Value = serde_json::from_slice(&unquoted(payload)).unwrap_or_default();
        let Some(fetch) = &mut self.fetch else { return };
        let Some(data) = said["body"]["data"].as_str().filter(|data| !data.is_empty()) else {
            self.fetch = None;
            shared.counts.failed.fetch_add(1, Relaxed);
            shared.counts.says(|| String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned());
            return;
        };
        // Base64: four characters for three bytes.
        fetch.got += (data.len() / 4 * 3 - data.bytes().rev().take_while(|byte| *byte == b'=').count()) as u64;
        if fetch.got < fetch.size {
            return self.fetch(shared);
        }
        self.fetched = std::mem::take(&mut fetch.digest);
        self.fetch = None;
        shared.counts.fetched.fetch_add(1, Relaxed);
        let (number, digest) = (self.next, &self.fetched);
        self.next += 1;
        let message = format!(
            r#"{{"reqId":{number},"moduleId":"__modules__","body":{{"runs":[{{"name":"probe","digest":"{digest}","offered":"{digest}"}}]}}}}"#
        );
        shared.wire.put_event(&mut self.output, "monitor", &message, true);
    }

    fn obeyed(&mut self, shared: &Shared<'_>, request: Option<Vec<u8>>) {
        if let Some(request) = request {
            self.respond(shared, &String::from_utf8_lossy(&request), "1");
        }
    }

    fn order(&mut self, shared: &mut Shared<'_>, head: &Head, payload: &[u8]) {
        shared.counts.orders.fetch_add(1, Relaxed);
        if head.has("\"action\":\"update\"") {
            let rev = self.revision(shared, head);
            let known = rev.zip(head.number("\"since\":")).and_then(|(rev, since)| shared.known.update(since, rev));
            match known.map_or_else(|| Update::read(payload).map(|update| shared.known.keep_update(update)), Ok) {
                Ok(update) => self.update(shared, update),
                Err(_) => drop(shared.counts.failed.fetch_add(1, Relaxed)),
            }
        } else if head.has("\"addServer\"") {
            first_name(payload).into_iter().for_each(|number| self.servers.insert(number));
        } else if head.has("\"removeServer\"") {
            first_name(payload).into_iter().for_each(|number| self.servers.remove(number));
        } else if head.has("\"replaceServer\"") {
            let rev = self.revision(shared, head);
            let servers = table(shared, rev, payload);
            self.adopt(shared, Some(servers), rev, None);
        }
    }

    fn answer(&mut self, shared: &mut Shared<'_>, head: &Head, answer: u64, payload: &[u8]) {
        if head.failed() {
            shared.counts.failed.fetch_add(1, Relaxed);
            shared.counts.says(|| String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned());
            if self.asked.is_some_and(|(number, ..)| number == answer) {
                self.has_failed(Instant::now());
            }
            return;
        }
        let rev = self.revision(shared, head);
        // An answer without a table says that the view is the master's, unless it says what has changed.
        let servers = if head.has("\"servers\":{") || shared.species == Species::Plain {
            Some(table(shared, rev, payload))
        } else {
            if head.has("\"changes\":")
                && let Ok(update) = Update::read(payload)
                && update.apply(&mut self.servers, &mut self.rev) == Step::Gap
            {
                // The next update that comes is a gap as well, and asks for the table.
                self.rev = None;
            }
            None
        };
        let is_check = matches!(self.asked, Some((number, Question::Query, _)) if number == answer);
        self.adopt(shared, servers, rev, Some(answer));
        // A check shows what the master has not taken, or has forgotten. Where the answer has a table as well, that is for the next check.
        if is_check && head.has("\"recorded\":false") {
            self.record(shared);
        }
        if is_check && self.asked.is_none() && head.has("\"listener\":false") {
            self.ask(shared, Question::Subscribe, Instant::now());
        }
    }

    /// The revision that a message of ours tells.
    fn revision(&self, shared: &mut Shared<'_>, head: &Head) -> Option<u64> {
        let (epoch, rev) = (head.value("\"epoch\":")?, head.number("\"rev\":")?);
        shared.known.of_epoch(epoch);
        Some(rev)
    }

    /// Takes a table over, unless the view is newer. `answer` is the request that it answers.
    fn adopt(&mut self, shared: &mut Shared<'_>, servers: Option<Rc<Servers>>, rev: Option<u64>, answer: Option<u64>) {
        match servers {
            // An answer adds to what pomelo's monitors know; it may be older than what they have been told meanwhile.
            Some(servers) if shared.species == Species::Plain && answer.is_some() => self.servers.extend(&servers),
            Some(servers) if rev.is_none() || self.rev.is_none() || rev > self.rev => {
                self.servers = (*servers).clone();
                self.rev = rev;
            }
            _ => {}
        }
        let Some((number, question, _)) = self.asked else { return };
        if answer != Some(number) {
            return;
        }
        self.asked = None;
        if question == Question::Subscribe {
            self.subscribed = true;
            self.record(shared);
        }
        for update in std::mem::take(&mut self.held) {
            self.update(shared, update);
        }
    }

    /// Says that its server has started.
    fn record(&mut self, shared: &Shared<'_>) {
        let id = format!("{}{}", super::view::NAME, self.number);
        let record = format!(r#"{{"moduleId":"__masterwatcher__","body":{{"action":"record","id":"{id}"}}}}"#);
        shared.wire.put_event(&mut self.output, "monitor", &record, false);
    }

    fn update(&mut self, shared: &Shared<'_>, update: Rc<Update>) {
        // What comes while it waits for an answer is dealt with after that.
        if self.asked.is_some() {
            self.held.push_back(update);
        } else if update.apply(&mut self.servers, &mut self.rev) == Step::Gap {
            shared.counts.gaps.fetch_add(1, Relaxed);
            if self.asked.is_none() {
                self.ask(shared, Question::Query, Instant::now());
            }
        }
    }
}

/// The table in a whole message.
fn table(shared: &mut Shared<'_>, rev: Option<u64>, payload: &[u8]) -> Rc<Servers> {
    if let Some(known) = rev.and_then(|rev| shared.known.table(rev)) {
        return known;
    }
    let mut search = Search::new(shared.most);
    search.piece(payload);
    match rev {
        Some(rev) => shared.known.keep_table(rev, search.found),
        None => Rc::new(search.found),
    }
}

/// The id of a request, to be repeated as it stood there.
fn request(head: &Head) -> Option<Vec<u8>> {
    head.value("\"reqId\":").map(<[u8]>::to_vec)
}
