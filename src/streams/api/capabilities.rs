//! `capabilities`: what this server can do, in the form from which MistServer's pages make forms.
//! Only what is served is in it, with options that have an effect.

use serde_json::{Map, Value, json};

use super::configuration::VERSION;
use super::{Api, Work};
use crate::config::Standing;
use crate::media::Codec;
use crate::streams::output::Container;
use crate::streams::segments::Form;

/// `capabilities`: true for all, or a source, for what would open it.
pub(super) fn capabilities(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if let Some(source) = argument.as_str().filter(|source| !source.is_empty()) {
        if source.starts_with("push://") {
            work.put("capabilities", buffer());
        } else {
            work.fail("capabilities", "no input of this version opens that source");
        }
        return;
    }
    let mut capabilities = Map::new();
    capabilities.insert("connectors".to_owned(), connectors());
    capabilities.insert("inputs".to_owned(), json!({"Buffer": buffer()}));
    capabilities.insert("internal_writers".to_owned(), Value::Null);
    capabilities.insert("triggers".to_owned(), Value::Null);
    match work.world.machine {
        Some(machine) => machine.report(&mut capabilities),
        None => work.fail("capabilities", "the machine does not say what it has"),
    }
    work.put("capabilities", capabilities);
}

fn connectors() -> Value {
    let listening = |port: u16| {
        json!({
            "interface": option("Interface", "str", "0.0.0.0".into()),
            "port": option("TCP port", "uint", port.into()),
        })
    };
    let mut http = listening(8080);
    http["pubaddr"] = option("Public address", "inputlist", "".into());
    http["nostreamtext"] = option("Stream unavailable text", "str", "".into());
    let file = |name: &str| option(name, "inputlist", "".into());
    let mut https = listening(4433);
    let mut rtmp = listening(1935);
    for optional in [&mut https, &mut rtmp] {
        optional["cert"] = file("Certificate");
        optional["key"] = file("Key");
    }
    rtmp["acceptable"] = json!({
        "default": 0,
        "name": "Acceptable connection types",
        "select": [
            [0, "Allow both incoming and outgoing connections"],
            [1, "Allow only outgoing connections"],
            [2, "Allow only incoming connections"],
        ],
        "type": "select",
    });
    let mut connectors = json!({
        "HTTP": {
            "codecs": [null],
            "friendly": "HTTP",
            "name": "HTTP",
            "optional": http,
            "protocol": "http://",
            "provides": "HTTP",
            "url_match": ["/$.html", "/info_$.js", "/json_$.js"],
            "url_rel": "/$.html",
            "version": VERSION,
        },
        "HTTPS": {
            "codecs": [null],
            "friendly": "HTTPS (HTTP over TLS)",
            "name": "HTTPS",
            "optional": https,
            "protocol": "https://",
            "provides": "HTTP",
            "url_rel": "/$.html",
            "version": VERSION,
        },
        "RTMP": {
            "codecs": codecs(Container::Rtmp),
            "deps": "",
            "friendly": "RTMP",
            "incoming_push_url": "rtmp://$host:$port/$password/$stream",
            "methods": [method("rtmp", "RTMP", 7, "flash/10")],
            "name": "RTMP",
            "optional": rtmp,
            "url_rel": "/play/$",
            "version": VERSION,
        },
    });
    let over_http = [
        (
            Container::Flv,
            "FLV",
            "Flash progressive over HTTP (FLV)",
            "FLV progressive",
            5,
            "flash/7",
            "/$.flv",
        ),
        (
            Container::Ts,
            "HTTPTS",
            "TS over HTTP",
            "TS HTTP progressive",
            1,
            "html5/video/mpeg",
            "/$.ts",
        ),
        (
            Container::Mp4,
            "MP4",
            "MP4 over HTTP",
            "MP4 progressive",
            9,
            "html5/video/mp4",
            "/$.mp4",
        ),
    ];
    for (container, name, friendly, title, priority, kind, url) in over_http {
        assert_eq!(Standing::of(name), Standing::OverHttp, "{name} is served");
        connectors[name] = json!({
            "codecs": codecs(container),
            "deps": "HTTP",
            "friendly": friendly,
            "methods": [method("http", title, priority, kind)],
            "name": name,
            "optional": {},
            "url_match": url,
            "url_rel": url,
            "version": VERSION,
        });
    }
    let segmented = [
        (
            Form::Ts,
            "HLS (TS) over HTTP",
            Container::Ts,
            vec![(
                "HLS (TS)",
                9,
                "html5/application/vnd.apple.mpegurl",
                "/hls/$/index.m3u8",
            )],
        ),
        (
            Form::Cmaf,
            "CMAF (fMP4) over HTTP (DASH, HLS7)",
            Container::Mp4,
            vec![
                ("DASH", 8, "dash/video/mp4", "/cmaf/$/index.mpd"),
                (
                    "HLS (CMAF)",
                    8,
                    "html5/application/vnd.apple.mpegurl;version=7",
                    "/cmaf/$/index.m3u8",
                ),
            ],
        ),
    ];
    for (form, friendly, container, methods) in segmented {
        let root = methods.first().map_or("", |(.., url)| url);
        let is_only = methods.len() == 1;
        let methods: Vec<Value> = methods
            .iter()
            .map(|(title, priority, kind, url)| {
                let mut method = method("http", title, *priority, kind);
                if !is_only {
                    method["url_rel"] = (*url).into();
                }
                method
            })
            .collect();
        connectors[form.connector()] = json!({
            "codecs": codecs(container),
            "deps": "HTTP",
            "friendly": friendly,
            "methods": methods,
            "name": form.connector(),
            "optional": {},
            "url_rel": root,
            "version": VERSION,
        });
    }
    connectors
}

