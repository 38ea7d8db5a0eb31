//! What a configuration says of entity types.

use std::time::Duration;

use crate::id::CopyOptions;

/// What a configuration says of an entity type. What the type says itself comes before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntitySettings {
    pub(crate) passivate_after: Option<Duration>,
    pub(crate) max_active: Option<usize>,
    pub(crate) mailbox: Option<usize>,
    pub(crate) copies: CopyOptions,
}

#[cfg(feature = "config")]
impl EntitySettings {
    /// These, and where they say nothing, the others.
    fn or(self, others: Self) -> Self {
        Self {
            passivate_after: self.passivate_after.or(others.passivate_after),
            max_active: self.max_active.or(others.max_active),
            mailbox: self.mailbox.or(others.mailbox),
            copies: self.copies.or(others.copies),
        }
    }
}

/// The sections of a configuration that are about entity types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntitySections {
    sections: Vec<EntitySection>,
}

/// One of them: `[entity."shop/*"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntitySection {
    /// The wire name of a type, or of several: `*` stands for any text.
    pub(crate) names: String,
    /// Where it begins, for messages.
    pub(crate) place: String,
    pub(crate) settings: EntitySettings,
}

#[cfg(feature = "config")]
impl EntitySections {
    pub(crate) fn add(&mut self, section: EntitySection) {
        self.sections.push(section);
    }

    /// What is said of a type. A section that names it comes first, then the one with the longest
    /// text beside its `*`.
    pub(crate) fn of(&self, kind: &str) -> EntitySettings {
        let mut fitting: Vec<_> = self
            .sections
            .iter()
            .filter(|section| fits(&section.names, kind))
            .collect();
        fitting.sort_by_key(|section| {
            let stars = section.names.matches('*').count();
            (stars > 0, std::cmp::Reverse(section.names.len() - stars))
        });
        let settings = fitting.into_iter().map(|section| section.settings);
        settings.fold(EntitySettings::default(), EntitySettings::or)
    }

    /// The sections that are for none of these types.
    pub(crate) fn unused<'a>(
        &'a self,
        kinds: &'a [&str],
    ) -> impl Iterator<Item = &'a EntitySection> {
        let is_used =
            |section: &&EntitySection| kinds.iter().any(|kind| fits(&section.names, kind));
        self.sections
            .iter()
            .filter(move |section| !is_used(section))
    }
}

#[cfg(not(feature = "config"))]
impl EntitySections {
    #[expect(clippy::unused_self, reason = "with a configuration it says something")]
    pub(crate) fn of(&self, _: &str) -> EntitySettings {
        EntitySettings::default()
    }
}

/// Whether a name has the form of a pattern, in which `*` stands for any text.
#[cfg(feature = "config")]
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        // The first place leaves the most for the parts after it.
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(all(test, feature = "config"))]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, fitting, others) in [
            ("Cart", &["Cart"][..], &["Carts", "cart", ""][..]),
            ("*", &["Cart", ""], &[]),
            ("shop/*", &["shop/", "shop/cart"], &["shop", "a/shop/b"]),
            ("*/cart", &["/cart", "a/cart"], &["cart", "a/cart/b"]),
            ("a*b*c", &["abc", "axbxbc", "abbc"], &["ab", "acb", "abcx"]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
        ] {
            for name in fitting {
                assert!(fits(pattern, name), "{pattern} {name}");
            }
            for name in others {
                assert!(!fits(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn the_section_that_says_most_of_a_name_comes_first() {
        let mut sections = EntitySections::default();
        let section = |names: &str, mailbox, copies| EntitySection {
            names: names.to_owned(),
            place: "casty.toml:1".to_owned(),
            settings: EntitySettings {
                mailbox,
                copies: CopyOptions {
                    copies,
                    copies_min: None,
                },
                ..EntitySettings::default()
            },
        };
        sections.add(section("*", Some(1), Some(1)));
        sections.add(section("shop/*", Some(2), None));
        sections.add(section("shop/cart", None, Some(3)));
        sections.add(section("bank", Some(4), None));
        let of = |kind| {
            let settings = sections.of(kind);
            (settings.mailbox, settings.copies.copies)
        };
        assert_eq!(of("shop/cart"), (Some(2), Some(3)));
        assert_eq!(of("shop/order"), (Some(2), Some(1)));
        assert_eq!(of("other"), (Some(1), Some(1)));
        let unused: Vec<_> = sections.unused(&["shop/cart", "other"]).collect();
        assert_eq!(unused.len(), 1);
        assert_eq!(unused[0].names, "bank");
    }
}
