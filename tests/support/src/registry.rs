//! A schema registry that knows what a test tells it, and learns when the test says so: with the real one, nobody can choose
//! an id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kafka::RegistryConfig;
use schemas::Event;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Known = Arc<Mutex<HashMap<u32, String>>>;

/// The registry. It knows every schema of this build, and no other.
#[derive(Debug)]
pub struct LearningRegistry {
    url: String,
    known: Known,
}

impl LearningRegistry {
    /// Starts it on a port of its own, for as long as the test runs.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known: Known = Arc::new(Mutex::new(
            (1..)
                .zip(schemas::all_schemas())
                .map(|(id, schema)| (id, schema.json.clone()))
                .collect(),
        ));
        let answering = Arc::clone(&known);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let known = Arc::clone(&answering);
                // A client that went away is not ours to mind.
                tokio::spawn(async move { answer(client, &known).await.ok() });
            }
        });
        Self { url, known }
    }

    /// How a service would be configured to reach it.
    #[must_use]
    pub fn config(&self) -> RegistryConfig {
        RegistryConfig {
            url: self.url.clone(),
            username: None,
            password: None,
            ca_file: None,
        }
    }

    /// From now on it knows the schema of that event under `id`, too.
    pub fn learn(&self, id: u32, event: &Event) {
        let json = schema_of(event).1;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, json);
    }

    /// The event as it travels.
    #[must_use]
    pub fn frame(&self, event: &Event) -> Vec<u8> {
        self.frame_as(schema_of(event).0, event)
    }

    /// The event as it would travel if its schema had that id.
    ///
    /// # Panics
    /// When it is no valid event.
    #[must_use]
    pub fn frame_as(&self, id: u32, event: &Event) -> Vec<u8> {
        schemas::frame(id, &event.encode("test").unwrap().body)
    }
}

fn schema_of(event: &Event) -> (u32, String) {
    let name = event.record_name();
    (1..)
        .zip(schemas::all_schemas())
        .find(|(_, schema)| schema.name == name)
        .map(|(id, schema)| (id, schema.json.clone()))
        .expect("every event has a schema")
}

/// Answers one request for a schema.
async fn answer(client: TcpStream, known: &Known) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut request, mut line) = (String::new(), String::new());
    client.read_line(&mut request).await?;
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let schema = path
        .strip_prefix("/schemas/ids/")
        .and_then(|id| id.parse().ok())
        .and_then(|id: u32| {
            known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&id)
                .cloned()
        });
    let (status, body) = match schema {
        Some(schema) => ("200 OK", serde_json::json!({"schema": schema})),
        None => (
            "404 Not Found",
            serde_json::json!({"error_code": 40403, "message": "Schema not found"}),
        ),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await
}
