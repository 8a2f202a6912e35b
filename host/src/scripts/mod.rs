//! Scripts: programs that are run once, for the interface `scripts`.
//!
//! A script is a component with a `monitor-handler`, or its text (WAT), or a core module whose `run` gives a number. The module runtime runs it as
//! it runs a module, in an instance of its own that is dropped when it has answered. It may import what the operator granted to scripts.
//!
//! | file | what is there |
//! |---|---|
//! | `content` | makes a component of what a person saved |
//! | `number.wat` | the component around a core module |
//! | `saved` | the scripts that are kept |

mod content;
mod saved;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::{Failure, code};
use crate::plugin::capability::{Script, ScriptRun, Scripts, Services};
use crate::plugin::{
    Call, Compiled, Context, Engine, Grants, Handler, Identity, Limits, LoadError, Module, Neighbours, NotGranted,
    Store, StoreView,
};

pub use content::MAX_SIZE;
pub use saved::{MAX_NAME, MAX_SCRIPTS, MAX_TOTAL};

/// Scripts whose compiled code is kept: those that were run last.
const COMPILED: usize = 16;

/// What an operator configures of scripts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The directory that they are kept in. Absent where they are kept in memory.
    pub directory: Option<PathBuf>,
    /// What they may do beside `agent` and `store`.
    pub grants: Grants,
    /// What one run may use. At most `running` run at the same time.
    pub limits: Limits,
}

/// What the interface `scripts` acts on.
pub struct HostScripts {
    engine: Engine,
    identity: Arc<Identity>,
    services: Arc<Services>,
    modules: Arc<OnceLock<Arc<dyn Neighbours>>>,
    configured: RwLock<Arc<Configured>>,
    saved: saved::Saved,
    /// By the digest of the content. Those that were run last are at the end.
    compiled: Mutex<VecDeque<([u8; 32], Arc<Compiled>)>>,
    /// All scripts of this host share it. It is in memory.
    store: Arc<Store>,
}

/// What one run may do and use, and how many may run.
struct Configured {
    grants: Grants,
    limits: Limits,
    /// As many as scripts may be compiled or run at the same time.
    permits: Arc<Semaphore>,
}

impl Configured {
    fn new(engine: &Engine, grants: Grants, mut limits: Limits) -> Arc<Self> {
        limits.memory = limits.memory.min(engine.limits().max_memory);
        let permits = Arc::new(Semaphore::new(limits.running.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Configured { grants, limits, permits })
    }
}

impl HostScripts {
    /// The scripts of a host, which act on `services`.
    pub fn new(engine: Engine, identity: Identity, services: Services, settings: Settings) -> Self {
        let Settings { directory, grants, limits } = settings;
        HostScripts {
            configured: RwLock::new(Configured::new(&engine, grants, limits.clone())),
            engine,
            identity: Arc::new(identity),
            services: Arc::new(services),
            modules: Arc::default(),
            saved: saved::Saved::new(directory),
            compiled: Mutex::default(),
            store: Arc::new(Store::new(limits.store)),
        }
    }

    /// Takes over other grants and limits: the next run has them. Where scripts are kept stays as it is.
    pub fn apply(&self, settings: Settings) {
        let Settings { directory: _, grants, limits } = settings;
        self.store.set_limit(limits.store);
        *self.configured.write() = Configured::new(&self.engine, grants, limits);
        // What was compiled was checked against the grants before.
        self.compiled.lock().clear();
    }

    fn configured(&self) -> Arc<Configured> {
        self.configured.read().clone()
    }

    /// Says which modules the host has, whose stores a script may be allowed to read.
    pub fn set_modules(&self, modules: Arc<dyn Neighbours>) {
        // Setting them twice would be a mistake of the program, but a harmless one: the first modules stay.
        let _ = self.modules.set(modules);
    }

    /// The right to compile or run one more.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let configured = self.configured();
        let full = |_| {
            let message = format!("{} scripts are compiled or run on this server already", configured.limits.running);
            Failure::new(code::BUSY, message)
        };
        configured.permits.clone().try_acquire_owned().map_err(full)
    }

