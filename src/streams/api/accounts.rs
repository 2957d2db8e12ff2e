//! What is kept of passwords.
//!
//! MistServer keeps `MD5(password)`, and its login by challenge sends
//! `MD5(MD5(password) + challenge)`: to check one, the server must know the MD5, and whoever reads
//! that from a file can log in with it. So two things are kept of a password:
//!
//! - the Argon2id hash of its MD5, which a login with the password itself is checked against
//!   (`Authorization: Basic`);
//! - the MD5, sealed with a key that is in a file of its own (`config.json.key`, mode 0600), for
//!   logins by challenge. A copy of `config.json`, a backup of it or the answer to `config_backup`
//!   is of no use without that key. `config.challenge_login: false` does without.
//!
//! The hash stands in `password`, where MistServer expects its MD5: started with such a file it
//! refuses everybody, while a missing `password` would let in who knows that it is missing.

use std::collections::BTreeMap;

use argon2::password_hash::{Output, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key as CipherKey, KeyInit, Nonce};
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use crate::config::{Config, Secret};

/// Memory of one hash in KiB, passes and lanes: the least that OWASP's Password Storage Cheat
/// Sheet takes for Argon2id. About 20 ms of one CPU.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of a sealed MD5's nonce.
const NONCE_BYTES: usize = 12;

/// The longest name and password of an account, in bytes.
pub const ACCOUNT_BYTES_MAX: usize = 256;

/// What MD5 sums of passwords are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl Key {
    /// From random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From the text of a key file: 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text.trim())?.try_into().ok().map(Self)
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        let mut text = to_hex(&self.0);
        text.push('\n');
        text
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(CipherKey::from_slice(&self.0))
    }
}

/// One account, opened.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The MD5 of the password, if it is known.
    pub md5: Option<Secret>,
    /// Its Argon2id hash, if there is one.
    pub hash: Option<String>,
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts(BTreeMap<String, Known>);

impl Accounts {
    /// Those of a configuration. Without its key, accounts that were sealed cannot log in by
    /// challenge.
    pub fn open(config: &Config, key: Option<&Key>) -> Self {
        let opened = config.accounts.iter().map(|(name, account)| {
            let password = account.password.expose();
            let known = if password.starts_with('$') {
                Known {
                    md5: key
                        .filter(|_| config.general.challenge_login)
                        .and_then(|key| unseal(key, name, account.challenge.expose()))
                        .map(Secret::new),
                    hash: Some(password.to_owned()),
                }
            } else {
                Known {
                    md5: is_md5(password).then(|| Secret::new(password.to_ascii_lowercase())),
                    hash: None,
                }
            };
            (name.clone(), known)
        });
        Self(opened.collect())
    }

    /// True when there is no account at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The account by this name.
    pub fn get(&self, name: &str) -> Option<&Known> {
        self.0.get(name)
    }
}

fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The MD5 of a text in hexadecimal digits.
pub fn md5_hex(text: &str) -> String {
    to_hex(&Md5::digest(text.as_bytes()))
}

/// The answer to a challenge.
pub fn response(md5: &str, challenge: &str) -> String {
    md5_hex(&format!("{md5}{challenge}"))
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes an MD5. Takes tens of milliseconds and `MEMORY_KIB` of memory: not for a shard's thread.
pub fn hash(md5: &str, salt: [u8; 16]) -> String {
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    hasher()
        .hash_password(md5.as_bytes(), &salt)
        .expect("the parameters are in range")
        .to_string()
}

/// Compares an MD5 with a hash; as slow as [`hash`]. Without a hash, the work is done all the
/// same, so that the time does not tell which accounts exist.
pub fn verify(hash: Option<&str>, md5: &str) -> bool {
    let parsed = hash.and_then(|hash| PasswordHash::new(hash).ok());
    if let Some(parsed) = parsed.filter(is_affordable) {
        return hasher().verify_password(md5.as_bytes(), &parsed).is_ok();
    }
    let mut out = [0; Output::MAX_LENGTH];
    let length = Params::DEFAULT_OUTPUT_LEN;
    let _ = hasher().hash_password_into(md5.as_bytes(), &[0; 16], &mut out[..length]);
    false
}

/// The parameters of a hash are taken from its text, which may have come over the API.
fn is_affordable(hash: &PasswordHash<'_>) -> bool {
    Params::try_from(hash).is_ok_and(|params| {
        params.m_cost() <= 4 * MEMORY_KIB && params.t_cost() <= 8 && params.p_cost() <= 4
    })
}

/// Seals an account's MD5. The nonce must be random.
pub fn seal(key: &Key, name: &str, md5: &str, nonce: [u8; NONCE_BYTES]) -> String {
    let payload = Payload {
        msg: md5.as_bytes(),
        aad: name.as_bytes(),
    };
    let sealed = key
        .cipher()
        .encrypt(Nonce::from_slice(&nonce), payload)
        .expect("a short text can be sealed");
    to_hex(&nonce) + &to_hex(&sealed)
}

/// The MD5 that was sealed for this account with this key.
pub fn unseal(key: &Key, name: &str, sealed: &str) -> Option<String> {
    let bytes = from_hex(sealed)?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let payload = Payload {
        msg: sealed,
        aad: name.as_bytes(),
    };
    let md5 = key
        .cipher()
        .decrypt(Nonce::from_slice(nonce), payload)
        .ok()?;
    String::from_utf8(md5).ok().filter(|md5| is_md5(md5))
}

/// Random bytes for one account.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// For [`hash`].
    pub salt: [u8; 16],
    /// For [`seal`].
    pub nonce: [u8; NONCE_BYTES],
}

