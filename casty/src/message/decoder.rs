//! MessagePack as serde's data model: the counterpart of [`encoder`](super::encoder).

use std::fmt;

use rmp::Marker;
use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::SeqDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    depth::{Depth, TooDeep},
    encoder::SOME,
    error::DecodeError,
};
use crate::infra::printable::Printable;

/// Reads values from bytes, in place.
pub(super) struct Decoder<'de> {
    /// What has not been read yet.
    pub(super) rest: &'de [u8],
    depth: Depth,
}

/// The beginning of a value. What has no parts is read whole.
#[derive(Clone, Copy)]
enum Token<'de> {
    Nil,
    Truth(bool),
    Natural(u64),
    Whole(i64),
    Short(f32),
    Real(f64),
    Text(&'de [u8]),
    Bytes(&'de [u8]),
    Array(u32),
    Map(u32),
    /// So many `Some`s around nil.
    Somes(u8),
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            depth: Depth::full(),
        }
    }

    /// For the value of one field of a message.
    pub(super) fn in_message(value: &'de [u8]) -> Self {
        Self {
            rest: value,
            depth: Depth::in_message(),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(ended)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn bytes(&mut self, length: u32) -> Result<&'de [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length as usize)
            .ok_or_else(ended)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn short(&mut self) -> Result<u32, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn long(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn token(&mut self) -> Result<Token<'de>, DecodeError> {
        Ok(match Marker::from_u8(self.byte()?) {
            Marker::Null => Token::Nil,
            Marker::False => Token::Truth(false),
            Marker::True => Token::Truth(true),
            Marker::FixPos(number) => Token::Natural(number.into()),
            Marker::FixNeg(number) => Token::Whole(number.into()),
            Marker::U8 => Token::Natural(self.byte()?.into()),
            Marker::U16 => Token::Natural(self.short()?.into()),
            Marker::U32 => Token::Natural(self.long()?.into()),
            Marker::U64 => Token::Natural(u64::from_be_bytes(self.array()?)),
            Marker::I8 => Token::Whole(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Token::Whole(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Token::Whole(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Token::Whole(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Token::Short(f32::from_be_bytes(self.array()?)),
            Marker::F64 => Token::Real(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => Token::Text(self.bytes(length.into())?),
            Marker::Str8 => {
                let length = self.byte()?.into();
                Token::Text(self.bytes(length)?)
            }
            Marker::Str16 => {
                let length = self.short()?;
                Token::Text(self.bytes(length)?)
            }
            Marker::Str32 => {
                let length = self.long()?;
                Token::Text(self.bytes(length)?)
            }
            Marker::Bin8 => {
                let length = self.byte()?.into();
                Token::Bytes(self.bytes(length)?)
            }
            Marker::Bin16 => {
                let length = self.short()?;
                Token::Bytes(self.bytes(length)?)
            }
            Marker::Bin32 => {
                let length = self.long()?;
                Token::Bytes(self.bytes(length)?)
            }
            Marker::FixArray(length) => Token::Array(length.into()),
            Marker::Array16 => Token::Array(self.short()?),
            Marker::Array32 => Token::Array(self.long()?),
            Marker::FixMap(length) => Token::Map(length.into()),
            Marker::Map16 => Token::Map(self.short()?),
            Marker::Map32 => Token::Map(self.long()?),
            Marker::FixExt1 => match self.array()? {
                [SOME, somes] if somes > 0 => Token::Somes(somes),
                _ => return Err(no_value()),
            },
            Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32
            | Marker::Reserved => return Err(no_value()),
        })
    }

    /// A number, a truth value or nil.
    fn simple<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let token = self.token()?;
        visit_simple(token, visitor)
    }

    /// As [`simple`](Self::simple), or a string or bytes.
    fn stringy<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Text(text) => visit_text(text, visitor),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            token => visit_simple(token, visitor),
        }
    }

    /// A sequence, a map or a struct. Bytes are a sequence of numbers here.
    fn container<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Array(length) => self.sequence(length, visitor),
            Token::Map(length) => self.map(length, visitor),
            Token::Bytes(bytes) => {
                self.depth.enter()?;
                let value = visitor.visit_seq(SeqDeserializer::<_, DecodeError>::new(
                    bytes.iter().copied(),
                ))?;
                self.depth.leave();
                Ok(value)
            }
            token => Err(unexpected(token, &visitor)),
        }
    }

    fn sequence<V: Visitor<'de>>(
        &mut self,
        length: u32,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.depth.enter()?;
        let mut entries = Entries {
            decoder: self,
            left: length,
        };
        let value = visitor.visit_seq(&mut entries)?;
        entries.end()?;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, length: u32, visitor: V) -> Result<V::Value, DecodeError> {
        self.depth.enter()?;
        let mut entries = Entries {
            decoder: self,
            left: length,
        };
        let value = visitor.visit_map(&mut entries)?;
        entries.end()?;
        Ok(value)
    }

    /// A number of 128 bits: sixteen bytes, or any smaller number.
    fn big(&mut self, expected: &dyn Expected) -> Result<Big, DecodeError> {
        match self.token()? {
            Token::Natural(number) => Ok(Big::Natural(number)),
            Token::Whole(number) => Ok(Big::Whole(number)),
            token @ Token::Bytes(bytes) => match bytes.try_into() {
                Ok(bytes) => Ok(Big::Bytes(bytes)),
                Err(_) => Err(unexpected(token, expected)),
            },
            token => Err(unexpected(token, expected)),
        }
    }
}

