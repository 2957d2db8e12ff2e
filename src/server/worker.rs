//! A thread for what would hold up the control shard: files, folders and password hashes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::Context;
use serde_json::{Map, Value};

use crate::config::{self, Loaded, Secret};
use crate::io::{Waker, fill_random, open_beneath};
use crate::server::config_file::{ConfigFile, SaveError, read_key, write_key};
use crate::streams::api::accounts::{self, Key, Seeds};
use crate::streams::api::authorize::is_account_name;
use crate::streams::api::browse::ENTRIES_MAX;
use crate::streams::api::{Listing, Machine, Place};

/// Jobs that may wait. A password takes tens of milliseconds, so 32 are a second.
const JOBS_MAX: usize = 32;

/// How often the file is looked at, as in MistServer.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Something to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// Compare a password with a hash.
    Verify {
        /// Comes back with the report.
        ticket: u64,
        /// `None` for an account that is not there.
        hash: Option<String>,
        /// The MD5 of the password.
        md5: Secret,
    },
    /// Hash a new account's password.
    Protect {
        /// Comes back with the report.
        ticket: u64,
        /// The account.
        name: String,
        /// The MD5 of the password.
        md5: Secret,
        /// It may be kept, sealed.
        keeps_md5: bool,
    },
    /// Write the configuration.
    Save {
        /// Who waits for it, if anybody does.
        ticket: Option<u64>,
        /// What to write.
        document: Map<String, Value>,
        /// The MD5 of passwords may be kept, sealed.
        keeps_md5: bool,
    },
    /// Read the configuration, if it is not as this process left it or if it has to be.
    Read {
        /// Who waits for it, if anybody does.
        ticket: Option<u64>,
        /// Changes that would be lost, to be kept beside the file.
        unsaved: Option<Map<String, Value>>,
    },
    /// Write changes beside the file.
    Keep(Map<String, Value>),
    /// List a folder.
    List {
        /// Comes back with the report.
        ticket: u64,
        /// Which.
        place: Place,
    },
    /// Look at load and memory.
    Look {
        /// Comes back with the report.
        ticket: u64,
    },
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Report {
    /// Of [`Job::Verify`].
    Verified { ticket: u64, is_right: bool },
    /// Of [`Job::Protect`]: what is kept of the account.
    Protected {
        ticket: u64,
        name: String,
        account: Value,
        key: Option<Key>,
    },
    /// Of [`Job::Save`].
    Saved {
        ticket: Option<u64>,
        result: Result<(), SaveError>,
        /// `account` before and after its passwords were protected, if they were.
        accounts: Option<Box<(Value, Value)>>,
        key: Option<Key>,
    },
    /// Of [`Job::Read`], and when the file has changed.
    Read {
        ticket: Option<u64>,
        was_asked: bool,
        result: Box<Result<Loaded, String>>,
    },
    /// Of [`Job::List`].
    Listed {
        ticket: u64,
        result: Result<Listing, String>,
    },
    /// Of [`Job::Look`].
    Looked { ticket: u64, machine: Machine },
}

/// The worker's end on the control shard.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    reports: Receiver<Report>,
}

/// The worker itself.
struct Desk {
    file: Option<ConfigFile>,
    key_path: Option<PathBuf>,
    key: Option<Key>,
    cpu: Option<CpuTimes>,
}

impl Worker {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(path: Option<&Path>, waker: Waker) -> io::Result<Self> {
        let (jobs, orders) = mpsc::sync_channel(JOBS_MAX);
        let (tell, reports) = mpsc::channel();
        let file = path.map(ConfigFile::new);
        let key_path = file.as_ref().map(ConfigFile::key_path);
        let mut desk = Desk {
            file,
            key: key_path.as_deref().and_then(read_key),
            key_path,
            cpu: CpuTimes::read(),
        };
        thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || {
                loop {
                    let report = match orders.recv_timeout(LOOK_EVERY) {
                        Ok(job) => desk.work(job),
                        Err(RecvTimeoutError::Timeout) => desk.look_at_file(),
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    if let Some(report) = report {
                        // The control shard has ended: so does the next round.
                        let _ = tell.send(report);
                        waker.wake();
                    }
                }
            })?;
        Ok(Self { jobs, reports })
    }

