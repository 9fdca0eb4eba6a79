//! The admin API's routes.
//!
//! `/livez` and `/readyz` need no token, so that probes work; all else does, when one is configured (it has to
//! be, beyond loopback). What changes something is refused to web pages (requests with an `Origin`): a browser
//! on the operator's machine reaches loopback too.

use std::rc::Rc;

use super::api::{
    ApiError, BackupRenewal, BackupRequest, CreateTopic, Degradation, IoStatus, ProcessStatus, Readiness,
    RetentionStatus, ServerSnapshot, ServerState, ServerStatus, ShardStatus,
};
use super::http::{Method, Request, Response, Service, percent_decoded};
use super::{Control, Degraded, wall_ns};
use crate::io::Capabilities;
use crate::lifecycle::State;
use crate::metrics::{CONTENT_TYPE, ServerGauges, Snapshot, process_gauges, render};
use crate::shard::messages::Command;

/// See the module.
pub(super) struct Routes(pub(super) Rc<Control>);

impl Service for Routes {
    async fn call(&self, request: Request) -> Response {
        self.answer(request).await.unwrap_or_else(|error| error.response())
    }
}

impl Routes {
    async fn answer(&self, request: Request) -> Result<Response, ApiError> {
        let Some(path) = segments(&request.path) else {
            return Err(ApiError::new(400, "bad_request", "The path is not well-formed."));
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let reads = matches!(request.method, Method::Get | Method::Head);
        match path[..] {
            ["livez"] if reads => return Ok(Response::text(200, "ok\n")),
            ["readyz"] if reads => return Ok(self.0.readiness()),
            _ => self.authorize(&request)?,
        }
        if !reads && request.from_web_page {
            return Err(ApiError::new(403, "from_web_page", "Web pages may not change this server."));
        }
        self.route(&request, &path, reads).await
    }

    async fn route(&self, request: &Request, path: &[&str], reads: bool) -> Result<Response, ApiError> {
        let control = &self.0;
        let (post, delete) = (request.method == Method::Post, request.method == Method::Delete);
        match *path {
            ["metrics"] if reads => Ok(control.metrics()),
            ["v1", "server"] if reads => Ok(Response::json(200, &control.status())),
            ["v1", "snapshot"] if reads => Ok(Response::json(200, &control.snapshot().await?)),
            ["v1", "topics"] if reads => Ok(Response::json(200, &control.list_topics())),
            ["v1", "topics"] if post => self.create(request).await,
            ["v1", "topics", name] if reads => Ok(Response::json(200, &control.describe_topic(name).await?)),
            ["v1", "topics", name] if delete => {
                control.delete_topic(name).await?;
                Ok(Response::json(200, &serde_json::json!({ "deleted": name })))
            }
            ["v1", "topics", name, what @ ("pause" | "resume")] if post => {
                let paused = what == "pause";
                control.pause_topic(name, paused).await?;
                Ok(Response::json(200, &serde_json::json!({ "name": name, "paused": paused })))
            }
            ["v1", "backup"] if post => {
                let BackupRequest { lease_ms } = body_if_any(&request.body)?;
                Ok(Response::json(201, &control.begin_backup(lease_ms).await?))
            }
            ["v1", "backup", lease] if post => {
                let BackupRenewal { done } = body_if_any(&request.body)?;
                Ok(Response::json(200, &control.renew_backup(lease, &done)?))
            }
            ["v1", "backup", lease] if delete => {
                control.end_backup(lease).await?;
                Ok(Response::json(200, &serde_json::json!({ "ended": lease })))
            }
            ["v1", "server", "pause"] if post => control.pause_server(true),
            ["v1", "server", "resume"] if post => control.pause_server(false),
            ["v1", "server", "reload"] if post => Ok(Response::json(200, &control.reload()?)),
            ["v1", "server", "drain"] if post => {
                control.stop();
                Ok(Response::json(202, &ServerState { state: State::Draining.name().into() }))
            }
            _ => not_here(path),
        }
    }

    async fn create(&self, request: &Request) -> Result<Response, ApiError> {
        let wanted: CreateTopic = serde_json::from_slice(&request.body).map_err(|error| {
            ApiError::new(400, "bad_request", format!("The body is not a topic: {error}."))
        })?;
        let spec = self.0.topic_spec(wanted);
        let new = self.0.create_topic(&spec).await?;
        let description = self.0.describe_topic(&spec.name).await?;
        Ok(Response::json(if new { 201 } else { 200 }, &description))
    }

    fn authorize(&self, request: &Request) -> Result<(), ApiError> {
        let Some(wanted) = self.0.config.borrow().access.admin_token_sha256 else { return Ok(()) };
        if request.token.as_deref().is_some_and(|token| wanted.matches(token)) {
            return Ok(());
        }
        Err(ApiError::new(
            401,
            "unauthenticated",
            "This needs the admin token, as `Authorization: Bearer TOKEN`.",
        ))
    }
}

/// The decoded segments of a path; one trailing slash is forgiven.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(percent_decoded).collect()
}

/// What a request says; what it leaves out is as by default, also all of it.
fn body_if_any<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(400, "bad_request", format!("The body is not what it should be: {error}."))
    })
}

