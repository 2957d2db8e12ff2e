//! Certificates, servers that have them, and a proxy that names its clients.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Said, Server, free_port, run, scratch};

/// A certificate in a folder of its own.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// A new certificate for these names, which is its own authority.
    pub fn new(names: &[&str]) -> Self {
        let folder = scratch().join(format!("certificate-{}", free_port()));
        fs::create_dir_all(&folder).expect("the scratch folder is writable");
        let files = Self {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        };
        files.renew(names);
        files
    }

    /// Puts another one in its place, as a client of an authority does: by renaming.
    pub fn renew(&self, names: &[&str]) {
        let (cert, key) = pem(names);
        replace(&self.key, &key);
        replace(&self.cert, &cert);
    }

    pub fn json(&self) -> Value {
        json!({ "cert": self.cert, "key": self.key })
    }

    /// A copy of the certificate that a client trusts, whatever becomes of the file.
    pub fn trust(&self) -> PathBuf {
        let copy = self
            .cert
            .with_file_name(format!("trust-{}.pem", free_port()));
        fs::copy(&self.cert, &copy).expect("the scratch folder is writable");
        copy
    }
}

/// A certificate and its key.
pub fn pem(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("the names are names");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("the scratch folder is writable");
    fs::rename(&new, path).expect("the scratch folder is writable");
}

/// A server that speaks TLS too.
pub struct Secure {
    pub server: Server,
    pub https: u16,
    pub rtmps: u16,
}

impl Secure {
    /// With these certificates in the section `tls`, and the first on the RTMPS port too.
    #[track_caller]
    pub fn start(streams: Value, files: &[&Files], edit: impl FnOnce(&mut Value)) -> Self {
        let (https, rtmps) = (free_port(), free_port());
        let change = |all: &mut Value| {
            let list: Vec<Value> = files.iter().map(|files| files.json()).collect();
            all["tls"] = json!({ "certificates": list });
            let connectors = all["config"]["protocols"].as_array_mut().expect("a list");
            connectors.push(json!({
                "connector": "HTTPS", "port": https, "interface": "127.0.0.1",
            }));
            let mut connector = files[0].json();
            connector["connector"] = json!("RTMP");
            connector["port"] = json!(rtmps);
            connector["interface"] = json!("127.0.0.1");
            connectors.push(connector);
            edit(all);
        };
        Self {
            server: Server::start_edited(streams, change, |_| {}),
            https,
            rtmps,
        }
    }

    /// With one stream, `clip`, open to every publisher.
    #[track_caller]
    pub fn open(files: &[&Files]) -> Self {
        Self::start(json!({ "clip": { "source": "push://" } }), files, |_| {})
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https)
    }
}

/// curl, which trusts `root` alone.
#[track_caller]
pub fn curl(root: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "-m", "10", "--cacert"])
        .arg(root)
        .args(arguments);
    run(&mut command, Duration::from_secs(20))
}

/// Passes connections on to `port`, each with `header` before its first byte. Lives as long as
/// the test.
pub fn proxy(port: u16, header: &[u8]) -> u16 {
    let own = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).expect("the port is free");
    let header = header.to_vec();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                continue;
            };
            if server.write_all(&header).is_err() {
                continue;
            }
            let both = client
                .try_clone()
                .and_then(|c| Ok((c, server.try_clone()?)));
            let Ok((from_client, from_server)) = both else {
                continue;
            };
            thread::spawn(move || pass(from_client, server));
            thread::spawn(move || pass(from_server, client));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
