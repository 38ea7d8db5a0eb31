//! The wire form of the generated message enums.
//!
//! The form is the one that serde's derives would give the enum: externally tagged, with named
//! fields. The derives cost more to compile: each message gets two visitors of its own, and each
//! visitor compiles the whole of the decoder's dispatch once more. Here an enum has one visitor for
//! all its messages, and the loop over the fields is compiled once for a format: it knows the
//! fields as [`Fill`] behind `dyn`.
//!
//! Between nodes a message is always MessagePack. So [`pack`] and [`unpack`] write and read the
//! form directly: names are copied and compared as bytes, and serde sees the values only.
//! `Serialize` and `Deserialize` give the same form, for a message inside of another value.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IgnoredAny, MapAccess, Unexpected, VariantAccess,
        Visitor, value::BorrowedBytesDeserializer,
    },
    ser::SerializeStructVariant,
};

use super::{
    codec::{DecodeError, EncodeError, left_over},
    decoder::Decoder,
    encoder::Encoder,
    packed,
    wire::Wire,
};

/// A message enum as its wire form sees it. Generated.
pub trait MessageForm: Sized {
    /// Its names.
    const FORM: Form;

    /// Reads the message at `index` of [`Form::messages`].
    fn read<R: MessageReader>(index: usize, reader: R) -> Result<Self, R::Error>;

    /// Writes the message that `self` is.
    fn write<W: MessageWriter>(&self, writer: W) -> Result<W::Ok, W::Error>;
}

/// The names of a message enum, without those of internal messages.
#[derive(Debug)]
pub struct Form {
    /// The enum's. Formats that name types show it; MessagePack does not.
    pub name: &'static str,
    /// The wire names of the messages.
    pub messages: &'static [&'static str],
    /// The names of each message's fields, in the order of `messages`.
    pub fields: &'static [&'static [&'static str]],
    /// The bytes of each message in MessagePack that are always the same, in the same order: its
    /// name with the number of its fields, then each field's name.
    pub packed: &'static [&'static [&'static [u8]]],
}

/// Where the fields of a message are read from.
pub trait MessageReader: Sized {
    /// Why a message cannot be read.
    type Error: serde::de::Error;

    /// Reads the value of the present field.
    ///
    /// # Errors
    /// It is no `T`.
    fn value<T: Wire>(&mut self) -> Result<T, Self::Error>;

    /// Reads the fields, which may come in any order.
    ///
    /// # Errors
    /// A field is missing, or its value cannot be read.
    fn fields<S: Slots<Self>>(self, slots: S) -> Result<S::Values, Self::Error>;

    /// There is no message at an index that no format gives.
    ///
    /// # Errors
    /// Always.
    fn no_message<F>(self) -> Result<F, Self::Error>;
}

/// Where a message is written.
pub trait MessageWriter: Sized {
    /// What is left of a written message.
    type Ok;
    /// Why a message cannot be written.
    type Error;
    /// Writes the fields of a message.
    type Fields: SerializeStructVariant<Ok = Self::Ok, Error = Self::Error>;

    /// Writes the message at `index` of [`Form::messages`], with these values of its fields.
    ///
    /// # Errors
    /// A value cannot be written.
    fn message<F: MessageForm>(
        self,
        index: usize,
        values: &[&dyn Put<Self::Fields>],
    ) -> Result<Self::Ok, Self::Error>;

    /// An internal message never leaves the process.
    ///
    /// # Errors
    /// Always.
    fn internal(self) -> Result<Self::Ok, Self::Error>;
}

/// Appends a message in MessagePack. After an error `out` is as long as before.
pub fn pack<F: MessageForm>(message: &F, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let packed = message.write(Packer(out));
    if packed.is_err() {
        out.truncate(start);
    }
    packed
}

struct Packer<'a>(&'a mut Vec<u8>);

impl<'a> MessageWriter for Packer<'a> {
    type Ok = ();
    type Error = EncodeError;
    type Fields = PackedFields<'a>;

    #[inline]
    fn message<F: MessageForm>(
        self,
        index: usize,
        values: &[&dyn Put<PackedFields<'a>>],
    ) -> Result<(), Self::Error> {
        match F::FORM.packed.get(index) {
            Some([head, fields @ ..]) => pack_message(self.0, head, fields, values),
            _ => Err(no_such_message()),
        }
    }

    fn internal(self) -> Result<(), Self::Error> {
        Err(internal_message())
    }
}

fn pack_message<'a>(
    out: &'a mut Vec<u8>,
    head: &[u8],
    names: &[&[u8]],
    values: &[&dyn Put<PackedFields<'a>>],
) -> Result<(), EncodeError> {
    out.extend_from_slice(head);
    let mut fields = PackedFields(Encoder::in_message(out));
    for (name, value) in names.iter().zip(values) {
        fields.0.out.extend_from_slice(name);
        // The name is there.
        value.put("", &mut fields)?;
    }
    Ok(())
}

/// The values of a message that is packed.
#[derive(Debug)]
pub struct PackedFields<'a>(Encoder<'a>);

