//! What the environment says besides the file: UNAVI's variables.

use std::net::IpAddr;

use super::Config;
use super::sections::Certificate;
use super::webrtc::{self, MediaPorts};

/// Settings of the environment. They hold over those of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// `SSL_CERT` and `SSL_KEY`.
    pub certificate: Option<Certificate>,
    /// `MEDIASOUP_ANNOUNCED_IP`: one address, or several with commas between. Empty if not set.
    pub announced: Vec<IpAddr>,
    /// `MEDIASOUP_LISTEN_IP`.
    pub interface: Option<IpAddr>,
    /// `RTC_MIN_PORT` and `RTC_MAX_PORT`.
    pub ports: Option<MediaPorts>,
}

/// A variable that cannot be used. Its value is not repeated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Of two that belong together only one is set.
    #[error("{set} is set and {missing} is not: set both or neither")]
    Half {
        /// The one.
        set: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// It is not what it has to be.
    #[error("{variable}: expected {expected}")]
    Value {
        /// Which one.
        variable: &'static str,
        /// What would be right.
        expected: &'static str,
    },
}

impl Environment {
    /// Reads the variables; `variable` is None for one that is not set. Empty ones count as not set.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
        let pair = |one: &'static str, other: &'static str| match (variable(one), variable(other)) {
            (Some(first), Some(second)) => Ok(Some((first, second))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(EnvironmentError::Half {
                set: one,
                missing: other,
            }),
            (None, Some(_)) => Err(EnvironmentError::Half {
                set: other,
                missing: one,
            }),
        };
        let ports = match pair("RTC_MIN_PORT", "RTC_MAX_PORT")? {
            None => None,
            Some((min, max)) => {
                let min = port("RTC_MIN_PORT", &min)?;
                let max = port("RTC_MAX_PORT", &max)?;
                if max < min {
                    return Err(EnvironmentError::Value {
                        variable: "RTC_MAX_PORT",
                        expected: "a port not below RTC_MIN_PORT",
                    });
                }
                Some(MediaPorts::PerShard { min, max })
            }
        };
        Ok(Self {
            certificate: pair("SSL_CERT", "SSL_KEY")?.map(|(cert, key)| Certificate {
                cert: vec![cert],
                key,
            }),
            announced: variable("MEDIASOUP_ANNOUNCED_IP")
                .unwrap_or_default()
                .split(',')
                .filter(|text| !text.trim().is_empty())
                .map(|text| {
                    webrtc::announced(text).map_err(|expected| EnvironmentError::Value {
                        variable: "MEDIASOUP_ANNOUNCED_IP",
                        expected,
                    })
                })
                .collect::<Result<_, _>>()?,
            interface: variable("MEDIASOUP_LISTEN_IP")
                .map(|text| {
                    text.trim().parse().map_err(|_| EnvironmentError::Value {
                        variable: "MEDIASOUP_LISTEN_IP",
                        expected: "an IP address such as 0.0.0.0 or ::",
                    })
                })
                .transpose()?,
            ports,
        })
    }
}

fn port(variable: &'static str, text: &str) -> Result<u16, EnvironmentError> {
    text.trim()
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or(EnvironmentError::Value {
            variable,
            expected: "a port from 1 to 65535",
        })
}

impl Config {
    /// Lets the environment hold over what the file says.
    pub fn apply(&mut self, environment: &Environment) {
        if let Some(certificate) = &environment.certificate {
            self.add_certificate(certificate.clone());
            self.spaces.certificate = Some(certificate.clone());
        }
        self.spaces.is_served |= *environment != Environment::default();
        if !environment.announced.is_empty() {
            self.webrtc.announced.clone_from(&environment.announced);
        }
        self.webrtc.interface = environment.interface.unwrap_or(self.webrtc.interface);
        self.webrtc.ports = environment.ports.unwrap_or(self.webrtc.ports);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::read(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_holds_over_the_file() {
        let environment = read(&[
            ("MEDIASOUP_ANNOUNCED_IP", "203.0.113.1, 2001:db8::1"),
            ("MEDIASOUP_LISTEN_IP", "::"),
            ("RTC_MIN_PORT", "20000"),
            ("RTC_MAX_PORT", "20020"),
            ("SSL_CERT", "c.pem"),
            ("SSL_KEY", "k.pem"),
        ])
        .unwrap();
        let text = r#"{"webrtc":{"port":5,"announced":["192.0.2.1"],"tcp":false}}"#;
        let mut config = parse(text, "c").unwrap().config;
        config.apply(&environment);
        assert_eq!(config.webrtc.listen(1), "[::]:20001".parse().unwrap());
        assert_eq!(config.webrtc.announced.len(), 2);
        assert!(!config.webrtc.tcp, "what it does not name stays");
        assert_eq!(config.certificates[0].key, "k.pem");
    }

    #[test]
    fn what_is_not_set_changes_nothing() {
        let environment = read(&[("SSL_CERT", ""), ("MEDIASOUP_ANNOUNCED_IP", " ")]).unwrap();
        assert_eq!(environment, Environment::default());
        let before = parse(r#"{"webrtc":{"port":5}}"#, "c").unwrap().config;
        let mut after = before.clone();
        after.apply(&environment);
        assert_eq!(before, after);
    }

    #[test]
    fn mistakes_are_named() {
        for (variables, expected) in [
            (
                &[("SSL_CERT", "c.pem")][..],
                "SSL_CERT is set and SSL_KEY is not: set both or neither",
            ),
            (
                &[("RTC_MAX_PORT", "5")],
                "RTC_MAX_PORT is set and RTC_MIN_PORT is not: set both or neither",
            ),
            (
                &[("RTC_MIN_PORT", "6"), ("RTC_MAX_PORT", "5")],
                "RTC_MAX_PORT: expected a port not below RTC_MIN_PORT",
            ),
            (
                &[("RTC_MIN_PORT", "0"), ("RTC_MAX_PORT", "5")],
                "RTC_MIN_PORT: expected a port from 1 to 65535",
            ),
            (
                &[("MEDIASOUP_LISTEN_IP", "eth0")],
                "MEDIASOUP_LISTEN_IP: expected an IP address such as 0.0.0.0 or ::",
            ),
            (
                &[("MEDIASOUP_ANNOUNCED_IP", "example.com")],
                "MEDIASOUP_ANNOUNCED_IP: expected an IP address such as \"192.0.2.1\" (host names \
                 are not resolved)",
            ),
        ] {
            assert_eq!(read(variables).unwrap_err().to_string(), expected);
        }
    }
}
