//! The entity types of this process. The macros fill the registry, through `inventory`.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
    sync::{Arc, Weak},
};

use futures_util::future::{BoxFuture, ready};

#[cfg(feature = "config")]
use crate::config::file::{ConfigError, nearest};

use super::region::{AnyRegion, EntityType, Mesh, ShardRegion};
use crate::{
    actor::{
        Entity, Route,
        ask::sent::{Deliver, deliver},
        reference::{ProtocolRegistration, StrictRoute, protocol::Speakers},
        runtime::{Routes, Runtime},
    },
    config::{
        Settings,
        entity::{EntitySections, EntitySettings},
    },
    error::StartError,
    id::{CopyOptions, CopySettings},
    persistence::{
        opened::StoredKinds,
        outbox::{Courier, Letter},
        sends::OnceTerms,
    },
    protocol::outbox::{Carried, Receiver},
};

/// One entity type that this binary links.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct EntityRegistration {
    name: &'static str,
    role: Option<&'static str>,
    /// The number of its shards, if it is stored.
    stored: Option<NonZeroU32>,
    copies: CopyOptions,
    type_id: fn() -> TypeId,
    type_name: fn() -> &'static str,
    speaks: &'static [ProtocolRegistration],
    /// How it is sent to, if it is stored: no other type is compiled for that.
    deliver: Option<Deliver>,
    make: fn(RegionArgs<'_>) -> Registered,
}

/// The arguments of a new region.
struct RegionArgs<'a> {
    runtime: &'a Arc<Runtime>,
    name: String,
    kind: u16,
    settings: &'a Settings,
    configured: EntitySettings,
    mesh: Option<Weak<dyn Mesh>>,
}

struct Registered {
    region: Arc<dyn AnyRegion>,
    /// An `Arc<dyn Route<E>>`.
    route: Arc<dyn Any + Send + Sync>,
}

impl EntityRegistration {
    pub const fn of<E: Entity>() -> Self {
        Self::named::<E>(E::NAME)
    }

    /// The same under another name, for an instance of a generic type.
    pub const fn named<E: Entity>(name: &'static str) -> Self {
        Self {
            name,
            role: E::ROLE,
            stored: if const { E::STORAGE.is_stored() } {
                Some(E::SHARDS)
            } else {
                None
            },
            copies: CopyOptions {
                copies: E::COPIES,
                copies_min: E::COPIES_MIN,
            },
            type_id: TypeId::of::<E>,
            type_name: std::any::type_name::<E>,
            speaks: E::SPEAKS,
            deliver: if const { E::STORAGE.is_stored() } {
                Some(Deliver(deliver::<E>))
            } else {
                None
            },
            make: make::<E>,
        }
    }
}

impl fmt::Debug for EntityRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, (self.type_name)())?;
        match self.role {
            Some(role) => write!(f, " of role {role}"),
            None => Ok(()),
        }
    }
}

impl EntityRegistration {
    /// Whether a node with these roles hosts it. `None`: a local system hosts all types.
    fn is_hosted(&self, roles: Option<&BTreeSet<String>>) -> bool {
        match (self.role, roles) {
            (Some(role), Some(roles)) => roles.contains(role),
            _ => true,
        }
    }
}

inventory::collect!(EntityRegistration);

fn make<E: Entity>(args: RegionArgs<'_>) -> Registered {
    let RegionArgs {
        runtime,
        name,
        kind,
        settings,
        configured,
        mesh,
    } = args;
    let entity_type = EntityType::of::<E>().configured(configured);
    let region = ShardRegion::new(entity_type, runtime.clone(), name, kind, settings, mesh);
    let mut route: Arc<dyn Route<E>> = region.clone();
    if runtime.strict_wire().is_some() {
        route = Arc::new(StrictRoute(route));
    }
    Registered {
        region,
        route: Arc::new(route),
    }
}

/// The entity types of one system, from inventory and registered by hand.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_hand: Vec<(String, EntityRegistration)>,
    /// What a configuration says of the types.
    pub(crate) sections: EntitySections,
}

impl Registry {
    pub(crate) fn add<E: Entity>(&mut self, name: impl Into<String>) {
        self.by_hand
            .push((name.into(), EntityRegistration::of::<E>()));
    }

    /// The types by wire name: equal on every node with the same binary.
    fn by_name(&self) -> Result<BTreeMap<String, EntityRegistration>, StartError> {
        let mut by_name = BTreeMap::<String, EntityRegistration>::new();
        let by_hand = self.by_hand.iter().cloned();
        let named_by_hand: Vec<TypeId> = self.by_hand.iter().map(|(_, r)| (r.type_id)()).collect();
        // A name given by hand replaces the name that the macro gave.
        let found = inventory::iter::<EntityRegistration>()
            .filter(|registration| !named_by_hand.contains(&(registration.type_id)()))
            .map(|registration| (registration.name.to_owned(), *registration));
        for (name, registration) in by_hand.chain(found) {
            if let Some(other) = by_name.insert(name.clone(), registration)
                && (other.type_id)() != (registration.type_id)()
            {
                let mut types = [(other.type_name)(), (registration.type_name)()];
                types.sort_unstable();
                let [first, second] = types;
                return Err(StartError::DuplicateEntity {
                    name,
                    first,
                    second,
                });
            }
        }
        Ok(by_name)
    }

