//! The `ringside-load` command.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringside_load::{
    churn, collab, floor, floor_ask, floor_srtp, get, pin, rtc, segments, spaces, streams,
};

/// Loads a ringside server, and measures what that costs. Each command prints one line of JSON.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Run on this CPU only.
    #[arg(long, global = true)]
    cpu: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish and watch.
    Streams(streams::Options),
    /// Watch by HLS: whole segments.
    Hls(segments::Options),
    /// Watch by low-latency HLS: parts and blocking reloads.
    Llhls(segments::Options),
    /// Watch by low-latency DASH.
    Dash(segments::Options),
    /// Play by WHEP, and publish by WHIP what is played.
    Whep(rtc::Options),
    /// Publish by WHIP.
    Whip(rtc::Options),
    /// Be in spaces: locations, chat and sound.
    Spaces(spaces::Options),
    /// Work in a collaborative session: bring a scene, change it, and come late.
    Collab(collab::Options),
    /// GET one or several resources over and over.
    Get(get::Options),
    /// Come and go at random, and see whether the server is left as it was.
    Churn(churn::Options),
    /// The bare loop to compare with: sends the same pieces to as many sockets.
    Floor(floor::FloorOptions),
    /// The bare loop of requests: receives one and sends the answer, over and over.
    FloorAsk(floor_ask::FloorAskOptions),
    /// The bare loop of WebRTC: seals the same packets for as many receivers.
    FloorSrtp(floor_srtp::FloorSrtpOptions),
    /// The receiving side of the bare loop.
    Sink(floor::SinkOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout();
    let result = cli
        .cpu
        .map_or(Ok(()), pin)
        .and_then(|()| match cli.command {
            Command::Streams(options) => streams::run(&options, &mut out),
            Command::Hls(options) => segments::hls(&options, &mut out),
            Command::Llhls(options) => segments::llhls(&options, &mut out),
            Command::Dash(options) => segments::dash(&options, &mut out),
            Command::Whep(options) => rtc::whep(&options, &mut out),
            Command::Whip(options) => rtc::whip(&options, &mut out),
            Command::Spaces(options) => spaces::run(&options, &mut out),
            Command::Collab(options) => collab::run(&options, &mut out),
            Command::Get(options) => get::run(&options, &mut out),
            Command::Churn(options) => churn::run(&options, &mut out),
            Command::Floor(options) => floor::run(&options, &mut out),
            Command::FloorAsk(options) => floor_ask::run(&options, &mut out),
            Command::FloorSrtp(options) => floor_srtp::run(&options, &mut out),
            Command::Sink(options) => floor::sink(&options, &mut out).map(|()| true),
        });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringside-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
