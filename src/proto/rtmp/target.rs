//! What a peer wants to publish or play.

/// Application and stream as the peer named them. What they mean is for the door to decide.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Target {
    /// The application, which may contain slashes.
    pub app: String,
    /// The stream, which may contain slashes and may be empty.
    pub name: String,
    /// What follows `?` in the name, else in the application; without the question mark.
    pub query: String,
    /// The URL that the peer says it connected to; may be empty.
    pub tc_url: String,
}

/// The instance that Flash Media Server uses if none is named; some clients name it.
const DEFAULT_INSTANCE: &str = "_definst_";
/// Containers that Flash clients name before a stream.
const CONTAINERS: [&str; 3] = ["mp4:", "flv:", "mp3:"];

impl Target {
    /// From the `app` and `tcUrl` of `connect`, and the name of `publish` or `play`.
    pub(super) fn new(app: &str, tc_url: &str, name: &str) -> Self {
        let (app, app_query) = app.split_once('?').unwrap_or((app, ""));
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let app = app.trim_matches('/');
        let app = app.strip_suffix(DEFAULT_INSTANCE).unwrap_or(app);
        Self {
            app: app.trim_end_matches('/').to_owned(),
            name: plain_name(name).to_owned(),
            query: if query.is_empty() { app_query } else { query }.to_owned(),
            tc_url: tc_url.to_owned(),
        }
    }
}

fn plain_name(name: &str) -> &str {
    let name = name.trim_start_matches('/');
    let name = name.strip_prefix(DEFAULT_INSTANCE).unwrap_or(name);
    let name = name.trim_start_matches('/');
    let strip = |container: &&str| name.strip_prefix(*container);
    CONTAINERS.iter().find_map(strip).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(app: &str, name: &str) -> [String; 3] {
        let target = Target::new(app, "rtmp://host/x", name);
        [target.app, target.name, target.query]
    }

    #[test]
    fn quirk_08_default_instance_and_container_are_dropped() {
        assert_eq!(split("live/_definst_", "mp4:a"), ["live", "a", ""]);
        assert_eq!(split("live", "_definst_/flv:a"), ["live", "a", ""]);
        assert_eq!(split("live/", "/a/b"), ["live", "a/b", ""]);
        assert_eq!(split("_definst_", "a"), ["", "a", ""]);
    }

    #[test]
    fn query_is_kept_apart() {
        assert_eq!(split("live", "a?k=v?w"), ["live", "a", "k=v?w"]);
        assert_eq!(split("live?tkn=1", "a"), ["live", "a", "tkn=1"]);
        assert_eq!(split("live?tkn=1", "a?tkn=2"), ["live", "a", "tkn=2"]);
        assert_eq!(split("play/a", ""), ["play/a", "", ""]);
    }
}
