//! Listing of files, beneath the folders of `media.roots` only.

use serde_json::{Map, Value, json};

use super::{Api, Work};

/// Entries of a folder that are listed.
pub const ENTRIES_MAX: usize = 10_000;

/// A folder beneath a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The root.
    pub root: String,
    /// The path from there, without a slash at either end and without `.` and `..`; empty for the
    /// root itself. Opened so that no link leads out of the root.
    pub relative: String,
}

/// What is in a folder, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Folders.
    pub folders: Vec<String>,
    /// Everything else.
    pub files: Vec<String>,
}

impl Place {
    /// The place that a path names, or why there is none.
    pub fn of(roots: &[String], path: &str) -> Result<Self, &'static str> {
        if roots.is_empty() {
            return Err("no folder is open to the API: name some in media.roots");
        }
        if path.contains('\0') || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("a path has no . or ..");
        }
        let path = path.trim_end_matches('/');
        let beneath = |root: &String| {
            let rest = path.strip_prefix(root.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| Self {
                root: root.clone(),
                relative: rest
                    .split('/')
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("/"),
            })
        };
        roots
            .iter()
            .filter(|root| !root.trim_end_matches('/').is_empty() || path.starts_with('/'))
            .find_map(beneath)
            .ok_or("not beneath a folder of media.roots")
    }
}

/// `browse`: shows a folder; without a path, the roots.
pub(super) fn browse(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let path = argument.as_str().unwrap_or("");
    let roots = &work.world.config.media.roots;
    let mut reply = Map::new();
    reply.insert("path".to_owned(), json!([path]));
    let error = if matches!(path, "" | "/" | ".") && !roots.is_empty() {
        reply.insert("path".to_owned(), json!(["/"]));
        reply.insert("subdirectories".to_owned(), json!(roots));
        None
    } else {
        match (Place::of(roots, path), work.world.listing) {
            (Ok(_), Some(Ok(listing))) => {
                let parts = [
                    ("files", &listing.files),
                    ("subdirectories", &listing.folders),
                ];
                for (name, entries) in parts.iter().filter(|(_, entries)| !entries.is_empty()) {
                    reply.insert((*name).to_owned(), json!(entries));
                }
                None
            }
            (Ok(_), Some(Err(reason))) => Some(reason.clone()),
            (Ok(_), None) => Some("the folder was not read".to_owned()),
            (Err(reason), _) => Some(reason.to_owned()),
        }
    };
    if let Some(reason) = error {
        work.fail("browse", reason);
    }
    work.put("browse", reply);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_beneath_a_root_are_places() {
        let roots = ["/media/vod/".to_owned(), "/srv".to_owned()];
        for (path, place) in [
            ("/media/vod", Some(("/media/vod/", ""))),
            ("/media/vod/", Some(("/media/vod/", ""))),
            ("/media/vod//a/b/", Some(("/media/vod/", "a/b"))),
            ("/srv/x", Some(("/srv", "x"))),
            ("/media", None),
            ("/media/vod2", None),
            ("/srvx", None),
            ("/srv/../etc", None),
            ("/srv/..", None),
            ("/srv/./x", None),
            ("srv", None),
            ("/srv/a\0b", None),
            ("", None),
        ] {
            let found = Place::of(&roots, path).ok();
            let found = found.as_ref();
            let found = found.map(|place| (place.root.as_str(), place.relative.as_str()));
            assert_eq!(found, place, "{path}");
        }
        assert!(Place::of(&[], "/srv").is_err());
    }
}
