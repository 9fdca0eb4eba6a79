//! A certificate authority for development, with a server and a client certificate: for trying things out on one's
//! own machine. Nothing uses it by default, and whoever has its files can speak for the server.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::ServerName;

/// The files of [`write()`], in its order.
pub const FILES: [&str; 5] = ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"];

/// Names and addresses a server is called by on its own host.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What the certificates are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// DNS names, IP addresses and URIs of the server.
    pub server_names: Vec<String>,
    /// DNS names, IP addresses and URIs in the client's certificate: what a rule for tenants looks at.
    pub client_names: Vec<String>,
    /// Valid from this time, in seconds since 1970, UTC (an hour is taken off for clocks that differ) ...
    pub now_s: u64,
    /// ... for so many days: 1 to 36500.
    pub days: u32,
}

/// The files' contents, PEM.
pub struct DevFiles {
    /// In the order of [`FILES`].
    contents: [String; 5],
}

/// Why there are no certificates.
#[derive(Debug)]
pub enum DevError {
    /// A name that no certificate can have. The caller's to mend.
    BadName(String),
    /// So many days are none, or more than the calendar has.
    BadDays(u32),
    /// A file is there already; nothing is overwritten.
    Exists(PathBuf),
    /// The directory or a file cannot be written.
    Unwritable(PathBuf, io::Error),
    /// The host gives no keys.
    NoKeys(String),
}

impl DevError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            DevError::BadName(_) => "name it as example.com, 192.0.2.1 or spiffe://example/tenant/a",
            DevError::BadDays(_) => "ask for 1 to 36500 days",
            DevError::Exists(_) => "name another directory, or remove the old files yourself",
            DevError::Unwritable(..) => "name a directory that you may write",
            DevError::NoKeys(_) => "",
        }
    }
}

impl fmt::Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DevError::BadName(name) => write!(f, "{name:?} cannot stand in a certificate"),
            DevError::BadDays(days) => write!(f, "a certificate cannot be good for {days} days"),
            DevError::Exists(file) => write!(f, "{} is there already", file.display()),
            DevError::Unwritable(file, error) => write!(f, "cannot write {}: {error}", file.display()),
            DevError::NoKeys(why) => write!(f, "cannot make keys: {why}"),
        }
    }
}

impl std::error::Error for DevError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DevError::Unwritable(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Makes an authority, and certificates by it for a server and a client (ECDSA P-256). The authority's own key is
/// kept nowhere: nothing else can be signed by it.
///
/// # Errors
/// For a bad name or number of days, and when the host gives no keys.
pub fn generate(request: &Request) -> Result<DevFiles, DevError> {
    let valid = Validity::new(request.now_s, request.days)?;
    let ca_key = key()?;
    // A name of its own for each, so that whose certificate it is can be told from a bad signature.
    let mark: String =
        ca_key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut ca = params(&format!("uringest development CA {mark}"), &valid);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key).map_err(no_keys)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let leaf = |name: &str, names: &[String], purpose| -> Result<(String, String), DevError> {
        let mut leaf = params(name, &valid);
        leaf.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![purpose];
        leaf.use_authority_key_identifier_extension = true;
        let key = key()?;
        let signed = leaf.signed_by(&key, &issuer).map_err(no_keys)?;
        Ok((signed.pem(), key.serialize_pem()))
    };
    let (server, server_key) =
        leaf("uringest development server", &request.server_names, ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client, client_key) =
        leaf("uringest development client", &request.client_names, ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok(DevFiles { contents: [ca_pem, server, server_key, client, client_key] })
}

impl DevFiles {
    /// Name and contents of each file.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        FILES.into_iter().zip(self.contents.iter().map(String::as_str))
    }
}

/// Writes the files into a directory, made if it is missing. Keys are for their owner's eyes; nothing is
/// overwritten, and what an error leaves half done is removed.
///
/// # Errors
/// When a file is there already or cannot be written.
pub fn write(directory: &Path, files: &DevFiles) -> Result<Vec<PathBuf>, DevError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |error| DevError::Unwritable(path, error)
    };
    fs::create_dir_all(directory).map_err(unwritable(directory))?;
    let paths: Vec<PathBuf> = FILES.iter().map(|name| directory.join(name)).collect();
    if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(DevError::Exists(there.clone()));
    }
    for (written, (path, (name, contents))) in paths.iter().zip(files.iter()).enumerate() {
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        // A file that could not be made is somebody else's, and stays.
        let ours = written + usize::from(made.is_ok());
        let result = made.and_then(|mut file| {
            file.write_all(contents.as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = result {
            for path in &paths[..ours] {
                let _ = fs::remove_file(path); // the first error is the one to tell
            }
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => DevError::Exists(path.clone()),
                _ => DevError::Unwritable(path.clone(), error),
            });
        }
    }
    Ok(paths)
}

