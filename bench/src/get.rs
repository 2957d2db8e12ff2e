//! GETs of the same resources over and over on connections that stay open.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use ringside::drive::Session;
use ringside::proto::http::ClientSession;
use ringside::shard::clock;
use serde_json::json;

use crate::process::Process;
use crate::streams::pause;
use crate::swarm::{self, Plan};
use crate::tally::Times;
use crate::viewer::{Failed, Shared};

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// `http://HOST:PORT/PATH`; several are asked for in turn and are of one host.
    #[arg(long, required = true)]
    pub url: Vec<String>,
    /// How many connections.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long to ask before that.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Requests of all connections together in a second; 0 for as many as can be had.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// The server's processes: with nginx, its workers.
    #[arg(long)]
    pub pid: Vec<u32>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
}

/// What was measured.
#[derive(Clone, Default, Debug)]
struct Tally {
    requests: u64,
    body_bytes: u64,
    time: Times,
    errors: u64,
    complaint: Option<String>,
}

impl Tally {
    fn complain(&mut self, reason: &str) {
        self.errors += 1;
        self.complaint.get_or_insert_with(|| reason.to_owned());
    }
}

/// Runs it, and writes one line of JSON to `out`. True if nothing went wrong.
pub fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    let (host, address, paths) = split(&options.url)?;
    let shared = Arc::new(Shared::default());
    let shards = options.shards.max(1);
    let threads = (0..shards)
        .map(|shard| {
            let count = (options.connections + shards - 1 - shard) / shards;
            let plan = Plan {
                address,
                count,
                rate: 2000.0,
                gather: Duration::ZERO,
            };
            let share = options.rate / options.connections.max(1) as f64;
            let every = (share > 0.0).then(|| Duration::from_secs_f64(1.0 / share));
            let (host, paths, shared) = (host.clone(), paths.clone(), Arc::clone(&shared));
            thread::Builder::new()
                .name("get".to_owned())
                .spawn(move || ask(plan, &host, &paths, every, &shared))
        })
        .collect::<io::Result<Vec<_>>>()?;
    pause(Duration::from_secs_f64(options.warmup));
    let look = || -> anyhow::Result<_> {
        let mut cpu = Duration::ZERO;
        for pid in &options.pid {
            cpu += Process::new(*pid).cpu()?;
        }
        Ok((clock::now(), cpu, Process::own().cpu()?))
    };
    let before = look()?;
    shared.is_measuring.store(true, Ordering::Relaxed);
    pause(Duration::from_secs_f64(options.seconds));
    shared.is_measuring.store(false, Ordering::Relaxed);
    let after = look()?;
    shared.is_over.store(true, Ordering::Relaxed);
    let mut total = Tally::default();
    for thread in threads {
        let tally = thread.join().expect("clients do not panic")?;
        total.requests += tally.requests;
        total.body_bytes += tally.body_bytes;
        total.errors += tally.errors;
        total.time.add(&tally.time);
        total.complaint = total.complaint.or(tally.complaint);
    }
    let seconds = (after.0 - before.0).as_secs_f64();
    let cpu = (after.1 - before.1).as_secs_f64();
    let cpu = (!options.pid.is_empty() && total.requests > 0).then_some(cpu);
    let requests = total.requests as f64;
    let result = json!({
        "kind": "get",
        "urls": options.url.len(),
        "connections": options.connections,
        "seconds": seconds,
        "requests": total.requests,
        "body_bytes": total.body_bytes,
        "mbit_s": total.body_bytes as f64 * 8e-6 / seconds,
        "get_s": requests / seconds,
        "server_cpu_s": cpu,
        "server_cpu_share": cpu.map(|cpu| cpu / seconds),
        "cpu_s_per_gb": cpu.map(|cpu| cpu * 1e9 / total.body_bytes as f64),
        "cpu_us_per_get": cpu.map(|cpu| cpu * 1e6 / requests),
        "get_s_per_cpu": cpu.map(|cpu| requests / cpu),
        "client_cpu_s": (after.2 - before.2).as_secs_f64(),
        "answer_ms": total.time.summary(),
        "errors": total.errors,
        "complaint": total.complaint,
    });
    writeln!(out, "{result}")?;
    Ok(total.errors == 0 && total.requests > 0)
}

