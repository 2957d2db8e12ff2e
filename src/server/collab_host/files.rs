//! The files of one session: `scene.db`, its backups `scene_2026_11_29_10-00-00.db`, and its logs
//! `scene.db.log-00000001`. Everything here may block on a disk, so it runs on the keeper's threads
//! and before the server has started.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::base::text::push_date;
use crate::collab::Scene;
use crate::proto::session_log::{HEAD_BYTES, Head, Mark, Reader, Record, SceneId};
use crate::server::disk::{self, with_suffix};

/// Where a session is kept.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Held as long as the server lives, so that no other one writes the same files.
    _lock: Option<File>,
}

/// Another server, or another session of this one, has the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken;

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) scene: Scene,
    /// Which scene the logs are of, if there were any.
    pub(super) scene_id: Option<SceneId>,
    /// The number of the next log.
    pub(super) next_log: u64,
    /// `scene.db` and the logs beside it make up the scene, so that one more log fits.
    pub(super) is_continued: bool,
}

impl Files {
    /// The files of the session that is kept in `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Taken> {
        let lock = folder(path).and_then(fs::create_dir_all).and_then(|()| {
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(false);
            options.open(with_suffix(path, ".lock"))
        });
        let lock = match lock {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => Some(lock),
                Err(TryLockError::WouldBlock) => return Err(Taken),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(file = %path.display(), %error, "the file cannot be locked");
                    None
                }
            },
            Err(error) => {
                tracing::error!(
                    file = %path.display(),
                    %error,
                    "the collaborative session cannot be kept in this folder"
                );
                None
            }
        };
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is there: the file, or else its newest backup that can be read; the logs that go on
    /// from it; where there is nothing, `preload`.
    pub(super) fn restore(&self, preload: Option<&Path>) -> Found {
        // A draft is what a server was writing when it died.
        let _ = fs::remove_file(self.draft());
        let own = self.read_own();
        let is_own = own.as_ref().is_some_and(|(_, _, is_newest)| *is_newest);
        let mark = own.as_ref().and_then(|(_, mark, _)| *mark);
        let is_missing = own.is_none();
        let mut scene = own.map(|(scene, _, _)| scene).unwrap_or_default();
        let mut id = mark.map(|mark| mark.scene);
        let mut next = mark.map_or(1, |mark| mark.next);
        let mut is_continued = is_missing || (is_own && mark.is_some());
        for (number, path) in self.logs() {
            let is_next = number == next && (mark.is_some() || is_missing);
            let is_old = mark.is_some_and(|mark| number < mark.next);
            match self.replay(&path, id, &mut scene, is_next.then_some(number), mark) {
                Some(read) => {
                    id = Some(read);
                    next += 1;
                }
                None if is_old => {
                    let _ = fs::remove_file(&path);
                }
                None => {
                    tracing::warn!(
                        log = %path.display(),
                        "this log does not go on from what is there, and is set aside"
                    );
                    set_aside(&path, ".unused");
                }
            }
        }
        if !scene.is_complete()
            && is_missing
            && let Some(preloaded) = preload.and_then(self::preload)
        {
            scene = preloaded;
            is_continued = false;
        }
        Found {
            scene,
            scene_id: id,
            next_log: next,
            is_continued,
        }
    }

    /// The scene of the file or of a backup, its mark, and whether it is the file.
    fn read_own(&self) -> Option<(Scene, Option<Mark>, bool)> {
        if self.path.exists() {
            match read_file(&self.path) {
                Ok((scene, mark)) => return Some((scene, mark, true)),
                Err(error) => {
                    tracing::error!(
                        file = %self.path.display(),
                        error,
                        "the file of a collaborative session cannot be read, and is set aside"
                    );
                    set_aside(&self.path, ".damaged");
                }
            }
        }
        for backup in self.backups().into_iter().rev() {
            match read_file(&backup) {
                Ok((scene, mark)) => {
                    tracing::warn!(file = %backup.display(), "a backup takes the file's place");
                    return Some((scene, mark, false));
                }
                Err(error) => {
                    tracing::error!(file = %backup.display(), error, "a backup cannot be read");
                }
            }
        }
        None
    }

    /// Replays a log, if it is number `number` of the scene. The scene that it is of.
    fn replay(
        &self,
        path: &Path,
        id: Option<SceneId>,
        scene: &mut Scene,
        number: Option<u64>,
        mark: Option<Mark>,
    ) -> Option<SceneId> {
        let mut file = File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).ok()?;
        let head = Head::read(&head)?;
        let fits = number == Some(head.number)
            && id.is_none_or(|id| id == head.scene)
            && (!head.follows_gap || mark.is_some_and(|mark| mark.next == head.number));
        if !fits {
            return None;
        }
        let mut reader = Reader::new(io::BufReader::new(file), bytes - HEAD_BYTES as u64);
        let mut scanner = Scene::scanner();
        let (mut records, mut refused) = (0_u64, 0_u64);
        loop {
            match reader.record() {
                Ok(Some(record)) => {
                    records += 1;
                    refused += u64::from(!scene.replay(&record, &mut scanner));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(log = %path.display(), %error, "the log cannot be read on");
                    break;
                }
            }
        }
        tracing::info!(
            log = %path.display(),
            records,
            refused,
            cut_bytes = reader.torn_bytes(),
            "the log of a collaborative session was replayed"
        );
        Some(head.scene)
    }

    /// Replaces the file as a whole; the old one becomes a backup, of which the newest `keep` stay.
    /// How many bytes the file has.
    pub(super) fn save(&self, scene: &Scene, mark: Option<Mark>, keep: usize) -> io::Result<u64> {
        let draft = self.draft();
        let written = File::create(&draft).and_then(|file| {
            let file = scene.write(file, mark)?;
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        let bytes = match written.and_then(|bytes| {
            self.back_up(keep)?;
            fs::rename(&draft, &self.path)?;
            Ok(bytes)
        }) {
            Ok(bytes) => bytes,
            Err(error) => {
                // It holds nothing that is not in memory.
                let _ = fs::remove_file(&draft);
                return Err(error);
            }
        };
        disk::sync_folder(&self.path)?;
        let backups = self.backups();
        for old in &backups[..backups.len().saturating_sub(keep)] {
            let _ = fs::remove_file(old);
        }
        Ok(bytes)
    }

    fn back_up(&self, keep: usize) -> io::Result<()> {
        let modified = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if keep == 0 {
            return Ok(());
        }
        let since = modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let backup = self.backup(since.as_millis() as i64);
        match fs::hard_link(&self.path, &backup) {
            Ok(()) => Ok(()),
            // Two saves in one second are one backup.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has links. A server that dies before the new file is in place
            // finds the backup.
            Err(_) => fs::rename(&self.path, &backup),
        }
    }

    /// Begins a log.
    pub(super) fn create_log(&self, head: &Head) -> io::Result<File> {
        let path = self.log(head.number);
        let made = File::create(&path).and_then(|mut file| {
            file.write_all(&head.to_bytes())?;
            file.sync_all()?;
            disk::sync_folder(&self.path)?;
            Ok(file)
        });
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        made
    }

    /// Removes the logs that the file has made superfluous.
    pub(super) fn forget_logs(&self, before: u64) {
        for (number, path) in self.logs() {
            if number < before
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(log = %path.display(), %error, "an old log cannot be removed");
            }
        }
    }

    fn draft(&self) -> PathBuf {
        with_suffix(&self.path, ".draft")
    }

    fn log(&self, number: u64) -> PathBuf {
        with_suffix(&self.path, &format!(".log-{number:08}"))
    }

    /// The file's name as it was at a time: the form that the add-on writes.
    fn backup(&self, unix_ms: i64) -> PathBuf {
        let mut date = String::new();
        push_date(&mut date, unix_ms);
        let date: String = date
            .chars()
            .take(19)
            .enumerate()
            .map(|(at, c)| match (at, c) {
                (4 | 7 | 10, _) => '_',
                (_, ':') => '-',
                (_, c) => c,
            })
            .collect();
        let (stem, extension) = self.stem();
        self.path
            .with_file_name(format!("{stem}_{date}{extension}"))
    }

    /// The name without and the rest with the dot.
    fn stem(&self) -> (String, String) {
        let text =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = text(self.path.extension()).map(|extension| format!(".{extension}"));
        (
            text(self.path.file_stem()).unwrap_or_default(),
            extension.unwrap_or_default(),
        )
    }

    /// Oldest first.
    fn backups(&self) -> Vec<PathBuf> {
        let (stem, extension) = self.stem();
        self.named(|name| {
            let date = name
                .strip_prefix(stem.as_str())?
                .strip_prefix('_')?
                .strip_suffix(extension.as_str())?;
            let is_date = date.len() == 19
                && date
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
            is_date.then(|| date.to_owned())
        })
        .into_iter()
        .map(|(_, path)| path)
        .collect()
    }

    /// By their numbers, smallest first.
    fn logs(&self) -> Vec<(u64, PathBuf)> {
        let name = self.path.file_name().unwrap_or_default();
        let prefix = format!("{}.log-", name.to_string_lossy());
        self.named(|name| name.strip_prefix(prefix.as_str())?.parse().ok())
    }

    /// The files of the folder that `read` makes something of, in its order.
    fn named<T: Ord>(&self, read: impl Fn(&str) -> Option<T>) -> Vec<(T, PathBuf)> {
        let entries = folder(&self.path).and_then(fs::read_dir);
        let mut found: Vec<(T, PathBuf)> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((read(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        found.sort();
        found
    }
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    pub(super) number: u64,
    /// Bytes that are whole records on the disk, with the head.
    whole: u64,
    /// What is gathered to be written at once.
    buffer: Vec<u8>,
    is_synced: bool,
}

/// Bytes that are gathered; a bigger part is written by itself.
const BUFFER_BYTES: usize = 256 << 10;

impl Log {
    pub(super) fn new(file: File, number: u64, is_synced: bool) -> Self {
        Self {
            file,
            number,
            whole: HEAD_BYTES as u64,
            buffer: Vec::new(),
            is_synced,
        }
    }

    /// Bytes of it.
    pub(super) fn bytes(&self) -> u64 {
        self.whole + self.buffer.len() as u64
    }

    /// Adds a record, which is in the file after [`Log::flush`].
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        self.buffer.extend_from_slice(&record.head());
        for part in record.parts() {
            if self.buffer.len() + part.len() > BUFFER_BYTES {
                self.write()?;
            }
            if part.len() > BUFFER_BYTES {
                self.file.write_all(part)?;
                self.whole += part.len() as u64;
            } else {
                self.buffer.extend_from_slice(part);
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.whole += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Has everything written: to the system, and if that is wanted to the disk.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        match self.is_synced {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }
}

/// The scene of a file that somebody else has written.
pub(super) fn preload(path: &Path) -> Option<Scene> {
    match read_file(path) {
        Ok((scene, _)) => Some(scene),
        Err(error) => {
            tracing::error!(
                file = %path.display(),
                error,
                "the scene of a collaborative session cannot be loaded"
            );
            None
        }
    }
}

fn read_file(path: &Path) -> Result<(Scene, Option<Mark>), String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    Scene::read(&bytes).map_err(|error| error.to_string())
}

/// Keeps a file that nobody can use out of the way.
fn set_aside(path: &Path, suffix: &str) {
    if let Err(error) = fs::rename(path, with_suffix(path, suffix)) {
        tracing::error!(file = %path.display(), %error, "the file cannot be set aside");
    }
}

fn folder(path: &Path) -> io::Result<&Path> {
    if path.file_name().is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not the name of a file",
        ));
    }
    Ok(disk::folder(path))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
