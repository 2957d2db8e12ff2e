//! Start, wiring, reload and end of the process.

mod api_events;
mod api_host;
mod certificates;
mod collab_asks;
mod collab_host;
pub mod collab_tunnel;
mod config_file;
mod control_shard;
pub mod demo;
mod disk;
pub mod doctor;
mod log_layer;
mod media_shard;
mod message;
mod opening;
mod rtc;
mod worker;

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, bail};
use glommio::{LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::ids::ShardId;
use crate::collab;
use crate::config::{self, Config, Count, Environment, Host, Loaded, Notice, Pinning, Secret};
use crate::drive::{Driver, Limits, ServerSession};
use crate::io::probe::{Resource, limit};
use crate::io::{self as ring_io, Waker};
use crate::metrics::Engine;
use crate::proto::replication::Port;
use crate::server::certificates::{Order, Store};
use crate::server::control_shard::{Command, ControlShard};
use crate::server::media_shard::{Flow, Listening, MediaShard, Service};
use crate::server::message::Message;
use crate::shard::mesh::{Mesh, mesh};
use crate::shard::{online_cpus, pin_to_cpu, thread_cpu_time};

/// The exit status of a process that ends because one of its shards did (`EX_SOFTWARE`).
const STATUS_DEAD_SHARD: i32 = 70;

/// Sockets of a shard that its ring keeps in a table: 8 bytes each.
const REGISTERED_MAX: u64 = 65_536;

/// What `serve` is started with.
#[derive(Clone, Debug)]
pub struct Serve {
    /// `config.json`.
    pub config_path: PathBuf,
    /// `core-pinning.toml`.
    pub pinning_path: PathBuf,
    /// `NAME:PASSWORD` of an account to make or change first.
    pub account: Option<Secret>,
}

pub use log_layer::Log;

/// Runs the server until a signal ends it. `log` is what the API shows.
pub fn serve(options: &Serve, log: Log) -> anyhow::Result<()> {
    if let Some(account) = &options.account {
        worker::set_account(&options.config_path, account)?;
    }
    let loaded = load(&options.config_path)?;
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let pinning = Pinning::load(&options.pinning_path)?;
    let place = Place {
        environment: environment()?,
        notices: loaded.notices,
        config_path: Some(options.config_path.clone()),
        log,
    };
    Server::start_at(loaded.config, &pinning, place)?.run()
}

/// Where a server's configuration is kept, what was said of it, and the log.
#[derive(Debug, Default)]
struct Place {
    config_path: Option<PathBuf>,
    notices: Vec<Notice>,
    environment: Environment,
    log: Log,
}

/// Prints what is wrong with this machine or configuration. True if the server would start.
pub fn examine(options: &Serve, out: &mut impl Write) -> anyhow::Result<bool> {
    let loaded = load(&options.config_path)?;
    let pinning = Pinning::load(&options.pinning_path)?;
    for notice in &loaded.notices {
        writeln!(out, "note  {notice}")?;
    }
    Ok(doctor::print(&findings(&loaded.config, &pinning), out)?)
}

/// Asks the server that runs with this configuration.
pub fn is_healthy(options: &Serve) -> anyhow::Result<bool> {
    let loaded = config::load(&options.config_path)?;
    let control = loaded.config.general.controller;
    doctor::is_healthy(control).with_context(|| format!("no healthy server at {control}"))
}

/// The configuration, with what the environment adds to it.
fn load(path: &Path) -> anyhow::Result<Loaded> {
    let mut loaded = config::load(path)?;
    loaded.config.apply(&environment()?);
    Ok(loaded)
}

/// What the environment says: UNAVI's variables.
fn environment() -> anyhow::Result<Environment> {
    Ok(Environment::read(|name| env::var(name).ok())?)
}

fn findings(config: &Config, pinning: &Pinning) -> Vec<doctor::Finding> {
    let mut findings = doctor::examine(&ports(config));
    findings.extend(certificates::examine(config));
    if config.protocols.webrtc {
        let shards = media_cpus(pinning).len();
        findings.extend(doctor::examine_webrtc(&config.webrtc, shards));
    }
    let pinned: Vec<usize> = pinning
        .cpus
        .iter()
        .copied()
        .chain(pinning.control_cpu)
        .collect();
    if !pinned.is_empty() {
        findings.push(doctor::examine_pinning(&pinned));
    }
    findings
}

fn ports(config: &Config) -> Vec<(String, SocketAddr)> {
    certain_services(config)
        .map(|(service, address)| {
            let name = match service {
                Service::Http => "HTTP",
                Service::Https => "HTTPS",
                Service::Rtmp { .. } => "RTMP",
                Service::Rtmps { .. } => "RTMPS",
                Service::Collab { .. } => "a collaborative session",
            };
            (name.to_owned(), address)
        })
        .chain([("the control port".to_owned(), config.general.controller)])
        .chain(
            config
                .spaces
                .addresses()
                .filter(|_| config.spaces.is_served)
                .map(|address| ("spaces".to_owned(), address)),
        )
        .collect()
}

fn services(config: &Config) -> impl Iterator<Item = (Service, SocketAddr)> {
    let mut services: Vec<(Service, SocketAddr)> = certain_services(config).collect();
    let is_free = |port: u16| {
        let mut spaces = config.spaces.addresses();
        let mut others = services.iter().map(|(_, address)| *address);
        others.all(|other| other.port() != port)
            && config.general.controller.port() != port
            && !(config.spaces.is_served && spaces.any(|address| address.port() == port))
    };
    // Only clients of generation A come to the fourth port of a session. Whoever has something else
    // there, as before these were served, keeps it.
    let fourth: Vec<(Service, SocketAddr)> = collab_ports(config, &[Port::Fourth])
        .filter(|(_, address)| is_free(address.port()))
        .collect();
    services.extend(fourth);
    services.into_iter()
}

/// These ports of each collaborative session.
fn collab_ports(
    config: &Config,
    ports: &'static [Port],
) -> impl Iterator<Item = (Service, SocketAddr)> {
    config.collab.iter().flat_map(move |collab| {
        let sessions = collab.sessions.iter().enumerate();
        sessions.flat_map(move |(place, session)| {
            ports.iter().map(move |port| {
                let number = session.port
                    + match port {
                        Port::First => 0,
                        Port::Second => 1,
                        Port::Third => 2,
                        Port::Fourth => 3,
                    };
                let place = collab::door::Place(place);
                let service = Service::Collab { place, port: *port };
                (service, SocketAddr::new(collab.interface, number))
            })
        })
    })
}

fn certain_services(config: &Config) -> impl Iterator<Item = (Service, SocketAddr)> {
    let http = config
        .protocols
        .http
        .iter()
        .map(|http| (Service::Http, http.listen));
    let https = config
        .protocols
        .https
        .iter()
        .map(|https| (Service::Https, https.listen));
    let rtmp = config.protocols.rtmp.iter().map(|rtmp| {
        let (publish, play) = (rtmp.publish, rtmp.play);
        let service = match rtmp.certificate {
            None => Service::Rtmp { publish, play },
            Some(_) => Service::Rtmps { publish, play },
        };
        (service, rtmp.listen)
    });
    let secure = config.collab.iter().flat_map(|collab| {
        let sessions = collab.sessions.iter().enumerate();
        sessions.filter_map(move |(place, session)| {
            let address = SocketAddr::new(collab.interface, session.tls_port?);
            let place = collab::door::Place(place);
            let port = Port::First;
            Some((Service::Collab { place, port }, address))
        })
    });
    let collab = collab_ports(config, &[Port::First, Port::Second, Port::Third]);
    http.chain(https).chain(rtmp).chain(collab).chain(secure)
}

/// A running server.
pub struct Server {
    config: Arc<Config>,
    media: Vec<thread::JoinHandle<()>>,
    control: thread::JoinHandle<()>,
    commands: Sender<Command>,
    waker: Waker,
    /// Keeps the watch over certificates up until the shards have ended.
    _certificates: Option<Sender<Order>>,
}

impl Server {
    /// Starts all shards. When it returns, the ports listen. Changes to the configuration are not
    /// saved.
    pub fn start(config: Config, pinning: &Pinning) -> anyhow::Result<Self> {
        Self::start_at(config, pinning, Place::default())
    }

    fn start_at(config: Config, pinning: &Pinning, place: Place) -> anyhow::Result<Self> {
        let findings = findings(&config, pinning);
        let problems: Vec<doctor::Finding> = findings
            .into_iter()
            .filter(|finding| finding.level != doctor::Level::Ok)
            .collect();
        if !doctor::print(&problems, &mut io::stderr())? {
            bail!("the server cannot start here; `ringside doctor` shows all that was looked at");
        }
        let store = Store::new(&config)?;
        let mut kept = collab_host::restore(&config)?;
        let config = Arc::new(config);
        let cpus = media_cpus(pinning);
        let mut ends = mesh::<Message>(cpus.len() + 1);
        let control_end = ends.pop().expect("a mesh of at least one");
        let control_id = control_end.me();
        let ring = ring_options(pinning);

        let mut plans = Vec::new();
        let mut rtc_plans = match config.protocols.webrtc {
            true => rtc::plans(&config, cpus.len())?,
            false => Vec::new(),
        }
        .into_iter();
        for end in ends {
            let me = usize::from(end.me().0);
            let (here, elsewhere) = kept
                .into_iter()
                .partition(|kept| home(kept.place, cpus.len()) == me);
            kept = elsewhere;
            plans.push(media_shard::Plan {
                kept: here,
                rtc: rtc_plans.next(),
                listening: listening(&config, &store, end.me(), cpus.len())?,
                mesh: end,
                control: control_id,
                config: Arc::clone(&config),
                ring,
                limits: Limits {
                    gather: pinning.wait_max,
                    gather_completions: pinning.busy_completions,
                    ..media_shard::limits(&config, cpus.len())
                },
            });
        }
        let controller = config.general.controller;
        let control_socket = ring_io::listen(controller, false)
            .with_context(|| format!("the control port {controller}"))?;
        let mut spaces = Vec::new();
        for address in config.spaces.addresses() {
            if config.spaces.is_served {
                let listening = ring_io::listen(address, false)
                    .with_context(|| format!("the port of spaces {address}"))?;
                let tls = store.tls(address);
                tracing::info!(%address, tls = tls.is_some(), "spaces");
                spaces.push(control_shard::SpacesPlan { listening, tls });
            }
        }
        let certificates = certificates::watch(store)?;
        let (commands, orders) = mpsc::channel();
        let control_plan = control_shard::Plan {
            mesh: control_end,
            listening: control_socket,
            spaces,
            config: Arc::clone(&config),
            config_path: place.config_path,
            notices: place.notices,
            environment: place.environment,
            certificates: certificates.clone(),
            log: place.log,
            ring,
            commands: orders,
        };
        for (service, address) in certain_services(&config) {
            tracing::info!(?service, %address, "listening");
        }
        tracing::info!(
            address = %controller,
            media_shards = cpus.len(),
            host = ?pinning.host,
            "the control port"
        );
        let (control, waker) = start_control(control_plan, pinning.control_cpu)?;
        let media = plans
            .into_iter()
            .zip(cpus)
            .map(|(plan, cpu)| start_media(plan, cpu, pinning.host))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            config,
            media,
            control,
            commands,
            waker,
            _certificates: certificates,
        })
    }

    /// The configuration in force at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Obeys signals until one ends the process: SIGHUP reads the configuration again, SIGTERM and
    /// SIGINT let everybody go.
    pub fn run(self) -> anyhow::Result<()> {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
        for signal in signals.forever() {
            if signal != SIGHUP {
                break;
            }
            self.command(Command::Reload);
        }
        tracing::info!("stopping: viewers have 5 s to go");
        self.command(Command::Drain);
        for media in self.media {
            // A shard that panics ends the process before it could be joined.
            let _ = media.join();
        }
        drop(self.commands);
        self.waker.wake();
        let _ = self.control.join();
        tracing::info!("stopped");
        Ok(())
    }

    fn command(&self, command: Command) {
        // The control shard ends after this sender only.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

fn media_cpus(pinning: &Pinning) -> Vec<usize> {
    let online = if pinning.cpus.is_empty() {
        online_cpus()
    } else {
        pinning.cpus.clone()
    };
    let count = match pinning.shards {
        Count::Auto => online.len(),
        Count::Fixed(count) => usize::from(count),
    };
    online.iter().copied().cycle().take(count.max(1)).collect()
}

fn ring_options(pinning: &Pinning) -> ring_io::Options {
    ring_io::Options {
        sq_entries: pinning.sq_entries,
        cq_entries: pinning.cq_entries,
        receive_buffers: pinning.tcp_buffers,
        receive_buffer_bytes: pinning.tcp_buffer_bytes,
        // The kernel's bound on the table is that of open descriptors.
        registered_max: limit(Resource::Descriptors)
            .map_or(0, |limit| limit.soft)
            .min(REGISTERED_MAX) as u32,
        udp_buffers: pinning.udp_buffers,
        udp_buffer_bytes: pinning.udp_buffer_bytes,
    }
}

/// The shard that a collaborative session lives on: all its clients meet there, so that none of
/// its traffic goes from shard to shard.
fn home(place: collab::door::Place, shards: usize) -> usize {
    place.0 % shards
}

/// One listening socket for each service, for one shard.
fn is_fourth(service: Service) -> bool {
    match service {
        Service::Collab { port, .. } => port == Port::Fourth,
        Service::Http | Service::Https | Service::Rtmp { .. } | Service::Rtmps { .. } => false,
    }
}

fn listening(
    config: &Config,
    store: &Store,
    shard: ShardId,
    shards: usize,
) -> anyhow::Result<Vec<Listening>> {
    services(config)
        .filter(|(service, _)| match service {
            Service::Collab { place, .. } => home(*place, shards) == usize::from(shard.0),
            Service::Http | Service::Https | Service::Rtmp { .. } | Service::Rtmps { .. } => true,
        })
        .filter_map(|(service, address)| {
            let is_shared = !matches!(service, Service::Collab { .. });
            let fd = match ring_io::listen(address, is_shared) {
                Ok(fd) => fd,
                // Only the oldest clients come there, and something else may have been there before.
                Err(error) if is_fourth(service) => {
                    tracing::warn!(%address, %error, "clients of generation A have no port for nodes");
                    return None;
                }
                Err(error) => {
                    let place = format!("{service:?} cannot listen at {address}");
                    return Some(Err(anyhow::Error::new(error).context(place)));
                }
            };
            let tls = store.tls(address);
            Some(Ok(Listening { service, tls, fd }))
        })
        .collect()
}

fn start_media(
    plan: media_shard::Plan,
    cpu: usize,
    host: Host,
) -> io::Result<thread::JoinHandle<()>> {
    let id = plan.mesh.me();
    let name = format!("media-{id}");
    match host {
        Host::Thread => thread::Builder::new().name(name).spawn(move || {
            guard(id, || {
                if let Err(error) = pin_to_cpu(cpu) {
                    tracing::warn!(%error, cpu, "a shard could not be pinned");
                }
                let mut shard = MediaShard::new(plan)?;
                while shard.round(true)? == Flow::Continue {}
                Ok(())
            });
        }),
        Host::Glommio => thread::Builder::new().name(name).spawn(move || {
            guard(id, || {
                on_glommio(Placement::Fixed(cpu), async move {
                    let mut shard = MediaShard::new(plan)?;
                    while shard.round(true)? == Flow::Continue {
                        glommio::yield_if_needed().await;
                    }
                    Ok(())
                })
            });
        }),
    }
}

fn start_control(
    plan: control_shard::Plan,
    cpu: Option<usize>,
) -> anyhow::Result<(thread::JoinHandle<()>, Waker)> {
    let id = plan.mesh.me();
    let (tell, told) = mpsc::sync_channel(1);
    let control = thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            guard(id, || {
                let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
                on_glommio(placement, async move {
                    let mut shard = ControlShard::new(plan)?;
                    // The receiver waits for exactly this.
                    let _ = tell.send(shard.waker());
                    while shard.round()? == Flow::Continue {
                        glommio::yield_if_needed().await;
                    }
                    Ok(())
                })
            });
        })?;
    let waker = told.recv().context("the control shard did not start")?;
    Ok((control, waker))
}