fn not_here(path: &[&str]) -> Result<Response, ApiError> {
    let allow = match *path {
        ["livez" | "readyz" | "metrics"] | ["v1", "server" | "snapshot"] => "GET, HEAD",
        ["v1", "topics"] => "GET, HEAD, POST",
        ["v1", "topics", _] => "GET, HEAD, DELETE",
        ["v1", "backup"] => "POST",
        ["v1", "backup", _] => "POST, DELETE",
        ["v1", "topics", _, "pause" | "resume"]
        | ["v1", "server", "pause" | "resume" | "reload" | "drain"] => "POST",
        _ => {
            let message = "There is no such path; a topic's name is one segment, with / written as %2F.";
            return Err(ApiError::new(404, "not_found", message));
        }
    };
    let mut response = Response::error(405, "method_not_allowed", &format!("This path knows {allow}."));
    response.allow = Some(allow);
    Ok(response)
}

impl Control {
    fn readiness(&self) -> Response {
        let state = self.lifecycle.state();
        let reasons = match state {
            State::Running => Vec::new(),
            State::Init => vec!["the server is starting".to_owned()],
            State::Paused => vec!["the server is paused: POST /v1/server/resume".to_owned()],
            State::Draining => vec!["the server is draining".to_owned()],
            State::Stopped => vec!["the server has stopped".to_owned()],
        };
        let ready = state == State::Running;
        let degraded = self.degradations();
        let readiness =
            Readiness { ready, state: state.name().into(), reasons, io: self.io_status(), degraded };
        Response::json(if ready { 200 } else { 503 }, &readiness)
    }

    fn metrics(&self) -> Response {
        let (topics, partitions) = self.topic_counts();
        let gauges = ServerGauges {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            io: self.capabilities.first().map(Capabilities::label).unwrap_or_default(),
            shards_io: self.capabilities.iter().map(|shard| (shard.backend, shard.tier)).collect(),
            state: self.lifecycle.state(),
            topics,
            partitions,
            log_files_bytes: self.storage.status().files_bytes,
            degraded: self.degraded_now().iter().map(|degraded| degraded.key).collect(),
            tls: self.tls_gauges(),
            process: process_gauges(),
        };
        let body = render(&self.counters, &gauges).into_bytes();
        Response { status: 200, content_type: CONTENT_TYPE, body, allow: None }
    }

    fn io_status(&self) -> IoStatus {
        IoStatus {
            backend: self.io.backend.name().to_owned(),
            tier: self.capabilities.first().map_or(0, |shard| shard.tier),
            because: self.io.why.clone(),
        }
    }

    /// What control knows, and what others have logged as degraded.
    fn degraded_now(&self) -> Vec<Degraded> {
        let mut all = self.degraded.borrow().clone();
        for key in crate::log::degradations() {
            if all.iter().all(|known| known.key != key) {
                all.push(Degraded { key, detail: "see the log for what it costs and the remedy".into() });
            }
        }
        all
    }

    fn degradations(&self) -> Vec<Degradation> {
        let now = self.degraded_now().into_iter();
        now.map(|Degraded { key, detail }| Degradation { key: key.to_owned(), detail }).collect()
    }

    fn topic_counts(&self) -> (u64, u64) {
        let registry = self.registry.borrow();
        (registry.catalogue.topics.len() as u64, registry.catalogue.partition_count() as u64)
    }

    fn status(&self) -> ServerStatus {
        let (topics, partitions) = self.topic_counts();
        let shards = (0..).zip(&self.capabilities).map(|(id, shard)| ShardStatus {
            id,
            backend: shard.backend.to_owned(),
            tier: shard.tier,
            incremental_buffers: shard.incremental_buffers,
            shared_buffers: shard.shared_buffers,
            registered_regions: shard.registered_regions,
            ring_messages: shard.ring_messages,
            direct_descriptors: shard.direct_descriptors,
        });
        ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("URINGEST_COMMIT").to_owned(),
            state: self.lifecycle.state().name().to_owned(),
            uptime_seconds: process_gauges().uptime_seconds,
            data_address: self.data_address.to_string(),
            plaintext_address: self.plaintext_address.map(|address| address.to_string()),
            tls: self.tls_status(),
            admin_address: self.admin_address.to_string(),
            io: self.io_status(),
            shards: shards.collect(),
            degraded: self.degradations(),
            memory: self.memory.clone(),
            retention: RetentionStatus {
                budget_bytes: self.config.borrow().memory.retention_budget_bytes,
                used_bytes: self.registry.borrow().catalogue.ring_bytes(),
            },
            log: self.storage.status(),
            topics,
            partitions,
        }
    }

    async fn snapshot(&self) -> Result<ServerSnapshot, ApiError> {
        let process = process_gauges();
        Ok(ServerSnapshot {
            state: self.lifecycle.state().name().to_owned(),
            io: self.io_status(),
            degraded: self.degradations(),
            topics: self.describe_all().await?,
            metrics: Snapshot::take(&self.counters, wall_ns()),
            process: ProcessStatus {
                uptime_seconds: process.uptime_seconds,
                resident_bytes: process.resident_bytes,
                cpu_seconds: process.cpu_seconds,
                threads: process.threads,
                open_fds: process.open_fds,
            },
        })
    }

    fn pause_server(&self, paused: bool) -> Result<Response, ApiError> {
        let to = if paused { State::Paused } else { State::Running };
        if self.lifecycle.state() != to {
            self.lifecycle.advance(to).map_err(|error| {
                ApiError::new(409, "not_allowed_now", format!("The server's state: {error}."))
            })?;
            self.shards.borrow_mut().tell(|| Command::PauseServer { paused })?;
        }
        Ok(Response::json(200, &ServerState { state: to.name().into() }))
    }
}
