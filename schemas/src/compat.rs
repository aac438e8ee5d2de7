//! The gate that keeps schemas readable: the working set must be BACKWARD_TRANSITIVE to every released version, that
//! is, a reader of today can read whatever any released writer wrote. It is stricter than Avro and the registry in what
//! our structs, which read without Avro's schema resolution, would get wrong: types stay exactly as they are, logical
//! types included; aliases and default symbols do not count; and a field that readers of a release need stays.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::Path;

use apache_avro::Schema;
use apache_avro::schema::{Name, RecordSchema, SchemaKind};

/// One event that a release and today's build cannot exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record} is not compatible with release {release}: {problem}")]
pub struct Break {
    /// The event's name.
    pub record: String,
    /// The release whose records or readers would be left behind.
    pub release: String,
    /// Which fields, and why.
    pub problem: String,
}

/// Checks `avro` (a folder of `.avsc`) against each folder of `released`. Returns what breaks; empty is good.
///
/// # Errors
/// When a folder or file cannot be read, or holds no Avro schema.
pub fn check(avro: &Path, released: &Path) -> Result<Vec<Break>, Box<dyn Error + Send + Sync>> {
    let current = read_folder(avro)?;
    let mut breaks = Vec::new();
    let mut releases: Vec<_> = list(released)?;
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

/// Why `reader` may not follow a released `writer`, if so: every problem with the path to its field.
#[must_use]
pub fn unreadable(writer: &Schema, reader: &Schema) -> Option<String> {
    let mut comparison = Comparison::default();
    collect(writer, &mut comparison.writers);
    collect(reader, &mut comparison.readers);
    comparison.compare("", writer, reader);
    (!comparison.problems.is_empty()).then(|| comparison.problems.join("; "))
}

/// The same of a schema that a registry gave, and one of ours. What is no Avro schema nobody can read.
#[must_use]
pub fn unreadable_json(writer: &str, reader: &crate::EventSchema) -> Option<String> {
    match Schema::parse_str(writer) {
        Ok(writer) => unreadable(&writer, reader.avro()),
        Err(error) => Some(format!("it is no Avro schema: {error}")),
    }
}

/// A walk through a released schema and today's, side by side.
#[derive(Default)]
struct Comparison<'a> {
    /// The named types that each side defines.
    writers: HashMap<&'a Name, &'a Schema>,
    readers: HashMap<&'a Name, &'a Schema>,
    /// Named types that are being compared further up, or have been.
    seen: Vec<&'a Name>,
    problems: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self, path: &str, writer: &'a Schema, reader: &'a Schema) {
        let writer = resolve(&self.writers, writer);
        let reader = resolve(&self.readers, reader);
        if let (Some(was), Some(is)) = (writer.name(), reader.name())
            && was != is
        {
            self.problem(path, &format!("was a {was} and is a {is}"));
            return;
        }
        match (writer, reader) {
            (Schema::Record(writer), Schema::Record(reader)) => {
                if !self.seen.contains(&&writer.name) {
                    self.seen.push(&writer.name);
                    self.compare_fields(path, writer, reader);
                }
            }
            (Schema::Enum(writer), Schema::Enum(reader)) => {
                for symbol in writer.symbols.iter().filter(|s| !reader.symbols.contains(s)) {
                    self.problem(path, &format!("has lost its symbol {symbol:?}"));
                }
            }
            (Schema::Array(writer), Schema::Array(reader)) => {
                self.compare(&format!("{path}[]"), &writer.items, &reader.items);
            }
            (Schema::Map(writer), Schema::Map(reader)) => {
                self.compare(&format!("{path}{{}}"), &writer.types, &reader.types);
            }
            (Schema::Union(writer), Schema::Union(reader)) => {
                let (was, is) = (writer.variants(), reader.variants());
                if was.len() == is.len() {
                    for (was, is) in was.iter().zip(is) {
                        self.compare(path, was, is);
                    }
                } else {
                    self.problem(
                        path,
                        &format!("was a union of {} types and is one of {}", was.len(), is.len()),
                    );
                }
            }
            _ if writer == reader => {}
            _ => {
                let (was, is) = (SchemaKind::from(writer), SchemaKind::from(reader));
                self.problem(path, &format!("was of type {was:?} and is of type {is:?}"));
            }
        }
    }

    fn compare_fields(&mut self, path: &str, writer: &'a RecordSchema, reader: &'a RecordSchema) {
        let below = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        for was in &writer.fields {
            let path = below(&was.name);
            match reader.fields.iter().find(|f| f.name == was.name) {
                Some(is) => {
                    if was.default.is_some() && is.default.is_none() {
                        self.problem(&path, "has lost its default");
                    }
                    self.compare(&path, &was.schema, &is.schema);
                }
                None if was.default.is_none() => {
                    self.problem(
                        &path,
                        "was removed, and readers of that release have no default for it",
                    );
                }
                None => {}
            }
        }
        for is in &reader.fields {
            if is.default.is_none() && writer.fields.iter().all(|f| f.name != is.name) {
                self.problem(&below(&is.name), "is new and has no default");
            }
        }
    }

    fn problem(&mut self, path: &str, what: &str) {
        let path = if path.is_empty() { "the event" } else { path };
        self.problems.push(format!("{path} {what}"));
    }
}

/// What a reference refers to; anything else is itself.
fn resolve<'a>(names: &HashMap<&'a Name, &'a Schema>, schema: &'a Schema) -> &'a Schema {
    match schema {
        Schema::Ref { name } => names.get(name).copied().unwrap_or(schema),
        other => other,
    }
}

/// Gathers the named types that a schema defines.
fn collect<'a>(schema: &'a Schema, names: &mut HashMap<&'a Name, &'a Schema>) {
    if let Some(name) = schema.name()
        && !matches!(schema, Schema::Ref { .. })
    {
        names.insert(name, schema);
    }
    match schema {
        Schema::Record(record) => record.fields.iter().for_each(|f| collect(&f.schema, names)),
        Schema::Array(array) => collect(&array.items, names),
        Schema::Map(map) => collect(&map.types, names),
        Schema::Union(union) => union.variants().iter().for_each(|s| collect(s, names)),
        _ => {}
    }
}

fn list(folder: &Path) -> Result<Vec<std::fs::DirEntry>, Box<dyn Error + Send + Sync>> {
    std::fs::read_dir(folder)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", folder.display()).into())
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Schema>, Box<dyn Error + Send + Sync>> {
    let mut schemas = BTreeMap::new();
    for entry in list(folder)? {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "avsc") {
            let name = path
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let schema = Schema::parse_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            schemas.insert(name, schema);
        }
    }
    Ok(schemas)
}
