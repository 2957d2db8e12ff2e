//! Media playlists, read and judged by rules of our own: nothing of the server's writer is used.
//!
//! [`Checker`] looks at one playlist after the other of the same rendition and knows what the
//! earlier ones promised. Each complaint names the section of RFC 8216bis
//! (draft-pantos-hls-rfc8216bis-16) that is broken. `m3u8-rs` reads every playlist too.

use std::collections::BTreeMap;

/// Microseconds.
pub type Micros = i64;

/// A media playlist as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Playlist {
    pub version: u64,
    pub target: Micros,
    pub part_target: Option<Micros>,
    pub part_hold_back: Option<Micros>,
    pub hold_back: Option<Micros>,
    pub can_skip_until: Option<Micros>,
    pub can_block: bool,
    pub sequence: u64,
    pub discontinuity_sequence: u64,
    pub skipped: u64,
    pub segments: Vec<Segment>,
    pub hint: Option<String>,
    pub reports: Vec<Report>,
    pub is_ended: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// `None` while it has parts only.
    pub uri: Option<String>,
    /// 0 while it has parts only.
    pub duration: Micros,
    pub is_discontinuity: bool,
    /// The one in force, whether its tag stands here or before.
    pub map: Option<String>,
    /// Milliseconds since 1970.
    pub date: Option<i64>,
    pub is_gap: bool,
    pub parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    pub uri: String,
    pub duration: Micros,
    pub is_independent: bool,
    pub is_gap: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub uri: String,
    pub msn: u64,
    pub part: Option<u64>,
}

impl Segment {
    /// As much of it as there is.
    pub fn length(&self) -> Micros {
        match self.uri {
            Some(_) => self.duration,
            None => self.parts.iter().map(|part| part.duration).sum(),
        }
    }
}

