//! The API is killed while two hundred requests carry one `Idempotency-Key`.

use std::time::{Duration, Instant};

use e2e::{Platform, say, seeded};
use rand::Rng;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{PATIENCE, eventually};

const ROUNDS: usize = 8;
const REQUESTS: usize = 200;

/// What one request was answered in the end.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    location: String,
    body: String,
}

/// Sends a request until it is answered, as a careful client does: again when there is no answer, or a refusal that says
/// to come back. Returns how often it had to as well.
async fn post(http: reqwest::Client, url: String, token: String, key: String) -> (Answer, usize) {
    let started = Instant::now();
    for tries in 0.. {
        let request = http
            .post(&url)
            .bearer_auth(&token)
            .header("idempotency-key", &key)
            .json(&json!({"title": "Ring once", "tags": [key]}));
        if let Ok(answer) = request.send().await {
            let (status, headers) = (answer.status(), answer.headers().clone());
            let location = headers.get("location").and_then(|path| path.to_str().ok());
            match (status, answer.text().await) {
                (StatusCode::CREATED, Ok(body)) => {
                    let location = location.unwrap_or_default().to_owned();
                    return (Answer { location, body }, tries);
                }
                // It broke off.
                (StatusCode::CREATED, Err(_)) => {}
                (StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE, _) => {
                    assert!(
                        headers.contains_key("retry-after"),
                        "{status} says when to come back"
                    );
                }
                (status, body) => panic!("{status} {body:?}"),
            }
        }
        assert!(started.elapsed() < PATIENCE, "the API does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_api_amid_two_hundred_requests_with_one_key_makes_one_task_and_one_answer() {
    let mut random = seeded();
    let mut platform = Platform::of(&["api"]).await;
    let url = platform.service("api").url();
    let http = reqwest::Client::new();
    let person = json!({"email": "ada@example.org", "password": "correct horse battery", "name": "Ada Lovelace",
                        "timezone": "Europe/Berlin"});
    let registered = http
        .post(format!("{url}/api/auth/register"))
        .json(&person)
        .send()
        .await
        .unwrap();
    let registered: Value = registered.json().await.unwrap();
    let token = registered["access_token"].as_str().unwrap().to_owned();

    let mut sent_again = 0;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let requests: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let (url, token) = (format!("{url}/api/tasks"), token.clone());
                tokio::spawn(post(http.clone(), url, token, key.clone()))
            })
            .collect();
        if round % 2 == 0 {
            // At any moment.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        } else {
            // As soon as it is done, when hardly anybody has heard of it.
            eventually("the task is made", async || {
                let there: bool =
                    sqlx::query_scalar("select exists (select from api.idempotency_keys where key = $1)")
                        .bind(&key)
                        .fetch_one(platform.database().admin())
                        .await
                        .unwrap();
                there.then_some(())
            })
            .await;
        }
        platform.service("api").kill();
        platform.service("api").start();
        let mut answers = Vec::new();
        for request in requests {
            let (answer, again) = request.await.unwrap();
            answers.push(answer);
            sent_again += again;
        }
        for answer in &answers {
            assert_eq!(*answer, answers[0], "round {round}");
        }
        let task: Value = serde_json::from_str(&answers[0].body).unwrap();
        assert_eq!(
            answers[0].location,
            format!("/api/tasks/{}", task["id"].as_str().unwrap())
        );
        let (tasks, events): (i64, i64) = sqlx::query_as(
            "select (select count(*) from tasks.tasks where tags = array[$1]),
                    (select count(*) from outbox.events where headers ->> 'ce_subject' in
                        (select 'task/' || id from tasks.tasks where tags = array[$1]))",
        )
        .bind(&key)
        .fetch_one(platform.database().admin())
        .await
        .unwrap();
        assert_eq!((tasks, events), (1, 1), "round {round}");
    }
    let total = ROUNDS * REQUESTS;
    say(&format!(
        "{total} requests with {ROUNDS} keys, {ROUNDS} kills; sent again {sent_again} times"
    ));
    assert!(sent_again > 0, "no kill hit anything");
}
