//! Everything goes wrong under load; see the README.
#![expect(clippy::expect_used, reason = "tests")]

use std::time::Duration;

/// Of the short form, which is a part of `scripts/test`.
const SECONDS: u64 = 120;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("CHAOS_SEED and CHAOS_SECONDS are numbers"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_nothing_is_lost_or_doubled_or_early() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let lasting = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SECONDS));
    chaos::start_parts();
    let findings = chaos::run(seed, lasting).await;
    assert!(findings.is_empty(), "CHAOS_SEED={seed}: {findings:#?}");
}