impl Playlist {
    /// Reads a playlist. What is not understood is an error: the server writes nothing that is
    /// not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.split('\n');
        if lines.next() != Some("#EXTM3U") {
            return Err("4.4.1.1: the first line is not #EXTM3U".to_owned());
        }
        if !text.ends_with('\n') || text.contains('\r') {
            return Err("4.1: a line does not end with a line feed alone".to_owned());
        }
        let mut playlist = Self::default();
        let mut segment = Segment::default();
        let mut extinf = None;
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let Some(tag) = line.strip_prefix('#') else {
                let duration = extinf
                    .take()
                    .ok_or_else(|| format!("4.4.4.1: {line} has no EXTINF"))?;
                segment.duration = duration;
                segment.uri = Some(line.to_owned());
                let map = segment.map.clone();
                playlist.segments.push(std::mem::take(&mut segment));
                segment.map = map;
                continue;
            };
            let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
            *seen.entry(name.to_owned()).or_default() += 1;
            let attributes = || attributes(value);
            match name {
                "EXT-X-VERSION" => playlist.version = whole(value)?,
                "EXT-X-TARGETDURATION" => playlist.target = whole(value)? as Micros * 1_000_000,
                "EXT-X-SERVER-CONTROL" => {
                    let attributes = attributes()?;
                    playlist.can_block =
                        attributes.get("CAN-BLOCK-RELOAD").map(String::as_str) == Some("YES");
                    let get = |name| attributes.get(name).map(|value| seconds(value)).transpose();
                    playlist.part_hold_back = get("PART-HOLD-BACK")?;
                    playlist.hold_back = get("HOLD-BACK")?;
                    playlist.can_skip_until = get("CAN-SKIP-UNTIL")?;
                }
                "EXT-X-PART-INF" => {
                    playlist.part_target = Some(seconds(wanted(&attributes()?, "PART-TARGET")?)?);
                }
                "EXT-X-MEDIA-SEQUENCE" => playlist.sequence = whole(value)?,
                "EXT-X-DISCONTINUITY-SEQUENCE" => {
                    if !playlist.segments.is_empty() {
                        return Err("4.4.3.3: stands behind a segment".to_owned());
                    }
                    playlist.discontinuity_sequence = whole(value)?;
                }
                "EXT-X-SKIP" => {
                    playlist.skipped = whole(wanted(&attributes()?, "SKIPPED-SEGMENTS")?)?;
                }
                "EXT-X-DISCONTINUITY" => segment.is_discontinuity = true,
                "EXT-X-GAP" => segment.is_gap = true,
                "EXT-X-MAP" => segment.map = Some(wanted(&attributes()?, "URI")?.to_owned()),
                "EXT-X-PROGRAM-DATE-TIME" => segment.date = Some(date(value)?),
                "EXT-X-PART" => {
                    let attributes = attributes()?;
                    let is = |name| attributes.get(name).map(String::as_str) == Some("YES");
                    segment.parts.push(Part {
                        uri: wanted(&attributes, "URI")?.to_owned(),
                        duration: seconds(wanted(&attributes, "DURATION")?)?,
                        is_independent: is("INDEPENDENT"),
                        is_gap: is("GAP"),
                    });
                }
                "EXTINF" => {
                    let (duration, _title) = value
                        .split_once(',')
                        .ok_or("4.4.4.1: EXTINF without a comma")?;
                    extinf = Some(seconds(duration)?);
                }
                "EXT-X-PRELOAD-HINT" => {
                    let attributes = attributes()?;
                    if wanted(&attributes, "TYPE")? != "PART" {
                        return Err("4.4.5.3: not a part".to_owned());
                    }
                    playlist.hint = Some(wanted(&attributes, "URI")?.to_owned());
                }
                "EXT-X-RENDITION-REPORT" => {
                    let attributes = attributes()?;
                    playlist.reports.push(Report {
                        uri: wanted(&attributes, "URI")?.to_owned(),
                        msn: whole(wanted(&attributes, "LAST-MSN")?)?,
                        part: attributes
                            .get("LAST-PART")
                            .map(|part| whole(part))
                            .transpose()?,
                    });
                }
                "EXT-X-ENDLIST" => playlist.is_ended = true,
                "EXT-X-INDEPENDENT-SEGMENTS" | "EXT-X-PLAYLIST-TYPE" | "EXT-X-START" => {}
                _ => return Err(format!("4.4: the tag {name} is not known")),
            }
        }
        for once in ["EXT-X-VERSION", "EXT-X-TARGETDURATION"] {
            if seen.get(once) != Some(&1) {
                return Err(format!("4.4: not one {once}"));
            }
        }
        for (name, count) in seen {
            let many = [
                "EXTINF",
                "EXT-X-PART",
                "EXT-X-MAP",
                "EXT-X-PROGRAM-DATE-TIME",
                "EXT-X-DISCONTINUITY",
                "EXT-X-GAP",
                "EXT-X-RENDITION-REPORT",
                "EXT-X-PRELOAD-HINT",
            ];
            if count > 1 && !many.contains(&name.as_str()) {
                return Err(format!("4.1: {name} {count} times"));
            }
        }
        if extinf.is_some() {
            return Err("4.4.4.1: EXTINF without a segment".to_owned());
        }
        if !segment.parts.is_empty() {
            playlist.segments.push(segment);
        } else if segment.is_discontinuity || segment.date.is_some() || segment.is_gap {
            return Err("4.4.4: tags of a segment that is not there".to_owned());
        }
        Ok(playlist)
    }

    /// Segments with their numbers.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> {
        let first = self.sequence + self.skipped;
        self.segments
            .iter()
            .enumerate()
            .map(move |(index, segment)| (first + index as u64, segment))
    }

    /// Number and part of what a blocking reload asks for next.
    pub fn next(&self) -> (u64, u64) {
        match self.numbered().next_back() {
            Some((
                number,
                Segment {
                    uri: None, parts, ..
                },
            )) => (number, parts.len() as u64),
            Some((number, Segment { uri: Some(_), .. })) => (number + 1, 0),
            None => (self.sequence, 0),
        }
    }

    /// What all segments last together.
    pub fn length(&self) -> Micros {
        self.segments.iter().map(Segment::length).sum()
    }
}

