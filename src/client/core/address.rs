//! Where a server is and whether TLS is spoken to it: `uringest+tls://host:port`, `uringest://host:port`, `host:port`,
//! or `host`.

use crate::client::core::error::Error;

/// The data port where an address names none.
pub const PORT_DEFAULT: u16 = 7440;

/// A server's address, parsed but not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
    secured: bool,
}

impl Address {
    /// The host's name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it says `uringest+tls://`.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.secured
    }

    /// The same host and port, by TLS or not.
    #[must_use]
    pub fn with_tls(self, secured: bool) -> Address {
        Address { secured, ..self }
    }
}

impl Default for Address {
    fn default() -> Self {
        Address { host: "127.0.0.1".to_owned(), port: PORT_DEFAULT, secured: false }
    }
}

/// As it can be parsed again. TLS is never left out.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.secured {
            f.write_str("uringest+tls://")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadAddress { address: text.to_owned(), why: why.to_owned() };
        let (rest, secured) = match text.split_once("://") {
            None => (text, false),
            Some(("uringest", rest)) => (rest, false),
            Some(("uringest+tls", rest)) => (rest, true),
            Some(_) => return Err(bad("the scheme is neither uringest:// nor uringest+tls://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') || rest.contains('@') {
            return Err(bad("only host:port is expected; a token is given separately"));
        }
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or_else(|| bad("a [ without its ]"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad("after ] only :port may follow")),
            }
        } else {
            match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(bad("an IPv6 address is written in brackets"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let port = match port {
            None => PORT_DEFAULT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| bad("the port is not a number from 1 to 65535"))?,
        };
        Ok(Address { host: host.to_owned(), port, secured })
    }
}

#[cfg(test)]
mod tests;
