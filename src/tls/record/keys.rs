//! One direction's key, initial vector and record number, and where the next key comes from.

use rustls::ConnectionTrafficSecrets;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::cipher::{Aead, Implementation, NonceBytes};
use crate::tls::Reason;

/// Bytes of an initial vector and of a nonce.
pub(in crate::tls) const IV_BYTES: usize = 12;

/// A cipher suite of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`
    Chacha20Poly1305,
}

impl Suite {
    /// As the RFC names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Suite::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Suite::Chacha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }
}

/// One direction's protection: what the next record is opened or sealed with.
pub(in crate::tls) struct Keys {
    suite: Suite,
    aead: Aead,
    iv: [u8; IV_BYTES],
    /// The number of the next record.
    sequence: u64,
}

impl Keys {
    /// # Errors
    /// When the key is not as long as the suite's keys are.
    pub(in crate::tls) fn new(
        suite: Suite,
        key: &[u8],
        iv: [u8; IV_BYTES],
        sequence: u64,
    ) -> Result<Keys, Reason> {
        let aead = Aead::new(Implementation::of(suite), suite, key)?;
        Ok(Keys { suite, aead, iv, sequence })
    }

    /// Takes over what a handshake ended with.
    pub(in crate::tls) fn from_handshake(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Keys, Reason> {
        let (suite, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::Chacha20Poly1305, key, iv),
            _ => return Err(Reason::Internal), // a suite that the configuration does not offer
        };
        let iv = iv.as_ref().try_into().map_err(|_length| Reason::Internal)?;
        Keys::new(suite, key.as_ref(), iv, sequence)
    }

    pub(in crate::tls) fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn aead(&self) -> &Aead {
        &self.aead
    }

    pub(in crate::tls) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The nonce of the next record: its number, on the right of the initial vector (RFC 8446 section 5.3).
    pub(super) fn nonce(&self) -> NonceBytes {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[IV_BYTES - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    /// Goes on to the next record. The last number is never used, so that none comes twice.
    pub(super) fn advance(&mut self) {
        self.sequence += 1;
    }

    pub(super) fn exhausted(&self) -> bool {
        self.sequence == u64::MAX
    }
}

/// Where new keys come from at a KeyUpdate, and where a client's tickets go.
pub(in crate::tls) enum NextKeys {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
    #[cfg(test)]
    Secrets(super::tests::schedule::Secrets),
}

impl NextKeys {
    pub(super) fn for_receiving(&mut self) -> Result<Keys, Reason> {
        let next = match self {
            NextKeys::Server(kernel) => kernel.update_rx_secret(),
            NextKeys::Client(kernel) => kernel.update_rx_secret(),
            #[cfg(test)]
            NextKeys::Secrets(secrets) => return Ok(secrets.next_receiving()),
        };
        Keys::from_handshake(next.map_err(|_unsupported| Reason::Internal)?)
    }

    pub(super) fn for_sending(&mut self) -> Result<Keys, Reason> {
        let next = match self {
            NextKeys::Server(kernel) => kernel.update_tx_secret(),
            NextKeys::Client(kernel) => kernel.update_tx_secret(),
            #[cfg(test)]
            NextKeys::Secrets(secrets) => return Ok(secrets.next_sending()),
        };
        Keys::from_handshake(next.map_err(|_unsupported| Reason::Internal)?)
    }

    /// A server's ticket, kept for the next connection.
    pub(super) fn ticket(&mut self, payload: &[u8]) -> Result<(), Reason> {
        match self {
            NextKeys::Client(kernel) => {
                kernel.handle_new_session_ticket(payload).map_err(|error| match error {
                    rustls::Error::InvalidMessage(_) => Reason::MalformedMessage,
                    _ => Reason::IllegalParameter,
                })
            }
            NextKeys::Server(_) => Err(Reason::UnexpectedMessage),
            #[cfg(test)]
            NextKeys::Secrets(secrets) => secrets.ticket(payload),
        }
    }
}
