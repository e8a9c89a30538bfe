//! Objects of which only some fields matter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A JSON object of which only some fields matter.
pub trait Object<'de>: Default {
    /// Reads the value of one field, or skips it.
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Defines an [`Object`] by the names of its fields. If a name occurs twice, the last value counts.
/// Values are read into their place: Serde's derived code moves each one several times, which took
/// an eighth of the time of parsing a transcript.
macro_rules! object {
    ($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? { $($(#[$doc:meta])* $key:literal => $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name $(<$life>)? { $($(#[$doc])* pub $field: $type,)* }

        impl<'de $(: $life, $life)?> $crate::system::json::Object<'de> for $name $(<$life>)? {
            fn read_field<A: serde::de::MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
                match key {
                    $($key => map.next_value_seed($crate::system::json::Place(&mut self.$field)),)*
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

/// Where a value is read into, by a method that Serde's documentation hides because few need it.
pub struct Place<'a, T>(pub &'a mut T);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        T::deserialize_in_place(deserializer, self.0)
    }
}

/// The name of a field.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
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
        while let Some(Name(name)) = map.next_key()? {
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
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
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

    #[test]
    fn last_value_of_a_repeated_field_counts() {
        let read = |json: &'static str| {
            let outer: Lenient<Outer<'_>> = parse_object(json.as_bytes()).unwrap();
            let outer = outer.0.unwrap();
            (
                outer.name.owned(),
                outer.inner.0.map(|inner| inner.is_set.0),
            )
        };
        let name = Some("b".to_owned());
        assert_eq!(
            read(r#"{"name":"a","inner":{"isSet":true,"x":[{}]},"name":"b","y":{"name":"c"}}"#),
            (name.clone(), Some(true))
        );
        assert_eq!(
            read(r#"{"inner":{"isSet":true},"inner":{},"n\u0061me":"b"}"#),
            (name.clone(), Some(false))
        );
        assert_eq!(
            read(r#"{"name":"b","inner":{"isSet":true},"inner":[{"isSet":true}]}"#),
            (name, None)
        );
    }
}
