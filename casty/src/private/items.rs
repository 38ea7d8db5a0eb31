//! The items that are the same for each type, as macros: the attribute macros write one line for
//! each. They are exported, as macros have to be, under names that say that they are not public.
//!
//! Behind its own arguments, each macro may be given what a generic type needs: the parameters of
//! its impls, their where clause, and the type parameters by themselves.

pub use crate::{
    __casty_hosted as hosted, __casty_into_one_of as into_one_of, __casty_message as message,
    __casty_proxy as proxy, __casty_replies as replies, __casty_serde_by_form as serde_by_form,
    __casty_state_name as state_name, __casty_states as states,
};

/// What a proxy is besides its functions: an address, as a value and on the wire. Derives would
/// require the same traits of type parameters.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_proxy {
    (
        $proxy:ty: $address:ty
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> ::core::convert::From<$address> for $proxy $($($clause)*)? {
            fn from(address: $address) -> Self {
                Self(address)
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::convert::AsRef<$address> for $proxy $($($clause)*)? {
            fn as_ref(&self) -> &$address {
                &self.0
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::clone::Clone for $proxy $($($clause)*)? {
            fn clone(&self) -> Self {
                Self(::core::clone::Clone::clone(&self.0))
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::fmt::Debug for $proxy $($($clause)*)? {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, f)
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::cmp::PartialEq for $proxy $($($clause)*)? {
            fn eq(&self, other: &Self) -> ::core::primitive::bool {
                ::core::cmp::PartialEq::eq(&self.0, &other.0)
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::cmp::Eq for $proxy $($($clause)*)? {}

        #[automatically_derived]
        impl<$($($params)*)?> ::core::hash::Hash for $proxy $($($clause)*)? {
            fn hash<__H: ::core::hash::Hasher>(&self, state: &mut __H) {
                ::core::hash::Hash::hash(&self.0, state);
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> $crate::__private::serde::Serialize for $proxy $($($clause)*)? {
            fn serialize<__S: $crate::__private::serde::Serializer>(
                &self,
                serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                $crate::__private::serde::Serialize::serialize(&self.0, serializer)
            }
        }

        #[automatically_derived]
        impl<'de, $($($params)*)?> $crate::__private::serde::Deserialize<'de> for $proxy
        $($($clause)*)?
        {
            fn deserialize<__D: $crate::__private::serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                ::core::result::Result::map(
                    $crate::__private::serde::Deserialize::deserialize(deserializer),
                    Self,
                )
            }
        }
    };
}

/// `Message` and `Debug` of a message enum. `Debug` shows the name only: logs must not show what a
/// message contains.
///
/// `packed` says that [`MessageForm`](crate::__private::MessageForm) writes and reads it. Last come
/// the messages that have a name and no other form.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_message {
    (
        $message:ty {
            $($index:literal = $name:literal $variant:ident),*
        }
        $([$packed:ident])?
        $({ $($bare_name:literal => $bare:ident),+ })?
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($($parameter:ident,)+)?])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> $crate::__private::Message for $message $($($clause)*)? {
            const NAMES: &'static [&'static ::core::primitive::str] = &[$($name),*];

            fn index(&self) -> ::core::primitive::usize {
                match *self {
                    $(Self::$variant { .. } => $index,)*
                    $($(Self::__Phantom(never, ::core::marker::PhantomData::<
                        fn() -> ($($parameter,)+)
                    >) => match never {},)?)?
                }
            }

            $(fn named(name: &::core::primitive::str) -> ::core::option::Option<Self> {
                match name {
                    $($bare_name => ::core::option::Option::Some(Self::$bare {}),)+
                    _ => ::core::option::Option::None,
                }
            })?

            $($crate::__casty_message! { @$packed })?
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::fmt::Debug for $message $($($clause)*)? {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str($crate::__private::Message::name(self))
            }
        }
    };
    (@packed) => {
        fn encode(
            &self,
            out: &mut $crate::__private::Vec<::core::primitive::u8>,
        ) -> ::core::result::Result<(), $crate::__private::EncodeError> {
            $crate::__private::pack(self, out)
        }

        fn decode(
            bytes: &[::core::primitive::u8],
        ) -> ::core::result::Result<Self, $crate::__private::DecodeError> {
            $crate::__private::unpack(bytes)
        }
    };
}

/// `Serialize` and `Deserialize` of an enum that has a
/// [`MessageForm`](crate::__private::MessageForm).
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_serde_by_form {
    (
        $message:ty
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> $crate::__private::serde::Serialize for $message $($($clause)*)? {
            fn serialize<__S: $crate::__private::serde::Serializer>(
                &self,
                serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                $crate::__private::write_message(self, serializer)
            }
        }

        #[automatically_derived]
        impl<'de, $($($params)*)?> $crate::__private::serde::Deserialize<'de> for $message
        $($($clause)*)?
        {
            fn deserialize<__D: $crate::__private::serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                $crate::__private::read_message(deserializer)
            }
        }
    };
}

/// The answers, as the handlers return them, and how each travels.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_replies {
    (
        $reply:ty {
            $($variant:ident($answer:ty) => $codec:expr),*
        }
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($($parameter:ident,)+)?])?
    ) => {
        pub enum __Reply<$($($params)*)?> $($($clause)*)? {
            $($variant($answer),)*
            $($(
                #[doc(hidden)]
                __Phantom(
                    ::core::convert::Infallible,
                    ::core::marker::PhantomData<fn() -> ($($parameter,)+)>,
                ),
            )?)?
        }

        #[automatically_derived]
        impl<$($($params)*)?> $crate::__private::Reply for $reply $($($clause)*)? {
            fn visit<__V: $crate::__private::ReplyVisitor>(self, visitor: __V) -> __V::Output {
                match self {
                    $(Self::$variant(reply) => visitor.reply(reply, $codec),)*
                    $($(Self::__Phantom(never, ::core::marker::PhantomData::<
                        fn() -> ($($parameter,)+)
                    >) => match never {},)?)?
                }
            }

            fn encode(
                &self,
                out: &mut $crate::__private::Vec<::core::primitive::u8>,
            ) -> ::core::result::Result<(), $crate::__private::EncodeError> {
                match *self {
                    $(Self::$variant(ref reply) => {
                        $crate::__private::encode_reply(&$codec, reply, out)
                    })*
                    $($(Self::__Phantom(never, ::core::marker::PhantomData::<
                        fn() -> ($($parameter,)+)
                    >) => match never {},)?)?
                }
            }
        }
    };
}