/// Judges the playlists of one rendition, one after the other.
#[derive(Debug, Default)]
pub struct Checker {
    last: Option<Playlist>,
    /// Every segment that was ever whole, by its number.
    known: BTreeMap<u64, Segment>,
    /// Every part that was ever listed, by the number of its segment.
    parts: BTreeMap<u64, Vec<Part>>,
    /// Whose resource it is.
    uris: BTreeMap<String, (u64, Option<usize>)>,
    /// How many playlists were judged.
    pub count: usize,
    /// Parts that came and had been hinted at, and that had not.
    pub hints: (usize, usize),
    /// What was wrong.
    pub complaints: Vec<String>,
}

/// Rounding of a duration to whole microseconds.
const ROUNDING: Micros = 2;

impl Checker {
    /// Judges the next playlist, which is not a delta update. `None` if it could not be read.
    pub fn check(&mut self, text: &str) -> Option<Playlist> {
        self.count += 1;
        let playlist = match Playlist::parse(text) {
            Ok(playlist) => playlist,
            Err(error) => {
                self.complain(format!("{error}\n{text}"));
                return None;
            }
        };
        let before = self.complaints.len();
        self.check_header(&playlist, text);
        self.check_durations(&playlist);
        self.check_dates(&playlist);
        self.check_second_parser(&playlist, text);
        if let Some(last) = self.last.take() {
            self.check_since(&last, &playlist);
        }
        self.check_known(&playlist);
        if self.complaints.len() > before {
            self.complain(format!("  in\n{text}"));
        }
        self.last = Some(playlist.clone());
        Some(playlist)
    }

    /// Judges a delta update by the whole playlist of the same moment.
    pub fn check_delta(&mut self, whole: &Playlist, text: &str) {
        let delta = match Playlist::parse(text) {
            Ok(delta) => delta,
            Err(error) => return self.complain(format!("{error}\n{text}")),
        };
        let skipped = delta.skipped as usize;
        if skipped > whole.segments.len() {
            return self.complain(format!("4.4.5.2: skips {skipped} segments\n{text}"));
        }
        if skipped > 0 && delta.version < 9 {
            self.complain("7: EXT-X-SKIP needs version 9".to_owned());
        }
        let mut expected = whole.clone();
        let (left_out, listed) = expected.segments.split_at(skipped);
        let before = left_out.last().and_then(|segment| segment.map.clone());
        // Until the first EXT-X-MAP, the one of the last segment left out is in force.
        let mut delta_segments = delta.segments.clone();
        for segment in &mut delta_segments {
            segment.map = segment.map.take().or_else(|| before.clone());
        }
        if delta_segments != listed {
            self.complain(format!(
                "4.4.5.2: the delta update lists other segments\n{text}"
            ));
        }
        let after: Micros = listed.iter().map(Segment::length).sum();
        let boundary = whole.can_skip_until.unwrap_or(Micros::MAX);
        if skipped > 0 && after <= boundary {
            self.complain(format!(
                "4.4.3.8: skips what is {after} µs from the end of a boundary of {boundary}"
            ));
        }
        expected.skipped = delta.skipped;
        expected.segments = delta.segments.clone();
        expected.version = delta.version;
        // Other renditions do not wait for both to be written.
        expected.reports.clone_from(&delta.reports);
        if delta != expected {
            self.complain(format!("4.4.5.2: the delta update differs\n{text}"));
        }
    }

    /// The newest playlist.
    pub fn last(&self) -> Option<&Playlist> {
        self.last.as_ref()
    }

