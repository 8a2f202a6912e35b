//! The functions of an application written in Rust, by name. The same functions serve in this process ([`super::Embedded`]) or over the control
//! socket ([`super::control::Client`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Answer, MAX_CALLS, Reach, late, not_offered, own};
use crate::failure::{Failure, code};
use crate::wire::{Info, raw};

type Function = Arc<dyn Fn(Box<RawValue>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What an application offers: functions by name, each of which takes one JSON value and answers with another.
///
/// The names known to the built-in modules are in `docs/control-socket.md`; a cron's action is such a function as well.
///
/// ```
/// use pomelo_host::monitor::application::{Change, Functions};
///
/// let functions = Functions::new()
///     .on("connections", async |_: serde::de::IgnoredAny| Ok(serde_json::json!({"totalConnCount": 3})))
///     .on_change(async |change| {
///         if let Change::Added(servers) = change {
///             println!("{} servers have joined", servers.len());
///         }
///         Ok(())
///     });
/// ```
#[derive(Clone, Default)]
pub struct Functions(BTreeMap<String, Function>);

/// A change of the application's view of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Servers that have joined, or whose `info` has changed.
    Added(Vec<Info>),
    /// Ids of servers that have left.
    Removed(Vec<String>),
    /// The whole view, from id to `info`.
    Replaced(Map<String, Value>),
    /// All configured servers have started.
    StartOver,
}

impl Functions {
    /// An application that offers no function.
    pub fn new() -> Self {
        Functions::default()
    }

    /// Adds a function, or replaces the one of that name. A call whose argument is not an `A` fails with `bad-message`.
    #[must_use]
    pub fn on<A, R, W>(mut self, name: impl Into<String>, function: impl Fn(A) -> W + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        let name = name.into();
        let called = name.clone();
        let function = move |args: Box<RawValue>| match serde_json::from_str(args.get()) {
            Ok(args) => function(args).map(|answer| answer.and_then(|answer| to_raw(&answer))).boxed(),
            Err(error) => {
                let what = format!("`{called}` cannot be called with this: {error}");
                ready(Err(Failure::new(code::BAD_MESSAGE, what))).boxed()
            }
        };
        self.0.insert(name, Arc::new(function));
        self
    }

    /// Sets the function that is called with each change of the view, one after another in their order. A failure is reported to the master.
    #[must_use]
    pub fn on_change<W>(self, told: impl Fn(Change) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let told = Arc::new(told);
        let [added, removed, replaced, over] = [(); 4].map(|()| told.clone());
        self.on(own::ADD_SERVERS, move |servers| added(Change::Added(servers)))
            .on(own::REMOVE_SERVERS, move |ids| removed(Change::Removed(ids)))
            .on(own::REPLACE_SERVERS, move |servers| replaced(Change::Replaced(servers)))
            .on(own::START_OVER, move |_: Value| over(Change::StartOver))
    }

    /// Sets the function that ends the application within the time given. After that time the application is killed, or its host ends.
    #[must_use]
    pub fn on_stop<W>(self, stop: impl Fn(Duration) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.on(own::STOP, move |Within { deadline_ms }| stop(Duration::from_millis(deadline_ms)))
    }

    /// Sets the function that is told when the server begins to drain: others do not see it any more, and it has the time given until its connections
    /// are gone. Then it is ended, or the drain is taken back ([`Functions::on_undrain`]). How many are left is what its function `connections` says.
    /// Only a server under a monitor drains, no [`super::Embedded`] one.
    #[must_use]
    pub fn on_drain<W>(self, drain: impl Fn(Duration) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.on(own::DRAIN, move |Within { deadline_ms }| drain(Duration::from_millis(deadline_ms)))
    }

    /// Sets the function that is told when a drain is taken back.
    #[must_use]
    pub fn on_undrain<W>(self, undrain: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.on(own::UNDRAIN, move |_: Value| undrain())
    }

    /// The sorted names of the functions.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn to_raw<T: Serialize>(value: &T) -> Answer {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Failure::new(code::BAD_ANSWER, format!("the answer is no JSON: {error}")))
}

/// The argument of `stop` and `drain`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Within {
    /// Milliseconds until the application is ended by force, or its drain is over.
    pub deadline_ms: u64,
}

impl Within {
    pub(super) fn of(deadline: Duration) -> Box<RawValue> {
        raw(&Within { deadline_ms: deadline.as_millis().try_into().unwrap_or(u64::MAX) })
    }
}

/// Runs functions in this process: changes of the view one after another, everything else at once.
pub(in crate::monitor) struct Runner {
    id: String,
    functions: Functions,
    lane: mpsc::Sender<BoxFuture<'static, ()>>,
    places: Arc<Semaphore>,
}

