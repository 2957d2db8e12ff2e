//! Failed logins: whoever guesses passwords waits, longer with each guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures of an address that cost nothing: people mistype.
const FREE: u32 = 3;

/// What the next one costs; each more costs twice as much.
const DELAY_MIN: Duration = Duration::from_millis(250);

/// The add-on gives up after five seconds.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// Failures are forgotten after a time without another one.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Addresses that are remembered, 64 bytes each.
const ADDRESSES_MAX: usize = 4096;

/// The failed logins of each address.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<IpAddr, Failures>);

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Tries {
    /// How long the next login from an address has to wait.
    pub(super) fn delay(&self, now: Instant, address: IpAddr) -> Duration {
        let Some(failures) = self.0.get(&network(address)) else {
            return Duration::ZERO;
        };
        if now.saturating_duration_since(failures.last) >= FORGET_AFTER || failures.count <= FREE {
            return Duration::ZERO;
        }
        let doublings = (failures.count - FREE - 1).min(16);
        (DELAY_MIN * (1 << doublings)).min(DELAY_MAX)
    }

    /// A login has failed.
    pub(super) fn failed(&mut self, now: Instant, address: IpAddr) {
        let is_old =
            |failures: &Failures| now.saturating_duration_since(failures.last) >= FORGET_AFTER;
        let address = network(address);
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&address) {
            self.0.retain(|_, failures| !is_old(failures));
            let oldest = self.0.iter().min_by_key(|(_, failures)| failures.last);
            if let (true, Some((oldest, _))) = (self.0.len() >= ADDRESSES_MAX, oldest) {
                let oldest = *oldest;
                self.0.remove(&oldest);
            }
        }
        let failures = self.0.entry(address).or_insert(Failures {
            count: 0,
            last: now,
        });
        if is_old(failures) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }
}

/// Somebody with IPv6 usually has a whole network of 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            Ipv6Addr::from(prefix).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some time to begin at"
    )]
    fn start() -> Instant {
        <Instant>::now()
    }

    #[test]
    fn each_guess_costs_more_and_is_forgotten() {
        let mut now = start();
        let mut tries = Tries::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut delays = Vec::new();
        for _ in 0..10 {
            delays.push(tries.delay(now, address).as_millis());
            tries.failed(now, address);
        }
        assert_eq!(delays, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 4000]);
        assert!(tries.delay(now, IpAddr::from([192, 0, 2, 2])).is_zero());
        now += FORGET_AFTER;
        assert!(tries.delay(now, address).is_zero());
        tries.failed(now, address);
        assert!(tries.delay(now, address).is_zero());
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_the_number_is_bounded() {
        let mut now = start();
        let mut tries = Tries::default();
        for host in 0..5u16 {
            tries.failed(now, IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]));
        }
        let neighbour = IpAddr::from([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9]);
        assert_eq!(tries.delay(now, neighbour), DELAY_MIN * 2);
        for n in 0..ADDRESSES_MAX as u32 + 10 {
            now += Duration::from_micros(1);
            tries.failed(now, Ipv6Addr::from(u128::from(n) << 64).into());
        }
        assert_eq!(tries.0.len(), ADDRESSES_MAX);
        assert!(tries.delay(now, neighbour).is_zero(), "the oldest goes");
    }
}
