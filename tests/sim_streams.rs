//! The streams core in virtual time: shards, the registrar and the mesh between them, with
//! publishers and viewers who come, go, stall and misbehave. One seed makes one run.
//!
//! A failure names its seed; `RINGSIDE_SIM_SEED=7 cargo test --test sim_streams` runs that one
//! alone, `RINGSIDE_SIM_SEEDS=5000` runs that many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod media_fixture;
mod sim;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use ringside::base::ids::ConnId;
use ringside::base::prng::Prng;
use ringside::streams::Container;

use sim::media::Tracks;
use sim::player::Style;
use sim::viewer::{Pace, Stage};
use sim::world::{Climate, NAMES, World};

const SEEDS: u64 = 120;
const STEPS: u32 = 3000;

/// Longer than any stream lingers: 15 s of `kept`, mirrors and outputs 5 s more.
const LINGER: Duration = Duration::from_secs(40);

#[test]
fn streams_hold_what_they_promise() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("RINGSIDE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGSIDE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let seed_count = seeds.end - seeds.start;
    let base = now();
    let mut totals = [0; COUNTS.len()];
    let mut long_parted = 0;
    for seed in seeds {
        let step = Cell::new(0);
        let run = catch_unwind(AssertUnwindSafe(|| {
            run(seed, base, &step, &mut long_parted)
        }));
        match run {
            Ok(counts) => {
                for (total, count) in totals.iter_mut().zip(counts) {
                    *total += count;
                }
            }
            Err(panic) => {
                eprintln!("RINGSIDE_SIM_SEED={seed} fails in step {}", step.get());
                resume_unwind(panic);
            }
        }
    }
    eprintln!("renditions that began with a pause: {long_parted}");
    assert!(
        long_parted <= 1 + seed_count / 20,
        "long parts are not the exception: {long_parted}"
    );
    for (name, total) in COUNTS.iter().zip(totals) {
        eprintln!("{name}: {total}");
        assert!(total > 0 || seed_count < 20, "not one of: {name}");
    }
}

/// What a run counts.
const COUNTS: [&str; 15] = [
    "frames seen",
    "skips",
    "messages lost",
    "playlists",
    "segments and parts sent at once",
    "segments and parts sent as they were made",
    "of these, not to the end",
    "segments whose frames were looked at",
    "segments that were the same as their parts",
    "gaps",
    "requests refused",
    "frames put together of packets by viewers",
    "runs since a keyframe",
    "keyframes asked for",
    "frames built of packets",
];

/// Returns how often all that happened.
fn run(seed: u64, base: Instant, step: &Cell<u32>, long_parted: &mut u64) -> [u64; COUNTS.len()] {
    let mut rng = Prng::new(seed);
    let climate = Climate {
        shards: 1 + rng.below(4) as usize,
        merge: ["off", "fixed", "adaptive"][(seed % 3) as usize],
        loss_per_1000: [0, 0, 5, 50][rng.below(4) as usize],
        delay_ms_max: [2, 30, 400][rng.below(3) as usize],
        rough_clocks: rng.chance(70),
        reloads: rng.chance(40),
        drain: rng.chance(20),
        flighty: true,
    };
    let mut world = World::new(rng.next_u64(), climate, base, Tracks::load());
    for number in 0..STEPS {
        step.set(number);
        happen(&mut world);
        let time = match world.rng.below(500) {
            0 => world.rng.below(3_000_000),
            _ => world.rng.below(30_000),
        };
        world.step(Duration::from_micros(time));
    }
    step.set(STEPS);
    settle(&mut world);
    let audience = &world.audience;
    *long_parted += audience.shelf.long_parted.len() as u64;
    [
        world.frames_seen,
        world.skips_seen,
        world.media_dropped,
        audience.playlists,
        audience.bodies,
        audience.followed,
        audience.aborts,
        audience.shelf.read,
        audience.shelf.compared,
        audience.shelf.gaps,
        audience.refused.values().sum(),
        world.unpacked_seen,
        world.runs_seen,
        world.keyframes_asked,
        world.frames_built,
    ]
}

