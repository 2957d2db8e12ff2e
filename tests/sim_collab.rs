//! A collaborative session in virtual time, with many clients that behave as the original's do, and
//! some that do not. One seed makes one run.
//!
//! A failure names its seed; `RINGSIDE_SIM_SEED=7 cargo test --test sim_collab` runs that one alone,
//! `RINGSIDE_SIM_SEEDS=5000` runs that many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "virtual time needs some instant to start from"
)]

mod collab_sim;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use collab_sim::client::{Client, Node, PATIENCE, State};
use collab_sim::value;
use collab_sim::world::World;
use ringside::proto::pickle::Value;
use ringside::proto::replication::Generation;

const SEEDS: u64 = 150;
const STEPS: u32 = 1200;

/// What happens in sessions of all generations.
const ALL: [&str; 17] = [
    "come",
    "compared",
    "create",
    "cut",
    "delete",
    "describe",
    "init",
    "intrude",
    "kick",
    "kick refused",
    "lock",
    "reconnect",
    "replace",
    "stall",
    "stranger",
    "unlock",
    "vanish",
];

#[test]
fn all_clients_end_with_one_scene_and_leave_nothing() {
    run_all(Generation::Later, &["change"]);
}

#[test]
fn clients_of_generation_a_end_with_one_scene_and_leave_nothing() {
    run_all(Generation::A, &["overtake"]);
}

fn run_all(generation: Generation, more: &[&str]) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("RINGSIDE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGSIDE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let is_whole = seeds.end - seeds.start >= SEEDS;
    let base = Instant::now();
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, base, generation))) {
            Ok(counts) => {
                for (name, count) in counts {
                    *totals.entry(name).or_default() += count;
                }
            }
            Err(panic) => {
                eprintln!("RINGSIDE_SIM_SEED={seed} fails");
                resume_unwind(panic);
            }
        }
    }
    eprintln!("{totals:?}");
    // A simulation in which something never happens tests nothing of it.
    for name in ALL.iter().chain(more) {
        let count = totals.get(name).copied().unwrap_or_default();
        assert!(!is_whole || count > 50, "{name}: {totals:?}");
    }
}

fn run(seed: u64, base: Instant, generation: Generation) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(base, seed, generation);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    // Tables of users go out, and whoever was away for too long notices that it is out.
    let until = world.stage.now + PATIENCE + Duration::from_secs(1);
    while world.stage.now < until {
        world
            .stage
            .advance(world.stage.now + Duration::from_millis(100));
        world.settle();
    }
    world.come_last();
    let compared = compare(&world, generation);
    world.counts.insert("compared", compared);

    let refused = world.stage.session.statistics();
    assert!(refused.refused_strangers > 0, "{refused:?}");
    let ids: Vec<u64> = world.clients.keys().copied().collect();
    for id in ids {
        for link in world.clients.remove(&id).unwrap().links {
            world.stage.drop_link(link);
        }
    }
    world
        .stage
        .advance(world.stage.now + Duration::from_secs(2));
    let left = world.stage.session.statistics();
    assert_eq!(
        (left.users, left.connections, left.locks, left.queued_bytes),
        (0, 0, 0, 0)
    );
    assert_eq!(world.stage.session.deadline(), None, "it is idle");
    assert!(world.stage.links.values().all(|link| link.is_closed));
    world.counts
}

/// How many clients have the same scene and know the same of all users.
fn compare(world: &World, generation: Generation) -> u64 {
    let is_active = |client: &&Client| client.state == State::Active;
    let active: Vec<&Client> = world.clients.values().filter(is_active).collect();
    let statistics = world.stage.session.statistics();
    let states: Vec<_> = world
        .clients
        .values()
        .map(|c| (&c.name, &c.state))
        .collect();
    assert_eq!(statistics.users, world.clients.len() as u64, "{states:?}");
    let users = statistics.users;
    let connections = match generation {
        // The fourth one is known by its first node.
        Generation::A => 3 * users..=4 * users,
        Generation::Later => 3 * users..=3 * users,
    };
    assert!(connections.contains(&statistics.connections));
    let Some(first) = active.first() else {
        assert_eq!(statistics.nodes, 0, "{states:?}");
        return 0;
    };
    if generation == Generation::A && statistics.nodes == 0 {
        // Whoever comes to an empty scene waits for its first node.
        return 0;
    }
    assert_eq!(active.len(), world.clients.len(), "{states:?}");
    assert_eq!(statistics.nodes, first.scene.len() as u64);
    let kept = &world.stage.kept;
    assert!(kept.is_complete());
    assert_eq!(kept.nodes() as u64, statistics.nodes);
    assert_eq!(kept.bytes() as u64, statistics.node_bytes);
    let owned = first.scene.values().filter(|node| node.owner != "COMMON");
    assert_eq!(statistics.locks, owned.count() as u64);
    for other in &active[1..] {
        let [one, two] = [*first, *other].map(|client| scene(&client.scene));
        for (uuid, node) in &one {
            assert_eq!(
                Some(node),
                two.get(uuid),
                "{uuid:?}: {} and {}",
                first.name,
                other.name
            );
        }
        assert_eq!(one.len(), two.len(), "{} and {}", first.name, other.name);
        assert_eq!(
            first.users, other.users,
            "{} and {}",
            first.name, other.name
        );
    }
    active.len() as u64
}

type Seen = BTreeMap<String, (String, Vec<String>, Value)>;

fn scene(nodes: &BTreeMap<bytes::Bytes, Node>) -> Seen {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    nodes
        .iter()
        .map(|(uuid, node)| {
            let others = node
                .dependencies
                .iter()
                .filter(|uuid| nodes.contains_key(*uuid));
            let seen = (
                text(&node.owner),
                others.map(text).collect(),
                value(&node.data),
            );
            (text(uuid), seen)
        })
        .collect()
}
