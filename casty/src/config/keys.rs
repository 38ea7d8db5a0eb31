//! The keys of a configuration: each with its section, its form, and what it is for.

use std::{path::PathBuf, time::Duration};

use super::{Settings, entity::EntitySettings, given::Given};
use crate::id::COPIES_MAX;

/// What the value of a key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// Several texts; in the environment with commas between them.
    Texts,
    Path,
    Number,
    Fraction,
    /// As `1.5s`, `200ms`, `2m`.
    Time,
}

impl Form {
    /// A value of this form, for messages.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Text => "a text, as \"node-1\"",
            Self::Texts => "a list of texts, as [\"10.0.0.1:25520\"]",
            Self::Path => "a path, as \"/var/lib/shop\"",
            Self::Number => "a whole number, as 32",
            Self::Fraction => "a number, as 0.05",
            Self::Time => "a time with its unit, as \"1500ms\", \"2s\" or \"1m\"",
        }
    }
}

/// A value that has its form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Number(u64),
    Fraction(f64),
    Time(Duration),
}

/// A key of a configuration.
pub(super) struct Key {
    /// Empty: it stands before all sections.
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// What it is for, with unit and range.
    pub(super) what: &'static str,
    /// `None`: the value does not fit.
    pub(super) put: fn(&mut Given, Value) -> Option<()>,
    /// Its default, as a file has it. `None`: there is none.
    pub(super) default: fn(&Settings) -> Option<String>,
}

impl Key {
    /// The variable of the environment.
    pub(super) fn variable(&self) -> String {
        let prefix = if self.section == "tls" { "TLS_" } else { "" };
        format!("CASTY_{prefix}{}", self.name.to_uppercase())
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Texts(texts) => Some(texts),
        _ => None,
    }
}

fn number(value: Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.try_into().ok(),
        _ => None,
    }
}

fn path(value: Value) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}

/// A key before all sections.
macro_rules! top {
    ($name:ident, $form:ident, $read:expr, $default:expr, $what:literal) => {
        Key {
            section: "",
            name: stringify!($name),
            form: Form::$form,
            what: $what,
            put: |given, value| {
                given.$name = Some($read(value)?);
                Some(())
            },
            default: |_| $default,
        }
    };
}

macro_rules! tls {
    ($name:ident, $field:ident, $what:literal) => {
        Key {
            section: "tls",
            name: stringify!($name),
            form: Form::Path,
            what: $what,
            put: |given, value| {
                given.tls.$field = Some(path(value)?);
                Some(())
            },
            default: |_| None,
        }
    };
}

/// A default, as a file has it.
macro_rules! shown {
    (Time, $value:expr) => {
        format!("\"{}\"", humantime::format_duration($value))
    };
    ($form:ident, $value:expr) => {
        $value.to_string()
    };
}

/// A key of a section whose keys are the fields of [`Settings`], or of a part of them.
macro_rules! field {
    ($section:literal, [$($part:ident)?], $name:ident, $form:ident, $what:literal) => {
        Key {
            section: $section,
            name: stringify!($name),
            form: Form::$form,
            what: $what,
            put: |given, value| {
                let Value::$form(value) = value else {
                    return None;
                };
                given.settings$(.$part)?.$name = value.try_into().ok()?;
                #[expect(
                    clippy::allow_attributes,
                    reason = "one of them is a fraction, and the macro is for all"
                )]
                #[allow(
                    clippy::float_cmp,
                    reason = "it is the default itself, or another value"
                )]
                given.merges.push(|settings, given| {
                    // What the program has set itself stays as it is.
                    if settings$(.$part)?.$name == Settings::default()$(.$part)?.$name {
                        settings$(.$part)?.$name = given$(.$part)?.$name;
                    }
                });
                Some(())
            },
            default: |settings| Some(shown!($form, settings$(.$part)?.$name)),
        }
    };
}

macro_rules! setting {
    ($name:ident, $form:ident, $what:literal) => {
        field!("settings", [], $name, $form, $what)
    };
}

macro_rules! limit {
    ($name:ident, $what:literal) => {
        field!("limits", [limits], $name, Number, $what)
    };
}

/// A key of a section about entity types.
pub(super) struct EntityKey {
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// What it is for, with unit and range.
    pub(super) what: &'static str,
    /// `None`: the value does not fit.
    pub(super) put: fn(&mut EntitySettings, Value) -> Option<()>,
}

macro_rules! of_entity {
    ($name:ident, $form:ident, $what:literal, $(in $part:ident,)? |$value:ident : $type:ty| $fits:expr) => {
        EntityKey {
            name: stringify!($name),
            form: Form::$form,
            what: $what,
            put: |settings, value| {
                let Value::$form(value) = value else {
                    return None;
                };
                let $value: $type = value.try_into().ok()?;
                settings$(.$part)?.$name = Some($value).filter(|_| $fits);
                settings$(.$part)?.$name.map(drop)
            },
        }
    };
}

