//! TLS with an authority of one's own: publishes ten records and consumes them.
//!
//! ```sh
//! uringest cert dev certs
//! uringest serve --tls-cert certs/server.pem --tls-key certs/server.key --tls-client-ca certs/ca.pem &
//! cargo run --example tls_client -- uringest+tls://localhost:7440 certs
//! ```

use std::path::PathBuf;
use std::time::Duration;

use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{
    CertificateFiles, ConsumerConfig, ConsumerEvent, Error, ProducerConfig, Roots, Tls, TlsFault, TlsSettings,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "uringest+tls://localhost:7440".to_owned());
    let certificates = PathBuf::from(args.next().unwrap_or_else(|| "certs".to_owned()));

    // Made once: all connections share what they need to resume. Without it, an address of uringest+tls:// is spoken to
    // with the authorities this host trusts, and no certificate of the client's.
    let tls = Tls::new(TlsSettings {
        roots: Roots::File(certificates.join("ca.pem")),
        identity: Some(CertificateFiles {
            certificate: certificates.join("client.pem"),
            key: certificates.join("client.key"),
        }),
        server_name: None, // the address's host
    })?;

    let mut consume = ConsumerConfig::new("secrets");
    consume.connection.server = server.parse()?;
    consume.connection.tls = Some(tls.clone());
    let consumer = Consumer::connect(consume)?;
    match consumer.wait_subscribed(Some(Duration::from_secs(10))) {
        // A server that cannot be trusted, or does not trust us, is no matter of trying again.
        Err(Error::Tls { fault: TlsFault::UnknownAuthority, .. }) => {
            return Err("these certificates are not of the authority that signed the server's".into());
        }
        other => other?,
    }

    let mut publish = ProducerConfig::new("secrets");
    publish.connection.server = server.parse()?;
    publish.connection.tls = Some(tls);
    let producer = Producer::connect(publish)?;
    for number in 0..10 {
        producer.send(format!("secret {number}").as_bytes(), None)?;
    }
    producer.close(None)?; // returns when the server has acknowledged every record

    let mut left = 10;
    while left > 0 {
        if let Some(ConsumerEvent::Batch(batch)) = consumer.next(None)? {
            for payload in batch.payloads() {
                println!("{}", String::from_utf8_lossy(&payload));
            }
            left -= batch.len();
        }
    }
    Ok(())
}
