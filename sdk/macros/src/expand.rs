//! The code that connects an author's `impl` with the host.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Error, ImplItem, ItemImpl, Result};

use crate::callback::{self, Callback};
use crate::module::Module;
use crate::syntax;

/// The whole of `#[module(…)]`.
pub fn module(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let module = Module::read(&syntax::arguments.parse2(attribute)?)?;
    let item: ItemImpl =
        syn::parse2(item).map_err(|error| Error::new(error.span(), "`#[module]` stands on the `impl` of a struct"))?;
    let callbacks = callbacks(&item)?;
    module.check(|kind| callbacks.iter().any(|callback| callback.kind == kind))?;

    // Cargo sets them to those of the crate that is being compiled.
    let package = |name: &str| std::env::var(name).unwrap_or_default();
    let descriptor = module.descriptor(&package("CARGO_PKG_NAME"), &package("CARGO_PKG_VERSION"));
    let ids = module.ids.iter().map(|id| id.id.as_str()).collect::<Vec<_>>().join("/");

    let ty = &item.self_ty;
    let describe = describe(&descriptor);
    let state = state(&item, &callbacks);
    let exports = callbacks.iter().map(|callback| export(callback, &item, &ids));
    Ok(quote! {
        #item

        // The author's lints are for the author's code.
        #[allow(clippy::all, clippy::pedantic)]
        const _: () = {
            enum Export {}
            // On other targets nothing is exported, and the compiler would warn of types that nothing uses.
            const _: ::std::option::Option<Export> = ::std::option::Option::None;
            const _: ::std::option::Option<#ty> = ::std::option::Option::None;
            #describe
            #state
            #(#exports)*
        };
    })
}

fn callbacks(item: &ItemImpl) -> Result<Vec<Callback>> {
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new(
            path.span(),
            "`#[module]` stands on an `impl` without a trait: write `impl MyModule { … }`",
        ));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new(item.generics.span(), "a module is one type: leave its parameters out"));
    }
    let functions = item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(function) => callback::read(function).transpose(),
        _ => None,
    });
    let callbacks = functions.collect::<Result<Vec<_>>>()?;
    if callbacks.is_empty() {
        let message = "there is no callback: add `master_handler`, `monitor_handler`, `client_handler`, `start` or `server_events`";
        return Err(Error::new(item.self_ty.span(), message));
    }
    Ok(callbacks)
}

/// The descriptor: as an export, and as a custom section that can be read without running anything.
fn describe(descriptor: &str) -> TokenStream {
    let length = descriptor.len();
    let bytes = Literal::byte_string(descriptor.as_bytes());
    quote! {
        impl ::pomelo_sdk::__private::descriptor::Guest for Export {
            fn describe() -> ::std::string::String {
                ::std::string::String::from(#descriptor)
            }
        }

        #[cfg(target_arch = "wasm32")]
        ::pomelo_sdk::__private::descriptor::export_descriptor!(Export with_types_in ::pomelo_sdk::__private::descriptor);

        #[cfg(target_arch = "wasm32")]
        #[used]
        #[allow(unsafe_code)]
        #[unsafe(link_section = "pomelo:descriptor")]
        static DESCRIPTOR: [u8; #length] = *#bytes;
    }
}

/// The instance's value of the author's struct, where a callback wants it.
fn state(item: &ItemImpl, callbacks: &[Callback]) -> TokenStream {
    if !callbacks.iter().any(|callback| callback.receiver) {
        return TokenStream::new();
    }
    let ty = &item.self_ty;
    let default = quote_spanned!(ty.span()=> <#ty as ::std::default::Default>::default());
    quote! {
        ::std::thread_local! {
            static STATE: ::std::cell::RefCell<#ty> = ::std::cell::RefCell::new(#default);
        }
    }
}

/// One exported interface, whose function calls the author's.
fn export(callback: &Callback, item: &ItemImpl, ids: &str) -> TokenStream {
    let Callback { kind, cfgs, .. } = callback;
    let ty = &item.self_ty;
    let function = syn::Ident::new(kind.name(), callback.span);
    let interface = format_ident!("{}", kind.interface());
    let export_macro = format_ident!("export_{}", interface);

    let message = callback.message.as_ref().map(|message| {
        let text = if kind.answers() {
            quote!(::std::option::Option::as_deref(&msg))
        } else {
            quote!(::std::option::Option::Some(msg.as_str()))
        };
        let name = kind.name();
        let read = if message.optional { "optional_message" } else { "message" };
        let read = syn::Ident::new(read, message.span);
        let place = quote!(&::pomelo_sdk::__private::Callback { module: #ids, name: #name });
        quote_spanned!(message.span=> let msg = ::pomelo_sdk::__private::#read(#text, #place)?;)
    });

    let agent = callback.agent.then(|| quote!(agent,));
    let msg = callback.message.as_ref().map(|_| quote!(msg,));
    let call = if callback.receiver {
        // Nobody else has borrowed the state, because the host makes one call of an instance at a time.
        quote_spanned!(callback.returns=> STATE.with_borrow_mut(|state| #ty::#function(state, #agent #msg)))
    } else {
        quote_spanned!(callback.returns=> #ty::#function(#agent #msg))
    };

    let string = quote!(::std::string::String);
    let failure = quote!(::pomelo_sdk::__private::HostFailure);
    let (signature, finish) = match (kind.answers(), kind.interface()) {
        (true, _) => (
            quote!(fn handle(msg: ::std::option::Option<#string>) -> ::std::result::Result<#string, #failure>),
            quote!(answer),
        ),
        (false, "lifecycle") => (quote!(fn start() -> ::std::result::Result<(), #failure>), quote!(outcome)),
        (false, _) => (quote!(fn handle(msg: #string) -> ::std::result::Result<(), #failure>), quote!(outcome)),
    };
    let finish = quote_spanned!(callback.returns=> ::pomelo_sdk::__private::#finish);
    quote! {
        #(#cfgs)*
        impl ::pomelo_sdk::__private::#interface::Guest for Export {
            #[allow(unused_variables)]
            #signature {
                #finish(|agent| {
                    #message
                    ::std::result::Result::Ok(#call)
                })
            }
        }

        #(#cfgs)*
        #[cfg(target_arch = "wasm32")]
        ::pomelo_sdk::__private::#interface::#export_macro!(Export with_types_in ::pomelo_sdk::__private::#interface);
    }
}
