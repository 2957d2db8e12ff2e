//! Replays the corpora of `fuzz/` in the normal test run, without a fuzzer. A target is one line
//! here, one file in `fuzz/entry`, one in `fuzz/fuzz_targets` and one block in `fuzz/Cargo.toml`.

use std::fs;
use std::path::Path;

macro_rules! targets {
    ($($name:ident $path:literal)*) => {
        $(
            #[path = $path]
            mod $name;
        )*
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}

targets! {
    amf0 "../fuzz/entry/amf0.rs"
    api "../fuzz/entry/api.rs"
    codec_config "../fuzz/entry/codec_config.rs"
    codec_frame "../fuzz/entry/codec_frame.rs"
    collab "../fuzz/entry/collab.rs"
    config_json "../fuzz/entry/config_json.rs"
    deepdiff "../fuzz/entry/deepdiff.rs"
    depacketize "../fuzz/entry/depacketize.rs"
    dtls "../fuzz/entry/dtls.rs"
    dtls_server "../fuzz/entry/dtls_server.rs"
    flv_file "../fuzz/entry/flv_file.rs"
    hls_query "../fuzz/entry/hls_query.rs"
    http2 "../fuzz/entry/http2.rs"
    http_client "../fuzz/entry/http_client.rs"
    http_request "../fuzz/entry/http_request.rs"
    packetize "../fuzz/entry/packetize.rs"
    pickle_decode "../fuzz/entry/pickle_decode.rs"
    pickle_scan "../fuzz/entry/pickle_scan.rs"
    proxy_protocol "../fuzz/entry/proxy_protocol.rs"
    red "../fuzz/entry/red.rs"
    replication "../fuzz/entry/replication.rs"
    rtcp "../fuzz/entry/rtcp.rs"
    rtmp_chunk "../fuzz/entry/rtmp_chunk.rs"
    rtmp_handshake "../fuzz/entry/rtmp_handshake.rs"
    rtmp_session "../fuzz/entry/rtmp_session.rs"
    rtp "../fuzz/entry/rtp.rs"
    sctp "../fuzz/entry/sctp.rs"
    sdp "../fuzz/entry/sdp.rs"
    session_file "../fuzz/entry/session_file.rs"
    session_log "../fuzz/entry/session_log.rs"
    srtp "../fuzz/entry/srtp.rs"
    stream_name "../fuzz/entry/stream_name.rs"
    stun "../fuzz/entry/stun.rs"
    unavi "../fuzz/entry/unavi.rs"
    webrtc_command "../fuzz/entry/webrtc_command.rs"
    websocket "../fuzz/entry/websocket.rs"
    zmtp "../fuzz/entry/zmtp.rs"
}

#[test]
fn corpora_replay_without_panic() {
    for (name, run) in TARGETS {
        let corpus = Path::new("fuzz/corpus").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            eprintln!("{}", path.display());
            let data = fs::read(&path).unwrap();
            run(&data);
            // Cuts reach the checks for input that ends early.
            for length in [
                1,
                data.len() / 3,
                data.len() / 2,
                data.len().saturating_sub(1),
            ] {
                run(data.get(..length).unwrap_or_default());
            }
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}
