//! How each type of value is written in a file, a variable or a flag: text to typed value and back.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::TokenHash;
use crate::tls::TenantRule;

/// A way to write values of one type.
pub trait Codec {
    /// What the text stands for.
    type Value;
    /// The value, or what is wrong with the text (without repeating the text or what is allowed).
    ///
    /// # Errors
    /// When the text is no value of this kind, or outside its bounds.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;
    /// The text `parse` gives this value for.
    fn show(&self, value: &Self::Value) -> String;
    /// What may be given, for messages and help.
    fn allowed(&self) -> String;
    /// The placeholder in help, as `ADDR`.
    fn placeholder(&self) -> String;
    /// Whether a refused text may be somebody's secret, which no message repeats.
    fn is_secret(&self) -> bool {
        false
    }
    /// Whether the text stands without quotes in TOML.
    fn bare(&self, text: &str) -> bool {
        let _ = text;
        false
    }
    /// Whether a flag may stand without a value, meaning `true`.
    fn is_switch(&self) -> bool {
        false
    }
    /// Whether TOML has it as a list of strings, which one text names with commas between.
    fn is_list(&self) -> bool {
        false
    }
}

/// Integers a codec may hold.
pub trait Number: Copy + PartialOrd + TryFrom<u64> + Into<u64> {}
impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}

/// A whole number between two bounds, both included.
pub struct Count<T>(pub T, pub T);

impl<T: Number> Codec for Count<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Result<T, String> {
        let number = text.replace('_', "").parse::<u64>().map_err(|_| "is not a whole number".to_owned())?;
        within(number, self.0, self.1)
    }
    fn show(&self, value: &T) -> String {
        let number: u64 = (*value).into();
        number.to_string()
    }
    fn allowed(&self) -> String {
        format!("a number from {} to {}", self.show(&self.0), self.show(&self.1))
    }
    fn placeholder(&self) -> String {
        "N".to_owned()
    }
    fn bare(&self, _: &str) -> bool {
        true
    }
}

/// Milliseconds between two bounds.
pub struct Millis(pub u64, pub u64);

impl Codec for Millis {
    type Value = u64;
    fn parse(&self, text: &str) -> Result<u64, String> {
        let (digits, scale) = match text.trim() {
            t if t.ends_with("ms") => (&t[..t.len() - 2], 1),
            t if t.ends_with('s') => (&t[..t.len() - 1], 1_000),
            t if t.ends_with("min") => (&t[..t.len() - 3], 60_000),
            t => (t, 1),
        };
        let number = digits.trim().replace('_', "").parse::<u64>();
        let number = number.map_err(|_| "is not a number of milliseconds".to_owned())?;
        within(number.checked_mul(scale).ok_or("is too large")?, self.0, self.1)
    }
    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
    fn allowed(&self) -> String {
        format!("milliseconds from {} to {} (or as 500ms, 10s, 2min)", self.0, self.1)
    }
    fn placeholder(&self) -> String {
        "MS".to_owned()
    }
    fn bare(&self, _: &str) -> bool {
        true
    }
}

/// An age in milliseconds, up to a bound, or none (0).
pub struct Age(pub u64);

