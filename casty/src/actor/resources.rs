//! Values that a program gives its actors: a connection pool, a client, a clock.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::Arc,
};

/// The resources of one system, at most one of each type. Fixed when the system starts, so reading
/// one takes no lock.
#[derive(Clone, Default)]
pub(crate) struct Resources(HashMap<TypeId, Resource, foldhash::fast::RandomState>);

#[derive(Clone)]
struct Resource {
    value: Arc<dyn Any + Send + Sync>,
    name: &'static str,
}

impl Resources {
    /// Sets the resource of type `T`. A second one of the same type replaces the first.
    pub(crate) fn set<T: Send + Sync + 'static>(&mut self, value: T) {
        let resource = Resource {
            value: Arc::new(value),
            name: type_name::<T>(),
        };
        self.0.insert(TypeId::of::<T>(), resource);
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.value.downcast_ref()
    }

    /// The text of the panic for a resource that was never set.
    pub(crate) fn missing<T>(&self) -> String {
        let mut names: Vec<_> = self.0.values().map(|resource| resource.name).collect();
        names.sort_unstable();
        let set = match names.as_slice() {
            [] => "no resource is set".to_owned(),
            names => format!("set are: {}", names.join(", ")),
        };
        format!(
            "this system has no resource of type `{}` ({set}); pass one to \
             `SystemBuilder::resource` before the system starts",
            type_name::<T>()
        )
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.0.values().map(|resource| resource.name).collect();
        names.sort_unstable();
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_resource_of_a_type_replaces_the_first_and_other_types_are_kept() {
        let mut resources = Resources::default();
        resources.set(1_u32);
        resources.set("pool".to_owned());
        resources.set(2_u32);
        assert_eq!(resources.get::<u32>(), Some(&2));
        assert_eq!(resources.get::<String>().map(String::as_str), Some("pool"));
        assert_eq!(resources.get::<u64>(), None);
    }

    #[test]
    fn a_missing_resource_is_explained_by_those_that_are_set() {
        let mut resources = Resources::default();
        assert!(resources.missing::<u64>().contains("no resource is set"));
        resources.set(1_u32);
        let text = resources.missing::<u64>();
        assert!(text.contains("type `u64` (set are: u32)"), "{text}");
        assert_eq!(format!("{resources:?}"), r#"["u32"]"#);
    }
}
