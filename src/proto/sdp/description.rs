//! A description taken apart into media sections and attributes, borrowed from its text.

use super::Error;

/// How much of a description is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Of the whole text. Chromium offers a video section in 5 kB, so the default has room for 24.
    pub bytes_max: usize,
    /// Of a line. The longest in real offers are candidates and fingerprints, about 200 bytes.
    pub line_bytes_max: usize,
    /// Lines. Each costs 40 bytes while the description is looked at: 320 kB at most.
    pub lines_max: usize,
    /// Media sections.
    pub media_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 128 * 1024,
            line_bytes_max: 2048,
            lines_max: 8192,
            media_max: 128,
        }
    }
}

/// One `a=` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// Before the colon.
    pub name: &'a str,
    /// Behind the colon; empty without one.
    pub value: &'a str,
}

/// The attributes of the session or of a media section, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes<'a>(Vec<Attribute<'a>>);

impl<'a> Attributes<'a> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'a>> {
        self.0.iter().copied()
    }

    /// Values of all attributes of a name. Names are compared without regard to case, because
    /// some senders write them in lower case throughout.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.iter()
            .filter(move |attribute| attribute.name.eq_ignore_ascii_case(name))
            .map(|attribute| attribute.value)
    }

    /// The value of the first attribute of a name.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.iter()
            .find(|attribute| attribute.name.eq_ignore_ascii_case(name))
            .map(|attribute| attribute.value)
    }

    /// Whether there is an attribute of a name.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

/// A media section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media<'a> {
    /// `audio`, `video`, `application` or something else.
    pub kind: &'a str,
    /// 0 if the section is rejected, or is offered for a bundle only.
    pub port: u16,
    /// `UDP/TLS/RTP/SAVPF` and the like.
    pub protocol: &'a str,
    /// Formats, which are payload types where the protocol is RTP; may be empty.
    pub formats: Vec<&'a str>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

/// A whole description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description<'a> {
    /// Attributes before the first media section.
    pub attributes: Attributes<'a>,
    /// Media sections in their order.
    pub media: Vec<Media<'a>>,
}

impl<'a> Description<'a> {
    /// Reads a description.
    pub fn parse(text: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        let mut lines = lines(text, limits)?;
        match lines.next().transpose()? {
            Some(Line {
                kind: b'v',
                value: "0",
                ..
            }) => sections(lines, limits),
            Some(_) | None => Err(Error::Version),
        }
    }
}

/// Reads `m=` and `a=` lines, which is all that descriptions and fragments have in common.
pub(super) fn sections<'a>(
    lines: impl Iterator<Item = Result<Line<'a>, Error>>,
    limits: &Limits,
) -> Result<Description<'a>, Error> {
    let mut description = Description {
        attributes: Attributes::default(),
        media: Vec::new(),
    };
    for line in lines {
        let line = line?;
        match line.kind {
            b'm' => {
                if description.media.len() == limits.media_max {
                    return Err(Error::TooManyMedia(limits.media_max));
                }
                let media = parse_media(line.value).ok_or(Error::Media(line.number))?;
                description.media.push(media);
            }
            b'a' => {
                let (name, value) = line.value.split_once(':').unwrap_or((line.value, ""));
                let attributes = match description.media.last_mut() {
                    Some(media) => &mut media.attributes,
                    None => &mut description.attributes,
                };
                attributes.0.push(Attribute {
                    name: name.trim(),
                    value: value.trim(),
                });
            }
            _ => {}
        }
    }
    Ok(description)
}

fn parse_media(value: &str) -> Option<Media<'_>> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?;
    // A count of ports may follow a slash; nothing here has more than one.
    let port = words.next()?.split('/').next()?.parse().ok()?;
    Some(Media {
        kind,
        port,
        protocol: words.next()?,
        formats: words.collect(),
        attributes: Attributes::default(),
    })
}

/// A line with its type.
pub(super) struct Line<'a> {
    number: usize,
    kind: u8,
    value: &'a str,
}

/// The lines of a text that is not too long; empty ones are left out.
pub(super) fn lines<'a>(
    text: &'a [u8],
    limits: &Limits,
) -> Result<impl Iterator<Item = Result<Line<'a>, Error>> + use<'a>, Error> {
    let limits = *limits;
    if text.len() > limits.bytes_max {
        return Err(Error::TooLong(limits.bytes_max));
    }
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    Ok(lines.filter_map(move |(index, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then(|| parse_line(index + 1, line, &limits))
    }))
}