    /// Fails with everything that was wrong.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(
            self.complaints.is_empty(),
            "{} complaints about {} playlists:\n{}",
            self.complaints.len(),
            self.count,
            self.complaints[..self.complaints.len().min(12)].join("\n")
        );
    }

    fn complain(&mut self, text: String) {
        self.complaints.push(text);
    }

    fn check_header(&mut self, playlist: &Playlist, text: &str) {
        let needed = [
            (text.contains("#EXT-X-SKIP"), 9),
            (text.contains("#EXT-X-MAP"), 6),
            (text.contains('.'), 3),
        ]
        .into_iter()
        .find_map(|(uses, version)| uses.then_some(version));
        if needed.is_some_and(|needed| playlist.version < needed) {
            self.complain(format!("7: version {} is too low", playlist.version));
        }
        if playlist.skipped > 0 {
            self.complain("4.4.5.2: a delta update nobody asked for".to_owned());
        }
        if playlist.target == 0 {
            self.complain("4.4.3.1: no target duration".to_owned());
        }
        let has_parts = playlist
            .segments
            .iter()
            .any(|segment| !segment.parts.is_empty());
        match playlist.part_target {
            None if has_parts || playlist.hint.is_some() => {
                self.complain("4.4.3.7: parts without EXT-X-PART-INF".to_owned());
            }
            Some(part_target) => match playlist.part_hold_back {
                None => self.complain("4.4.3.8: parts without PART-HOLD-BACK".to_owned()),
                Some(hold_back) if hold_back < 3 * part_target - ROUNDING => {
                    self.complain(format!("4.4.3.8: PART-HOLD-BACK of {hold_back} µs"));
                }
                Some(_) => {}
            },
            None => {}
        }
        if playlist
            .hold_back
            .is_some_and(|hold_back| hold_back < 3 * playlist.target)
        {
            self.complain("4.4.3.8: HOLD-BACK below three target durations".to_owned());
        }
        if playlist
            .can_skip_until
            .is_some_and(|until| until < 6 * playlist.target)
        {
            self.complain("4.4.3.8: CAN-SKIP-UNTIL below six target durations".to_owned());
        }
        if playlist.is_ended && playlist.hint.is_some() {
            self.complain("4.4.3.4: a hint at something behind the end".to_owned());
        }
        let has_map = |segment: &Segment| segment.map.is_some();
        if playlist.segments.iter().any(has_map) && !playlist.segments.iter().all(has_map) {
            self.complain("4.4.4.5: the first segment has no EXT-X-MAP".to_owned());
        }
        let (open, whole): (Vec<_>, Vec<_>) = playlist
            .segments
            .iter()
            .enumerate()
            .partition(|(_, segment)| segment.uri.is_none());
        if open.iter().any(|(index, _)| *index != whole.len()) {
            self.complain("4.4.4: an open segment that is not the last".to_owned());
        }
    }

    fn check_durations(&mut self, playlist: &Playlist) {
        let mut after: Micros = 0;
        for (number, segment) in playlist.numbered().rev() {
            let seconds = (segment.duration + 500_000) / 1_000_000;
            if seconds * 1_000_000 > playlist.target {
                self.complain(format!(
                    "4.4.3.1: segment {number} of {} µs is longer than the target",
                    segment.duration
                ));
            }
            if segment.uri.is_some() && segment.duration <= 0 {
                self.complain(format!("4.4.4.1: segment {number} lasts nothing"));
            }
            let part_target = playlist.part_target.unwrap_or(0);
            let last = segment.parts.len().saturating_sub(1);
            for (index, part) in segment.parts.iter().enumerate() {
                let duration = part.duration;
                if duration > part_target + ROUNDING || duration <= 0 {
                    self.complain(format!(
                        "4.4.4.9: part {number}.{index} of {duration} µs, target {part_target}"
                    ));
                }
                if duration * 100 < part_target * 85 && index < last && !part.is_gap {
                    self.complain(format!(
                        "4.4.3.7: part {number}.{index} of {duration} µs is below 85 % of {part_target}"
                    ));
                }
                if part.is_gap && segment.uri.is_some() && !segment.is_gap {
                    self.complain(format!("4.4.4.7: {number} has a gap and is none"));
                }
            }
            if segment.uri.is_some() && !segment.parts.is_empty() {
                let sum: Micros = segment.parts.iter().map(|part| part.duration).sum();
                let off = (sum - segment.duration).abs();
                if off > 1000 {
                    self.complain(format!(
                        "4.4.4.9: the parts of {number} last {sum} µs, the segment {}",
                        segment.duration
                    ));
                }
                // Two target durations more: parts leave with their whole segment, and the one that
                // is being made may not count.
                if after > 5 * playlist.target {
                    self.complain(format!(
                        "6.2.2: parts of {number} are still listed, {after} µs from the end"
                    ));
                }
            }
            after += segment.length();
        }
    }

    /// A date and the one before differ by what lies between.
    fn check_dates(&mut self, playlist: &Playlist) {
        const OFF_MS_MAX: i64 = 20;
        let mut expected: Option<Micros> = None;
        for (number, segment) in playlist.numbered() {
            if segment.is_discontinuity {
                expected = None;
            }
            if let (Some(expected), Some(date)) = (expected, segment.date)
                && (date - expected / 1000).abs() > OFF_MS_MAX
            {
                self.complain(format!(
                    "4.4.4.6: {number} is dated {} ms from where the segments before it end",
                    date - expected / 1000
                ));
            }
            expected = segment
                .date
                .map(|date| date * 1000)
                .or(expected)
                .map(|start| start + segment.length());
        }
    }

    fn check_second_parser(&mut self, playlist: &Playlist, text: &str) {
        let second = match m3u8_rs::parse_media_playlist_res(text.as_bytes()) {
            Ok(second) => second,
            Err(error) => return self.complain(format!("m3u8-rs: {error:?}")),
        };
        let first: Vec<_> = playlist
            .segments
            .iter()
            .filter_map(|segment| Some((segment.uri.clone()?, segment.is_discontinuity)))
            .collect();
        let read: Vec<_> = second
            .segments
            .iter()
            .map(|segment| (segment.uri.clone(), segment.discontinuity))
            .collect();
        if first != read
            || second.media_sequence != playlist.sequence
            || second.discontinuity_sequence != playlist.discontinuity_sequence
            || second.target_duration as Micros * 1_000_000 != playlist.target
            || second.end_list != playlist.is_ended
        {
            self.complain(format!("m3u8-rs reads it otherwise: {second:?}"));
        }
        for (ours, theirs) in playlist.segments.iter().zip(&second.segments) {
            let millis = theirs.program_date_time.map(|date| date.timestamp_millis());
            if (f64::from(theirs.duration) - ours.duration as f64 / 1e6).abs() > 1e-3
                || millis != ours.date
            {
                self.complain(format!("m3u8-rs reads a segment otherwise: {theirs:?}"));
            }
        }
    }

    fn check_since(&mut self, last: &Playlist, playlist: &Playlist) {
        if last.is_ended && last != playlist {
            self.complain("4.4.3.4: changes behind its end".to_owned());
        }
        if playlist.target != last.target {
            self.complain("4.4.3.1: the target duration changes".to_owned());
        }
        if playlist.part_target != last.part_target {
            self.complain("4.4.3.7: the part target changes".to_owned());
        }
        if playlist.sequence < last.sequence {
            return self.complain(format!(
                "4.4.3.2: the media sequence falls from {} to {}",
                last.sequence, playlist.sequence
            ));
        }
        if playlist.next() < last.next() {
            self.complain(format!(
                "6.2.1: {:?} was the next part, {:?} is",
                last.next(),
                playlist.next()
            ));
        }
        let left = (playlist.sequence - last.sequence) as usize;
        if left > last.segments.len() {
            // Playlists in between were not seen, so what left with them is not known.
            if playlist.discontinuity_sequence < last.discontinuity_sequence {
                self.complain("4.4.3.3: the discontinuity sequence falls".to_owned());
            }
            return;
        }
        let tags = last.segments[..left]
            .iter()
            .filter(|segment| segment.is_discontinuity)
            .count() as u64;
        if playlist.discontinuity_sequence != last.discontinuity_sequence + tags {
            self.complain(format!(
                "4.4.3.3: {tags} discontinuities left and the sequence went from {} to {}",
                last.discontinuity_sequence, playlist.discontinuity_sequence
            ));
        }
        if left > 0 && !playlist.is_ended && playlist.length() < 3 * playlist.target {
            self.complain(format!(
                "6.2.2: {} µs are left, less than three target durations",
                playlist.length()
            ));
        }
        // A segment that is closed by the first frame of the next one brings no part.
        let parts = || playlist.segments.iter().flat_map(|segment| &segment.parts);
        let is_new = |uri: &String| !self.uris.contains_key(uri);
        if let Some(hint) = &last.hint
            && parts().any(|part| is_new(&part.uri))
        {
            if parts().any(|part| part.uri == *hint) {
                self.hints.0 += 1;
            } else {
                self.hints.1 += 1;
            }
        }
    }

    /// What was listed stays as it was, and no name is used twice.
    fn check_known(&mut self, playlist: &Playlist) {
        let mut complaints = Vec::new();
        for (number, segment) in playlist.numbered() {
            if segment.uri.is_some() {
                let mut plain = segment.clone();
                plain.parts.clear();
                let known = self.known.entry(number).or_insert_with(|| plain.clone());
                // A date may be left out where the segments before it tell it.
                let date = plain.date.or(known.date);
                if (Segment {
                    date,
                    ..plain.clone()
                }) != (Segment {
                    date,
                    ..known.clone()
                }) || (plain.date.is_some() && known.date.is_some() && plain.date != known.date)
                {
                    complaints.push(format!(
                        "6.2.1: segment {number} was {known:?} and is {plain:?}"
                    ));
                }
                known.date = date;
            }
            if !segment.parts.is_empty() {
                let known = self.parts.entry(number).or_default();
                let common = known.len().min(segment.parts.len());
                if known[..common] != segment.parts[..common] || common < known.len() {
                    complaints.push(format!(
                        "6.2.1: the parts of {number} were {known:?} and are {:?}",
                        segment.parts
                    ));
                }
                known.clone_from(&segment.parts);
            }
            let names = segment
                .parts
                .iter()
                .enumerate()
                .map(|(index, part)| (&part.uri, (number, Some(index))))
                .chain(segment.uri.iter().map(|uri| (uri, (number, None))));
            for (uri, place) in names {
                let known = *self.uris.entry(uri.clone()).or_insert(place);
                if known != place {
                    complaints.push(format!("6.2.1: {uri} was {known:?} and is {place:?}"));
                }
            }
        }
        if let Some(hint) = &playlist.hint
            && let Some(place) = self.uris.get(hint)
        {
            complaints.push(format!("4.4.5.3: the hint {hint} is {place:?} already"));
        }
        self.complaints.extend(complaints);
    }
}

