//! What is counted.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What is counted since the start.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames that were understood.
    requests,
    /// Frames that mean nothing.
    malformed,
    /// Frames above the bound of their dialect.
    oversized,
    /// Requests beyond what a player may do in a second.
    too_often,
    /// Requests with more in them than is taken.
    too_much,
    /// Requests for something that is not there: a space that the player is not in, a transport that it
    /// has not made.
    out_of_place,
    /// Players who were refused because a space is full.
    full,
    /// Players who were refused for another bound.
    over_limit,
    /// Players who were refused for their token.
    unauthorised,
    /// Players who were refused because they are banned.
    banned,
    /// Players who were put out.
    kicked,
    /// Players who came back in time.
    resumed,
    /// Transports that could not be made.
    transports_refused,
    /// Transports that have ended by themselves.
    transports_gone,
    /// Frames that would have been taken for the server's word.
    forged,
    /// Connections that are gone because they did not read.
    overfull,
    /// Entries.
    joins,
    /// Messages to players.
    told,
}