fn parse_line<'a>(number: usize, line: &'a [u8], limits: &Limits) -> Result<Line<'a>, Error> {
    if number > limits.lines_max {
        return Err(Error::TooManyLines(limits.lines_max));
    }
    if line.len() > limits.line_bytes_max {
        return Err(Error::LineTooLong {
            line: number,
            max: limits.line_bytes_max,
        });
    }
    let text = std::str::from_utf8(line).map_err(|_| Error::NotText(number))?;
    // Values are written into answers: none may smuggle in a line break.
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::NotText(number));
    }
    let (kind, value) = text.split_once('=').ok_or(Error::Line(number))?;
    match kind.as_bytes() {
        [kind] => Ok(Line {
            number,
            kind: *kind,
            value: value.trim(),
        }),
        _ => Err(Error::Line(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

    fn parse(text: &str) -> Result<Description<'_>, Error> {
        Description::parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn attributes_belong_to_the_section_above_them() {
        let text = format!(
            "{HEAD}a=group:BUNDLE 0\r\nm=audio 9/2 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\n\
             a=mid:0\r\na=rtcp-mux\r\nb=AS:500\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n"
        );
        let description = parse(&text).expect("a description");
        assert_eq!(description.attributes.value("group"), Some("BUNDLE 0"));
        let [audio, video] = &description.media[..] else {
            panic!("two sections");
        };
        assert_eq!((audio.kind, audio.port), ("audio", 9));
        assert_eq!(audio.formats, ["111", "0"]);
        assert_eq!(audio.attributes.value("mid"), Some("0"));
        assert!(audio.attributes.has("rtcp-mux") && !video.attributes.has("rtcp-mux"));
        assert_eq!((video.port, video.attributes.value("mid")), (0, Some("1")));
    }

    /// The `sdp` crate refuses all of these; peers and RFC 8866 section 5 want them taken.
    #[test]
    fn odd_but_harmless_lines_are_read_over() {
        for text in [
            "v=0\nm=audio 9 RTP 0\n",
            "v=0\r\na=ice-lite\r\nt=0 0\r\nm=haptics 9 QUIC/X 96\r\n",
            "v=0\r\no=- -1 99999999999999999999 IN IP4 0.0.0.0\r\nm=x 9 TCP/DTLS/SCTP 1\r\n",
            "v=0\r\ny=1\r\n\r\nm=audio 9 RTP\r\nc=in ip4\r\n",
        ] {
            assert_eq!(parse(text).map(|d| d.media.len()), Ok(1), "{text}");
        }
        let text = "v=0\r\nA=MID:0\r\na=MID:0\r\n";
        let description = parse(text).expect("a description");
        assert_eq!(description.attributes.value("mid"), Some("0"));
    }

    #[test]
    fn faults_are_named_by_line() {
        assert_eq!(parse(""), Err(Error::Version));
        assert_eq!(parse("v=1\r\n"), Err(Error::Version));
        assert_eq!(parse("v=0\r\nhello\r\n"), Err(Error::Line(2)));
        assert_eq!(parse("v=0\r\nab=c\r\n"), Err(Error::Line(2)));
        assert_eq!(parse("v=0\r\n\r\nm=audio x RTP\r\n"), Err(Error::Media(3)));
        assert_eq!(parse("v=0\r\nm=audio 9\r\n"), Err(Error::Media(2)));
        assert_eq!(parse("v=0\r\na=x\ry\r\n"), Err(Error::NotText(2)));
        let bytes = b"v=0\r\na=\xff\r\n";
        let error = Description::parse(bytes, &Limits::default());
        assert_eq!(error, Err(Error::NotText(2)));
    }

    #[test]
    fn limits_hold() {
        let limits = Limits::default();
        let many = format!(
            "{HEAD}{}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(1000)
        );
        assert_eq!(parse(&many), Err(Error::TooManyMedia(limits.media_max)));
        let lines = format!("{HEAD}{}", "a=x\r\n".repeat(limits.lines_max));
        assert_eq!(parse(&lines), Err(Error::TooManyLines(limits.lines_max)));
        let long = format!("{HEAD}a={}\r\n", "x".repeat(limits.line_bytes_max));
        let max = limits.line_bytes_max;
        assert_eq!(parse(&long), Err(Error::LineTooLong { line: 5, max }));
        let megabyte = format!("{HEAD}{}", "a=x:yyyyyyyyyy\r\n".repeat(1 << 16));
        assert_eq!(parse(&megabyte), Err(Error::TooLong(limits.bytes_max)));
    }
}
