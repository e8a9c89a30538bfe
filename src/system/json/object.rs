//! Objects of which only some fields matter.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Scalar, visit_scalars};

/// A JSON object of which only some fields matter.
pub trait Object<'de>: Default {
    /// Reads the value of one field, or skips it.
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Defines an [`Object`] by the names of its fields. A name that occurs twice is an error. Values are
/// read into their place: Serde's derived code moves each one several times, which took an eighth of
/// the time of parsing a transcript.
macro_rules! object {
    ($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? { $($(#[$doc:meta])* $key:literal => $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name $(<$life>)? {
            $($(#[$doc])* pub $field: $type,)*
            /// The fields that were read, one bit each.
            read: u32,
        }

        impl<'de $(: $life, $life)?> $crate::system::json::Object<'de> for $name $(<$life>)? {
            fn read_field<A: serde::de::MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
                #[expect(non_camel_case_types, reason = "these are the names of the fields")]
                enum Number { $($field,)* }
                match key {
                    $($key => {
                        let read = self.read;
                        self.read |= 1 << Number::$field as u32;
                        if read == self.read {
                            return Err(serde::de::Error::duplicate_field($key));
                        }
                        map.next_value_seed($crate::system::json::Place(&mut self.$field))
                    })*
                    _ => map.next_value::<serde::de::IgnoredAny>().map(drop),
                }
            }
        }
    };
}
pub(crate) use object;

impl<'de, T: Deserialize<'de> + Default> Object<'de> for BTreeMap<String, T> {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value_seed(Place(self.entry(key.to_owned()).or_default()))
    }
}

/// Where a value is read into. The method for that is part of Serde's trait, but not of its
/// documentation.
pub struct Place<'a, T>(pub &'a mut T);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        T::deserialize_in_place(deserializer, self.0)
    }
}

/// An object, or `None` for a value of another type, which is skipped.
#[derive(Debug)]
pub struct Lenient<T>(pub Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Object<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut place = Self(None);
        Self::deserialize_in_place(deserializer, &mut place)?;
        Ok(place)
    }

    fn deserialize_in_place<D: Deserializer<'de>>(
        deserializer: D,
        place: &mut Self,
    ) -> Result<(), D::Error> {
        place.0 = None;
        deserializer.deserialize_any(LenientVisitor(place))
    }
}

struct LenientVisitor<'a, T>(&'a mut Lenient<T>);

impl<'de, T: Object<'de>> Visitor<'de> for LenientVisitor<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let object = self.0.0.insert(T::default());
        while let Some(Scalar::Text(name)) = map.next_key()? {
            object.read_field(&name, &mut map)?;
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    visit_scalars!(());
}

#[cfg(test)]
mod tests {
    use super::super::{Flag, Scalar, parse_object};
    use super::*;

    object! {
        /// An object with another one inside.
        pub struct Outer<'a> {
            "name" => name: Scalar<'a>,
            "inner" => inner: Lenient<Inner>,
        }
    }

    object! {
        /// The object inside.
        pub struct Inner {
            "isSet" => is_set: Flag,
        }
    }

    fn read(json: &'static str) -> serde_json::Result<(Option<String>, Option<bool>)> {
        let outer: Lenient<Outer<'_>> = parse_object(json.as_bytes())?;
        let outer = outer.0.unwrap_or_default();
        let inner = outer.inner.0;
        Ok((outer.name.owned(), inner.map(|inner| inner.is_set.0)))
    }

    #[test]
    fn other_fields_and_values_of_other_types_are_skipped() {
        let name = Some("a".to_owned());
        for (json, is_set) in [
            (
                r#"{"n\u0061me":"a","inner":{"isSet":true,"x":[{}]},"y":{"name":"b"}}"#,
                Some(true),
            ),
            (r#"{"inner":{"isSet":1},"name":"a"}"#, Some(false)),
            (r#"{"name":"a","inner":[{"isSet":true}]}"#, None),
        ] {
            assert_eq!(read(json).unwrap(), (name.clone(), is_set), "{json}");
        }
    }

    #[test]
    fn field_that_occurs_twice_is_an_error() {
        for json in [
            r#"{"name":"a","name":"a"}"#,
            r#"{"inner":{"isSet":true,"isSet":true}}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        assert!(read(r#"{"other":1,"other":2}"#).is_ok());
    }
}
