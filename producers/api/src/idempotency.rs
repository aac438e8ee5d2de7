//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent again does not happen again.
//!
//! What a request did and the answer to it are written in one transaction. So there is no moment at which a crash leaves
//! one without the other: whoever got no answer sends the request again and gets the one there is, or the request is done
//! now. Refusals are not kept: nothing was done, and the same key may be used for the request as it should have been.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use db::sweep::BITE;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use uuid::Uuid;

use crate::App;
use crate::answer::Answer;
use crate::problem::{Kind, Problem};

/// The header of a request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const MAX_KEY_CHARS: usize = 255;

/// The largest answer that is kept; the table has the same bound.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How long a request waits for another one with its key before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses between two looks, which hold no connection meanwhile: from the time that a request takes to one that costs
/// nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// Database work on a connection of the caller's.
pub type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'c>>;

/// The key of a request, if it has one, and what tells the request from another.
#[derive(Debug, Default)]
pub struct IdempotencyKey(Option<Keyed>);

#[derive(Debug)]
struct Keyed {
    key: String,
    target: String,
    body: BodyDigest,
}

/// Where the body's extractor, which runs after this one, leaves what the body was.
#[derive(Debug, Clone, Default)]
pub struct BodyDigest(Arc<OnceLock<Vec<u8>>>);

impl BodyDigest {
    /// Notes the body of this request.
    pub fn note(&self, body: &[u8]) {
        self.0.get_or_init(|| digest(&SHA256, body).as_ref().to_vec());
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let detail = "Idempotency-Key must be 1 to 255 printable characters of ASCII, such as a UUID.";
        let Some(key) = parse(&parts.headers).map_err(|()| Problem::new(Kind::InvalidHeader, detail))? else {
            return Ok(Self(None));
        };
        let body = BodyDigest::default();
        parts.extensions.insert(body.clone());
        Ok(Self(Some(Keyed {
            key,
            target: format!(
                "{} {}",
                parts.method,
                parts.uri.path_and_query().map_or("", PathAndQuery::as_str)
            ),
            body,
        })))
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        // Without quotes, as clients send it; with them it is the same key.
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_KEY_CHARS))
            .pattern(Some("^[!#-~]([ -~]*[!-~])?$"));
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "Makes it safe to send the request again: it is done once, and answered again with \
                 `Idempotency-Replayed: true`.",
            ))
            .schema(Some(schema))
            .example(Some("8e03978e-40d5-43e8-bc93-6894a57f9324".into()));
        vec![parameter.build()]
    }
}

/// The key as the draft spells it, a string in quotes (RFC 9651 section 3.3.3), or as most clients do, without.
fn parse(headers: &HeaderMap) -> Result<Option<String>, ()> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // `to_str` lets tabs through, which are not printable.
    let text = value.to_str().map_err(|_| ())?.trim();
    let key = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(rest) => unescape(rest.strip_suffix('"').ok_or(())?)?,
    };
    let printable = key.chars().all(|c| matches!(c, ' '..='~'));
    if values.next().is_some() || !printable || !(1..=MAX_KEY_CHARS).contains(&key.len()) {
        return Err(());
    }
    Ok(Some(key))
}

fn unescape(quoted: &str) -> Result<String, ()> {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(|c| matches!(c, '"' | '\\')).ok_or(())?),
            '"' => return Err(()),
            c => text.push(c),
        }
    }
    Ok(text)
}

impl Keyed {
    /// Names the request: the same for the same method, path, query and body.
    fn fingerprint(&self) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        context.update(self.target.as_bytes());
        context.update(b"\0");
        if let Some(body) = self.body.0.get() {
            context.update(body);
        }
        context.finish().as_ref().to_vec()
    }
}

/// What came of trying to do a request.
enum Attempt<E> {
    /// It is done, now or before.
    Done(Answer),
    /// Another request with its key is under way. The effect comes back, for another attempt.
    InUse(E),
}

