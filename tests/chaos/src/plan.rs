//! What goes wrong and when, all of it from one seed.

use std::fmt;
use std::time::Duration;

use e2e::SERVICES;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// What the services stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The broker.
    Kafka,
    /// The schema registry.
    Registry,
    /// The database.
    Postgres,
    /// The mail server.
    Mail,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Registry, Self::Postgres, Self::Mail];

    /// As `scripts/stack` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Mail => "mail",
        }
    }
}

/// One of the two processes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The service.
    pub service: &'static str,
    /// Which one.
    pub number: usize,
}

/// How many processes of it run. There is one API: its clients know one address.
#[must_use]
pub fn replicas(service: &str) -> usize {
    if service == "api" { 1 } else { 2 }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and started again after a while.
    Kill(Replica, Duration),
    /// SIGSTOP for a while.
    Freeze(Replica, Duration),
    /// SIGTERM, and started again after a while: it leaves its group and joins again.
    Leave(Replica, Duration),
    /// A part goes down, in order or by `kill -9`, and is started again after a while.
    Down {
        /// Which.
        part: Part,
        /// By `kill -9`.
        killed: bool,
        /// For how long.
        away: Duration,
    },
    /// Postgres' disk is full.
    FullDisk(Duration),
    /// SIGSTOP of one of the processes by which Postgres serves a service.
    FreezeBackend(Duration),
    /// All connections to a part are cut, once.
    Cut(Part),
    /// Connections to a part are cut, and new ones too.
    Refuse(Part, Duration),
    /// Each byte to and from a part takes longer.
    Slow {
        /// Which.
        part: Part,
        /// By how much, each way.
        by: Duration,
        /// For how long.
        lasting: Duration,
    },
    /// Nothing comes through to a part or from it, on connections that seem to be there. Then they are cut.
    Hole(Part, Duration),
    /// People's own endpoints answer 503.
    SickReceiver(Duration),
    /// Records of the topics come again, byte for byte, in any order.
    Again {
        /// How many.
        records: usize,
        /// Whether the inboxes forget them before, so that nothing but versions and natural keys stands against them.
        forgotten: bool,
    },
}

impl Fault {
    /// About how long it lasts.
    #[must_use]
    pub fn lasts(self) -> Duration {
        match self {
            Self::Kill(_, time)
            | Self::Freeze(_, time)
            | Self::Leave(_, time)
            | Self::FullDisk(time)
            | Self::FreezeBackend(time)
            | Self::Refuse(_, time)
            | Self::Hole(_, time)
            | Self::SickReceiver(time) => time,
            Self::Slow { lasting, .. } => lasting,
            // Stopping and starting takes its time, too.
            Self::Down { away, .. } => away + Duration::from_secs(5),
            Self::Cut(_) => Duration::ZERO,
            Self::Again { .. } => Duration::from_secs(1),
        }
    }

    /// Its kind, in a word or two.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill(..) => "kill -9",
            Self::Freeze(..) => "SIGSTOP",
            Self::Leave(..) => "leave and join",
            Self::Down { .. } => "restart",
            Self::FullDisk(_) => "full disk",
            Self::FreezeBackend(_) => "SIGSTOP of a backend",
            Self::Cut(_) => "cut",
            Self::Refuse(..) => "refused",
            Self::Slow { .. } => "latency",
            Self::Hole(..) => "half-open",
            Self::SickReceiver(_) => "webhook endpoints fail",
            Self::Again { forgotten: false, .. } => "duplicates",
            Self::Again { forgotten: true, .. } => "duplicates, forgotten by the inboxes",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Kill(replica, time) | Self::Freeze(replica, time) | Self::Leave(replica, time) => {
                write!(
                    f,
                    "{kind}: {} {}, {:.1} s",
                    replica.service,
                    replica.number + 1,
                    time.as_secs_f64()
                )
            }
            Self::Down { part, killed, away } => {
                let how = if *killed { "killed" } else { "stopped" };
                write!(
                    f,
                    "{kind}: {} {how}, away {:.1} s",
                    part.name(),
                    away.as_secs_f64()
                )
            }
            Self::FullDisk(time) => write!(f, "{kind}: postgres, {:.1} s", time.as_secs_f64()),
            Self::FreezeBackend(time) => write!(f, "{kind}: postgres, {:.1} s", time.as_secs_f64()),
            Self::Cut(part) => write!(f, "{kind}: {}", part.name()),
            Self::Refuse(part, time) | Self::Hole(part, time) => {
                write!(f, "{kind}: {}, {:.1} s", part.name(), time.as_secs_f64())
            }
            Self::Slow { part, by, lasting } => {
                let ms = by.as_millis();
                write!(
                    f,
                    "{kind}: {}, {ms} ms each way, {:.1} s",
                    part.name(),
                    lasting.as_secs_f64()
                )
            }
            Self::SickReceiver(time) => write!(f, "{kind}, {:.1} s", time.as_secs_f64()),
            Self::Again { records, .. } => write!(f, "{kind}: {records} records"),
        }
    }
}

