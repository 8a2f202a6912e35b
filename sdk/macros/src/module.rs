//! The meaning of the attribute's arguments, and the descriptor that they make.

use proc_macro2::Span;
use serde_json::{Map, Number, Value as Json, json};
use syn::{Error, Result};

use crate::callback::Kind;
use crate::syntax::{Argument, Value};

/// What the attribute says.
#[derive(Default)]
pub struct Module {
    pub ids: Vec<Id>,
    operations: Option<Json>,
    serial: Vec<(Kind, Span)>,
    durable: Vec<String>,
    limits: Map<String, Json>,
    version: Option<String>,
}

/// One module id.
pub struct Id {
    pub id: String,
    span: Span,
    roles: Vec<String>,
    timer: Timer,
}

#[derive(Default)]
struct Timer {
    /// `pull` or `push`, and the callback that it calls.
    kind: Option<(&'static str, Kind)>,
    interval: Option<Number>,
    delay: Option<Number>,
}

impl Module {
    pub fn read(arguments: &[Argument]) -> Result<Self> {
        let mut module = Self::default();
        let mut single: Option<Id> = None;
        // The arguments that belong to `id = "…"`, before and after it.
        let mut of_id = Vec::new();
        for (index, argument) in arguments.iter().enumerate() {
            let is_id_list = argument.name == "id" && matches!(argument.value, Value::List(_));
            if !is_id_list && arguments[..index].iter().any(|earlier| earlier.name == argument.name) {
                return Err(argument.error(format!("`{}` is there twice: leave one out", argument.name)));
            }
            match argument.name.as_str() {
                "id" if is_id_list => module.ids.push(Id::from_list(argument)?),
                "id" => single = Some(Id::new(argument.text()?, argument.span)?),
                "roles" | "pull" | "push" | "interval" | "delay" => of_id.push(argument),
                "level" => module.set_operations(argument, json!({ "levels": { "*": argument.level()? } }))?,
                "operations" => module.set_operations(argument, operations(argument)?)?,
                "serial" => module.serial = argument.list()?.iter().map(serial).collect::<Result<_>>()?,
                "durable" => module.durable = argument.list()?.iter().map(Argument::string).collect::<Result<_>>()?,
                "limits" => module.limits = limits(argument)?,
                "version" => module.version = Some(argument.text()?),
                name => {
                    return Err(argument.error(format!("`{name}` means nothing here: {ARGUMENTS}")));
                }
            }
        }
        match (single, module.ids.is_empty(), of_id.first()) {
            (Some(mut id), true, _) => {
                id.take(&of_id)?;
                module.ids.push(id);
            }
            (None, true, _) => {
                return Err(Error::new(Span::call_site(), "a module has an id: write `#[module(id = \"…\")]`"));
            }
            (Some(id), false, _) => {
                return Err(Error::new(id.span, "there is an `id(…)` too: write this one as `id(\"…\")` as well"));
            }
            (None, false, Some(argument)) => {
                return Err(argument.error(format!("which id has it? Write `{}` inside `id(…)`", argument.name)));
            }
            (None, false, None) => {}
        }
        module.distinct()
    }

    fn set_operations(&mut self, argument: &Argument, operations: Json) -> Result<()> {
        if self.operations.is_some() {
            return Err(argument.error("`level` and `operations` exclude each other: write `operations(\"*\" = 2, …)`"));
        }
        self.operations = Some(operations);
        Ok(())
    }

    fn distinct(self) -> Result<Self> {
        for (index, id) in self.ids.iter().enumerate() {
            if self.ids[..index].iter().any(|earlier| earlier.id == id.id) {
                return Err(Error::new(id.span, format!("the id `{}` is there twice: leave one out", id.id)));
            }
        }
        Ok(self)
    }

    /// Checks that the `impl` has the callbacks that the attribute names.
    pub fn check(&self, has: impl Fn(Kind) -> bool) -> Result<()> {
        for id in &self.ids {
            if let Some((kind, callback)) = id.timer.kind
                && !has(callback)
            {
                let name = callback.name();
                return Err(Error::new(
                    id.span,
                    format!("the timer of a `{kind}` module calls `{name}`: add `fn {name}` to the impl"),
                ));
            }
        }
        match self.serial.iter().find(|(kind, _)| !has(*kind)) {
            Some((kind, span)) => Err(Error::new(
                *span,
                format!("there is no `{0}` in the impl: add it, or leave it out here", kind.name()),
            )),
            None => Ok(()),
        }
    }

