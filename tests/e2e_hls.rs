//! HLS, low-latency HLS and DASH as bytes: every playlist through a publisher's restart, parts and
//! segments, and what is refused.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::http::{Answer, Connection};
use support::m3u8::{Checker, Master, Playlist};
use support::{
    Background, Server, clips, ffmpeg, ffmpeg9, http, push_command, repository, run, scratch,
    wait_for, watch,
};

/// Parts of a third of a second, segments of two: what is waited for comes within this.
const MEDIA_MAX: Duration = Duration::from_secs(10);

fn live() -> (Server, Background) {
    let server = Server::open(&["clip"]);
    let publisher = server.publish("clip", &clips::demo());
    (server, publisher)
}

#[track_caller]
fn get(server: &Server, path: &str) -> Answer {
    http::get(server.http, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn get_ok(server: &Server, path: &str) -> Answer {
    let answer = get(server, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer
}

/// The multivariant playlist and the paths of the media playlists in it.
#[track_caller]
fn master(server: &Server, form: &str, name: &str) -> (Master, Vec<String>) {
    let text = get_ok(server, &format!("/{form}/{name}/index.m3u8")).text();
    let master = Master::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let variants = master.variants.iter().map(|(_, uri)| uri.clone());
    let renditions = master
        .renditions
        .iter()
        .filter_map(|one| one.get("URI").cloned());
    let mut paths: Vec<String> = variants
        .chain(renditions)
        .map(|uri| format!("/{form}/{name}/{uri}"))
        .collect();
    paths.dedup();
    (master, paths)
}

/// A media playlist with a whole segment in it.
#[track_caller]
fn playlist(server: &Server, path: &str) -> Playlist {
    wait_for("a whole segment", MEDIA_MAX, || {
        let text = get_ok(server, path).text();
        let playlist = Playlist::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        playlist
            .segments
            .iter()
            .any(|segment| segment.uri.is_some())
            .then_some(playlist)
    })
}

fn beside(path: &str, uri: &str) -> String {
    let plain = path.split('?').next().expect("a path");
    let (folder, _) = plain.rsplit_once('/').expect("a path has a slash");
    format!("{folder}/{uri}")
}

/// `path` with delivery directives.
fn asking(path: &str, directives: &str) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}{directives}")
}

/// Reads each state of a playlist by blocking reloads until `is_over`.
fn follow(port: u16, path: &str, is_over: &AtomicBool) -> Checker {
    let mut checker = Checker::default();
    let mut connection = Connection::new(http::connect(port).expect("the port is open"));
    let mut ask = |path: &str| {
        connection
            .send("GET", path, &[])
            .expect("the server listens");
        connection.answer("GET").expect("the server answers")
    };
    let mut next = None;
    while !is_over.load(Ordering::Relaxed) {
        let query = next.map(|(msn, part)| format!("_HLS_msn={msn}&_HLS_part={part}"));
        let target = query.map_or_else(|| path.to_owned(), |query| asking(path, &query));
        let answer = ask(&target);
        if answer.status != 200 {
            // Nothing came for as long as the server waits; there is nothing new to judge.
            assert!(matches!(answer.status, 404 | 503), "{}", answer.text());
            next = None;
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let Some(whole) = checker.check(&answer.text()) else {
            break;
        };
        let awaited = next.replace(whole.next());
        if let Some(awaited) = awaited
            && whole.next() <= awaited
        {
            checker.complaints.push(format!(
                "6.2.5.2: {awaited:?} was asked for, {:?} is next",
                whole.next()
            ));
        }
        let delta = ask(&asking(path, "_HLS_skip=YES")).text();
        let again = ask(path).text();
        // Only if nothing came between.
        if again == answer.text() {
            checker.check_delta(&whole, &delta);
        }
    }
    checker
}

/// The publisher goes and another one comes, with the window full and sliding. The DVR window is
/// short, so that the discontinuity itself leaves it.
#[test]
fn every_playlist_through_a_restart() {
    let server = Server::start(serde_json::json!({
        "clip": { "name": "clip", "source": "push://", "DVR": 14_000 },
    }));
    let first = server.publish("clip", &clips::demo());
    let (_, cmaf) = master(&server, "cmaf", "clip");
    let (_, ts) = master(&server, "hls", "clip");
    let paths: Vec<String> = cmaf.into_iter().chain(ts).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    let is_over = AtomicBool::new(false);
    let checkers: Vec<(String, Checker)> = thread::scope(|scope| {
        let followers: Vec<_> = paths
            .iter()
            .map(|path| {
                let (port, is_over) = (server.http, &is_over);
                (path, scope.spawn(move || follow(port, path, is_over)))
            })
            .collect();
        thread::sleep(Duration::from_secs(9));
        drop(first);
        thread::sleep(Duration::from_secs(3));
        let second = server.publish("clip", &clips::demo());
        thread::sleep(Duration::from_secs(30));
        is_over.store(true, Ordering::Relaxed);
        drop(second);
        followers
            .into_iter()
            .map(|(path, follower)| (path.clone(), follower.join().expect("no panic")))
            .collect()
    });
    for (path, checker) in checkers {
        checker.assert_clean();
        assert!(checker.count > 60, "{path}: {} playlists", checker.count);
        let (kept, broken) = checker.hints;
        assert!(
            broken * 10 < kept,
            "{path}: {broken} of {} hints were not kept",
            kept + broken
        );
        let last = checker.last().expect("playlists were read");
        assert_eq!(last.discontinuity_sequence, 1, "{path}");
    }
}

/// One after the other, `uris` into a file.
#[track_caller]
fn save(server: &Server, name: &str, path: &str, uris: &[&str]) -> PathBuf {
    let file = scratch().join(format!("{name}-{}", server.http));
    let mut bytes = Vec::new();
    for uri in uris {
        bytes.extend(get_ok(server, &beside(path, uri)).body);
    }
    fs::write(&file, bytes).expect("the scratch folder is writable");
    file
}

/// What mp4box.js, which shares nothing with the server, has to say.
#[track_caller]
fn boxes(init: &Path, segments: &[PathBuf]) -> Value {
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/boxes.mjs"))
            .arg(init)
            .args(segments),
        Duration::from_secs(30),
    );
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

#[test]
fn parts_are_their_segment_and_every_box_is_right() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    thread::sleep(Duration::from_secs(6));
    for (track, path) in paths.iter().enumerate() {
        let playlist = playlist(&server, path);
        let init = playlist.segments[0].map.clone().expect("CMAF has an init");
        let init = save(&server, &format!("init-{track}.mp4"), path, &[&init]);
        let (mut segments, mut parts) = (Vec::new(), Vec::new());
        for (number, segment) in playlist.numbered() {
            let Some(uri) = &segment.uri else { continue };
            let whole = save(
                &server,
                &format!("segment-{track}-{number}.m4s"),
                path,
                &[uri],
            );
            if !segment.parts.is_empty() {
                let uris: Vec<&str> = segment.parts.iter().map(|part| part.uri.as_str()).collect();
                let joined = save(
                    &server,
                    &format!("joined-{track}-{number}.m4s"),
                    path,
                    &uris,
                );
                assert!(
                    fs::read(&whole).unwrap() == fs::read(&joined).unwrap(),
                    "the parts of {number} are not the segment"
                );
                for (index, uri) in uris.iter().enumerate() {
                    let name = format!("part-{track}-{number}-{index}.m4s");
                    parts.push(save(&server, &name, path, &[uri]));
                }
            }
            segments.push(whole);
        }
        assert!(segments.len() >= 2 && parts.len() >= 6);
        for (files, sync_every) in [(&segments, 1), (&parts, 6)] {
            let report = boxes(&init, files);
            let track = &report["tracks"][0];
            assert_eq!(
                report["tracks"].as_array().map(Vec::len),
                Some(1),
                "{report}"
            );
            assert!(track["gaps"].as_f64().unwrap() < 0.002, "{report}");
            let listed = segments.len() as f64 * 2.0;
            let duration = track["duration"].as_f64().unwrap();
            assert!(
                (duration - listed).abs() < 0.4,
                "{duration} of {listed}: {report}"
            );
            if track["kind"] == "vide" {
                let starts = track["starts_with_sync"].as_array().unwrap();
                let mut keyframes = starts.iter().step_by(sync_every);
                assert!(keyframes.all(|is_sync| is_sync == true), "{report}");
            }
        }
    }
}

/// Transport stream segments play by themselves and one behind the other.
#[test]
fn transport_stream_segments_decode() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "hls", "clip");
    thread::sleep(Duration::from_secs(6));
    let playlist = playlist(&server, &paths[0]);
    let whole: Vec<&str> = playlist
        .segments
        .iter()
        .filter_map(|segment| segment.uri.as_deref())
        .collect();
    let parts: Vec<&str> = playlist
        .segments
        .iter()
        .rev()
        .find(|segment| segment.uri.is_some() && !segment.parts.is_empty())
        .expect("parts are listed")
        .parts
        .iter()
        .map(|part| part.uri.as_str())
        .collect();
    for (name, uris, seconds) in [
        ("alone.ts", &whole[..1], 2.0),
        ("all.ts", &whole[..], 2.0 * whole.len() as f64),
        ("parts.ts", &parts[..], 2.0),
    ] {
        let file = save(&server, name, &paths[0], uris);
        let packets = watch::packets(&ffmpeg(), &file);
        let decoded = watch::decoded(&ffmpeg(), &file);
        assert_eq!(packets.codecs(), ["aac", "h264"], "{name}");
        assert_eq!(decoded.complaints, "", "{name}");
        for track in &packets.tracks {
            track.assert_monotonic();
            assert!(
                (track.span() - seconds).abs() < 0.2,
                "{name}: {} s",
                track.span()
            );
            assert!(
                track.gap_max() < 0.1,
                "{name}: a gap of {}",
                track.gap_max()
            );
        }
    }
}