/// An attribute list: names once each, quoted strings without quotes and line ends.
pub fn attributes(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("4.2: no attribute in {text:?}"))?;
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("4.2: {name:?} is not an attribute name"));
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            quoted
                .split_once('"')
                .ok_or_else(|| format!("4.2: a string without an end in {text:?}"))?
        } else {
            let end = after.find(',').unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            if value.is_empty() || value.contains([' ', '"']) {
                return Err(format!("4.2: {value:?} is not a value"));
            }
            (value, after)
        };
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("4.2: {name} twice"));
        }
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.is_empty() => return Ok(found),
            None => return Err(format!("4.2: no comma in {text:?}")),
        };
    }
}

fn wanted<'a>(attributes: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, String> {
    attributes
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| format!("4.4: no {name} in {attributes:?}"))
}

fn whole(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("4.2: {text:?} is not a number"));
    }
    text.parse()
        .map_err(|error| format!("4.2: {text}: {error}"))
}

fn seconds(text: &str) -> Result<Micros, String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 6 {
        return Err(format!("4.2: {text:?} has no or too many decimals"));
    }
    let scale = 10i64.pow(6 - fraction.len() as u32);
    Ok(whole(seconds)? as Micros * 1_000_000 + whole(fraction)? as Micros * scale)
}

