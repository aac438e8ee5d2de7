//! `carillon key`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::json;

use crate::output::{self, Format, Verdict, say};

/// Makes the key that the API signs its tokens with: Ed25519, PEM.
///
/// A file that is there is left alone, so it can run before each start. Nobody but its owner can read it.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// What JWT_PRIVATE_KEY_FILE of the API names.
    file: PathBuf,
}

pub(crate) fn run(arguments: &Key, format: Format) -> anyhow::Result<Verdict> {
    let file = &arguments.file;
    let made = make(file).with_context(|| format!("cannot make the key {}", file.display()))?;
    match format {
        Format::Json => output::json(&json!({"file": file, "made": made}))?,
        Format::Table if made => say(format_args!("{} made", file.display())),
        Format::Table => say(format_args!("{} was there", file.display())),
    }
    Ok(Verdict::Fine)
}

/// Whether there was none.
fn make(path: &Path) -> anyhow::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    // Beside it and then linked to its name: a file of that name is whole, and of two that do this at once one wins.
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let result = write_new(&part).and_then(|()| match std::fs::hard_link(&part, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        linked => Ok(linked.map(|()| true)?),
    });
    // What is left of it when it was never made is nothing.
    std::fs::remove_file(&part).ok();
    result
}

fn write_new(path: &Path) -> anyhow::Result<()> {
    let key = Ed25519KeyPair::generate().map_err(|_| anyhow::anyhow!("no random bytes were to be had"))?;
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key)
        .map_err(|_| anyhow::anyhow!("the key cannot be written as PKCS#8"))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // 48 bytes, so one line of base64.
    writeln!(
        file,
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        BASE64_STANDARD.encode(der.as_ref())
    )?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("carillon-key-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn the_api_takes_it_its_owner_alone_reads_it_and_no_two_are_alike() {
        let folder = folder("new");
        let keys: Vec<String> = ["a.pem", "b.pem"]
            .map(|name| {
                let path = folder.join(name);
                assert!(make(&path).expect("made"));
                let mode = std::fs::metadata(&path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                std::fs::read_to_string(path).expect("read")
            })
            .into();
        for key in &keys {
            api::SigningKey::from_pem(key).expect("a key as the API wants it");
        }
        assert_ne!(keys[0], keys[1]);
        assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 2, "no parts");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_key_that_is_there_stays() {
        let folder = folder("old");
        let path = folder.join("jwt.pem");
        std::fs::write(&path, "old").expect("written");
        assert!(!make(&path).expect("left alone"));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "old");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn where_it_cannot_be_written_that_is_said() {
        let error = make(Path::new("/proc/none/jwt.pem")).expect_err("no such folder");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
