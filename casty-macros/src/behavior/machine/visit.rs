//! Writes what happens when a state is entered and left: hooks, and the timers of the state.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};

use crate::{
    behavior::{
        actor::arguments,
        expand::Expansion,
        model::{Period, State, Timer, Turn},
    },
    names,
};

impl Expansion<'_> {
    /// What begins with a state that has just been put in place: its entry hook, then its timers.
    pub(super) fn begins_in(&self, state: &Ident) -> TokenStream {
        let states = &self.behavior.states;
        let Some(state) = states.iter().find(|it| it.ident == *state) else {
            return quote!();
        };
        let enter = state.hook(Turn::Enter).map(|_| self.call_enter());
        let arm = state.timers().next().map(|_| quote!(self.__arm(__ctx);));
        quote!(#enter #arm)
    }

    /// The same for the present state, whichever it is.
    pub(in crate::behavior) fn begins(&self) -> TokenStream {
        let enter = self
            .behavior
            .has_hook(Turn::Enter)
            .then(|| self.call_enter());
        let arm = self
            .behavior
            .has_timers()
            .then(|| quote!(self.__arm(__ctx);));
        quote!(#enter #arm)
    }

    fn call_enter(&self) -> TokenStream {
        let awaited = self.awaits_on_entry().then(|| quote!(.await));
        quote!(self.__enter(__ctx) #awaited;)
    }

    fn awaits_on_entry(&self) -> bool {
        let mut hooks = self
            .behavior
            .states
            .iter()
            .filter_map(|state| state.hook(Turn::Enter));
        hooks.any(|hook| hook.is_async)
    }

    /// The exit hook of a state that a handler has left.
    pub(in crate::behavior) fn left(&self, state: &State) -> Option<TokenStream> {
        let hook = state.hook(Turn::Exit)?;
        let ty = &state.ty;
        let arguments = Self::hook_arguments(hook);
        let call = self.call(&quote!(<#ty>), &hook.ident, hook.is_async, &arguments);
        Some(quote!(#call;))
    }

    /// What an activation begins with, besides its start hook: the entry hook of a state that was
    /// just made, and timers that did not come along from another node.
    pub(in crate::behavior) fn starts(&self) -> Option<TokenStream> {
        let private = &self.private;
        let enter = self.behavior.has_hook(Turn::Enter).then(|| {
            let enter = self.call_enter();
            quote!(if #private::is_made_here(__ctx) { #enter })
        });
        let arm = self
            .behavior
            .has_timers()
            .then(|| quote!(self.__arm(__ctx);));
        (enter.is_some() || arm.is_some()).then(|| quote!(#enter #arm))
    }

    /// `__enter` and `__arm`, where a state has an entry hook or a timer.
    pub(in crate::behavior) fn visits(&self) -> TokenStream {
        let (private, actor) = (&self.private, self.actor());
        let enter = self.behavior.has_hook(Turn::Enter).then(|| {
            let asyncness = self.awaits_on_entry().then(|| quote!(async));
            let arms = self.in_each_state(|state, place| {
                let hook = state.hook(Turn::Enter)?;
                let arguments = [place].into_iter().chain(Self::hook_arguments(hook));
                let arguments: Vec<_> = arguments.collect();
                let ty = &state.ty;
                let call = self.call(&quote!(<#ty>), &hook.ident, hook.is_async, &arguments);
                Some(self.with_changes(hook.changes, quote!(#call;)))
            });
            quote!(#asyncness fn __enter(&mut self, __ctx: &mut #private::Context<Self>) { #arms })
        });
        let arm = self.behavior.has_timers().then(|| {
            let arms = self.in_each_state(|state, place| {
                let timers: Vec<_> = state
                    .timers()
                    .map(|(handler, timer)| {
                        self.armed(state, &place, &handler.message.variant, timer)
                    })
                    .collect();
                (!timers.is_empty()).then(|| quote!(#(#timers)*))
            });
            quote!(fn __arm(&mut self, __ctx: &mut #private::Context<Self>) { #arms })
        });
        if enter.is_none() && arm.is_none() {
            return quote!();
        }
        self.implement(quote!(#actor), quote!(#enter #arm))
    }

    /// A match on the present state, where there are several.
    fn in_each_state(
        &self,
        what: impl Fn(&State, TokenStream) -> Option<TokenStream>,
    ) -> TokenStream {
        if !self.behavior.is_machine() {
            let state = self.behavior.initial();
            return state
                .and_then(|state| what(state, quote!(self)))
                .unwrap_or_default();
        }
        let state_enum = self.state_enum();
        let arms = self.sound_states().iter().filter_map(|state| {
            let ident = &state.ident;
            let done = what(state, quote!(__state))?;
            Some(quote!(#state_enum::#ident(ref mut __state) => { #done }))
        });
        quote!(match self.0 { #(#arms)* _ => {} })
    }

    fn armed(
        &self,
        state: &State,
        place: &TokenStream,
        variant: &Ident,
        timer: &Timer,
    ) -> TokenStream {
        let (private, message, ty) = (&self.private, &self.message, &state.ty);
        let time = match &timer.period {
            Period::Fixed { time, .. } => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                quote!(::core::time::Duration::from_millis(#millis))
            }
            Period::Function { ident, parameters } => {
                let arguments = arguments(place, parameters);
                names::all_at(
                    names::at(ident.span()),
                    quote!(#private::duration(<#ty>::#ident(#(#arguments),*))),
                )
            }
        };
        let function = format_ident!(
            "{}",
            if timer.repeats { "every" } else { "after" },
            span = Span::call_site()
        );
        quote!(#private::#function(__ctx, #time, || #message::#variant {});)
    }
}
