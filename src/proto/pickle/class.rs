//! The classes that a delta may name: the list that deepdiff's own loader accepts.

/// A class of that list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class(u8);

/// Module and name; the class's number is the place here.
const CLASSES: &[(&str, &str)] = &[
    ("builtins", "NoneType"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "slice"),
    ("deepdiff.helper", "Opcode"),
    ("deepdiff.helper", "SetOrdered"),
    ("builtins", "range"),
    ("builtins", "complex"),
    ("builtins", "str"),
    ("builtins", "bytes"),
    ("builtins", "list"),
    ("builtins", "tuple"),
    ("builtins", "int"),
    ("builtins", "float"),
    ("builtins", "dict"),
    ("builtins", "bool"),
    ("builtins", "bin"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("decimal", "Decimal"),
    ("uuid", "UUID"),
    ("orderly_set.sets", "OrderedSet"),
    ("orderly_set.sets", "OrderlySet"),
    ("orderly_set.sets", "StableSetEq"),
    ("collections", "namedtuple"),
    ("collections", "OrderedDict"),
    ("re", "Pattern"),
];

/// The only persistent identifier that deepdiff writes.
pub(super) const NONE_TYPE: &str = "<<NoneType>>";

impl Class {
    /// The type of `None`, which deepdiff writes as a persistent identifier.
    pub const NONE_TYPE: Self = Self(0);
    /// `deepdiff.helper.Opcode`.
    pub const OPCODE: Self = Self(4);

    /// The class of that name, unless it is not on the list.
    pub fn named(module: &str, name: &str) -> Option<Self> {
        let at = CLASSES
            .iter()
            .skip(1)
            .position(|known| *known == (module, name))?;
        u8::try_from(at + 1).ok().map(Self)
    }

    /// Its module and name.
    pub fn name(self) -> (&'static str, &'static str) {
        CLASSES[usize::from(self.0)]
    }

    /// Whether a delta may make one. A `range` or `bytes` made by a sender could be of any size.
    pub(super) fn can_be_made(self) -> bool {
        (1..=5).contains(&self.0)
    }

    pub(super) fn number(self) -> u32 {
        u32::from(self.0)
    }

    pub(super) fn numbered(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < CLASSES.len()).then_some(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_the_constants_say() {
        assert_eq!(Class::named("builtins", "NoneType"), None, "by id only");
        assert_eq!(
            Class::named("deepdiff.helper", "Opcode"),
            Some(Class::OPCODE)
        );
        assert_eq!(Class::named("os", "system"), None);
        let made: Vec<_> = (0..CLASSES.len() as u32)
            .filter_map(Class::numbered)
            .filter(|class| class.can_be_made())
            .map(|class| class.name().1)
            .collect();
        assert_eq!(made, ["set", "frozenset", "slice", "Opcode", "SetOrdered"]);
    }
}
