//! VLC, as its users run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::{Background, ffmpeg, wait_for, watch};

const PLAY_MAX: Duration = Duration::from_secs(25);

/// VLC plays for a few seconds and writes what it decoded.
#[track_caller]
pub fn plays(name: &str, url: &str) {
    // Not under target/: an ordinary user may not be let into the folder above it.
    let home = std::env::temp_dir().join(format!("ringside-vlc-{name}-{}", std::process::id()));
    fs::create_dir_all(&home).expect("the temporary folder is writable");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).expect("a folder of ours");
    let file = home.join("played.ts");
    let sout = format!(
        "#transcode{{vcodec=mp2v,vb=2000,scale=0.5,acodec=mpga,ab=128,channels=2,samplerate=44100}}\
         :standard{{access=file,mux=ts,dst={}}}",
        file.display()
    );
    let mut command = Command::new("cvlc");
    command
        .env("HOME", &home)
        .env_remove("XDG_CACHE_HOME")
        .current_dir(&home)
        .args(["--verbose", "1", "--network-caching", "300"])
        .args(["--run-time", "5", "--play-and-exit"])
        .args(["--sout", &sout, url, "vlc://quit"]);
    as_ordinary_user(&mut command);
    let mut player = Background::start("vlc", &mut command);
    // A live address has no end, so it is told to stop once it has had its time.
    let played = wait_for("VLC to write three seconds", PLAY_MAX, || {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        (bytes > 150_000 || player.ended().is_some()).then_some(bytes)
    });
    if player.ended().is_none() {
        player.signal(libc::SIGINT);
        player.wait(Duration::from_secs(10));
    }
    assert!(played > 0, "VLC wrote nothing: {}", player.log());
    let decoded = watch::decoded(&ffmpeg(), &file);
    let pictures = decoded.track("video").packets.len();
    let sounds = decoded.track("audio").packets.len();
    assert!(pictures > 30, "{pictures} pictures: {}", player.log());
    assert!(sounds > 30, "{sounds} blocks of sound: {}", player.log());
    fs::remove_dir_all(&home).expect("a folder of ours");
}

/// VLC refuses to run as root, so tests that are root run it as nobody.
fn as_ordinary_user(command: &mut Command) {
    #[allow(unsafe_code, reason = "std has no geteuid")]
    // SAFETY: geteuid cannot fail and touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if root {
        command.uid(65_534).gid(65_534);
    }
}