    /// Does something with the saved scripts on a thread that may wait.
    async fn with_saved<T: Send + 'static>(
        &self,
        what: impl FnOnce(&saved::Saved) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let saved = self.saved.clone();
        let done = tokio::task::spawn_blocking(move || what(&saved)).await;
        done.map_err(|error| Failure::new(code::FAILED, error.to_string()))?
    }

    /// Compiles a script and checks what it imports. Nothing of it runs.
    async fn prepare(&self, name: &str, content: Vec<u8>) -> Result<Arc<Compiled>, Failure> {
        let bad = |why: &dyn std::fmt::Display| Failure::new(code::BAD_MESSAGE, format!("{name} is no script: {why}"));
        let digest: [u8; 32] = Sha256::digest(&content).into();
        let known = {
            let mut kept = self.compiled.lock();
            let at = kept.iter().position(|(known, _)| *known == digest);
            let known = at.and_then(|at| kept.remove(at));
            kept.extend(known.clone());
            known
        };
        if let Some((_, compiled)) = known {
            return Ok(compiled);
        }
        let called = name.to_owned();
        let component = tokio::task::spawn_blocking(move || content::component(&called, &content));
        let component = component.await.map_err(|error| bad(&error))??;
        let compiled = Compiled::script(&self.engine, component.into()).await.map_err(|error| bad(&error))?;
        self.configured().grants.check(name, &compiled.inspection().imports).map_err(|refused| {
            let why = match refused {
                NotGranted::Missing(missing) => missing.sentence("[scripts]", "scripts", "they"),
                other => other.to_string(),
            };
            Failure::new(code::FORBIDDEN, format!("{name} is refused: {why}"))
        })?;
        let mut kept = self.compiled.lock();
        if kept.len() >= COMPILED {
            kept.pop_front();
        }
        kept.push_back((digest, compiled.clone()));
        Ok(compiled)
    }

    async fn run_once(&self, run: ScriptRun) -> Result<Box<RawValue>, Failure> {
        let ScriptRun { script, args, caller, depth, deadline } = run;
        let _permit = self.permit()?;
        let (label, name, content) = match script {
            Script::Saved(label) => {
                let wanted = label.clone();
                let content = self.with_saved(move |saved| saved.get(&wanted)).await?;
                let name = format!("script:{label}");
                (label, name, content)
            }
            Script::Content(content) => ("what was sent".to_owned(), "script".to_owned(), content),
        };
        let compiled = self.prepare(&label, content).await?;
        let configured = self.configured();
        let module = Module::new(&self.engine, &name, &compiled, configured.limits.clone());
        let module = module.map_err(|error: LoadError| Failure::new(code::BAD_MESSAGE, format!("{name}: {error}")))?;
        let context = Arc::new(Context::new(
            name,
            self.identity.clone(),
            self.services.clone(),
            "{}".into(),
            configured.grants.clone(),
            self.store.clone(),
            Arc::new(Modules(self.modules.clone())),
        ));
        let call = Call {
            context,
            caller,
            operations: None,
            msg: Some(args),
            wants_answer: true,
            depth,
            deadline: deadline.min(Instant::now() + configured.limits.wall),
            store: StoreView::direct(self.store.clone()),
        };
        metrics::counter!("pomelo_scripts_run_total").increment(1);
        Arc::new(module).lease().call(Handler::Monitor, call).await
    }
}

impl Scripts for HostScripts {
    fn names(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.with_saved(saved::Saved::names).boxed()
    }

    fn get(&self, name: String) -> BoxFuture<'_, Result<Vec<u8>, Failure>> {
        self.with_saved(move |saved| saved.get(&name)).boxed()
    }

    fn save(&self, name: String, content: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            saved::check_name(&name)?;
            let _permit = self.permit()?;
            self.prepare(&name, content.clone()).await?;
            self.with_saved(move |saved| saved.save(&name, content)).await
        }
        .boxed()
    }

    fn run(&self, run: ScriptRun) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        self.run_once(run).boxed()
    }
}

/// The modules of the host. They are set later, because the host makes its scripts before its modules.
struct Modules(Arc<OnceLock<Arc<dyn Neighbours>>>);

impl Neighbours for Modules {
    fn ids(&self) -> Vec<String> {
        self.0.get().map(|modules| modules.ids()).unwrap_or_default()
    }

    fn store(&self, id: &str) -> Option<Arc<Store>> {
        self.0.get()?.store(id)
    }
}
