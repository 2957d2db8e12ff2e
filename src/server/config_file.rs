//! The configuration's file and the key file beside it. Everything here may block on a disk, so it
//! runs on the worker's thread.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::config::{self, Loaded};
use crate::server::disk::{sync_folder, with_suffix};
use crate::streams::api::accounts::Key;

/// The mode of a file that holds passwords.
const MODE_PRIVATE: u32 = 0o600;

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

/// Why the configuration was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    /// The server runs without a file.
    #[error("the server was started without a configuration file")]
    NoFile,
    /// Somebody else wrote it. What they wrote is read; what was to be saved is kept beside it.
    #[error("the file was changed by somebody else meanwhile; that is what holds")]
    Changed(Box<Result<Loaded, String>>),
    /// What is on the disk is no configuration, and somebody may be at work on it.
    #[error("the file has a mistake, and is not overwritten: {0}")]
    Broken(String),
    /// It cannot be written; the old one is whole.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The file, as this process last saw it.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    known: Option<Stamp>,
    mistake: Option<String>,
}

impl ConfigFile {
    /// The file by this name, whose content of now is known.
    pub(super) fn new(path: &Path) -> Self {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self {
            known: stamp(&path),
            path,
            mistake: None,
        }
    }

    /// Reads the file if it is not as it was left.
    pub(super) fn read_if_changed(&mut self) -> Option<Result<Loaded, String>> {
        (stamp(&self.path) != self.known).then(|| self.read())
    }

    /// Reads the file.
    pub(super) fn read(&mut self) -> Result<Loaded, String> {
        // Taken first: a change while the file is read is seen the next time.
        self.known = stamp(&self.path);
        let loaded = config::load(&self.path).map_err(|error| error.to_string());
        self.mistake = loaded.as_ref().err().cloned();
        loaded
    }

    /// Replaces the file as a whole, on the disk when it returns.
    pub(super) fn save(&mut self, document: &Map<String, Value>) -> Result<(), SaveError> {
        if let Some(loaded) = self.read_if_changed() {
            if let Err(error) = self.keep_beside(document) {
                tracing::error!(%error, "changes made over the API cannot be kept");
            }
            return Err(SaveError::Changed(Box::new(loaded)));
        }
        if let Some(mistake) = &self.mistake {
            return Err(SaveError::Broken(mistake.clone()));
        }
        let text = Value::Object(document.clone()).to_string();
        let mode = fs::metadata(&self.path).map_or(MODE_PRIVATE, |metadata| metadata.mode());
        replace(&self.path, text.as_bytes(), mode)?;
        self.known = stamp(&self.path);
        Ok(())
    }

    /// Writes what was to be saved to `config.json.unsaved`.
    pub(super) fn keep_beside(&self, document: &Map<String, Value>) -> io::Result<()> {
        let path = with_suffix(&self.path, ".unsaved");
        let text = Value::Object(document.clone()).to_string();
        replace(&path, text.as_bytes(), MODE_PRIVATE)?;
        tracing::warn!(file = %path.display(), "what was not saved is kept here");
        Ok(())
    }

    /// Where the key is.
    pub(super) fn key_path(&self) -> PathBuf {
        with_suffix(&self.path, ".key")
    }
}

/// The key of a configuration's accounts, if there is one.
pub(super) fn read_key(path: &Path) -> Option<Key> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let key = Key::parse(&text);
            if key.is_none() {
                tracing::error!(file = %path.display(), "not a key: logins by challenge fail");
            }
            key
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "the key cannot be read");
            None
        }
    }
}

/// Writes a key, unless there is one.
pub(super) fn write_key(path: &Path, key: &Key) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE_PRIVATE)
        .open(path)?;
    file.write_all(key.to_text().as_bytes())?;
    file.sync_all()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

/// Writes a file beside `path` and puts it in its place, so that at any moment there is one of the
/// two, whole.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = with_suffix(path, &format!(".{}.draft", std::process::id()));
    let written = write_draft(&draft, bytes, mode).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // It holds nothing that is not in memory.
        let _ = fs::remove_file(&draft);
        return written;
    }
    sync_folder(path)
}

fn write_draft(draft: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(draft); // Of a process with the same number that died.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE_PRIVATE)
        .open(draft)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ringside-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn document(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_save_replaces_the_file_and_keeps_its_mode() {
        let folder = folder("save");
        let path = folder.join("config.json");
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut file = ConfigFile::new(&path);
        file.save(&document(r#"{"b":1,"a":[2]}"#)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"b":1,"a":[2]}"#);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(file.read_if_changed().is_none(), "its own change is known");
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn a_new_file_is_private() {
        let path = folder("new").join("config.json");
        let mut file = ConfigFile::new(&path);
        file.save(&document("{}")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_somebody_else_wrote_is_not_overwritten() {
        let folder = folder("changed");
        let path = folder.join("config.json");
        fs::write(&path, "{}").unwrap();
        let mut file = ConfigFile::new(&path);
        fs::write(&path, r#"{"streams":{"theirs":{"source":"push://"}}}"#).unwrap();
        let ours = document(r#"{"streams":{"ours":{"source":"push://"}}}"#);
        let Err(SaveError::Changed(loaded)) = file.save(&ours) else {
            panic!("overwritten");
        };
        assert!(loaded.unwrap().config.stream("theirs").is_some());
        let kept = fs::read_to_string(folder.join("config.json.unsaved")).unwrap();
        assert!(kept.contains("ours"));
        file.save(&ours).unwrap();
    }

    #[test]
    fn a_file_with_a_mistake_is_left_to_who_makes_it() {
        let path = folder("broken").join("config.json");
        fs::write(&path, "{}").unwrap();
        let mut file = ConfigFile::new(&path);
        fs::write(&path, "{\"streams\":").unwrap();
        assert!(file.read_if_changed().unwrap().is_err());
        assert!(matches!(
            file.save(&document("{}")),
            Err(SaveError::Broken(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"streams\":");
        fs::write(&path, "{ }").unwrap();
        assert!(file.read_if_changed().unwrap().is_ok());
        file.save(&document("{}")).unwrap();
    }

    /// `/dev/full` answers every write as a full disk does.
    #[test]
    fn a_full_disk_leaves_the_old_file_whole() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            (&full).write_all(b"x").unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        let folder = folder("full");
        let path = folder.join("config.json");
        fs::write(&path, "{}").unwrap();
        let mut file = ConfigFile::new(&path);
        // A draft that cannot be made stands for a disk that has no room for one.
        let draft = with_suffix(&path, &format!(".{}.draft", std::process::id()));
        fs::create_dir(&draft).unwrap();
        assert!(matches!(
            file.save(&document(r#"{"a":1}"#)),
            Err(SaveError::Io(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        fs::remove_dir(&draft).unwrap();
        file.save(&document(r#"{"a":1}"#)).unwrap();
    }

    #[test]
    fn a_key_is_written_once() {
        let path = folder("key").join("config.json.key");
        let key = Key::new([9; 32]);
        assert_eq!(read_key(&path), None);
        write_key(&path, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path), Some(key.clone()));
        assert!(write_key(&path, &key).is_err());
    }
}
