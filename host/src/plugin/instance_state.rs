//! What a host function sees: the call that it serves, and the limits of the instance.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use wasmtime::ResourceLimiter;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::cpu::CpuClock;
use super::fair::{FairPermit, FairSemaphore};
use super::guest_log::{Printed, Stream};
use super::patience::Patience;
use super::share::CpuShare;
use super::ticks::Ticks;
use super::{AnswerBounds, Call, Limits, MAX_DEPTH};
use crate::budget::{InstanceCharge, ModuleAccount, ModuleCharge, ModuleOver};
use crate::failure::{Failure, code};

/// The data of an instance's wasmtime store.
pub(super) struct InstanceState {
    /// The call under way. Absent between calls, and while a component is instantiated or described.
    serves: Option<CallState>,
    pub memory: MemoryLimiter,
    pub cpu: Arc<CpuClock>,
    /// What is added to the call's deadline.
    pub patience: Arc<Patience>,
    /// The right to run. It is given back while the call waits for others.
    running: Option<FairPermit>,
    wasi: Option<Box<Wasi>>,
    /// Bytes that an answer, or a message that the guest sends, may have.
    pub message_limit: usize,
    /// How large the answer of one server may be, and those of several to one request.
    pub answer_bounds: [AnswerBounds; 2],
    /// What the guest has handed to its host with the last function that keeps it while it waits.
    handed_over: ModuleCharge,
}

/// What WASI is to an instance.
struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    printed: Printed,
}

/// A call that traps, or is ended from outside, is dropped with its instance. What it has printed last is what one wants to know.
impl Drop for Wasi {
    fn drop(&mut self) {
        self.printed.end();
    }
}

/// The call that an instance serves.
pub(super) struct CallState {
    call: Call,
    /// Where the right to run is taken from again after the call has waited.
    runners: Arc<FairSemaphore>,
}

impl CallState {
    pub fn new(call: Call, runners: Arc<FairSemaphore>) -> Self {
        CallState { call, runners }
    }
}

/// Refuses memory past the instance's limit, and past what all instances of the module, or all modules, may hold together.
pub(super) struct MemoryLimiter {
    limit: usize,
    /// What all memories of the instance have together, bytes.
    used: usize,
    pub exceeded: bool,
    /// Why memory was refused that the instance itself might have had.
    pub over: Option<ModuleOver>,
    pub charge: InstanceCharge,
}

/// What an element of a table takes, bytes.
const ELEMENT: usize = size_of::<usize>();

impl InstanceState {
    pub fn new(limits: &Limits, charge: InstanceCharge, ticks: &Arc<Ticks>, share: &Arc<CpuShare>) -> Self {
        InstanceState {
            serves: None,
            handed_over: charge.account().nothing(),
            memory: MemoryLimiter { limit: limits.memory, used: 0, exceeded: false, over: None, charge },
            cpu: CpuClock::new(limits.cpu, ticks.clone(), share.clone()),
            patience: Patience::new(),
            running: None,
            wasi: None,
            message_limit: limits.answer,
            answer_bounds: [AnswerBounds::of_one(limits), AnswerBounds::of_many(limits)],
        }
    }

    /// Makes the instance ready for a call that has the right to run.
    pub fn begin(&mut self, mut call: CallState, running: FairPermit) {
        call.call.store.charged_to(self.account());
        if let Some(wasi) = &self.wasi {
            wasi.printed.begin(&call.call.context);
        }
        self.serves = Some(call);
        self.running = Some(running);
        self.cpu.reset();
        self.patience.reset();
        // An earlier call may have been refused memory and gone on without it.
        self.memory.exceeded = false;
        self.memory.over = None;
    }

    /// Ends the call.
    pub fn end(&mut self) {
        if let Some(wasi) = &self.wasi {
            wasi.printed.end();
        }
        self.serves = None;
        self.running = None;
        self.handed_over.is_now(0);
    }

    /// What the call has printed last to standard error.
    pub fn last_words(&self) -> Option<String> {
        self.wasi.as_ref()?.printed.last_words()
    }

    /// What is held for the module is charged to it.
    pub fn account(&self) -> &ModuleAccount {
        self.handed_over.account()
    }

    /// Charges what the guest has handed over, because the host keeps it while the guest waits. It takes the place of what was charged for the function
    /// that the guest called before.
    ///
    /// # Errors
    /// `busy`.
    pub fn holds(&mut self, bytes: usize) -> Result<(), Failure> {
        self.handed_over.resize(bytes).map_err(no_room)
    }

    /// The call under way.
    ///
    /// # Errors
    /// A failure where there is none: a component that asks its host for something while it is instantiated.
    pub fn call(&self) -> Result<&Call, Failure> {
        let outside = || Failure::new(code::NOT_AVAILABLE, "nothing can be asked of the host outside a call");
        self.serves.as_ref().map(|served| &served.call).ok_or_else(outside)
    }

    /// Waits for something on behalf of the guest. The right to run is given back meanwhile, so that a call that waits does not keep another
    /// from running.
    pub async fn wait<T>(&mut self, what: impl Future<Output = T>) -> T {
        self.running = None;
        let done = what.await;
        if let Some(served) = &self.serves {
            self.running = Some(served.runners.acquire(&served.call.caller).await);
        }
        done
    }

