//! Brokers that refuse, forget and vanish: librdkafka's mock cluster, which does so on request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::*;

const PARTITIONS: i32 = 6;

/// The mock cluster, with the topics that are needed, and the rest of the world for real.
struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    config: KafkaConfig,
    world: World,
}

impl Mock {
    async fn create() -> Self {
        let topics = Topics::named(&format!("t{}.", Uuid::new_v4().simple()));
        let cluster = MockCluster::new(3).unwrap();
        let config = KafkaConfig {
            bootstrap_servers: cluster.bootstrap_servers(),
            // The mock waits for members as long as their session may be silent, less a second.
            session_timeout: Duration::from_secs(3),
            ..topics.config()
        };
        cluster
            .create_topic(&config.prefixed(TASK_EVENTS), PARTITIONS, 3)
            .unwrap();
        cluster
            .create_topic(&config.prefixed(&dead_letters()), 1, 3)
            .unwrap();
        let database = Database::create().await;
        make_effects(database.admin()).await;
        Self {
            cluster,
            config,
            world: World { database, topics },
        }
    }

    async fn publish(&self, events: &[Event]) {
        publish(&self.config, &self.world.topics.registry(), events).await;
    }

    fn member(&self, group: &'static str, processor: impl Processor + 'static) -> Member {
        Member::start(&self.config, group, BATCH, processor)
    }

    /// The sum of what the group has committed: the number of records, since the topic is new.
    async fn committed(&self, group: &str) -> i64 {
        let config = self.config.clone();
        let group = group.to_owned();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.consumer(&group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&config.prefixed(TASK_EVENTS), 0, PARTITIONS - 1);
            let Ok(list) = consumer.committed_offsets(list, Duration::from_secs(10)) else {
                return 0;
            };
            list.elements()
                .iter()
                .map(|e| {
                    if let Offset::Offset(offset) = e.offset() {
                        offset
                    } else {
                        0
                    }
                })
                .sum()
        })
        .await
        .unwrap()
    }

    async fn wait_for(&self, group: &str, count: usize) {
        eventually(&format!("{count} effects"), async || {
            (self.world.effects().await.len() >= count).then_some(())
        })
        .await;
        eventually("everything is committed", async || {
            (self.committed(group).await == i64::try_from(count).unwrap()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_broker_refuses_stops_nothing_and_the_next_one_covers_it() {
    const GROUP: &str = "refused-commits";
    let mock = Mock::create().await;
    let users = users(10);
    let first = events(&users, 1..=10);
    mock.cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        ],
    );
    mock.publish(&first).await;
    let member = mock.member(GROUP, mock.world.counting(GROUP));
    // Nothing new comes that would bring a commit along: an idle loop tries again by itself.
    mock.wait_for(GROUP, first.len()).await;
    let failed = service::metrics::render()
        .lines()
        .any(|line| line.starts_with("kafka_consumer_commit_errors_total{group=\"refused-commits\"}"));
    assert!(failed, "some commit did fail");

    let second = events(&users, 11..=20);
    mock.publish(&second).await;
    let all = [first, second].concat();
    mock.wait_for(GROUP, all.len()).await;
    member.stop().await;
    mock.world.assert_once_and_in_order(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_down_and_come_back_cost_nothing_but_time() {
    let mock = Mock::create().await;
    let users = users(10);
    let first = events(&users, 1..=10);
    mock.publish(&first).await;
    let member = mock.member(GROUP, mock.world.counting(GROUP));
    mock.wait_for(GROUP, first.len()).await;
    mock.cluster.broker_down(-1).unwrap();
    eventually("it notices", async || {
        (!member.health.report().is_ready()).then_some(())
    })
    .await;
    mock.cluster.broker_up(-1).unwrap();
    let second = events(&users, 11..=20);
    mock.publish(&second).await;
    let all = [first, second].concat();
    mock.wait_for(GROUP, all.len()).await;
    eventually("it is ready again", async || {
        member.health.report().is_ready().then_some(())
    })
    .await;
    member.stop().await;
    mock.world.assert_once_and_in_order(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_down_while_a_dead_letter_is_written_hold_up_neither_the_letter_nor_a_stop() {
    let mock = Mock::create().await;
    let user_id = Uuid::now_v7();
    let good = events(&[user_id], 1..=1);
    mock.publish(&good).await;
    produce(
        &mock.config,
        &[(user_id.to_string().into_bytes(), Some(b"poison".to_vec()))],
    )
    .await;
    let seen = Arc::new(AtomicBool::new(false));
    let processor = |seen: &Arc<AtomicBool>| {
        let seen = Arc::clone(seen);
        let mut first = true;
        Before(
            move |batch: &[Record]| {
                if batch.iter().any(|r| r.value.as_deref() == Some(b"poison")) {
                    seen.store(true, Ordering::Release);
                }
                // Hold the batch once, so that the brokers can go before its letter is written.
                if std::mem::take(&mut first) {
                    Err(away())
                } else {
                    Ok(())
                }
            },
            mock.world.counting(GROUP),
        )
    };
    let member = mock.member(GROUP, processor(&seen));
    eventually("the poison is there", async || {
        seen.load(Ordering::Acquire).then_some(())
    })
    .await;
    mock.cluster.broker_down(-1).unwrap();
    eventually("the good one is applied", async || {
        (mock.world.effects().await.len() == 1).then_some(())
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), member.stop())
        .await
        .unwrap();

    mock.cluster.broker_up(-1).unwrap();
    let member = mock.member(GROUP, mock.world.counting(GROUP));
    eventually("both are committed", async || {
        (mock.committed(GROUP).await == 2).then_some(())
    })
    .await;
    member.stop().await;
    mock.world.assert_once_and_in_order(&good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_put_out_of_the_group_while_its_batch_waits_drops_the_batch_and_reads_it_again() {
    let mock = Mock::create().await;
    let users = users(10);
    let first = events(&users, 1..=10);
    mock.publish(&first).await;
    let passed: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
    let back = Arc::new(AtomicBool::new(false));
    let tries = Arc::new(Mutex::new(0_usize));
    let processor = {
        let (passed, back, tries) = (Arc::clone(&passed), Arc::clone(&back), Arc::clone(&tries));
        Before(
            move |batch: &[Record]| {
                if back.load(Ordering::Acquire) {
                    passed
                        .lock()
                        .unwrap()
                        .extend(batch.iter().map(|r| (r.partition, r.offset)));
                    Ok(())
                } else {
                    *tries.lock().unwrap() += 1;
                    Err(away())
                }
            },
            mock.world.counting(GROUP),
        )
    };
    let member = mock.member(GROUP, processor);
    for round in 1..=3 {
        let before = *tries.lock().unwrap();
        eventually("it waits", async || {
            (*tries.lock().unwrap() >= before + 5).then_some(())
        })
        .await;
        let forgotten = if round == 2 {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
        } else {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
        };
        mock.cluster
            .request_errors(RDKafkaApiKey::Heartbeat, &[forgotten]);
    }
    let second = events(&users, 11..=20);
    mock.publish(&second).await;
    back.store(true, Ordering::Release);
    let all = [first, second].concat();
    mock.wait_for(GROUP, all.len()).await;
    member.stop().await;
    mock.world.assert_once_and_in_order(&all).await;
    // None was handled ahead of one before it, whatever was dropped and read again.
    let mut newest: HashMap<i32, i64> = HashMap::new();
    for (partition, offset) in &*passed.lock().unwrap() {
        let newest = newest.entry(*partition).or_insert(-1);
        assert!(*offset <= *newest + 1, "{partition}: {offset} after {newest}");
        *newest = (*newest).max(*offset);
    }
}
