//! Who has got what of each sender.

use std::collections::VecDeque;

/// What a message is to the client that it has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hearing {
    /// The next of its sender.
    Next,
    /// A later one: so many before it have not come.
    After(u32),
    /// One that has come before, or should have.
    Late,
}

/// The messages of one sender.
#[derive(Clone, Default, Debug)]
struct Flow {
    sent: u32,
    /// All have got, or will not get, what is before it.
    settled: u32,
    /// How many of the receivers are past each message from there on.
    past: VecDeque<u32>,
}

/// All senders and all receivers. Each sender receives what the others send.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    flows: Vec<Flow>,
    /// For each client and sender, the number that comes next.
    next: Vec<Vec<u32>>,
}

impl Ledger {
    /// The first `senders` of `clients` send.
    pub(super) fn new(senders: usize, clients: usize) -> Self {
        Self {
            flows: vec![Flow::default(); senders],
            next: vec![vec![0; senders]; clients],
        }
    }

    /// The number of the message that `sender` sends next.
    pub(super) fn send(&mut self, sender: usize) -> u32 {
        let flow = &mut self.flows[sender];
        flow.past.push_back(0);
        flow.sent += 1;
        flow.sent - 1
    }

    /// How many of a sender's messages somebody has not got.
    pub(super) fn under_way(&self, sender: usize) -> u32 {
        let flow = &self.flows[sender];
        flow.sent - flow.settled
    }

    /// Nobody waits for anything.
    pub(super) fn is_settled(&self) -> bool {
        self.flows.iter().all(|flow| flow.sent == flow.settled)
    }

    /// Messages that are to arrive, each at all clients but its sender.
    pub(super) fn due(&self) -> u64 {
        let others = self.next.len() as u64 - 1;
        let sent = self.flows.iter().map(|flow| u64::from(flow.sent));
        sent.sum::<u64>() * others
    }

    /// A message has come to a client. None if it cannot be one of those that were sent.
    pub(super) fn hear(&mut self, client: usize, sender: usize, number: u32) -> Option<Hearing> {
        let others = self.next.len() as u32 - 1;
        let next = self.next.get_mut(client)?.get_mut(sender)?;
        let flow = &mut self.flows[sender];
        if number >= flow.sent || client == sender {
            return None;
        }
        if number < *next {
            return Some(Hearing::Late);
        }
        let skipped = number - *next;
        for past in *next..=number {
            flow.past[(past - flow.settled) as usize] += 1;
        }
        *next = number + 1;
        while flow.past.front() == Some(&others) {
            flow.past.pop_front();
            flow.settled += 1;
        }
        Some(match skipped {
            0 => Hearing::Next,
            1.. => Hearing::After(skipped),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_under_way_until_the_slowest_has_it() {
        let mut ledger = Ledger::new(2, 3);
        assert_eq!((ledger.send(0), ledger.send(0), ledger.send(1)), (0, 1, 0));
        assert_eq!(ledger.due(), 6);
        for number in 0..2 {
            assert_eq!(ledger.hear(1, 0, number), Some(Hearing::Next));
        }
        assert_eq!(ledger.under_way(0), 2);
        assert_eq!(ledger.hear(2, 0, 0), Some(Hearing::Next));
        assert_eq!(ledger.under_way(0), 1);
        assert_eq!(ledger.hear(2, 0, 1), Some(Hearing::Next));
        assert_eq!(ledger.under_way(0), 0);
        assert!(!ledger.is_settled(), "the other one's has reached nobody");
        ledger.hear(0, 1, 0);
        ledger.hear(2, 1, 0);
        assert!(ledger.is_settled());
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_seen() {
        let mut ledger = Ledger::new(1, 2);
        for _ in 0..5 {
            ledger.send(0);
        }
        assert_eq!(ledger.hear(1, 0, 0), Some(Hearing::Next));
        assert_eq!(ledger.hear(1, 0, 3), Some(Hearing::After(2)));
        assert_eq!(ledger.hear(1, 0, 3), Some(Hearing::Late));
        assert_eq!(ledger.hear(1, 0, 1), Some(Hearing::Late));
        assert_eq!(ledger.under_way(0), 1);
        assert_eq!(ledger.hear(1, 0, 5), None, "was not sent");
        assert_eq!(ledger.hear(0, 0, 4), None, "went to its sender");
        assert_eq!(ledger.hear(1, 1, 0), None, "of nobody");
        assert_eq!(ledger.hear(2, 0, 0), None, "to nobody");
    }
}