/// `2026-11-20T21:43:40.123Z` in milliseconds since 1970, by counting days.
pub fn date(text: &str) -> Result<i64, String> {
    let bad = || format!("4.4.4.6: {text:?} is not a date in UTC with milliseconds");
    let separators: Vec<(usize, char)> = vec![
        (4, '-'),
        (7, '-'),
        (10, 'T'),
        (13, ':'),
        (16, ':'),
        (19, '.'),
        (23, 'Z'),
    ];
    let fits = separators
        .iter()
        .all(|(at, separator)| text[*at..].starts_with(*separator));
    if text.len() != 24 || !text.is_ascii() || !fits {
        return Err(bad());
    }
    let field = |from: usize, to: usize| text[from..to].parse::<i64>().map_err(|_| bad());
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days: i64 = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum::<i64>()
        + months[..month as usize - 1].iter().sum::<i64>()
        + day
        - 1;
    let seconds = ((days * 24 + field(11, 13)?) * 60 + field(14, 16)?) * 60 + field(17, 19)?;
    Ok(seconds * 1000 + field(20, 23)?)
}

/// A multivariant playlist as it was read.
#[derive(Clone, Debug, Default)]
pub struct Master {
    /// Attributes and URI.
    pub variants: Vec<(BTreeMap<String, String>, String)>,
    pub renditions: Vec<BTreeMap<String, String>>,
}

