//! The page of spaces, `/space.html`, and the modules that it is made of.
//!
//! It is a client like any other: `space/client.js` knows nothing of the page, and is the example of
//! how to write one. Where players come is told by `/space.json`.

use serde_json::json;

use crate::config::Spaces;

/// The page.
pub const HTML: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<link rel=\"icon\" href=\"data:,\">\n<title>spaces</title>\n<style>\n",
    include_str!("space/space.css"),
    "</style>\n",
    include_str!("space/space.html"),
    "<script type=\"module\" src=\"space/page.js\"></script>\n</html>\n",
);

/// By their names beneath `/space/`.
const MODULES: [(&str, &str); 6] = [
    ("page.js", include_str!("space/page.js")),
    ("client.js", include_str!("space/client.js")),
    ("transports.js", include_str!("space/transports.js")),
    ("wire.js", include_str!("space/wire.js")),
    ("map.js", include_str!("space/map.js")),
    ("sound.js", include_str!("space/sound.js")),
];

/// The page connects to another port than its own, and to another host where its link says so.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'unsafe-inline'; connect-src 'self' ws: wss:; media-src 'self' blob:; \
    img-src data:; base-uri 'none'; form-action 'self'";

/// One of the modules.
pub fn module(name: &str) -> Option<&'static str> {
    let known = MODULES.iter().find(|(known, _)| *known == name);
    known.map(|(_, text)| *text)
}

/// What `/space.json` says: the port of the WebSocket and whether it speaks TLS, or its address where
/// the configuration says that it is elsewhere.
pub fn place(spaces: &Spaces) -> String {
    let place = match spaces.url.as_str() {
        "" => json!({"port": spaces.listen.port(), "tls": spaces.certificate.is_some()}),
        url => json!({"url": url}),
    };
    place.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_modules_come_from_here() {
        assert!(!HTML.contains("http://") && !HTML.contains("https://"));
        assert_eq!(HTML.matches("src=").count(), 1);
        for (name, text) in MODULES {
            let imports = text.lines().filter_map(|line| line.split_once(" from '"));
            for (_, imported) in imports {
                let imported = imported.trim_start_matches("./").trim_end_matches("';");
                assert!(module(imported).is_some(), "{name} imports {imported}");
            }
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{name}"
            );
        }
        assert_eq!(module("../player.js"), None);
    }
}
