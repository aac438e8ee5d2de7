//! The gate that keeps schemas readable: the working set must be BACKWARD_TRANSITIVE to every released version, that
//! is, a reader of today can read whatever any released writer wrote.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

/// One reason why today's reader cannot read what a released writer wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: today's reader cannot read what release {release} wrote: {problem}")]
pub struct Break {
    /// The event's name.
    pub record: String,
    /// The release whose records would be unreadable.
    pub release: String,
    /// Which field, and why.
    pub problem: String,
}

/// Checks `avro` (a folder of `.avsc`) against each folder of `released`. Returns what breaks; empty is good.
///
/// # Errors
/// When a folder or file cannot be read, or holds no Avro schema.
pub fn check(avro: &Path, released: &Path) -> Result<Vec<Break>, Box<dyn Error + Send + Sync>> {
    let current = read_folder(avro)?;
    let mut breaks = Vec::new();
    let mut releases: Vec<_> = std::fs::read_dir(released)?.collect::<Result<_, _>>()?;
    releases.sort_by_key(std::fs::DirEntry::path);
    for entry in releases.iter().filter(|e| e.path().is_dir()) {
        let release = entry.file_name().to_string_lossy().into_owned();
        for (record, writer) in read_folder(&entry.path())? {
            let problem = match current.get(&record) {
                None => Some("the event no longer has a schema".to_owned()),
                Some(reader) => unreadable(&writer, reader),
            };
            breaks.extend(problem.map(|problem| Break {
                record,
                release: release.clone(),
                problem,
            }));
        }
    }
    Ok(breaks)
}

/// Why `reader` cannot read everything that `writer` can write, if so.
#[must_use]
pub fn unreadable(writer: &Schema, reader: &Schema) -> Option<String> {
    match SchemaCompatibility::can_read(writer, reader) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => {
            Some("some of its values are unreadable: a symbol or a branch of a union went away".to_owned())
        }
        Err(error) => {
            // Each level of nesting is one source: the chain spells the path to the field.
            let mut problem = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                problem = format!("{problem} > {cause}");
                source = cause.source();
            }
            Some(problem)
        }
    }
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Schema>, Box<dyn Error + Send + Sync>> {
    let mut schemas = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "avsc") {
            let name = path
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
            let schema = Schema::parse_str(&std::fs::read_to_string(&path)?)
                .map_err(|e| format!("{}: {e}", path.display()))?;
            schemas.insert(name, schema);
        }
    }
    Ok(schemas)
}
