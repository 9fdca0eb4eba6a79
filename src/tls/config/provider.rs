//! What rustls is to use: suites and key exchanges in our order, and the caller's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// TLS 1.3's suites, the cheapest first where the processor has AES instructions, and the hybrid key exchange
/// before the others.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// The time of the last call that brought one. Sessions of several threads share it: their clocks are one.
#[derive(Debug, Default)]
pub(in crate::tls) struct CallersTime(AtomicU64);

impl CallersTime {
    /// Seconds since 1970, UTC.
    pub(in crate::tls) fn set(&self, now_s: u64) {
        self.0.store(now_s, Ordering::Relaxed);
    }
}

impl TimeProvider for CallersTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(time(self.0.load(Ordering::Relaxed)))
    }
}

pub(super) fn time(now_s: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now_s))
}
