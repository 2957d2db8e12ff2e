//! Requests on the streams' HTTP port.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Exchange, HttpReply, Output, Want};
use crate::base::ids::{ConnId, StreamId};
use crate::base::text::push_date;
use crate::proto::http::{Method, Request, Response};
use crate::streams::info;
use crate::streams::name::StreamName;
use crate::streams::output::{Choice, Container, Selection};
use crate::streams::page;
use crate::streams::request::Target;

impl Exchange {
    /// A request arrived on the streams' HTTP port.
    pub fn http_request(&mut self, conn: ConnId, from: IpAddr, request: &Request) {
        let is_head = match request.method {
            Method::Get => false,
            Method::Head => true,
            Method::Options => {
                self.respond(conn, Response::new(204).with_cors());
                return;
            }
            Method::Post | Method::Put | Method::Delete | Method::Patch => {
                let response = Response::text(405, "Only GET, HEAD and OPTIONS are answered here.")
                    .with_header("Allow", "GET, HEAD, OPTIONS");
                self.respond(conn, response.with_cors());
                return;
            }
        };
        match Target::of(&request.path) {
            Target::Index => self.respond(conn, html(page::INDEX)),
            Target::Page(name) => self.player_page(conn, &name),
            Target::SpacePage if self.config.spaces.is_served => {
                self.respond(conn, space_page());
            }
            Target::SpacePage => {
                let name = StreamName::parse("space").expect("a word is a name");
                self.player_page(conn, &name);
            }
            Target::SpaceModule(text) if self.config.spaces.is_served => {
                let response = Response::new(200)
                    .with_body("text/javascript; charset=utf-8", text)
                    .with_header("Cache-Control", "no-cache");
                self.respond(conn, response.with_cors());
            }
            Target::SpacePlace if self.config.spaces.is_served => {
                let place = page::space::place(&self.config.spaces);
                let response = Response::new(200)
                    .with_body("application/json", place)
                    .with_header("Cache-Control", "no-store");
                self.respond(conn, response.with_cors());
            }
            Target::Info { name, as_script } => {
                let want = Want::Info {
                    as_script,
                    host: request.host().to_owned(),
                };
                if name.settings(&self.config).is_some() {
                    self.want(conn, name, want);
                } else {
                    self.respond(conn, info_response(&name, as_script, &unavailable()));
                }
            }
            Target::Media { name, container } => {
                self.http_media(conn, request, name, container, is_head);
            }
            Target::Segmented { name, form, file } => {
                self.http_segmented(conn, from, request, (name, form, file));
            }
            Target::Time => self.respond(conn, time(self.unix_ms)),
            Target::SpaceModule(_) | Target::SpacePlace | Target::Unknown => {
                self.respond(
                    conn,
                    Response::text(404, "There is nothing by this name.").with_cors(),
                );
            }
        }
    }

    fn player_page(&mut self, conn: ConnId, name: &StreamName) {
        self.respond(conn, html(page::player(name, self.offline_text())));
    }

    pub(super) fn offline_text(&self) -> &str {
        self.config
            .protocols
            .http
            .first()
            .map_or("", |http| &http.no_stream_text)
    }

    /// Whether a container's connector is on.
    pub(super) fn is_served(&self, container: Container) -> bool {
        let protocols = &self.config.protocols;
        match container {
            Container::Rtmp => true, // Its port would be closed.
            Container::Flv => protocols.flv,
            Container::Ts => protocols.ts,
            Container::Mp4 => protocols.mp4,
            Container::WebRtc => false,
        }
    }

    pub(super) fn http_media(
        &mut self,
        conn: ConnId,
        request: &Request,
        name: StreamName,
        container: Container,
        is_head: bool,
    ) {
        let choice = |parameter| {
            request
                .parameter(parameter)
                .map_or(Some(Choice::First), |text| Choice::parse(&text))
        };
        let (Some(video), Some(audio)) = (choice("video"), choice("audio")) else {
            let text = "video= and audio= take none, all, a track number or a codec's name.";
            self.respond(conn, Response::text(400, text).with_cors());
            return;
        };
        let is_offered = name.settings(&self.config).is_some() && self.is_served(container);
        if !is_offered || self.is_draining {
            self.counters.play_refused += 1;
            self.respond(conn, not_found());
            return;
        }
        if is_head {
            // A whole response would say that the stream has 0 bytes.
            self.http(conn, HttpReply::StreamHead(container));
            return;
        }
        let want = Want::Play {
            container,
            is_chunked: request.takes_chunks(),
            selection: Selection { video, audio },
        };
        self.want(conn, name, want);
    }

    pub(super) fn answer_info(&mut self, conn: ConnId, id: StreamId, as_script: bool, host: &str) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let (window, keep_away) = stream
            .name
            .settings(&self.config)
            .map_or((Duration::ZERO, Duration::ZERO), |settings| {
                (settings.window, settings.keep_away)
            });
        let addresses = info::Addresses::of(&self.config.protocols, host);
        let json = info::json(Ok(&stream.info(window, keep_away)), &addresses);
        let response = info_response(&stream.name, as_script, &json);
        self.respond(conn, response);
    }

    pub(super) fn respond(&mut self, conn: ConnId, response: Response) {
        self.http(conn, HttpReply::Respond(response));
    }

    pub(super) fn http(&mut self, conn: ConnId, reply: HttpReply) {
        self.outputs.push_back(Output::Http(conn, reply));
    }
}

pub(super) fn html(page: impl Into<Bytes>) -> Response {
    Response::new(200)
        .with_body("text/html; charset=utf-8", page)
        .with_header("Cache-Control", "no-cache")
        .with_header("Content-Security-Policy", page::CONTENT_SECURITY_POLICY)
        .with_cors()
}

fn space_page() -> Response {
    Response::new(200)
        .with_body("text/html; charset=utf-8", page::space::HTML)
        .with_header("Cache-Control", "no-cache")
        .with_header(
            "Content-Security-Policy",
            page::space::CONTENT_SECURITY_POLICY,
        )
}

/// The wall clock, as ISO 8601 has it.
fn time(unix_ms: i64) -> Response {
    let mut text = String::new();
    push_date(&mut text, unix_ms);
    Response::new(200)
        .with_body("text/plain; charset=utf-8", text)
        .with_header("Cache-Control", "no-store")
        .with_cors()
}

pub(super) fn unavailable() -> serde_json::Value {
    let nowhere = info::Addresses {
        http: String::new(),
        rtmp: None,
        off: Vec::new(),
    };
    info::json(Err(info::Unavailable::Offline), &nowhere)
}

pub(super) fn info_response(
    name: &StreamName,
    as_script: bool,
    json: &serde_json::Value,
) -> Response {
    let response = Response::new(200);
    if as_script {
        response.with_body("text/javascript; charset=utf-8", info::script(name, json))
    } else {
        response.with_body("application/json", json.to_string())
    }
    .with_header("Cache-Control", "no-store")
    .with_cors()
}

pub(super) fn not_found() -> Response {
    Response::text(404, "There is no such stream, or it is not live.").with_cors()
}
