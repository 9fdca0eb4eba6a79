//! Times since 1970 in UTC, as people write them: RFC 3339, `@SECONDS`, or relative to now.

use super::NS_PER_SECOND;

const SECONDS_PER_DAY: i64 = 86_400;

/// RFC 3339 in UTC with as many decimals as it takes: none, milli-, micro- or nanoseconds.
#[must_use]
pub fn format_utc(wall_ns: u64) -> String {
    let seconds = wall_ns / NS_PER_SECOND;
    let fraction = wall_ns % NS_PER_SECOND;
    let (year, month, day) = civil_from_days((seconds / SECONDS_PER_DAY as u64).cast_signed());
    let of_day = seconds % SECONDS_PER_DAY as u64;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let (value, width) = match fraction {
            f if f % 1_000_000 == 0 => (f / 1_000_000, 3),
            f if f % 1_000 == 0 => (f / 1_000, 6),
            f => (f, 9),
        };
        text.push_str(&format!(".{value:0width$}"));
    }
    text.push('Z');
    text
}

/// Reads a time: RFC 3339 (`2026-11-21T02:00:00Z`, with fraction or offset), `@SECONDS` since 1970 (with
/// fraction), or `-DURATION` before `now_wall_ns` (`-5m`; units `ns us ms s m h d`). None when it is none
/// of these, or lies before 1970 or after 2554.
#[must_use]
pub fn parse_time(text: &str, now_wall_ns: u64) -> Option<u64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return parse_seconds(seconds);
    }
    if let Some(duration) = text.strip_prefix('-') {
        return now_wall_ns.checked_sub(parse_duration(duration)?);
    }
    parse_rfc3339(text)
}

fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "ns" => 1,
        "us" => super::NS_PER_US,
        "ms" => super::NS_PER_MS,
        "s" => NS_PER_SECOND,
        "m" => 60 * NS_PER_SECOND,
        "h" => 3600 * NS_PER_SECOND,
        "d" => 86_400 * NS_PER_SECOND,
        _ => return None,
    };
    number(&text[..digits])?.checked_mul(unit)
}

fn parse_seconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').map_or((text, None), |(s, f)| (s, Some(f)));
    let fraction_ns = fraction.map_or(Some(0), parse_fraction)?;
    number(seconds)?.checked_mul(NS_PER_SECOND)?.checked_add(fraction_ns)
}

/// `YYYY-MM-DD` `T` `HH:MM:SS` [`.` fraction] (`Z` or `+HH:MM` or `-HH:MM`); RFC 3339, section 5.6.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| bytes[at] != byte) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = number(&text[0..4])?.cast_signed();
    let (month, day) = (number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute, second) = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    // A leap second is the first of the next minute.
    if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if day > days_in_month(year, month) {
        return None;
    }
    let mut rest = &text[19..];
    let mut fraction_ns = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.find(|c: char| !c.is_ascii_digit())?;
        fraction_ns = parse_fraction(&after[..digits])?;
        rest = &after[digits..];
    }
    let days = days_from_civil(year, month.cast_signed(), day.cast_signed());
    let of_day = (hour * 3600 + minute * 60 + second).cast_signed();
    let seconds = days * SECONDS_PER_DAY + of_day - parse_offset(rest)?;
    u64::try_from(seconds).ok()?.checked_mul(NS_PER_SECOND)?.checked_add(fraction_ns)
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let bytes = text.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (number(&text[1..3])?, number(&text[4..6])?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 3600 + minutes * 60).cast_signed();
    match bytes[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// One to nine decimals of a second.
fn parse_fraction(text: &str) -> Option<u64> {
    let places = u32::try_from(text.len()).ok().filter(|places| (1..=9).contains(places))?;
    Some(number(text)? * 10u64.pow(9 - places))
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn days_in_month(year: i64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar: Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `days_from_civil`. Eras of 400 years that begin on 1 March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
