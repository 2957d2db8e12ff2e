//! Reads playlists and descriptions strictly: what is not expected is an error.

use std::collections::BTreeMap;

/// A media playlist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Media {
    pub(crate) target_s: u64,
    /// Microseconds.
    pub(crate) part_target: Option<u64>,
    pub(crate) msn: u64,
    pub(crate) discontinuity: u64,
    /// Segments at the beginning that a delta update leaves out.
    pub(crate) skipped: u64,
    pub(crate) segments: Vec<Listed>,
    pub(crate) hint: Option<String>,
    pub(crate) reports: usize,
    pub(crate) is_ended: bool,
}

/// A segment in a playlist; the last may have parts only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) is_complete: bool,
    pub(crate) micros: u64,
    pub(crate) is_discontinuity: bool,
    pub(crate) date: String,
    /// The initialisation segment in force.
    pub(crate) map: Option<String>,
    pub(crate) is_gap: bool,
    pub(crate) parts: Vec<ListedPart>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedPart {
    pub(crate) micros: u64,
    pub(crate) is_independent: bool,
}

impl Media {
    pub(crate) fn parse(text: &str, is_cmaf: bool) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some("#EXTM3U") {
            return Err("no #EXTM3U".into());
        }
        let mut out = Self::default();
        let mut next = Listed::default();
        let mut map = None;
        let mut has_msn = false;
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let number = |value: &str| {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("no number: {line}"))
            };
            if out.is_ended {
                return Err(format!("behind the end: {line}"));
            }
            match tag {
                "#EXT-X-VERSION" => {}
                "#EXT-X-TARGETDURATION" => out.target_s = number(value)?,
                "#EXT-X-SERVER-CONTROL" => {
                    if attribute(value, "CAN-BLOCK-RELOAD") != Some("YES") {
                        return Err("reloads do not block".into());
                    }
                }
                "#EXT-X-PART-INF" => out.part_target = Some(seconds(value, "PART-TARGET")?),
                "#EXT-X-MEDIA-SEQUENCE" => {
                    has_msn = true;
                    out.msn = number(value)?;
                }
                "#EXT-X-DISCONTINUITY-SEQUENCE" => out.discontinuity = number(value)?,
                "#EXT-X-PLAYLIST-TYPE" if value == "VOD" => {}
                "#EXT-X-SKIP" if out.segments.is_empty() => {
                    let skipped = attribute(value, "SKIPPED-SEGMENTS").ok_or("no number")?;
                    out.skipped = number(skipped)?;
                }
                "#EXT-X-DISCONTINUITY" => next.is_discontinuity = true,
                "#EXT-X-MAP" => map = Some(attribute(value, "URI").ok_or("no URI")?.to_owned()),
                "#EXT-X-PROGRAM-DATE-TIME" => next.date = value.to_owned(),
                "#EXT-X-GAP" => next.is_gap = true,
                "#EXT-X-PART" => {
                    let expected = file(is_cmaf, out.next_number(), Some(next.parts.len()));
                    if attribute(value, "URI") != Some(&expected) {
                        return Err(format!("{expected} is expected: {line}"));
                    }
                    next.parts.push(ListedPart {
                        micros: seconds(value, "DURATION")?,
                        is_independent: attribute(value, "INDEPENDENT") == Some("YES"),
                    });
                }
                "#EXTINF" => {
                    next.micros = micros(value.strip_suffix(',').ok_or("no comma")?)?;
                    next.is_complete = true;
                }
                "#EXT-X-PRELOAD-HINT" => {
                    out.hint = Some(attribute(value, "URI").ok_or("no URI")?.to_owned());
                }
                "#EXT-X-RENDITION-REPORT" => out.reports += 1,
                "#EXT-X-ENDLIST" => out.is_ended = true,
                _ if !line.starts_with('#') && next.is_complete => {
                    next.number = out.next_number();
                    let expected = file(is_cmaf, next.number, None);
                    if line != expected {
                        return Err(format!("{expected} is expected: {line}"));
                    }
                    next.map.clone_from(&map);
                    out.segments.push(std::mem::take(&mut next));
                }
                _ => return Err(format!("not expected: {line}")),
            }
        }
        if next.is_complete || !has_msn || out.target_s == 0 {
            return Err("something is missing".into());
        }
        if !next.parts.is_empty() {
            next.number = out.next_number();
            next.map.clone_from(&map);
            out.segments.push(next);
        } else if next != Listed::default() {
            return Err("tags without a segment".into());
        }
        Ok(out)
    }

    fn next_number(&self) -> u64 {
        self.msn + self.skipped + self.segments.len() as u64
    }

    /// The segment and part that come next.
    pub(crate) fn next_part(&self) -> (u64, usize) {
        match self.segments.last() {
            Some(last) if !last.is_complete => (last.number, last.parts.len()),
            Some(_) | None => (self.next_number(), 0),
        }
    }
}

