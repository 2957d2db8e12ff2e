//! What a path on the HTTP port asks for.

use crate::streams::name::StreamName;
use crate::streams::output::Container;
use crate::streams::page::space;
use crate::streams::segment_request::File;
use crate::streams::segments::Form;

/// What a GET is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// `/`: how to reach a stream.
    Index,
    /// `/NAME.html`: the player page.
    Page(StreamName),
    /// `/json_NAME.js`, or `/info_NAME.js` with `as_script`.
    Info {
        /// The stream.
        name: StreamName,
        /// Assigns the object to `mistvideo['NAME']`.
        as_script: bool,
    },
    /// `/NAME.flv` and so on: the media.
    Media {
        /// The stream.
        name: StreamName,
        /// Its form.
        container: Container,
    },
    /// `/hls/NAME/...` and `/cmaf/NAME/...`: playlists, segments and parts.
    Segmented {
        /// The stream.
        name: StreamName,
        /// How its segments are written.
        form: Form,
        /// Which of its resources.
        file: File,
    },
    /// `/space.html`: the page of spaces. Where none are served it is a stream's like any other.
    SpacePage,
    /// `/space/NAME`: one of its modules.
    SpaceModule(&'static str),
    /// `/space.json`: where players come.
    SpacePlace,
    /// `/time`: the wall clock, for DASH players.
    Time,
    /// Nothing here.
    Unknown,
}

impl Target {
    /// Reads a percent-decoded path.
    pub(super) fn of(path: &str) -> Self {
        let Some(file) = path.strip_prefix('/') else {
            return Self::Unknown;
        };
        if file.is_empty() {
            return Self::Index;
        }
        let forms = [("hls/", Form::Ts), ("cmaf/", Form::Cmaf)];
        for (prefix, form) in forms {
            if let Some(rest) = file.strip_prefix(prefix) {
                return Self::segmented(form, rest).unwrap_or(Self::Unknown);
            }
        }
        match file {
            "time" => return Self::Time,
            "space.html" => return Self::SpacePage,
            "space.json" => return Self::SpacePlace,
            _ => {}
        }
        if let Some(name) = file.strip_prefix("space/") {
            return space::module(name).map_or(Self::Unknown, Self::SpaceModule);
        }
        let Some((stem, extension)) = file.rsplit_once('.') else {
            return Self::Unknown;
        };
        let named = |stem: &str, make: &dyn Fn(StreamName) -> Self| {
            StreamName::parse(stem).map_or(Self::Unknown, make)
        };
        let media = |container| named(stem, &move |name| Self::Media { name, container });
        match extension {
            "html" => named(stem, &Self::Page),
            "flv" => media(Container::Flv),
            "ts" => media(Container::Ts),
            "mp4" | "fmp4" | "3gp" => media(Container::Mp4),
            "js" => {
                let (stem, as_script) =
                    match (stem.strip_prefix("json_"), stem.strip_prefix("info_")) {
                        (Some(stem), _) => (stem, false),
                        (None, Some(stem)) => (stem, true),
                        (None, None) => return Self::Unknown,
                    };
                named(stem, &move |name| Self::Info { name, as_script })
            }
            _ => Self::Unknown,
        }
    }

    fn segmented(form: Form, path: &str) -> Option<Self> {
        let (name, file) = path.split_once('/')?;
        Some(Self::Segmented {
            name: StreamName::parse(name).ok()?,
            form,
            file: File::parse(form, file)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a good name")
    }

    #[test]
    fn paths_name_a_stream_and_a_form() {
        assert_eq!(Target::of("/"), Target::Index);
        assert_eq!(Target::of("/live.html"), Target::Page(name("live")));
        assert_eq!(
            Target::of("/live+a.b.flv"),
            Target::Media {
                name: name("live+a.b"),
                container: Container::Flv
            }
        );
        assert_eq!(
            Target::of("/json_live.js"),
            Target::Info {
                name: name("live"),
                as_script: false
            }
        );
        assert_eq!(
            Target::of("/info_live.js"),
            Target::Info {
                name: name("live"),
                as_script: true
            }
        );
    }

    #[test]
    fn spaces_have_a_page_and_modules() {
        assert_eq!(Target::of("/space.html"), Target::SpacePage);
        assert_eq!(Target::of("/space.json"), Target::SpacePlace);
        assert!(matches!(
            Target::of("/space/client.js"),
            Target::SpaceModule(text) if text.contains("class SpaceClient")
        ));
        assert_eq!(Target::of("/space/other.js"), Target::Unknown);
        assert_eq!(Target::of("/spaces.html"), Target::Page(name("spaces")));
    }

    #[test]
    fn what_is_not_a_stream_is_unknown() {
        for path in [
            "",
            "/live",
            "/player.js",
            "/.mp4",
            "/../etc/passwd.mp4",
            "/a/b.mp4",
            "/live.exe",
            "/hls/live",
            "/hls/live/",
            "/hls/../live/index.m3u8",
            "/cmaf/live/../../etc/passwd",
            "/cmaf/a\\b/index.m3u8",
            "/hls//index.m3u8",
        ] {
            assert_eq!(Target::of(path), Target::Unknown, "{path}");
        }
    }
}
