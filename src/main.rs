//! The `ringside` command.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringside::config::Secret;
use ringside::server::{self, Log, Serve, collab_tunnel, demo};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hosts live streams at high density.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    files: Files,
}

#[derive(Args)]
struct Files {
    /// MistServer's configuration file.
    #[arg(short, long, default_value = "config.json", global = true)]
    config: PathBuf,
    /// Which shard runs on which CPU, and how it waits.
    #[arg(long, default_value = "core-pinning.toml", global = true)]
    pinning: PathBuf,
    /// Make this account of the API, or set its password, and write it to the configuration before
    /// serving. Other users of the machine can see it in the list of processes meanwhile.
    #[arg(short, long, value_name = "NAME:PASSWORD", global = true)]
    account: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what the configuration says (the default).
    Serve,
    /// Loop an embedded clip as a live stream on loopback.
    Demo {
        /// The port of the page.
        #[arg(long, default_value_t = 8080)]
        http: u16,
        /// The RTMP port.
        #[arg(long, default_value_t = 1935)]
        rtmp: u16,
        /// The control port.
        #[arg(long, default_value_t = 4242)]
        control: u16,
        /// The port of WebRTC's media, UDP and TCP.
        #[arg(long, default_value_t = 18203)]
        webrtc: u16,
        /// The port that players of spaces connect to.
        #[arg(long, default_value_t = 4000)]
        spaces: u16,
        /// The first of three ports of a session for Blender's multi-user add-on.
        #[arg(long, default_value_t = 5555)]
        collab: u16,
    },
    /// Say what keeps the server from running here, and what mends it.
    Doctor,
    /// Reach a collaborative session's TLS port through plain ports of this computer, which Blender's
    /// add-on then connects to: address 127.0.0.1, port 5555.
    CollabTunnel {
        /// The server: its name or address and its TLS port.
        #[arg(value_name = "HOST:PORT")]
        server: String,
        /// The first of four ports of this computer; the fourth is for add-ons up to 0.3.
        #[arg(long, default_value_t = 5555)]
        port: u16,
        /// The SHA-256 fingerprint of the server's certificate, which then nobody needs to have signed.
        #[arg(long, value_name = "HEX", conflicts_with = "ca")]
        fingerprint: Option<String>,
        /// Certificates of authorities to trust instead of the system's.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Ask a running server whether it is healthy; the exit status is the answer.
    Health,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = Log::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(log.layer())
        .init();
    let files = Serve {
        config_path: cli.files.config,
        pinning_path: cli.files.pinning,
        account: cli.files.account.map(Secret::new),
    };
    let result = match cli.command {
        None | Some(Command::Serve) => server::serve(&files, log).map(|()| true),
        Some(Command::Demo {
            http,
            rtmp,
            control,
            webrtc,
            spaces,
            collab,
        }) => {
            let demo = demo::Demo {
                http,
                rtmp,
                control,
                webrtc,
                spaces,
                collab,
            };
            demo::run(demo, &mut io::stdout()).map(|()| true)
        }
        Some(Command::Doctor) => server::examine(&files, &mut io::stdout()),
        Some(Command::CollabTunnel {
            server,
            port,
            fingerprint,
            ca,
        }) => {
            let tunnel = collab_tunnel::Tunnel {
                server,
                port,
                fingerprint,
                ca,
            };
            collab_tunnel::run(&tunnel).map(|()| true)
        }
        Some(Command::Health) => server::is_healthy(&files),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringside: {error:#}");
            ExitCode::FAILURE
        }
    }
}
