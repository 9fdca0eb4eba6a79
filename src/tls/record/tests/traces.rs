//! The traces of RFC 8448 section 3 ("Simple 1-RTT Handshake").

use super::schedule::{expand_label, keys};
use super::*;
use crate::tls::record::open::open;

over_each_implementation! {
    the_clients_records_are_made_and_read,
    the_servers_records_are_made_and_read,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    digits.chunks(2).map(pair).collect()
}

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";

const TICKET_RECORD: &str = "17 03 03 00 de 3a 6b 8f 90 41 4a 97 d6 95 9c 34 87 68 0d e5 13 4a 2b 24 0e 6c ff \
    ac 11 6e 95 d4 1d 6a f8 f6 b5 80 dc f3 d1 1d 63 c7 58 db 28 9a 01 59 40 25 2f 55 71 3e 06 1d c1 3e 07 88 91 \
    a3 8e fb cf 57 53 ad 8e f1 70 ad 3c 73 53 d1 6d 9d a7 73 b9 ca 7f 2b 9f a1 b6 c0 d4 a3 d0 3f 75 e0 9c 30 ba \
    1e 62 97 2a c4 6f 75 f7 b9 81 be 63 43 9b 29 99 ce 13 06 46 15 13 98 91 d5 e4 c5 b4 06 f1 6e 3f c1 81 a7 7c \
    a4 75 84 00 25 db 2f 0a 77 f8 1b 5a b0 5b 94 c0 13 46 75 5f 69 23 2c 86 51 9d 86 cb ee ac 87 aa c3 47 d1 43 \
    f9 60 5d 64 f6 50 db 4d 02 3e 70 e9 52 ca 49 fe 51 37 12 1c 74 bc 26 97 68 7e 24 87 46 d6 df 35 30 05 f3 bc \
    e1 86 96 12 9c 81 53 55 6b 3b 6c 67 79 b3 7b f1 59 85 68 4f";
const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 \
    bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a \
    ee bb 21 69 49 15 e4";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 \
    aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d \
    d0 32 e1 67 c2 95 5d";
const CLIENT_CLOSE: &str = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_CLOSE: &str = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

/// Secret, key, initial vector of each direction, during the handshake and after it.
const DERIVED: [(&str, &str, &str); 4] = [
    (
        "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38",
        "3fce516009c21727d0f2e4e86ee403bc",
        "5d313eb2671276ee13000b30",
    ),
    (
        "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21",
        "dbfaa693d1762c5b666af5d950258d01",
        "5bd3c71b836e0b76bb73265f",
    ),
    (SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"),
    (CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"),
];

fn layers() -> (RecordLayer, RecordLayer) {
    let (server, client) = (hex(SERVER_SECRET), hex(CLIENT_SECRET));
    let suite = Suite::Aes128Gcm;
    let of = |receiving: &[u8], sending: &[u8]| Secrets {
        suite,
        receiving: receiving.to_vec(),
        sending: sending.to_vec(),
        tickets: Vec::new(),
    };
    (layer_of(Side::Server, of(&client, &server)), layer_of(Side::Client, of(&server, &client)))
}

fn data() -> Vec<u8> {
    (0..50).collect()
}

#[test]
fn keys_and_initial_vectors_come_from_traffic_secrets() {
    for (secret, key, iv) in DERIVED {
        assert_eq!(expand_label(Suite::Aes128Gcm, &hex(secret), "key", 16), hex(key));
        assert_eq!(expand_label(Suite::Aes128Gcm, &hex(secret), "iv", 12), hex(iv));
    }
}

fn the_clients_records_are_made_and_read() {
    let (mut server, mut client) = layers();
    assert_eq!(say(&mut client, &data()), hex(CLIENT_DATA));
    client.close();
    assert_eq!(say(&mut client, b""), hex(CLIENT_CLOSE));

    let (plaintext, received) = hear(&mut server, &hex(CLIENT_DATA));
    assert_eq!((plaintext, received.then), (data(), Then::Wants(5)));
    assert_eq!(hear(&mut server, &hex(CLIENT_CLOSE)).1.then, Then::Closed);
    assert_eq!(server.end_of_stream(), Ok(()));
}

fn the_servers_records_are_made_and_read() {
    let (mut server, mut client) = layers();
    // The ticket has the server's record number 0; sealing it again gives the same bytes.
    let ticket = hex(TICKET_RECORD);
    let mut out = vec![0; PLAINTEXT_ROOM_BYTES];
    let mut keys = keys(Suite::Aes128Gcm, &hex(SERVER_SECRET));
    let (content, bytes) = open(&mut keys, &ticket, &mut out).expect("the RFC's record");
    assert_eq!((content, out[0]), (Content::Handshake, 4));
    let mut resealed = vec![0; ticket.len()];
    let written = seal::seal(server.sending(), Content::Handshake, &out[..bytes], &mut resealed);
    assert_eq!((written, &resealed), (Ok(ticket.len()), &ticket));

    assert_eq!(say(&mut server, &data()), hex(SERVER_DATA));
    server.close();
    assert_eq!(say(&mut server, b""), hex(SERVER_CLOSE));

    let all = [ticket, hex(SERVER_DATA), hex(SERVER_CLOSE)].concat();
    let (plaintext, received) = hear(&mut client, &all);
    assert_eq!((plaintext, received.then), (data(), Then::Closed));
    assert_eq!(client.tickets(), [out[4..bytes].to_vec()]);
}
