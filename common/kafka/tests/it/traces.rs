//! What is done about an event goes on with the event's trace, whether or not traces are exported.

use std::sync::Mutex;

use rdkafka::message::Header;
use service::trace::{TRACEPARENT, Trace};

use super::*;

/// Remembers the trace that each event was handled in.
struct Tracing(Arc<Mutex<HashMap<Uuid, Option<Trace>>>>);

impl Handler for Tracing {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        let traces = events.iter().map(|event| {
            let id = event.head().event_id;
            (id, kafka::trace_of(id))
        });
        self.0.lock().unwrap().extend(traces);
        Counting.handle(tx, events).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_is_handled_in_its_own_trace_and_one_without_in_none() {
    let world = World::create().await;
    let parents = [
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01"),
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        Some("nonsense"),
        None,
    ];
    let events = events(&users(1), 1..=4);
    let config = world.topics.config();
    let registry = Registry::new(&world.topics.registry()).unwrap();
    let producer = kafka::Producer::new(&config, "test").unwrap();
    for (event, parent) in events.iter().zip(parents) {
        let mut headers = OwnedHeaders::new();
        if let Some(value) = parent {
            headers = headers.insert(Header {
                key: TRACEPARENT,
                value: Some(value),
            });
        }
        let value = framed(&config, &registry, event).await;
        let topic = config.prefixed(TASK_EVENTS);
        let written = producer.enqueue(&topic, Some(b"key"), Some(&value), headers);
        written.await.unwrap().await.unwrap().unwrap();
    }
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let processor = Events::new(
        GROUP,
        world.database.admin().clone(),
        Arc::new(registry),
        db::inbox::REMINDER_SCANNER,
        Tracing(Arc::clone(&seen)),
    );
    let member = world.member(GROUP, BATCH, processor);
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    for (event, parent) in events.iter().zip(parents) {
        let id = event.head().event_id;
        assert_eq!(
            seen.lock().unwrap()[&id],
            parent.and_then(Trace::parse),
            "{parent:?}"
        );
        assert_eq!(kafka::trace_of(id), None, "nothing is being handled");
    }
}