/// Host field, address and paths.
fn split(urls: &[String]) -> anyhow::Result<(String, SocketAddr, Vec<String>)> {
    let mut host = None;
    let mut paths = Vec::new();
    for url in urls {
        let rest = url
            .strip_prefix("http://")
            .context("a URL begins with http://")?;
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        if *host.get_or_insert_with(|| name.to_owned()) != name {
            bail!("all URLs are of one host");
        }
        paths.push(format!("/{path}"));
    }
    let host = host.context("no URL")?;
    let named = if host.contains(':') {
        host.clone()
    } else {
        format!("{host}:80")
    };
    let address = named.to_socket_addrs()?.next().context("no address")?;
    Ok((host, address, paths))
}

fn ask(
    plan: Plan,
    host: &str,
    paths: &[String],
    every: Option<Duration>,
    shared: &Arc<Shared>,
) -> io::Result<Tally> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let paths: Rc<[String]> = paths.into();
    swarm::run(
        plan,
        shared,
        |index, now| Client {
            http: ClientSession::get(host, &paths[index % paths.len()]),
            host: host.to_owned(),
            paths: Rc::clone(&paths),
            next: index + 1,
            tally: Rc::clone(&tally),
            shared: Arc::clone(shared),
            asked: now,
            every,
            due: None,
            bytes: 0,
            failure: None,
        },
        |reason| tally.borrow_mut().complain(reason),
        |_| {},
    )?;
    let tally = tally.borrow().clone();
    Ok(tally)
}

/// One connection.
struct Client {
    http: ClientSession,
    host: String,
    paths: Rc<[String]>,
    next: usize,
    tally: Rc<RefCell<Tally>>,
    shared: Arc<Shared>,
    asked: Instant,
    /// The time from one request to the next.
    every: Option<Duration>,
    /// When it asks again, while it waits.
    due: Option<Instant>,
    bytes: u64,
    failure: Option<Failed>,
}

impl Client {
    fn answered(&mut self, now: Instant) {
        let status = self.http.status().unwrap_or(0);
        if status != 200 && status != 206 {
            self.failure = Some(Failed(format!("status {status}")));
            return;
        }
        if self.shared.is_measuring.load(Ordering::Relaxed) {
            let mut tally = self.tally.borrow_mut();
            tally.requests += 1;
            tally.body_bytes += self.bytes;
            tally.time.record(now - self.asked);
        }
        match self.every {
            Some(every) if self.asked + every > now => self.due = Some(self.asked + every),
            Some(_) | None => self.ask(now),
        }
    }

    fn ask(&mut self, now: Instant) {
        let path = &self.paths[self.next % self.paths.len()];
        self.http = ClientSession::get(&self.host, path);
        self.next += 1;
        self.asked = now;
        self.due = None;
        self.bytes = 0;
    }
}

impl Session for Client {
    type Event = Failed;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let body = &mut self.bytes;
        let result = self
            .http
            .handle_input(bytes, |piece| *body += piece.len() as u64);
        if let Err(error) = result {
            self.failure = Some(Failed(format!("HTTP: {error}")));
        } else if self.http.is_done() {
            self.answered(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.ask(now);
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.http.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Failed> {
        self.failure.take()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.due.map(|due| (due, "the next request"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let urls = ["http://127.0.0.1:81/a?b", "http://127.0.0.1:81"].map(str::to_owned);
        let (host, address, paths) = split(&urls).unwrap();
        assert_eq!((host.as_str(), address.port()), ("127.0.0.1:81", 81));
        assert_eq!(paths, ["/a?b", "/"]);
        assert!(
            split(&["http://127.0.0.1:81/", "http://127.0.0.1:82/"].map(str::to_owned)).is_err()
        );
    }
}
