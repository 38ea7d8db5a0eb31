//! Serde's data model as MessagePack, with named fields.
//!
//! What `rmp-serde` writes, except for three things. `Some` of a value that is written as nil has a
//! form of its own ([`SOME`]), so that it does not come back as `None`. Depth is limited as it is
//! in the decoder ([`Depth`]). And a container that announces another number of entries than it
//! writes gets the number that it has written, where it would be garbage to its reader.
//!
//! Nothing here is generic over the writer, so it is compiled once, with casty, and not with each
//! type of its users.

use std::fmt;

use rmp::encode::{self, ValueWriteError};
use serde::{Serialize, Serializer, ser};

use super::{
    depth::{Depth, TooDeep},
    error::EncodeError,
};

/// The type of the MessagePack extension that stands for `Some(..Some(nil))`. Its one byte says how
/// many `Some`s there are.
pub(super) const SOME: u8 = 0;

const NIL: u8 = 0xc0;
const EXTENSION_OF_ONE_BYTE: u8 = 0xd4;

/// The name under which `rmp-serde` knows an extension.
const EXTENSION: &str = "_ExtStruct";

/// Appends values to a buffer.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    depth: Depth,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let depth = Depth::full();
        Self { out, depth }
    }

    /// For the fields of a message, whose name is in `out` already.
    pub(super) fn in_message(out: &'a mut Vec<u8>) -> Self {
        let depth = Depth::in_message();
        Self { out, depth }
    }

    fn open(&mut self, kind: Kind, announced: usize) -> Result<Opened, EncodeError> {
        self.depth.enter()?;
        let opened = Opened {
            kind,
            start: self.out.len(),
            announced,
            written: 0,
        };
        kind.write_head(announced, self.out)?;
        Ok(opened)
    }

    fn close(&mut self, opened: &Opened) -> Result<(), EncodeError> {
        self.depth.leave();
        if opened.written == opened.announced {
            return Ok(());
        }
        opened.correct(self.out)
    }

    /// A map of one entry: the variant's name, and what follows.
    fn variant(&mut self, name: &str) -> Result<(), EncodeError> {
        encode::write_map_len(self.out, 1).map_err(refused)?;
        self.text(name)
    }

    #[inline]
    fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        encode::write_str(self.out, text).map_err(refused)
    }

    fn natural(&mut self, number: u64) -> Result<(), EncodeError> {
        encode::write_uint(self.out, number).map_err(refused)?;
        Ok(())
    }

    fn whole(&mut self, number: i64) -> Result<(), EncodeError> {
        encode::write_sint(self.out, number).map_err(refused)?;
        Ok(())
    }

    /// Gives the value that begins at `start`, and stands in a `Some`, a form other than nil.
    #[inline]
    fn keep_some(&mut self, start: usize) {
        match self.out.get_mut(start..) {
            Some([nil @ NIL]) => {
                *nil = EXTENSION_OF_ONE_BYTE;
                self.out.extend([SOME, 1]);
            }
            // `Depth` bounds the number.
            Some([EXTENSION_OF_ONE_BYTE, SOME, somes]) => *somes = somes.saturating_add(1),
            _ => {}
        }
    }
}

/// How a container begins.
#[derive(Clone, Copy)]
enum Kind {
    Array,
    Map,
}

impl Kind {
    fn write_head(self, entries: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = u32::try_from(entries).map_err(|_| {
            EncodeError(format!(
                "{entries} entries are more than MessagePack has a form for"
            ))
        })?;
        match self {
            Self::Array => encode::write_array_len(out, length),
            Self::Map => encode::write_map_len(out, length),
        }
        .map_err(refused)?;
        Ok(())
    }
}

/// A container that is being written.
struct Opened {
    kind: Kind,
    start: usize,
    announced: usize,
    written: usize,
}

impl Opened {
    /// Replaces the number of entries at the container's beginning.
    #[cold]
    fn correct(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (mut wrong, mut right) = (Vec::new(), Vec::new());
        self.kind.write_head(self.announced, &mut wrong)?;
        self.kind.write_head(self.written, &mut right)?;
        out.splice(self.start..self.start + wrong.len(), right);
        Ok(())
    }
}

/// A container of any kind that is being written.
pub(super) struct Compound<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    opened: Opened,
}

