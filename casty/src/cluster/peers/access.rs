//! What clients and operators may do, by the names in their certificates.

use std::collections::BTreeSet;

use super::reads::Read;
use crate::{actor::Actor, transport::identity::PeerRole};

/// Which clients and operators may send which messages, and read what is stored: see
/// [`SystemBuilder::access`](crate::SystemBuilder::access).
///
/// What is not allowed is refused: an ask as
/// [`AskError::Forbidden`](crate::AskError::Forbidden), a tell as a dead letter on the node that
/// was sent it.
///
/// ```standalone_crate
/// use casty::{access::{Access, Permit}, prelude::*};
///
/// #[derive(Default)]
/// struct Cart { items: u32 }
///
/// #[entity]
/// impl Cart {
///     #[message]
///     fn add(&mut self, items: u32) {
///         self.items += items;
///     }
///
///     #[message]
///     fn clear(&mut self) {
///         self.items = 0;
///     }
/// }
///
/// let access = Access::new()
///     .client("web", Permit::to::<Cart>().messages(["add"]))
///     .client("support", Permit::to::<Cart>().and_read())
///     .operator("ada", Permit::everything());
/// let builder = ActorSystem::builder("shop").access(access);
/// # drop(builder);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it allows nothing until `SystemBuilder::access` is given it"]
pub struct Access {
    rules: Vec<(Whom, Permit)>,
}

/// The processes that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    EveryClient,
    Named(PeerRole, String),
}

/// Something that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it allows nothing until `Access` is given it"]
pub struct Permit {
    /// The wire name of the type. `None`: all types.
    kind: Option<String>,
    /// `None`: all messages.
    messages: Option<BTreeSet<String>>,
    reads: bool,
    erases: bool,
}

impl Permit {
    /// All messages to the entities, or actors, of a type.
    pub fn to<A: Actor>() -> Self {
        Self {
            kind: Some(A::NAME.to_owned()),
            messages: None,
            reads: false,
            erases: false,
        }
    }

    /// All messages to all types, and all that is stored: it may be read and erased.
    pub const fn everything() -> Self {
        Self {
            kind: None,
            messages: None,
            reads: true,
            erases: true,
        }
    }

    /// These messages alone, by their wire names.
    pub fn messages<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.messages = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The entities may be listed, and what is stored of them read.
    pub const fn and_read(mut self) -> Self {
        self.reads = true;
        self
    }

    /// What is stored of an entity may be erased.
    pub const fn and_erase(mut self) -> Self {
        self.erases = true;
        self
    }

    fn is_for(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|it| it == kind)
    }

    fn has(&self, message: &str) -> bool {
        let messages = self.messages.as_ref();
        messages.is_none_or(|messages| messages.contains(message))
    }
}

impl Access {
    /// Nothing is allowed.
    pub const fn new() -> Self {
        Self { rules: Vec::new() }
    }

    /// Allows something to the client of this name.
    pub fn client(self, name: impl Into<String>, permit: Permit) -> Self {
        self.rule(Whom::Named(PeerRole::Client, name.into()), permit)
    }

    /// Allows something to each client that has a certificate of the cluster.
    pub fn every_client(self, permit: Permit) -> Self {
        self.rule(Whom::EveryClient, permit)
    }

    /// Allows something to the operator of this name. Each operator may run the commands of
    /// `casty`, whatever this says.
    pub fn operator(self, name: impl Into<String>, permit: Permit) -> Self {
        self.rule(Whom::Named(PeerRole::Operator, name.into()), permit)
    }

    fn rule(mut self, whom: Whom, permit: Permit) -> Self {
        self.rules.push((whom, permit));
        self
    }

    /// What a process may do. `None`: it is a member, and may do everything.
    pub(crate) fn rights(&self, role: PeerRole, name: &str) -> Option<Rights> {
        if role == PeerRole::Member {
            return None;
        }
        let is_it = |whom: &Whom| match whom {
            Whom::EveryClient => role == PeerRole::Client,
            Whom::Named(of, called) => *of == role && called == name,
        };
        let permits = self.rules.iter().filter(|(whom, _)| is_it(whom));
        Some(Rights {
            role,
            name: name.to_owned(),
            permits: permits.map(|(_, permit)| permit.clone()).collect(),
        })
    }
}