    /// The stored types that a node with these roles hosts. `None`: a local system hosts all types.
    pub(crate) fn stored(
        &self,
        roles: Option<&BTreeSet<String>>,
    ) -> Result<StoredKinds, StartError> {
        let by_name = self.by_name()?.into_iter();
        let hosted = by_name.filter(|(_, it)| it.is_hosted(roles));
        let stored = hosted.filter_map(|(name, it)| Some((Arc::from(name), it.stored?)));
        Ok(stored.collect())
    }

    /// Checks what the stored types that a node with these roles hosts say of their copies, beside
    /// the settings of the node.
    pub(crate) fn check_copies(
        &self,
        roles: &BTreeSet<String>,
        settings: CopySettings,
    ) -> Result<(), StartError> {
        for (kind, it) in self.by_name()? {
            let options = it.copies.or(self.sections.of(&kind).copies);
            let CopySettings { copies, copies_min } = settings.with(options);
            if it.stored.is_some() && it.is_hosted(Some(roles)) && copies_min > copies {
                return Err(StartError::Copies {
                    kind,
                    copies,
                    copies_min,
                    lacks: match options.copies {
                        Some(_) => "copies_min",
                        None => "copies",
                    },
                });
            }
        }
        Ok(())
    }

    /// A section that is about no type is a mistake.
    #[cfg(feature = "config")]
    fn check_sections(&self, kinds: &[&str]) -> Result<(), StartError> {
        let unused = self.sections.unused(kinds).map(|section| {
            let near = nearest(&section.names, kinds.to_vec());
            let (place, names) = (&section.place, &section.names);
            format!("{place}: there is no entity type `{names}`{near}")
        });
        let problems: Vec<_> = unused.collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError { problems }.into())
    }

    #[cfg(not(feature = "config"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "with a configuration there may be sections"
    )]
    fn check_sections(&self, _: &[&str]) -> Result<(), StartError> {
        Ok(())
    }

    /// A region for each type, and the routes to them.
    pub(crate) fn build(
        &self,
        runtime: &Arc<Runtime>,
        settings: &Settings,
        mesh: Option<&Weak<dyn Mesh>>,
    ) -> Result<(Vec<Arc<dyn AnyRegion>>, Routes), StartError> {
        let by_name = self.by_name()?;
        let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
        self.check_sections(&names)?;
        // A crate without references to it is not linked: this line shows which types are there.
        tracing::info!(entities = ?names, "the entity types of this program");
        let (mut regions, mut routes) = (Vec::new(), Routes::default());
        let mut speakers = Speakers::default();
        let mut deliveries = Deliveries::default();
        for (kind, (name, registration)) in (0_u16..).zip(by_name) {
            let mesh = mesh.cloned();
            let configured = self.sections.of(&name);
            let deliver = registration.deliver.map(|it| (Arc::from(&*name), it));
            deliveries.0.extend(deliver);
            let made = (registration.make)(RegionArgs {
                runtime,
                name,
                kind,
                settings,
                configured,
                mesh,
            });
            regions.push(made.region);
            routes.insert((registration.type_id)(), made.route);
            speakers.add(registration.speaks);
        }
        routes.insert(TypeId::of::<Speakers>(), Arc::new(speakers));
        if let Some(store) = runtime.store() {
            let runtime = Arc::downgrade(runtime);
            // It is set once, at start.
            drop(store.courier().set(Arc::new(Post {
                runtime,
                deliveries,
            })));
        }
        Ok((regions, routes))
    }
}

/// How the entities of each type are sent to, by wire name.
#[derive(Default)]
struct Deliveries(BTreeMap<Arc<str>, Deliver>);

/// Takes the sends of this node's entities to wherever their receivers live.
struct Post {
    runtime: Weak<Runtime>,
    deliveries: Deliveries,
}

impl Courier for Post {
    fn carry(
        &self,
        to: Receiver,
        letter: Arc<Letter>,
        terms: OnceTerms,
    ) -> BoxFuture<'static, Carried> {
        let failed = |reason: String| Box::pin(ready(Carried::Failed(reason)));
        let Some(runtime) = self.runtime.upgrade() else {
            return failed("the node has ended".to_owned());
        };
        match self.deliveries.0.get(&to.kind) {
            Some(Deliver(deliver)) => deliver(&runtime, to, &letter, terms),
            None => failed(format!("this node has no stored entity type `{}`", to.kind)),
        }
    }
}
