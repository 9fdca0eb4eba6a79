//! What lies on the disk at an end, held against what the server knows of it.
//!
//! A file or a folder may be there that nobody knows of only where a step that was to take it away, or to finish it, has
//! failed in this life: the next start looks at all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::DATA;
use super::server::Kept;
use crate::commit_log::format::LogFile;

impl Kept {
    /// Each folder of a log is one that is listed, and each file in one is known; those of segments that are `moving` may
    /// be there.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_all_known(&self, known: &BTreeMap<PathBuf, Vec<String>>, moving: &[PathBuf]) {
        let files = self.files.borrow();
        let failures = files.failures();
        let logs = Path::new(DATA).join("log");
        for name in files.list(&logs) {
            let folder = logs.join(&name);
            // One that was there before, and that the catalogue does not name, is left to whoever can tell what it is.
            if !known.contains_key(&folder) && !files.foreign().contains(&folder) {
                assert!(
                    is_excused_folder(&logs, &name, failures),
                    "{name} is nobody's, and nothing has failed there"
                );
            }
        }
        for (folder, names) in known {
            let there = files.list(folder);
            for name in names {
                assert!(there.contains(name), "{} is not there: {there:?}", folder.join(name).display());
            }
            for name in there.iter().filter(|name| !is_known(name, names)) {
                let path = folder.join(name);
                assert!(
                    failures.iter().chain(moving).any(|other| is_beside(other, &path)),
                    "{} is no file of its log, which knows of {names:?}",
                    path.display()
                );
            }
        }
    }
}

/// Whether a log has this file, by the names of its segments and free files.
fn is_known(name: &str, names: &[String]) -> bool {
    match LogFile::from_name(name) {
        Some(LogFile::Index(sequence)) => names.contains(&LogFile::Segment(sequence).name()),
        Some(LogFile::Segment(_)) | None => names.iter().any(|known| known == name),
        Some(LogFile::Snapshot(_) | LogFile::Fence) => true,
    }
}

/// What was to become of a folder has failed: itself, something in it, or the sync of all names.
fn is_excused_folder(logs: &Path, name: &str, failures: &BTreeSet<PathBuf>) -> bool {
    let first = logs.join(name.split('.').next().unwrap_or(name));
    let folder = logs.join(name);
    failures.iter().any(|failed| failed == logs || failed.starts_with(&first) || failed.starts_with(&folder))
}

/// Whether a path is of the same segment as another: its file, its index, or what these are called on their way.
fn is_beside(failed: &Path, path: &Path) -> bool {
    let stem = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split('.').next().map(str::to_owned)
    };
    failed.parent() == path.parent() && stem(failed) == stem(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_excused_by_a_failure_of_its_own() {
        let segment = Path::new("/data/log/p00000001/00000000000000000004.seg");
        let index = segment.with_extension("idx");
        assert!(is_beside(&index, segment) && is_beside(segment, &segment.with_extension("seg.free")));
        assert!(!is_beside(Path::new("/data/log/p00000001/00000000000000000005.seg"), segment));
        assert!(!is_beside(Path::new("/data/log/p00000002/00000000000000000004.seg"), segment));

        let logs = Path::new("/data/log");
        let failed = |path: &str| BTreeSet::from([PathBuf::from(path)]);
        assert!(is_excused_folder(logs, "p00000001.deleted", &failed("/data/log/p00000001")));
        assert!(!is_excused_folder(logs, "p00000001", &failed("/data/log/p00000001.deleted/fence")));
        assert!(is_excused_folder(logs, "p00000001", &failed("/data/log")));
        assert!(!is_excused_folder(logs, "p00000001.deleted", &failed("/data/log/p00000002")));
    }

    #[test]
    fn files_are_known_by_their_segments() {
        let segment = LogFile::Segment(4).name();
        let names = [segment.clone(), format!("{}.free", LogFile::Segment(2).name())];
        assert!(is_known(&segment, &names) && is_known(&LogFile::Index(4).name(), &names));
        assert!(is_known(&names[1], &names) && is_known(&LogFile::Snapshot(1).name(), &names));
        assert!(
            !is_known(&LogFile::Segment(2).name(), &names) && !is_known(&LogFile::Index(2).name(), &names)
        );
        assert!(!is_known(&format!("{segment}.new"), &names));
    }
}