/// The name that the server gives a segment or a part.
pub(crate) fn file(is_cmaf: bool, number: u64, part: Option<usize>) -> String {
    let part = part.map_or(String::new(), |part| format!(".{part}"));
    if is_cmaf {
        format!("chunk_{number}{part}.m4s")
    } else {
        format!("{number}{part}.ts")
    }
}

/// The media playlists that a master playlist names.
pub(crate) fn master(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut has_variant = false;
    for line in text.lines() {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXTM3U" | "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS" => {}
            "#EXT-X-MEDIA" => out.extend(attribute(value, "URI").map(str::to_owned)),
            "#EXT-X-STREAM-INF" => {
                let has_codecs = attribute(value, "CODECS").is_some_and(|text| !text.is_empty());
                let rate = attribute(value, "BANDWIDTH").and_then(|text| text.parse::<u64>().ok());
                if !has_codecs || rate.is_none_or(|rate| rate == 0) {
                    return Err(format!("a variant without codecs or rate: {line}"));
                }
                has_variant = true;
            }
            _ if !line.starts_with('#') && has_variant => {
                has_variant = false;
                out.push(line.to_owned());
            }
            _ => return Err(format!("not expected: {line}")),
        }
    }
    if has_variant || out.is_empty() {
        return Err("no variants".into());
    }
    Ok(out)
}

/// The value of an attribute, without quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if key == name {
            return Some(value);
        }
        rest = after.strip_prefix(',').unwrap_or("");
    }
    None
}

fn seconds(list: &str, name: &str) -> Result<u64, String> {
    micros(attribute(list, name).ok_or_else(|| format!("no {name}: {list}"))?)
}

/// Microseconds of decimal seconds.
fn micros(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<6}");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(&part) || part.len() != 6 {
        return Err(format!("no seconds: {text}"));
    }
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(whole)? * 1_000_000 + number(&part)?)
}

/// What a description says of one representation in one period.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) id: String,
    pub(crate) first: u64,
    pub(crate) init: String,
    /// Start and duration of each segment, in ticks of 90 kHz.
    pub(crate) timeline: Vec<(u64, u64)>,
}

/// The representations of a description.
pub(crate) fn description(text: &str) -> Result<Vec<Described>, String> {
    let mut out: Vec<Described> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').ok_or("a tag without an end")?;
        rest = after;
        if tag.starts_with('?') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("{name} is closed and not open"));
            }
            continue;
        }
        let (body, is_empty) = match tag.strip_suffix('/') {
            Some(body) => (body, true),
            None => (tag, false),
        };
        let (name, attributes) = body.split_once([' ', '\n']).unwrap_or((body, ""));
        let attributes = xml_attributes(attributes)?;
        let text = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        let number = |name: &str| {
            let text = text(name);
            text.parse::<u64>()
                .map_err(|_| format!("{name}={text} in {tag}"))
        };
        match name {
            "Representation" => out.push(Described {
                id: text("id"),
                first: 0,
                init: String::new(),
                timeline: Vec::new(),
            }),
            "SegmentTemplate" => {
                let last = out.last_mut().ok_or("a template of nothing")?;
                last.first = number("startNumber")?;
                last.init = text("initialization");
                if number("timescale")? != 90_000 {
                    return Err("another timescale".into());
                }
            }
            "S" => {
                let last = out.last_mut().ok_or("a segment of nothing")?;
                let start = match last.timeline.last() {
                    Some((start, duration)) if !attributes.contains_key("t") => start + duration,
                    Some(_) | None => number("t")?,
                };
                let duration = number("d")?;
                let repeats = if attributes.contains_key("r") {
                    number("r")?
                } else {
                    0
                };
                let times = (0..=repeats).map(|index| (start + index * duration, duration));
                last.timeline.extend(times);
            }
            _ => {}
        }
        if !is_empty {
            open.push(name.to_owned());
        }
    }
    if !open.is_empty() || out.is_empty() {
        return Err(format!("{open:?} open, {} representations", out.len()));
    }
    Ok(out)
}

fn xml_attributes(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").ok_or("an attribute without value")?;
        let (value, after) = after.split_once('"').ok_or("a value without an end")?;
        if out
            .insert(name.trim().to_owned(), value.to_owned())
            .is_some()
        {
            return Err(format!("{name} twice"));
        }
        rest = after.trim_start();
    }
    Ok(out)
}