impl Compound<'_, '_> {
    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.opened.written += 1;
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), EncodeError> {
        self.encoder.text(name)?;
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.encoder.close(&self.opened)
    }
}

impl<'e, 'a> Serializer for &'e mut Encoder<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Compound<'e, 'a>;
    type SerializeTuple = Compound<'e, 'a>;
    type SerializeTupleStruct = Compound<'e, 'a>;
    type SerializeTupleVariant = Compound<'e, 'a>;
    type SerializeMap = Compound<'e, 'a>;
    type SerializeStruct = Compound<'e, 'a>;
    type SerializeStructVariant = Compound<'e, 'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, truth: bool) -> Result<(), EncodeError> {
        encode::write_bool(self.out, truth)
            .map_err(|error| refused(ValueWriteError::InvalidMarkerWrite(error)))
    }

    fn serialize_i8(self, number: i8) -> Result<(), EncodeError> {
        self.whole(number.into())
    }

    fn serialize_i16(self, number: i16) -> Result<(), EncodeError> {
        self.whole(number.into())
    }

    fn serialize_i32(self, number: i32) -> Result<(), EncodeError> {
        self.whole(number.into())
    }

    fn serialize_i64(self, number: i64) -> Result<(), EncodeError> {
        self.whole(number)
    }

    fn serialize_i128(self, number: i128) -> Result<(), EncodeError> {
        self.serialize_bytes(&number.to_be_bytes())
    }

    fn serialize_u8(self, number: u8) -> Result<(), EncodeError> {
        self.natural(number.into())
    }

    fn serialize_u16(self, number: u16) -> Result<(), EncodeError> {
        self.natural(number.into())
    }

    fn serialize_u32(self, number: u32) -> Result<(), EncodeError> {
        self.natural(number.into())
    }

    fn serialize_u64(self, number: u64) -> Result<(), EncodeError> {
        self.natural(number)
    }

    fn serialize_u128(self, number: u128) -> Result<(), EncodeError> {
        self.serialize_bytes(&number.to_be_bytes())
    }

    fn serialize_f32(self, number: f32) -> Result<(), EncodeError> {
        encode::write_f32(self.out, number).map_err(refused)
    }

    fn serialize_f64(self, number: f64) -> Result<(), EncodeError> {
        encode::write_f64(self.out, number).map_err(refused)
    }

    fn serialize_char(self, char: char) -> Result<(), EncodeError> {
        self.text(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        self.text(text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), EncodeError> {
        encode::write_bin(self.out, bytes).map_err(refused)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.depth.wrap()?;
        let start = self.out.len();
        value.serialize(&mut *self)?;
        self.depth.unwrap();
        self.keep_some(start);
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.out.push(NIL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Kind::Array.write_head(0, self.out)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name == EXTENSION {
            return Err(no_extension());
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(variant)?;
        self.depth.wrap()?;
        value.serialize(&mut *self)?;
        self.depth.unwrap();
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'e, 'a>, EncodeError> {
        let opened = self.open(Kind::Array, length.unwrap_or_default())?;
        Ok(Compound {
            encoder: self,
            opened,
        })
    }

    fn serialize_tuple(self, length: usize) -> Result<Compound<'e, 'a>, EncodeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Compound<'e, 'a>, EncodeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'e, 'a>, EncodeError> {
        self.variant(variant)?;
        self.serialize_seq(Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'e, 'a>, EncodeError> {
        let opened = self.open(Kind::Map, length.unwrap_or_default())?;
        Ok(Compound {
            encoder: self,
            opened,
        })
    }

    fn serialize_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Compound<'e, 'a>, EncodeError> {
        self.serialize_map(Some(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'e, 'a>, EncodeError> {
        self.variant(variant)?;
        self.serialize_map(Some(length))
    }
}

impl ser::SerializeSeq for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeTuple for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeTupleStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeTupleVariant for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        key.serialize(&mut *self.encoder)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.named(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::SerializeStructVariant for Compound<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.named(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        Compound::end(self)
    }
}

impl ser::Error for EncodeError {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

impl From<TooDeep> for EncodeError {
    #[cold]
    fn from(error: TooDeep) -> Self {
        Self(error.to_string())
    }
}

#[cold]
fn refused(error: ValueWriteError) -> EncodeError {
    EncodeError(error.to_string())
}

#[cold]
fn no_extension() -> EncodeError {
    EncodeError("casty carries no extensions of MessagePack".to_owned())
}
