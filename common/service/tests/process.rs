//! `service::run` seen from outside: exit codes, signals and output of a process.

#![expect(clippy::expect_used, reason = "what tests share may panic as tests do")]

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// The example is built with the tests unless a single target was asked for.
fn example() -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("the test has a path");
    path.pop();
    path.pop();
    path.extend(["examples", "idle"]);
    assert!(
        path.exists(),
        "{} is missing: cargo build -p service --examples",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().expect("the example starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// A process of the example, and what it wrote so far.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    seen: Vec<Value>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut running = Self::spawn(arguments);
        running.wait_for("listening for HTTP");
        running
    }

    fn spawn(arguments: &[&str]) -> Self {
        let variables = [
            ("HTTP_HOST", "127.0.0.1"),
            ("HTTP_PORT", "0"),
            ("PASSWORD", "hush"),
        ];
        let mut child = example()
            .args(arguments)
            .envs(variables)
            .spawn()
            .expect("the example starts");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        Self {
            child,
            stdout,
            seen: Vec::new(),
        }
    }

    fn wait_for(&mut self, message: &str) -> Value {
        for line in self.stdout.by_ref() {
            let line = line.expect("text");
            assert!(!line.contains("hush"), "a secret is in the log: {line}");
            let line: Value = serde_json::from_str(&line).expect("each line is JSON");
            self.seen.push(line.clone());
            if line["message"] == message {
                return line;
            }
        }
        panic!("the log ended without {message:?}: {:?}", self.seen);
    }

    fn port(&self) -> String {
        let address = self
            .seen
            .last()
            .and_then(|line| line["address"].as_str())
            .expect("an address");
        address.rsplit(':').next().expect("a port").to_owned()
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .expect("a shell")
                .success()
        );
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("the process ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn version_and_help_need_no_configuration() {
    let (done, stdout, _) = output(example().arg("--version"));
    assert!(done.status.success());
    assert_eq!(stdout, format!("idle {}\n", env!("CARGO_PKG_VERSION")));
    let (done, stdout, _) = output(example().arg("--help"));
    assert!(done.status.success());
    assert!(stdout.contains("environment"), "{stdout}");
}

#[test]
fn a_wrong_configuration_lists_every_problem_and_exits_with_78() {
    let (done, stdout, stderr) = output(
        example()
            .arg("--twice")
            .envs([("HTTP_PORT", "x"), ("RUST_LOG", "a=b=c")]),
    );
    assert_eq!(done.status.code(), Some(78));
    assert_eq!(stdout, "");
    for name in ["HTTP_PORT", "RUST_LOG", "PASSWORD", "--twice"] {
        assert!(
            stderr.lines().any(|line| line.starts_with(name)),
            "{name} is not in:\n{stderr}"
        );
    }
}

#[test]
fn an_unknown_command_exits_with_64() {
    let (done, ..) = output(example().arg("start"));
    assert_eq!(done.status.code(), Some(64));
}

#[test]
fn a_port_in_use_ends_the_process_with_an_error_that_names_it() {
    let running = Running::start(&[]);
    let port = running.port();
    let variables = [
        ("HTTP_HOST", "127.0.0.1"),
        ("HTTP_PORT", &port),
        ("PASSWORD", "hush"),
    ];
    let (done, stdout, _) = output(example().envs(variables));
    assert_eq!(done.status.code(), Some(1));
    let last: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["error"]
            .as_str()
            .expect("text")
            .contains(&format!("127.0.0.1:{port}")),
        "{last}"
    );
}

#[test]
fn a_healthcheck_asks_the_service_that_runs() {
    let mut running = Running::start(&[]);
    let port = running.port();
    let variables = [("HTTP_PORT", port.as_str()), ("PASSWORD", "hush")];
    let (done, ..) = output(example().arg("healthcheck").envs(variables));
    assert!(done.status.success());
    running.signal("TERM");
    running.exit_code();
    let (done, _, stderr) = output(example().arg("healthcheck").envs(variables));
    assert_eq!(done.status.code(), Some(1), "{stderr}");
}

#[test]
fn either_signal_stops_the_service_in_order() {
    for signal in ["TERM", "INT"] {
        let mut running = Running::start(&[]);
        running.signal(signal);
        running.wait_for("stopped");
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_a_service_that_hangs_at_once() {
    let mut running = Running::start(&["--stubborn"]);
    running.signal("TERM");
    running.wait_for("stop requested");
    running.signal("INT");
    assert_eq!(running.exit_code(), Some(130));
}

#[test]
fn a_task_that_panics_is_one_line_of_the_log_and_stops_the_process() {
    let mut running = Running::spawn(&["--panic"]);
    let line = running.wait_for("panicked: on purpose");
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["panic.location"].as_str().expect("text").contains("idle.rs"),
        "{line}"
    );
    let line = running.wait_for("stopped by a failure");
    assert!(
        line["error"]
            .as_str()
            .expect("text")
            .starts_with("task idle failed: "),
        "{line}"
    );
    assert_eq!(running.exit_code(), Some(1));
}

#[test]
fn an_idle_service_is_small() {
    let running = Running::start(&[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).expect("Linux");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 25 * 1024, "{kib} KiB");
}