    /// The descriptor, as `interface descriptor` of the contract has it.
    pub fn descriptor(&self, package: &str, package_version: &str) -> String {
        let mut members = Map::new();
        members.insert("name".into(), package.into());
        members.insert("version".into(), self.version.as_deref().unwrap_or(package_version).into());
        members.insert("ids".into(), self.ids.iter().map(Id::descriptor).collect());
        if let Some(operations) = &self.operations {
            members.insert("operations".into(), operations.clone());
        }
        if !self.serial.is_empty() {
            members.insert(
                "serial".into(),
                self.serial.iter().map(|(kind, _)| kind.interface().replace('_', "-")).collect(),
            );
        }
        if !self.durable.is_empty() {
            members.insert("durable".into(), self.durable.clone().into());
        }
        if !self.limits.is_empty() {
            members.insert("limits".into(), self.limits.clone().into());
        }
        Json::Object(members).to_string()
    }
}

const ARGUMENTS: &str = "the arguments are `id`, `roles`, `pull`, `push`, `interval`, `delay`, `level`, `operations`, `serial`, `durable`, `limits` and `version`";

impl Id {
    fn new(id: String, span: Span) -> Result<Self> {
        if id.is_empty() || id.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::new(span, "an id is a word: leave spaces out"));
        }
        Ok(Self { id, span, roles: Vec::new(), timer: Timer::default() })
    }

    /// `id("name", …)`
    fn from_list(argument: &Argument) -> Result<Self> {
        let (first, rest) = argument.list()?.split_first().expect("the list is not empty");
        let mut id = Self::new(first.string()?, first.span)?;
        id.take(&rest.iter().collect::<Vec<_>>())?;
        Ok(id)
    }

    fn take(&mut self, arguments: &[&Argument]) -> Result<()> {
        for argument in arguments {
            match argument.name.as_str() {
                "roles" => self.roles = argument.list()?.iter().map(role).collect::<Result<_>>()?,
                "pull" => self.set_timer(argument, "pull", Kind::MasterHandler)?,
                "push" => self.set_timer(argument, "push", Kind::MonitorHandler)?,
                "interval" => {
                    let interval = argument.seconds()?;
                    if interval.as_f64().is_none_or(|seconds| seconds < 1.0) {
                        return Err(argument
                            .error("a timer has at least a second between its turns: write `interval = 1` or more"));
                    }
                    self.timer.interval = Some(interval);
                }
                "delay" => self.timer.delay = Some(argument.seconds()?),
                name => {
                    return Err(argument.error(format!(
                        "`{name}` is no property of an id: they are `roles`, `pull`, `push`, `interval` and `delay`"
                    )));
                }
            }
        }
        self.timer.check(self.span)
    }

    fn set_timer(&mut self, argument: &Argument, name: &'static str, callback: Kind) -> Result<()> {
        argument.flag()?;
        if self.timer.kind.is_some() {
            return Err(argument.error("a timer is either `pull` or `push`: leave one out"));
        }
        self.timer.kind = Some((name, callback));
        Ok(())
    }

    fn descriptor(&self) -> Json {
        let mut members = Map::new();
        members.insert("id".into(), self.id.clone().into());
        if !self.roles.is_empty() {
            members.insert("roles".into(), self.roles.clone().into());
        }
        if let Some((kind, _)) = self.timer.kind {
            members.insert("type".into(), kind.into());
        }
        for (name, seconds) in [("interval", &self.timer.interval), ("delay", &self.timer.delay)] {
            if let Some(seconds) = seconds {
                members.insert(name.into(), Json::Number(seconds.clone()));
            }
        }
        Json::Object(members)
    }
}

impl Timer {
    fn check(&self, span: Span) -> Result<()> {
        match (&self.kind, &self.interval, &self.delay) {
            (Some((kind, _)), None, _) => {
                Err(Error::new(span, format!("a `{kind}` module has an interval: add `interval = 5`")))
            }
            (None, Some(_), _) | (None, _, Some(_)) => {
                Err(Error::new(span, "a timer is `pull` (the master's) or `push` (every monitor's): add one of them"))
            }
            _ => Ok(()),
        }
    }
}

fn role(argument: &Argument) -> Result<String> {
    argument.flag()?;
    match argument.name.as_str() {
        role @ ("master" | "monitor") => Ok(role.to_owned()),
        other => Err(argument.error(format!("`{other}` is no role: write `master` or `monitor`"))),
    }
}

fn serial(argument: &Argument) -> Result<(Kind, Span)> {
    argument.flag()?;
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == argument.name)
        .map(|kind| (kind, argument.span))
        .ok_or_else(|| {
            argument.error(format!(
                "`{}` cannot be serial: write `master_handler`, `monitor_handler`, `client_handler`, `server_events` or `start`",
                argument.name
            ))
        })
}

fn limits(argument: &Argument) -> Result<Map<String, Json>> {
    const NAMES: [&str; 6] = ["cpu_ms", "wall_ms", "memory_mib", "answer_kib", "message_kib", "store_kib"];
    let mut limits = Map::new();
    for limit in argument.list()? {
        if !NAMES.contains(&limit.name.as_str()) {
            return Err(limit.error(format!("`{}` is no limit: they are `{}`", limit.name, NAMES.join("`, `"))));
        }
        limits.insert(limit.name.clone(), limit.count()?.into());
    }
    Ok(limits)
}

fn operations(argument: &Argument) -> Result<Json> {
    let mut members = Map::new();
    let mut levels = Map::new();
    for operation in argument.list()? {
        // Operations of the names `by` and `reads` can be written as strings.
        if operation.name == "by" && !operation.quoted {
            members.insert("by".into(), operation.text()?.into());
        } else if operation.name == "reads" && !operation.quoted {
            let reads = operation.list()?.iter().map(Argument::string).collect::<Result<Vec<_>>>()?;
            members.insert("reads".into(), reads.into());
        } else if levels.insert(operation.name.clone(), operation.level()?.into()).is_some() {
            return Err(operation.error(format!("the operation `{}` is there twice: leave one out", operation.name)));
        }
    }
    if levels.keys().any(|operation| operation != "*") && !members.contains_key("by") {
        return Err(argument.error("which member of a message names the operation? Add `by = \"…\"`"));
    }
    if !levels.is_empty() {
        members.insert("levels".into(), Json::Object(levels));
    }
    Ok(Json::Object(members))
}