/// Somebody comes, goes or changes something.
fn happen(world: &mut World) {
    let shard = world.rng.below(world.climate.shards as u64) as usize;
    let name = world.rng.below(NAMES.len() as u64) as usize;
    match world.rng.below(1000) {
        0..20 if world.publishers.len() < 8 => world.publish(shard, name),
        20..28 => {
            if let Some((shard, conn)) = any(&mut world.rng, world.publishers.keys()) {
                let name = world.publishers[&(shard, conn)].name;
                world.end_publisher(shard, conn);
                // Most come back, wherever the kernel puts them, and some do so again and again.
                for _ in 0..world.rng.below(3) {
                    let shard = world.rng.below(world.climate.shards as u64) as usize;
                    world.publish(shard, name);
                }
            }
        }
        30..70 if world.viewers.len() < 24 => {
            let container = Container::ALL[world.rng.below(4) as usize];
            let pace = match world.rng.below(10) {
                0..6 => Pace::Fast,
                6..9 => Pace::Slow(1000 + world.rng.below(60_000)),
                _ => Pace::Never,
            };
            world.play(shard, name, container, pace);
        }
        70..85 => {
            if let Some((shard, conn)) = any(&mut world.rng, world.viewers.keys()) {
                world.end_viewer(shard, conn);
            }
        }
        85..90 => world.inquire(shard, name),
        90..93 if world.climate.reloads => {
            let kept = std::array::from_fn(|_| world.rng.chance(75));
            world.reload(&kept);
        }
        94..114 if world.audience.players.len() < 12 => {
            let style = Style::ALL[world.rng.below(8) as usize];
            world.watch(name, style);
        }
        114..118 => {
            let mut players = world.audience.players.keys();
            let count = players.len() as u64;
            let left = players.nth(world.rng.below(count) as usize).copied();
            if let Some(left) = left {
                world.audience.players.remove(&left);
            }
        }
        118..150 if world.packet_viewers.len() < 16 => world.offer(shard, name),
        150..162 => {
            if let Some((shard, conn)) = any(&mut world.rng, world.packet_viewers.keys()) {
                world.end_packet_viewer(shard, conn);
            }
        }
        93 if world.climate.drain && world.rng.below(4) == 0 => world.drain(shard),
        _ => {}
    }
}

fn any<'a>(
    rng: &mut Prng,
    mut keys: impl ExactSizeIterator<Item = &'a (usize, ConnId)>,
) -> Option<(usize, ConnId)> {
    let count = keys.len() as u64;
    keys.nth(rng.below(count) as usize).copied()
}

/// After all that, everybody who comes is served, and when they have gone nothing is left.
fn settle(world: &mut World) {
    world.climate.loss_per_1000 = 0;
    world.climate.delay_ms_max = 5;
    world.climate.flighty = false;
    world.clear();
    world.reload(&[true; NAMES.len()]);
    pass(world, Duration::from_secs(1));

    let shards: Vec<usize> = (0..world.climate.shards)
        .filter(|shard| !world.is_drained(*shard))
        .collect();
    if !shards.is_empty() {
        serve(world, &shards);
    }

    if !shards.is_empty() {
        unwatch(world);
    }
    world.clear();
    pass(world, LINGER);
    // Whoever was answered last has gone by now as well.
    world.clear();
    pass(world, Duration::from_secs(1));
    world.assert_empty();
}

fn serve(world: &mut World, shards: &[usize]) {
    for name in 0..NAMES.len() {
        for shard in shards {
            let container = Container::ALL[world.rng.below(4) as usize];
            world.play(*shard, name, container, Pace::Fast);
            world.offer(*shard, name);
        }
        while !world
            .publishers
            .values()
            .any(|publisher| publisher.name == name)
        {
            let shard = shards[world.rng.below(shards.len() as u64) as usize];
            world.publish(shard, name);
        }
    }
    for publisher in world.publishers.values_mut() {
        publisher.quick();
    }
    for style in Style::ALL {
        let name = world.rng.below(NAMES.len() as u64) as usize;
        world.watch(name, style);
    }
    pass(world, Duration::from_secs(8));
    let now = world.now;
    for ((shard, _), viewer) in &world.viewers {
        assert!(
            viewer.stage == Stage::Playing
                && viewer.videos > 0
                && now - viewer.last_frame_at < Duration::from_millis(500),
            "{} is not served on shard {shard}: {viewer:?}, and publishes {:?}",
            NAMES[viewer.name].name,
            world
                .publishers
                .iter()
                .find(|(_, it)| it.name == viewer.name)
        );
    }
    let count = world.packet_viewers.len();
    assert!(
        count > 0 || shards.is_empty(),
        "viewers of packets are left"
    );
    for ((shard, _), viewer) in &world.packet_viewers {
        assert!(
            viewer.pictures > 0 && now - viewer.last_frame_at < Duration::from_millis(500),
            "{} is not served on shard {shard}: {viewer:?}",
            NAMES[viewer.name].name
        );
    }
    assert_watched(world);
}

/// When nobody asks for renditions any more they are let go, while their streams go on; who comes
/// after that is served all the same.
fn unwatch(world: &mut World) {
    world.stop_watching();
    pass(world, Duration::from_secs(63));
    world.assert_unwatched();
    world.audience.shelf.forget();
    world.watch(0, Style::Low);
    pass(world, Duration::from_secs(6));
    assert_watched(world);
}

fn assert_watched(world: &World) {
    for player in world.audience.players.values() {
        assert!(
            player.style == Style::Odd
                || player.style == Style::Clip
                || player.got > 0 && world.now - player.got_at < Duration::from_secs(4),
            "nothing to play: {player:?}"
        );
    }
}

fn pass(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.step(Duration::from_millis(20));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock, and virtual time needs one to count from"
)]
fn now() -> Instant {
    Instant::now()
}
