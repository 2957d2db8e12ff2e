//! What a pickle can hold.

use bytes::Bytes;

use super::{Class, Integer};

/// A Python value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A number of 64 bits.
    Int(i64),
    /// A number that needs more.
    BigInt(Integer),
    /// A double.
    Float(f64),
    /// `str`.
    Text(String),
    /// `bytes`: a view of the pickle, if that was shared memory.
    Bytes(Bytes),
    /// `list`.
    List(Vec<Self>),
    /// `tuple`.
    Tuple(Vec<Self>),
    /// `dict`.
    Dict(Dict),
    /// `set`, in the order of the pickle.
    Set(Vec<Self>),
    /// `frozenset`, in the order of the pickle.
    FrozenSet(Vec<Self>),
    /// A class by itself, in a delta only.
    Class(Class),
    /// What a class makes of arguments, in a delta only.
    Object(Class, Vec<Self>),
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The bytes, if it is `bytes`.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        if let Self::Bytes(bytes) = self {
            Some(bytes)
        } else {
            None
        }
    }

    /// The number, if it is one of 64 bits; Python counts `True` as 1.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(truth) => Some(i64::from(*truth)),
            Self::None
            | Self::BigInt(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::List(_)
            | Self::Tuple(_)
            | Self::Dict(_)
            | Self::Set(_)
            | Self::FrozenSet(_)
            | Self::Class(_)
            | Self::Object(..) => None,
        }
    }

    /// The dict, if it is one.
    pub fn as_dict(&self) -> Option<&Dict> {
        if let Self::Dict(dict) = self {
            Some(dict)
        } else {
            None
        }
    }

    /// The items of a list or tuple.
    pub fn as_items(&self) -> Option<&[Self]> {
        if let Self::List(items) | Self::Tuple(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// True when no class and no object is in it, so that it may go out in any message.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Class(_) | Self::Object(..) => false,
            Self::List(items) | Self::Tuple(items) | Self::Set(items) | Self::FrozenSet(items) => {
                items.iter().all(Self::is_plain)
            }
            Self::Dict(dict) => dict
                .iter()
                .all(|(key, value)| key.is_plain() && value.is_plain()),
            Self::None
            | Self::Bool(_)
            | Self::Int(_)
            | Self::BigInt(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_) => true,
        }
    }

    /// Whether Python's `==` holds of two keys: numbers are equal across their types.
    pub fn is_same_key(&self, other: &Self) -> bool {
        match (self.as_int(), other.as_int(), self, other) {
            (Some(one), Some(two), _, _) => one == two,
            (Some(whole), None, _, Self::Float(float))
            | (None, Some(whole), Self::Float(float), _) => is_float(whole, *float),
            (_, _, Self::Tuple(one), Self::Tuple(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(a, b)| a.is_same_key(b))
            }
            _ => self == other,
        }
    }
}

/// Whether a double is exactly that number.
fn is_float(whole: i64, float: f64) -> bool {
    // Beyond 2^63 the cast would saturate.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float)
        && float.fract() == 0.0
        && float as i64 == whole
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Dict> for Value {
    fn from(dict: Dict) -> Self {
        Self::Dict(dict)
    }
}

/// A `dict`, in its order.
///
/// A pickle may name a key twice, which counts as Python counts it: the last value is valid.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Dict(Vec<(Value, Value)>);

impl Dict {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its entries.
    pub fn iter(&self) -> std::slice::Iter<'_, (Value, Value)> {
        self.0.iter()
    }

    /// The value of a text key.
    pub fn of(&self, key: &str) -> Option<&Value> {
        let found = self.0.iter().rev().find(|(k, _)| k.as_text() == Some(key));
        found.map(|(_, value)| value)
    }

    /// The value of any key.
    pub fn of_key(&self, key: &Value) -> Option<&Value> {
        let found = self.0.iter().rev().find(|(k, _)| k.is_same_key(key));
        found.map(|(_, value)| value)
    }

    /// The value of any key, to be changed.
    pub fn of_key_mut(&mut self, key: &Value) -> Option<&mut Value> {
        let found = self.0.iter_mut().rev().find(|(k, _)| k.is_same_key(key));
        found.map(|(_, value)| value)
    }

    /// Sets a value; a key that is there keeps its place.
    pub fn set(&mut self, key: impl Into<Value>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.of_key_mut(&key) {
            Some(old) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Takes a key out, and says whether it was there.
    pub fn remove(&mut self, key: &Value) -> bool {
        let before = self.0.len();
        self.0.retain(|(k, _)| !k.is_same_key(key));
        self.0.len() != before
    }

    /// Adds an entry without looking for its key: a lookup for each would be quadratic.
    pub(super) fn push(&mut self, key: Value, value: Value) {
        self.0.push((key, value));
    }
}

impl FromIterator<(Value, Value)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Dict {
    type Item = &'a (Value, Value);
    type IntoIter = std::slice::Iter<'a, (Value, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
