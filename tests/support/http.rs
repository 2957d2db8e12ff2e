//! A small HTTP/1.1 client that sees the bytes: what a browser would hide is what is tested.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::is_nothing;

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    // A stream that is not live is waited for before the answer is given: 5.5 s.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection of its own; the whole answer.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, &[])
}

/// The status of an answer whose body may not end.
pub fn status(port: u16, path: &str) -> io::Result<u16> {
    let mut connection = Connection::new(connect(port)?);
    connection.send("GET", path, &[])?;
    Ok(connection.head()?.status)
}

pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let mut connection = Connection::new(connect(port)?);
    connection.send(method, path, headers)?;
    connection.answer(method)
}

/// One request with a body.
pub fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut connection = Connection::new(connect(port)?);
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    all.push(("Content-Length", &length));
    connection.send(method, path, &all)?;
    connection.stream.write_all(body)?;
    connection.answer(method)
}

/// A connection that may carry several requests, or an answer that never ends.
pub struct Connection {
    pub stream: TcpStream,
    /// Bytes read past what was asked for.
    ahead: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        self.stream.write_all(text.as_bytes())
    }

    /// Status line and headers; the body is still to come.
    pub fn head(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                break at;
            }
            if self.ahead.len() > 64 * 1024 {
                return Err(io::Error::other("64 KiB of headers"));
            }
            self.more()?;
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| {
                line.strip_prefix("HTTP/1.1 ")
                    .or_else(|| line.strip_prefix("HTTP/1.0 "))
            })
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no status line in {head:?}")))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Answer {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// The whole answer to a request with this method.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Ok(answer);
                }
                answer.body.extend(chunk);
            }
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            while self.ahead.len() < length {
                self.more()?;
            }
            answer.body = self.ahead.drain(..length).collect();
            return Ok(answer);
        }
        while self.more().is_ok() {}
        answer.body = std::mem::take(&mut self.ahead);
        Ok(answer)
    }

    /// The next chunk of a chunked body; empty at its end.
    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line_end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                break at;
            }
            self.more()?;
        };
        let line: Vec<u8> = self.ahead.drain(..line_end + 2).collect();
        let digits = String::from_utf8_lossy(&line[..line_end]).into_owned();
        let size = usize::from_str_radix(digits.split(';').next().unwrap_or("").trim(), 16)
            .map_err(io::Error::other)?;
        while self.ahead.len() < size + 2 {
            self.more()?;
        }
        let chunk = self.ahead.drain(..size).collect();
        self.ahead.drain(..2);
        Ok(chunk)
    }

    /// Body bytes of an answer that does not end, chunked or not, for as long as `limit`.
    pub fn body_until(
        &mut self,
        head: &Answer,
        limit: Duration,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Vec<u8>> {
        let start = Instant::now();
        let chunked = head.header("transfer-encoding") == Some("chunked");
        let mut body = Vec::new();
        while !enough(&body) {
            if start.elapsed() > limit {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} bytes in {limit:?} are not enough", body.len()),
                ));
            }
            if chunked {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                body.extend(chunk);
            } else {
                if self.ahead.is_empty() {
                    self.more()?;
                }
                body.append(&mut self.ahead);
            }
        }
        Ok(body)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead.extend(&buffer[..count]);
        Ok(())
    }

    /// Whether the server has closed the connection: reads until it ends or `limit` is over.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        let _ = self
            .stream
            .set_read_timeout(Some(Duration::from_millis(200)));
        while start.elapsed() < limit {
            match self.more() {
                Ok(()) => self.ahead.clear(),
                Err(error) if is_nothing(&error) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