/// What is saved of an account with this MD5. As slow as [`hash`].
pub fn protect(name: &str, md5: &str, key: Option<&Key>, seeds: Seeds) -> Value {
    let mut account = Map::new();
    account.insert("password".to_owned(), hash(md5, seeds.salt).into());
    if let Some(key) = key {
        account.insert(
            "challenge".to_owned(),
            seal(key, name, md5, seeds.nonce).into(),
        );
    }
    Value::Object(account)
}

/// The accounts of a document, with every bare MD5 protected; `None` when there is none to
/// protect. Other members of an account are kept. As slow as [`hash`] for each.
pub fn protect_all(
    accounts: &Value,
    key: Option<&Key>,
    mut seeds: impl FnMut() -> Seeds,
) -> Option<Value> {
    let mut protected = accounts.as_object()?.clone();
    let mut is_changed = false;
    for (name, account) in &mut protected {
        let Some(md5) = account["password"].as_str().filter(|text| is_md5(text)) else {
            continue;
        };
        let md5 = md5.to_ascii_lowercase();
        if let (Some(account), Value::Object(members)) =
            (account.as_object_mut(), protect(name, &md5, key, seeds()))
        {
            account.extend(members);
            is_changed = true;
        }
    }
    is_changed.then(|| json!(protected))
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    const TEST_MD5: &str = "098f6bcd4621d373cade4e832627b4f6";
    const SEEDS: Seeds = Seeds {
        salt: [1; 16],
        nonce: [2; 12],
    };

    #[test]
    fn md5_is_mistservers() {
        assert_eq!(md5_hex("test"), TEST_MD5);
        // The golden login: tests/data/mistserver/api/auth_ok.json.
        assert_eq!(
            response(TEST_MD5, "27a1ccb927c04d7f0dff19cb8fd90d28"),
            "8341dc74ce1dd82fb688737a2d5f062c"
        );
    }

    #[test]
    fn a_protected_account_knows_its_password_only_with_the_key() {
        let key = Key::new([7; 32]);
        let account = protect("test", TEST_MD5, Some(&key), SEEDS);
        assert!(!account.to_string().contains(TEST_MD5));
        let text = json!({"account": {"test": account}}).to_string();
        let config = parse(&text, "c").unwrap().config;
        let open = |key: Option<&Key>| Accounts::open(&config, key).get("test").unwrap().clone();
        let known = open(Some(&key));
        assert!(known.md5.unwrap().matches(TEST_MD5));
        assert!(verify(known.hash.as_deref(), TEST_MD5));
        assert!(!verify(known.hash.as_deref(), "x"));
        assert!(!verify(None, TEST_MD5));
        assert!(open(None).md5.is_none());
        assert!(open(Some(&Key::new([8; 32]))).md5.is_none());
        assert_eq!(Key::parse(&key.to_text()), Some(key));
    }

    #[test]
    fn a_sealed_password_is_of_one_account() {
        let key = Key::new([7; 32]);
        let sealed = seal(&key, "a", TEST_MD5, [3; 12]);
        assert_eq!(unseal(&key, "a", &sealed).as_deref(), Some(TEST_MD5));
        assert_eq!(unseal(&key, "b", &sealed), None);
        assert_eq!(unseal(&key, "a", &sealed[..20]), None);
        assert_eq!(unseal(&key, "a", "ü"), None);
    }

    #[test]
    fn only_bare_passwords_are_protected_and_other_members_stay() {
        let accounts =
            json!({"a": {"password": TEST_MD5, "x": 1}, "b": {"password": "$argon2id$"}, "c": 5});
        let protected = protect_all(&accounts, None, || SEEDS).unwrap();
        assert!(
            protected["a"]["password"]
                .as_str()
                .unwrap()
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
        );
        assert_eq!(protected["a"]["x"], 1);
        assert_eq!(protected["b"], accounts["b"]);
        assert!(protect_all(&protected, None, || SEEDS).is_none());
    }

    #[test]
    fn a_hash_that_would_cost_too_much_is_not_computed() {
        let dear =
            "$argon2id$v=19$m=4000000,t=100,p=1$AQEBAQEBAQEBAQEBAQEBAQ$AQEBAQEBAQEBAQEBAQEBAQ";
        assert!(!verify(Some(dear), TEST_MD5));
    }
}