/// Runs a shard's loop as the one task of an executor on the calling thread.
fn on_glommio(placement: Placement, task: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let executor = LocalExecutorBuilder::new(placement)
        .io_memory(64 * 1024)
        .ring_depth(128)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(task)
}

/// Runs a shard's thread. However it ends other than by a drain, the process ends with it: a
/// server without one of its shards would leave some connections unanswered for ever.
fn guard(id: ShardId, run: impl FnOnce() -> io::Result<()>) {
    let reason = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned()),
    };
    tracing::error!(shard = %id, reason, "a shard died, and the server ends with it");
    process::exit(STATUS_DEAD_SHARD);
}

/// What metrics tell of a shard's engine.
fn engine(driver: &Driver<ServerSession>, mesh: &Mesh<Message>) -> Engine {
    let (counters, ring) = driver.counters();
    Engine {
        connections: driver.connections() as u64,
        received_bytes: counters.received_bytes,
        accepted: counters.accepted,
        displaced: counters.displaced,
        refused: counters.refused,
        accept_failures: counters.accept_failures,
        overfull: counters.overfull,
        stalled: counters.stalled,
        enters: ring.enters,
        completions: ring.completions,
        sends: ring.sends,
        no_buffers: ring.no_buffers,
        datagrams_received: ring.datagrams_received,
        datagrams_truncated: ring.datagrams_truncated,
        datagram_sends: ring.datagram_sends,
        datagrams_sent: ring.datagrams_sent,
        datagram_sends_full: ring.datagram_sends_full,
        datagram_sends_failed: ring.datagram_sends_failed,
        datagram_sends_dropped: ring.datagram_sends_dropped,
        operation_errors: ring.errors,
        mesh_depth: mesh.depth() as u64,
        mesh_dropped: mesh.dropped(),
        cpu_us: thread_cpu_time().as_micros() as u64,
        ..Engine::default()
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    /// Set in the process that is to die.
    const VICTIM: &str = "RINGSIDE_TEST_DEAD_SHARD";

    #[test]
    fn a_dead_shard_ends_the_process() {
        if let Ok(how) = env::var(VICTIM) {
            thread::spawn(move || {
                guard(ShardId(1), || {
                    assert_ne!(how, "panic", "the shard's own mistake");
                    Err(io::Error::other("the ring is broken"))
                });
            })
            .join()
            .expect("the process ends before the thread could be joined");
            return;
        }
        for how in ["panic", "error"] {
            let status = Command::new(env::current_exe().expect("this test has a path"))
                .args(["--exact", "server::tests::a_dead_shard_ends_the_process"])
                .env(VICTIM, how)
                .output()
                .expect("it runs")
                .status;
            assert_eq!(status.code(), Some(STATUS_DEAD_SHARD), "{how}");
        }
    }
}
