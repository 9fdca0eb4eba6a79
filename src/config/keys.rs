//! The one definition of every setting: its name, type, default, bounds and help. The struct fields, the
//! TOML keys, the `URINGEST_*` variables and the flags all come from these tables.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::codec::{
    Address, Age, Codec, Count, Digest, Directory, File, Files, Maybe, Millis, Name, NamesTenant, Size,
    Switch, Word,
};
use super::layers::Reader;
use super::lists::TopicConfig;
use super::storage::Direct;
use super::tls::ClientCertificates;
use crate::access::{TenantRules, TokenHash};
use crate::io::choice::IoChoice;
use crate::limits;
use crate::log::{Format, Level};
use crate::proto::header::AckLevel;
use crate::tls::{CertificateFiles, Records, TenantRule};
use crate::topic::{Overflow, TopicKind};

/// What is known of one setting without its type.
pub struct Key {
    /// Dotted, as in TOML: `limits.frame_bytes_max`.
    pub name: &'static str,
    /// One sentence.
    help: &'static str,
    /// The default's text on this host.
    pub default: fn() -> String,
    /// What may be given.
    pub allowed: fn() -> String,
    /// The placeholder in help.
    pub placeholder: fn() -> String,
    /// Whether the text stands without quotes in TOML.
    pub bare: fn(&str) -> bool,
    /// Whether the flag may stand alone.
    pub is_switch: fn() -> bool,
    /// Whether a value is somebody's secret, or its digest.
    pub is_secret: fn() -> bool,
    /// Whether TOML has it as a list of strings.
    pub is_list: fn() -> bool,
    flag: Option<&'static str>,
}

impl Key {
    /// The environment variable, as `URINGEST_LIMITS_FRAME_BYTES_MAX`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("{}{}", super::ENV_PREFIX, self.name.replace('.', "_").to_uppercase())
    }

    /// The flag without its dashes, as `limits-frame-bytes-max`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.flag.map_or_else(|| self.name.replace(['.', '_'], "-"), str::to_owned)
    }

    /// Whether `serve -h` shows the flag, and not `--help` alone.
    #[must_use]
    pub fn is_common(&self) -> bool {
        !self.name.contains('.') || self.flag.is_some()
    }

    /// One sentence.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

macro_rules! flag {
    () => {
        None
    };
    ($flag:literal) => {
        Some($flag)
    };
}

macro_rules! settings {
    (
        $(#[doc = $doc:literal])+
        struct $name:ident in $prefix:literal {
            $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, $codec:expr $(, flag $flag:literal)?; )*
        }
        $( with { $( $(#[doc = $extra_doc:literal])+ $extra:ident: $extra_type:ty, )* } )?
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
            $( $( $(#[doc = $extra_doc])+ pub $extra: $extra_type, )* )?
        }

        impl $name {
            pub(super) const KEYS: &'static [Key] = &[ $( Key {
                name: concat!($prefix, stringify!($field)),
                help: concat!($($help),+),
                default: || $codec.show(&$default),
                allowed: || $codec.allowed(),
                placeholder: || $codec.placeholder(),
                bare: |text| $codec.bare(text),
                is_switch: || $codec.is_switch(),
                is_secret: || $codec.is_secret(),
                is_list: || $codec.is_list(),
                flag: flag!($($flag)?),
            } ),* ];

            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $( $field: reader.read(concat!($prefix, stringify!($field)), &$codec, || $default), )*
                    $( $( $extra: <$extra_type as super::layers::Part>::read_part(reader), )* )?
                }
            }

            /// The text of this section's own settings, in the order of the table.
            pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
                vec![ $( (concat!($prefix, stringify!($field)), $codec.show(&self.$field)) ),* ]
            }
        }
    };
}

const IO: Word<IoChoice> =
    Word(&[("auto", IoChoice::Auto), ("uring", IoChoice::Uring), ("epoll", IoChoice::Epoll)]);
pub(super) const KIND: Word<TopicKind> =
    Word(&[("live", TopicKind::Live), ("memory", TopicKind::Memory), ("log", TopicKind::Log)]);
pub(super) const DURABILITY: Word<AckLevel> =
    Word(&[("received", AckLevel::Received), ("written", AckLevel::Written), ("durable", AckLevel::Durable)]);
const DIRECT: Word<Direct> = Word(&[("auto", Direct::Auto), ("off", Direct::Off)]);
pub(super) const OVERFLOW: Word<Overflow> =
    Word(&[("block", Overflow::Block), ("drop_oldest", Overflow::DropOldest), ("reject", Overflow::Reject)]);
