//! Any message of MistServer's signalling is read or refused; what is said of it is JSON.

use std::time::Duration;

use ringside::streams::rtc::websocket::{Command, Dialect, Point, Reply, Speed, read};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let message;
    let reply = match read(text) {
        Ok(Command::Offer(offer)) => {
            assert!(!offer.is_empty() && offer.len() < text.len());
            Reply::NoAnswer
        }
        Ok(Command::Tracks { video, audio }) => {
            let longest = video.iter().chain(&audio).map(String::len).max();
            assert!(longest.unwrap_or(0) <= 64);
            Reply::Paused(true)
        }
        Ok(Command::Seek(Point::At(millis))) => {
            assert!(millis.is_finite());
            Reply::Live
        }
        Ok(Command::SetSpeed(speed)) => {
            assert!(speed == Speed::Auto || matches!(speed, Speed::Times(times) if times > 0.0));
            Reply::Speed(speed)
        }
        Ok(Command::VideoBitrate(bits)) => {
            assert!(bits >= 1);
            Reply::Bitrate(bits)
        }
        Ok(Command::KeyframeInterval(every)) => {
            assert!(every >= Duration::from_millis(500) && every <= Duration::from_secs(3600));
            Reply::KeyframeInterval(every)
        }
        Ok(
            Command::Play
            | Command::Hold
            | Command::Seek(Point::Live)
            | Command::Stop
            | Command::RtpProperties
            | Command::CodecData,
        ) => Reply::Stop,
        Err(ref fault) => {
            message = fault.to_string();
            assert!(fault.command().len() <= 32);
            Reply::Error(fault.command(), &message).write(Dialect::Channel);
            Reply::NoAnswer
        }
    };
    for dialect in [Dialect::Socket, Dialect::Channel] {
        let said = reply.write(dialect);
        assert!(said.starts_with("{\"type\":\"") && said.ends_with('}'));
    }
}