/// What one process that is no member may do.
#[derive(Debug)]
pub(crate) struct Rights {
    role: PeerRole,
    name: String,
    permits: Vec<Permit>,
}

impl Rights {
    /// The process, as its certificate names it.
    pub(crate) fn who(&self) -> String {
        format!("{}/{}", self.role, self.name)
    }

    /// Whether it may send this message to this type.
    pub(crate) fn sends(&self, kind: &str, message: &str) -> bool {
        let mut permits = self.permits.iter();
        permits.any(|permit| permit.is_for(kind) && permit.has(message))
    }

    /// Whether it may learn when an actor of this type ends.
    pub(crate) fn watches(&self, kind: &str) -> bool {
        self.permits.iter().any(|permit| permit.is_for(kind))
    }

    /// Whether it may read this, or change it.
    pub(crate) fn reads(&self, read: &Read) -> bool {
        if self.role == PeerRole::Operator {
            return true;
        }
        let of = |kind: &str, may: fn(&Permit) -> bool| {
            let mut permits = self.permits.iter();
            permits.any(|permit| permit.is_for(kind) && may(permit))
        };
        match read {
            Read::Entities { kind, .. }
            | Read::Look { kind, .. }
            | Read::History { kind, .. }
            | Read::Events { kind, .. }
            | Read::Heads { kind, .. }
            | Read::Projected { kind, .. } => of(kind, |permit| permit.reads),
            Read::Erase { kind, .. } => of(kind, |permit| permit.erases),
            Read::Log { .. }
            | Read::Snapshots { .. }
            | Read::Record { .. }
            | Read::Overview
            | Read::Outbox
            | Read::Reminders { .. }
            | Read::GiveUpSends { .. }
            | Read::GiveUpReminder { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(kind: &str) -> Permit {
        Permit {
            kind: Some(kind.to_owned()),
            ..Permit::everything()
        }
    }

    fn rights(access: &Access, role: PeerRole, name: &str) -> Rights {
        access.rights(role, name).expect("it is no member")
    }

    #[test]
    fn nothing_is_allowed_that_no_rule_allows() {
        let access = Access::new()
            .client("web", to("Cart").messages(["add"]))
            .every_client(to("Shop").messages(["open"]))
            .operator("web", Permit::everything());
        let web = rights(&access, PeerRole::Client, "web");
        assert!(web.sends("Cart", "add") && web.sends("Shop", "open"));
        assert!(!web.sends("Cart", "clear") && !web.sends("Shop", "add"));
        assert!(!web.sends("Purse", "add"));
        assert!(web.watches("Cart") && !web.watches("Purse"));
        let other = rights(&access, PeerRole::Client, "app");
        assert!(!other.sends("Cart", "add") && other.sends("Shop", "open"));
        let operator = rights(&access, PeerRole::Operator, "ada");
        assert!(!operator.sends("Shop", "open"));
        assert!(rights(&access, PeerRole::Operator, "web").sends("Purse", "add"));
        assert!(access.rights(PeerRole::Member, "node-1").is_none());
        assert_eq!(web.who(), "client/web");
    }

    #[test]
    fn what_is_stored_is_read_and_erased_where_that_is_allowed() {
        let plain = Permit {
            reads: false,
            erases: false,
            ..to("Cart")
        };
        let access = Access::new()
            .client("plain", plain.clone())
            .client("reads", plain.clone().and_read())
            .client("erases", plain.and_erase())
            .client("all", Permit::everything());
        let history = Read::Heads {
            kind: "Cart".to_owned(),
            shards: Vec::new(),
        };
        let erase = Read::Erase {
            kind: "Cart".to_owned(),
            id: crate::id::EntityId::new("a"),
        };
        let may = |name: &str| {
            let rights = rights(&access, PeerRole::Client, name);
            [&history, &erase, &Read::Outbox].map(|read| rights.reads(read))
        };
        assert_eq!(may("plain"), [false; 3]);
        assert_eq!(may("reads"), [true, false, false]);
        assert_eq!(may("erases"), [false, true, false]);
        assert_eq!(may("all"), [true, true, false], "that is an operator's");
        let operator = rights(&access, PeerRole::Operator, "ada");
        assert!(operator.reads(&Read::Outbox) && operator.reads(&erase));
    }
}
