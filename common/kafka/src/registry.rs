//! The schema registry: ids for what we write, schemas for what we read. Both are cached for ever, an id never changes its
//! meaning.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema};
use schemas::{DecodeError, WriterSchema};
use secrecy::{ExposeSecret, SecretString};
use service::config::Secret;
use uuid::Uuid;

use crate::RegistryConfig;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The registry did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It did not answer, or not sensibly: wait and ask again.
    #[error("the schema registry does not answer: {0}")]
    Away(#[source] SRCError),
    /// It answered no: the schema is not there and may not be registered, or is not compatible.
    #[error("the schema registry refuses subject {subject}: {why}")]
    Refused {
        /// The subject.
        subject: String,
        /// Its words.
        why: String,
    },
    /// It has the schema, and the schema cannot be used.
    #[error(transparent)]
    Unusable(#[from] DecodeError),
}

/// A client of the registry.
pub struct Registry {
    config: RegistryConfig,
    /// How it is called, and the password that was made with.
    settings: Mutex<(SrSettings, Option<SecretString>)>,
    readers: Mutex<HashMap<u32, Arc<WriterSchema>>>,
    ids: Mutex<HashMap<Uuid, u32>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// A client; it calls when it is first asked something.
    ///
    /// # Errors
    /// When the settings make no HTTP client: the file of certificates holds none.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistrySetupError> {
        let password = config.password.as_ref().map(Secret::current);
        Ok(Self {
            settings: Mutex::new((settings(config, password.as_ref())?, password)),
            config: config.clone(),
            readers: Mutex::default(),
            ids: Mutex::default(),
        })
    }

    /// How it is called now: with the password of now.
    fn settings(&self) -> SrSettings {
        let mut settings = lock(&self.settings);
        if let (Some(password), Some(before)) = (&self.config.password, &settings.1)
            && password.differs_from(before)
        {
            let password = Some(password.current());
            match self::settings(&self.config, password.as_ref()) {
                Ok(renewed) => *settings = (renewed, password),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the changed SCHEMA_REGISTRY_PASSWORD cannot be used yet");
                }
            }
        }
        settings.0.clone()
    }

    /// The schema with that id.
    ///
    /// # Errors
    /// [`RegistryError::Away`] when asking again may help, [`RegistryError::Unusable`] when not.
    pub async fn schema(&self, id: u32) -> Result<Arc<WriterSchema>, RegistryError> {
        if let Some(known) = lock(&self.readers).get(&id) {
            return Ok(Arc::clone(known));
        }
        let registered =
            get_schema_by_id(id, &self.settings())
                .await
                .map_err(|error| match code(&error) {
                    // Only the registry's own "schema not found". A bare 404 comes from a wrong path, or from a proxy whose
                    // registry is gone, and must not make dead letters of everything.
                    Some(40403) => RegistryError::Unusable(DecodeError::UnknownSchemaId(id)),
                    _ => RegistryError::Away(error),
                })?;
        let schema = Arc::new(WriterSchema::parse(&registered.schema)?);
        lock(&self.readers).insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The newest schema under `subject` as JSON text, if there is one.
    ///
    /// # Errors
    /// [`RegistryError::Away`] when it does not answer.
    pub async fn latest(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        match perform_sr_call(&self.settings(), SrCall::GetLatest(subject)).await {
            Ok(found) => Ok(found.schema),
            Err(error) if matches!(code(&error), Some(40401 | 40402)) => Ok(None),
            Err(error) => Err(RegistryError::Away(error)),
        }
    }

    /// The id of a schema under `subject`, registering it if it is not there and `register` allows.
    ///
    /// # Errors
    /// [`RegistryError::Away`] when asking again may help, [`RegistryError::Refused`] when a person has to act.
    pub async fn id(
        &self,
        fingerprint: Uuid,
        subject: &str,
        json: &str,
        register: bool,
    ) -> Result<u32, RegistryError> {
        if let Some(id) = lock(&self.ids).get(&fingerprint) {
            return Ok(*id);
        }
        let id = if register {
            let schema = SuppliedSchema::new(None, SchemaType::Avro, json.to_owned());
            post_schema(&self.settings(), subject.to_owned(), schema)
                .await
                .map(|registered| Some(registered.id))
        } else {
            // POST /subjects/{subject} looks a schema up and changes nothing.
            let body = format!("{{\"schema\":{json:?},\"schemaType\":\"AVRO\"}}");
            perform_sr_call(&self.settings(), SrCall::PostForVersion(subject, &body))
                .await
                .map(|found| found.id)
        };
        let id = id.map_err(|error| {
            let why = match code(&error) {
                // No such subject, or not that schema in it.
                Some(40401 | 40403) => {
                    "it is not registered, and SCHEMA_REGISTRY_AUTO_REGISTER is false".to_owned()
                }
                Some(code) if matches!(status(code), 401 | 403 | 409 | 422) => error.to_string(),
                _ => return RegistryError::Away(error),
            };
            RegistryError::Refused {
                subject: subject.to_owned(),
                why,
            }
        })?;
        let id = id.ok_or_else(|| RegistryError::Refused {
            subject: subject.to_owned(),
            why: "its answer holds no id".to_owned(),
        })?;
        lock(&self.ids).insert(fingerprint, id);
        Ok(id)
    }
}

/// No client of the registry can be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistrySetupError {
    /// `SCHEMA_REGISTRY_CA_FILE` cannot be read.
    #[error("SCHEMA_REGISTRY_CA_FILE {0} cannot be read")]
    CaFile(PathBuf, #[source] std::io::Error),
    /// It holds no certificates.
    #[error("SCHEMA_REGISTRY_CA_FILE {0} holds no PEM certificate")]
    NoCertificate(PathBuf),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] SRCError),
}

fn settings(
    config: &RegistryConfig,
    password: Option<&SecretString>,
) -> Result<SrSettings, RegistrySetupError> {
    let mut http = reqwest::Client::builder();
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| RegistrySetupError::CaFile(path.clone(), error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| RegistrySetupError::NoCertificate(path.clone()))?;
        http = http.tls_certs_merge(certificates);
    }
    let mut builder = SrSettings::new_builder(config.url.clone());
    builder.set_timeout(CALL_TIMEOUT);
    if let Some(username) = &config.username {
        builder.set_basic_authorization(username, password.map(ExposeSecret::expose_secret));
    }
    Ok(builder.build_with(http)?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Both maps are changed by single inserts: there is no half-made state to be afraid of.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The code of an error that the registry itself gave: an HTTP status, or one with two more digits.
fn code(error: &SRCError) -> Option<u32> {
    let raw = std::error::Error::source(error)?.downcast_ref::<RawError>()?;
    Some(raw.error_code)
}

/// The HTTP status of a code.
fn status(code: u32) -> u32 {
    if code >= 1000 { code / 100 } else { code }
}
