//! What an operator should know about a configuration that can be used.

use std::fmt;
use std::net::IpAddr;

/// Something in the configuration that has no effect, or an effect that was not asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// There is no configuration, so the defaults were taken.
    Defaults {
        /// The file that was looked for.
        file: String,
    },
    /// No stream is configured.
    NoStreams {
        /// The file to write one to.
        file: String,
    },
    /// `config.protocols` is there and empty.
    NoProtocols,
    /// A connector of MistServer that this version does not serve. It is kept in the file.
    ConnectorNotServed {
        /// Its name.
        connector: String,
    },
    /// A connector that MistServer does not have either.
    ConnectorUnknown {
        /// Its name.
        connector: String,
    },
    /// A connector that answers on HTTP's port while HTTP is off.
    NeedsHttp {
        /// Its name.
        connector: String,
    },
    /// An option of a connector that has no effect in this version.
    OptionNotServed {
        /// The connector.
        connector: String,
        /// The option.
        option: &'static str,
    },
    /// A section that has no effect in this version.
    SectionNotServed {
        /// Its name.
        section: &'static str,
    },
    /// A stream whose source this version cannot open.
    SourceNotServed {
        /// The stream.
        stream: String,
        /// The kind of source.
        scheme: String,
    },
    /// A setting of a stream that has no effect in this version.
    SettingNotServed {
        /// The stream.
        stream: String,
        /// The setting.
        setting: &'static str,
    },
    /// A stream without a source.
    SourceMissing {
        /// The stream.
        stream: String,
    },
    /// A push source names its publisher by a host name, and names are not resolved.
    HostNotCompared {
        /// The stream.
        stream: String,
    },
    /// A stream answers to a name other than the one in the file.
    NameReduced {
        /// As it stands in the file.
        stream: String,
        /// What it answers to.
        reduced: String,
    },
    /// A stream that no name leads to.
    NameUnusable {
        /// As it stands in the file.
        stream: String,
    },
    /// An address of `webrtc.announced` whose family is not listened on.
    AnnouncedUnreachable {
        /// The address.
        address: IpAddr,
    },
    /// A trusted proxy that is not an address.
    ProxyNotAddress {
        /// As it stands in the file.
        proxy: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults { file } => write!(
                f,
                "{file} is missing or empty: HTTP is served on port 8080 and RTMP on port 1935"
            ),
            Self::NoStreams { file } => write!(
                f,
                "no stream is configured. To add one, write {{\"streams\": {{\"live\": \
                 {{\"source\": \"push://\"}}}}}} to {file}, publish to rtmp://THIS-HOST/live/live \
                 and open http://THIS-HOST:8080/live.html"
            ),
            Self::NoProtocols => f.write_str(
                "config.protocols is empty, so no port is open: remove it to get the defaults, or \
                 add {\"connector\": \"HTTP\"} and {\"connector\": \"RTMP\"}",
            ),
            Self::ConnectorNotServed { connector } => {
                write!(
                    f,
                    "connector {connector} is known, not served by this version"
                )
            }
            Self::ConnectorUnknown { connector } => write!(f, "connector {connector} is unknown"),
            Self::NeedsHttp { connector } => {
                write!(f, "connector {connector} needs HTTP, which is not enabled")
            }
            Self::OptionNotServed { connector, option } => {
                write!(
                    f,
                    "option {option} of connector {connector} has no effect in this version"
                )
            }
            Self::SectionNotServed { section } => {
                write!(f, "section {section} is known, not served by this version")
            }
            Self::SourceNotServed { stream, scheme } => {
                write!(
                    f,
                    "stream {stream}: a {scheme} source is not served by this version"
                )
            }
            Self::SettingNotServed { stream, setting } => write!(
                f,
                "stream {stream}: {setting} has no effect in this version"
            ),
            Self::SourceMissing { stream } => write!(
                f,
                "stream {stream} has no source; \"source\": \"push://\" lets an encoder push to it"
            ),
            Self::HostNotCompared { stream } => write!(
                f,
                "stream {stream}: host names in push:// are not resolved; name an address or a \
                 network, or every publisher needs the password"
            ),
            Self::NameReduced { stream, reduced } => {
                write!(f, "stream {stream} answers to the name {reduced}")
            }
            Self::NameUnusable { stream } => write!(
                f,
                "stream {stream} cannot be reached: a name has 1 to 100 of a-z, 0-9, _, . and -, \
                 and is there once"
            ),
            Self::AnnouncedUnreachable { address } => write!(
                f,
                "webrtc.announced: {address} is of IPv6, and webrtc.interface is of IPv4: peers that \
                 take it do not arrive; set webrtc.interface to \"::\""
            ),
            Self::ProxyNotAddress { proxy } => {
                write!(
                    f,
                    "trusted proxy {proxy} is not an address or a network and is ignored"
                )
            }
        }
    }
}
