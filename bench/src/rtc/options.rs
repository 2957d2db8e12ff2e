//! What to do.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use ringside::proto::dtls::Versions;

use super::media::Codec;
use super::netem::Harm;
use super::sdp::Wanted;

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's HTTP port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// The server's control port, whose numbers are added to the result.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// The server's process.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The stream to publish and play; further publishers take NAME+1, NAME+2 and so on.
    #[arg(long, default_value = "live")]
    pub stream: String,
    /// How many publishers; subscribers are dealt out to their streams.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// Others publish.
    #[arg(long)]
    pub no_publisher: bool,
    /// How many subscribers.
    #[arg(long, default_value_t = 200)]
    pub subscribers: usize,
    /// Sound too, in packets of 100 bytes, 50 a second.
    #[arg(long)]
    pub audio: bool,
    /// No pictures.
    #[arg(long)]
    pub no_video: bool,
    /// `h264` or `vp8`.
    #[arg(long, default_value = "h264")]
    pub codec: Codec,
    /// Frames come this many times as often as those of 1.6 Mbit/s.
    #[arg(long, default_value_t = 1.0)]
    pub rate: f64,
    /// Versions of the handshake. What protects media is the server's choice (`webrtc.srtp`), but
    /// for `1.3`, where the server takes the first in the hello, AES-256-GCM.
    #[arg(long, default_value = "1.2")]
    pub dtls: Version,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// How long to wait before that, once all subscribers have media.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// How long to publish before the first subscriber joins.
    #[arg(long, default_value_t = 2.5)]
    pub lead: f64,
    /// `1/N`: one subscriber in N opens what it gets, asks for what is missing, and measures its
    /// age; the others count what is in the clear. All open it where the network is made bad.
    #[arg(long, default_value = "1/10")]
    pub open: Share,
    /// Threads of subscribers.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// New subscribers a second.
    #[arg(long, default_value_t = 200.0)]
    pub connect_rate: f64,
    /// Subscribers that may join at one time.
    #[arg(long, default_value_t = 64)]
    pub parallel: usize,
    /// Subscribers leave once they are connected: for what joining costs alone.
    #[arg(long)]
    pub leave: bool,
    /// Microseconds between two looks at the sockets.
    #[arg(long, default_value_t = 1000)]
    pub poll_us: u64,
    /// Subscribers take groups of packets whole (`UDP_GRO`), so that nothing is cut apart on the
    /// way, as with a network card that cuts.
    #[arg(long)]
    pub whole: bool,
    /// Percent of packets that are lost.
    #[arg(long, default_value_t = 0.0)]
    pub loss: f64,
    /// Milliseconds that packets take.
    #[arg(long, default_value_t = 0.0)]
    pub delay: f64,
    /// Percent of packets that overtake others.
    #[arg(long, default_value_t = 0.0)]
    pub reorder: f64,
    /// Which packets these are.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Which packets of a client can be: those of subscribers, or without any, those of publishers.
    #[arg(long, default_value = "receive")]
    pub harm: Way,
}

/// Versions of DTLS.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 1.2 alone.
    #[value(name = "1.2")]
    Old,
    /// 1.3 alone.
    #[value(name = "1.3")]
    New,
    /// What the server prefers.
    Both,
}

impl Version {
    pub(super) fn versions(self) -> Versions {
        match self {
            Self::Old => Versions::Dtls12,
            Self::New => Versions::Dtls13,
            Self::Both => Versions::Both,
        }
    }
}

/// Directions, as a client sees them.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// What it receives.
    Receive,
    /// What it sends.
    Send,
    /// Both.
    Both,
}

/// One in so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(pub(super) usize);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("1/").unwrap_or(text).parse().ok();
        let number = number.filter(|number| *number > 0);
        number.map(Self).ok_or_else(|| "expected 1/N".to_owned())
    }
}

impl Options {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(self.rate > 0.0 && self.seconds > 0.0 && self.connect_rate > 0.0) {
            bail!("rates and times have to be more than 0");
        }
        if self.no_video && !self.audio {
            bail!("without video there has to be --audio");
        }
        Ok(())
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            codec: self.codec,
            video: !self.no_video,
            audio: self.audio,
        }
    }

    pub(super) fn media(&self) -> &'static str {
        match (self.no_video, self.audio) {
            (false, true) => "video and audio",
            (false, false) => "video",
            (true, _) => "audio",
        }
    }

    pub(super) fn stream_name(&self, index: usize) -> String {
        match index {
            0 => self.stream.clone(),
            _ => format!("{}+{index}", self.stream),
        }
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay.max(0.0) / 1000.0)
    }

    /// What a subscriber takes for its round-trip time: that of its own network, and what the
    /// server and the looks at the sockets take.
    pub(super) fn round_trip(&self) -> Duration {
        let ways = match self.harm {
            Way::Receive | Way::Send => 1,
            Way::Both => 2,
        };
        self.delay() * ways + Duration::from_millis(5)
    }

    fn network(&self) -> Harm {
        Harm {
            loss: self.loss,
            delay: self.delay(),
            reorder: self.reorder,
        }
    }

    pub(super) fn harm_received(&self, is_harmed: bool) -> Harm {
        let is_this = is_harmed && matches!(self.harm, Way::Receive | Way::Both);
        if is_this {
            self.network()
        } else {
            Harm::default()
        }
    }

    pub(super) fn harm_sent(&self, is_harmed: bool) -> Harm {
        let is_this = is_harmed && matches!(self.harm, Way::Send | Way::Both);
        if is_this {
            self.network()
        } else {
            Harm::default()
        }
    }

    /// One subscriber in so many opens its packets.
    pub(super) fn open_every(&self) -> usize {
        if self.network().is_some() {
            1
        } else {
            self.open.0
        }
    }
}
