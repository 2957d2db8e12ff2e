//! Join tokens: JWT (RFC 7519) with HMAC-SHA256 (RFC 7515, RFC 7518 section 3.2).
//!
//! A token says which space its bearer may enter and until when:
//! `{"space": "https://example.com/world.json", "exp": 1800000000}`. `space` may be `*` for all; a numbered
//! space of generation 2 is the number as text. `nbf` is looked at where it is there.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use crate::proto::unavi::World;

/// A token is some 200 bytes.
const TOKEN_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    space: String,
    exp: u64,
    nbf: Option<u64>,
}

/// Whether a token lets its bearer into a space at a time.
pub(super) fn admits(key: &[u8], token: &str, world: &World, unix_s: u64) -> bool {
    claims(key, token).is_some_and(|claims| {
        let is_space = claims.space == "*" || claims.space == world.to_string();
        let is_time = unix_s < claims.exp && claims.nbf.is_none_or(|from| from <= unix_s);
        is_space && is_time
    })
}

fn claims(key: &[u8], token: &str) -> Option<Claims> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    // Whoever may choose the algorithm chooses none (RFC 8725 section 3.1).
    if header.alg != "HS256" {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&decode(signature)?).ok()?;
    serde_json::from_slice(&decode(claims)?).ok()
}

#[cfg(test)]
pub(super) fn sign(key: &[u8], claims: &str) -> String {
    let header = Base64UrlUnpadded::encode_string(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = Base64UrlUnpadded::encode_string(claims.as_bytes());
    let signed = format!("{header}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(signed.as_bytes());
    let signature = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of the operator's";

    fn world() -> World {
        World::Uri("https://example.com/w".to_owned())
    }

    #[test]
    fn a_token_lets_into_its_space_until_it_expires() {
        let token = sign(KEY, r#"{"space":"https://example.com/w","exp":100}"#);
        assert!(admits(KEY, &token, &world(), 99));
        assert!(!admits(KEY, &token, &world(), 100));
        assert!(!admits(KEY, &token, &World::Number(7), 99));
        assert!(!admits(b"another key", &token, &world(), 99));
        let all = sign(KEY, r#"{"space":"*","exp":100,"nbf":50}"#);
        assert!(admits(KEY, &all, &World::Number(7), 50));
        assert!(!admits(KEY, &all, &World::Number(7), 49));
    }

    #[test]
    fn what_is_no_token_lets_nobody_in() {
        let unsigned = format!(
            "{}.{}.",
            Base64UrlUnpadded::encode_string(br#"{"alg":"none"}"#),
            Base64UrlUnpadded::encode_string(br#"{"space":"*","exp":100}"#)
        );
        let endless = sign(KEY, r#"{"space":"*"}"#);
        for token in [
            "",
            ".",
            "..",
            "a.b.c",
            &unsigned,
            &endless,
            &"x".repeat(9000),
        ] {
            assert!(!admits(KEY, token, &world(), 1), "{token}");
        }
    }

    /// RFC 7515 appendix A.1: the key and the signature are its.
    #[test]
    fn the_signature_is_that_of_the_standard() {
        let key = Base64UrlUnpadded::decode_vec(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .expect("the key");
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
        mac.update(signed.as_bytes());
        let signature =
            Base64UrlUnpadded::decode_vec("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert!(mac.verify_slice(&signature.expect("the signature")).is_ok());
    }
}
