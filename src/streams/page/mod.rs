//! The pages that a browser sees: a stream's player, the one at `/`, and that of spaces ([`space`]).
//!
//! The first two are whole in themselves, without a third party's script, and may be shown in a frame of
//! another site. Parameters of the player: `muted=1`, `autoplay=0`, `controls=0`, `target` for the
//! seconds to stay behind the live edge, and `player=webrtc` or `player=mse` for one way only.
//!
//! WebRTC goes first where it carries every kind of media that the stream has: sound matters more
//! to a viewer than a second of delay, and so do pictures in their order.

use serde_json::json;

use super::name::StreamName;

pub mod space;

/// What stands before the settings of the player page.
const HEAD: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<link rel=\"icon\" href=\"data:,\">\n<title>live</title>\n<style>\n",
    include_str!("player.css"),
    "</style>\n",
    include_str!("player.html"),
    "<script type=\"application/json\" id=\"settings\">",
);

/// What stands behind them.
const TAIL: &str = concat!(
    "</script>\n<script>\n",
    include_str!("whep.js"),
    include_str!("player.js"),
    "</script>\n</html>\n"
);

/// The page at `/`. Names no stream: who may see one knows its name.
pub const INDEX: &str = include_str!("index.html");

/// The Content-Security-Policy of both pages: nothing is loaded from elsewhere, so that a page
/// that was tampered with on its way in can do little.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; connect-src 'self'; media-src 'self' blob:; \
    img-src data:; base-uri 'none'; \
    form-action 'self'";

/// The player page of a stream. `offline_text` is what it shows while there is nothing to play;
/// empty for the page's own words.
pub fn player(name: &StreamName, offline_text: &str) -> String {
    let settings = json!({"name": name.as_str(), "offline": offline_text}).to_string();
    let mut page = String::with_capacity(HEAD.len() + settings.len() + TAIL.len() + 64);
    page.push_str(HEAD);
    // In a script element only these could end it or begin a comment.
    for c in settings.chars() {
        match c {
            '<' => page.push_str("\\u003c"),
            '>' => page.push_str("\\u003e"),
            '&' => page.push_str("\\u0026"),
            c => page.push(c),
        }
    }
    page.push_str(TAIL);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside_its_element() {
        let name = StreamName::parse("live+<!--<script>alert(1)&\"'").unwrap();
        let page = player(&name, "</script><b>");
        let settings = page
            .split("id=\"settings\">")
            .nth(1)
            .and_then(|rest| rest.split("</script>").next())
            .unwrap();
        assert!(!settings.contains(['<', '>', '&']));
        let settings: serde_json::Value = serde_json::from_str(settings).unwrap();
        assert_eq!(settings["name"], name.as_str());
        assert_eq!(settings["offline"], "</script><b>");
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for page in [HEAD, TAIL, INDEX] {
            assert!(!page.contains("http://") && !page.contains("https://"));
            assert!(!page.contains("src="));
        }
    }

    #[test]
    fn the_script_does_not_end_itself() {
        assert_eq!(TAIL.matches("</script").count(), 2);
        assert_eq!(TAIL.matches("<!--").count(), 0);
    }
}
