use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Endpoint, Env, LogFormat, Sampling, ServiceConfig, load_from};

fn problems<T>(pairs: &[(&str, &str)], read: impl FnOnce(&mut Env) -> Option<T>) -> Vec<String> {
    let problems = load_from(Env::from_pairs(pairs.iter().copied()), read)
        .err()
        .expect("there are problems");
    problems.lines().to_vec()
}

fn value<T>(pairs: &[(&str, &str)], read: impl FnOnce(&mut Env) -> Option<T>) -> T {
    load_from(Env::from_pairs(pairs.iter().copied()), read).expect("there are no problems")
}

/// A file that is there for the length of one test.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(test: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("carillon-{}-{test}", std::process::id()));
        std::fs::write(&path, content).expect("the temporary folder can be written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn all_problems_are_reported_at_once_one_per_line() {
    let error = load_from(Env::from_pairs([("BATCH", "many"), ("MODE", "maybe")]), |env| {
        let topic = env.required::<String>("TOPIC");
        let batch = env.within("BATCH", 100, 1..=1000);
        let mode = env.one_of("MODE", &[("on", true), ("off", false)], true);
        Some((topic?, batch?, mode?))
    })
    .expect_err("nothing of it is valid");
    assert_eq!(
        error.to_string(),
        "TOPIC is missing: it is required and has no default\n\
         BATCH is \"many\": accepted are numbers from 1 to 1000\n\
         MODE is \"maybe\": accepted are on, off"
    );
}

#[test]
fn a_value_that_is_set_wins_over_its_default() {
    assert_eq!(value(&[("PORT", "81")], |env| env.or("PORT", 80u16)), 81);
    assert_eq!(value(&[], |env| env.or("PORT", 80u16)), 80);
}

#[test]
fn a_blank_value_counts_as_missing() {
    assert_eq!(value(&[("PORT", "  ")], |env| env.or("PORT", 80u16)), 80);
    assert_eq!(
        problems(&[("NAME", "")], |env| env.required::<String>("NAME")).len(),
        1
    );
}

#[test]
fn white_space_around_a_value_is_ignored() {
    assert_eq!(value(&[("PORT", " 81\n")], |env| env.or("PORT", 80u16)), 81);
}

#[test]
fn an_optional_value_that_is_not_valid_is_a_problem_and_not_an_absence() {
    assert_eq!(value(&[], |env| env.optional::<u16>("PORT")), None);
    let lines = problems(&[("PORT", "x")], |env| env.optional::<u16>("PORT"));
    assert_eq!(lines, ["PORT is \"x\": invalid digit found in string"]);
}

#[test]
fn both_bounds_of_a_range_are_accepted() {
    let read = |env: &mut Env| env.within("N", 5, 1..=10);
    assert_eq!(value(&[("N", "1")], read), 1);
    assert_eq!(value(&[("N", "10")], read), 10);
    assert_eq!(
        problems(&[("N", "11")], read),
        ["N is \"11\": accepted are numbers from 1 to 10"]
    );
}

#[test]
fn durations_are_whole_numbers_of_their_unit() {
    let second = Duration::from_secs(1);
    let milliseconds = |env: &mut Env| env.duration_ms("WAIT_MS", second, second / 10..=second * 60);
    assert_eq!(
        value(&[("WAIT_MS", "250")], milliseconds),
        Duration::from_millis(250)
    );
    assert_eq!(value(&[], milliseconds), second);
    assert_eq!(
        problems(&[("WAIT_MS", "1s")], milliseconds),
        ["WAIT_MS is \"1s\": accepted are numbers from 100 to 60000"]
    );
    let seconds = |env: &mut Env| env.duration_seconds("WAIT_SECONDS", second, second..=second * 60);
    assert_eq!(value(&[("WAIT_SECONDS", "30")], seconds), Duration::from_secs(30));
}

