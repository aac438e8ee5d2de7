use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// A secret that may be changed while we run: given by a file, it is what the file holds now. Whoever logs in with it asks for
/// it each time.
#[derive(Debug, Clone)]
pub struct Secret {
    file: Option<PathBuf>,
    /// What it was when it could last be read.
    last: Arc<Mutex<SecretString>>,
}

impl Secret {
    pub(super) fn in_file(file: PathBuf, content: SecretString) -> Self {
        Self {
            file: Some(file),
            last: Arc::new(Mutex::new(content)),
        }
    }

    /// What it is now. While its file is away or empty, as it may be for a moment when it is changed, what it was before.
    #[must_use]
    pub fn current(&self) -> SecretString {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(content)) = self.file.as_deref().map(read)
            && !content.expose_secret().is_empty()
        {
            *last = content;
        }
        last.clone()
    }

    /// Whether it may change.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it is something else now than `before`.
    #[must_use]
    pub fn differs_from(&self, before: &SecretString) -> bool {
        self.may_change() && self.current().expose_secret() != before.expose_secret()
    }
}

impl From<SecretString> for Secret {
    fn from(secret: SecretString) -> Self {
        Self {
            file: None,
            last: Arc::new(Mutex::new(secret)),
        }
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        SecretString::from(secret).into()
    }
}

/// What the file holds, less one newline at its end.
pub(super) fn read(file: &Path) -> std::io::Result<SecretString> {
    let content = std::fs::read_to_string(file)?;
    let secret = content.strip_suffix('\n').unwrap_or(&content);
    Ok(SecretString::from(secret.strip_suffix('\r').unwrap_or(secret)))
}
