//! Two record layers back to back, and one against records made by hand.

pub mod implementations;
pub mod schedule;

mod exchange;
mod plan;
mod tampering;
mod traces;
mod violations;

use implementations::over_each_implementation;
use schedule::Secrets;

use super::keys::{Keys, NextKeys, Suite};
use super::{Content, OVERHEAD_BYTES, PLAINTEXT_ROOM_BYTES, Received, RecordLayer, Side, Then, seal};
use crate::tls::Reason;

pub const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

const CLIENT: u8 = 0x11;
const SERVER: u8 = 0x22;

fn layer_of(side: Side, secrets: Secrets) -> RecordLayer {
    let suite = secrets.suite;
    let (receiving, sending) =
        (schedule::keys(suite, &secrets.receiving), schedule::keys(suite, &secrets.sending));
    RecordLayer::new(side, receiving, sending, NextKeys::Secrets(secrets))
}

pub fn server(suite: Suite) -> RecordLayer {
    layer_of(Side::Server, Secrets::new(suite, CLIENT, SERVER))
}

pub fn client(suite: Suite) -> RecordLayer {
    layer_of(Side::Client, Secrets::new(suite, SERVER, CLIENT))
}

/// A peer's protection, for records that no layer of ours would make.
pub fn keys_of_client(suite: Suite) -> Keys {
    schedule::keys(suite, &Secrets::new(suite, SERVER, CLIENT).sending)
}

pub fn keys_of_server(suite: Suite) -> Keys {
    schedule::keys(suite, &Secrets::new(suite, CLIENT, SERVER).sending)
}

pub fn record(keys: &mut Keys, content: Content, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; bytes.len() + OVERHEAD_BYTES];
    let written = seal::seal(keys, content, bytes, &mut out).expect("a fresh key");
    assert_eq!(written, out.len());
    out
}

/// Everything a layer has to say, with `data` at the end.
pub fn say(layer: &mut RecordLayer, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; data.len() + (data.len() / 1024 + 8) * OVERHEAD_BYTES];
    let sealed = layer.transmit(data, &mut out);
    assert_eq!(sealed.taken, data.len());
    out.truncate(sealed.written);
    out
}

/// What a layer makes of `input`, with room for all of it.
pub fn hear(layer: &mut RecordLayer, input: &[u8]) -> (Vec<u8>, Received) {
    let mut out = vec![0xee; input.len() + PLAINTEXT_ROOM_BYTES];
    let received = layer.receive(input, &mut out);
    out.truncate(received.produced);
    (out, received)
}

#[track_caller]
pub fn assert_fails(layer: &mut RecordLayer, input: &[u8], reason: Reason) {
    let (plaintext, received) = hear(layer, input);
    assert_eq!(plaintext, b"", "nothing is released");
    match received.then {
        Then::Failed(failure) => assert_eq!(failure.reason, reason),
        other => panic!("{other:?}"),
    }
}