#[test]
fn words_are_compared_without_regard_to_case() {
    let read = |env: &mut Env| env.one_of("MODE", &[("on", true), ("off", false)], true);
    assert!(!value(&[("MODE", "OFF")], read));
}

#[test]
fn a_secret_comes_from_its_variable_or_from_a_file_less_one_newline() {
    let file = SecretFile::new("newline", " hush \n\n");
    let read = |env: &mut Env| env.secret("TOKEN");
    assert_eq!(value(&[("TOKEN", " hush ")], read).expose_secret(), " hush ");
    assert_eq!(
        value(&[("TOKEN_FILE", file.path())], read).expose_secret(),
        " hush \n"
    );
}

#[test]
fn a_secret_in_a_file_is_what_the_file_holds_now_and_while_it_holds_nothing_what_it_held_before() {
    let file = SecretFile::new("changing", "first\n");
    let secret = value(&[("TOKEN_FILE", file.path())], |env| env.changing_secret("TOKEN"));
    let first = secret.current();
    assert_eq!(first.expose_secret(), "first");
    assert!(!secret.differs_from(&first));
    std::fs::write(file.path(), "second\n").unwrap();
    assert!(secret.differs_from(&first));
    assert_eq!(secret.current().expose_secret(), "second");
    std::fs::write(file.path(), "\n").unwrap();
    assert_eq!(secret.current().expose_secret(), "second");
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(secret.current().expose_secret(), "second");
    assert!(!format!("{secret:?}").contains("second"));
    // One of a variable stays.
    let fixed = value(&[("TOKEN", "hush")], |env| env.changing_secret("TOKEN"));
    assert!(!fixed.may_change() && !fixed.differs_from(&first));
    assert!(!format!("{fixed:?}").contains("hush"));
}

#[test]
fn a_secret_given_twice_is_a_problem_that_does_not_tell_it() {
    let pairs = [("TOKEN", "hush"), ("TOKEN_FILE", "/nowhere")];
    let lines = problems(&pairs, |env| env.optional_secret("TOKEN"));
    assert_eq!(lines, ["TOKEN and TOKEN_FILE are both set: accepted is one"]);
}

#[test]
fn a_secret_file_that_is_absent_or_empty_is_a_problem() {
    let read = |env: &mut Env| env.secret("TOKEN");
    let lines = problems(&[("TOKEN_FILE", "/nowhere/token")], read);
    assert!(
        lines[0].starts_with("TOKEN_FILE names \"/nowhere/token\", which cannot be read: "),
        "{lines:?}"
    );
    let file = SecretFile::new("empty", "\n");
    let lines = problems(&[("TOKEN_FILE", file.path())], read);
    assert!(lines[0].ends_with("which is empty"), "{lines:?}");
}

#[test]
fn a_missing_secret_says_both_ways_to_give_it() {
    let lines = problems(&[], |env| env.secret("TOKEN"));
    assert_eq!(
        lines,
        ["TOKEN is missing: set it, or TOKEN_FILE to a file that holds it"]
    );
    assert!(value(&[], |env| env.optional_secret("TOKEN")).is_none());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let env = Env::from_pairs([("TOKEN", "hush")]);
    assert!(!format!("{env:?}").contains("hush"));
    let secret: SecretString = value(&[("TOKEN", "hush")], |env| env.secret("TOKEN"));
    assert!(!format!("{secret:?}").contains("hush"));
}

#[test]
fn a_rejected_value_fails_the_load_even_if_a_configuration_was_built() {
    let lines = problems(&[], |env| {
        env.reject("LEASE_SECONDS", "must be above SEND_TIMEOUT_SECONDS");
        Some(())
    });
    assert_eq!(lines, ["LEASE_SECONDS must be above SEND_TIMEOUT_SECONDS"]);
}

#[test]
fn a_problem_met_twice_is_reported_once() {
    let lines = problems(&[], |env| {
        let first = env.required::<String>("NAME");
        first.or_else(|| env.required::<String>("NAME"))
    });
    assert_eq!(lines.len(), 1);
}

