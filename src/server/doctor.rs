//! Why the server cannot run here, and the line that mends it.
//!
//! `ringside doctor` prints every finding; `serve` prints the same ones and stops when one of them
//! is a failure, so that a refusal is never a panic from deep inside an executor.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::WebRtc;
use crate::io::probe::{self, Limit, Refusal, Resource, Step};

/// glommio refuses to make an executor with less.
const LOCKED_MEMORY_BYTES_MIN: u64 = 512 * 1024;
/// One descriptor per connection: below this a busy server meets the limit before the hardware's.
const DESCRIPTORS_WANTED: u64 = 65_536;
/// The server's own descriptors (rings, listeners, eventfds, files) and a few hundred connections.
const DESCRIPTORS_MIN: u64 = 1024;
/// A server that takes longer to say so is not well.
const HEALTH_MAX: Duration = Duration::from_secs(1);
/// Multishot receive is 6.0, DEFER_TASKRUN is 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);

const _: () = assert!(DESCRIPTORS_MIN < DESCRIPTORS_WANTED);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Ok,
    /// The server runs, but not as well or for as many as it could.
    Warn,
    /// The server does not start.
    Fail,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub level: Level,
    pub what: String,
    /// The line that mends it, ready to be copied.
    pub mend: Option<String>,
}

/// Looks at everything the server needs: the kernel's ring, limits, CPUs and `ports` (what each is
/// for, and where it listens).
///
/// Soft limits are raised to the hard ones first, so they are judged as the server will have them.
pub fn examine(ports: &[(String, SocketAddr)]) -> Vec<Finding> {
    let surroundings = Surroundings::read();
    // The limits first: raising them is what lets the ring be made.
    let limits = limits();
    let mut findings = vec![match probe::ring() {
        Ok(()) => Finding::ok(format!(
            "io_uring works (Linux {}.{})",
            surroundings.kernel.0, surroundings.kernel.1
        )),
        Err(refusal) => explain_ring(refusal, &surroundings),
    }];
    findings.extend(limits);
    findings.extend(cpus());
    findings.extend(ports.iter().map(|(purpose, address)| {
        port(
            purpose,
            *address,
            Transport::Tcp,
            &probe::tcp_bind(*address),
        )
    }));
    findings
}

/// Looks at the ports of WebRTC that so many shards use, and names the addresses that peers are told.
pub fn examine_webrtc(webrtc: &WebRtc, shards: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for number in webrtc.ports.used_by(shards) {
        let address = SocketAddr::new(webrtc.interface, number);
        let udp = probe::udp_bind(address);
        findings.push(port("WebRTC by UDP", address, Transport::Udp, &udp));
        if webrtc.tcp {
            let tcp = probe::tcp_bind(address);
            findings.push(port("WebRTC by TCP", address, Transport::Tcp, &tcp));
        }
    }
    findings.push(announced(webrtc, &crate::io::addresses()));
    findings
}

fn announced(webrtc: &WebRtc, local: &io::Result<Vec<IpAddr>>) -> Finding {
    const MEND: &str = "{\"webrtc\": {\"announced\": [\"ADDRESS\"]}} in config.json, or \
         MEDIASOUP_ANNOUNCED_IP, with the address that peers send to";
    let local = match local {
        Ok(local) => local.as_slice(),
        Err(error) if webrtc.announced.is_empty() => {
            return Finding::warn(
                format!("WebRTC: the machine's addresses cannot be read: {error}"),
                Some(MEND.to_owned()),
            );
        }
        Err(_) => &[],
    };
    let addresses = webrtc.announce(local);
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let what = format!("WebRTC: peers are told {}", list.join(", "));
    let is_local = addresses.iter().all(IpAddr::is_loopback);
    // On an interface that was chosen, loopback is what was asked for.
    match is_local && webrtc.announced.is_empty() && webrtc.interface.is_unspecified() {
        true => Finding::warn(
            format!("{what}, which only this machine reaches"),
            Some(MEND.to_owned()),
        ),
        false => Finding::ok(what),
    }
}

