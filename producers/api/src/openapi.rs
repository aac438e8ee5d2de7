//! The description of the API (OpenAPI 3.1). What is particular to an operation stands at its handler; what follows from
//! its shape (a body can be too large, an id unknown) is added here, so that no handler forgets it.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Header, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{OpenApi, PartialSchema};

use crate::problem::ProblemDocument;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Carillon",
        description = "Tasks, reminders and recurrence. Every refusal is a problem document (RFC 9457) with a stable `type`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "Accounts", description = "Getting an account and tokens"),
        (name = "Tasks", description = "A person's tasks"),
        (name = "Reminders", description = "When they ring, and putting them off"),
        (name = "Tags", description = "What a person's tasks are tagged with"),
        (name = "Recurring tasks", description = "Tasks that come again"),
        (name = "Templates", description = "What tasks are made from"),
        (name = "Notifications", description = "How a person wants to be told, and the list in the page"),
        (name = "Webhooks", description = "Being told of it"),
        (name = "History", description = "What happened to them"),
    ),
)]
struct Description;

/// The description before any operation is in it.
pub fn base() -> utoipa::openapi::OpenApi {
    let mut api = Description::openapi();
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An access token from /api/auth/login."))
        .build();
    components
        .security_schemes
        .insert("bearer".to_owned(), SecurityScheme::Http(bearer).into());
    for (status, name, description) in REFUSALS {
        components
            .responses
            .insert((*name).to_owned(), refusal(*status, description).into());
    }
    api
}

/// The refusals that follow from what an operation takes.
const REFUSALS: &[(u16, &str, &str)] = &[
    (400, "BadRequest", "The request cannot be read"),
    (401, "Unauthorized", "There is no good access token"),
    (403, "Forbidden", "The token does not reach so far"),
    (
        404,
        "NotFound",
        "There is no such thing, or it is another person's",
    ),
    (408, "RequestTimeout", "The body did not arrive in time"),
    (409, "Conflict", "It cannot be done as things stand"),
    (412, "PreconditionFailed", "It has changed in the meantime"),
    (413, "ContentTooLarge", "The body is too large"),
    (414, "UriTooLong", "The URL is too long"),
    (415, "UnsupportedMediaType", "The body is not sent as JSON"),
    (
        422,
        "UnprocessableContent",
        "Fields are wrong; `errors` names all of them",
    ),
    (429, "TooManyRequests", "Too many requests"),
    (500, "InternalServerError", "A fault of ours"),
    (503, "ServiceUnavailable", "Not now"),
];

fn refusal(status: u16, description: &str) -> Response {
    let schema = Ref::from_schema_name("ProblemDetails");
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(schema)));
    if matches!(status, 429 | 503) {
        let header = HeaderBuilder::new()
            .description(Some("Seconds to wait before trying again"))
            .build();
        response = response.header("Retry-After", header);
    }
    response.build()
}

/// Adds to every operation what its shape brings with it: refusals, conditions, headers.
pub fn complete(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for (path, item) in &mut api.paths.paths {
        if let Some(get) = &mut item.get {
            make_conditional(get);
        }
        for operation in operations(item) {
            if takes(operation, "Prefer") {
                allow_no_body(operation);
            }
            if path.starts_with("/api/") {
                add_limits(operation.responses.responses.values_mut());
            }
        }
        for operation in operations(item) {
            for status in refusals_of(path, operation) {
                let known = REFUSALS.iter().find(|(known, ..)| *known == status);
                let Some((_, name, _)) = known else { continue };
                operation
                    .responses
                    .responses
                    .entry(status.to_string())
                    .or_insert_with(|| RefOr::Ref(Ref::from_response_name(*name)));
            }
        }
    }
    if let Some(components) = &mut api.components {
        add_limits(components.responses.values_mut());
    }
    api
}

/// What a GET answers can be had once and asked for again (`middleware::not_modified`).
fn make_conditional(get: &mut Operation) {
    let responses = &mut get.responses.responses;
    let Some(RefOr::T(found)) = responses.get_mut("200") else {
        return;
    };
    let tag = header("Names the answer");
    found
        .headers
        .entry("ETag".to_owned())
        .or_insert_with(|| tag.clone().into());
    let same = ResponseBuilder::new()
        .description("It is what If-None-Match names")
        .header("ETag", tag)
        .build();
    responses.insert("304".to_owned(), same.into());
    let parameter = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .description(Some("Answer 304 if this ETag is still that of the answer."))
        .schema(Some(String::schema()))
        .example(Some("\"3\"".into()))
        .build();
    get.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

/// What is left of an answer for `Prefer: return=minimal`.
fn allow_no_body(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let Some(RefOr::T(done)) = responses.get("200") else {
        return;
    };
    let mut minimal = Response::new("It is done; no body was preferred");
    minimal.headers.clone_from(&done.headers);
    minimal
        .headers
        .insert("Preference-Applied".to_owned(), header("return=minimal").into());
    responses.insert("204".to_owned(), minimal.into());
}

/// How things stand (`rate_limit::enforce`), in every answer.
fn add_limits<'a>(responses: impl Iterator<Item = &'a mut RefOr<Response>>) {
    for response in responses {
        if let RefOr::T(response) = response {
            for (name, description) in [
                ("RateLimit", "What is left, by limit, and when it is full again"),
                ("RateLimit-Policy", "What there is at most, by limit"),
            ] {
                response
                    .headers
                    .insert(name.to_owned(), header(description).into());
            }
        }
    }
}

fn header(description: &str) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(String::schema()))
        .build()
}

fn takes(operation: &Operation, name: &str) -> bool {
    takes_what(operation, |parameter| parameter.name == name)
}

fn takes_what(operation: &Operation, wanted: impl Fn(&Parameter) -> bool) -> bool {
    operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| match parameter {
            RefOr::T(parameter) => wanted(parameter),
            RefOr::Ref(_) => false,
        })
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn refusals_of(path: &str, operation: &Operation) -> Vec<u16> {
    let mut statuses = vec![414, 429, 500, 503];
    if operation.security.is_some() {
        statuses.extend([401, 403]);
    }
    if operation.request_body.is_some() {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    if path.contains('{') {
        statuses.push(404);
    }
    if takes_what(operation, |parameter| {
        parameter.parameter_in == ParameterIn::Query
    }) {
        statuses.push(400);
    }
    if takes(operation, "If-Match") {
        statuses.extend([400, 412]);
    }
    if takes(operation, "Idempotency-Key") {
        statuses.extend([400, 409, 413, 422]);
    }
    statuses
}
