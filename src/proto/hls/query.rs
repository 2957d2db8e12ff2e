//! Delivery directives: what a player asks of a playlist in the query of its URL.

use super::Error;

/// RFC 8216bis section 6.2.5.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockingReload {
    /// Answer when the playlist holds this media sequence number, or a part of a later segment.
    pub msn: Option<u64>,
    /// With `msn`: answer when it holds this part of that segment, counted from 0.
    pub part: Option<u32>,
    /// A delta update will do.
    pub skip: Option<Skip>,
}

/// Which delta update a player can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// `YES`: older segments may be left out.
    Segments,
    /// `v2`: older date ranges too.
    SegmentsAndDateRanges,
}

impl BlockingReload {
    /// Reads the raw query of a request, without its question mark. Other parameters are passed
    /// over, and so is a kind of skipping that is not known, since the whole playlist is always an
    /// answer to it. Of a parameter that occurs twice the last one counts.
    pub fn parse(query: &str) -> Result<Self, Error> {
        let mut reload = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => reload.msn = Some(number(value)?),
                "_HLS_part" => {
                    let part = number(value)?;
                    reload.part = Some(u32::try_from(part).map_err(|_| Error::TooLarge)?);
                }
                "_HLS_skip" => {
                    reload.skip = match value {
                        "YES" => Some(Skip::Segments),
                        "v2" => Some(Skip::SegmentsAndDateRanges),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        if reload.part.is_some() && reload.msn.is_none() {
            return Err(Error::PartWithoutMsn);
        }
        Ok(reload)
    }
}

/// A decimal-integer (RFC 8216bis section 4.2): digits alone, where `str::parse` takes a sign too.
fn number(text: &str) -> Result<u64, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Number);
    }
    text.parse().map_err(|_| Error::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = (Option<u64>, Option<u32>, Option<Skip>);

    fn parse(query: &str) -> Result<Fields, Error> {
        BlockingReload::parse(query).map(|reload| (reload.msn, reload.part, reload.skip))
    }

    #[test]
    fn directives_among_other_parameters() {
        assert_eq!(parse(""), Ok((None, None, None)));
        assert_eq!(parse("tkn=7&_HLS"), Ok((None, None, None)));
        assert_eq!(parse("_HLS_msn=0"), Ok((Some(0), None, None)));
        assert_eq!(
            parse("tkn=7&_HLS_msn=1789000123&_HLS_part=4&_HLS_skip=YES"),
            Ok((Some(1_789_000_123), Some(4), Some(Skip::Segments)))
        );
        assert_eq!(
            parse("_HLS_skip=v2&_HLS_part=007&_HLS_msn=1"),
            Ok((Some(1), Some(7), Some(Skip::SegmentsAndDateRanges)))
        );
        assert_eq!(parse("_HLS_skip=v3"), Ok((None, None, None)));
        assert_eq!(
            parse("_HLS_msn=1&_HLS_msn=2"),
            Ok((Some(2), None, None)),
            "the last one counts"
        );
    }

    #[test]
    fn malformed_directives_are_named() {
        for query in [
            "_HLS_msn=",
            "_HLS_msn",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1.5",
            "_HLS_msn=%31",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_msn= 1",
        ] {
            assert_eq!(parse(query), Err(Error::Number), "{query}");
        }
        assert_eq!(parse("_HLS_part=0"), Err(Error::PartWithoutMsn));
        for query in [
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=99999999999999999999999999",
            "_HLS_msn=1&_HLS_part=4294967296",
        ] {
            assert_eq!(parse(query), Err(Error::TooLarge), "{query}");
        }
    }
}