/// A request for a segment that is not complete is answered part by part.
#[test]
fn the_open_segment_comes_as_it_is_made() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    let (number, _) = playlist(&server, &paths[0]).next();
    let path = beside(&paths[0], &format!("chunk_{}.m4s", number + 1));
    let mut connection = Connection::new(http::connect(server.http).unwrap());
    connection.send("GET", &path, &[]).unwrap();
    let head = connection.head().unwrap();
    assert_eq!(head.status, 200);
    let (mut sizes, start) = (Vec::new(), Instant::now());
    let limit = MEDIA_MAX;
    let ended = connection.body_until(&head, limit, |body| {
        if sizes.last() != Some(&body.len()) {
            sizes.push(body.len());
        }
        false
    });
    assert!(ended.is_err(), "it ends by itself");
    assert!(start.elapsed() > Duration::from_millis(1500));
    assert!(sizes.len() > 6, "pieces of {sizes:?} bytes");
    let whole = get_ok(&server, &path).body;
    assert_eq!(whole.len(), *sizes.last().unwrap());
}

#[test]
fn what_cannot_be_had_is_refused_at_once_and_says_why() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    let (next, _) = playlist(&server, &paths[0]).next();
    let old = next - 1000;
    let cases = [
        (asking(&paths[0], &format!("_HLS_msn={}", next + 3)), 400),
        (asking(&paths[0], "_HLS_msn=18446744073709551615"), 400),
        (asking(&paths[0], "_HLS_msn=18446744073709551616"), 400),
        (asking(&paths[0], "_HLS_part=1"), 400),
        (asking(&paths[0], "_HLS_msn=x"), 400),
        (
            asking(&paths[0], &format!("_HLS_msn={next}&_HLS_part=-1")),
            400,
        ),
        ("/cmaf/clip/9/index.m3u8".to_owned(), 404),
        ("/cmaf/clip/1_2/index.m3u8".to_owned(), 404),
        ("/cmaf/clip/1/init_9.m4s".to_owned(), 404),
        ("/cmaf/clip/1/nothing.m4s".to_owned(), 404),
        (format!("/cmaf/clip/1/chunk_{}.m4s", next + 9), 404),
        (format!("/cmaf/clip/1/chunk_{old}.m4s"), 404),
        (format!("/cmaf/clip/1/chunk_{old}.0.m4s"), 404),
        (format!("/cmaf/clip/1/chunk_{next}.99.m4s"), 404),
        (format!("/hls/clip/1_2/{old}.ts"), 404),
        ("/hls/clip/2_1/index.m3u8".to_owned(), 404),
        ("/hls/clip/index.mpd".to_owned(), 404),
        ("/cmaf/clip/".to_owned(), 404),
    ];
    for (path, status) in cases {
        let start = Instant::now();
        let answer = get(&server, &path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().len() > 10, "{path} says nothing");
        assert!(start.elapsed() < Duration::from_secs(1), "{path}");
    }
    for path in [
        "/cmaf/clip/../../../etc/passwd",
        "/cmaf/../cmaf/clip/index.m3u8",
        "/cmaf/clip/1/..%2f..%2findex.m3u8",
        "/cmaf/%2e%2e/clip/index.m3u8",
        "/hls/clip/1_2/....//1.ts",
        "/cmaf/clip/1/chunk_%00.m4s",
    ] {
        let status = get(&server, path).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
}

