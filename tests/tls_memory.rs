//! What a TLS session holds once its handshake is over, by an allocator that counts what is held: thousands of
//! connections stay, so nothing of a handshake may.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use uringest::tls::{
    CertificateFiles, ClientAuth, ClientMaterial, ClientSettings, ClientTls, EarlyData, Material, Records,
    Roots, ServerSettings, ServerTls, Session, dev,
};

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn note(bytes: usize, sign: i64) {
    HELD.with(|held| held.set(held.get() + sign * i64::try_from(bytes).unwrap_or(i64::MAX)));
}

// SAFETY: every call is passed on to `System` unchanged; the count is a plain thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(layout.size(), -1);
        note(new_size, 1);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes an established session of ours may hold: its keys, the traffic secrets, who the peer is. The cipher of
/// aws-lc keeps about a KiB for both keys that this allocator does not see (it is C's).
const HELD_BYTES_MAX: i64 = 4 * 1024;

fn held() -> i64 {
    HELD.with(Cell::get)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What sessions of both sides are made from; clients show a certificate.
fn material() -> (ServerTls, ClientTls) {
    let directory = tempfile::tempdir().expect("a directory");
    let request = dev::Request {
        server_names: dev::LOCAL_NAMES.map(str::to_owned).to_vec(),
        client_names: vec!["acme.clients.example".into()],
        now_s: now_s(),
        days: 2,
    };
    dev::write(directory.path(), &dev::generate(&request).expect("keys")).expect("written");
    let path = |name: &str| directory.path().join(name);
    let pair = |name: &str| CertificateFiles {
        certificate: path(&format!("{name}.pem")),
        key: path(&format!("{name}.key")),
    };
    let server = ServerSettings {
        certificates: vec![pair("server")],
        client_auth: ClientAuth::Required(path("ca.pem")),
        revocation_lists: Vec::new(),
        tenant_rule: Some("dns:{tenant}.clients.example".parse().expect("a rule")),
        early_data: EarlyData::Off,
    };
    let client = ClientSettings { roots: Roots::File(path("ca.pem")), identity: Some(pair("client")) };
    (
        Material::read(&server).and_then(ServerTls::new).expect("good files"),
        ClientMaterial::read(&client).and_then(ClientTls::new).expect("good files"),
    )
}

/// Carries what both have to say until neither has anything.
fn settle(server: &mut Session, client: &mut Session, out: &mut [u8], room: &mut [u8]) {
    for _ in 0..10 {
        let mut moved = 0;
        let said = client.transmit(b"", out).written;
        moved += said;
        server.receive(&out[..said], room, now_s());
        let said = server.transmit(b"", out).written;
        moved += said;
        client.receive(&out[..said], room, now_s());
        if moved == 0 {
            return;
        }
    }
    panic!("they never stop");
}

/// Bytes held by an established session of the server, itself included.
fn of_one(server: &ServerTls, client: &ClientTls, records: Records) -> i64 {
    let (mut out, mut room) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut one = Box::new(Session::server(server, records));
    let mut other = Session::client(client, "localhost", Records::Own, now_s());
    settle(&mut one, &mut other, &mut out, &mut room);
    assert!(one.can_send() && other.can_send());
    // Some data in both directions: what that leaves behind counts.
    for _ in 0..20 {
        let sealed = other.transmit(&[7; 20_000], &mut out);
        let received = one.receive(&out[..sealed.written], &mut room, now_s());
        assert_eq!((sealed.taken, received.produced), (20_000, 20_000));
        let sealed = one.transmit(&[7; 20_000], &mut out);
        other.receive(&out[..sealed.written], &mut room, now_s());
    }
    let with = held();
    drop(one);
    with - held()
}

#[test]
fn an_established_session_holds_its_keys_and_little_else() {
    let (server, client) = material();
    // The first time what is made once for all is made.
    of_one(&server, &client, Records::Own);
    let own = of_one(&server, &client, Records::Own);
    let rustls = of_one(&server, &client, Records::Rustls);
    println!("an established session holds {own} bytes; with rustls's buffers {rustls}");
    assert!(own <= HELD_BYTES_MAX, "{own} bytes are held, at most {HELD_BYTES_MAX} are meant to be");
    assert!(own < rustls, "{own} bytes, and {rustls} with rustls's buffers");
}