/// Whether every shard's CPU is one this process may run on.
pub fn examine_pinning(wanted: &[usize]) -> Finding {
    match probe::cpus() {
        Ok(allowed) => explain_pinning(wanted, &allowed),
        Err(error) => Finding::warn(format!("the CPU affinity cannot be read: {error}"), None),
    }
}

/// Whether the server whose control port is at `address` says that it is well.
///
/// For a container's health check: an image without a shell has nothing else to ask with.
pub fn is_healthy(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_MAX)?;
    stream.set_read_timeout(Some(HEALTH_MAX))?;
    stream.set_write_timeout(Some(HEALTH_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status_line = [0; b"HTTP/1.1 200".len()];
    stream.read_exact(&mut status_line)?;
    Ok(status_line.ends_with(b" 200"))
}

/// Prints the findings, worst last, and says whether the server can start.
pub fn print(findings: &[Finding], out: &mut impl Write) -> io::Result<bool> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.level);
    for finding in sorted {
        let mark = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(out, "{mark}  {}", finding.what)?;
        for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
            writeln!(out, "      -> {line}")?;
        }
    }
    Ok(findings.iter().all(|finding| finding.level != Level::Fail))
}

impl Finding {
    fn ok(what: String) -> Self {
        Self {
            level: Level::Ok,
            what,
            mend: None,
        }
    }

    fn warn(what: String, mend: Option<String>) -> Self {
        Self {
            level: Level::Warn,
            what,
            mend,
        }
    }

    fn fail(what: String, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            what,
            mend: Some(mend.into()),
        }
    }
}

/// What the process can read about where it runs; it tells apart causes that share an errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Surroundings {
    /// `kernel.io_uring_disabled`; absent before Linux 6.6.
    uring_disabled: Option<u32>,
    /// Whether a seccomp filter is on.
    filtered: bool,
    kernel: (u32, u32),
}

impl Surroundings {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            uring_disabled: text("/proc/sys/kernel/io_uring_disabled")
                .trim()
                .parse()
                .ok(),
            filtered: seccomp_mode(&text("/proc/self/status")) == Some(2),
            kernel: kernel_version(&text("/proc/sys/kernel/osrelease")).unwrap_or((0, 0)),
        }
    }
}

fn seccomp_mode(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))?;
    line.trim().parse().ok()
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

const MEND_SECCOMP: &str = "docker run --security-opt seccomp=deploy/seccomp.json ... \
     (a systemd unit: SystemCallFilter=@system-service @io-uring)";
const MEND_MEMLOCK: &str = "docker run --ulimit memlock=-1 ... \
     (a systemd unit: LimitMEMLOCK=infinity; a shell: ulimit -l unlimited, as root)";
const MEND_NOFILE: &str = "docker run --ulimit nofile=1048576 ... \
     (a systemd unit: LimitNOFILE=1048576; a shell: ulimit -n 1048576, as root)";

