//! MessagePack as JSON, for people: names are part of what is encoded, so that its type need not be
//! known.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{decoder::Decoder, error::DecodeError};

/// The bytes that stand before the state of a machine with common data: the length of that data.
pub(super) const LENGTH_BYTES: usize = 4;

/// A value as JSON, on one line. Bytes are text, `0x0aff`, and so are numbers that JSON does not
/// have, and `Some(None)` is `null`.
pub(crate) fn json(bytes: &[u8]) -> Result<String, DecodeError> {
    let mut out = String::new();
    let mut decoder = Decoder::new(bytes);
    let json = Json {
        out: &mut out,
        is_key: false,
    };
    json.deserialize(&mut decoder)?;
    match decoder.rest {
        [] => Ok(out),
        _ => Err(super::codec::left_over()),
    }
}

/// The state of an entity, likewise. Of a machine with common data these come first.
pub(crate) fn state_json(bytes: &[u8]) -> Result<String, DecodeError> {
    let whole = json(bytes);
    let Err(error) = whole else { return whole };
    let Some((common, state)) = with_common(bytes) else {
        return Err(error);
    };
    let (common, state) = (json(common)?, json(state)?);
    Ok(format!("{{\"common\":{common},\"state\":{state}}}"))
}

/// Common data, and the state after it.
pub(super) fn with_common(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

/// Writes the next value.
struct Json<'a> {
    out: &'a mut String,
    /// It is in a key, which is shown as text.
    is_key: bool,
}

impl Json<'_> {
    fn reborrow(&mut self) -> Json<'_> {
        Json {
            out: self.out,
            is_key: self.is_key,
        }
    }

    fn show(&mut self, value: impl fmt::Display) {
        // A `String` takes all that is written.
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.out.extend(['\\', character]),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                harmful if is_harmful(harmful) => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(harmful));
                }
                character => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn real(&mut self, number: impl Into<f64> + fmt::Display) {
        let text = number.to_string();
        if number.into().is_finite() {
            self.out.push_str(&text);
        } else {
            self.text(&text);
        }
    }
}

/// What would steer a terminal, or break the line: all of it below `U+10000`.
fn is_harmful(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(mut self, truth: bool) -> Result<(), E> {
        self.show(truth);
        Ok(())
    }

    fn visit_i64<E>(mut self, number: i64) -> Result<(), E> {
        self.show(number);
        Ok(())
    }

    fn visit_u64<E>(mut self, number: u64) -> Result<(), E> {
        self.show(number);
        Ok(())
    }

    fn visit_f32<E>(mut self, number: f32) -> Result<(), E> {
        self.real(number);
        Ok(())
    }

    fn visit_f64<E>(mut self, number: f64) -> Result<(), E> {
        self.real(number);
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        self.out.push_str("\"0x");
        for byte in bytes {
            let _ = write!(self.out, "{byte:02x}");
        }
        self.out.push('"');
        Ok(())
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.show("null");
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        self.out.push('[');
        let mut is_first = true;
        loop {
            let before = self.out.len();
            if !is_first {
                self.out.push(',');
            }
            if values.next_element_seed(self.reborrow())?.is_none() {
                self.out.truncate(before);
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.out.push('{');
        let mut is_first = true;
        loop {
            let mut key = String::new();
            let out = &mut key;
            if entries.next_key_seed(Json { out, is_key: true })?.is_none() {
                self.out.push('}');
                return Ok(());
            }
            if !std::mem::replace(&mut is_first, false) {
                self.out.push(',');
            }
            // JSON has no other keys than text. Within a key nothing is: escaped at each level, it
            // would double each time.
            if key.starts_with('"') || self.is_key {
                self.out.push_str(&key);
            } else {
                self.text(&key);
            }
            self.out.push(':');
            entries.next_value_seed(self.reborrow())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::message::codec::to_vec;

    #[derive(Serialize)]
    struct Order {
        note: String,
        lines: Vec<(String, u32)>,
        by_number: BTreeMap<i64, bool>,
        status: Status,
        empty: Option<()>,
        #[serde(with = "serde_bytes")]
        proof: Vec<u8>,
        weight: f64,
    }

    #[derive(Serialize)]
    enum Status {
        Shipped { days: u8 },
    }

    #[test]
    fn a_value_reads_as_its_json() {
        let order = Order {
            note: "say \"hi\"\n\u{1b}[2J".to_owned(),
            lines: vec![("a".to_owned(), 1), ("b".to_owned(), 2)],
            by_number: BTreeMap::from([(-1, true), (7, false)]),
            status: Status::Shipped { days: 3 },
            empty: Some(()),
            proof: vec![0, 255],
            weight: 1.5,
        };
        let text = json(&to_vec(&order).unwrap()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "note": "say \"hi\"\n\u{1b}[2J",
            "lines": [["a", 1], ["b", 2]],
            "by_number": {"-1": true, "7": false},
            "status": {"Shipped": {"days": 3}},
            "empty": null,
            "proof": "0x00ff",
            "weight": 1.5,
        });
        assert_eq!(read, expected, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn keys_in_keys_do_not_double_what_is_shown() {
        // A map whose key is a map whose key is a map, and so on, down to a text.
        let depth = 40;
        let mut bytes = vec![0x81; depth];
        bytes.extend([0xa1, b'"']);
        bytes.extend(vec![1; depth]);
        let shown = json(&bytes).unwrap();
        assert!(shown.len() < 10 * bytes.len(), "{} characters", shown.len());
        assert!(shown.starts_with(r#"{"{{"#), "{shown}");
    }

    #[test]
    fn numbers_that_json_does_not_have_are_text() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let text = json(&to_vec(&all[..]).unwrap()).unwrap();
        assert_eq!(text, r#"["NaN","inf","-inf"]"#);
        assert_eq!(
            json(&to_vec(&f32::MAX).unwrap()).unwrap(),
            f32::MAX.to_string()
        );
    }

    #[test]
    fn the_common_data_of_a_machine_come_before_its_state() {
        let (common, state) = (to_vec(&[1, 2]).unwrap(), to_vec("open").unwrap());
        assert_eq!(state_json(&state).unwrap(), r#""open""#);
        let length = u32::try_from(common.len()).unwrap().to_be_bytes();
        let both = [&length[..], &common[..], &state[..]].concat();
        assert_eq!(
            state_json(&both).unwrap(),
            r#"{"common":[1,2],"state":"open"}"#
        );
        assert!(state_json(&both[..both.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_json_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for text in [json(&bytes), state_json(&bytes)].into_iter().flatten() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }
    }
}
