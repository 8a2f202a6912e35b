//! A compiled version of a module, and its calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::breaker::{AsideFor, Breaker, Entry};
use super::call_permits::CallPermits;
use super::fair::{FairPermit, FairSemaphore, QueueShares};
use super::instance::{Instance, Trapped};
use super::instance_state::{CallState, no_room};
use super::patience::Patience;
use super::pool::InstancePool;
use super::rollback::Evidence;
use super::sampling::SamplingSwitch;
use super::{
    Call, Caller, Compiled, Context, Descriptor, Engine, EngineLimits, Handler, Inspection, Limits, LoadError,
    MAX_DEPTH, guest,
};
use crate::budget::{ModuleAccount, SHARED_FROM};
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::util::label;
use crate::wire::null;

/// A compiled version of a module.
pub struct Module {
    name: String,
    engine: Engine,
    limits: Limits,
    compiled: Arc<Compiled>,
    /// Handlers that are called one at a time.
    serial: [bool; Handler::ALL.len()],
    pool: InstancePool,
    /// What is held for the module is charged to it. All versions of the module have the same.
    account: ModuleAccount,
    /// A permit for each call under way, whether it runs or waits for others.
    permits: CallPermits,
    /// The right to run: so many calls run at the same time.
    runners: Arc<FairSemaphore>,
    /// Calls that wait for a permit.
    queue: Arc<QueueShares>,
    under_way: AtomicUsize,
    /// Whether the traps so far are the version's fault.
    evidence: Evidence,
    /// Told whenever the last call under way has ended.
    drained: tokio::sync::Notify,
    breakers: [Breaker; Handler::ALL.len()],
    /// The last large answer, which is known to be JSON. Only of modules that the host carries, because no other is given memory for that.
    last_large: Mutex<Option<Arc<RawValue>>>,
    /// Ends the calls under way of a version that was replaced.
    ended: CancellationToken,
}

/// What a version of a module is doing at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Calls under way, those that wait for a permit or their turn among them.
    pub calls: usize,
    /// Calls that wait for a permit.
    pub queued: usize,
    /// Warm instances that no call uses.
    pub idle: usize,
    /// Bytes that are held for the module, in all of its versions.
    pub memory: usize,
}

/// A handler that is put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// The handler.
    pub handler: Handler,
    /// For whom.
    pub of: AsideFor,
}

impl Module {
    /// Makes a compiled file callable under limits.
    ///
    /// # Errors
    /// [`LoadError::Compile`] where the file asks for what the linker does not have.
    pub fn new(engine: &Engine, name: &str, compiled: &Arc<Compiled>, limits: Limits) -> Result<Self, LoadError> {
        let pre = engine.linker().instantiate_pre(&compiled.component).map_err(LoadError::Compile)?;
        let (account, share) =
            (engine.modules().open(name, limits.sum()), engine.scheduler().share(name, limits.weight));
        let pool = InstancePool::new(engine, pre, &compiled.inspection, &limits, &account, share)
            .map_err(LoadError::Compile)?;
        Ok(Module {
            name: name.to_owned(),
            engine: engine.clone(),
            compiled: compiled.clone(),
            serial: Handler::ALL.map(|handler| compiled.descriptor.is_serial(handler)),
            pool,
            account,
            permits: engine.permits().share(limits.instances, limits.reserve),
            runners: FairSemaphore::new(limits.running),
            queue: QueueShares::new(limits.queue),
            under_way: AtomicUsize::new(0),
            evidence: Evidence::default(),
            drained: tokio::sync::Notify::new(),
            breakers: Default::default(),
            last_large: Mutex::default(),
            ended: CancellationToken::new(),
            limits,
        })
    }

    /// The same version under other limits, without warm instances and without calls.
    ///
    /// # Errors
    /// As [`Module::new`].
    pub fn with_limits(&self, limits: Limits) -> Result<Self, LoadError> {
        Module::new(&self.engine, &self.name, &self.compiled, limits)
    }

    /// What was read off the file.
    pub fn inspection(&self) -> &Inspection {
        &self.compiled.inspection
    }

