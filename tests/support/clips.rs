//! What is published: short clips, made once per machine and pushed without encoding again, so that
//! two cores are left for the server and its viewers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{ffmpeg9, repository, run, scratch};

/// Raised when a recipe below changes.
const GENERATION: u32 = 1;
const MAKE_MAX: Duration = Duration::from_secs(120);

/// H.264 constrained baseline 30/s + AAC 48 kHz, no B-frames, a keyframe per second, 8 s.
pub fn demo() -> PathBuf {
    repository().join("assets/demo.flv")
}

/// A white flash and a beep at every whole second, H.264 High with B-frames + AAC 44.1 kHz, as OBS
/// sends them; the offset between the two is what a viewer hears and sees.
pub fn flash_and_beep() -> PathBuf {
    make(
        "flash",
        &[
            "-f",
            "lavfi",
            "-i",
            "color=black:s=320x180:r=30:d=8,drawbox=color=white:t=fill:enable='lt(mod(t+0.001,1),0.09)'",
            "-f",
            "lavfi",
            "-i",
            "aevalsrc=exprs='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=44100:d=8",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-profile:v",
            "high",
            "-pix_fmt",
            "yuv420p",
            "-bf",
            "2",
            "-g",
            "30",
            "-keyint_min",
            "30",
            "-sc_threshold",
            "0",
            "-c:a",
            "aac",
            "-b:a",
            "96k",
        ],
    )
}

/// H.264 without B-frames + Opus in enhanced FLV: what goes to WebRTC as it is.
pub fn h264_opus() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "30", "-pix_fmt", "yuv420p",
        "-c:a", "libopus", "-b:a", "64k",
    ]);
    make("h264-opus", &recipe)
}

/// A flash and a beep at every whole second, H.264 High with B-frames + Opus in enhanced FLV.
pub fn b_frames_opus() -> PathBuf {
    let flash = flash_and_beep();
    let flash = flash.to_str().expect("a path of ASCII");
    make(
        "b-frames-opus",
        &[
            "-i", flash, "-c:v", "copy", "-c:a", "libopus", "-ar", "48000",
        ],
    )
}

/// HEVC + Opus in enhanced FLV.
pub fn hevc_opus() -> PathBuf {
    let hevc = hevc_aac();
    let hevc = hevc.to_str().expect("a path of ASCII");
    make(
        "hevc-opus",
        &[
            "-i", hevc, "-c:v", "copy", "-c:a", "libopus", "-ar", "48000",
        ],
    )
}

/// VP9 + Opus in enhanced FLV.
pub fn vp9_opus() -> PathBuf {
    let vp9 = vp9_flac();
    let vp9 = vp9.to_str().expect("a path of ASCII");
    make(
        "vp9-opus",
        &["-i", vp9, "-c:v", "copy", "-c:a", "libopus", "-ar", "48000"],
    )
}

/// HEVC + AAC in enhanced FLV.
pub fn hevc_aac() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-x265-params",
        "keyint=30:min-keyint=30:scenecut=0:bframes=0:log-level=error:repeat-headers=0",
        "-c:a",
        "aac",
        "-b:a",
        "96k",
    ]);
    make("hevc-aac", &recipe)
}

/// AV1 + Opus in enhanced FLV.
pub fn av1_opus() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v",
        "libsvtav1",
        "-preset",
        "12",
        "-crf",
        "40",
        "-g",
        "30",
        "-pix_fmt",
        "yuv420p",
        "-svtav1-params",
        "pred-struct=1",
        "-c:a",
        "libopus",
        "-b:a",
        "64k",
    ]);
    make("av1-opus", &recipe)
}

/// H.264 + FLAC in enhanced FLV: TS carries only the first.
pub fn h264_flac() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "30", "-pix_fmt", "yuv420p",
        "-c:a", "flac",
    ]);
    make("h264-flac", &recipe)
}

/// VP9 + FLAC in enhanced FLV: TS carries neither.
pub fn vp9_flac() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "30",
        "-b:v",
        "400k",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "flac",
    ]);
    make("vp9-flac", &recipe)
}

/// H.264 + MP3, legacy FLV tags both.
pub fn h264_mp3() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-g",
        "30",
        "-pix_fmt",
        "yuv420p",
        "-ar",
        "44100",
        "-c:a",
        "libmp3lame",
        "-b:a",
        "96k",
    ]);
    make("h264-mp3", &recipe)
}

/// H.264 + AC-3 in enhanced FLV.
pub fn h264_ac3() -> PathBuf {
    let mut recipe = pictures_and_tone();
    recipe.extend([
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "30", "-pix_fmt", "yuv420p",
        "-c:a", "ac3", "-b:a", "128k",
    ]);
    make("h264-ac3", &recipe)
}

/// About 12 Mbit/s: fills a socket's buffers within seconds when nobody reads.
pub fn heavy() -> PathBuf {
    make(
        "heavy",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=640x360:r=30:d=4,noise=alls=90:allf=t,format=yuv420p",
            "-f",
            "lavfi",
            "-i",
            "sine=f=440:r=48000:d=4",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-b:v",
            "12M",
            "-maxrate",
            "12M",
            "-bufsize",
            "6M",
            "-bf",
            "0",
            "-g",
            "30",
            "-sc_threshold",
            "0",
            "-c:a",
            "aac",
            "-b:a",
            "96k",
        ],
    )
}

fn pictures_and_tone() -> Vec<&'static str> {
    vec![
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x180:r=30:d=8",
        "-f",
        "lavfi",
        "-i",
        "sine=f=440:r=48000:d=8",
    ]
}

/// Makes the clip unless an earlier run did. Two test programs may want it at once: one makes it,
/// the other waits for the lock.
#[track_caller]
fn make(name: &str, recipe: &[&str]) -> PathBuf {
    let folder = scratch().join("clips");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let path = folder.join(format!("{name}-{GENERATION}.flv"));
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("a lock file can be made");
    lock.lock().expect("a file can be locked");
    if !path.exists() {
        let unfinished = folder.join(format!("{name}.unfinished"));
        run(
            Command::new(ffmpeg9())
                .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"])
                .args(recipe)
                .args(["-shortest", "-f", "flv"])
                .arg(&unfinished),
            MAKE_MAX,
        )
        .success();
        fs::rename(&unfinished, &path).expect("a finished clip can be renamed");
    }
    assert!(
        size(&path) > 10_000,
        "{} is too small to be a clip",
        path.display()
    );
    path
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
