//! `core-pinning.toml`: which shard runs on which CPU, and how a shard waits.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::error::Error;
use super::position::line_and_column;

/// Where shards run and how they wait. Each value may be left out of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinning {
    /// How many media shards.
    pub shards: Count,
    /// The CPU of each media shard, in order; empty for the first CPUs the process may use.
    pub cpus: Vec<usize>,
    /// The control shard's CPU; None leaves it to the scheduler.
    pub control_cpu: Option<usize>,
    /// What runs a media shard's loop.
    pub host: Host,
    /// Entries of a ring's submission queue: a power of two from 16 to 32 768, default 256.
    pub sq_entries: u32,
    /// Entries of its completion queue: a power of two, more than `sq_entries`, to 65 536, default
    /// 4096.
    pub cq_entries: u32,
    /// The longest that a loaded shard waits for more completions: 0 to 10 000 µs, default 200.
    pub wait_max: Duration,
    /// How many completions end that wait: 1 to 4096, default 32.
    pub busy_completions: u32,
    /// Buffers that the kernel receives TCP into, for each shard: a power of two from 8 to 32 768,
    /// default 64.
    pub tcp_buffers: u16,
    /// Bytes of each: 2048 to 1 048 576, default 16 384.
    pub tcp_buffer_bytes: u32,
    /// Buffers that the kernel receives UDP into, for each shard: a power of two from 8 to 32 768,
    /// default 256. More than that leave the processor's cache.
    pub udp_buffers: u16,
    /// Bytes of each: 1536 to 65 536, default 2048.
    pub udp_buffer_bytes: u32,
}

/// How many shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// One for each CPU the process may use.
    Auto,
    /// This many, 1 to 1024.
    Fixed(u16),
}

/// What runs a media shard's loop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// A plain pinned thread.
    Thread,
    /// A task of a glommio executor.
    Glommio,
}