fn explain_ring(refusal: Refusal, around: &Surroundings) -> Finding {
    let call = match refusal.step {
        Step::Setup => "io_uring_setup",
        Step::Register | Step::BufferRing => "io_uring_register",
        Step::Enter => "io_uring_enter",
        Step::Operation(name) => {
            return old_kernel(&format!("io_uring has no operation {name}"), around);
        }
    };
    let (major, minor) = around.kernel;
    match refusal.errno {
        libc::EPERM | libc::EACCES => match around.uring_disabled {
            Some(2) => Finding::fail(
                format!("{call} is refused (EPERM): the sysctl kernel.io_uring_disabled is 2"),
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            Some(1) if !around.filtered => Finding::fail(
                format!(
                    "{call} is refused (EPERM): the sysctl kernel.io_uring_disabled is 1, which \
                     leaves io_uring to the group kernel.io_uring_group"
                ),
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            Some(_) | None => Finding::fail(
                format!(
                    "{call} is refused (EPERM): a seccomp profile blocks it{} (Docker 25 and \
                     later do by default)",
                    if around.filtered {
                        ""
                    } else {
                        " or a security module does"
                    }
                ),
                MEND_SECCOMP,
            ),
        },
        libc::ENOSYS if (major, minor) >= KERNEL_MIN => Finding::fail(
            format!(
                "{call} is missing (ENOSYS) although Linux {major}.{minor} has it: a seccomp \
                 profile hides it, or the kernel was built without CONFIG_IO_URING"
            ),
            MEND_SECCOMP,
        ),
        libc::ENOSYS => old_kernel(&format!("{call} is missing (ENOSYS)"), around),
        libc::ENOMEM => Finding::fail(
            format!("{call} gets no memory (ENOMEM): the limit on locked memory is too low"),
            MEND_MEMLOCK,
        ),
        libc::EINVAL => old_kernel(
            &format!("{call} does not know a flag the server needs (EINVAL)"),
            around,
        ),
        libc::EMFILE | libc::ENFILE => Finding::fail(
            format!("{call} gets no descriptor: the limit on open files is too low"),
            MEND_NOFILE,
        ),
        errno => Finding::fail(
            format!("{call} fails: {}", io::Error::from_raw_os_error(errno)),
            format!("dmesg | tail (Linux {major}.{minor}; no known cause has this error)"),
        ),
    }
}

fn old_kernel(what: &str, around: &Surroundings) -> Finding {
    let (major, minor) = around.kernel;
    Finding::fail(
        format!(
            "{what}: Linux {major}.{minor} is older than {}.{}",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
        "run a kernel of 6.1 or later (Debian 12 has one)",
    )
}

fn limits() -> Vec<Finding> {
    if let Err(error) = probe::raise_limits() {
        return vec![Finding::warn(
            format!("the soft limits cannot be raised: {error}"),
            None,
        )];
    }
    [Resource::LockedMemory, Resource::Descriptors]
        .into_iter()
        .map(|resource| match (probe::limit(resource), resource) {
            (Ok(limit), Resource::LockedMemory) => locked_memory(limit),
            (Ok(limit), Resource::Descriptors) => descriptors(limit),
            (Err(error), _) => Finding::warn(format!("{resource:?}: limit unknown: {error}"), None),
        })
        .collect()
}

fn locked_memory(limit: Limit) -> Finding {
    let amount = if limit.soft == u64::MAX {
        "no limit".to_owned()
    } else {
        format!("{} KiB", limit.soft / 1024)
    };
    if limit.soft < LOCKED_MEMORY_BYTES_MIN {
        return Finding::fail(
            format!(
                "locked memory (memlock): {amount}, and the rings need {} KiB",
                LOCKED_MEMORY_BYTES_MIN / 1024
            ),
            MEND_MEMLOCK,
        );
    }
    Finding::ok(format!("locked memory (memlock): {amount}"))
}

fn descriptors(limit: Limit) -> Finding {
    let count = limit.soft;
    let mend = MEND_NOFILE.to_owned();
    if count < DESCRIPTORS_MIN {
        return Finding::fail(
            format!("open files (nofile): {count}, and {DESCRIPTORS_MIN} is the least"),
            mend,
        );
    }
    if count < DESCRIPTORS_WANTED {
        return Finding::warn(
            format!("open files (nofile): {count}, so at most about as many connections"),
            Some(mend),
        );
    }
    Finding::ok(format!("open files (nofile): {count}"))
}

fn cpus() -> Vec<Finding> {
    let allowed = match probe::cpus() {
        Ok(allowed) => allowed,
        Err(error) => {
            return vec![Finding::warn(
                format!("the CPU affinity cannot be read: {error}"),
                None,
            )];
        }
    };
    let quota = fs::read_to_string("/sys/fs/cgroup/cpu.max").unwrap_or_default();
    vec![cpu_quota(allowed.len(), &quota)]
}

/// `cpu.max` is `$MAX $PERIOD` in microseconds, `max` for no quota (cgroup v2).
fn cpu_quota(allowed: usize, cpu_max: &str) -> Finding {
    let mut fields = cpu_max.split_whitespace().map(str::parse::<f64>);
    if let (Some(Ok(share_us)), Some(Ok(period_us))) = (fields.next(), fields.next()) {
        let cpus = share_us / period_us;
        // A quota below the CPUs in sight stops every shard for part of each period.
        if cpus + 0.01 < allowed as f64 {
            return Finding::warn(
                format!(
                    "{allowed} CPUs in sight, but a quota of {cpus:.1}: pinned threads would \
                     stand still for part of every period"
                ),
                Some(format!(
                    "docker run --cpuset-cpus=0-{} in place of --cpus",
                    (cpus.floor().max(1.0) as usize) - 1
                )),
            );
        }
    }
    Finding::ok(format!("{allowed} CPUs to run on"))
}

fn explain_pinning(wanted: &[usize], allowed: &[usize]) -> Finding {
    let missing: Vec<String> = wanted
        .iter()
        .filter(|cpu| !allowed.contains(cpu))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Finding::ok(format!("{} shards have their CPUs", wanted.len()));
    }
    let have: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Finding::fail(
        format!(
            "core-pinning.toml names CPU {}, which this process may not run on",
            missing.join(", ")
        ),
        format!("name CPUs out of {} in core-pinning.toml", have.join(", ")),
    )
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
}

fn port(
    purpose: &str,
    address: SocketAddr,
    transport: Transport,
    bound: &io::Result<()>,
) -> Finding {
    let list = match transport {
        Transport::Tcp => "ss -ltn",
        Transport::Udp => "ss -lun",
    };
    let Err(error) = bound else {
        return Finding::ok(format!("{purpose}: {address} is free"));
    };
    let number = address.port();
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Finding::fail(
            format!("{purpose}: port {number} is in use by another program ({address})"),
            format!(
                "{list}p 'sport = :{number}'   names it; stop it, or give {purpose} another port in config.json"
            ),
        ),
        Some(libc::EACCES | libc::EPERM) => Finding::fail(
            format!("{purpose}: port {number} is not permitted: ports below 1024 belong to root"),
            format!(
                "setcap cap_net_bind_service=+ep ./ringside, or sysctl -w \
                 net.ipv4.ip_unprivileged_port_start={number}, or a port above 1023"
            ),
        ),
        Some(libc::EADDRNOTAVAIL) => Finding::fail(
            format!(
                "{purpose}: {} is not an address of this machine",
                address.ip()
            ),
            format!("ip -br address   lists them; set the interface of {purpose} in config.json"),
        ),
        Some(libc::EAFNOSUPPORT) => Finding::fail(
            format!("{purpose}: {address}: this machine has no such address family"),
            format!("set the interface of {purpose} to 0.0.0.0 in config.json"),
        ),
        Some(_) | None => Finding::fail(
            format!("{purpose}: {address} cannot be bound: {error}"),
            format!("{list} 'sport = :{number}'"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::thread;

    const PLAIN: Surroundings = Surroundings {
        uring_disabled: Some(0),
        filtered: false,
        kernel: (6, 18),
    };

    fn setup(errno: i32) -> Refusal {
        Refusal {
            step: Step::Setup,
            errno,
        }
    }

    fn refused(refusal: Refusal, around: Surroundings) -> (String, String) {
        let finding = explain_ring(refusal, &around);
        assert_eq!(finding.level, Level::Fail);
        (finding.what, finding.mend.unwrap())
    }

    #[test]
    fn eperm_names_the_sysctl_when_that_is_the_cause() {
        for disabled in [1, 2] {
            let around = Surroundings {
                uring_disabled: Some(disabled),
                ..PLAIN
            };
            let (what, mend) = refused(setup(libc::EPERM), around);
            assert!(
                what.contains(&format!("io_uring_disabled is {disabled}")),
                "{what}"
            );
            assert_eq!(mend, "sysctl -w kernel.io_uring_disabled=0");
        }
    }

    #[test]
    fn eperm_without_the_sysctl_is_a_seccomp_profile() {
        for uring_disabled in [Some(0), None] {
            let around = Surroundings {
                uring_disabled,
                filtered: true,
                ..PLAIN
            };
            let (what, mend) = refused(setup(libc::EPERM), around);
            assert!(what.contains("seccomp"), "{what}");
            assert!(
                mend.contains("--security-opt seccomp=deploy/seccomp.json"),
                "{mend}"
            );
        }
    }

    #[test]
    fn enosys_is_the_filter_on_a_new_kernel_and_the_kernel_on_an_old_one() {
        let (what, mend) = refused(setup(libc::ENOSYS), PLAIN);
        assert!(what.contains("seccomp"), "{what}");
        assert!(mend.contains("seccomp.json"), "{mend}");

        let old = Surroundings {
            kernel: (4, 19),
            uring_disabled: None,
            ..PLAIN
        };
        let (what, mend) = refused(setup(libc::ENOSYS), old);
        assert!(what.contains("Linux 4.19 is older than 6.1"), "{what}");
        assert!(mend.contains("6.1"), "{mend}");
    }

    #[test]
    fn enomem_is_the_memlock_limit() {
        let (what, mend) = refused(setup(libc::ENOMEM), PLAIN);
        assert!(what.contains("locked memory"), "{what}");
        assert!(mend.contains("--ulimit memlock=-1"), "{mend}");
    }

    #[test]
    fn einval_and_a_missing_operation_are_an_old_kernel() {
        let old = Surroundings {
            kernel: (5, 15),
            ..PLAIN
        };
        let missing = Refusal {
            step: Step::Operation("MSG_RING"),
            errno: libc::EINVAL,
        };
        for refusal in [setup(libc::EINVAL), missing] {
            let (what, _) = refused(refusal, old);
            assert!(what.contains("Linux 5.15 is older than 6.1"), "{what}");
        }
    }

    #[test]
    fn an_unknown_errno_is_named() {
        let (what, _) = refused(setup(libc::ENXIO), PLAIN);
        assert!(what.contains("os error 6"), "{what}");
    }

    #[test]
    fn the_call_that_was_refused_is_named() {
        let refusal = Refusal {
            step: Step::Enter,
            errno: libc::EPERM,
        };
        assert!(refused(refusal, PLAIN).0.starts_with("io_uring_enter"));
    }

    #[test]
    fn locked_memory_below_what_glommio_needs_fails() {
        let limit = |soft| locked_memory(Limit { soft, hard: soft }).level;
        assert_eq!(limit(LOCKED_MEMORY_BYTES_MIN - 1), Level::Fail);
        assert_eq!(limit(LOCKED_MEMORY_BYTES_MIN), Level::Ok);
        assert_eq!(limit(u64::MAX), Level::Ok);
    }

    #[test]
    fn few_descriptors_warn_and_very_few_fail() {
        let limit = |soft| descriptors(Limit { soft, hard: soft }).level;
        assert_eq!(limit(DESCRIPTORS_MIN - 1), Level::Fail);
        assert_eq!(limit(DESCRIPTORS_WANTED - 1), Level::Warn);
        assert_eq!(limit(DESCRIPTORS_WANTED), Level::Ok);
    }

    #[test]
    fn a_port_error_names_the_port_and_how_to_find_its_owner() {
        let address = "127.0.0.1:1935".parse().unwrap();
        let failed = |errno| Err(io::Error::from_raw_os_error(errno));

        let in_use = port("RTMP", address, Transport::Tcp, &failed(libc::EADDRINUSE));
        assert_eq!(in_use.level, Level::Fail);
        assert!(in_use.what.contains("port 1935 is in use"), "{in_use:?}");
        assert!(in_use.mend.unwrap().contains("ss -ltnp 'sport = :1935'"));

        let forbidden = port(
            "HTTP",
            "0.0.0.0:80".parse().unwrap(),
            Transport::Tcp,
            &failed(libc::EACCES),
        );
        assert!(forbidden.what.contains("below 1024"), "{forbidden:?}");

        let elsewhere = port(
            "RTMP",
            address,
            Transport::Tcp,
            &failed(libc::EADDRNOTAVAIL),
        );
        assert!(elsewhere.what.contains("not an address"), "{elsewhere:?}");

        assert_eq!(
            port("RTMP", address, Transport::Tcp, &Ok(())).level,
            Level::Ok
        );
    }

    fn webrtc(section: &str) -> WebRtc {
        let text = format!(r#"{{"webrtc":{section}}}"#);
        crate::config::parse(&text, "c").unwrap().config.webrtc
    }

    #[test]
    fn the_ports_of_webrtc_are_looked_at() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let section = format!(r#"{{"interface":"127.0.0.1","port":{number}}}"#);

        let findings = examine_webrtc(&webrtc(&section), 2);

        assert_eq!(findings.len(), 3, "{findings:?}");
        assert_eq!(findings[0].level, Level::Fail);
        assert!(findings[0].what.starts_with("WebRTC by UDP: port"));
        assert!(findings[0].mend.as_ref().unwrap().contains("ss -lunp"));
        assert_eq!(findings[2].what, "WebRTC: peers are told 127.0.0.1");
        let only_udp = format!(r#"{{"interface":"127.0.0.1","port":{number},"tcp":false}}"#);
        assert_eq!(examine_webrtc(&webrtc(&only_udp), 2).len(), 2);
    }

    #[test]
    fn what_peers_are_told_is_named() {
        let local = Ok(vec![
            "127.0.0.1".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ]);
        let finding = announced(&webrtc("{}"), &local);
        assert_eq!(finding.level, Level::Ok);
        assert_eq!(finding.what, "WebRTC: peers are told 192.0.2.1");

        let finding = announced(&webrtc("{}"), &Ok(Vec::new()));
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.what.contains("127.0.0.1, which only this machine"));

        let failed = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(announced(&webrtc("{}"), &failed()).level, Level::Warn);
        let stated = webrtc(r#"{"announced":["203.0.113.1"]}"#);
        assert_eq!(announced(&stated, &failed()).level, Level::Ok);
    }

    #[test]
    fn a_quota_below_the_cpus_in_sight_warns() {
        assert_eq!(cpu_quota(4, "150000 100000\n").level, Level::Warn);
        assert_eq!(cpu_quota(4, "400000 100000\n").level, Level::Ok);
        assert_eq!(cpu_quota(4, "max 100000\n").level, Level::Ok);
        assert_eq!(cpu_quota(4, "").level, Level::Ok);
    }

    #[test]
    fn pinning_to_a_cpu_that_is_not_there_fails() {
        assert_eq!(explain_pinning(&[0, 1], &[0, 1, 2]).level, Level::Ok);
        let finding = explain_pinning(&[0, 7], &[0, 1]);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.what.contains("CPU 7"), "{finding:?}");
    }

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            seccomp_mode("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
            Some(2)
        );
        assert_eq!(kernel_version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-fc\n"), Some((6, 18)));
        assert_eq!(kernel_version(""), None);
    }

    #[test]
    fn the_printed_list_ends_with_the_failure_and_its_mend() {
        let findings = [
            Finding::fail("b".to_owned(), "mend b"),
            Finding::ok("a".to_owned()),
        ];
        let mut out = Vec::new();

        let can_start = print(&findings, &mut out).unwrap();

        assert!(!can_start);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok    a\nFAIL  b\n      -> mend b\n"
        );
        assert!(print(&findings[1..], &mut Vec::new()).unwrap());
    }

    #[test]
    fn health_is_the_status_of_the_control_port() {
        for (answer, healthy) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let size = peer.read(&mut request).unwrap();
                assert!(request[..size].starts_with(b"GET /healthz HTTP/1.1\r\n"));
                peer.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())
                    .unwrap();
            });
            assert_eq!(is_healthy(address).unwrap(), healthy);
            server.join().unwrap();
        }
    }

    #[test]
    fn health_of_a_port_without_a_server_is_an_error() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        is_healthy(address).unwrap_err();
    }

    #[test]
    fn this_machine_can_run_the_server() {
        let findings = examine(&[("RTMP".to_owned(), "127.0.0.1:0".parse().unwrap())]);

        let failed: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Fail)
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(findings.len() >= 5);
    }
}
