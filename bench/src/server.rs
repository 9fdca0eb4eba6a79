//! The server under test: a process of its own on a CPU of its own.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Run;

pub(crate) struct Server {
    child: Child,
    pub(crate) data: SocketAddr,
    admin: SocketAddr,
    directory: PathBuf,
}

impl Server {
    /// Starts the server with one shard and makes the topic `bench`.
    pub(crate) fn start(run: &Run) -> Result<Server, Box<dyn Error>> {
        let program = match &run.server {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("uringest"),
        };
        let (data, admin) = (free_port()?, free_port()?);
        let directory = std::env::temp_dir().join(format!("uringest-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let mut command = Command::new("taskset");
        command.arg("-c").arg(run.server_cpu.to_string()).arg(&program).arg("serve");
        command.args(["--listen", &data.to_string(), "--admin", &admin.to_string()]);
        command.arg("--data").arg(&directory).args(["--shards", "1", "--io", &run.io]);
        if let Some(tier) = run.io_tier {
            command.args(["--io-tier", &tier.to_string()]);
        }
        command.env("URINGEST_CONGESTION_CONTROL", "cubic").env("URINGEST_LOG_LEVEL", "warn");
        let child =
            command.stdin(Stdio::null()).spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let server = Server { child, data, admin, directory };
        server.await_ready()?;
        let body = format!(r#"{{"name":"bench","partitions":1,"kind":"{}"}}"#, run.kind);
        server.http("POST", "/v1/topics", &body)?;
        Ok(server)
    }

    fn await_ready(&self) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if self.http("GET", "/readyz", "").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the server was not ready within 10 s".into())
    }

    fn http(&self, method: &str, path: &str, body: &str) -> Result<String, Box<dyn Error>> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 2") { Ok(answer) } else { Err(answer.into()) }
    }

    /// User and system time of the whole process, in ns.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Box<dyn Error>> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split_whitespace().next().ok_or("no schedstat")?.parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Resident memory.
    pub(crate) fn rss_bytes(&self) -> Result<u64, Box<dyn Error>> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Payload bytes copied so far, for whatever reason.
    pub(crate) fn copied_bytes(&self) -> Result<u64, Box<dyn Error>> {
        std::thread::sleep(Duration::from_millis(1_100)); // the shard publishes its copies once a second
        let page = self.http("GET", "/metrics", "")?;
        let samples = page.lines().filter(|line| line.starts_with("uringest_copied_bytes_total{"));
        let mut sum = 0;
        for sample in samples {
            sum += sample.rsplit(' ').next().ok_or("a sample without a value")?.parse::<u64>()?;
        }
        Ok(sum)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> Result<SocketAddr, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