impl Master {
    /// Reads a multivariant playlist and judges it by itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some("#EXTM3U") {
            return Err("4.4.1.1: the first line is not #EXTM3U".to_owned());
        }
        let mut master = Self::default();
        let mut variant = None;
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name {
                "#EXT-X-STREAM-INF" => variant = Some(attributes(value)?),
                "#EXT-X-MEDIA" => master.renditions.push(attributes(value)?),
                "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS" => {}
                _ if name.starts_with('#') => return Err(format!("4.4: {name} is not known")),
                _ => {
                    let attributes = variant.take().ok_or("4.4.6.2: a URI without its tag")?;
                    master.variants.push((attributes, line.to_owned()));
                }
            }
        }
        for (variant, uri) in &master.variants {
            whole(wanted(variant, "BANDWIDTH")?)?;
            wanted(variant, "CODECS").map_err(|_| format!("4.4.6.2: no CODECS for {uri}"))?;
            if let Some(group) = variant.get("AUDIO")
                && !master
                    .renditions
                    .iter()
                    .any(|rendition| rendition.get("GROUP-ID") == Some(group))
            {
                return Err(format!("4.4.6.2.1: the group {group} is not there"));
            }
        }
        for rendition in &master.renditions {
            for name in ["TYPE", "GROUP-ID", "NAME"] {
                wanted(rendition, name)?;
            }
            if rendition.get("DEFAULT").is_some_and(|value| value == "YES")
                && rendition
                    .get("AUTOSELECT")
                    .is_some_and(|value| value != "YES")
            {
                return Err("4.4.6.1: DEFAULT without AUTOSELECT".to_owned());
            }
        }
        m3u8_rs::parse_master_playlist_res(text.as_bytes())
            .map_err(|error| format!("m3u8-rs: {error:?}"))?;
        Ok(master)
    }
}
