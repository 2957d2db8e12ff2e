//! Commands for what this version does not have. What the document holds is shown; what would need
//! the missing part is refused with a reason.

use serde_json::{Value, json};

use super::document::object;
use super::{Api, Work, names, or_null};

const PUSHES: &str = "pushes are not built yet; nothing was changed";

/// `push_start`, `push_auto_add`.
pub(super) fn push(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    work.refuse(PUSHES);
    push_auto_list(api, work, argument);
    if work.section("auto_push").is_null() {
        work.reply.members.shift_remove("auto_push");
        work.reply.members.shift_remove("push_auto_list");
    }
}

/// `push_auto_remove`: forgets rules of the document, which have no effect.
pub(super) fn push_auto_remove(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for id in names(argument) {
        work.change("push_auto_remove", |document| {
            object(document, "auto_push").shift_remove(&id);
            Ok(())
        });
    }
    push_auto_list(api, work, argument);
}

/// `push_auto_list`: the rules of the document.
pub(super) fn push_auto_list(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let rules = work.members("auto_push");
    let list: Vec<Value> = rules
        .values()
        .map(|rule| {
            let mut fields = vec![rule["stream"].clone(), rule["target"].clone()];
            let times = ["scheduletime", "completetime"];
            fields.extend(times.map(|time| rule[time].clone()));
            while fields.last().is_some_and(Value::is_null) {
                fields.pop();
            }
            Value::Array(fields)
        })
        .collect();
    work.put("push_auto_list", or_null(list.into()));
    work.put("auto_push", rules);
}

/// `push_settings`: those of the document, or MistServer's defaults.
pub(super) fn push_settings(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if argument.is_object() {
        work.refuse(PUSHES);
    }
    let mut settings = json!({"maxspeed": 0, "wait": 3});
    if let (Value::Object(own), Some(settings)) =
        (work.section("push_settings"), settings.as_object_mut())
    {
        settings.extend(own);
    }
    work.put("push_settings", settings);
}

/// `push_list`, `proc_list`, `enumerate_sources`: there are none.
pub(super) fn nothing_of_it(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.put(work.command, Value::Null);
}

/// `variable_add`, `variable_remove`.
pub(super) fn variable(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    work.refuse("stream variables are not built yet; nothing was changed");
    variable_list(api, work, argument);
}

/// `variable_list`: those of the document, which are not put in anywhere.
pub(super) fn variable_list(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let variables = work.members("variables");
    work.put("variable_list", variables);
}

/// `external_writer_add`, `external_writer_remove`.
pub(super) fn external_writer(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    work.refuse("external writers are not built yet; nothing was changed");
    external_writer_list(api, work, argument);
}

/// `external_writer_list`: those of the document.
pub(super) fn external_writer_list(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let writers = work.section("extwriters");
    work.put("external_writer_list", or_null(writers));
}

/// `addjwks`, `deletejwks`.
pub(super) fn jwks_change(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    work.refuse("tokens are not checked yet; nothing was changed");
    jwks(api, work, argument);
}

/// `jwks`: the keys of the document, which are not used.
pub(super) fn jwks(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let keys = work.section("jwks");
    work.put("jwks", or_null(keys));
}

/// `deletestreamsource`: files are not deleted over the API.
pub(super) fn delete_source(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.refuse("files are not deleted over the API; use deletestream");
}

/// `playlist`.
pub(super) fn playlist(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.refuse("playlist sources are not built yet");
}

/// `tag_sessid`, `stop_tag`.
pub(super) fn session_tags(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.refuse("sessions have no tags in this version");
}

/// `autoupdate`.
pub(super) fn update(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.refuse("the server does not update itself");
}