/// The enum of a machine's states: taking the state, its name, and `Debug` of the machine, which
/// shows the name.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_states {
    (
        $machine:ty, $states:ty {
            $($state:ident = $name:literal),*
        } as $shown:literal
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> $states $($($clause)*)? {
            fn take(&mut self) -> Self {
                ::core::mem::replace(self, Self::__Taken)
            }

            fn name(&self) -> &'static ::core::primitive::str {
                match *self {
                    $(Self::$state(_) => $name,)*
                    _ => "none",
                }
            }
        }

        #[automatically_derived]
        impl<$($($params)*)?> ::core::fmt::Debug for $machine $($($clause)*)? {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(f, $shown, self.0.name())
            }
        }
    };
}

/// The name of a state.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_state_name {
    (
        $state:ty = $name:literal
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> $crate::__private::StateName for $state $($($clause)*)? {
            const NAME: &'static ::core::primitive::str = $name;
        }
    };
}

/// The way from a state to a `OneOf` that names it.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_into_one_of {
    (
        $state:ty => $variant:ident of $one_of:ty
        $(, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*])?
    ) => {
        #[automatically_derived]
        impl<$($($params)*)?> ::core::convert::From<$state> for $one_of $($($clause)*)? {
            fn from(state: $state) -> Self {
                Self::$variant(state)
            }
        }
    };
}

/// What nodes that link the code of an entity can do: host it.
#[doc(hidden)]
#[macro_export]
macro_rules! __casty_hosted {
    ($entity:ty) => {
        $crate::__casty_hosted! { $entity, for [] [] [] }
        $crate::__private::inventory::submit! {
            $crate::__private::EntityRegistration::of::<$entity>()
        }
    };
    ($entity:ty, for [$($params:tt)*] [$($clause:tt)*] [$($parameter:ident,)*]) => {
        #[automatically_derived]
        impl<$($params)*> $crate::__private::Hosted for $entity $($clause)* {
            type Key = <$entity as $crate::__private::Entity>::Id;
            type Proxy = <$entity as $crate::__private::Actor>::Ref;
        }
    };
}