    /// Waits as [`InstanceState::wait`] does for something that is mostly done at once. The right to run is kept then.
    pub async fn wait_if_pending<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        match futures_util::poll!(what.as_mut()) {
            Poll::Ready(done) => done,
            Poll::Pending => self.wait(what).await,
        }
    }

    /// Waits as [`InstanceState::wait`] does, at most for the time given. What the wait takes does not count towards the call's deadline, and is given back
    /// of the CPU time that the call has used.
    pub async fn wait_patiently<T>(&mut self, at_most: Duration, what: impl Future<Output = T>) -> T {
        self.patience.add(at_most);
        let began = Instant::now();
        let done = self.wait(what).await;
        let waited = began.elapsed().min(at_most);
        self.patience.take_back(at_most - waited);
        self.cpu.give_back(waited);
        if let Some(served) = &mut self.serves {
            served.call.deadline += waited;
        }
        done
    }

    /// Depth and deadline of a call that this call makes. Its deadline is earlier than this call's own, so that there is time left to use the
    /// answer.
    ///
    /// # Errors
    /// `too-deep`.
    pub fn nested(&self, wanted: Duration) -> Result<(u8, Instant), Failure> {
        let call = self.call()?;
        if call.depth >= MAX_DEPTH {
            let message =
                format!("calls are nested {MAX_DEPTH} deep already: do the modules call each other in a circle?");
            return Err(Failure::new(code::TOO_DEEP, message));
        }
        let now = Instant::now();
        let left = call.deadline.saturating_duration_since(now);
        Ok((call.depth + 1, now + wanted.min(left.saturating_sub(margin(left)))))
    }

    /// Checks that the module may send messages to `module` on other servers through an interface.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_address(&self, interface: &str, module: &str) -> Result<(), Failure> {
        let context = &self.call()?.context;
        if context.id == module || context.reaches(interface, module) {
            return Ok(());
        }
        let message = format!(
            "module {} may not address {module} through `{interface}`: it lacks the grant `{interface}:{module}`",
            context.id
        );
        Err(Failure::new(code::FORBIDDEN, message))
    }

    /// When whatever this call sends must have gone: before its own deadline, so that there is time left to use the failure.
    ///
    /// # Errors
    /// A failure where there is no call.
    pub fn sent_by(&self) -> Result<Instant, Failure> {
        let now = Instant::now();
        let left = self.call()?.deadline.saturating_duration_since(now);
        Ok(now + left.saturating_sub(margin(left)))
    }

    /// The text as JSON. It is charged to the module, as [`InstanceState::holds`] does.
    ///
    /// # Errors
    /// `bad-message` where it is none, or larger than a message may be; `busy`.
    pub fn json(&mut self, text: String) -> Result<Box<RawValue>, Failure> {
        if text.len() > self.message_limit {
            let message = format!("a message has at most {} bytes, this one {}", self.message_limit, text.len());
            return Err(Failure::new(code::BAD_MESSAGE, message));
        }
        self.holds(text.len())?;
        RawValue::from_string(text)
            .map_err(|error| Failure::new(code::BAD_MESSAGE, format!("the message is not JSON: {error}")))
    }
}

/// The time that a call keeps for what it does with an answer, of so much that is left.
fn margin(left: Duration) -> Duration {
    (left / 10).min(Duration::from_millis(250))
}

/// The failure where no more may be held for a module.
pub(super) fn no_room(over: ModuleOver) -> Failure {
    Failure::new(code::BUSY, over.to_string())
}

impl MemoryLimiter {
    /// Charges more memory. Returns whether there was room.
    fn charge(&mut self, bytes: usize) -> bool {
        match self.charge.grow(bytes) {
            Ok(()) => true,
            Err(over) => {
                self.over = Some(over);
                false
            }
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let used = self.used.saturating_add(more);
        if used > self.limit {
            self.exceeded = true;
            return Ok(false);
        }
        let allowed = self.charge(more);
        if allowed {
            self.used = used;
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The components of interpreted languages have tables of some ten thousand elements.
        Ok(desired <= 100_000 && self.charge(desired.saturating_sub(current).saturating_mul(ELEMENT)))
    }
}

impl WasiView for InstanceState {
    /// A context that leads nowhere: no files, no network, no arguments, no environment, closed input; what is printed goes into the log. It is made at first
    /// use, because most modules import nothing of WASI.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| {
            let printed = Printed::new();
            if let Some(served) = &self.serves {
                printed.begin(&served.call.context);
            }
            Box::new(Wasi { ctx: wasi_of_nothing(&printed), table: resources(), printed })
        });
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// Random bytes that a guest may ask for at a time, and resources that it may have.
const MAX_RANDOM: u64 = 64 << 10;
const MAX_RESOURCES: usize = 1024;

fn wasi_of_nothing(printed: &Printed) -> WasiCtx {
    let (out, err) = (printed.stream(Stream::Out), printed.stream(Stream::Err));
    WasiCtx::builder().max_random_size(MAX_RANDOM).stdout(out).stderr(err).allow_tcp(false).allow_udp(false).build()
}

fn resources() -> ResourceTable {
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(MAX_RESOURCES);
    resources
}
