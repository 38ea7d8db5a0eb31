//! Names for several states: `#[states(Live = Open, Extended)]` above the module.

use proc_macro2::Ident;
use syn::{
    Attribute, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::{behavior::model::Group, errors::Errors, names};

/// Reads the attributes, in their order: a group may name groups that stand above it.
pub(super) fn parse(attributes: &[Attribute], states: &[Ident], errors: &mut Errors) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for attribute in attributes {
        let read = attribute
            .meta
            .require_list()
            .and_then(|list| definition.parse2(list.tokens.clone()));
        let Ok((name, written)) = read else {
            errors.at(
                attribute,
                "a name for several states is written as `#[states(Live = Open, Extended)]`",
            );
            continue;
        };
        let taken = states.iter().chain(groups.iter().map(|group| &group.ident));
        if name == "all" || taken.into_iter().any(|taken| *taken == name) {
            errors.at(
                &name,
                format!("`{name}` is the name of something else here: give these states another"),
            );
            continue;
        }
        // After an error in it the name is known all the same.
        let members = members(&written, states, &groups, errors);
        let group = Group {
            ident: name,
            members,
        };
        is_nested(&group, &groups, errors);
        groups.push(group);
    }
    groups
}

/// `Live = Open, Extended`.
fn definition(input: ParseStream<'_>) -> syn::Result<(Ident, Vec<Ident>)> {
    let name = input.parse()?;
    input.parse::<Token![=]>()?;
    let members = Punctuated::<Ident, Token![,]>::parse_terminated_with(input, Ident::parse_any)?;
    if members.is_empty() {
        return Err(input.error("names of states"));
    }
    Ok((name, members.into_iter().collect()))
}

/// The states that the names stand for, each once, in their order. Reports names of nothing.
pub(super) fn members(
    written: &[Ident],
    states: &[Ident],
    groups: &[Group],
    errors: &mut Errors,
) -> Vec<Ident> {
    let mut named: Vec<&Ident> = Vec::new();
    for name in written {
        let group = groups.iter().find(|group| group.ident == *name);
        let these = match group {
            Some(group) => &group.members[..],
            None if states.contains(name) => std::slice::from_ref(name),
            None if name == "all" => states,
            None => {
                unknown(name, states, groups, errors);
                continue;
            }
        };
        if these.iter().all(|state| named.contains(&state)) && !these.is_empty() {
            errors.at(name, format!("`{name}` is named already: name it once"));
        }
        named.extend(these);
    }
    states
        .iter()
        .filter(|state| named.contains(state))
        .cloned()
        .collect()
}

fn unknown(name: &Ident, states: &[Ident], groups: &[Group], errors: &mut Errors) {
    let known = || states.iter().chain(groups.iter().map(|group| &group.ident));
    let advice = names::did_you_mean(&name.to_string(), known())
        .unwrap_or_else(|| format!("write `#[state]` above the definition of `{name}`"));
    let list: Vec<_> = known().map(|name| format!("`{name}`")).collect();
    errors.at(
        name,
        format!(
            "`{name}` is neither a state nor a name of several: {advice}\nthere are {}, and `all` is all states",
            list.join(", ")
        ),
    );
}

/// A diagram draws one group within another, or beside it.
fn is_nested(group: &Group, groups: &[Group], errors: &mut Errors) {
    let holds = |one: &Group, other: &Group| {
        let mut members = other.members.iter();
        members.all(|state| one.members.contains(state))
    };
    let crossed = groups.iter().find(|other| {
        let mut members = other.members.iter();
        let meets = members.any(|state| group.members.contains(state));
        meets && !holds(group, other) && !holds(other, group)
    });
    if let Some(other) = crossed {
        errors.at(
            &group.ident,
            format!(
                "`{}` and `{}` share some of their states, and neither holds all of the other's: \
                 let one hold the other, or name the states one by one where you need them",
                group.ident, other.ident
            ),
        );
    }
}