/// A part that the playlist lists no longer, of a segment that it still lists.
#[test]
fn parts_of_finished_segments_stay_for_a_while() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    let number = playlist(&server, &paths[0]).sequence;
    let path = beside(&paths[0], &format!("chunk_{number}.2.m4s"));
    let first = get_ok(&server, &path).body;
    wait_for("three more segments", MEDIA_MAX, || {
        (playlist(&server, &paths[0]).next().0 > number + 3).then_some(())
    });
    assert_eq!(get_ok(&server, &path).body, first);
}

#[test]
fn a_stream_that_never_was_or_has_ended_is_not_found() {
    let server = Server::start(serde_json::json!({
        "clip": { "name": "clip", "source": "push://", "maxkeepaway": 0 },
    }));
    for form in ["cmaf", "hls"] {
        let answer = get(&server, &format!("/{form}/nobody/index.m3u8"));
        assert_eq!(answer.status, 404);
        assert!(answer.text().len() > 10);
    }
    let publisher = server.publish("clip", &clips::demo());
    let (_, paths) = master(&server, "cmaf", "clip");
    let path = paths[0].clone();
    playlist(&server, &path);
    drop(publisher);
    // It ends when nobody has come back: no player is left hanging meanwhile.
    wait_for("the end of the stream", Duration::from_secs(40), || {
        let asked = Instant::now();
        let answer = get(&server, &path);
        assert!(asked.elapsed() < Duration::from_secs(8), "it hangs");
        (answer.status == 404).then_some(())
    });
    let answer = get(&server, "/cmaf/clip/index.mpd");
    assert_eq!(answer.status, 404);
}

