//! One delta. Its parts are applied in the order in which deepdiff applies them.

use super::path::parse;
use super::{Step, Unfolded};
use crate::proto::pickle::{Class, Dict, Value};

/// Parts that are applied here.
const PARTS: &[&str] = &[
    "values_changed",
    "type_changes",
    "_iterable_opcodes",
    "iterable_item_removed",
    "iterable_item_added",
    "dictionary_item_added",
    "dictionary_item_removed",
];

/// More in one part are not worth folding: each one looks for its place from the root.
const CHANGES_MAX: usize = 4096;

pub(super) fn apply(data: &mut Value, delta: Value) -> Result<(), Unfolded> {
    let Value::Dict(delta) = delta else {
        return Err(Unfolded::Change);
    };
    let is_known =
        |(key, _): &(Value, Value)| key.as_text().is_some_and(|key| PARTS.contains(&key));
    if !delta.iter().all(is_known) {
        return Err(Unfolded::Change);
    }
    let part = |name: &str| match delta.of(name) {
        Some(Value::Dict(changes)) => entries(changes),
        Some(_) => Err(Unfolded::Change),
        None => Ok(Vec::new()),
    };
    for (path, change) in part("values_changed")? {
        let new = changed(change)?.ok_or(Unfolded::Change)?;
        *place(data, &path)? = new;
    }
    for (path, change) in part("type_changes")? {
        let place = place(data, &path)?;
        *place = match changed(change)? {
            Some(new) => new,
            None => converted(place, change)?,
        };
    }
    for (path, opcodes) in part("_iterable_opcodes")? {
        let list = place_of_all(data, &path)?;
        rearrange(list, opcodes)?;
    }
    // Bigger indexes go first, so that the others stay what they are.
    let mut removed = part("iterable_item_removed")?;
    removed.sort_by(|(one, _), (two, _)| two.cmp(one));
    for (path, expected) in removed {
        let (list, index) = item(data, &path)?;
        // deepdiff looks for the nearest equal item when another is there.
        if list.get(index) != Some(expected) {
            return Err(Unfolded::Place);
        }
        list.remove(index);
    }
    let mut added = part("iterable_item_added")?;
    added.sort_by(|(one, _), (two, _)| one.cmp(two));
    for (path, new) in added {
        let (list, index) = item(data, &path)?;
        if index > list.len() {
            return Err(Unfolded::Place);
        }
        list.insert(index, new.clone());
    }
    for (path, new) in part("dictionary_item_added")? {
        let (dict, key) = entry(data, &path)?;
        dict.set(key, new.clone());
    }
    let mut removed = part("dictionary_item_removed")?;
    removed.sort_by(|(one, _), (two, _)| two.cmp(one));
    for (path, _) in removed {
        let (dict, key) = entry(data, &path)?;
        if !dict.remove(&key) {
            return Err(Unfolded::Place);
        }
    }
    Ok(())
}

/// The paths of a part, and what is to be done there.
fn entries<'a>(changes: &'a Dict) -> Result<Vec<(Vec<Step>, &'a Value)>, Unfolded> {
    if changes.len() > CHANGES_MAX {
        return Err(Unfolded::Change);
    }
    let read = |(path, change): &'a (Value, Value)| {
        let path = path.as_text().ok_or(Unfolded::Path)?;
        Ok((parse(path)?, change))
    };
    changes.iter().map(read).collect()
}

/// The new value, unless it follows from the new type.
fn changed(change: &Value) -> Result<Option<Value>, Unfolded> {
    let change = change.as_dict().ok_or(Unfolded::Change)?;
    let is_known = |(key, _): &(Value, Value)| {
        matches!(
            key.as_text(),
            Some("new_value" | "old_value" | "new_type" | "old_type")
        )
    };
    if !change.iter().all(is_known) {
        return Err(Unfolded::Change);
    }
    match change.of("new_value") {
        Some(new) if !new.is_plain() => Err(Unfolded::Change),
        new => Ok(new.cloned()),
    }
}

