//! An upgrade, and the way back; see docs/UPGRADING.md.

use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the binaries of another release: scripts/upgrade-rehearsal builds them"]
async fn a_release_replaces_another_and_goes_back_while_people_use_it_and_nothing_is_lost_or_doubled_or_early()
 {
    let before = PathBuf::from(std::env::var("UPGRADE_FROM").expect("UPGRADE_FROM is a folder of binaries"));
    let seed = match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("CHAOS_SEED is a number"),
        Err(_) => u64::from(rand::random::<u32>()),
    };
    let findings = chaos::upgrade::upgrade(&before, seed).await;
    assert!(findings.is_empty(), "CHAOS_SEED={seed}: {findings:#?}");
}
