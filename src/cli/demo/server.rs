//! The demo's server: this program's own `serve`, as a process of its own so that its CPU time can be told. With TLS
//! it has certificates by an authority made for this run alone.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cli::admin::Admin;
use crate::cli::{Exit, Failure};
use crate::client::{Address, Roots, Tls, TlsSettings};
use crate::tls::dev;

/// Time to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    child: Child,
    directory: PathBuf,
    pub data: SocketAddr,
    pub admin: Admin,
    /// For its clients.
    pub tls: Option<Tls>,
    /// What it said of itself when it was ready.
    pub status: Value,
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("demo: {what}"), "uringest doctor   # what this host gives the server")
}

impl Server {
    /// Starts it on free loopback ports with a temporary directory, and waits until it is ready.
    pub fn start(shards: Option<u16>, tls: bool) -> Result<Server, Failure> {
        let cannot = |what: &str, error: std::io::Error| failed(format!("{what}: {error}"));
        let program = std::env::current_exe().map_err(|error| cannot("cannot find this program", error))?;
        let random = getrandom::u64().map_err(|error| failed(format!("no random numbers: {error}")))?;
        let directory = std::env::temp_dir().join(format!("uringest-demo-{random:016x}"));
        std::fs::create_dir(&directory)
            .map_err(|error| cannot("cannot make a temporary directory", error))?;
        let (data, admin) = free_addresses().map_err(|error| cannot("no free loopback port", error))?;
        let log = std::fs::File::create(directory.join("server.log"))
            .map_err(|error| cannot("cannot make the server's log", error))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("URINGEST_") {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--listen", &data.to_string(), "--admin", &admin.to_string()]);
        command.arg("--data").arg(&directory);
        if let Some(shards) = shards {
            command.args(["--shards", &shards.to_string()]);
        }
        let tls = if tls {
            let certificates = directory.join("certificates");
            let tls = trusted(&certificates)?;
            command.arg("--tls-cert").arg(certificates.join("server.pem"));
            command.arg("--tls-key").arg(certificates.join("server.key"));
            Some(tls)
        } else {
            None
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| cannot("cannot start the server", error))?;
        let admin = Admin::at(admin);
        let mut server = Server { child, directory, data, admin, tls, status: Value::Null };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Where its clients connect.
    pub fn address(&self) -> Result<Address, Failure> {
        let address: Address = self.data.to_string().parse()?;
        Ok(address.with_tls(self.tls.is_some()))
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(failed(format!("the server ended with {status}:\n{}", self.log())));
            }
            if let Ok(status) = self.admin.call("GET", "/v1/server", None)
                && status["state"] == "running"
            {
                self.status = status;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed(format!("the server is not ready after {PATIENCE:?}:\n{}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets it drain and end.
    pub fn end(mut self) -> Result<(), Failure> {
        self.admin.call("POST", "/v1/server/drain", None)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(failed(format!("the server ended with {status}:\n{}", self.log())));
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => return Err(failed(format!("the server does not end:\n{}", self.log()))),
                Err(error) => return Err(failed(format!("cannot wait for the server: {error}"))),
            }
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended already where all went well
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory); // what stays behind is in the temporary directory
    }
}

/// Makes an authority and the server's certificate by it; for clients that trust it and no other.
fn trusted(directory: &Path) -> Result<Tls, Failure> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let server_names = dev::LOCAL_NAMES.map(str::to_owned).to_vec();
    let request = dev::Request { server_names, client_names: Vec::new(), now_s, days: 1 };
    dev::generate(&request)
        .and_then(|files| dev::write(directory, &files))
        .map_err(|error| failed(format!("cannot make certificates: {error}")))?;
    let roots = Roots::File(directory.join("ca.pem"));
    Ok(Tls::new(TlsSettings { roots, ..TlsSettings::default() })?)
}

/// Two addresses where nobody listens.
fn free_addresses() -> std::io::Result<(SocketAddr, SocketAddr)> {
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?, two.local_addr()?))
}
