//! Commands that change `config.protocols`. Ports are opened and closed when the server is started
//! again; until then a changed protocol is reported as not online.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::document::{list, object};
use super::{Api, Work, each};
use crate::config::{Protocols, Standing};

/// `addprotocol`: adds one, or a list of them.
pub(super) fn add(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for protocol in each(argument) {
        work.change("addprotocol", |document| {
            let protocol = checked(protocol)?;
            let protocols = list(object(document, "config"), "protocols");
            if !protocols.contains(&protocol) {
                protocols.push(protocol);
            }
            Ok(())
        });
    }
    note_restart(work);
}

/// `updateprotocol`: `[old, new]`.
pub(super) fn update(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let [old, new] = argument.as_array().map_or(&[][..], Vec::as_slice) else {
        work.fail("updateprotocol", "expected [OLD, NEW]");
        return;
    };
    work.change("updateprotocol", |document| {
        let (old, new) = (checked(old)?, checked(new)?);
        let protocols = list(object(document, "config"), "protocols");
        let found = protocols.iter_mut().find(|protocol| **protocol == old);
        *found.ok_or("no such protocol")? = new;
        Ok(())
    });
    note_restart(work);
}

/// `deleteprotocol`: removes the one that is exactly so, or each of a list.
pub(super) fn delete(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for protocol in each(argument) {
        work.change("deleteprotocol", |document| {
            let protocol = checked(protocol)?;
            let protocols = list(object(document, "config"), "protocols");
            let found = protocols.iter().position(|other| *other == protocol);
            protocols.remove(found.ok_or("no such protocol")?);
            Ok(())
        });
    }
    note_restart(work);
}

/// A protocol without the state that a reply showed.
fn checked(protocol: &Value) -> Result<Value, String> {
    let mut protocol = protocol
        .as_object()
        .ok_or("expected {\"connector\": ...}")?
        .clone();
    protocol.shift_remove("online");
    match protocol.get("connector") {
        Some(Value::String(name)) if !name.is_empty() => Ok(Value::Object(protocol)),
        _ => Err("expected {\"connector\": ...}".to_owned()),
    }
}

fn note_restart(work: &mut Work<'_>) {
    let wanted = match work.edit.loaded() {
        Some(config) => &config.protocols,
        None => return,
    };
    if addresses(wanted) != addresses(work.world.listening) {
        work.put(
            "notice",
            "ports are opened and closed when the server is started again",
        );
    }
}

fn addresses(protocols: &Protocols) -> Vec<SocketAddr> {
    let http = protocols.http.iter().map(|http| http.listen);
    let https = protocols.https.iter().map(|https| https.listen);
    let rtmp = protocols.rtmp.iter().map(|rtmp| rtmp.listen);
    http.chain(https).chain(rtmp).collect()
}

/// Says of each protocol in a reply whether it is online.
pub(super) fn report(config: &mut Map<String, Value>, listening: &Protocols) {
    let Some(Value::Array(protocols)) = config.get_mut("protocols") else {
        return;
    };
    for protocol in protocols {
        let Value::Object(members) = protocol else {
            continue;
        };
        let connector = members
            .get("connector")
            .and_then(Value::as_str)
            .unwrap_or("");
        let online = match Standing::of(connector) {
            Standing::Port => u8::from(listens(members, listening)).into(),
            Standing::OverHttp => "Enabled".into(),
            Standing::NotServed => "Not installed".into(),
            Standing::Unknown => "Invalid configuration".into(),
        };
        members.insert("online".to_owned(), online);
    }
}

/// Whether a protocol with a port of its own listens as its members say.
fn listens(members: &Map<String, Value>, listening: &Protocols) -> bool {
    let open = addresses(listening);
    Protocols::of_one(&Value::Object(members.clone())).is_ok_and(|wanted| {
        let wanted = addresses(&wanted);
        wanted.iter().all(|address| open.contains(address))
    })
}