impl Runner {
    /// `id` is the server's, for the text of failures.
    pub(in crate::monitor) fn new(id: &str, functions: Functions) -> Self {
        let (lane, mut waiting) = mpsc::channel::<BoxFuture<'static, ()>>(MAX_CALLS);
        tokio::spawn(async move {
            while let Some(next) = waiting.recv().await {
                next.await;
            }
        });
        Runner { id: id.to_owned(), functions, lane, places: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

impl Reach for Runner {
    fn offers(&self) -> Vec<String> {
        self.functions.names()
    }

    fn has(&self, name: &str) -> bool {
        self.functions.0.contains_key(name)
    }

    fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer> {
        let Some(function) = self.functions.0.get(name).cloned() else {
            return ready(Err(self.lacks(name))).boxed();
        };
        let busy = || Failure::new(code::BUSY, format!("{MAX_CALLS} calls to the application are under way already"));
        let Ok(place) = self.places.clone().try_acquire_owned() else { return ready(Err(busy())).boxed() };
        let args = args.to_owned();
        let (sender, answer) = oneshot::channel();
        let run = async move {
            let _place = place;
            // The function has a task of its own, so that a panic fails this call alone.
            let mut task = tokio::spawn(async move { function(args).await });
            let outcome = tokio::time::timeout(deadline, &mut task).await;
            if outcome.is_err() {
                task.abort();
            }
            // The caller may have given up.
            let _ = sender.send(outcome);
        };
        if own::VIEW.contains(&name) {
            if self.lane.try_send(run.boxed()).is_err() {
                return ready(Err(busy())).boxed();
            }
        } else {
            tokio::spawn(run);
        }
        let name = name.to_owned();
        async move {
            match answer.await {
                Ok(Ok(Ok(answer))) => answer,
                Ok(Err(_)) => Err(late(&name, deadline)),
                Ok(Ok(Err(_))) | Err(_) => Err(Failure::new(code::FAILED, format!("`{name}` panicked"))),
            }
        }
        .boxed()
    }

    fn lacks(&self, name: &str) -> Failure {
        not_offered(&self.id, name, &self.functions.names())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn ask(runner: &Runner, name: &str, args: Value) -> Result<Value, Failure> {
        let answer = runner.call(name, &raw(&args), Duration::from_millis(200)).await?;
        Ok(serde_json::from_str(answer.get()).unwrap())
    }

    #[tokio::test]
    async fn functions_answer_or_say_why_they_do_not() {
        let functions = Functions::new()
            .on("double", async |n: u32| Ok(n * 2))
            .on("hang", async |_: Value| std::future::pending::<Result<(), Failure>>().await)
            .on("panic", async |(): ()| -> Result<(), Failure> { panic!("as it was asked to") });
        let runner = Runner::new("chat-1", functions);
        assert_eq!(ask(&runner, "double", json!(21)).await.unwrap(), json!(42));
        let failed = async |name: &str, args: Value| {
            let failure = ask(&runner, name, args).await.unwrap_err();
            (failure.code.into_owned(), failure.message)
        };
        let (code, message) = failed("double", json!("x")).await;
        assert_eq!((code.as_str(), message.contains("`double` cannot be called")), (code::BAD_MESSAGE, true));
        assert_eq!(failed("hang", json!(1)).await.0, code::TIMEOUT);
        assert_eq!(failed("panic", json!(null)).await, (code::FAILED.into(), "`panic` panicked".into()));
        let (code, message) = failed("logins", json!(null)).await;
        assert_eq!(code, code::NOT_AVAILABLE);
        assert_eq!(message, "the application of chat-1 does not offer `logins`; it offers: double, hang, panic");
    }

    #[tokio::test]
    async fn w3_changes_are_told_one_after_another() {
        let seen: Arc<parking_lot::Mutex<Vec<Change>>> = Arc::default();
        let told = seen.clone();
        let functions = Functions::new().on_change(move |change| {
            let told = told.clone();
            async move {
                // The first takes longest.
                tokio::time::sleep(Duration::from_millis(if told.lock().is_empty() { 50 } else { 0 })).await;
                told.lock().push(change);
                Ok(())
            }
        });
        let runner = Runner::new("chat-1", functions);
        let add = runner.call(own::ADD_SERVERS, &raw(&json!([{"id": "a"}])), Duration::from_secs(5));
        let remove = runner.call(own::REMOVE_SERVERS, &raw(&json!(["a"])), Duration::from_secs(5));
        let over = runner.call(own::START_OVER, &raw(&()), Duration::from_secs(5));
        for answer in futures_util::future::join_all([add, remove, over]).await {
            answer.unwrap();
        }
        let added = Change::Added(vec![json!({"id": "a"}).as_object().unwrap().clone()]);
        assert_eq!(*seen.lock(), [added, Change::Removed(vec!["a".into()]), Change::StartOver]);
    }
}
