//! Which viewer a request for a playlist or a segment is of.

use super::Exchange;
use crate::streams::name::StreamName;
use crate::streams::segment_request::{File, SegmentRequest};
use crate::streams::viewing::{Visitor, derived_token};

/// What is done with session tokens, by MistServer's bits of `tknMode`.
mod token {
    pub(super) const READ_QUERY: u8 = 1;
    pub(super) const READ_COOKIE: u8 = 2;
    pub(super) const WRITE_QUERY: u8 = 4;
    pub(super) const WRITE_COOKIE: u8 = 8;
}

impl Exchange {
    /// Finds or begins the session that a request is of.
    pub(super) fn note_session(&mut self, name: &StreamName, request: &mut SegmentRequest) {
        let modes = self.config.general.sessions;
        let may = |bit| modes.token & bit != 0;
        let in_query = request
            .token_in_query
            .take()
            .filter(|_| may(token::READ_QUERY));
        let in_cookie = request
            .token_in_cookie
            .take()
            .filter(|_| may(token::READ_COOKIE));
        let has_cookie = in_cookie.is_some();
        let given = in_query.or(in_cookie);
        if request.file == File::Master {
            let token = given.unwrap_or_else(|| (self.random.next_u64() as u32).to_string());
            if may(token::WRITE_COOKIE) && !has_cookie {
                request.told_cookie = Some(token.clone());
            }
            if may(token::WRITE_QUERY) {
                request.told_token = Some(token);
            }
            return;
        }
        let token = given.unwrap_or_else(|| derived_token(request.address, &request.agent));
        let visitor = Visitor {
            stream: name,
            address: request.address,
            token: &token,
            form: request.form,
        };
        request.session = visitor.session(modes.viewer);
        if matches!(request.file, File::Playlist(_) | File::Description) {
            self.sessions
                .note(self.now, self.unix_ms, request.session, &visitor);
        }
    }
}