struct Validity {
    from: (i32, u8, u8),
    until: (i32, u8, u8),
}

impl Validity {
    /// Whole days, at least the ones that were asked for.
    fn new(now_s: u64, days: u32) -> Result<Validity, DevError> {
        const DAY_S: u64 = 24 * 60 * 60;
        const DAYS_MAX: u32 = 36_500;
        if days == 0 || days > DAYS_MAX {
            return Err(DevError::BadDays(days));
        }
        let from = now_s.saturating_sub(60 * 60) / DAY_S;
        let until = now_s / DAY_S + u64::from(days) + 1;
        Ok(Validity { from: date(from), until: date(until) })
    }
}

fn params(name: &str, valid: &Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |(year, month, day)| date_time_ymd(year, month, day);
    (params.not_before, params.not_after) = (at(valid.from), at(valid.until));
    params
}

fn san(name: &str) -> Result<SanType, DevError> {
    let bad = || DevError::BadName(name.to_owned());
    let ascii = || name.to_owned().try_into().map_err(|_not_ascii| bad());
    if name.contains("://") && !name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Ok(SanType::URI(ascii()?));
    }
    match ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)) {
        Ok(ServerName::IpAddress(address)) if !name.starts_with('*') => {
            Ok(SanType::IpAddress(address.into()))
        }
        Ok(ServerName::DnsName(_)) => Ok(SanType::DnsName(ascii()?)),
        _ => Err(bad()),
    }
}

fn key() -> Result<KeyPair, DevError> {
    KeyPair::generate().map_err(no_keys)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn no_keys(error: rcgen::Error) -> DevError {
    DevError::NoKeys(error.to_string())
}

/// The day of the calendar that many days after 1 January 1970 (Gregorian; years of 400, 100, 4 and 1).
fn date(days: u64) -> (i32, u8, u8) {
    // Counted from 1 March of year 0, so that a leap day is a year's last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let small = |value: u64| u8::try_from(value).expect("a day or month");
    (i32::try_from(year).unwrap_or(i32::MAX), small(month), small(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let cases = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let request = |names: &[&str], days| Request {
            server_names: names.iter().map(|&name| name.to_owned()).collect(),
            client_names: Vec::new(),
            now_s: 1_800_000_000,
            days,
        };
        assert!(generate(&request(&["localhost", "*.a.example", "::1", "spiffe://a/b"], 1)).is_ok());
        for (names, days) in
            [(&["a b"][..], 1), (&["*.127.0.0.1"], 1), (&[""], 1), (&["ü"], 1), (&["a"], 0), (&["a"], 36_501)]
        {
            let error = generate(&request(names, days)).err().expect("refused");
            assert!(matches!(error, DevError::BadName(_) | DevError::BadDays(_)), "{error}");
            assert!(!error.remedy().is_empty());
        }
    }

    #[test]
    fn files_are_written_once_and_keys_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = directory.path().join("new");
        let names = LOCAL_NAMES.map(str::to_owned).to_vec();
        let request =
            Request { server_names: names, client_names: Vec::new(), now_s: 1_800_000_000, days: 30 };
        let files = generate(&request).expect("keys");
        let written = write(&directory, &files).expect("a fresh directory");
        assert_eq!(written, FILES.map(|name| directory.join(name)));
        for (path, (_, contents)) in written.iter().zip(files.iter()) {
            assert_eq!(fs::read_to_string(path).expect("written"), contents);
            let mode = fs::metadata(path).expect("written").permissions().mode() & 0o777;
            let private = path.extension().is_some_and(|extension| extension == "key");
            assert!(mode & 0o077 == 0 || !private, "{} {mode:o}", path.display());
        }
        fs::remove_file(&written[0]).expect("written");
        let error = write(&directory, &files).expect_err("a key is there");
        assert!(matches!(&error, DevError::Exists(file) if *file == written[1]), "{error}");
        assert!(!written[0].exists(), "nothing is written beside old files");
    }
}
