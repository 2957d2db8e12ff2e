//! What a request on the spaces' port is for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::proto::http::{Method, Request};
use crate::proto::unavi::World;

/// What a request wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// To become a WebSocket.
    Socket,
    /// The number of players of the first of these spaces that there is.
    Count(Vec<World>),
    /// Nothing that there is.
    Nowhere,
}

/// A path's player count: all forms that a path may name a space in.
pub(super) fn place(request: &Request) -> Place {
    if request.is_websocket() {
        return Place::Socket;
    }
    if !matches!(request.method, Method::Get | Method::Head) {
        return Place::Nowhere;
    }
    let path = request.raw_path();
    if let Some(name) = path.strip_prefix("/player-count/") {
        // The original compared the raw text, and had no place for a query: a URI with one could not be
        // asked for. Decoded, or with the query behind it, it can.
        let query = request.query();
        let with_query = format!("{name}?{query}");
        let forms = match query.is_empty() {
            true => vec![name],
            false => vec![with_query.as_str(), name],
        };
        let forms = forms
            .into_iter()
            .flat_map(|form| [Cow::Borrowed(form), decoded(form)]);
        return Place::Count(forms.map(|form| World::Uri(form.into_owned())).collect());
    }
    if let Some(name) = path.strip_prefix("/playercount/") {
        let forms = [Cow::Borrowed(name), decoded(name)];
        return Place::Count(forms.map(|form| World::Uri(form.into_owned())).into());
    }
    let number = path
        .strip_prefix("/spaces/")
        .and_then(|rest| rest.strip_suffix("/player-count"))
        .and_then(|number| number.parse().ok());
    match number {
        Some(number) => Place::Count(vec![World::Number(number)]),
        None => Place::Nowhere,
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// Whether a page of `origin` may connect. Programs that are no browser have none.
pub(super) fn may_come(origins: &[String], origin: Option<&str>) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    origins.is_empty()
        || origins
            .iter()
            .any(|known| known.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request {
        crate::spaces::tests::request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    fn uris(place: &Place) -> Vec<String> {
        match place {
            Place::Count(worlds) => worlds.iter().map(World::to_string).collect(),
            Place::Socket | Place::Nowhere => Vec::new(),
        }
    }

    #[test]
    fn a_space_is_named_raw_or_encoded() {
        let plain = place(&request("/player-count/https://example.com/w.json"));
        assert_eq!(uris(&plain)[0], "https://example.com/w.json");
        let encoded = place(&request("/player-count/https%3A%2F%2Fexample.com%2Fw.json"));
        assert!(uris(&encoded).contains(&"https://example.com/w.json".to_owned()));
        let query = place(&request("/player-count/https://example.com/w?a=b"));
        assert_eq!(uris(&query)[0], "https://example.com/w?a=b");
        let old = place(&request("/spaces/7/player-count"));
        assert_eq!(old, Place::Count(vec![World::Number(7)]));
        assert_eq!(uris(&place(&request("/playercount/abc")))[0], "abc");
        assert_eq!(place(&request("/spaces/x/player-count")), Place::Nowhere);
        assert_eq!(place(&request("/")), Place::Nowhere);
    }

    #[test]
    fn pages_of_other_sites_stay_out_where_sites_are_named() {
        let origins = ["https://example.com".to_owned()];
        assert!(may_come(&origins, None));
        assert!(may_come(&origins, Some("https://example.com")));
        assert!(!may_come(&origins, Some("https://example.com.evil.test")));
        assert!(may_come(&[], Some("https://any.test")));
    }
}
