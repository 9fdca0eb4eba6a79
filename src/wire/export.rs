//! The schemas the binary carries, for `uringest schema export DIR`.

use std::io;
use std::path::{Path, PathBuf};

/// Each schema's file name and text.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("batch.fbs", include_str!("../../schemas/batch.fbs")),
    ("control.fbs", include_str!("../../schemas/control.fbs")),
    ("header.fbs", include_str!("../../schemas/header.fbs")),
];

/// Writes every schema into `dir`, which is created if need be; existing files of the same names are
/// replaced. The paths written are returned.
///
/// # Errors
/// Those of creating the directory and of writing the files.
pub fn export(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    SCHEMAS
        .iter()
        .map(|(name, text)| {
            let path = dir.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_what_the_repository_holds() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b");
        let written = export(&target).unwrap();
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut in_repository: Vec<_> =
            std::fs::read_dir(&schemas).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        in_repository.sort();
        let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, in_repository);
        for path in written {
            let original = std::fs::read(schemas.join(path.file_name().unwrap())).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), original);
        }
    }
}