    /// What the module says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.compiled.descriptor
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    pub(super) fn sampling(&self) -> &Arc<SamplingSwitch> {
        self.pool.sampling()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits until traps have shown that this version is faulty: one in a call of the host, the master or a client of level 1, or those of two
    /// different users or monitors. One user or monitor alone cannot show it, because it chooses its messages.
    pub async fn is_faulty(&self) {
        self.evidence.enough().await;
    }

    /// The handlers that are put aside because they keep trapping, and for whom.
    pub fn put_aside(&self) -> Vec<PutAside> {
        let now = Instant::now();
        let of = |handler: Handler| {
            self.breakers[handler.index()].aside(now).into_iter().map(move |of| PutAside { handler, of })
        };
        Handler::ALL.into_iter().flat_map(of).collect()
    }

    /// Makes an instance and keeps it. This shows that the module can be instantiated, before it takes over.
    ///
    /// # Errors
    /// The failure that a caller would have seen.
    pub async fn warm_up(&self) -> Result<(), Failure> {
        let wall = self.limits.wall;
        let late = || Failure::new(code::TIMEOUT, format!("instantiation did not end within {} ms", wall.as_millis()));
        let made = tokio::time::timeout(wall, self.first_instance()).await.map_err(|_| late())?;
        let instance = made.map_err(|error| error.failure("instantiation", &self.limits))?;
        self.pool.put_back(instance);
        Ok(())
    }

    /// A new instance. Where the calls of other versions leave no room for it, the largest of them end, so that a module that holds too much can be replaced.
    async fn first_instance(&self) -> Result<Instance, Trapped> {
        loop {
            match self.pool.instantiate().await {
                Err(error) if error.over.is_some() && self.account.end_largest_call() => {}
                made => return made,
            }
        }
    }

    /// One more call takes part in this version, which is not drained before that call has ended.
    pub(super) fn call_begins(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// A call that [`Module::call_begins`] counted has ended.
    pub(super) fn call_ended(&self) {
        if self.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drained.notify_waiters();
        }
    }

    /// Calls a handler under the limits of the module.
    pub(super) async fn call_limited(&self, handler: Handler, call: Call) -> Result<Box<RawValue>, Failure> {
        let id = &call.context.id;
        if !self.inspection().has(handler) {
            let message = format!("module {id} does not have a {}", handler.as_str());
            return Err(Failure::new(code::NO_HANDLER, message));
        }
        if call.depth > MAX_DEPTH {
            return Err(Failure::new(code::TOO_DEEP, format!("calls are nested more than {MAX_DEPTH} deep")));
        }
        let (context, caller) = (call.context.clone(), call.caller.clone());
        let entry = self.breakers[handler.index()].enter(&caller, Instant::now())?;
        let late = || {
            let message = format!("module {}: {} did not answer before its deadline", context.id, handler.as_str());
            Failure::new(code::TIMEOUT, message)
        };
        // A call whose deadline has passed is not begun, because the caller no longer waits for it.
        if call.deadline <= Instant::now() {
            return Err(late());
        }
        // What the message of a peer holds is charged to that peer.
        let message = call.msg.as_ref().filter(|_| call.caller.account.is_none()).map_or(0, |msg| msg.get().len());
        let _message = self.account.charge(message).map_err(no_room)?;
        let deadline = call.deadline;
        // Known when the call has its instance.
        let patience = OnceLock::new();
        let running = async {
            // A serial call takes no permit, because it must not wait for one: calls that have the permits may be waiting for calls behind it in
            // its lane. The lane lets one call in at a time.
            let serial = self.serial[handler.index()];
            let permits = if serial { None } else { Some(self.enter(&call.caller, call.depth).await?) };
            let answer = self.run(handler, call, &patience, (entry, &caller)).await;
            drop(permits);
            answer
        };
        tokio::select! {
            biased;
            answer = running => answer,
            () = passed(deadline, &patience) => Err(late()),
            () = self.ended.cancelled() => {
                let message = format!("the version of {} that served this call was replaced, and did not end in time", self.name);
                Err(Failure::new(code::RELOADED, message))
            }
        }
    }

    /// Takes a permit of the module and one of the engine. The number of calls that wait is bounded.
    async fn enter(&self, caller: &Caller, depth: u8) -> Result<[Option<FairPermit>; 2], Failure> {
        let _place = self.queue.enter(caller).map_err(|waiting| {
            metrics::counter!("pomelo_calls_refused_total", "module" => label(&self.name)).increment(1);
            let message =
                format!("{waiting} wait for module {} already (`queue` in [limits] of pomelo.toml)", self.name);
            Failure::new(code::BUSY, message)
        })?;
        Ok([self.permits.take(depth, caller).await, self.engine.permits().take(depth, caller).await])
    }

    async fn run(
        &self,
        handler: Handler,
        mut call: Call,
        patience: &OnceLock<Arc<Patience>>,
        (entry, caller): (Entry<'_>, &Caller),
    ) -> Result<Box<RawValue>, Failure> {
        let running = self.runners.acquire(&call.caller).await;
        let context = call.context.clone();
        let where_ = || format!("module {}: {}", context.id, handler.as_str());
        let trapped = |error: Trapped, entry: Entry<'_>| {
            let failure = error.failure(&where_(), &self.limits);
            self.trapped(handler, &failure, &context, (entry, caller));
            failure
        };
        let class = call.caller.class();
        let taken = loop {
            match self.pool.take().await {
                Err(Trapped { over: Some(_), .. }) if self.account.end_call_for(class, EngineLimits::INSTANCE) => {}
                taken => break taken,
            }
        };
        let mut instance = match taken {
            Ok(instance) => instance,
            // The module is not to blame where the engine has no room for one more instance.
            Err(error) if error.error.is::<wasmtime::PoolConcurrencyLimitError>() => {
                return Err(Failure::new(code::BUSY, format!("{}: all instances of this host are in use", where_())));
            }
            // Nor is this call, where the module's other calls or other modules have left no room for it.
            Err(Trapped { over: Some(over), .. }) => return Err(no_room(over)),
            Err(error) => return Err(trapped(error, entry)),
        };
        let msg = call.msg.take().map(|msg| String::from(Box::<str>::from(msg)));
        let state = CallState::new(call, self.runners.clone());
        instance.store.data_mut().begin(state, running);
        // An instance serves one call, so that this is set once.
        let _ = patience.set(instance.store.data().patience.clone());
        instance.store.set_epoch_deadline(1);
        let clock = instance.store.data().cpu.clone();
        let holds = instance.store.data().memory.charge.serves(class);
        let serving = async move {
            let answer = instance.call(handler, msg.as_ref()).await;
            (instance, answer)
        };
        let (mut instance, answer) = tokio::select! {
            biased;
            over = holds.given_up() => return Err(Failure::new(code::MEMORY_LIMIT, format!("{}: {over}", where_()))),
            served = guest::run(self.engine.scheduler(), &clock, serving) => served?,
        };
        drop(holds);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = Trapped::new(error, instance.store.data());
                // What it was refused are others' needs, or those of its other calls: no message of a caller's does that.
                return Err(if error.over.is_some() {
                    error.failure(&where_(), &self.limits)
                } else {
                    trapped(error, entry)
                });
            }
        };
        instance.store.data_mut().end();
        self.pool.put_back(instance);
        entry.ended();
        match answer? {
            None => Ok(null().to_owned()),
            Some(text) => self.checked(where_, text),
        }
    }

    /// The answer as JSON.
    fn checked(&self, where_: impl Fn() -> String, text: String) -> Result<Box<RawValue>, Failure> {
        if text.len() > self.limits.answer {
            let (bytes, limit) = (text.len(), self.limits.answer);
            let message = format!("{} answered with {bytes} bytes; an answer has at most {limit}", where_());
            return Err(Failure::new(code::BAD_ANSWER, message));
        }
        let wrong =
            |error| Failure::new(code::BAD_ANSWER, format!("{} answered with what is not JSON: {error}", where_()));
        if text.len() < SHARED_FROM || !self.account.is_carried() {
            return RawValue::from_string(text).map_err(wrong);
        }
        // A fleet that joins asks for the same table, and to compare costs a fraction of reading it as JSON.
        let last = self.last_large.lock().clone();
        if let Some(same) = last.filter(|last| last.get() == text) {
            return Ok(same.as_ref().to_owned());
        }
        let answer = RawValue::from_string(text).map_err(wrong)?;
        *self.last_large.lock() = Some(answer.clone().into());
        Ok(answer)
    }

    fn trapped(&self, handler: Handler, failure: &Failure, context: &Context, (entry, caller): (Entry<'_>, &Caller)) {
        self.evidence.trapped(caller);
        let aside = entry.trapped(Instant::now());
        let from = caller.class().as_str();
        let millis = aside.as_ref().map(|aside| aside.time.as_millis());
        tracing::warn!(module = %self.name, handler = handler.as_str(), from, %failure, aside_ms = ?millis, "a handler trapped");
        if let Some(aside) = aside {
            let (handler, of, millis) = (handler.as_str(), &aside.of, aside.time.as_millis());
            let what = format!(
                "{handler} keeps trapping in calls of {of} and is left alone by them for {millis} ms: {failure}"
            );
            let event = Event::new(kind::PUT_ASIDE, what).module(&context.id).server(&context.identity.server_id);
            context.services.journal.record(event);
        }
    }

    /// CPU time that the calls of the file have used, of all its versions and on all hosts of this process.
    pub fn cpu(&self) -> Duration {
        self.pool.share().total()
    }

    /// What this version is doing.
    pub fn figures(&self) -> Figures {
        Figures {
            calls: self.under_way.load(Ordering::Relaxed),
            queued: self.queue.waiting(),
            idle: self.pool.idle(),
            memory: self.account.held(),
        }
    }

    /// Whether a call is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Waits for the calls under way, at most for the time given. Calls that are still under way then fail with `reloaded`. Nothing may be
    /// called after this.
    pub async fn drain(&self, at_most: Duration) {
        let empty = async {
            loop {
                let told = self.drained.notified();
                if !self.is_busy() {
                    break;
                }
                told.await;
            }
        };
        let _ = tokio::time::timeout(at_most, empty).await;
        self.ended.cancel();
        self.pool.close();
    }
}

/// Waits until a deadline has passed, with all that was added to it.
async fn passed(deadline: Instant, patience: &OnceLock<Arc<Patience>>) {
    let mut until = deadline;
    loop {
        tokio::time::sleep_until(until.into()).await;
        let with_added = deadline + patience.get().map_or(Duration::ZERO, |patience| patience.added());
        if with_added <= Instant::now() {
            return;
        }
        until = with_added;
    }
}
