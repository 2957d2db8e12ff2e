//! A call as it comes over HTTP, and its reply as it goes back.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::proto::http::{Method, Request, Response, parameter};

/// Values inside each other that a call may have. The deepest that MistServer's pages send is 6.
const DEPTH_MAX: usize = 64;

/// Commands of one call. MistServer has about 80.
const COMMANDS_MAX: usize = 128;

/// The longest name of a JSONP function.
const CALLBACK_BYTES_MAX: usize = 64;

/// Pages of any site may call, if they can log in. Not MistServer's
/// `Access-Control-Allow-Credentials`: there are no cookies here.
const CORS: [(&str, &str); 5] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS, HEAD"),
    ("Access-Control-Allow-Headers", "*, Authorization"),
    ("Access-Control-Expose-Headers", "*, WWW-Authenticate"),
    ("Access-Control-Max-Age", "600"),
];

/// A call of the API.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// `/api2`: the reply has only what was asked for.
    pub is_minimal: bool,
    /// The commands, in the order of the caller.
    pub commands: Map<String, Value>,
    /// Where the reply is to be wrapped in a call of this function.
    pub callback: Option<String>,
}

/// A reply before it is written.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its members.
    pub members: Map<String, Value>,
    /// `WWW-Authenticate`, if it has one.
    pub authenticate: Option<String>,
    /// `Retry-After` in seconds, if it has one.
    pub retry_after: Option<u64>,
}

impl Call {
    /// Reads a call. `Ok(None)` when the request is not one.
    pub fn read(request: &Request) -> Result<Option<Self>, Response> {
        let is_minimal = match request.path.as_str() {
            "/api2" | "/api2/" => true,
            "/api" | "/api/" => false,
            "/" if request.parameter("command").is_some() => false,
            _ => return Ok(None),
        };
        match request.method {
            Method::Get | Method::Head | Method::Post => {}
            Method::Options => return Err(with_cors(Response::new(204))),
            Method::Put | Method::Patch | Method::Delete => {
                let response = Response::text(405, "The API takes GET and POST.")
                    .with_header("Allow", "GET, HEAD, POST, OPTIONS");
                return Err(with_cors(response));
            }
        }
        let body = str::from_utf8(&request.body)
            .map_err(|error| malformed(&format!("byte {}: not UTF-8", error.valid_up_to())))?;
        let content_type = request.header("content-type").unwrap_or("");
        let is_json = content_type
            .get(.."application/json".len())
            .is_some_and(|start| start.eq_ignore_ascii_case("application/json"));
        // curl calls every body a form unless it is told otherwise.
        let is_json = is_json || body.trim_start().starts_with('{');
        let form = if is_json { "" } else { body };
        let of_form = |name: &str| parameter(form, name).or_else(|| request.parameter(name));
        let text = match is_json {
            true => Cow::Borrowed(body),
            false => of_form("command").unwrap_or_default(),
        };
        let callback = of_form("callback")
            .or_else(|| of_form("jsonp"))
            .filter(|name| !name.is_empty())
            .map(|name| {
                if is_callback(&name) {
                    Ok(name.into_owned())
                } else {
                    Err(malformed("callback is not the name of a function"))
                }
            })
            .transpose()?;
        Ok(Some(Self {
            is_minimal,
            commands: parse_commands(&text)?,
            callback,
        }))
    }
}

/// Letters, digits, `_`, `$` and dots: what is called may be named, and nothing else written.
fn is_callback(name: &str) -> bool {
    name.len() <= CALLBACK_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$'))
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
}

fn parse_commands(text: &str) -> Result<Map<String, Value>, Response> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    if let Some(at) = too_deep(text) {
        return Err(malformed(&format!(
            "byte {at}: more than {DEPTH_MAX} values inside each other"
        )));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(commands)) if commands.len() <= COMMANDS_MAX => Ok(commands),
        Ok(Value::Object(_)) => Err(malformed(&format!("more than {COMMANDS_MAX} commands"))),
        Ok(_) => Err(malformed("expected an object: {\"COMMAND\": ...}")),
        // serde_json names the line and column.
        Err(error) => Err(malformed(&error.to_string())),
    }
}

/// Where a text goes deeper than it may.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Nothing of a call that cannot be read is carried out.
fn malformed(reason: &str) -> Response {
    with_cors(Response::text(
        400,
        format!("The call cannot be read: {reason}. Nothing was changed."),
    ))
}

impl Reply {
    /// A reply with status 200.
    pub fn new(members: Map<String, Value>) -> Self {
        Self {
            status: 200,
            members,
            authenticate: None,
            retry_after: None,
        }
    }

