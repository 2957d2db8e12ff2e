//! The bare loop of requests: blocking `recv()` and `send()` on one connection, and nothing else. What
//! a server of one request after the other costs at least on this machine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;
use clap::Args;
use ringside::shard::{clock, thread_cpu_time};
use serde_json::json;

use crate::pin;

/// How many requests, and of what size.
#[derive(Args, Clone, Copy, Debug)]
pub struct FloorAskOptions {
    /// How many requests are measured.
    #[arg(long, default_value_t = 20_000)]
    pub requests: u32,
    /// Bytes of a request.
    #[arg(long, default_value_t = 150)]
    pub request_bytes: usize,
    /// Bytes of an answer.
    #[arg(long, default_value_t = 2300)]
    pub answer_bytes: usize,
    /// The CPU of the one who asks.
    #[arg(long)]
    pub client_cpu: Option<usize>,
}

/// Asks and answers, and writes one line of JSON to `out`.
pub fn run(options: &FloorAskOptions, out: &mut impl Write) -> anyhow::Result<bool> {
    let options = *options;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address)?;
    let asks = thread::spawn(move || -> anyhow::Result<()> {
        options.client_cpu.map_or(Ok(()), pin)?;
        ask(client, options).context("the one who asks")
    });
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut request = vec![0; options.request_bytes];
    let answer = vec![1; options.answer_bytes];
    let (at, cpu) = (clock::now(), thread_cpu_time());
    for _ in 0..options.requests {
        if let Err(error) = socket.read_exact(&mut request) {
            // Who asks says why it went away.
            asks.join().expect("it does not panic")?;
            return Err(error.into());
        }
        socket.write_all(&answer)?;
    }
    let (cpu, wall) = (thread_cpu_time() - cpu, clock::now() - at);
    asks.join().expect("it does not panic")?;
    let each = |seconds: f64| seconds * 1e6 / f64::from(options.requests);
    let result = json!({
        "kind": "floor-ask",
        "requests": options.requests,
        "request_bytes": options.request_bytes,
        "answer_bytes": options.answer_bytes,
        "cpu_us_per_request": each(cpu.as_secs_f64()),
        "us_per_request": each(wall.as_secs_f64()),
    });
    writeln!(out, "{result}")?;
    Ok(true)
}

fn ask(mut socket: TcpStream, options: FloorAskOptions) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let request = vec![2; options.request_bytes];
    let mut answer = vec![0; options.answer_bytes];
    for _ in 0..options.requests {
        socket.write_all(&request)?;
        socket.read_exact(&mut answer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered() {
        let mut out = Vec::new();
        let options = FloorAskOptions {
            requests: 100,
            request_bytes: 10,
            answer_bytes: 100_000,
            client_cpu: None,
        };
        assert!(run(&options, &mut out).unwrap());
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["requests"], 100);
        assert!(line["cpu_us_per_request"].as_f64().unwrap() > 0.0);
    }
}
