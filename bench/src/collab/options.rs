//! What to do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use ringside::proto::replication::Wire;

/// What a sender sends.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum What {
    /// Changes of a node's few values, of about 250 bytes.
    Change,
    /// Whole nodes of `--node-bytes`.
    Node,
}

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The session's first port: commands of generations A and B, and all of generation C. What else
    /// generation B has goes to the two ports behind it, and of generation A to the three.
    #[arg(long, default_value = "127.0.0.1:5555")]
    pub session: SocketAddr,
    /// The server's control port, whose numbers are added to the result.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The session's password; empty for none.
    #[arg(long, default_value = "")]
    pub server_password: String,
    /// The administrator's password, which the first client gives.
    #[arg(long, default_value = "admin")]
    pub admin_password: String,
    /// Clients of generation A (ZeroMQ, four ports), which have a session to themselves and always send
    /// whole nodes; 0 to 500.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    pub generation_a: u16,
    /// Clients of generation B (ZeroMQ, three ports); 0 to 500.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    pub generation_b: u16,
    /// Clients of generation C (one port, three connections); 0 to 500. 10 if this is not said, and none
    /// beside generation A.
    #[arg(long, value_parser = clap::value_parser!(u16).range(..=500))]
    pub generation_c: Option<u16>,
    /// The version that clients of generation A say they are.
    #[arg(long, default_value = "0.1.26")]
    pub version_a: String,
    /// The version that clients of generation B say they are.
    #[arg(long, default_value = "0.9.11")]
    pub version_b: String,
    /// The version that clients of generation C say they are.
    #[arg(long, default_value = "0.10.2")]
    pub version_c: String,
    /// Clients that send, each to nodes of its own; 1 to 500. Clients of both generations do.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub senders: u16,
    /// What they send: changes if this is not said, and nodes with generation A.
    #[arg(long, value_enum)]
    pub what: Option<What>,
    /// Messages of each sender in a second; 0 to 100 000, and 0 sends nothing.
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Instead of a rate: each sender has so many messages under way to the slowest client, 1 to
    /// 100 000, and sends the next one when that has got the oldest.
    #[arg(long, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub window: Option<u32>,
    /// Nodes of the scene; 1 to 100 000.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub nodes: u32,
    /// Bytes of a node's data; 1024 to 268 435 456.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1024..=1 << 28))]
    pub node_bytes: u32,
    /// Clients that come late, one after the other, once nobody sends any more; 0 to 500.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    pub joins: u16,
    /// Clients that may be on their way in at one time before the measurement; 1 to 100.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub parallel: u16,
    /// Seconds between the last arrival and the measurement; 0 to 600. The server gives the one that
    /// brought the scene up to 3 s to read that it is complete, and sends it nothing before.
    #[arg(long, default_value_t = 4.0)]
    pub warmup: f64,
    /// Seconds that are measured; 0 to 86 400.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Of names and of the nodes' bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(0.0..=100_000.0).contains(&self.rate) {
            bail!("--rate is 0 to 100 000 messages a second");
        }
        if !(0.0..=600.0).contains(&self.warmup) || !(0.0..=86_400.0).contains(&self.seconds) {
            bail!("--warmup is 0 to 600 and --seconds 0 to 86 400");
        }
        let is_four = self.generation_a > 0;
        if is_four && (self.generation_b > 0 || self.generation_c() > 0) {
            bail!("a session has clients of generation A, or of generations B and C");
        }
        if is_four && self.what() == What::Change {
            bail!("generation A has no changes: --what node");
        }
        if self.clients() < 2 {
            bail!("a session has two clients at least");
        }
        if usize::from(self.senders) > self.clients() {
            bail!("there are more --senders than clients");
        }
        if u32::from(self.senders) > self.nodes {
            bail!("each sender needs a node of its own: more --nodes");
        }
        Ok(())
    }

    pub(super) fn generation_c(&self) -> u16 {
        let otherwise = if self.generation_a > 0 { 0 } else { 10 };
        self.generation_c.unwrap_or(otherwise)
    }

    /// What senders send.
    pub(super) fn what(&self) -> What {
        self.what.unwrap_or(match self.generation_a {
            0 => What::Change,
            1.. => What::Node,
        })
    }

    /// Clients that are there from the beginning.
    pub(super) fn clients(&self) -> usize {
        let counts = [self.generation_a, self.generation_b, self.generation_c()];
        counts.map(usize::from).iter().sum()
    }

    /// Those and the late ones.
    pub(super) fn all(&self) -> usize {
        self.clients() + usize::from(self.joins)
    }

    /// The generation of a client. B and C take turns, so that the senders, which are the first of
    /// them, are of both.
    pub(super) fn wire(&self, index: usize) -> Wire {
        if self.generation_a > 0 {
            return Wire::FourPorts;
        }
        let (b, c) = (
            usize::from(self.generation_b),
            usize::from(self.generation_c()),
        );
        // The late ones take turns anew.
        let index = if index < b + c { index } else { index - b - c };
        let both = 2 * b.min(c);
        let is_b = if index < both { index % 2 == 0 } else { b > c };
        if is_b { Wire::Zmtp } else { Wire::Tcp }
    }

    /// Between two messages of a sender; None where time does not make it send.
    pub(super) fn every(&self) -> Option<Duration> {
        let has_rate = self.window.is_none() && self.rate > 0.0;
        has_rate.then(|| Duration::from_secs_f64(1.0 / self.rate))
    }
}

/// A command line that has nothing else, for tests.
#[cfg(test)]
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

#[cfg(test)]
impl Options {
    pub(super) fn of(arguments: &[&str]) -> Result<Self, clap::Error> {
        let all = ["load"].iter().chain(arguments);
        <Line as clap::Parser>::try_parse_from(all).map(|line| line.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_take_turns() {
        let options =
            Options::of(&["--generation-b", "2", "--generation-c", "5", "--joins", "3"]).unwrap();
        options.check().unwrap();
        let (b, c) = (Wire::Zmtp, Wire::Tcp);
        let wires: Vec<Wire> = (0..options.all()).map(|it| options.wire(it)).collect();
        assert_eq!(wires, [b, c, b, c, c, c, c, b, c, b]);
    }

    #[test]
    fn generation_a_is_alone_and_sends_nodes() {
        let options = Options::of(&["--generation-a", "2", "--joins", "1"]).unwrap();
        options.check().unwrap();
        assert_eq!((options.clients(), options.what()), (2, What::Node));
        assert!((0..options.all()).all(|index| options.wire(index) == Wire::FourPorts));
        for (wrong, reason) in [
            (["--generation-b", "1"], "of generation A, or of"),
            (["--generation-c", "1"], "of generation A, or of"),
            (["--what", "change"], "no changes"),
        ] {
            let all = [&["--generation-a", "2"], &wrong[..]].concat();
            let refused = Options::of(&all).unwrap().check().unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            &["--generation-c", "1"][..],
            &["--senders", "11", "--nodes", "20"],
            &["--senders", "5"],
            &["--rate", "-1"],
            &["--seconds", "1e9"],
        ] {
            // A negative number looks like an option, which is refused as well.
            let is_taken = Options::of(wrong).is_ok_and(|options| options.check().is_ok());
            assert!(!is_taken, "{wrong:?}");
        }
        assert!(Options::of(&["--rate", "1", "--window", "4"]).is_err());
        let every = |arguments: &[&str]| Options::of(arguments).unwrap().every();
        assert_eq!(every(&["--window", "4"]), None);
        assert_eq!(every(&["--rate", "4"]), Some(Duration::from_millis(250)));
    }
}