    /// Adds to `errors`, the list of what could not be done. Not a member of MistServer's replies,
    /// which leave out what failed.
    pub fn note_error(&mut self, text: String) {
        let errors = self
            .members
            .entry("errors")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(errors) = errors {
            errors.push(text.into());
        }
    }

    /// Writes it as MistServer does: members in order, two line breaks at the end.
    pub fn into_response(self, callback: Option<&str>) -> Response {
        let mut value = Value::Object(self.members);
        value.sort_all_objects();
        let text = match callback {
            // A line break of JavaScript may stand in JSON, and ended a text before ES2019.
            Some(name) => {
                let json = value.to_string();
                let json = json.replace('\u{2028}', "\\u2028");
                format!("{name}({});\n\n", json.replace('\u{2029}', "\\u2029"))
            }
            None => format!("{value}\n\n"),
        };
        let mut response = with_cors(
            Response::new(self.status)
                .with_body("text/javascript", text)
                .with_header("Cache-Control", "no-cache, no-store, must-revalidate")
                .with_header("Expires", "0")
                .with_header("Pragma", "no-cache")
                .with_header("X-Content-Type-Options", "nosniff"),
        );
        if let Some(authenticate) = self.authenticate {
            response = response.with_header("WWW-Authenticate", authenticate);
        }
        if let Some(seconds) = self.retry_after {
            response = response.with_header("Retry-After", seconds.to_string());
        }
        response
    }
}

fn with_cors(mut response: Response) -> Response {
    response
        .headers
        .extend(CORS.map(|(name, value)| (name, Cow::Borrowed(value))));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::streams::api::tests::request;

    use super::*;

    fn get(target: &str) -> Result<Option<Call>, Response> {
        Call::read(&request(&format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"
        )))
    }

    fn post(content_type: &str, body: &str) -> Result<Option<Call>, Response> {
        let length = body.len();
        Call::read(&request(&format!(
            "POST /api2?callback=cb HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )))
    }

    #[test]
    fn a_call_comes_in_every_form_of_mistserver() {
        let call = get("/api?command=%7B%22log%22%3Atrue%7D").unwrap().unwrap();
        assert_eq!(Value::Object(call.commands), json!({"log": true}));
        assert!(!call.is_minimal);
        for (content_type, body) in [
            ("application/json; charset=utf-8", r#"{"log":true}"#),
            (
                "application/x-www-form-urlencoded",
                "command=%7B%22log%22%3Atrue%7D",
            ),
            ("application/x-www-form-urlencoded", r#"{"log":true}"#),
        ] {
            let call = post(content_type, body).unwrap().unwrap();
            assert_eq!(Value::Object(call.commands), json!({"log": true}));
            assert!(call.is_minimal);
            assert_eq!(call.callback.as_deref(), Some("cb"));
        }
        assert!(get("/api").unwrap().unwrap().commands.is_empty());
        assert!(get("/?command=%7B%7D").unwrap().is_some());
        assert!(get("/").unwrap().is_none());
        assert!(get("/metrics?command=%7B%7D").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let text = |response: Response| String::from_utf8_lossy(&response.body).into_owned();
        let refused = post("application/json", "{\"a\":\n 1,}").unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(text(refused).contains("line 2 column 4"));
        let deep = format!("{{\"a\":{}", "[".repeat(64));
        assert!(text(post("application/json", &deep).unwrap_err()).contains("byte 68"));
        let quoted = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(64));
        assert!(post("application/json", &quoted).is_ok());
        assert!(post("application/json", "[1]").is_err());
        let many: Map<_, _> = (0..129).map(|n| (n.to_string(), Value::Null)).collect();
        assert!(post("application/json", &Value::Object(many).to_string()).is_err());
    }

    #[test]
    fn a_callback_is_a_name_only() {
        for bad in ["alert(1)", "a%3Cb", "1a", "a%0Ab"] {
            assert_eq!(get(&format!("/api?jsonp={bad}")).unwrap_err().status, 400);
        }
        let reply = Reply::new(Map::from_iter([("a".to_owned(), "\u{2028}".into())]));
        let response = reply.into_response(Some("x.y"));
        assert_eq!(response.body, "x.y({\"a\":\"\\u2028\"});\n\n");
    }

    #[test]
    fn members_are_in_order() {
        let members = json!({"b": {"z": 1, "LTS": 2}, "LTS": 1});
        let reply = Reply::new(members.as_object().unwrap().clone());
        let body = reply.into_response(None).body;
        assert_eq!(body, "{\"LTS\":1,\"b\":{\"LTS\":2,\"z\":1}}\n\n");
    }
}
