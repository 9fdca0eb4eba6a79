//! Lists of CPUs, as in `0,2-3`, and pinning to them.

use std::io;
use std::str::FromStr;

/// At least one CPU, each once, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPUs.
    #[must_use]
    pub fn all(&self) -> &[usize] {
        &self.0
    }

    /// Pins the calling thread to all of them. Async-signal-safe: a child may call it before `exec`.
    ///
    /// # Errors
    /// None of them exists, or this process may not use any of them.
    pub fn pin(&self) -> io::Result<()> {
        pin_to(&self.0)
    }
}

/// Pins the calling thread to these CPUs.
///
/// # Errors
/// As [`CpuList::pin`].
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CPUS_MAX) {
        // SAFETY: the set is ours, and the number is below its size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is read over the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a `cpu_set_t` holds.
const CPUS_MAX: usize = 8 * size_of::<libc::cpu_set_t>();

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<CpuList, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                let number = digits.trim().parse::<usize>().ok().filter(|&number| number < CPUS_MAX);
                number.ok_or_else(|| format!("{part:?} is not a CPU or a range of them, as in 0,2-3"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part:?} is a range that ends before it begins"));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is named twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(CpuList(cpus))
    }
}

impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, cpu) in self.0.iter().enumerate() {
            write!(f, "{}{cpu}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read_and_written() {
        for (text, cpus) in [("0", vec![0]), ("1,0", vec![1, 0]), ("0,2-4", vec![0, 2, 3, 4])] {
            let list: CpuList = text.parse().expect(text);
            assert_eq!(list.all(), cpus);
            assert_eq!(list.to_string().parse(), Ok(list));
        }
        for text in ["", "x", "1-0", "0,0", "1-3,2", "-1", "99999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }
}
