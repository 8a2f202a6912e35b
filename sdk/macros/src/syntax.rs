//! The shape of the attribute's arguments: `flag`, `name = literal`, `name(arguments)`, and literals alone.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, Lit, LitStr, Result, Token, parenthesized, token};

/// One argument.
pub struct Argument {
    /// The name, or the text of a string that stands in its place.
    pub name: String,
    pub span: Span,
    /// Whether `name` was written as a string.
    pub quoted: bool,
    pub value: Value,
}

/// What follows an argument's name.
pub enum Value {
    Nothing,
    Literal(Lit),
    List(Vec<Argument>),
}

/// Reads arguments up to the end of the input.
pub fn arguments(input: ParseStream) -> Result<Vec<Argument>> {
    Ok(Punctuated::<Argument, Token![,]>::parse_terminated(input)?.into_iter().collect())
}

impl Parse for Argument {
    fn parse(input: ParseStream) -> Result<Self> {
        let quoted = input.peek(LitStr);
        let (name, span) = if quoted {
            let text: LitStr = input.parse()?;
            (text.value(), text.span())
        } else {
            let ident = input.call(Ident::parse_any)?;
            (ident.to_string(), ident.span())
        };
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Value::Literal(input.parse()?)
        } else if input.peek(token::Paren) {
            let content;
            parenthesized!(content in input);
            Value::List(arguments(&content)?)
        } else {
            Value::Nothing
        };
        Ok(Self { name, span, quoted, value })
    }
}

impl Argument {
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new(self.span, message)
    }

    /// A name alone.
    pub fn flag(&self) -> Result<()> {
        match self.value {
            Value::Nothing => Ok(()),
            _ => Err(self.error(format!("`{0}` stands alone: write `{0}`", self.name))),
        }
    }

    /// `name = "text"`
    pub fn text(&self) -> Result<String> {
        match &self.value {
            Value::Literal(Lit::Str(text)) => Ok(text.value()),
            _ => Err(self.error(format!("`{0}` takes a string: write `{0} = \"…\"`", self.name))),
        }
    }

    /// `name = seconds`
    pub fn seconds(&self) -> Result<serde_json::Number> {
        let number = match &self.value {
            Value::Literal(Lit::Int(int)) => int.base10_parse::<u32>().ok().map(serde_json::Number::from),
            Value::Literal(Lit::Float(float)) => float.base10_parse().ok().and_then(serde_json::Number::from_f64),
            _ => None,
        };
        number.ok_or_else(|| self.error(format!("`{0}` takes a number of seconds: write `{0} = 5`", self.name)))
    }

    /// `name = count`
    pub fn count(&self) -> Result<u32> {
        let count = match &self.value {
            Value::Literal(Lit::Int(int)) => int.base10_parse().ok().filter(|count| *count >= 1),
            _ => None,
        };
        count.ok_or_else(|| self.error(format!("`{0}` takes a number: write `{0} = 1000`", self.name)))
    }

    /// `name = level`
    pub fn level(&self) -> Result<u8> {
        let level = match &self.value {
            Value::Literal(Lit::Int(int)) => int.base10_parse().ok().filter(|level| *level >= 1),
            _ => None,
        };
        level.ok_or_else(|| self.error(format!("a level is a number from 1 to 255: write `{} = 2`", self.name)))
    }

    /// `name(argument, …)`, not empty
    pub fn list(&self) -> Result<&[Argument]> {
        match &self.value {
            Value::List(list) if !list.is_empty() => Ok(list),
            _ => Err(self.error(format!("`{0}` takes a list: write `{0}(…)`", self.name))),
        }
    }

    /// An argument that is a string and nothing else.
    pub fn string(&self) -> Result<String> {
        match self.value {
            Value::Nothing if self.quoted => Ok(self.name.clone()),
            _ => Err(self.error("a string is wanted here: write `\"…\"`")),
        }
    }
}