impl Default for Pinning {
    fn default() -> Self {
        Self {
            shards: Count::Auto,
            cpus: Vec::new(),
            control_cpu: None,
            host: Host::Thread,
            sq_entries: 256,
            cq_entries: 4096,
            wait_max: Duration::from_micros(200),
            busy_completions: 32,
            tcp_buffers: 64,
            tcp_buffer_bytes: 16_384,
            udp_buffers: 256,
            udp_buffer_bytes: 2048,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileText {
    shards: ShardsText,
    ring: RingText,
    wait: WaitText,
    receive: ReceiveText,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ShardsText {
    media: Option<Spanned<CountText>>,
    cpus: Vec<Spanned<i64>>,
    control_cpu: Option<Spanned<CountText>>,
    host: Option<Host>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RingText {
    sq_entries: Option<Spanned<i64>>,
    cq_entries: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WaitText {
    wait_us_max: Option<Spanned<i64>>,
    busy_completions: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReceiveText {
    tcp_buffers: Option<Spanned<i64>>,
    tcp_buffer_bytes: Option<Spanned<i64>>,
    udp_buffers: Option<Spanned<i64>>,
    udp_buffer_bytes: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected \"auto\" or a number")]
enum CountText {
    Number(i64),
    Word(String),
}

/// A value that is out of its range, and where it stands.
struct Fault {
    span: Range<usize>,
    name: &'static str,
    expected: String,
    found: String,
}

const CPU_MAX: i64 = 4095;

impl Pinning {
    /// Reads a file. A missing one means the defaults.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(reason) => Err(Error::Unreadable { file, reason }),
        }
    }

    /// Reads the text of a file; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let read: FileText = toml::from_str(text).map_err(|error| {
            let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
            Error::Syntax {
                file: file.to_owned(),
                line,
                column,
                message: error.message().to_owned(),
            }
        })?;
        Self::check(read).map_err(|fault| {
            let (line, column) = line_and_column(text, fault.span.start);
            Error::Value {
                file: file.to_owned(),
                line,
                column,
                path: fault.name.to_owned(),
                expected: fault.expected,
                found: fault.found,
            }
        })
    }

    fn check(read: FileText) -> Result<Self, Fault> {
        let FileText {
            shards,
            ring,
            wait,
            receive,
        } = read;
        let default = Self::default();
        let mut cpus = Vec::new();
        for cpu in &shards.cpus {
            let number = checked(cpu, "shards.cpus", 0..=CPU_MAX)? as usize;
            if cpus.contains(&number) {
                return Err(fault(cpu, "shards.cpus", "each CPU once".to_owned()));
            }
            cpus.push(number);
        }
        let count = count(shards.media.as_ref(), "shards.media", 1..=1024)?;
        let shards_count = match (&shards.media, count, cpus.len()) {
            (_, Some(count), 0) => Count::Fixed(count as u16),
            (Some(media), Some(count), listed) if count as usize != listed => {
                return Err(Fault {
                    span: media.span(),
                    name: "shards.media",
                    expected: format!("as many shards as CPUs are listed, {listed}"),
                    found: count.to_string(),
                });
            }
            (None | Some(_), None, 0) => Count::Auto,
            (None | Some(_), Some(_) | None, listed) => Count::Fixed(listed as u16),
        };
        let sq_entries = power(
            ring.sq_entries.as_ref(),
            "ring.sq_entries",
            16..=32_768,
            256,
        )?;
        let cq_entries = power(
            ring.cq_entries.as_ref(),
            "ring.cq_entries",
            32..=65_536,
            4096,
        )?;
        if let (true, Some(entries)) = (cq_entries <= sq_entries, &ring.cq_entries) {
            let expected = format!("more than sq_entries, {sq_entries}");
            return Err(fault(entries, "ring.cq_entries", expected));
        }
        Ok(Self {
            shards: shards_count,
            cpus,
            control_cpu: self::count(
                shards.control_cpu.as_ref(),
                "shards.control_cpu",
                0..=CPU_MAX,
            )?
            .map(|cpu| cpu as usize),
            host: shards.host.unwrap_or(default.host),
            sq_entries: sq_entries as u32,
            cq_entries: cq_entries.max(2 * sq_entries) as u32,
            wait_max: Duration::from_micros(number(
                wait.wait_us_max.as_ref(),
                "wait.wait_us_max",
                0..=10_000,
                200,
            )? as u64),
            busy_completions: number(
                wait.busy_completions.as_ref(),
                "wait.busy_completions",
                1..=4096,
                32,
            )? as u32,
            tcp_buffers: power(
                receive.tcp_buffers.as_ref(),
                "receive.tcp_buffers",
                8..=32_768,
                64,
            )? as u16,
            tcp_buffer_bytes: number(
                receive.tcp_buffer_bytes.as_ref(),
                "receive.tcp_buffer_bytes",
                2048..=1_048_576,
                16_384,
            )? as u32,
            udp_buffers: power(
                receive.udp_buffers.as_ref(),
                "receive.udp_buffers",
                8..=32_768,
                256,
            )? as u16,
            udp_buffer_bytes: number(
                receive.udp_buffer_bytes.as_ref(),
                "receive.udp_buffer_bytes",
                1536..=65_536,
                2048,
            )? as u32,
        })
    }
}

type Bounds = std::ops::RangeInclusive<i64>;

fn fault(value: &Spanned<i64>, name: &'static str, expected: String) -> Fault {
    Fault {
        span: value.span(),
        name,
        expected,
        found: value.get_ref().to_string(),
    }
}

fn checked(value: &Spanned<i64>, name: &'static str, bounds: Bounds) -> Result<i64, Fault> {
    let number = *value.get_ref();
    if bounds.contains(&number) {
        return Ok(number);
    }
    let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
    Err(fault(value, name, expected))
}

fn number(
    value: Option<&Spanned<i64>>,
    name: &'static str,
    bounds: Bounds,
    default: i64,
) -> Result<i64, Fault> {
    value.map_or(Ok(default), |value| checked(value, name, bounds))
}

/// The kernel takes ring sizes and buffer counts that are powers of two.
fn power(
    value: Option<&Spanned<i64>>,
    name: &'static str,
    bounds: Bounds,
    default: i64,
) -> Result<i64, Fault> {
    let number = number(value, name, bounds.clone(), default)?;
    match value {
        Some(value) if number.count_ones() != 1 => {
            let expected = format!("a power of two from {} to {}", bounds.start(), bounds.end());
            Err(fault(value, name, expected))
        }
        Some(_) | None => Ok(number),
    }
}

/// A number, or None for `"auto"` and for nothing.
fn count(
    value: Option<&Spanned<CountText>>,
    name: &'static str,
    bounds: Bounds,
) -> Result<Option<i64>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let found = match value.get_ref() {
        CountText::Word(word) if word == "auto" => return Ok(None),
        CountText::Number(number) if bounds.contains(number) => return Ok(Some(*number)),
        CountText::Number(number) => number.to_string(),
        CountText::Word(word) => format!("\"{word}\""),
    };
    Err(Fault {
        span: value.span(),
        name,
        expected: format!(
            "\"auto\" or a number from {} to {}",
            bounds.start(),
            bounds.end()
        ),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Pinning::parse(text, "p.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_file_of_the_repository_is_the_default() {
        let text = include_str!("../../core-pinning.toml");
        assert_eq!(
            Pinning::parse(text, "core-pinning.toml").unwrap(),
            Pinning::default()
        );
        assert_eq!(
            Pinning::parse("", "core-pinning.toml").unwrap(),
            Pinning::default()
        );
    }

    #[test]
    fn a_file_is_read() {
        let text = "[shards]\nmedia = 2\ncpus = [1, 3]\ncontrol_cpu = 0\nhost = \"glommio\"\n\
                    [wait]\nwait_us_max = 50\n[receive]\ntcp_buffers = 128";
        let pinning = Pinning::parse(text, "p.toml").unwrap();
        assert_eq!(pinning.shards, Count::Fixed(2));
        assert_eq!(pinning.cpus, [1, 3]);
        assert_eq!(pinning.control_cpu, Some(0));
        assert_eq!(pinning.host, Host::Glommio);
        assert_eq!(pinning.wait_max, Duration::from_micros(50));
        assert_eq!(pinning.tcp_buffers, 128);
    }

    #[test]
    fn a_list_of_cpus_says_how_many_shards() {
        let pinning = Pinning::parse("[shards]\ncpus = [4, 5, 6]", "p.toml").unwrap();
        assert_eq!(pinning.shards, Count::Fixed(3));
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(
            error("[ring]\nsq_entries = 300"),
            "p.toml:2:14: ring.sq_entries: expected a power of two from 16 to 32768, found 300"
        );
        assert_eq!(
            error("[wait]\n\n wait_us_max = 20000"),
            "p.toml:3:16: wait.wait_us_max: expected a number from 0 to 10000, found 20000"
        );
        assert_eq!(
            error("[shards]\nmedia = \"all\""),
            "p.toml:2:9: shards.media: expected \"auto\" or a number from 1 to 1024, found \"all\""
        );
        assert_eq!(
            error("[shards]\nmedia = 3\ncpus = [1]"),
            "p.toml:2:9: shards.media: expected as many shards as CPUs are listed, 1, found 3"
        );
        assert_eq!(
            error("[shards]\ncpus = [1, 1]"),
            "p.toml:2:12: shards.cpus: expected each CPU once, found 1"
        );
        assert_eq!(
            error("[ring]\nsq_entries = 4096\ncq_entries = 4096"),
            "p.toml:3:14: ring.cq_entries: expected more than sq_entries, 4096, found 4096"
        );
        assert!(error("[shard]").starts_with("p.toml:1:2: unknown field `shard`"));
        assert!(error("[ring]\nsq_entries = true").starts_with("p.toml:2:14: "));
        assert!(error("a = ").starts_with("p.toml:1:"));
        assert!(error("[shards]\nhost = \"fork\"").starts_with("p.toml:2:8: unknown variant"));
    }
}