/// The keys of the sections about entity types.
pub(super) const ENTITY_KEYS: &[EntityKey] = &[
    of_entity!(
        passivate_after,
        Time,
        "How long an entity may be idle before it is passivated.",
        |time: Duration| !time.is_zero()
    ),
    of_entity!(
        max_active,
        Number,
        "With more entities active on a node, those used least recently are passivated. At least 1.",
        |max: usize| max > 0
    ),
    of_entity!(
        mailbox,
        Number,
        "How many messages wait in a mailbox, at least 1.",
        |max: usize| max > 0
    ),
    of_entity!(
        copies,
        Number,
        "How many nodes keep each shard of a stored type. The same on all nodes. From 1 to 7.",
        in copies, |copies: u8| (1..=COPIES_MAX).contains(&copies)
    ),
    of_entity!(
        copies_min,
        Number,
        "How many of these have to have stored what an entity does. From 1 to `copies`.",
        in copies, |copies: u8| (1..=COPIES_MAX).contains(&copies)
    ),
];

/// All other keys, in the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    top!(
        node_id,
        Text,
        text,
        None,
        "The name of this node, unique in the cluster."
    ),
    top!(
        listen,
        Text,
        text,
        Some("\"127.0.0.1:0\"".to_owned()),
        "The address to listen on."
    ),
    top!(
        advertise,
        Text,
        text,
        None,
        "The address that peers dial, if it is another one."
    ),
    top!(
        seeds,
        Texts,
        texts,
        Some("[]".to_owned()),
        "Addresses of nodes to join by."
    ),
    top!(
        bootstrap_expect,
        Number,
        number,
        None,
        "How many nodes have to be there before a cluster is founded."
    ),
    top!(
        roles,
        Texts,
        texts,
        Some("[]".to_owned()),
        "The roles of this node."
    ),
    top!(
        state_dir,
        Path,
        path,
        None,
        "Where this node keeps its part of the cluster map."
    ),
    top!(
        data_dir,
        Path,
        path,
        None,
        "Where this node keeps the cluster map and its stored entities."
    ),
    top!(
        recordings,
        Path,
        path,
        None,
        "Where this node writes what its flight recorder has of entities that fail."
    ),
    tls!(
        cert,
        certificate,
        "The certificate of this node, a PEM file."
    ),
    tls!(key, key, "Its key, a PEM file."),
    tls!(
        ca,
        authorities,
        "The authorities that this node trusts, a PEM file."
    ),
    tls!(
        revoked,
        revoked,
        "The certificates that are revoked, a PEM file."
    ),
    setting!(
        ask_timeout,
        Time,
        "How long an ask waits for its answer, at most a day."
    ),
    setting!(
        resolve_timeout,
        Time,
        "How long a message waits for the home of its entity. Shorter than `ask_timeout`."
    ),
    setting!(
        resolve_messages_max,
        Number,
        "How many messages of a type wait for homes at a time, at least 1."
    ),
    setting!(
        connect_timeout,
        Time,
        "The timeout of connect and handshake together."
    ),
    setting!(
        keepalive_interval,
        Time,
        "How often a connection is probed."
    ),
    setting!(
        keepalive_timeout,
        Time,
        "How long a connection may be silent. At least twice `keepalive_interval`."
    ),
    setting!(
        backoff,
        Time,
        "The first pause after a failed dial or join."
    ),
    setting!(
        backoff_max,
        Time,
        "The longest such pause. At least `backoff`."
    ),
    setting!(gossip_interval, Time, "How often gossip probes one member."),
    setting!(
        suspect_after,
        Time,
        "How long a silent member is suspected. Longer than `gossip_interval`."
    ),
    setting!(
        stop_timeout,
        Time,
        "How long the entities of a shard may take to stop when it moves. Shorter than `resolve_timeout`."
    ),
    setting!(
        shutdown_timeout,
        Time,
        "How long a graceful shutdown may take, at most a day."
    ),
    setting!(
        lease,
        Time,
        "How long a node may act as owner without hearing from the leader. The same on all nodes. At least 50ms."
    ),
    setting!(
        clock_drift,
        Fraction,
        "By what fraction the rates of clocks may differ. The same on all nodes. From 0 to 0.5."
    ),
    setting!(
        election_timeout,
        Time,
        "How long the leader may be silent, at least, before another is elected. Less than half of `lease`."
    ),
    setting!(
        decide_timeout,
        Time,
        "How long a decision about the cluster map may take."
    ),
    setting!(
        moves_max,
        Number,
        "How many shards move at a time in the whole cluster, at least 1."
    ),
    setting!(
        copies,
        Number,
        "How many nodes keep each shard of a stored type. The same on all nodes. From 1 to 7."
    ),
    setting!(
        copies_min,
        Number,
        "How many of these have to have stored what an entity does. From 1 to `copies`."
    ),
    limit!(
        connections_max,
        "How many connections this node accepts in all, at least 16."
    ),
    limit!(
        connections_per_address_max,
        "How many of them may come from one address, at least 8."
    ),
    limit!(
        handshakes_max,
        "How many connections may be in their handshake at a time, at least 1."
    ),
    limit!(
        accepts_per_second_max,
        "How many connections are accepted in a second, at least 1."
    ),
    limit!(
        asks_per_peer_max,
        "How many asks of one connection may be unanswered, at least 1."
    ),
    limit!(
        activations_per_client_max,
        "How many entities one client may start in a second, at least 1."
    ),
    limit!(
        client_message_bytes_max,
        "The longest message of a client in bytes, from 1024 to 8388608."
    ),
    limit!(
        entity_id_bytes_max,
        "The longest id in a message from another process, from 1 to 1024."
    ),
];