/// A fault, after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How long all is well before.
    pub pause: Duration,
    /// What goes wrong then.
    pub fault: Fault,
}

/// Two courses of faults beside each other: of the services, and of what they stand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of the services.
    pub services: Vec<Step>,
    /// Of what they stand on.
    pub parts: Vec<Step>,
}

impl Plan {
    /// The plan of that seed, for about so long: rounds of every kind of fault, each round in another order.
    #[must_use]
    pub fn of(seed: u64, lasting: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            services: course(&mut random, lasting, round_of_services),
            parts: course(&mut random, lasting, round_of_parts),
        }
    }
}

fn course(random: &mut StdRng, lasting: Duration, round: fn(&mut StdRng) -> Vec<Fault>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let mut faults = round(random);
        faults.shuffle(random);
        for fault in faults {
            let pause = milliseconds(random, 500, 3000);
            at += pause + fault.lasts();
            if at > lasting {
                return steps;
            }
            steps.push(Step { pause, fault });
        }
    }
}

fn milliseconds(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

/// Every service is killed; one is frozen, one leaves and comes back.
fn round_of_services(random: &mut StdRng) -> Vec<Fault> {
    let mut any = |service: &'static str| Replica {
        service,
        number: random.random_range(0..replicas(service)),
    };
    let mut killed = SERVICES.map(&mut any).to_vec();
    let (frozen, left) = (killed.clone(), killed.clone());
    let mut faults: Vec<Fault> = killed
        .drain(..)
        .map(|replica| Fault::Kill(replica, milliseconds(random, 50, 3000)))
        .collect();
    let one = |random: &mut StdRng, from: &[Replica]| from[random.random_range(0..from.len())];
    faults.push(Fault::Freeze(one(random, &frozen), Duration::from_secs(20)));
    faults.push(Fault::Leave(one(random, &left), milliseconds(random, 500, 5000)));
    faults
}

/// Every part goes down and comes back; each fault of the network strikes one of them.
fn round_of_parts(random: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    for part in Part::ALL {
        faults.push(Fault::Down {
            part,
            killed: random.random(),
            away: milliseconds(random, 1000, 6000),
        });
    }
    let mut struck = Part::ALL;
    struck.shuffle(random);
    let [cut, refused, slow, hole] = struck;
    faults.extend([
        Fault::Cut(cut),
        Fault::Refuse(refused, milliseconds(random, 2000, 6000)),
        Fault::Slow {
            part: slow,
            by: milliseconds(random, 50, 400),
            lasting: Duration::from_secs(8),
        },
        Fault::Hole(hole, milliseconds(random, 5000, 10_000)),
        Fault::FullDisk(milliseconds(random, 5000, 10_000)),
        Fault::FreezeBackend(Duration::from_secs(20)),
        Fault::SickReceiver(milliseconds(random, 3000, 8000)),
        Fault::Again {
            records: 300,
            forgotten: false,
        },
        Fault::Again {
            records: 300,
            forgotten: true,
        },
    ]);
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const QUARTER: Duration = Duration::from_mins(15);

    #[test]
    fn a_seed_always_gives_the_same_plan_and_another_one_another() {
        assert_eq!(Plan::of(7, QUARTER), Plan::of(7, QUARTER));
        assert_ne!(Plan::of(7, QUARTER), Plan::of(8, QUARTER));
    }

    #[test]
    fn in_a_quarter_of_an_hour_every_kind_of_fault_strikes_every_service_and_part_goes_down() {
        for seed in 0..50 {
            let plan = Plan::of(seed, QUARTER);
            let all = || plan.services.iter().chain(&plan.parts).map(|step| step.fault);
            let kinds: HashSet<_> = all().map(Fault::kind).collect();
            assert_eq!(kinds.len(), 13, "{kinds:?}");
            for service in SERVICES {
                assert!(
                    all().any(|fault| matches!(fault, Fault::Kill(replica, _) if replica.service == service))
                );
            }
            for wanted in Part::ALL {
                assert!(all().any(|fault| matches!(fault, Fault::Down { part, .. } if part == wanted)));
            }
        }
    }
}