const FORMAT: Word<Format> = Word(&[("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)]);
const LEVEL: Word<Level> =
    Word(&[("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)]);
const CLIENT_AUTH: Word<ClientCertificates> = Word(&[
    ("auto", ClientCertificates::Auto),
    ("none", ClientCertificates::None),
    ("optional", ClientCertificates::Optional),
    ("required", ClientCertificates::Required),
]);
const RECORDS: Word<Records> = Word(&[("own", Records::Own), ("rustls", Records::Rustls)]);
const HOST: Name = Name { bytes_max: 253, marks: ".-:", dot_first: false };
const CONGESTION: Name = Name { bytes_max: 15, marks: "_-", dot_first: true };
/// The names a topic may have.
pub const TOPIC_NAME: Name =
    Name { bytes_max: limits::TOPIC_NAME_BYTES_MAX, marks: "._-/", dot_first: false };
pub(super) const PARTITIONS: Count<u32> = Count(1, limits::PARTITIONS_PER_TOPIC);
pub(super) const RETENTION: Size<u64> = Size(limits::RETENTION_BYTES_MIN, 1 << 40);
pub(super) const LOG_RETENTION: Size<u64> =
    Size(limits::RETENTION_BYTES_MIN, limits::LOG_RETENTION_BYTES_MAX);
/// A backup's lease.
pub const BACKUP_LEASE: Millis = Millis(limits::LOG_BACKUP_LEASE_MS_MIN, limits::LOG_BACKUP_LEASE_MS_MAX);
/// How old records may become.
pub const RETENTION_AGE: Age = Age(100 * 365 * 24 * 3_600_000);
pub(super) const SEGMENT: Size<u64> = Size(limits::LOG_SEGMENT_BYTES_MIN, limits::LOG_SEGMENT_BYTES_MAX);

const FRAME_MAX: Size<u32> = Size(limits::FRAME_BYTES_MAX_FLOOR, limits::FRAME_BYTES_MAX_CEILING);
const STRADDLE: Size<u32> = Size(1 << 20, 1 << 30);
const MIB: u64 = 1 << 20;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// CPUs this process may use (its affinity mask and its cgroup's quota), as many as there may be shards.
fn usable_cpus() -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cpus.min(limits::SHARDS_MAX)).unwrap_or(1)
}

#[allow(clippy::cast_possible_truncation)] // SHARDS_MAX is 64
const SHARDS_MAX: u16 = limits::SHARDS_MAX as u16;

settings! {
    /// Everything an operator decides, checked. Made by [`load`](super::load) alone.
    struct Config in "" {
        /// Address and port of the data protocol, for producers and consumers.
        listen: SocketAddr = local(7440), Address;
        /// Address and port of the data protocol in plain text, beside the one that speaks TLS.
        plaintext_listen: Option<SocketAddr> = None, Maybe(Address);
        /// Allows plain text beyond loopback: the data port without a certificate, `plaintext_listen`, and the admin port, which has no TLS.
        insecure_plaintext: bool = false, Switch;
        /// Address and port of the admin API: health, metrics and topics over HTTP.
        admin: SocketAddr = local(7441), Address;
        /// Directory of the catalogue of topics, of committed offsets and, without a `storage.dir`, of the logs.
        data: PathBuf = PathBuf::from("uringest-data"), Directory;
        /// Shards: threads that each own connections, partitions and memory. By default the CPUs this process may use.
        shards: u16 = usable_cpus(), Count(1, SHARDS_MAX);
        /// I/O backend: `auto` takes io_uring where it works and epoll otherwise, and says so; the others start with theirs or not at all.
        io: IoChoice = IoChoice::Auto, IO;
        /// Forces a tier of the io_uring backend instead of the best this kernel has; not with `io = "epoll"`.
        io_tier: Option<u8> = None, Maybe(Count::<u8>(1, 2));
        /// Pins each shard's thread to a CPU of its own.
        pin: bool = true, Switch;
        /// First of one more data port a shard, for clients that choose their shard.
        shard_ports: Option<u16> = None, Maybe(Count::<u16>(1, u16::MAX));
        /// Host name or address that clients are told to use for the shards' own ports.
        advertise_host: Option<String> = None, Maybe(HOST);
        /// Time a drain may take, after which what is left is dropped and counted.
        drain_deadline_ms: u64 = limits::DRAIN_DEADLINE_MS, Millis(100, 3_600_000);
        /// TCP congestion control of data connections, where the host's default is not wanted.
        congestion_control: Option<String> = None, Maybe(CONGESTION);
    } with {
        /// What a peer may do.
        limits: Limits,
        /// Memory that is fixed at start-up.
        memory: Memory,
        /// Topics made by use, and defaults of all others.
        topics: Topics,
        /// Who may connect.
        access: AccessSettings,
        /// TLS on the data port.
        tls: TlsSettings,
        /// Where and how topics of kind `log` are kept.
        storage: Storage,
        /// The log.
        log: Log,
        /// Topics to make at start-up where they do not exist; `[[topic]]` in the file.
        topic: Vec<TopicConfig>,
        /// Tenants with their tokens and rules; `[[tenant]]` in the file.
        tenant: Vec<TenantRules>,
    }
}

settings! {
    /// `[limits]`: what a peer may do.
    struct Limits in "limits." {
        /// Largest frame, header included.
        frame_bytes_max: u32 = limits::FRAME_BYTES_MAX_DEFAULT, FRAME_MAX;
        /// Largest record; half of the largest frame where nothing is said.
        record_bytes_max: u32 = limits::FRAME_BYTES_MAX_DEFAULT / 2, Size::<u32>(1, limits::FRAME_BYTES_MAX_CEILING);
        /// Connections of the whole server; the tables are sized by it at start-up.
        connections_max: u32 = limits::CONNECTIONS_MAX_DEFAULT, Count(1, limits::CONNECTIONS_MAX_CEILING);
        /// Connections of the whole server from one address; 0 sets no limit.
        connections_per_address: u32 = limits::CONNECTIONS_MAX_DEFAULT, Count(0, limits::CONNECTIONS_MAX_CEILING);
        /// Time from the connection to a complete hello.
        handshake_timeout_ms: u64 = limits::HANDSHAKE_TIMEOUT_MS, Millis(100, 600_000);
        /// Time for a frame that has begun to arrive whole.
        frame_timeout_ms: u64 = limits::FRAME_TIMEOUT_MS, Millis(100, 600_000);
        /// Time without a byte after which a connection is closed.
        idle_timeout_ms: u64 = limits::IDLE_TIMEOUT_MS, Millis(1_000, 86_400_000);
    }
}

settings! {
    /// `[memory]`: what is mapped at start-up. `serve --explain-memory` prints the sum.
    struct Memory in "memory." {
        /// Memory that the rings of all partitions may take together; a topic that does not fit is refused.
        retention_budget_bytes: u64 = 1024 * MIB, Size(limits::RETENTION_BYTES_MIN, 1 << 44);
        /// Receive regions of one shard, for as many bulk connections at once.
        bulk_regions: u16 = limits::BULK_REGIONS_DEFAULT, Count(0, limits::BULK_REGIONS_MAX);
        /// One shard's memory for frames that arrive in pieces; a power of two.
        straddle_bytes: u32 = limits::STRADDLE_ARENA_BYTES, STRADDLE;
        /// Uses huge pages where the host has any reserved.
        huge_pages: bool = true, Switch;
    }
}

settings! {
    /// `[topics]`: topics made by use, and defaults of all others.
    struct Topics in "topics." {
        /// Makes a topic when a client that may publish or subscribe first names it.
        auto_create: bool = true, Switch;
        /// Kind of a topic made by use.
        auto_create_kind: TopicKind = TopicKind::Memory, KIND;
        /// Partitions of a topic made by use.
        auto_create_partitions: u32 = 1, PARTITIONS;
        /// Bytes each partition of a `memory` topic keeps, where the topic says nothing.
        retention_bytes: u64 = limits::RETENTION_BYTES_DEFAULT, RETENTION;
        /// What happens when a partition is full of what a subscriber has yet to receive, where the topic says nothing.
        overflow: Overflow = Overflow::Block, OVERFLOW;
        /// Memory of each partition of a `log` topic: what is served without the disk, and what may wait to be written to it.
        log_ring_bytes: u64 = limits::LOG_RING_BYTES_DEFAULT, Size(limits::LOG_RING_BYTES_MIN, 1 << 40);
        /// The least acknowledgement a producer may ask for on a `log` topic, where the topic says nothing.
        durability: AckLevel = AckLevel::Received, DURABILITY;
    }
}

settings! {
    /// `[access]`: who may connect. Tenants are listed as `[[tenant]]`.
    struct AccessSettings in "access." {
        /// SHA-256 of the admin API's token.
        admin_token_sha256: Option<TokenHash> = None, Maybe(Digest);
    }
}

settings! {
    /// `[tls]`: the data port's certificates, and how clients show theirs. With a certificate `listen` and the shards' own ports speak TLS 1.3 and nothing else.
    struct TlsSettings in "tls." {
        /// The server's certificate and those between it and its authority, PEM, its own first.
        cert: Option<PathBuf> = None, Maybe(File), flag "tls-cert";
        /// The certificate's private key, PEM.
        key: Option<PathBuf> = None, Maybe(File), flag "tls-key";
        /// Authorities whose certificates clients show, PEM.
        client_ca: Option<PathBuf> = None, Maybe(File), flag "tls-client-ca";
        /// Whether clients show certificates: `auto` is `required` with a `client_ca` and `none` without.
        client_auth: ClientCertificates = ClientCertificates::Auto, CLIENT_AUTH;
        /// Revocation lists of those authorities, PEM; with one of them each authority needs its own.
        crls: Vec<PathBuf> = Vec::new(), Files(limits::TLS_REVOCATION_LISTS_MAX);
        /// Which tenant a client's certificate stands for.
        tenant_rule: Option<TenantRule> = None, Maybe(NamesTenant);
        /// Takes data of clients that resume before their handshake is over (0-RTT); such data can be replayed.
        early_data: bool = false, Switch;
        /// Bytes of early data of one handshake.
        early_data_bytes: u32 = limits::TLS_EARLY_DATA_BYTES_DEFAULT, Size(limits::TLS_EARLY_DATA_BYTES_MIN, limits::TLS_EARLY_DATA_BYTES_MAX);
        /// Sessions that are remembered for early data, each to be used once.
        early_data_sessions: u32 = limits::TLS_EARLY_DATA_SESSIONS_DEFAULT, Count(1, limits::TLS_EARLY_DATA_SESSIONS_MAX);
        /// Who opens and seals records: `own` is this program, `rustls` the library, to compare with.
        records: Records = Records::Own, RECORDS, flag "tls-records";
    } with {
        /// Certificates for further names; `[[tls.certificates]]` in the file.
        certificates: Vec<CertificateFiles>,
    }
}

settings! {
    /// `[storage]`: where and how topics of kind `log` are kept.
    struct Storage in "storage." {
        /// Directory of the partitions' logs; where nothing is said, `log` in the data directory.
        dir: Option<PathBuf> = None, Maybe(Directory);
        /// Length of each file of a partition, a multiple of 4 KiB, where the topic says nothing.
        segment_bytes: u64 = limits::LOG_SEGMENT_BYTES_DEFAULT, SEGMENT;
        /// Bytes each partition keeps on disk, where the topic says nothing. Whole files go, and two more may be there.
        retention_bytes: u64 = limits::LOG_RETENTION_BYTES_DEFAULT, LOG_RETENTION;
        /// Age at which records may go although there is room, where the topic says nothing.
        retention_ms: u64 = 0, RETENTION_AGE;
        /// Bytes that the files of all partitions may take together; none leaves it to the disk.
        budget_bytes: Option<u64> = None, Maybe(Size::<u64>(limits::LOG_SEGMENT_BYTES_MIN, 1 << 60));
        /// Whether files bypass the page cache: `auto` does where the file system can (O_DIRECT), and says so where not.
        direct: Direct = Direct::Auto, DIRECT;
        /// Bytes written to a partition between two snapshots of its small state: recovery reads at most this much again, and some.
        snapshot_bytes: u64 = limits::LOG_SNAPSHOT_BYTES_DEFAULT, Size::<u64>(1 << 20, 1 << 40);
        /// One shard's memory for reading files that consumers lag behind in.
        read_buffer_bytes: u32 = limits::LOG_READ_BYTES_DEFAULT, Size::<u32>(4 << 20, 1 << 30);
        /// Memory that recovery reads through at the start, of all its threads together.
        recovery_buffer_bytes: u64 = limits::LOG_RECOVERY_BYTES_DEFAULT, Size::<u64>(4 << 20, 1 << 34);
    }
}

settings! {
    /// `[log]`: lines on standard error.
    struct Log in "log." {
        /// How lines look: `auto` is text on a terminal and JSON otherwise.
        format: Format = Format::Auto, FORMAT;
        /// The least severe lines that are written.
        level: Level = Level::Info, LEVEL;
    }
}

/// The tables in the order they are shown: section name (empty: top level), what it is for, its keys.
pub const SECTIONS: [(&str, &str, &[Key]); 8] = [
    ("", "", Config::KEYS),
    ("limits", "What a peer may do.", Limits::KEYS),
    ("memory", "Memory that is fixed at start-up.", Memory::KEYS),
    ("topics", "Topics made by use, and defaults of all others.", Topics::KEYS),
    ("access", "Who may connect.", AccessSettings::KEYS),
    ("tls", "TLS on the data port. With a certificate it speaks nothing else.", TlsSettings::KEYS),
    ("storage", "Where and how topics of kind log are kept.", Storage::KEYS),
    ("log", "Lines on standard error.", Log::KEYS),
];

/// Every setting.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|(_, _, keys)| keys.iter())
}

impl Config {
    /// Every setting's name and text, in the order they are shown.
    #[must_use]
    pub fn all_texts(&self) -> Vec<(&'static str, String)> {
        let sections = [
            self.texts(),
            self.limits.texts(),
            self.memory.texts(),
            self.topics.texts(),
            self.access.texts(),
            self.tls.texts(),
            self.storage.texts(),
            self.log.texts(),
        ];
        sections.concat()
    }
}