impl SerializeStructVariant for PackedFields<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        value.serialize(&mut self.0)
    }

    fn end(self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Reads a message in MessagePack that takes up all of `bytes`.
pub fn unpack<F: MessageForm>(bytes: &[u8]) -> Result<F, DecodeError> {
    let (index, mut fields) = Packed::begin(bytes, F::FORM.messages)?;
    let message = read_fields(index, &mut fields)?;
    match fields.rest {
        [] => Ok(message),
        _ => Err(left_over()),
    }
}

/// Reads the fields alone of the message at `index` of [`Form::messages`]: a map in MessagePack
/// that takes up all of `bytes`.
pub fn unpack_fields<F: MessageForm>(index: usize, bytes: &[u8]) -> Result<F, DecodeError> {
    let mut fields = Packed::fields(bytes)?;
    let message = read_fields(index, &mut fields)?;
    match fields.rest {
        [] => Ok(message),
        _ => Err(left_over()),
    }
}

/// The fields of a message in MessagePack that are left to be read.
struct Packed<'de> {
    left: usize,
    rest: &'de [u8],
    /// Of the present field.
    value: &'de [u8],
}

impl<'de> Packed<'de> {
    /// Reads the name of a message, as its position among `messages`.
    fn begin(
        bytes: &'de [u8],
        messages: &'static [&'static str],
    ) -> Result<(usize, Self), DecodeError> {
        let named = packed::map(bytes).and_then(|(count, entry)| match count {
            1 => packed::text(entry),
            _ => None,
        });
        let Some((name, fields)) = named else {
            return Err(DecodeError("it is no message".to_owned()));
        };
        let Some(index) = position(messages, name) else {
            let name = String::from_utf8_lossy(name);
            return Err(DecodeError::unknown_variant(&name, messages));
        };
        Ok((index, Self::fields(fields)?))
    }

    fn fields(bytes: &'de [u8]) -> Result<Self, DecodeError> {
        let Some((left, rest)) = packed::map(bytes) else {
            return Err(DecodeError("a message has no named fields".to_owned()));
        };
        let value = &[];
        Ok(Self { left, rest, value })
    }
}

impl<'de> MapAccess<'de> for Packed<'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let entry = packed::text(self.rest).and_then(|(name, rest)| {
            let (value, rest) = packed::value(rest)?;
            Some((name, value, rest))
        });
        let Some((name, value, rest)) = entry else {
            return Err(Self::Error::custom("a field has no name, or no end"));
        };
        (self.left, self.rest, self.value) = (self.left - 1, rest, value);
        seed.deserialize(BorrowedBytesDeserializer::new(name))
            .map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        seed.deserialize(&mut Decoder::in_message(self.value))
    }
}

/// Where a name is among others.
#[inline]
fn position(names: &[&str], name: &[u8]) -> Option<usize> {
    names.iter().position(|known| known.as_bytes() == name)
}

/// Reads a message.
pub fn read_message<'de, F: MessageForm, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<F, D::Error> {
    let visitor = MessageVisitor(PhantomData);
    deserializer.deserialize_enum(F::FORM.name, F::FORM.messages, visitor)
}

struct MessageVisitor<F>(PhantomData<F>);

impl<'de, F: MessageForm> Visitor<'de> for MessageVisitor<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enum {}", F::FORM.name)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<F, A::Error> {
        let (index, fields) = data.variant_seed(VariantName(F::FORM.messages))?;
        let visitor = FieldsVisitor {
            index,
            form: PhantomData,
        };
        fields.struct_variant(names_at(F::FORM.fields, index), visitor)
    }
}

struct FieldsVisitor<F> {
    index: usize,
    form: PhantomData<F>,
}

impl<'de, F: MessageForm> Visitor<'de> for FieldsVisitor<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Form { name, messages, .. } = F::FORM;
        let message = messages.get(self.index).copied().unwrap_or_default();
        write!(f, "the named fields of {name}::{message}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<F, M::Error> {
        read_fields(self.index, &mut map)
    }
}