impl App {
    /// Runs database work in one transaction, to its end. What it returns is returned once it is committed.
    ///
    /// # Errors
    /// Those of the work, which is undone then; or that the database does not answer.
    pub async fn transaction<T, E>(&self, effect: E) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
    {
        self.database(async move |pool| {
            let mut tx = pool.begin().await?;
            let done = effect(&mut tx).await?;
            tx.commit().await?;
            Ok(done)
        })
        .await
    }

    /// Does what a POST asks for, in one transaction. If the request has a key, it is done once: a repetition gets the
    /// first one's answer, and waits for it if need be. Every POST of a person goes through here, unless its answer holds
    /// a secret, which is never kept.
    ///
    /// # Errors
    /// Those of the effect, which is undone then; that the key was used for another request, or is in use for longer than
    /// one waits; or that the database does not answer.
    pub async fn once<E>(&self, user_id: Uuid, key: IdempotencyKey, effect: E) -> Result<Answer, Problem>
    where
        E: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static,
    {
        match key.0 {
            None => self.transaction(effect).await,
            Some(keyed) => self.once_by_key(user_id, keyed, effect).await,
        }
    }

    /// The same for an effect that is a single statement, which needs no transaction around it without a key: one round
    /// trip instead of three.
    ///
    /// # Errors
    /// As [`App::once`].
    pub async fn once_by_one_statement<E>(
        &self,
        user_id: Uuid,
        key: IdempotencyKey,
        effect: E,
    ) -> Result<Answer, Problem>
    where
        E: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static,
    {
        match key.0 {
            None => {
                self.database(async move |pool| {
                    let mut connection = pool.acquire().await?;
                    effect(&mut connection).await
                })
                .await
            }
            Some(keyed) => self.once_by_key(user_id, keyed, effect).await,
        }
    }