/// What the new type makes of the old value: deepdiff leaves out a new value that comes so.
fn converted(old: &Value, change: &Value) -> Result<Value, Unfolded> {
    let new_type = change.as_dict().and_then(|change| change.of("new_type"));
    let Some(Value::Class(class)) = new_type else {
        return Err(Unfolded::Change);
    };
    // Up to here a double holds every whole number.
    const EXACT: i64 = 1 << 53;
    match (class_name(*class), old) {
        ("float", old) => match old.as_int() {
            Some(number) if number.abs() <= EXACT => Ok(Value::Float(number as f64)),
            Some(_) | None => Err(Unfolded::Change),
        },
        ("int", Value::Bool(truth)) => Ok(Value::Int(i64::from(*truth))),
        ("int", Value::Float(number)) if number.abs() <= EXACT as f64 => {
            Ok(Value::Int(*number as i64))
        }
        ("bool", Value::Int(number)) => Ok(Value::Bool(*number != 0)),
        ("bool", Value::Float(number)) => Ok(Value::Bool(*number != 0.0)),
        ("bool", Value::None) => Ok(Value::Bool(false)),
        ("str", Value::Int(number)) => Ok(Value::Text(number.to_string())),
        ("list", Value::Tuple(items)) => Ok(Value::List(items.clone())),
        ("tuple", Value::List(items)) => Ok(Value::Tuple(items.clone())),
        _ => Err(Unfolded::Change),
    }
}

fn class_name(class: Class) -> &'static str {
    match class.name() {
        ("builtins", name) => name,
        _ => "",
    }
}

/// Puts a list together from pieces of the old one and new items.
fn rearrange(list: &mut Vec<Value>, opcodes: &Value) -> Result<(), Unfolded> {
    let mut made = Vec::new();
    for opcode in opcodes.as_items().ok_or(Unfolded::Change)? {
        let Value::Object(Class::OPCODE, fields) = opcode else {
            return Err(Unfolded::Change);
        };
        // tag, from and to in the old list, from and to in the new one, old values, new values
        let [tag, from, to, _, _, _, new] = fields.as_slice() else {
            return Err(Unfolded::Change);
        };
        match tag.as_text() {
            Some("equal") => {
                let index = |value: &Value| {
                    let index = value.as_int().and_then(|index| usize::try_from(index).ok());
                    index.ok_or(Unfolded::Change)
                };
                let kept = list.get(index(from)?..index(to)?).ok_or(Unfolded::Place)?;
                // Opcodes of a real difference keep each item once.
                if made.len() + kept.len() > ITEMS_MAX {
                    return Err(Unfolded::Change);
                }
                made.extend_from_slice(kept);
            }
            Some("replace" | "insert") => {
                let Value::List(new) = new else {
                    return Err(Unfolded::Change);
                };
                if !new.iter().all(Value::is_plain) {
                    return Err(Unfolded::Change);
                }
                made.extend_from_slice(new);
            }
            Some("delete") => {}
            Some(_) | None => return Err(Unfolded::Change),
        }
    }
    *list = made;
    Ok(())
}

/// A chain whose lists grow beyond this is not worth folding.
const ITEMS_MAX: usize = 1 << 20;

/// The value at the end of a path.
fn at_end<'a>(data: &'a mut Value, path: &[Step]) -> Result<&'a mut Value, Unfolded> {
    path.iter()
        .try_fold(data, |value, step| match (value, step) {
            (Value::List(items), Step::Index(index)) => {
                items.get_mut(*index).ok_or(Unfolded::Place)
            }
            (Value::Dict(dict), Step::Key(_)) => {
                dict.of_key_mut(&step.as_key()?).ok_or(Unfolded::Place)
            }
            _ => Err(Unfolded::Place),
        })
}

/// The same for a value that is replaced; the root never is.
fn place<'a>(data: &'a mut Value, path: &[Step]) -> Result<&'a mut Value, Unfolded> {
    if path.is_empty() {
        return Err(Unfolded::Path);
    }
    at_end(data, path)
}

fn place_of_all<'a>(data: &'a mut Value, path: &[Step]) -> Result<&'a mut Vec<Value>, Unfolded> {
    if let Value::List(items) = place(data, path)? {
        Ok(items)
    } else {
        Err(Unfolded::Place)
    }
}

/// The list that a path's last step is an index of.
fn item<'a>(data: &'a mut Value, path: &[Step]) -> Result<(&'a mut Vec<Value>, usize), Unfolded> {
    let Some((Step::Index(index), before)) = path.split_last() else {
        return Err(Unfolded::Path);
    };
    Ok((place_of_all(data, before)?, *index))
}

/// The dict that a path's last step is a key of.
fn entry<'a>(data: &'a mut Value, path: &[Step]) -> Result<(&'a mut Dict, Value), Unfolded> {
    let (last, before) = path.split_last().ok_or(Unfolded::Path)?;
    if let Value::Dict(dict) = at_end(data, before)? {
        Ok((dict, last.as_key()?))
    } else {
        Err(Unfolded::Place)
    }
}