/// The field names of the message at `index`.
#[inline]
fn names_at(fields: &'static [&'static [&'static str]], index: usize) -> &'static [&'static str] {
    fields.get(index).copied().unwrap_or_default()
}

/// Reads the message at `index`, up to the end of the map.
fn read_fields<'de, F: MessageForm, M: MapAccess<'de>>(
    index: usize,
    map: &mut M,
) -> Result<F, M::Error> {
    let names = names_at(F::FORM.fields, index);
    let message = F::read(index, FromMap::new(index, names, map))?;
    if names.is_empty() {
        // Nothing has looked into the map yet. What it has is unknown.
        FromMap::new(index, names, map).fields(())?;
    }
    Ok(message)
}

struct FromMap<'m, 'de, M> {
    index: usize,
    names: &'static [&'static str],
    map: &'m mut M,
    format: PhantomData<&'de ()>,
}

impl<'de, M: MapAccess<'de>> MessageReader for FromMap<'_, 'de, M> {
    type Error = M::Error;

    fn value<T: Wire>(&mut self) -> Result<T, M::Error> {
        self.map.next_value()
    }

    #[inline]
    fn fields<S: Slots<Self>>(mut self, mut slots: S) -> Result<S::Values, M::Error> {
        self.fill(&mut slots)?;
        slots.take(self.names)
    }

    fn no_message<F>(self) -> Result<F, M::Error> {
        Err(no_message(self.index))
    }
}

impl<'m, 'de, M: MapAccess<'de>> FromMap<'m, 'de, M> {
    fn new(index: usize, names: &'static [&'static str], map: &'m mut M) -> Self {
        Self {
            index,
            names,
            map,
            format: PhantomData,
        }
    }

    /// Reads all fields, in any order. `slots` are those of the names, in the same order.
    fn fill(&mut self, slots: &mut dyn Fill<Self>) -> Result<(), M::Error> {
        let names = self.names;
        while let Some(position) = self.map.next_key_seed(FieldName(names))? {
            match position.and_then(|position| Some((position, names.get(position)?))) {
                Some((position, name)) => slots.fill(position, name, self)?,
                None => {
                    self.map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cold]
fn no_message<E: serde::de::Error>(index: usize) -> E {
    E::custom(format_args!("there is no message {index}"))
}

/// Reads the name of a message as its position; an unknown name is an error.
struct VariantName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for VariantName {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        let Self(names) = self;
        match deserializer.deserialize_identifier(NameVisitor(names))? {
            Ok(position) => Ok(position),
            Err(unknown) => Err(D::Error::unknown_variant(&unknown, names)),
        }
    }
}

/// Reads the name of a field as its position; `None` for an unknown name, which is skipped.
struct FieldName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        let position = deserializer.deserialize_identifier(NameVisitor(self.0))?;
        Ok(position.ok())
    }
}

/// The position of a name, or the unknown name.
struct NameVisitor(&'static [&'static str]);

impl Visitor<'_> for NameVisitor {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        self.visit_bytes(name.as_bytes())
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        if let Some(position) = position(self.0, name) {
            return Ok(Ok(position));
        }
        match std::str::from_utf8(name) {
            Ok(unknown) => Ok(Err(unknown.to_owned())),
            Err(_) => Err(E::invalid_value(Unexpected::Bytes(name), &self)),
        }
    }
}

/// Stands for the type of a field, which travels.
pub trait Field: Sized {
    /// The type.
    type Value: Wire;

    /// What a message has that came without the field. An `Option` is `None` then.
    ///
    /// # Errors
    /// A message has to have it.
    fn missing<E: serde::de::Error>(name: &'static str) -> Result<Self::Value, E>;

    /// The value, to be written.
    fn put<S: SerializeStructVariant>(self, value: &Self::Value) -> &dyn Put<S>;
}

/// The [`Field`] of a type that can travel.
#[derive(Debug)]
pub(crate) struct Known<T>(PhantomData<fn() -> T>);

impl<T: Wire> Known<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Wire> Field for Known<T> {
    type Value = T;

    fn missing<E: serde::de::Error>(field: &'static str) -> Result<T, E> {
        let error = PhantomData;
        T::deserialize(Missing { field, error })
    }

