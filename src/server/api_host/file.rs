//! What holds, and what is on the disk: changes, saves and what others write.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::{ANSWER_MAX, ApiHost, Errand, SAVE_AFTER, Step};
use crate::config::{Changes, Loaded, read_document};
use crate::server::config_file::SaveError;
use crate::server::worker::{Job, Report};
use crate::streams::api::accounts::{Accounts, Key};

impl ApiHost {
    pub(super) fn save_job(&mut self, ticket: Option<u64>) -> Job {
        self.saving = true;
        self.save_at = None;
        Job::Save {
            ticket,
            document: self.config.to_document(),
            keeps_md5: self.config.general.challenge_login,
        }
    }

    pub(super) fn read_job(&self, ticket: Option<u64>) -> Job {
        Job::Read {
            ticket,
            unsaved: self.save_at.map(|_| self.config.to_document()),
        }
    }

    /// Reads the file again, as SIGHUP asks.
    pub(in crate::server) fn read_again(&self) {
        let job = self.read_job(None);
        if self.worker.send(job).is_err() {
            tracing::error!("the configuration is not read: too much to do");
        }
    }

    /// Takes another configuration into use.
    pub(super) fn use_config(&mut self, loaded: Loaded, how: &str) {
        let Loaded {
            mut config,
            notices,
        } = loaded;
        config.apply(&self.environment);
        for notice in notices
            .iter()
            .filter(|notice| !self.notices.contains(notice))
        {
            tracing::warn!("{notice}");
        }
        self.notices = notices;
        let changes = Changes::between(&self.config, &config);
        if config.protocols != self.listening && changes.protocols {
            tracing::warn!("ports and interfaces change when the server is started again");
        }
        tracing::info!(
            added = changes.added.join(","),
            changed = changes.changed.join(","),
            removed = changes.removed.join(","),
            "{how}"
        );
        self.config = Arc::new(config);
        self.accounts = Accounts::open(&self.config, self.key.as_ref());
        self.errands.push(Errand::Use(Arc::clone(&self.config)));
    }

    /// The first account has its hash: it holds from here on, and is written at once.
    pub(super) fn account_made(
        &mut self,
        now: Instant,
        token: u64,
        name: String,
        account: Value,
        key: Option<Key>,
    ) {
        self.key = self.key.take().or(key);
        let Some(waiting) = self.calls.remove(&token) else {
            return;
        };
        if !self.accounts.is_empty() {
            // Two callers made the first account at once: the first one has.
            let attempt = waiting.attempt(now);
            let verdict = self.api.authorizer.decide(&attempt, &self.accounts);
            self.proceed(now, token, waiting, verdict);
            return;
        }
        let mut document = self.config.document().clone();
        let accounts = Map::from_iter([(name, account)]);
        document.insert("account".to_owned(), Value::Object(accounts));
        match read_document(document) {
            Ok(loaded) => {
                self.use_config(loaded, "the first account was made");
            }
            Err(error) => tracing::error!(error, "the account cannot be used"),
        }
        self.save_at = Some(now);
        let authorize = Map::from_iter([("status".to_owned(), "ACC_MADE".into())]);
        self.gather(now, token, waiting, authorize);
    }

    /// Takes over what was saved of accounts, unless they have changed meanwhile.
    pub(super) fn accounts_protected(&mut self, before: Value, after: Value) {
        if self.config.document().get("account") != Some(&before) {
            return;
        }
        let mut document = self.config.document().clone();
        document.insert("account".to_owned(), after);
        if let Ok(mut loaded) = read_document(document) {
            loaded.config.apply(&self.environment);
            self.config = Arc::new(loaded.config);
            self.accounts = Accounts::open(&self.config, self.key.as_ref());
            self.errands.push(Errand::Use(Arc::clone(&self.config)));
        }
    }

    pub(super) fn file_was_read(&mut self, result: Result<Loaded, String>) -> Result<(), String> {
        match result {
            Ok(loaded) => {
                if self.save_at.take().is_some() {
                    tracing::warn!(
                        "the file holds, and what was changed over the API since it was saved last \
                         does not"
                    );
                }
                self.use_config(loaded, "the configuration was read again");
                Ok(())
            }
            Err(error) => {
                tracing::error!("{error}; the running configuration stays");
                self.errands.push(Errand::LookAtCertificates);
                Err(error)
            }
        }
    }

    /// Takes note of what became of a save. What failed is tried again a while later.
    pub(super) fn saved(&mut self, now: Instant, result: Result<(), SaveError>) -> Option<String> {
        let error = match result {
            Ok(()) => {
                tracing::info!("the configuration was saved");
                return None;
            }
            Err(SaveError::Changed(loaded)) => {
                let text = "the file was changed by somebody else meanwhile: it holds, and what \
                            was to be saved is beside it";
                self.save_at = None;
                let _ = self.file_was_read(*loaded);
                tracing::warn!("{text}");
                return Some(text.to_owned());
            }
            Err(SaveError::NoFile) => SaveError::NoFile,
            Err(error) => {
                self.save_at.get_or_insert(now + SAVE_AFTER);
                error
            }
        };
        tracing::error!(%error, "the configuration was not saved; the old file is whole");
        Some(format!("not saved: {error}"))
    }

    pub(super) fn disk_done(&mut self, ticket: Option<u64>, error: Option<String>) {
        let Some(token) = ticket else {
            return;
        };
        let Some(mut waiting) = self.calls.remove(&token) else {
            return;
        };
        let Step::Disk(mut reply, left) = waiting.step else {
            return;
        };
        if let Some(error) = error {
            reply.note_error(error);
        }
        if left > 1 {
            waiting.step = Step::Disk(reply, left - 1);
            self.calls.insert(token, waiting);
        } else {
            self.answer(waiting.conn, reply, &waiting.call);
        }
    }

    /// Writes what is not written, at the end of the server.
    pub(in crate::server) fn finish(&mut self, now: Instant) {
        self.receive_reports(now);
        if self.save_at.is_none() {
            return;
        }
        let job = self.save_job(Some(u64::MAX));
        if self.worker.send(job).is_err() {
            tracing::error!("the configuration was not saved: too much to do");
            return;
        }
        while let Some(report) = self.worker.wait(ANSWER_MAX) {
            let is_last = matches!(
                report,
                Report::Saved {
                    ticket: Some(u64::MAX),
                    ..
                }
            );
            self.report(now, report);
            if is_last {
                return;
            }
        }
        tracing::error!("the configuration was not saved: the disk does not answer");
    }
}