    /// Hands a job over, or gives it back when too many wait.
    pub(super) fn send(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// The next report.
    pub(super) fn receive(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// The next report, waited for: at the end of the server only.
    pub(super) fn wait(&self, limit: Duration) -> Option<Report> {
        self.reports.recv_timeout(limit).ok()
    }
}

/// The key beside a configuration.
pub(super) fn key_beside(path: &Path) -> Option<Key> {
    read_key(&ConfigFile::new(path).key_path())
}

/// Makes an account of the configuration in `path`, or sets its password.
pub(super) fn set_account(path: &Path, account: &Secret) -> anyhow::Result<()> {
    let (name, password) = account
        .expose()
        .split_once(':')
        .filter(|(name, password)| is_account_name(name) && !password.is_empty())
        .context("an account is NAME:PASSWORD")?;
    let loaded = config::load(path)?;
    let file = ConfigFile::new(path);
    let key_path = file.key_path();
    let mut desk = Desk {
        file: Some(file),
        key: read_key(&key_path),
        key_path: Some(key_path),
        cpu: None,
    };
    let key = match loaded.config.general.challenge_login {
        true => desk.make_key(),
        false => None,
    };
    let md5 = accounts::md5_hex(password);
    let mut document = loaded.config.to_document();
    let accounts = document.entry("account").or_insert(Value::Null);
    if !accounts.is_object() {
        *accounts = Value::Object(Map::new());
    }
    accounts[name] = accounts::protect(name, &md5, key.as_ref(), seeds());
    if let Some(file) = &mut desk.file {
        file.save(&document)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    tracing::info!("the account was written");
    Ok(())
}

/// Random bytes from the kernel.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

fn seeds() -> Seeds {
    Seeds {
        salt: random(),
        nonce: random(),
    }
}

impl Desk {
    fn work(&mut self, job: Job) -> Option<Report> {
        Some(match job {
            Job::Verify { ticket, hash, md5 } => Report::Verified {
                ticket,
                is_right: accounts::verify(hash.as_deref(), md5.expose()),
            },
            Job::Protect {
                ticket,
                name,
                md5,
                keeps_md5,
            } => {
                let key = if keeps_md5 { self.make_key() } else { None };
                let account = accounts::protect(&name, md5.expose(), key.as_ref(), seeds());
                Report::Protected {
                    ticket,
                    name,
                    account,
                    key,
                }
            }
            Job::Save {
                ticket,
                document,
                keeps_md5,
            } => self.save(ticket, document, keeps_md5),
            Job::Read { ticket, unsaved } => {
                let Some(file) = &mut self.file else {
                    return Some(Report::Read {
                        ticket,
                        was_asked: true,
                        result: Box::new(Err(SaveError::NoFile.to_string())),
                    });
                };
                if let Some(Err(error)) = unsaved.map(|document| file.keep_beside(&document)) {
                    tracing::error!(%error, "changes made over the API cannot be kept");
                }
                Report::Read {
                    ticket,
                    was_asked: true,
                    result: Box::new(file.read()),
                }
            }
            Job::Keep(document) => {
                if let Some(Err(error)) = self.file.as_ref().map(|file| file.keep_beside(&document))
                {
                    tracing::error!(%error, "changes made over the API cannot be kept");
                }
                return None;
            }
            Job::List { ticket, place } => Report::Listed {
                ticket,
                result: list(&place).map_err(|error| error.to_string()),
            },
            Job::Look { ticket } => Report::Looked {
                ticket,
                machine: self.look(),
            },
        })
    }

    fn look_at_file(&mut self) -> Option<Report> {
        let result = self.file.as_mut()?.read_if_changed()?;
        Some(Report::Read {
            ticket: None,
            was_asked: false,
            result: Box::new(result),
        })
    }

    /// Writes the document with its passwords protected.
    fn save(
        &mut self,
        ticket: Option<u64>,
        mut document: Map<String, Value>,
        keeps_md5: bool,
    ) -> Report {
        let before = document.get("account").cloned().unwrap_or_default();
        let key = if keeps_md5 && !before.is_null() {
            self.make_key()
        } else {
            None
        };
        let after = accounts::protect_all(&before, key.as_ref(), seeds);
        let accounts = after.map(|after| {
            document.insert("account".to_owned(), after.clone());
            Box::new((before, after))
        });
        let result = match &mut self.file {
            Some(file) => file.save(&document),
            None => Err(SaveError::NoFile),
        };
        Report::Saved {
            ticket,
            result,
            accounts,
            key,
        }
    }

    /// The key, made and written if there is none.
    fn make_key(&mut self) -> Option<Key> {
        if self.key.is_none() {
            let path = self.key_path.as_deref()?;
            let key = Key::new(random());
            match write_key(path, &key) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "the key of the accounts was made");
                    self.key = Some(key);
                }
                Err(error) => {
                    tracing::error!(
                        file = %path.display(),
                        %error,
                        "the key of the accounts cannot be written: logins by challenge end with \
                         the next start"
                    );
                }
            }
        }
        self.key.clone()
    }

