//! What to do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's port of spaces, which speaks no TLS.
    #[arg(long, default_value = "127.0.0.1:4000")]
    pub spaces: SocketAddr,
    /// The server's control port, whose numbers are added to the result.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// The server's process.
    #[arg(long)]
    pub pid: Option<u32>,
    /// How many players.
    #[arg(long, default_value_t = 50)]
    pub players: usize,
    /// How many spaces they are dealt out to.
    #[arg(long, default_value_t = 1)]
    pub worlds: usize,
    /// Locations of each player in a second; players take turns within this time.
    #[arg(long, default_value_t = 20.0)]
    pub hz: f64,
    /// Each player speaks too: Opus, 50 packets of 100 bytes a second.
    #[arg(long)]
    pub voice: bool,
    /// Chat messages of each player in a second.
    #[arg(long, default_value_t = 0.0)]
    pub chat: f64,
    /// Players have a WebSocket only.
    #[arg(long)]
    pub no_media: bool,
    /// New players in a second.
    #[arg(long, default_value_t = 50.0)]
    pub connect_rate: f64,
    /// Players that may be on their way in at one time.
    #[arg(long, default_value_t = 16)]
    pub parallel: usize,
    /// Microseconds between two looks at the sockets.
    #[arg(long, default_value_t = 1000)]
    pub poll_us: u64,
    /// Seconds between the last join and the measurement.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Of names and numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let is_positive = self.hz > 0.0 && self.seconds > 0.0 && self.connect_rate > 0.0;
        if !is_positive || self.players == 0 || self.worlds == 0 || self.chat < 0.0 {
            bail!("rates, counts and times have to be more than 0");
        }
        if self.no_media && self.voice {
            bail!("without media there is no --voice");
        }
        Ok(())
    }

    /// Between two locations of a player.
    pub(super) fn round(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.hz)
    }

    /// Players of a full space; the last one may have fewer.
    fn members_max(&self) -> usize {
        self.players.div_ceil(self.worlds)
    }

    /// The space of a player, and its place there: those of one space come one after the other.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        let max = self.members_max();
        (index / max, index % max)
    }

    /// Players that are in a space.
    pub(super) fn members(&self, world: usize) -> usize {
        let before = world * self.members_max();
        self.members_max().min(self.players - before)
    }
}