const AGES: [(&str, u64); 5] =
    [("ms", 1), ("min", 60_000), ("s", 1_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

impl Codec for Age {
    type Value = u64;
    fn parse(&self, text: &str) -> Result<u64, String> {
        let text = text.trim();
        if text == "none" || text == "0" {
            return Ok(0);
        }
        let unit = AGES.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
        let (digits, scale) = unit.unwrap_or((text, 1));
        let number = digits.trim().replace('_', "").parse::<u64>().map_err(|_| "is no age".to_owned())?;
        within(number.checked_mul(scale).ok_or("is too large")?, 1, self.0)
    }
    fn show(&self, value: &u64) -> String {
        if *value == 0 {
            return "none".to_owned();
        }
        let whole = AGES.iter().filter(|(_, scale)| value.is_multiple_of(*scale)).max_by_key(|unit| unit.1);
        whole.map_or_else(|| value.to_string(), |(unit, scale)| format!("{}{unit}", value / scale))
    }
    fn allowed(&self) -> String {
        format!("an age up to {} (as 7d, 12h, 30min, 10s, 500ms), or none", self.show(&self.0))
    }
    fn placeholder(&self) -> String {
        "AGE".to_owned()
    }
    fn bare(&self, text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// Bytes between two bounds, plain or with a unit.
pub struct Size<T>(pub T, pub T);

impl<T: Number> Codec for Size<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Result<T, String> {
        within(parse_bytes(text)?, self.0, self.1)
    }
    fn show(&self, value: &T) -> String {
        show_bytes((*value).into())
    }
    fn allowed(&self) -> String {
        format!("bytes from {} to {} (as 65536, 64KiB, 1GiB)", self.show(&self.0), self.show(&self.1))
    }
    fn placeholder(&self) -> String {
        "BYTES".to_owned()
    }
    fn bare(&self, text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_digit())
    }
}

fn within<T: Number>(number: u64, min: T, max: T) -> Result<T, String> {
    if number < min.into() {
        return Err("is too small".to_owned());
    }
    if number > max.into() {
        return Err("is too large".to_owned());
    }
    T::try_from(number).map_err(|_| "is too large".to_owned())
}

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Bytes as an operator writes them: `65536`, `64KiB`, `1 GiB`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = (text[..end].replace('_', ""), text[end..].trim());
    let number = digits.parse::<u64>().map_err(|_| "is not a number of bytes".to_owned())?;
    let scale = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        _ if unit.is_empty() => 1,
        Some((_, scale)) => *scale,
        None => return Err(format!("has no unit of bytes ({unit:?}; KiB, MiB, GiB, TiB, kB, MB, GB)")),
    };
    number.checked_mul(scale).ok_or_else(|| "is too large".to_owned())
}

/// Bytes in the largest binary unit that loses nothing.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let unit = UNITS.iter().take(4).find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    unit.map_or_else(|| bytes.to_string(), |(name, scale)| format!("{}{name}", bytes / scale))
}

/// `true` or `false`.
pub struct Switch;

impl Codec for Switch {
    type Value = bool;
    fn parse(&self, text: &str) -> Result<bool, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("is neither".to_owned()),
        }
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
    fn placeholder(&self) -> String {
        "BOOL".to_owned()
    }
    fn bare(&self, _: &str) -> bool {
        true
    }
    fn is_switch(&self) -> bool {
        true
    }
}

/// An address and port, as numbers.
pub struct Address;

impl Codec for Address {
    type Value = SocketAddr;
    fn parse(&self, text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| "is not an address and port".to_owned())
    }
    fn show(&self, value: &SocketAddr) -> String {
        value.to_string()
    }
    fn allowed(&self) -> String {
        "an IP address and port, as 127.0.0.1:7440, 0.0.0.0:7440 or [::]:7440".to_owned()
    }
    fn placeholder(&self) -> String {
        "ADDR".to_owned()
    }
}

/// A path that is not empty.
pub struct Directory;

impl Codec for Directory {
    type Value = PathBuf;
    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
    }
    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }
    fn allowed(&self) -> String {
        "a directory, made if it is missing".to_owned()
    }
    fn placeholder(&self) -> String {
        "DIR".to_owned()
    }
}

/// A file that is read.
pub struct File;

impl Codec for File {
    type Value = PathBuf;
    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
    }
    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }
    fn allowed(&self) -> String {
        "a file".to_owned()
    }
    fn placeholder(&self) -> String {
        "FILE".to_owned()
    }
}

/// Some files, up to a number.
pub struct Files(pub usize);

