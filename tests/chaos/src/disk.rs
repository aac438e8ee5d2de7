//! A disk of Postgres' own that can be made full.

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::Command;

use e2e::{run_stack, say};

/// The data of the stack's Postgres, on a file system in memory. Dropping it brings them back to where they were.
#[derive(Debug)]
pub struct SmallDisk {
    data: PathBuf,
}

/// Far more than a run needs.
const ROOMY: &str = "6g";

impl SmallDisk {
    /// Moves the data there. Where no file system may be mounted there is none, and that is said.
    ///
    /// # Panics
    /// When Postgres does not come back.
    #[must_use]
    pub fn make() -> Option<Self> {
        let name = std::env::var("CARILLON_STACK").unwrap_or_else(|_| "dev".to_owned());
        let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../.stack")
            .join(name)
            .join("postgres");
        let home = home.canonicalize().unwrap();
        let (data, kept) = (home.join("data"), home.join("data.kept"));
        // As a test that was killed has left it.
        if run("mountpoint", &["-q", text(&data)]).is_ok() {
            return Some(Self { data });
        }
        run_stack(&["stop", "postgres"]);
        std::fs::rename(&data, &kept).unwrap();
        std::fs::create_dir(&data).unwrap();
        let mounted = run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={ROOMY}"),
                "tmpfs",
                text(&data),
            ],
        );
        if let Err(why) = mounted {
            std::fs::remove_dir(&data).unwrap();
            std::fs::rename(&kept, &data).unwrap();
            run_stack(&["start", "postgres"]);
            say(&format!(
                "SKIPPED full disks: no file system can be mounted here: {why}"
            ));
            return None;
        }
        run("cp", &["-a", &format!("{}/.", text(&kept)), text(&data)]).unwrap();
        run_stack(&["start", "postgres"]);
        Some(Self { data })
    }

    /// From now on there is no room for a byte more.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn fill(&self) {
        // Whoever writes meanwhile makes the number too small, which is refused.
        for _ in 0..100 {
            let used = run("df", &["-B1", "--output=used", text(&self.data)]).unwrap();
            let used = used.lines().last().unwrap_or_default().trim().to_owned();
            if self.resize(&used).is_ok() {
                return;
            }
        }
        panic!("the disk cannot be made small");
    }

    /// There is room again, and Postgres runs.
    ///
    /// # Panics
    /// When Postgres does not come back.
    pub fn free(&self) {
        self.resize(ROOMY).unwrap();
        // It has given up if there was no room for its log.
        run_stack(&["start", "postgres"]);
    }

    fn resize(&self, bytes: &str) -> Result<String, String> {
        run(
            "mount",
            &["-o", &format!("remount,size={bytes}"), text(&self.data)],
        )
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The run may be breaking off.
        if catch_unwind(|| self.back()).is_err() {
            say(&format!("{} is still in memory", self.data.display()));
        }
    }
}

impl SmallDisk {
    fn back(&self) {
        self.resize(ROOMY).unwrap();
        run_stack(&["stop", "postgres"]);
        let kept = self.data.with_file_name("data.kept");
        std::fs::remove_dir_all(&kept).ok();
        run("cp", &["-a", text(&self.data), text(&kept)]).unwrap();
        run("umount", &[text(&self.data)]).unwrap();
        std::fs::remove_dir(&self.data).unwrap();
        std::fs::rename(&kept, &self.data).unwrap();
        run_stack(&["start", "postgres"]);
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a program. What it printed, or what it complained of.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{program} {arguments:?}: {} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