    fn look(&mut self) -> Machine {
        let mut machine = Machine::default();
        let times = CpuTimes::read();
        if let Some(times) = times {
            let before = self.cpu.replace(times).unwrap_or_default();
            let all = times.all.saturating_sub(before.all).max(1);
            let idle = times.idle.saturating_sub(before.idle);
            machine.cpu_percent = 100.0 - idle as f64 * 100.0 / all as f64;
        }
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        for (load, word) in machine.load.iter_mut().zip(text.split_whitespace()) {
            *load = word.parse().unwrap_or_default();
        }
        for line in fs::read_to_string("/proc/meminfo")
            .unwrap_or_default()
            .lines()
        {
            let Some((name, rest)) = line.split_once(':') else {
                continue;
            };
            let kib = rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            match name {
                "MemTotal" => machine.total_kib = kib,
                "MemFree" => machine.free_kib = kib,
                "Cached" => machine.cached_kib = kib,
                "SwapTotal" => machine.swap_total_kib = kib,
                "SwapFree" => machine.swap_free_kib = kib,
                _ => {}
            }
        }
        for line in fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
        {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match name.trim() {
                "processor" => machine.threads += 1,
                "model name" => machine.model = value.trim().to_owned(),
                "cpu MHz" => machine.mhz = value.trim().parse::<f64>().unwrap_or(0.0) as u64,
                _ => {}
            }
        }
        machine
    }
}

/// The first line of `/proc/stat`, in ticks since the machine started.
#[derive(Clone, Copy, Debug, Default)]
struct CpuTimes {
    all: u64,
    idle: u64,
}

impl CpuTimes {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> = text
            .lines()
            .next()?
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        Some(Self {
            // Guests' time is in user time already.
            all: ticks.iter().take(8).sum(),
            idle: ticks.get(3)? + ticks.get(4)?,
        })
    }
}

fn list(place: &Place) -> io::Result<Listing> {
    let folder = open_beneath(Path::new(&place.root), Path::new(&place.relative))?;
    let mut listing = Listing::default();
    for entry in folder.entries()?.take(ENTRIES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A link is followed by whoever opens it, and only if it stays beneath the root.
        match entry.file_type()?.is_dir() {
            true => listing.folders.push(name),
            false => listing.files.push(name),
        }
    }
    listing.folders.sort();
    listing.files.sort();
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_beneath_the_root_is_listed() {
        let base = std::env::temp_dir().join(format!("ringside-browse-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let root = base.join("root");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir_all(base.join("outside")).unwrap();
        fs::write(root.join("b.mp4"), "").unwrap();
        fs::write(root.join("a.mp4"), "").unwrap();
        symlink(base.join("outside"), root.join("out")).unwrap();
        symlink("../../outside", root.join("sub/up")).unwrap();
        symlink("deep", root.join("sub/in")).unwrap();
        let list = |relative: &str| {
            list(&Place {
                root: root.display().to_string(),
                relative: relative.to_owned(),
            })
        };
        let top = list("").unwrap();
        assert_eq!(top.files, ["a.mp4", "b.mp4", "out"]);
        assert_eq!(top.folders, ["sub"]);
        assert_eq!(list("sub").unwrap().folders, ["deep"]);
        assert!(list("sub/in").is_ok(), "a link that stays inside");
        for outside in [
            "out",
            "sub/up",
            "../outside",
            "sub/../../outside",
            "/etc",
            "b.mp4",
        ] {
            assert!(list(outside).is_err(), "{outside}");
        }
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_machine_has_something() {
        let mut desk = Desk {
            file: None,
            key_path: None,
            key: None,
            cpu: None,
        };
        let machine = desk.look();
        assert!(machine.total_kib > 0 && machine.threads > 0);
        assert!((0.0..=100.0).contains(&machine.cpu_percent));
    }
}
