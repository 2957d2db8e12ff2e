//! One AMF 0 value.

/// A value, owned.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An IEEE 754 double; AMF 0 has no integers.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A short or long string; bytes that are not UTF-8 were replaced when it was read.
    String(String),
    /// Named values in the order of the wire. A typed object loses its class name.
    Object(Vec<(String, Self)>),
    /// Named values that announce their count, which is a hint and not checked.
    EcmaArray(Vec<(String, Self)>),
    /// Values without names.
    StrictArray(Vec<Self>),
    /// Null.
    Null,
    /// Undefined; also what an `unsupported` marker is read as.
    Undefined,
    /// Milliseconds since 1970 in UTC; the reserved time zone is ignored.
    Date(f64),
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The number of a number, or of a boolean as 0 or 1: encoders disagree on flags.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self {
            Some(*number)
        } else {
            self.as_bool().map(|flag| f64::from(u8::from(flag)))
        }
    }

    /// The truth of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(flag) = self {
            Some(*flag)
        } else {
            None
        }
    }

    /// The named values of an object or an ECMA array; empty for anything else.
    pub fn properties(&self) -> &[(String, Self)] {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => properties,
            Self::Number(_)
            | Self::Boolean(_)
            | Self::String(_)
            | Self::StrictArray(_)
            | Self::Null
            | Self::Undefined
            | Self::Date(_) => &[],
        }
    }

    /// The first property called `name`.
    pub fn property(&self, name: &str) -> Option<&Self> {
        let mut properties = self.properties().iter();
        properties
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}