#[test]
fn a_flag_nobody_asks_for_is_a_problem() {
    let env = || Env::from_pairs([("A", "1")]).with_flags(["--once"]);
    assert!(
        load_from(env(), |env| Some(env.flag("--once") && env.flag("--once"))).expect("the flag is known")
    );
    let error = load_from(env(), |env| Some(env.flag("--twice"))).expect_err("the flag is not known");
    assert_eq!(error.to_string(), "--once is not a flag of this command");
}

#[test]
fn a_service_needs_no_variables_of_its_own() {
    let config = value(&[], |env| ServiceConfig::from_env(env, 8002));
    assert_eq!(config.http_bind, "0.0.0.0:8002".parse().expect("an address"));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(format!("{:?}", config.log_filter), "\"info\"");
    assert_eq!(config.shutdown_budget, Duration::from_secs(20));
    assert_eq!(config.worker_threads, 2);
    assert_eq!(config.traces.endpoint, None);
    assert_eq!(config.traces.sampling, Sampling::Always);
}

#[test]
fn a_service_reads_its_variables() {
    let pairs = [
        ("HTTP_HOST", "::1"),
        ("HTTP_PORT", "9000"),
        ("LOG_FORMAT", "text"),
        ("RUST_LOG", "info,sqlx=warn"),
        ("SHUTDOWN_BUDGET_SECONDS", "30"),
        ("WORKER_THREADS", "8"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ];
    let config = value(&pairs, |env| ServiceConfig::from_env(env, 8002));
    assert_eq!(config.http_bind, "[::1]:9000".parse().expect("an address"));
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.log_filter.to_env_filter().to_string(), "sqlx=warn,info");
    assert_eq!(config.shutdown_budget, Duration::from_secs(30));
    assert_eq!(config.worker_threads, 8);
    let endpoint = config.traces.endpoint.expect("it is set");
    assert_eq!(endpoint.traces(), "http://collector:4318/v1/traces");
    assert_eq!(config.traces.sampling, Sampling::Ratio(0.25));
}

#[test]
fn every_variable_of_a_service_is_checked() {
    let pairs = [
        ("HTTP_HOST", "localhost"),
        ("HTTP_PORT", "99999"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "info,sqlx=loud"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("SHUTDOWN_BUDGET_SECONDS", "5"),
        ("WORKER_THREADS", "0"),
    ];
    let lines = problems(&pairs, |env| ServiceConfig::from_env(env, 8002));
    let named: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(named, pairs.map(|(name, _)| name), "{lines:?}");
}

#[test]
fn a_collector_is_a_url_that_may_stand_in_the_log() {
    for endpoint in ["https://collector.example/otlp", "http://[::1]:4318"] {
        assert!(endpoint.parse::<Endpoint>().is_ok(), "{endpoint}");
    }
    for endpoint in [
        "collector",
        "grpc://collector:4317",
        "http://me:secret@collector",
        "http://collector/?key=secret",
    ] {
        assert!(endpoint.parse::<Endpoint>().is_err(), "{endpoint}");
    }
}

#[test]
fn what_a_collector_asks_for_is_a_secret_of_names_and_values() {
    let pairs = [(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20hush, x-scope=a=b",
    )];
    let config = value(&pairs, |env| ServiceConfig::from_env(env, 8002));
    let headers = config.traces.header_pairs();
    assert_eq!(headers["authorization"], "Bearer%20hush");
    assert_eq!((headers["x-scope"].as_str(), headers.len()), ("a=b", 2));
    assert!(!format!("{config:?}").contains("hush"));
    for wrong in ["hush", "=hush", "a b=hush", "x=hush\n,y"] {
        let pairs = [("OTEL_EXPORTER_OTLP_HEADERS", wrong)];
        let lines = problems(&pairs, |env| ServiceConfig::from_env(env, 8002));
        assert_eq!(
            lines,
            ["OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs with commas between"]
        );
    }
}