    async fn once_by_key<E>(&self, user_id: Uuid, keyed: Keyed, mut effect: E) -> Result<Answer, Problem>
    where
        E: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static,
    {
        let (key, fingerprint) = (Arc::<str>::from(keyed.key.as_str()), keyed.fingerprint());
        let started = Instant::now();
        let (mut pause, longest) = PAUSES;
        loop {
            let (key, fingerprint) = (key.clone(), fingerprint.clone());
            let attempt =
                self.database(async move |pool| attempt(&pool, user_id, &key, &fingerprint, effect).await);
            match attempt.await? {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::InUse(again) => effect = again,
            }
            if started.elapsed() >= PATIENCE {
                let detail = "A request with this Idempotency-Key is still being worked on: send this one again shortly.";
                return Err(Problem::new(Kind::IdempotencyKeyInUse, detail));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

async fn attempt<E>(
    pool: &PgPool,
    user_id: Uuid,
    key: &str,
    fingerprint: &[u8],
    effect: E,
) -> Result<Attempt<E>, Problem>
where
    E: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static,
{
    let mut tx = pool.begin().await?;
    // Not the row's own lock, which one would have to wait for with a connection in hand: two hundred that wait would be
    // all connections there are. It is released after the commit is visible, so whoever has it next finds the answer.
    let ours: bool = sqlx::query_scalar(
        "select pg_try_advisory_xact_lock(hashtextextended('idempotency ' || $1::text || ' ' || $2, 0))",
    )
    .bind(user_id)
    .bind(key)
    .fetch_one(&mut *tx)
    .await?;
    if let Some((theirs, answer)) = find(&mut tx, user_id, key).await? {
        if theirs != fingerprint {
            let detail =
                "This Idempotency-Key was used for another request: make a new one for each new request.";
            return Err(Problem::new(Kind::IdempotencyKeyReused, detail));
        }
        return Ok(Attempt::Done(
            answer.with(REPLAYED, HeaderValue::from_static("true")),
        ));
    }
    if !ours {
        return Ok(Attempt::InUse(effect));
    }
    let answer = effect(&mut tx).await?;
    keep(&mut tx, user_id, key, fingerprint, &answer).await?;
    tx.commit().await?;
    Ok(Attempt::Done(answer))
}

async fn find(tx: &mut PgConnection, user_id: Uuid, key: &str) -> Result<Option<(Vec<u8>, Answer)>, Problem> {
    let row = sqlx::query(
        "select fingerprint, status, headers, body from api.idempotency_keys where user_id = $1 and key = $2",
    )
    .bind(user_id)
    .bind(key)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let status: i16 = row.try_get("status")?;
    let Json(headers): Json<Vec<(String, String)>> = row.try_get("headers")?;
    let body: Vec<u8> = row.try_get("body")?;
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let answer = Answer {
        status: status.unwrap_or(StatusCode::OK),
        headers: headers
            .into_iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect(),
        body: body.into(),
    };
    Ok(Some((row.try_get("fingerprint")?, answer)))
}

async fn keep(
    tx: &mut PgConnection,
    user_id: Uuid,
    key: &str,
    fingerprint: &[u8],
    answer: &Answer,
) -> Result<(), Problem> {
    if answer.body.len() > MAX_ANSWER_BYTES {
        let detail = "The answer would be larger than the 1 MiB that is kept for an Idempotency-Key: ask for less at once.";
        return Err(Problem::new(Kind::BodyTooLarge, detail));
    }
    let headers: Vec<(&str, &str)> = answer
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    sqlx::query(
        "insert into api.idempotency_keys (user_id, key, fingerprint, status, headers, body)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user_id)
    .bind(key)
    .bind(fingerprint)
    .bind(i16::try_from(answer.status.as_u16()).unwrap_or_default())
    .bind(Json(headers))
    .bind(answer.body.as_ref())
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets at most [`BITE`] answers that are older than `ttl`; says how many.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn sweep(pool: &PgPool, ttl: Duration) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "delete from api.idempotency_keys where (user_id, key) in (
             select user_id, key from api.idempotency_keys where created_at < now() - make_interval(secs => $1)
             order by created_at limit $2)",
    )
    .bind(ttl.as_secs_f64())
    .bind(i64::try_from(BITE).unwrap_or(i64::MAX))
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &[u8]) -> Result<Option<String>, ()> {
        parse(&HeaderMap::from_iter([(
            IDEMPOTENCY_KEY,
            HeaderValue::from_bytes(value).unwrap(),
        )]))
    }

    #[test]
    fn a_key_is_taken_with_and_without_the_quotes_of_a_structured_field() {
        let long = "k".repeat(MAX_KEY_CHARS);
        for (value, expected) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            ("  abc ", "abc"),
            ("a b", "a b"),
            ("\"a\\\"b\\\\c\"", "a\"b\\c"),
            (
                "8e03978e-40d5-43e8-bc93-6894a57f9324",
                "8e03978e-40d5-43e8-bc93-6894a57f9324",
            ),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(key(value.as_bytes()), Ok(Some(expected.to_owned())), "{value}");
        }
        assert_eq!(parse(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "k".repeat(MAX_KEY_CHARS + 1);
        for value in [
            "",
            " ",
            "\"\"",
            "\"abc",
            "\"a\"b\"",
            "\"a\\b\"",
            "a\tb",
            "\u{e4}",
            long.as_str(),
        ] {
            assert_eq!(key(value.as_bytes()), Err(()), "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert_eq!(parse(&twice), Err(()));
    }

    #[test]
    fn a_request_is_known_by_its_method_path_query_and_body() {
        let fingerprint = |target: &str, body: Option<&[u8]>| {
            let keyed = Keyed {
                key: "k".to_owned(),
                target: target.to_owned(),
                body: BodyDigest::default(),
            };
            if let Some(body) = body {
                keyed.body.note(body);
            }
            keyed.fingerprint()
        };
        let all = [
            fingerprint("POST /a", None),
            fingerprint("POST /a", Some(b"")),
            fingerprint("POST /a", Some(b"{}")),
            fingerprint("POST /a", Some(b"{ }")),
            fingerprint("POST /a?b", Some(b"{}")),
            fingerprint("PUT /a", Some(b"{}")),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(fingerprint("POST /a", Some(b"{}")), all[2]);
    }
}
