//! Makes things go wrong, and mends them.

use std::collections::HashMap;
use std::time::Duration;

use e2e::{Parts, Platform, Service, run_stack, signal};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use sqlx::PgPool;
use support::{Topics, stack};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::again;
use crate::disk::SmallDisk;
use crate::journal::{Journal, Struck};
use crate::plan::{Fault, Part, Replica, Step};
use crate::proxy::{Mode, Proxy};
use crate::receiver::Receiver;

/// A proxy before every part.
#[derive(Debug)]
pub struct Proxies(HashMap<Part, Proxy>);

impl Proxies {
    /// Starts them.
    ///
    /// # Panics
    /// When Kafka's, which has a port of its own, cannot have it.
    pub async fn start() -> Self {
        let any = "127.0.0.1:0";
        let registry = stack("SCHEMA_REGISTRY_URL");
        let mut proxies = HashMap::new();
        for (part, address, target) in [
            (
                Part::Kafka,
                stack("KAFKA_PROXY_ADDRESS"),
                stack("KAFKA_PROXIED_LISTENER"),
            ),
            (
                Part::Registry,
                any.to_owned(),
                host_and_port(&registry).to_owned(),
            ),
            (Part::Postgres, any.to_owned(), Parts::of_the_stack().postgres),
            (
                Part::Mail,
                any.to_owned(),
                format!("{}:{}", stack("SMTP_HOST"), stack("SMTP_PORT")),
            ),
        ] {
            proxies.insert(part, Proxy::start(&address, &target).await);
        }
        Self(proxies)
    }

    /// By which the services reach everything through them.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let address = |part| self.of(part).address();
        let registry = stack("SCHEMA_REGISTRY_URL");
        Parts {
            postgres: address(Part::Postgres).to_string(),
            kafka: address(Part::Kafka).to_string(),
            registry: registry.replace(host_and_port(&registry), &address(Part::Registry).to_string()),
            smtp_port: address(Part::Mail).port().to_string(),
        }
    }

    fn of(&self, part: Part) -> &Proxy {
        &self.0[&part]
    }
}

fn host_and_port(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// What the course of the parts works on.
#[derive(Debug)]
pub struct World {
    /// Between the services and the parts.
    pub proxies: Proxies,
    /// Postgres' disk, where one can be made.
    pub disk: Option<SmallDisk>,
    /// People's endpoints.
    pub receiver: Receiver,
    /// The topics.
    pub topics: Topics,
    /// The database, not by the proxy.
    pub admin: PgPool,
    /// Of the plan.
    pub seed: u64,
}

/// What strikes the services, until a moment of the journal at most.
///
/// # Panics
/// When a process does not do what it must.
pub async fn strike_services(platform: &mut Platform, steps: &[Step], journal: &Journal, until: Duration) {
    for step in steps {
        sleep(step.pause).await;
        if journal.at() > until {
            return;
        }
        let from = journal.at();
        match step.fault {
            Fault::Kill(replica, down) => {
                let service = running(platform, replica, journal);
                service.kill();
                sleep(down).await;
                service.start();
            }
            Fault::Freeze(replica, time) => {
                let service = running(platform, replica, journal);
                service.signal("STOP");
                sleep(time).await;
                service.signal("CONT");
            }
            Fault::Leave(replica, away) => {
                let service = running(platform, replica, journal);
                service.stop().await;
                sleep(away).await;
                service.start();
            }
            _ => unreachable!("a fault of the parts"),
        }
        note(journal, "services", step.fault, from);
    }
}

/// The replica; if it has ended by itself, which it must not, it is started again.
fn running<'a>(platform: &'a mut Platform, replica: Replica, journal: &Journal) -> &'a mut Service {
    let service = platform.replicas(replica.service).swap_remove(replica.number);
    mourn(service, journal);
    service
}

/// Starts a service again that has ended by itself, and says so.
pub fn mourn(service: &mut Service, journal: &Journal) {
    if let Some(status) = service.ended() {
        journal.finding(format!("{} ended by itself: {status}", service.name()));
        service.start();
    }
}

fn note(journal: &Journal, lane: &'static str, fault: Fault, from: Duration) {
    let until = journal.at();
    e2e::say(&format!(
        "{:6.1} s to {:6.1} s {fault}",
        from.as_secs_f64(),
        until.as_secs_f64()
    ));
    journal.struck(Struck {
        lane,
        kind: fault.kind(),
        text: fault.to_string(),
        from,
        until,
    });
}

/// What strikes the parts, until a moment of the journal at most: on a slow machine starting them takes longer than planned.
/// Returns how many records came again, and the world.
///
/// # Panics
/// When a part does not come back.
pub async fn strike_parts(
    world: World,
    steps: &[Step],
    journal: &Journal,
    until: Duration,
) -> (usize, World) {
    let mut random = StdRng::seed_from_u64(world.seed);
    let mut again = 0;
    let mut world = world;
    for step in steps {
        sleep(step.pause).await;
        if journal.at() > until {
            break;
        }
        let from = journal.at();
        match step.fault {
            Fault::Down { part, killed, away } => {
                let name = part.name();
                let how: &[&str] = if killed {
                    &["stop", name, "--kill"]
                } else {
                    &["stop", name]
                };
                tokio::task::block_in_place(|| run_stack(how));
                sleep(away).await;
                spawn_blocking(move || run_stack(&["start", name])).await.unwrap();
            }
            Fault::FullDisk(time) => {
                let Some(disk) = world.disk.take() else {
                    continue;
                };
                disk.fill();
                sleep(time).await;
                world.disk = Some(
                    spawn_blocking(move || {
                        disk.free();
                        disk
                    })
                    .await
                    .unwrap(),
                );
            }
            Fault::FreezeBackend(time) => freeze_backend(&world.admin, &mut random, time).await,
            Fault::Cut(part) => world.proxies.of(part).cut(),
            Fault::Refuse(part, time) => {
                let proxy = world.proxies.of(part);
                proxy.set(Mode::Refuse);
                sleep(time).await;
                proxy.set(Mode::Open);
            }
            Fault::Slow { part, by, lasting } => {
                let proxy = world.proxies.of(part);
                proxy.set(Mode::Slow(by));
                sleep(lasting).await;
                proxy.set(Mode::Open);
            }
            Fault::Hole(part, time) => {
                let proxy = world.proxies.of(part);
                proxy.set(Mode::Hole);
                sleep(time).await;
                // What was swallowed is lost, as when a machine is gone.
                proxy.cut();
                proxy.set(Mode::Open);
            }
            Fault::SickReceiver(time) => {
                world.receiver.set_sick(true);
                sleep(time).await;
                world.receiver.set_sick(false);
            }
            Fault::Again { records, forgotten } => {
                again += again::produce(&world.topics, &world.admin, &mut random, records, forgotten).await;
            }
            Fault::Kill(..) | Fault::Freeze(..) | Fault::Leave(..) => unreachable!("a fault of the services"),
        }
        note(journal, "parts", step.fault, from);
    }
    (again, world)
}

/// Freezes one of the processes by which Postgres serves the services.
async fn freeze_backend(admin: &PgPool, random: &mut StdRng, time: Duration) {
    let backends: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity
         where datname = current_database() and usename <> current_user order by backend_start, pid",
    )
    .fetch_all(admin)
    .await
    .unwrap();
    let Some(backend) = backends.choose(random).and_then(|pid| u32::try_from(*pid).ok()) else {
        return;
    };
    // Its client may have been killed in this moment, and it has ended.
    if std::panic::catch_unwind(|| signal(backend, "STOP")).is_ok() {
        sleep(time).await;
        signal(backend, "CONT");
    }
}
