//! The callbacks: which there are, and how an author may write them.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, ImplItemFn, ReturnType, Signature, Type};

/// Which callback it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    MasterHandler,
    MonitorHandler,
    ClientHandler,
    Start,
    ServerEvents,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::MasterHandler, Self::MonitorHandler, Self::ClientHandler, Self::Start, Self::ServerEvents];

    /// The function's name in the author's `impl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MasterHandler => "master_handler",
            Self::MonitorHandler => "monitor_handler",
            Self::ClientHandler => "client_handler",
            Self::Start => "start",
            Self::ServerEvents => "server_events",
        }
    }

    /// The interface of the contract that it is exported as, as a module of the SDK.
    pub fn interface(self) -> &'static str {
        if self == Self::Start { "lifecycle" } else { self.name() }
    }

    fn takes_message(self) -> bool {
        self != Self::Start
    }

    pub fn answers(self) -> bool {
        matches!(self, Self::MasterHandler | Self::MonitorHandler | Self::ClientHandler)
    }
}

/// A callback as the author wrote it.
pub struct Callback {
    pub kind: Kind,
    /// Its `#[cfg]` attributes. The generated code has them too.
    pub cfgs: Vec<Attribute>,
    pub span: Span,
    pub returns: Span,
    pub receiver: bool,
    pub agent: bool,
    pub message: Option<Message>,
}

/// The message that a callback takes.
pub struct Message {
    pub span: Span,
    /// Whether its type is an `Option`.
    pub optional: bool,
}

/// The callback that a function is. Absent for any other function, because an `impl` may have functions that are not callbacks.
pub fn read(function: &ImplItemFn) -> syn::Result<Option<Callback>> {
    let name = function.sig.ident.to_string();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        return match meant(&name) {
            Some(kind) => {
                let message = format!(
                    "no callback has the name `{name}`: write `{}`, or give this function another name",
                    kind.name()
                );
                Err(Error::new(function.sig.ident.span(), message))
            }
            None => Ok(None),
        };
    };
    signature(kind, function).map(Some)
}

/// The callback of which this name is another spelling.
fn meant(name: &str) -> Option<Kind> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    Kind::ALL.into_iter().find(|kind| plain(kind.name()) == plain(name))
}

fn signature(kind: Kind, function: &ImplItemFn) -> syn::Result<Callback> {
    let sig = &function.sig;
    let name = kind.name();
    plain(sig, name)?;
    let returns = match &sig.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => {
            let example = if kind.answers() { "Result<Answer>" } else { "Result" };
            return Err(Error::new(
                sig.ident.span(),
                format!("`{name}` can fail: write `-> {example}` after its arguments"),
            ));
        }
    };
    let mut callback = Callback {
        kind,
        cfgs: function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect(),
        span: sig.ident.span(),
        returns,
        receiver: false,
        agent: false,
        message: None,
    };
    for input in &sig.inputs {
        match input {
            FnArg::Receiver(receiver) if receiver.reference.is_none() => {
                return Err(Error::new(
                    receiver.span(),
                    "the state stays with the instance: write `&self` or `&mut self`",
                ));
            }
            FnArg::Receiver(_) => callback.receiver = true,
            FnArg::Typed(argument) => typed(&mut callback, &argument.ty)?,
        }
    }
    Ok(callback)
}

/// Refuses what no callback can be.
fn plain(sig: &Signature, name: &str) -> syn::Result<()> {
    let refuse = |span, message: &str| Err(Error::new(span, format!("`{name}` {message}")));
    if let Some(token) = &sig.asyncness {
        return refuse(
            token.span(),
            "is not async: calls to the host wait by themselves, so leave `async` and `.await` out",
        );
    }
    if let Some(token) = &sig.unsafety {
        return refuse(token.span(), "is called by the host, which knows no contract: leave `unsafe` out");
    }
    if sig.generics.type_params().next().is_some() || sig.generics.const_params().next().is_some() {
        return refuse(sig.generics.span(), "is called with one type of message: leave its type parameters out");
    }
    Ok(())
}

/// An argument that is not `self`: the agent, or the message after it.
fn typed(callback: &mut Callback, ty: &Type) -> syn::Result<()> {
    let name = callback.kind.name();
    if is_agent(ty) {
        let reference = matches!(ty, Type::Reference(reference) if reference.mutability.is_none());
        if !reference {
            return Err(Error::new(ty.span(), "the agent is lent to the callback: write `&Agent`"));
        }
        if callback.agent || callback.message.is_some() {
            return Err(Error::new(
                ty.span(),
                format!("the agent comes once and before the message: write `{name}(agent: &Agent, …)`"),
            ));
        }
        callback.agent = true;
        return Ok(());
    }
    if !callback.kind.takes_message() {
        return Err(Error::new(
            ty.span(),
            format!("`{name}` has no message: write `{name}()` or `{name}(agent: &Agent)`"),
        ));
    }
    if callback.message.is_some() {
        let message =
            format!("`{name}` takes one message: put what it needs into one type that implements `Deserialize`");
        return Err(Error::new(ty.span(), message));
    }
    callback.message = Some(Message { span: ty.span(), optional: last_segment_is(ty, "Option") });
    Ok(())
}

fn is_agent(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => last_segment_is(&reference.elem, "Agent"),
        ty => last_segment_is(ty, "Agent"),
    }
}

fn last_segment_is(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|segment| segment.ident == name))
}
