//! Names of directories and files, dates, and numbers as people read them.

use crate::host::Machine;

/// A text in lower case with `-` for everything that is not a letter, a digit or a point.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || (c == '.' && !out.is_empty()) {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches(['-', '.']).to_owned()
}

/// The directory of a kind of machine: processor and kernel, and nothing that names one host.
#[must_use]
pub fn machine(machine: &Machine) -> String {
    let processor = match slug(&machine.cpu_model) {
        name if name.is_empty() => std::env::consts::ARCH.to_owned(),
        name => name,
    };
    let version: String = machine.kernel.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    format!("{processor}-{}cpu-linux-{}", machine.cpus, version.trim_end_matches('.'))
}

/// The day of a time, in UTC, as in 2026-01-31.
#[must_use]
pub fn date(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn civil(days: u64) -> (u64, u64, u64) {
    let from_march = days + 719_468;
    let era = from_march / 146_097;
    let day_of_era = from_march % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A number's text with commas between thousands.
#[must_use]
pub fn grouped(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, rest)| (whole, Some(rest)));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A measured number with about three digits that mean something.
#[must_use]
pub fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    grouped(&format!("{value:.digits$}"))
}

/// Bytes, as in 512 B, 4 KiB or 1.5 MiB.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = if value.fract() == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    };
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_no_more_than_a_path_takes() {
        assert_eq!(slug("128 B, 64 KiB batches"), "128-b-64-kib-batches");
        assert_eq!(slug("../x y/"), "x-y");
        let host = |cpu_model: &str, kernel: &str| {
            machine(&Machine { kernel: kernel.into(), cpu_model: cpu_model.into(), cpus: 2, memory_bytes: 0 })
        };
        assert_eq!(host("Intel(R) Core(TM) i7", "6.18.4-somebody-7"), "intel-r-core-tm-i7-2cpu-linux-6.18.4");
        assert!(host("", "6.1").ends_with("-2cpu-linux-6.1"));
    }

    #[test]
    fn dates_are_of_the_gregorian_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
        ] {
            assert_eq!(date(unix_s), text);
        }
    }

    #[test]
    fn numbers_are_as_long_as_they_mean() {
        for (value, text) in [
            (0.0, "0"),
            (0.123_4, "0.123"),
            (2.345, "2.35"),
            (24.06, "24.1"),
            (1234.5, "1,234"),
            (-1e6, "-1,000,000"),
        ] {
            assert_eq!(figure(value), text);
        }
        for (value, text) in [(32.0, "32 B"), (4096.0, "4 KiB"), (1536.0, "1.5 KiB"), (1_048_576.0, "1 MiB")]
        {
            assert_eq!(bytes(value), text);
        }
    }
}