impl Codec for Files {
    type Value = Vec<PathBuf>;
    fn parse(&self, text: &str) -> Result<Vec<PathBuf>, String> {
        if text.is_empty() || text == "none" {
            return Ok(Vec::new());
        }
        let files: Vec<_> = text.split(',').map(|file| File.parse(file)).collect::<Result<_, _>>()?;
        if files.len() > self.0 { Err(format!("has {} files", files.len())) } else { Ok(files) }
    }
    fn show(&self, value: &Vec<PathBuf>) -> String {
        let files: Vec<_> = value.iter().map(|file| File.show(file)).collect();
        if files.is_empty() { "none".to_owned() } else { files.join(",") }
    }
    fn allowed(&self) -> String {
        format!("a list of up to {} files, with commas between them in a variable or flag, or none", self.0)
    }
    fn placeholder(&self) -> String {
        "FILE,...".to_owned()
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// How a client's certificate names its tenant.
pub struct NamesTenant;

impl Codec for NamesTenant {
    type Value = TenantRule;
    fn parse(&self, text: &str) -> Result<TenantRule, String> {
        text.parse().map_err(|_| "is no such rule".to_owned())
    }
    fn show(&self, value: &TenantRule) -> String {
        value.to_string()
    }
    fn allowed(&self) -> String {
        "dns: or uri: and a name with {tenant} for one label or segment, as dns:{tenant}.clients.example or \
         uri:spiffe://example/tenant/{tenant}"
            .to_owned()
    }
    fn placeholder(&self) -> String {
        "RULE".to_owned()
    }
}

/// One of a few words.
pub struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Codec for Word<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| "is none of them".to_owned())
    }
    fn show(&self, value: &T) -> String {
        self.0.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word).to_owned()
    }
    fn allowed(&self) -> String {
        self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
    }
    fn placeholder(&self) -> String {
        self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|")
    }
}

/// A name of the letters, digits and marks given, up to a length.
pub struct Name {
    /// Bytes at most.
    pub bytes_max: usize,
    /// Allowed beside ASCII letters and digits.
    pub marks: &'static str,
    /// Whether it may begin with a dot.
    pub dot_first: bool,
}

impl Codec for Name {
    type Value = String;
    fn parse(&self, text: &str) -> Result<String, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || self.marks.contains(c);
        match text {
            "" => Err("is empty".to_owned()),
            _ if text.len() > self.bytes_max => Err("is too long".to_owned()),
            _ if text.starts_with('.') && !self.dot_first => Err("begins with a dot".to_owned()),
            _ => match text.chars().find(|c| !good(*c)) {
                Some(c) => Err(format!("contains {c:?}")),
                None => Ok(text.to_owned()),
            },
        }
    }
    fn show(&self, value: &String) -> String {
        value.clone()
    }
    fn allowed(&self) -> String {
        let marks = self.marks.chars().map(String::from).collect::<Vec<_>>().join(" ");
        let dot = if self.dot_first || !self.marks.contains('.') { "" } else { ", no dot first" };
        format!("1 to {} letters, digits and {marks}{dot}", self.bytes_max)
    }
    fn placeholder(&self) -> String {
        "NAME".to_owned()
    }
}

/// The SHA-256 of a token, in hexadecimal.
pub struct Digest;

impl Codec for Digest {
    type Value = TokenHash;
    fn parse(&self, text: &str) -> Result<TokenHash, String> {
        TokenHash::from_hex(text).map_err(|_| "is not 64 hexadecimal digits".to_owned())
    }
    fn show(&self, value: &TokenHash) -> String {
        value.to_hex()
    }
    fn allowed(&self) -> String {
        "64 hexadecimal digits, as `uringest token hash` prints them".to_owned()
    }
    fn placeholder(&self) -> String {
        "SHA256".to_owned()
    }
    fn is_secret(&self) -> bool {
        true
    }
}

/// A value or `none`.
pub struct Maybe<C>(pub C);

impl<C: Codec> Codec for Maybe<C> {
    type Value = Option<C::Value>;
    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        if text == "none" { Ok(None) } else { self.0.parse(text).map(Some) }
    }
    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "none".to_owned(), |value| self.0.show(value))
    }
    fn allowed(&self) -> String {
        format!("{}, or none", self.0.allowed())
    }
    fn placeholder(&self) -> String {
        self.0.placeholder()
    }
    fn is_secret(&self) -> bool {
        self.0.is_secret()
    }
    fn bare(&self, text: &str) -> bool {
        text != "none" && self.0.bare(text)
    }
}
