//! Registry and Postgres that go away and come back: batches wait, nothing is dead-lettered, nothing is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;

/// What stands between us and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Connections are cut.
    Cut,
    /// Something that is no registry answers every request: 404, in JSON.
    Wrong,
    /// Everything passes.
    Open,
}

/// A port that leads to a server, or not.
struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: String, line: Line) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(line);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, server.clone(), seen.clone()));
            }
        });
        Self {
            address,
            line,
            connections,
        }
    }

    fn is_now(&self, line: Line) {
        self.line.send(line).unwrap();
    }

    /// Waits until it was tried so often from now on.
    async fn tried(&self, times: usize) {
        let before = self.connections.load(Ordering::Relaxed);
        eventually("it is tried", async || {
            (self.connections.load(Ordering::Relaxed) >= before + times).then_some(())
        })
        .await;
    }
}

async fn carry(mut client: TcpStream, server: String, mut line: watch::Receiver<Line>) {
    let now = *line.borrow_and_update();
    match now {
        Line::Cut => {}
        Line::Wrong => {
            // Read to its end, or closing would reset the connection before the answer is seen.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n")
                && let Ok(byte) = client.read_u8().await
            {
                request.push(byte);
            }
            let body = r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#;
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await.ok();
        }
        Line::Open => {
            if let Ok(mut server) = TcpStream::connect(server).await {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = line.changed() => {}
                }
            }
        }
    }
}

async fn until_away(member: &Member, what: &str) {
    eventually(&format!("{what} is away"), async || {
        let report = serde_json::to_string(&member.health.report()).unwrap();
        report.contains(&format!("{what} is away")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_away_or_something_else_answers_in_its_place_events_wait_and_none_is_dead_lettered()
 {
    let world = World::create().await;
    let events = events(&users(10), 1..=10);
    world.publish(&events).await;
    let mut registry = world.topics.registry();
    let server = registry.url.trim_start_matches("http://").to_owned();
    let (server, path) = server.split_once('/').unwrap();
    let proxy = Proxy::start(server.to_owned(), Line::Cut).await;
    registry.url = format!("http://{}/{path}", proxy.address);
    let processor = counting(GROUP, world.database.admin().clone(), &registry);
    let member = Member::start(&world.topics.config(), GROUP, BATCH, processor);
    until_away(&member, "the schema registry").await;
    proxy.tried(3).await;

    // A wrong path, or a proxy whose registry is gone, says 404 too, and means something else by it than the registry.
    proxy.is_now(Line::Wrong);
    proxy.tried(4).await;
    assert!(
        world.topics.read(&dead_letters()).await.is_empty(),
        "nothing is the events' fault"
    );
    assert!(
        world
            .topics
            .committed(GROUP, TASK_EVENTS)
            .await
            .iter()
            .all(Option::is_none)
    );
    assert!(world.effects().await.is_empty());

    proxy.is_now(Line::Open);
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
    assert!(world.topics.read(&dead_letters()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_comes_and_goes_events_wait_and_each_has_its_effect_once() {
    let world = World::create().await;
    let users = users(20);
    let server = format!(
        "{}:{}",
        support::stack("POSTGRES_HOST"),
        support::stack("POSTGRES_PORT")
    );
    let proxy = Proxy::start(server.clone(), Line::Cut).await;
    let url = support::stack("DATABASE_URL").replace(&server, &proxy.address.to_string());
    let (url, _) = url.rsplit_once('/').unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_millis(500))
        .connect_lazy(&format!("{url}/{}", world.database.name()))
        .unwrap();
    let all = events(&users, 1..=60);
    world.publish(&all[..200]).await;
    let processor = counting(GROUP, pool, &world.topics.registry());
    let batch = BatchConfig {
        max_events: 10,
        ..BATCH
    };
    let member = Member::start(&world.topics.config(), GROUP, batch, processor);
    until_away(&member, "Postgres").await;

    for (n, wave) in all[200..].chunks(200).enumerate() {
        let before = world.effects().await.len();
        proxy.is_now(Line::Open);
        world.publish(wave).await;
        // In the middle of the flow, so somewhere in a transaction.
        eventually("some effects", async || {
            (world.effects().await.len() > before + n).then_some(())
        })
        .await;
        proxy.is_now(Line::Cut);
    }
    proxy.is_now(Line::Open);
    world.wait_for(GROUP, all.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&all).await;
    assert!(world.topics.read(&dead_letters()).await.is_empty());
}
