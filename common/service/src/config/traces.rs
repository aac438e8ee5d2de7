use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret, SecretString};

use super::Env;

/// Where traces go. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_BSP_…` are read by OpenTelemetry itself.
#[derive(Debug, Clone, Default)]
pub struct TracesConfig {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector, by OTLP over HTTP. Without one nothing is exported.
    pub endpoint: Option<Endpoint>,
    /// `OTEL_EXPORTER_OTLP_HEADERS`, or the file that `OTEL_EXPORTER_OTLP_HEADERS_FILE` names: what the collector asks for, as
    /// `name=value,name=value`, the values percent-encoded. A secret.
    pub headers: Option<SecretString>,
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`: which of the traces that begin here are exported. Others'
    /// traces are when whoever began them said so.
    pub sampling: Sampling,
}

impl TracesConfig {
    /// Reads the variables named at the fields.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let endpoint = env.optional("OTEL_EXPORTER_OTLP_ENDPOINT");
        let headers = env.optional_secret("OTEL_EXPORTER_OTLP_HEADERS");
        let ratio = env.within("OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0..=1.0);
        let sampling = env.one_of(
            "OTEL_TRACES_SAMPLER",
            &[
                ("parentbased_always_on", Sampling::Always),
                ("parentbased_always_off", Sampling::Never),
                (
                    "parentbased_traceidratio",
                    Sampling::Ratio(ratio.unwrap_or_default()),
                ),
            ],
            Sampling::Always,
        );
        if let Some(Some(headers)) = &headers
            && pairs(headers).is_none()
        {
            env.reject(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "must be name=value pairs with commas between",
            );
        }
        ratio?;
        Some(Self {
            endpoint: endpoint?,
            headers: headers?,
            sampling: sampling?,
        })
    }
}

impl TracesConfig {
    /// What is sent along with traces, still percent-encoded.
    pub(crate) fn header_pairs(&self) -> HashMap<String, String> {
        self.headers.as_ref().and_then(pairs).unwrap_or_default()
    }
}

fn pairs(headers: &SecretString) -> Option<HashMap<String, String>> {
    let pairs = headers.expose_secret().split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        let usable = HeaderName::try_from(&name).is_ok() && HeaderValue::try_from(&value).is_ok();
        usable.then_some((name, value))
    });
    pairs.collect()
}

/// Which of the traces that begin here are exported.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sampling {
    /// All.
    #[default]
    Always,
    /// None.
    Never,
    /// This part of them, chosen by their ids.
    Ratio(f64),
}

/// A collector's URL, known to be one.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Where it takes traces.
    pub(crate) fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ACCEPTED: &str =
            "accepted is an http or https URL such as http://collector:4318, without a user in it";
        let uri: Uri = text.parse().map_err(|_| ACCEPTED)?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(ACCEPTED);
        };
        // The log shows it.
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(ACCEPTED);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}
