//! What the kernel tells about a process.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Lets this thread, and those it starts, run on `cpu` only.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    ringside::shard::pin_to_cpu(cpu).with_context(|| format!("CPU {cpu}"))
}

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This one.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// CPU time of all threads. `schedstat` counts nanoseconds where `stat` counts ticks of 10 ms
    /// of the same clock; threads that have ended are only in `stat`.
    pub(crate) fn cpu(self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in
            fs::read_dir(format!("/proc/{}/task", self.0)).with_context(|| self.missing())?
        {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let first = text
                .split(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok());
            nanoseconds += first.unwrap_or(0);
        }
        if nanoseconds > 0 {
            return Ok(Duration::from_nanos(nanoseconds));
        }
        self.cpu_in_ticks()
    }

    fn cpu_in_ticks(self) -> anyhow::Result<Duration> {
        const TICK: Duration = Duration::from_millis(10);
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name in parentheses may hold anything; utime is the twelfth field behind it.
        let behind = text.rsplit(')').next().unwrap_or_default();
        let ticks: u32 = behind
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u32>().ok())
            .sum();
        Ok(TICK * ticks)
    }

    /// Resident bytes.
    pub(crate) fn rss(self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.0);
        let text = fs::read_to_string(path).with_context(|| self.missing())?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Open descriptors.
    pub(crate) fn descriptors(self) -> anyhow::Result<usize> {
        let path = format!("/proc/{}/fd", self.0);
        Ok(fs::read_dir(path).with_context(|| self.missing())?.count())
    }

    fn missing(self) -> String {
        format!("process {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_used_time() {
        let own = Process::own();
        assert!(own.rss().unwrap() > 100_000);
        assert!(own.descriptors().unwrap() >= 3);
        let ticks = own.cpu_in_ticks().unwrap();
        assert!(own.cpu().unwrap() + Duration::from_millis(20) >= ticks);
    }
}
