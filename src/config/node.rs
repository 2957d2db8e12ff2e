//! Reads typed values out of a JSON document and says which value is wrong.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::position::{Path, Step};
use super::secret::Secret;

/// A value that is not what its place needs.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: Path,
    pub(super) expected: String,
    pub(super) found: String,
}

/// A place in the document. `null` counts as absent: MistServer writes it for what is not set.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    value: Option<&'a Value>,
    path: Path,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value: Some(value),
            path: Path::default(),
        }
    }

    /// The member `key` of an object; absent when this is absent or no object.
    pub(super) fn get(&self, key: &str) -> Self {
        let value = self.value.and_then(|value| value.get(key));
        self.child(Step::Key(key.to_owned()), value)
    }

    fn child(&self, step: Step, value: Option<&'a Value>) -> Self {
        Self {
            value: value.filter(|value| !value.is_null()),
            path: self.path.with(step),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    /// True if it is absent, null, or holds nothing.
    pub(super) fn is_empty_list(&self) -> bool {
        self.is_absent() || self.items().is_ok_and(|items| items.is_empty())
    }

    /// This, if it is there.
    pub(super) fn present(self) -> Option<Self> {
        self.value.is_some().then_some(self)
    }

    pub(super) fn fault(&self, expected: impl Into<String>) -> Fault {
        Fault {
            path: self.path.clone(),
            expected: expected.into(),
            found: match self.value {
                None => "nothing".to_owned(),
                Some(Value::Null) => "null".to_owned(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::String(_)) => "a text".to_owned(),
                Some(Value::Array(_)) => "a list".to_owned(),
                Some(Value::Object(_)) => "an object".to_owned(),
            },
        }
    }

    /// The members of an object in order; none when absent. MistServer writes `[]` for an empty
    /// object in places.
    pub(super) fn members(&self) -> Result<Vec<(&'a str, Self)>, Fault> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.is_empty() => Ok(Vec::new()),
            Some(Value::Object(members)) => Ok(members
                .iter()
                .map(|(key, value)| {
                    let node = self.child(Step::Key(key.clone()), Some(value));
                    (key.as_str(), node)
                })
                .collect()),
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            ) => Err(self.fault("an object")),
        }
    }

    /// The items of a list; none when absent. MistServer takes a single text for a list of one.
    pub(super) fn items(&self) -> Result<Vec<Self>, Fault> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::String(_)) => Ok(vec![self.clone()]),
            Some(Value::Array(items)) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, value)| self.child(Step::Index(index), Some(value)))
                .collect()),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                Err(self.fault("a list"))
            }
        }
    }

    /// A text; empty when absent. A number is taken for its digits: a password may be `1234`.
    pub(super) fn text(&self) -> Result<String, Fault> {
        match self.value {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err(self.fault("a text"))
            }
        }
    }

    pub(super) fn secret(&self) -> Result<Secret, Fault> {
        self.text().map(Secret::new)
    }

    /// A list of texts.
    pub(super) fn texts(&self) -> Result<Vec<String>, Fault> {
        self.items()?.iter().map(Self::text).collect()
    }

    /// A whole number in `range`; `default` when absent. `"5"` counts as 5: MistServer's pages
    /// write numbers as texts in places.
    pub(super) fn number<T>(&self, range: RangeInclusive<T>, default: T) -> Result<T, Fault>
    where
        T: Copy + PartialOrd + Display + TryFrom<u64>,
    {
        let number = match self.value {
            None => return Ok(default),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(default),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Bool(flag)) => Some(u64::from(*flag)),
            Some(Value::Number(number)) => number.as_u64().or_else(|| {
                let float = number.as_f64()?;
                (float.fract() == 0.0 && (0.0..1e15).contains(&float)).then_some(float as u64)
            }),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => None,
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                self.fault(format!("a whole number from {low} to {high}"))
            })
    }

    /// A number of milliseconds in `range`.
    pub(super) fn millis(
        &self,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, Fault> {
        self.number(range, default)
            .map(Duration::from_millis)
            .map_err(|fault| Fault {
                expected: fault
                    .expected
                    .replacen("number", "number of milliseconds", 1),
                ..fault
            })
    }

    /// A yes or no: a boolean, a number, or one of them as a text.
    pub(super) fn flag(&self, default: bool) -> Result<bool, Fault> {
        match self.value {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::Number(number)) => Ok(number.as_f64() != Some(0.0)),
            Some(Value::String(text)) => match text.as_str() {
                "" => Ok(default),
                "0" | "false" | "no" => Ok(false),
                "1" | "true" | "yes" => Ok(true),
                _ => Err(self.fault("true or false")),
            },
            Some(Value::Array(_) | Value::Object(_)) | Some(Value::Null) => {
                Err(self.fault("true or false"))
            }
        }
    }

    /// An address to listen on; all of IPv4 when absent.
    pub(super) fn interface(&self) -> Result<IpAddr, Fault> {
        match self.text()?.as_str() {
            "" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text
                .parse()
                .map_err(|_| self.fault("an IP address such as \"0.0.0.0\" or \"::\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_come_in_many_forms() {
        for value in [json!(5), json!("5"), json!(5.0), json!(" 5 ")] {
            assert_eq!(Node::root(&value).number(1..=9, 0).unwrap(), 5_u32);
        }
        for value in [json!(10), json!(-1), json!("x"), json!([5]), json!(5.5)] {
            let fault = Node::root(&value).number(1_u8..=9, 0).unwrap_err();
            assert_eq!(fault.expected, "a whole number from 1 to 9");
        }
        assert_eq!(Node::root(&json!("")).number(1_u8..=9, 7).unwrap(), 7);
        assert_eq!(
            Node::root(&json!({})).get("a").number(1_u8..=9, 7).unwrap(),
            7
        );
    }

    #[test]
    fn flags_come_in_many_forms() {
        for value in [json!(true), json!(1), json!("1"), json!("true")] {
            assert!(Node::root(&value).flag(false).unwrap());
        }
        for value in [json!(false), json!(0), json!("0")] {
            assert!(!Node::root(&value).flag(true).unwrap());
        }
        assert!(Node::root(&json!("maybe")).flag(true).is_err());
    }

    #[test]
    fn a_fault_does_not_repeat_a_text() {
        let fault = Node::root(&json!("secret")).fault("a list");
        assert_eq!(fault.found, "a text");
    }
}
