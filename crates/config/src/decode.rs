//! From the tree to typed sections: a serde deserializer that knows where each value stands.
//!
//! Scalars mean what the field that takes them says: `5000` is text where text is wanted, and
//! `yes` is true where a yes or no is wanted, as in the YAML 1.1 that Distribution reads. A key
//! that the section does not have is a warning which names the nearest one that it has.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess};
use serde::forward_to_deserialize_any;

use crate::node::{Key, Node, Value};
use crate::problem::Problem;

/// How alike two keys must be for one to be taken for a slip of the other, from 0 to 1.
const ALIKE: f64 = 0.7;

/// Reads a typed value from the tree.
///
/// # Errors
/// The first value that has the wrong type.
pub(crate) fn decode<T: de::DeserializeOwned>(
    node: &Node,
    warnings: &mut Vec<Problem>,
) -> Result<T, Problem> {
    let shared = RefCell::new(std::mem::take(warnings));
    let decoder = Decoder {
        node,
        path: Path::Root,
        warnings: &shared,
    };
    let result = T::deserialize(decoder);
    *warnings = shared.into_inner();
    result.map_err(|error| match error {
        DecodeError::Placed(problem) => problem,
        DecodeError::Loose(message) => Problem {
            origin: node.origin.clone(),
            key: String::new(),
            message,
        },
    })
}

/// The keys above a value.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Path::Root, key) => f.write_str(key),
            Self::Key(above, key) => write!(f, "{above}.{key}"),
            Self::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// An error on its way up to the value that it is about.
#[derive(Debug)]
enum DecodeError {
    Loose(String),
    Placed(Problem),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loose(message) => f.write_str(message),
            Self::Placed(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Loose(message.to_string())
    }
}

#[derive(Clone, Copy)]
struct Decoder<'p, 'de> {
    node: &'de Node,
    path: Path<'p>,
    warnings: &'p RefCell<Vec<Problem>>,
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

impl<'de> Decoder<'_, 'de> {
    fn placed<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            DecodeError::Loose(message) => self.problem(message),
            placed @ DecodeError::Placed(_) => placed,
        })
    }

    fn problem(&self, message: String) -> DecodeError {
        DecodeError::Placed(Problem {
            origin: self.node.origin.clone(),
            key: self.path.to_string(),
            message,
        })
    }

    fn wanted(&self, wanted: &str) -> DecodeError {
        self.problem(format!("{} is not {wanted}", self.node.kind()))
    }

    fn scalar(&self, wanted: &str) -> Result<&'de str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Ok(text),
            _ => Err(self.wanted(wanted)),
        }
    }

    fn bool(&self) -> Result<bool> {
        const WANTED: &str = "true or false";
        match self.scalar(WANTED)?.to_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(self.wanted(WANTED)),
        }
    }

    fn integer<T: TryFrom<i128>>(&self) -> Result<T> {
        const WANTED: &str = "a whole number in the range that makes sense here";
        let text = self.scalar(WANTED)?;
        let number = integer(text).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.wanted(WANTED))
    }

    fn warn_of_unknown(&self, entries: &[(Key, Node)], fields: &[&str]) {
        for (key, _) in entries {
            if fields.contains(&key.text.as_str()) {
                continue;
            }
            let path = Path::Key(&self.path, &key.text).to_string();
            let nearest = fields
                .iter()
                .map(|field| (strsim::jaro_winkler(field, &key.text.to_lowercase()), field))
                .filter(|(alike, _)| *alike >= ALIKE)
                .max_by(|(a, _), (b, _)| a.total_cmp(b));
            let hint = match nearest {
                Some((_, field)) => format!("; did you mean {:?}?", field),
                None => String::new(),
            };
            self.warnings.borrow_mut().push(Problem {
                origin: key.origin.clone(),
                key: path,
                message: format!("this key is unknown and has no effect{hint}"),
            });
        }
    }
}

fn integer(text: &str) -> Option<i128> {
    let digits = text.replace('_', "");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix =
        |prefix: &str, radix| i128::from_str_radix(digits.strip_prefix(prefix)?, radix).ok();
    let number = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2));
    Some(sign * number.or_else(|| digits.parse().ok())?)
}

macro_rules! integers {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let number = self.integer()?;
            self.placed(visitor.$visit(number))
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_, 'de> {
    type Error = DecodeError;

    /// For free-form parameters: a scalar is what it looks like.
    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar { text, quoted: true } => visitor.visit_str(text),
            Value::Scalar { text, .. } => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                _ => match integer(text).and_then(|number| i64::try_from(number).ok()) {
                    Some(number) => visitor.visit_i64(number),
                    None => visitor.visit_str(text),
                },
            },
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bool(self.bool()?)
    }

    integers! {
        deserialize_i64 visit_i64
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
    }

    fn deserialize_str<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let text = match &self.node.value {
            Value::Null => "",
            _ => self.scalar("text")?,
        };
        self.placed(visitor.visit_str(text))
    }

    fn deserialize_string<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let result = visitor.visit_newtype_struct(self);
        self.placed(result)
    }

    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let items = match &self.node.value {
            Value::Null => &[][..],
            Value::List(items) => items,
            // One item may stand alone, as Go's YAML lets it.
            Value::Scalar { .. } => std::slice::from_ref(self.node),
            Value::Map(_) => return Err(self.wanted("a list")),
        };
        visitor.visit_seq(Items {
            decoder: self,
            items,
            next: 0,
        })
    }

    fn deserialize_map<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let entries = match &self.node.value {
            Value::Null => &[][..],
            Value::Map(entries) => entries,
            _ => return Err(self.wanted("a map of keys and values")),
        };
        let result = visitor.visit_map(Entries {
            decoder: self,
            entries,
            value: None,
        });
        self.placed(result)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Value::Map(entries) = &self.node.value {
            self.warn_of_unknown(entries, fields);
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let wanted = || format!("one of {}", variants.join(", "));
        let text = self.scalar(&wanted())?.to_lowercase();
        if !variants.contains(&text.as_str()) {
            return Err(self.wanted(&wanted()));
        }
        let variant: StrDeserializer<'_, DecodeError> = text.as_str().into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier
    }
}

struct Items<'p, 'de> {
    decoder: Decoder<'p, 'de>,
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(node) = self.items.get(self.next) else {
            return Ok(None);
        };
        let above = self.decoder.path;
        let index = self.next;
        self.next += 1;
        let item = Decoder {
            node,
            path: Path::Index(&above, index),
            warnings: self.decoder.warnings,
        };
        let result = seed.deserialize(item);
        item.placed(result).map(Some)
    }
}

struct Entries<'p, 'de> {
    decoder: Decoder<'p, 'de>,
    entries: &'de [(Key, Node)],
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let entry = loop {
            let Some((entry, rest)) = self.entries.split_first() else {
                return Ok(None);
            };
            self.entries = rest;
            // A key without a value is as good as none: its default counts.
            if entry.1.value != Value::Null {
                break entry;
            }
        };
        self.value = Some(entry);
        let key: StrDeserializer<'_, DecodeError> = entry.0.text.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let (key, node) = self.value.take().expect("a value follows its key");
        let above = self.decoder.path;
        let value = Decoder {
            node,
            path: Path::Key(&above, &key.text),
            warnings: self.decoder.warnings,
        };
        let result = seed.deserialize(value);
        value.placed(result)
    }
}
