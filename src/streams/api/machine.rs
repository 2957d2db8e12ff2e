//! What the machine has, and how much of it is used.

use serde_json::{Value, json};

use super::{Api, Work};

/// The machine at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Machine {
    /// The share of all CPUs that was in use since this was last asked, 0 to 100.
    pub cpu_percent: f64,
    /// The kernel's load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory in KiB.
    pub total_kib: u64,
    /// Of that, what nobody uses.
    pub free_kib: u64,
    /// Of that, what could be had back from caches.
    pub cached_kib: u64,
    /// Swap in KiB.
    pub swap_total_kib: u64,
    /// Of that, what is free.
    pub swap_free_kib: u64,
    /// CPUs that are online.
    pub threads: u64,
    /// What they call themselves.
    pub model: String,
    /// Their clock in MHz.
    pub mhz: u64,
}

impl Machine {
    fn used_kib(&self) -> u64 {
        self.total_kib
            .saturating_sub(self.free_kib)
            .saturating_sub(self.cached_kib)
    }

    fn memory_percent(&self) -> f64 {
        tenth(self.used_kib() as f64 * 100.0 / self.total_kib.max(1) as f64)
    }

    /// The machine's part of `capabilities`. No stream is kept in shared memory, so that of the
    /// machine is not reported.
    pub(super) fn report(&self, capabilities: &mut serde_json::Map<String, Value>) {
        let mib = |kib: u64| kib / 1024;
        let cpu = json!([{
            "cores": self.threads,
            "mhz": self.mhz,
            "model": self.model,
            "threads": self.threads,
        }]);
        let hundredths = |load: f64| (load * 100.0).round() as u64;
        let parts = [
            ("cpu", cpu),
            ("cpu_use", json!((self.cpu_percent * 10.0).round() as u64)),
            (
                "load",
                json!({
                    "one": hundredths(self.load[0]),
                    "five": hundredths(self.load[1]),
                    "fifteen": hundredths(self.load[2]),
                    "mem": self.memory_percent(),
                    "shm": 0.0,
                }),
            ),
            (
                "mem",
                json!({
                    "total": mib(self.total_kib),
                    "free": mib(self.free_kib),
                    "cached": mib(self.cached_kib),
                    "used": mib(self.used_kib()),
                    "swaptotal": mib(self.swap_total_kib),
                    "swapfree": mib(self.swap_free_kib),
                    "shmtotal": 0,
                    "shmfree": 0,
                }),
            ),
            ("speed", json!(self.mhz * self.threads)),
            ("threads", json!(self.threads)),
        ];
        capabilities.extend(parts.map(|(name, value)| (name.to_owned(), value)));
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// `load`: CPU, memory and shared memory in per cent.
pub(super) fn load(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    match work.world.machine {
        Some(machine) => {
            let load = json!({
                "cpu": tenth(machine.cpu_percent),
                "mem": machine.memory_percent(),
                "shm": 0.0,
            });
            work.put("load", load);
        }
        None => work.fail("load", "the machine does not say"),
    }
}
