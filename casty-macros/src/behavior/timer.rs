//! Reads the timer of a state: `#[message(internal, after = "30s")]`, `every = Self::pace`.

use proc_macro2::Ident;
use syn::{Expr, ExprLit, ExprPath, FnArg, Lit, ReceiverKind};

use super::{
    model::{Argument, Parameter, Period, Timer},
    scope::Scope,
    signature,
};
use crate::{errors::Errors, options::Options, text};

const NO_TIME: &str = "a timer of no time would come at once: let the handler that enters the state do it, \
    or write how long the state lasts";

/// Reads the option `after` or `every` of a message function.
pub(super) fn parse(
    scope: Scope<'_>,
    options: &Options,
    arguments: &[Argument],
    errors: &mut Errors,
) -> Option<Timer> {
    let repeats = match (options.span("after"), options.span("every")) {
        (None, None) => return None,
        (Some(_), None) => false,
        (None, Some(_)) => true,
        (Some(_), Some(second)) => {
            errors.at_span(
                second,
                "`after` comes once and `every` comes again and again: keep one of them",
            );
            true
        }
    };
    let name = if repeats { "every" } else { "after" };
    if options.span("internal").is_none() {
        let span = options.span(name)?;
        errors.at_span(
            span,
            format!(
                "only the timer sends its message: write `#[message(internal, {name} = ..)]`; \
                 for others to send the same, write a message function that calls this one"
            ),
        );
    }
    if let Some(argument) = arguments.first() {
        errors.at(
            &argument.ident,
            "a timer of a state knows no argument to send: keep the value in the state",
        );
    }
    let period = period(scope, options, name, errors)?;
    Some(Timer { repeats, period })
}

fn period(scope: Scope<'_>, options: &Options, name: &str, errors: &mut Errors) -> Option<Period> {
    match options.value(name) {
        Some(Expr::Path(ExprPath {
            qself: None, path, ..
        })) => {
            let mut segments = path.segments.iter();
            let (first, function, rest) = (segments.next(), segments.next(), segments.next());
            let is_own = first.is_some_and(|first| first.ident == "Self");
            let Some(function) = function.filter(|_| is_own && rest.is_none()) else {
                errors.at(
                    path,
                    format!(
                        "the time of a timer is a string, or a function of the state: \
                         write `{name} = \"30s\"` or `{name} = Self::left`"
                    ),
                );
                return None;
            };
            of_function(scope, &function.ident, errors)
        }
        Some(Expr::Lit(ExprLit {
            lit: Lit::Str(shown),
            ..
        })) => {
            let time = options.duration(name, Some(NO_TIME), errors)?;
            let shown = shown.value();
            Some(Period::Fixed { time, shown })
        }
        Some(Expr::Call(call)) => {
            errors.at(
                call,
                format!("casty calls the function when the state is entered: write its name alone, `{name} = Self::left`"),
            );
            None
        }
        _ => {
            options.duration(name, Some(NO_TIME), errors);
            None
        }
    }
}

/// `fn left(&self) -> Duration`, which may look at the common data as well.
fn of_function(scope: Scope<'_>, ident: &Ident, errors: &mut Errors) -> Option<Period> {
    let mut parameters = Vec::new();
    let Some(sig) = scope.function(ident) else {
        errors.at(
            ident,
            format!(
                "there is no function `{ident}` in a block of `{}` here: write one, \
                 `fn {ident}(&self) -> Duration`",
                text::of(scope.this)
            ),
        );
        return None;
    };
    if let Some(asyncness) = &sig.asyncness {
        errors.at(
            asyncness,
            format!(
                "`{ident}` says how long a timer runs, from what the state knows: drop `async`"
            ),
        );
        return None;
    }
    let receiver = sig.receiver().map(|receiver| &receiver.kind);
    if !matches!(receiver, Some(ReceiverKind::Reference(..))) {
        errors.at(
            &sig.ident,
            format!("`{ident}` says how long a timer runs, and leaves the state where it is: let it take `&self`"),
        );
        return None;
    }
    let mut has_common = false;
    for input in &sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        let Some(is_mutable) = signature::common(scope, input, &mut has_common, None, errors)
        else {
            let common = scope
                .common()
                .map(|common| format!(" and `&{}`", common.ident))
                .unwrap_or_default();
            errors.at(
                input,
                format!(
                    "`{ident}` says how long a timer runs and takes `&self`{common}, not `{}: {}`",
                    text::of(&input.pat),
                    text::of(&input.ty)
                ),
            );
            return None;
        };
        parameters.push(Parameter::Common { is_mutable });
    }
    Some(Period::Function {
        ident: ident.clone(),
        parameters,
    })
}