fn option(name: &str, kind: &str, default: Value) -> Value {
    json!({"default": default, "name": name, "type": kind})
}

fn method(handler: &str, title: &str, priority: u8, kind: &str) -> Value {
    json!({"handler": handler, "hrn": title, "priority": priority, "type": kind})
}

/// One group of a list of video and one of audio codecs that a container carries.
fn codecs(container: Container) -> Value {
    let carried = |codecs: &[Codec]| -> Vec<&'static str> {
        codecs
            .iter()
            .filter(|codec| container.carries(**codec))
            .map(|codec| codec.name())
            .collect()
    };
    let video = [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp8, Codec::Vp9];
    let audio = [
        Codec::Aac,
        Codec::Mp3,
        Codec::Opus,
        Codec::Flac,
        Codec::Ac3,
        Codec::Eac3,
        Codec::Ulaw,
        Codec::Alaw,
        Codec::G722,
    ];
    json!([[carried(&video), carried(&audio)]])
}

/// The input behind `push://`.
fn buffer() -> Value {
    json!({
        "name": "Buffer",
        "non-provider": true,
        "optional": {
            "DVR": option("Buffer time (ms)", "uint", 50_000.into()),
            "inputtimeout": option("Input inactivity timeout", "uint", 30.into()),
            "maxkeepaway": option("Maximum live keep-away distance", "uint", 45_000.into()),
            "resume": option("Resume support", "bool", false.into()),
            "segmentsize": option("Segment size (ms)", "uint", 1900.into()),
            "takeover": option("A new publisher replaces the old one", "bool", false.into()),
        },
        "priority": 9,
        "source_desc": "Takes in what an encoder pushes: from everybody, from one address or \
                        network, or with a password.",
        "source_help": "Set up an encoder to push to this server. An address or network lets in \
                        pushes from there; a password lets in pushes from anywhere; a stream key \
                        needs neither.",
        "source_match": ["push://*"],
        "source_name": "Receiving a push",
        "source_prefill": "push://",
        "source_syntax": "push://[host][@password]",
        "version": VERSION,
    })
}