enum Big {
    Natural(u64),
    Whole(i64),
    Bytes([u8; 16]),
}

#[inline]
fn visit_simple<'de, V: Visitor<'de>>(
    token: Token<'de>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    match token {
        Token::Nil => visitor.visit_unit(),
        Token::Truth(truth) => visitor.visit_bool(truth),
        Token::Natural(number) => visitor.visit_u64(number),
        Token::Whole(number) => visitor.visit_i64(number),
        Token::Short(number) => visitor.visit_f32(number),
        Token::Real(number) => visitor.visit_f64(number),
        token => Err(unexpected(token, &visitor)),
    }
}

fn visit_text<'de, V: Visitor<'de>>(text: &'de [u8], visitor: V) -> Result<V::Value, DecodeError> {
    match std::str::from_utf8(text) {
        Ok(text) => visitor.visit_borrowed_str(text),
        Err(_) => visitor.visit_borrowed_bytes(text),
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Text(text) => visit_text(text, visitor),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(length) => self.sequence(length, visitor),
            Token::Map(length) => self.map(length, visitor),
            Token::Somes(somes) => {
                self.depth.fits(somes)?;
                visitor.visit_some(Somes(somes - 1))
            }
            token => visit_simple(token, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let before = self.rest;
        match before.first() {
            Some(0xc0) => {
                self.rest = &before[1..];
                return visitor.visit_none();
            }
            Some(0xd4) => {
                if let Token::Somes(somes) = self.token()? {
                    self.depth.fits(somes)?;
                    return visitor.visit_some(Somes(somes - 1));
                }
                self.rest = before;
            }
            _ => {}
        }
        self.depth.wrap()?;
        let value = visitor.visit_some(&mut *self)?;
        self.depth.unwrap();
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Nil | Token::Array(0) => visitor.visit_unit(),
            token => Err(unexpected(token, &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Map(1) => visitor.visit_enum(Variant { decoder: self }),
            Token::Text(name) => visitor.visit_enum(Name(name)),
            token => Err(unexpected(token, &visitor)),
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = match self.big(&visitor)? {
            Big::Natural(number) => number.into(),
            Big::Whole(number) => number.into(),
            Big::Bytes(bytes) => i128::from_be_bytes(bytes),
        };
        visitor.visit_i128(number)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = match self.big(&visitor)? {
            Big::Natural(number) => number.into(),
            Big::Whole(number) => u128::try_from(number)
                .map_err(|_| DecodeError::invalid_value(Unexpected::Signed(number), &visitor))?,
            Big::Bytes(bytes) => u128::from_be_bytes(bytes),
        };
        visitor.visit_u128(number)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.container(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.container(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.container(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.container(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.container(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.simple(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.stringy(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.stringy(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.stringy(visitor)
    }

    /// Fields and variants are named, by texts alone: what reads messages in place knows no other.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Text(text) => visit_text(text, visitor),
            token => Err(unexpected(token, &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bytes byte_buf ignored_any
    }
}

/// The entries of a sequence or a map that are left to be read.
struct Entries<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: u32,
}

impl Entries<'_, '_> {
    fn end(self) -> Result<(), DecodeError> {
        if self.left > 0 {
            let left = self.left;
            return Err(DecodeError(format!("{left} more entries than expected")));
        }
        self.decoder.depth.leave();
        Ok(())
    }

    /// How many entries there can be: each takes a byte at least. A visitor makes room for so many
    /// before it reads them, so a length that lies must not count.
    fn room(&self) -> usize {
        self.decoder.rest.len().min(self.left as usize)
    }
}

impl<'de> SeqAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.room())
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.room())
    }
}

/// A variant with a value: an entry of a map.
struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.decoder.token()? {
            Token::Nil => Ok(()),
            token => Err(unexpected(token, &"unit variant")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        self.decoder.depth.wrap()?;
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.depth.unwrap();
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.decoder.container(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.decoder.container(visitor)
    }
}

/// A variant without a value: its name.
struct Name<'de>(&'de [u8]);

impl<'de> EnumAccess<'de> for Name<'de> {
    type Error = DecodeError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Unit), DecodeError> {
        Ok((seed.deserialize(self)?, Unit))
    }
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visit_text(self.0, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// What follows the name of a variant without a value.
struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(no_unit(&"newtype variant"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(no_unit(&"tuple variant"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(no_unit(&"struct variant"))
    }
}

/// So many `Some`s around nil that are left to be read.
struct Somes(u8);

impl<'de> Deserializer<'de> for Somes {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.checked_sub(1) {
            Some(left) => visitor.visit_some(Self(left)),
            None => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.checked_sub(1) {
            Some(left) => visitor.visit_some(Self(left)),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl de::Error for DecodeError {
    /// serde quotes what it does not know, such as a variant's name. A sender has chosen that, and
    /// logs and replies say it: so it is cut, and stays on one line.
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(Printable(&text.to_string()).to_string())
    }
}

impl From<TooDeep> for DecodeError {
    #[cold]
    fn from(error: TooDeep) -> Self {
        Self(error.to_string())
    }
}

#[cold]
fn unexpected(token: Token<'_>, expected: &dyn Expected) -> DecodeError {
    let found = match token {
        Token::Nil => Unexpected::Unit,
        Token::Truth(truth) => Unexpected::Bool(truth),
        Token::Natural(number) => Unexpected::Unsigned(number),
        Token::Whole(number) => Unexpected::Signed(number),
        Token::Short(number) => Unexpected::Float(number.into()),
        Token::Real(number) => Unexpected::Float(number),
        Token::Text(_) => Unexpected::Other("a string"),
        Token::Bytes(_) => Unexpected::Other("bytes"),
        Token::Array(_) => Unexpected::Seq,
        Token::Map(_) => Unexpected::Map,
        Token::Somes(_) => Unexpected::Option,
    };
    DecodeError::invalid_type(found, expected)
}

#[cold]
fn no_unit(expected: &dyn Expected) -> DecodeError {
    DecodeError::invalid_type(Unexpected::UnitVariant, expected)
}

#[cold]
fn ended() -> DecodeError {
    DecodeError("the bytes end within a value".to_owned())
}

#[cold]
fn no_value() -> DecodeError {
    DecodeError("an extension of MessagePack that casty does not know".to_owned())
}