    #[inline]
    fn put<S: SerializeStructVariant>(self, value: &T) -> &dyn Put<S> {
        value
    }
}

/// A field that has the default of its type if a message came without it.
#[derive(Debug)]
pub(crate) struct OrDefault<F>(pub(crate) F);

impl<F: Field> Field for OrDefault<F>
where
    F::Value: Default,
{
    type Value = F::Value;

    fn missing<E: serde::de::Error>(_: &'static str) -> Result<F::Value, E> {
        Ok(F::Value::default())
    }

    #[inline]
    fn put<S: SerializeStructVariant>(self, value: &F::Value) -> &dyn Put<S> {
        self.0.put(value)
    }
}

/// The place of a field that is read by an `R`.
#[expect(missing_debug_implementations, reason = "it may hold any value")]
pub struct Slot<R: MessageReader, T> {
    value: Option<T>,
    read: fn(&mut R) -> Result<T, R::Error>,
    missing: fn(&'static str) -> Result<T, R::Error>,
}

/// The place of a field. Its type requires nothing of `F::Value`: see [`private::wire`].
///
/// [`private::wire`]: casty::__private::wire
pub fn slot<R: MessageReader, F: Field>(_: F) -> Slot<R, F::Value> {
    Slot {
        value: None,
        read: R::value,
        missing: F::missing,
    }
}

/// The places of any fields.
pub trait Fill<R: MessageReader> {
    /// Reads the value of the present field, which has this name and position.
    ///
    /// # Errors
    /// It is there already, or has another type.
    fn fill(&mut self, position: usize, name: &'static str, reader: &mut R)
    -> Result<(), R::Error>;
}

/// The places of the fields of a message: `(first, (second, ()))`.
pub trait Slots<R: MessageReader>: Fill<R> {
    /// The values, in the same form.
    type Values;

    /// The values. `names` are those of the fields.
    ///
    /// # Errors
    /// One is missing.
    fn take(self, names: &[&'static str]) -> Result<Self::Values, R::Error>;
}

impl<R: MessageReader> Fill<R> for () {
    fn fill(&mut self, _: usize, _: &'static str, _: &mut R) -> Result<(), R::Error> {
        Ok(())
    }
}

impl<R: MessageReader> Slots<R> for () {
    type Values = ();

    fn take(self, _: &[&'static str]) -> Result<(), R::Error> {
        Ok(())
    }
}

impl<R: MessageReader, T, S: Fill<R>> Fill<R> for (Slot<R, T>, S) {
    #[inline]
    fn fill(
        &mut self,
        position: usize,
        name: &'static str,
        reader: &mut R,
    ) -> Result<(), R::Error> {
        let (slot, rest) = self;
        match position.checked_sub(1) {
            Some(position) => rest.fill(position, name, reader),
            None if slot.value.is_some() => Err(R::Error::duplicate_field(name)),
            None => {
                slot.value = Some((slot.read)(reader)?);
                Ok(())
            }
        }
    }
}

impl<R: MessageReader, T, S: Slots<R>> Slots<R> for (Slot<R, T>, S) {
    type Values = (T, S::Values);

    #[inline]
    fn take(self, names: &[&'static str]) -> Result<Self::Values, R::Error> {
        let (slot, rest) = self;
        let (name, names) = match names {
            [name, names @ ..] => (*name, names),
            [] => ("", names),
        };
        let value = match slot.value {
            Some(value) => value,
            None => (slot.missing)(name)?,
        };
        Ok((value, rest.take(names)?))
    }
}

/// What a field is read from that did not come: an `Option` reads `None`, all others an error.
struct Missing<E> {
    field: &'static str,
    error: PhantomData<E>,
}

impl<'de, E: serde::de::Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.field))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A field's value of any type, as a message of the kind `S` takes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a message",
    label = "not serializable"
)]
pub trait Put<S: SerializeStructVariant> {
    /// Writes the field.
    fn put(&self, name: &'static str, message: &mut S) -> Result<(), S::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize, S: SerializeStructVariant> Put<S> for T {
    fn put(&self, name: &'static str, message: &mut S) -> Result<(), S::Error> {
        message.serialize_field(name, self)
    }
}

/// Writes a message by a serializer of any format.
pub fn write_message<F: MessageForm, S: Serializer>(
    message: &F,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    message.write(BySerde(serializer))
}

struct BySerde<S>(S);

impl<S: Serializer> MessageWriter for BySerde<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type Fields = S::SerializeStructVariant;

    fn message<F: MessageForm>(
        self,
        index: usize,
        values: &[&dyn Put<Self::Fields>],
    ) -> Result<S::Ok, S::Error> {
        let form = F::FORM;
        let (Some(name), Some(fields)) = (form.messages.get(index), form.fields.get(index)) else {
            return Err(no_such_message());
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let mut written = self
            .0
            .serialize_struct_variant(form.name, number, name, values.len())?;
        for (field, value) in fields.iter().zip(values) {
            value.put(field, &mut written)?;
        }
        written.end()
    }

    fn internal(self) -> Result<S::Ok, S::Error> {
        Err(internal_message())
    }
}

#[cold]
fn no_such_message<E: serde::ser::Error>() -> E {
    E::custom("there is no such message")
}

#[cold]
fn internal_message<E: serde::ser::Error>() -> E {
    E::custom("an internal message with arguments cannot be stored or travel: leave out `internal`")
}

#[cfg(test)]
mod tests;
