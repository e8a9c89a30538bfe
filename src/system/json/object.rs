//! Objects of which only some fields matter.

use std::collections::BTreeMap;

use serde_json::Result;

use super::parser::{Parser, ReadJson};

/// A JSON object of which only some fields matter.
pub trait Object<'a>: Default {
    /// Reads the value of one field, or skips it.
    fn read_field(&mut self, key: &str, parser: &mut Parser<'a>) -> Result<()>;
}

/// Defines an [`Object`] by the names of its fields. A name that occurs twice is an error.
macro_rules! object {
    ($(#[$meta:meta])* $visible:vis struct $name:ident $(<$life:lifetime>)? { $($(#[$doc:meta])* $key:literal => $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $visible struct $name $(<$life>)? {
            $($(#[$doc])* pub $field: $type,)*
            /// The fields that were read, one bit each.
            read: u32,
        }

        impl<'json $(: $life, $life)?> $crate::system::json::Object<'json> for $name $(<$life>)? {
            fn read_field(&mut self, key: &str, parser: &mut $crate::system::json::Parser<'json>) -> serde_json::Result<()> {
                #[expect(non_camel_case_types, reason = "these are the names of the fields")]
                enum Number { $($field,)* }
                match key {
                    $($key => {
                        let read = self.read;
                        self.read |= 1 << Number::$field as u32;
                        if read == self.read {
                            return Err(serde::de::Error::duplicate_field($key));
                        }
                        $crate::system::json::ReadJson::read(&mut self.$field, parser)
                    })*
                    _ => parser.skip(),
                }
            }
        }
    };
}
pub(crate) use object;

impl<'a, T: ReadJson<'a> + Default> Object<'a> for BTreeMap<String, T> {
    fn read_field(&mut self, key: &str, parser: &mut Parser<'a>) -> Result<()> {
        self.entry(key.to_owned()).or_default().read(parser)
    }
}

/// An object, or `None` for a value of another type.
#[derive(Debug)]
pub struct Lenient<T>(pub Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T: Object<'a>> ReadJson<'a> for Lenient<T> {
    fn read(&mut self, parser: &mut Parser<'a>) -> Result<()> {
        if parser.peek()? != b'{' {
            self.0 = None;
            return parser.skip();
        }
        let object = self.0.insert(T::default());
        parser.object(|key, parser| object.read_field(key, parser))
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

    fn read(json: &'static str) -> serde_json::Result<(Option<String>, Option<bool>)> {
        let outer: Outer<'_> = parse_object(json.as_bytes())?;
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