/// The publisher dies while requests wait: each is answered or told, and none hangs.
#[test]
fn waiting_requests_are_answered_when_the_publisher_dies() {
    let (server, mut publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    let (msn, part) = playlist(&server, &paths[0]).next();
    let target = asking(&paths[0], &format!("_HLS_msn={}&_HLS_part={part}", msn + 1));
    let mut waiting: Vec<Connection> = (0..50)
        .map(|_| {
            let mut connection = Connection::new(http::connect(server.http).unwrap());
            connection.send("GET", &target, &[]).unwrap();
            connection
        })
        .collect();
    publisher.kill();
    let start = Instant::now();
    for connection in &mut waiting {
        connection
            .stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let answer = connection.answer("GET").expect("an answer");
        assert!(
            matches!(answer.status, 200 | 404 | 503),
            "{}",
            answer.status
        );
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn headers_for_caches_and_pages() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "cmaf", "clip");
    let listed = playlist(&server, &paths[0]);
    let uri = listed.segments[0].uri.clone().expect("whole");
    let path = beside(&paths[0], &uri);
    let whole = get_ok(&server, &path);
    let length = whole.body.len();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http::request(server.http, method, path, headers).expect("an answer")
    };
    assert!(whole.header("cache-control").unwrap().contains("max-age"));
    assert_eq!(whole.header("content-type"), Some("video/mp4"));
    let etag = whole.header("etag").expect("an ETag");
    assert_eq!(ask("GET", &path, &[("If-None-Match", etag)]).status, 304);
    assert_eq!(ask("GET", &path, &[("If-None-Match", "\"x\"")]).status, 200);
    let head = ask("HEAD", &path, &[]);
    assert_eq!(
        head.header("content-length"),
        Some(length.to_string().as_str())
    );

    let last = format!("bytes={}-", length - 1);
    for (range, from, to) in [
        ("bytes=0-9", 0, 10),
        ("bytes=100-199", 100, 200),
        (last.as_str(), length - 1, length),
        ("bytes=-7", length - 7, length),
        ("bytes=5-99999999", 5, length),
    ] {
        let answer = ask("GET", &path, &[("Range", range)]);
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, whole.body[from..to], "{range}");
        let content_range = format!("bytes {from}-{}/{length}", to - 1);
        assert_eq!(answer.header("content-range"), Some(content_range.as_str()));
    }
    let beyond = format!("bytes={length}-");
    let refused = ask("GET", &path, &[("Range", &beyond)]);
    assert_eq!(refused.status, 416);
    let content_range = format!("bytes */{length}");
    assert_eq!(
        refused.header("content-range"),
        Some(content_range.as_str())
    );
    for not_a_range in ["bytes=9-1", "bytes=x", "lines=1-2", "bytes=0-1,4-5"] {
        let answer = ask("GET", &path, &[("Range", not_a_range)]);
        assert!(matches!(answer.status, 200 | 206 | 416), "{not_a_range}");
    }

    // A playlist that is short anyway is not packed.
    wait_for("a playlist worth packing", MEDIA_MAX, || {
        (get_ok(&server, &paths[0]).body.len() > 1100).then_some(())
    });
    let packed = ask("GET", &paths[0], &[("Accept-Encoding", "gzip, br")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(
        packed.header("vary").map(str::to_lowercase).as_deref(),
        Some("accept-encoding")
    );
    let file = scratch().join(format!("playlist-{}.gz", server.http));
    fs::write(&file, &packed.body).unwrap();
    let said = run(Command::new("gzip").arg("-dc").arg(&file), MEDIA_MAX).success();
    assert!(Playlist::parse(&said.stdout).is_ok(), "{}", said.stdout);
    for none in ["identity", "gzip;q=0", "br"] {
        let plain = ask("GET", &paths[0], &[("Accept-Encoding", none)]);
        assert_eq!(plain.header("content-encoding"), None, "{none}");
    }

    for path in [&paths[0], &path] {
        let preflight = ask(
            "OPTIONS",
            path,
            &[
                ("Origin", "https://example.org"),
                ("Access-Control-Request-Method", "GET"),
            ],
        );
        assert!(matches!(preflight.status, 200 | 204));
        assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            get_ok(&server, path).header("access-control-allow-origin"),
            Some("*")
        );
    }
    let live = get_ok(&server, &paths[0]);
    let cache = live.header("cache-control").unwrap();
    assert!(!cache.contains("immutable"), "{cache}");
    assert_eq!(
        live.header("content-type"),
        Some("application/vnd.apple.mpegurl")
    );
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = http::get(server.control, "/metrics")
        .expect("the status port answers")
        .text();
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Viewers are sessions over requests: by the token in the URL, or by the cookie.
#[test]
fn viewers_are_counted_over_requests() {
    let (server, _publisher) = live();
    let mut paths = Vec::new();
    for _ in 0..3 {
        paths.extend(master(&server, "cmaf", "clip").1);
    }
    for path in &paths {
        for _ in 0..5 {
            get_ok(&server, path);
        }
    }
    let name = "ringside_segment_viewers{protocol=\"cmaf\"}";
    wait_for("three viewers to be counted", MEDIA_MAX, || {
        (metric(&server, name) == 3.0).then_some(())
    });
    // By the cookie alone: as a player that was given the address of a media playlist.
    let answer = get_ok(&server, "/cmaf/clip/index.m3u8");
    let cookie = answer.header("set-cookie").expect("a session's cookie");
    let pair = cookie
        .split(';')
        .next()
        .expect("a cookie has a value")
        .to_owned();
    for _ in 0..5 {
        let headers = [("Cookie", pair.as_str())];
        http::request(server.http, "GET", "/cmaf/clip/1/index.m3u8", &headers).unwrap();
    }
    wait_for("a fourth one", MEDIA_MAX, || {
        (metric(&server, name) == 4.0).then_some(())
    });
    thread::sleep(Duration::from_secs(1));
    assert_eq!(metric(&server, name), 4.0);
}

/// The clip is pushed by the newer FFmpeg, and read back by it from both forms.
#[track_caller]
fn plays_as(clip: &Path, codecs: &str, ts: &[&str], cmaf: &[&str]) {
    let server = Server::open(&["coded"]);
    let _publisher = server.publish_with(&ffmpeg9(), "coded", clip);
    thread::sleep(Duration::from_secs(5));
    for (form, wanted) in [("hls", ts), ("cmaf", cmaf)] {
        if wanted.is_empty() {
            let status = get(&server, &format!("/{form}/coded/index.m3u8")).status;
            assert_eq!(status, 404, "{form}");
            continue;
        }
        let (master, paths) = master(&server, form, "coded");
        let named: BTreeMap<&str, ()> = master
            .variants
            .iter()
            .flat_map(|(variant, _)| variant["CODECS"].split(','))
            .map(|codec| (codec.split('.').next().expect("not empty"), ()))
            .collect();
        let named: Vec<&str> = named.into_keys().collect();
        if form == "cmaf" {
            assert_eq!(named.join(","), codecs);
        }
        for path in &paths {
            playlist(&server, path);
        }
        let url = server.url(&format!("/{form}/coded/index.m3u8"));
        let file = scratch().join(format!("coded-{form}-{}.mkv", server.http));
        run(
            Command::new(ffmpeg9())
                .args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-y"])
                .args(["-live_start_index", "-2", "-i", &url, "-t", "4"])
                .args(["-map", "0:v?", "-map", "0:a?", "-c", "copy"])
                .arg(&file),
            Duration::from_secs(40),
        )
        .success();
        let packets = watch::packets(&ffmpeg9(), &file);
        assert_eq!(packets.codecs(), wanted, "{form}");
        let decoded = watch::decoded(&ffmpeg9(), &file);
        assert_eq!(decoded.complaints, "", "{form}");
        for track in &packets.tracks {
            assert!(
                track.span() > 3.0,
                "{form}: {} s of {}",
                track.span(),
                track.kind
            );
            assert!(
                track.gap_max() < 0.15,
                "{form}: a gap of {}",
                track.gap_max()
            );
            let whole = decoded.track(&track.kind).packets.len();
            assert!(whole + 6 >= track.packets.len(), "{form}: {whole} decode");
        }
    }
}

#[test]
fn hevc_and_aac() {
    plays_as(
        &clips::hevc_aac(),
        "hvc1,mp4a",
        &["aac", "hevc"],
        &["aac", "hevc"],
    );
}

#[test]
fn av1_and_opus() {
    plays_as(&clips::av1_opus(), "av01,opus", &["opus"], &["av1", "opus"]);
}

#[test]
fn vp9_and_flac() {
    plays_as(&clips::vp9_flac(), "fLaC,vp09", &[], &["flac", "vp9"]);
}

#[test]
fn h264_and_mp3() {
    plays_as(
        &clips::h264_mp3(),
        "avc1,mp4a",
        &["h264", "mp3"],
        &["h264", "mp3"],
    );
}

#[test]
fn h264_and_ac3() {
    plays_as(
        &clips::h264_ac3(),
        "ac-3,avc1",
        &["ac3", "h264"],
        &["ac3", "h264"],
    );
}

/// One kind of track only, by every form.
#[track_caller]
fn plays_one_kind(arguments: &[&str], wanted: &str, codec: &str) {
    let server = Server::open(&["one"]);
    let mut command = push_command(&ffmpeg(), &clips::demo(), &server.push_url("one"));
    // Behind `-map 0`, before the output.
    let target = server.push_url("one");
    let mut replaced = Command::new(command.get_program());
    for argument in command.get_args() {
        if argument == target.as_str() {
            replaced.args(arguments);
        }
        replaced.arg(argument);
    }
    command = replaced;
    let publisher = Background::start("publisher", &mut command);
    server.wait_until_live("one", &publisher);
    thread::sleep(Duration::from_secs(5));
    for form in ["cmaf", "hls"] {
        let (master, paths) = master(&server, form, "one");
        assert_eq!(master.variants.len(), 1, "{master:?}");
        assert!(
            master.variants[0].0["CODECS"].starts_with(codec),
            "{master:?}"
        );
        assert!(master.renditions.is_empty(), "{master:?}");
        let mut checker = Checker::default();
        for _ in 0..8 {
            checker.check(&get_ok(&server, &paths[0]).text());
            thread::sleep(Duration::from_millis(400));
        }
        checker.assert_clean();
        let url = server.url(&format!("/{form}/one/index.m3u8"));
        let said = run(
            Command::new(ffmpeg())
                .args(["-hide_banner", "-nostdin", "-loglevel", "warning"])
                .args(["-i", &url, "-t", "3", "-f", "framecrc", "-"]),
            Duration::from_secs(30),
        )
        .success();
        let contents = watch::Contents::parse(&said.stdout, said.stderr);
        let kinds: Vec<&str> = contents
            .tracks
            .iter()
            .map(|track| track.kind.as_str())
            .collect();
        assert_eq!(kinds, [wanted], "{form}");
        assert!(contents.tracks[0].packets.len() > 60, "{form}");
    }
    let mpd = get_ok(&server, "/cmaf/one/index.mpd").text();
    assert_eq!(mpd.matches("<AdaptationSet").count(), 1, "{mpd}");
}

#[test]
fn sound_alone() {
    plays_one_kind(&["-vn"], "audio", "mp4a");
}

#[test]
fn pictures_alone() {
    plays_one_kind(&["-an"], "video", "avc1");
}

/// A description is well-formed and names what can be fetched.
#[test]
fn dash_names_what_is_there() {
    let (server, _publisher) = live();
    get_ok(&server, "/cmaf/clip/index.mpd");
    for path in master(&server, "cmaf", "clip").1 {
        wait_for("four segments", Duration::from_secs(15), || {
            (playlist(&server, &path).segments.len() > 4).then_some(())
        });
    }
    let file = scratch().join(format!("live-{}.mpd", server.http));
    fs::write(&file, get_ok(&server, "/cmaf/clip/index.mpd").body).unwrap();
    let said = run(
        Command::new("python3").args([
            "-c",
            "import sys, xml.etree.ElementTree as tree
space = '{urn:mpeg:dash:schema:mpd:2011}'
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == space + 'MPD' and root.get('type') == 'dynamic'
for one in root.iter(space + 'Representation'):
    template = one.find(space + 'SegmentTemplate')
    number = int(template.get('startNumber'))
    count = sum(int(s.get('r', '0')) + 1 for s in template.iter(space + 'S'))
    name = lambda key: template.get(key).replace('$RepresentationID$', one.get('id'))
    print(name('initialization'))
    # The newest is being made, and the one after it is listed ahead.
    for at in range(number, number + count - 2):
        print(name('media').replace('$Number$', str(at)))",
            &file.to_string_lossy(),
        ]),
        MEDIA_MAX,
    )
    .success();
    let names: Vec<&str> = said.stdout.lines().collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        get_ok(&server, &format!("/cmaf/clip/{name}"));
    }
    let time = get_ok(&server, "/time").text();
    let mut now = String::new();
    Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|child| child.stdout.expect("piped").read_to_string(&mut now))
        .expect("date runs");
    assert_eq!(time.get(..13), now.get(..13), "the hour");
    support::m3u8::date(time.trim()).unwrap_or_else(|error| panic!("{error}"));
}

/// Viewers that come late, or ask for a span, get it: `start` and `stop` in milliseconds.
#[test]
fn a_span_is_listed_alone() {
    let (server, _publisher) = live();
    let (_, paths) = master(&server, "hls", "clip");
    wait_for("five segments", Duration::from_secs(15), || {
        (playlist(&server, &paths[0]).segments.len() > 5).then_some(())
    });
    let text = get_ok(&server, &asking(&paths[0], "start=2000&stop=6000")).text();
    let span = Playlist::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(span.is_ended, "{text}");
    assert!((span.length() - 4_000_000).abs() <= 2_100_000, "{text}");
    assert!(span.hint.is_none());
    let text = get_ok(&server, &asking(&paths[0], "start=-4000")).text();
    let late = Playlist::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(!late.is_ended && late.length() < 9_000_000, "{text}");
}
