//! The command that changes passwords of collaborative sessions. What else is asked of them is at
//! `/collab`.

use serde_json::Value;

use super::document::object;
use super::{Api, Work, each};

/// The port of a session that names none.
const PORT: u64 = 5555;

/// `collab_password`: `{"port": N, "admin": TEXT, "server": TEXT}`, or a list of them. A password that
/// is not named stays; who is there stays too.
pub(super) fn password(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for change in each(argument) {
        let passwords = [("admin", "admin_password"), ("server", "server_password")];
        let named: Vec<(&str, &Value)> = passwords
            .iter()
            .filter_map(|(name, member)| Some((*member, change.get(*name)?)))
            .collect();
        let (Some(port), false) = (change["port"].as_u64(), named.is_empty()) else {
            work.fail(
                "collab_password",
                "expected {\"port\": N, \"admin\": TEXT, \"server\": TEXT}",
            );
            continue;
        };
        work.change("collab_password", |document| {
            let sessions = object(document, "collab").get_mut("sessions");
            let sessions = sessions.and_then(Value::as_array_mut);
            let is_meant = |session: &&mut Value| {
                let own = &session["port"];
                own.as_u64().unwrap_or(PORT) == port && (own.is_null() || own.is_u64())
            };
            let session = sessions
                .and_then(|sessions| sessions.iter_mut().find(is_meant))
                .ok_or_else(|| format!("no session of port {port}"))?;
            for (member, password) in named {
                if !password.is_string() {
                    return Err(format!("{member}: expected a text"));
                }
                session[member] = password.clone();
            }
            Ok(())
        });
    }
}
