//! The sockets the server listens on, bound before anything else is made.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;
use crate::config::Config;

/// Connections that may wait to be accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4096;
/// Of the admin address.
const ADMIN_BACKLOG: i32 = 128;

/// How long a port that is in use is asked for again: the kernel takes the rings of a killed server apart after the
/// process has ended, and its listeners with them. Whoever starts it again at once should not have to know.
const PORT_RELEASE: Duration = Duration::from_secs(2);
/// From one such attempt to the next.
const PORT_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Listeners {
    /// By shard: the shared port's socket and, where configured, that in plain text and the shard's own.
    pub data: Vec<Vec<DataSocket>>,
    pub admin: std::net::TcpListener,
    pub addresses: Addresses,
}

/// What was bound, with the ports.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub data: SocketAddr,
    /// In plain text beside one that speaks TLS.
    pub plaintext: Option<SocketAddr>,
    /// By shard; empty unless configured.
    pub shards: Vec<SocketAddr>,
    pub admin: SocketAddr,
}

/// A socket that takes clients.
pub(super) struct DataSocket {
    pub socket: Socket,
    /// It speaks TLS.
    pub secured: bool,
}

impl Listeners {
    pub(super) fn bind(config: &Config) -> Result<Listeners, StartError> {
        let refused = |setting, address| move |source| StartError::Bind { setting, address, source };
        let secured = config.tls.is_on();
        let (sockets, data_address) = shared_port(config.listen, config, "listen")?;
        let mut data: Vec<Vec<DataSocket>> =
            sockets.into_iter().map(|socket| vec![DataSocket { socket, secured }]).collect();
        let mut plaintext_address = None;
        if let Some(address) = config.plaintext_listen {
            let (plaintext, bound) = shared_port(address, config, "plaintext_listen")?;
            for (sockets, socket) in data.iter_mut().zip(plaintext) {
                sockets.push(DataSocket { socket, secured: false });
            }
            plaintext_address = Some(bound);
        }
        let mut shard_addresses = Vec::new();
        if let Some(base) = config.shard_ports {
            for (number, sockets) in (0..).zip(&mut data) {
                let address = SocketAddr::new(data_address.ip(), base + number);
                probe(address).map_err(refused("shard_ports", address))?;
                let socket = data_socket(address, config, "shard_ports")?;
                sockets.push(DataSocket { socket, secured });
                shard_addresses.push(address);
            }
        }
        let admin = admin_socket(config.admin).map_err(refused("admin", config.admin))?;
        let admin_address = admin.local_addr().map_err(refused("admin", config.admin))?;
        let addresses = Addresses {
            data: data_address,
            plaintext: plaintext_address,
            shards: shard_addresses,
            admin: admin_address,
        };
        Ok(Listeners { data, admin, addresses })
    }
}

/// A socket for each shard at one address, and the address with the port that was bound.
fn shared_port(
    mut address: SocketAddr,
    config: &Config,
    setting: &'static str,
) -> Result<(Vec<Socket>, SocketAddr), StartError> {
    let refused = |address| move |source| StartError::Bind { setting, address, source };
    probe(address).map_err(refused(address))?;
    let mut sockets = Vec::new();
    for _ in 0..config.shards {
        let socket = data_socket(address, config, setting)?;
        // With port 0 the first gets a port, which the others share.
        address = local_address(&socket).map_err(refused(address))?;
        sockets.push(socket);
    }
    Ok((sockets, address))
}

/// What clients are told: the shards' own ports at the advertised host.
pub(super) fn advertised(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let one = |address: &SocketAddr| match &config.advertise_host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{}", address.port()),
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    };
    addresses.iter().map(one).collect()
}

/// The shards share a port by `SO_REUSEPORT`, and so would another server of the same user, silently. Without that
/// option the kernel says whether somebody has the port.
fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = stream_socket(address)?;
    bind_when_released(&socket, address)
}

/// See [`PORT_RELEASE`].
fn bind_when_released(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + PORT_RELEASE;
    loop {
        match socket.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(PORT_AGAIN);
            }
            bound => return bound,
        }
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last connections are in TIME_WAIT is free (socket(7)).
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Options set here are inherited by every connection (tcp(7)).
fn data_socket(address: SocketAddr, config: &Config, setting: &'static str) -> Result<Socket, StartError> {
    let refused = |source| StartError::Bind { setting, address, source };
    let socket = stream_socket(address).map_err(refused)?;
    socket.set_reuse_port(true).map_err(refused)?;
    socket.set_tcp_nodelay(true).map_err(refused)?;
    if let Some(name) = &config.congestion_control {
        socket
            .set_tcp_congestion(name.as_bytes())
            .map_err(|source| StartError::CongestionControl { name: name.clone(), source })?;
    }
    socket.bind(&address.into()).map_err(refused)?;
    socket.listen(BACKLOG).map_err(refused)?;
    Ok(socket)
}

fn admin_socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = stream_socket(address)?;
    bind_when_released(&socket, address)?;
    socket.listen(ADMIN_BACKLOG)?;
    Ok(socket.into())
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
