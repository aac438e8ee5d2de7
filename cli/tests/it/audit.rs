//! `carillon audit`.

use std::process::{Command, Output};

use schemas::{Actor, Event, Task, TaskEvent, TaskEventKind, TaskReminder};
use support::{Database, samples};
use uuid::Uuid;

fn audit(database: &Database, arguments: &[&str]) -> Output {
    let (server, _) = support::stack("DATABASE_URL")
        .rsplit_once('/')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_carillon"))
        .arg("audit")
        .args(arguments)
        .env("DATABASE_URL", format!("{server}/{}", database.name()))
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Puts an event into the trail as the audit sink does.
async fn happened(database: &Database, user_id: Uuid, kind: TaskEventKind, task: &Task) {
    let event = TaskEvent::new(kind, user_id, Actor::User, task.clone());
    let encoded = Event::from(event.clone()).encode("api").unwrap();
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                                   payload, headers)
         values ($1, $2, 'task-events', 0, 0, $3, $4, $5, 'user', $6::jsonb, '{}')",
    )
    .bind(encoded.event_id)
    .bind(event.occurred_at)
    .bind(encoded.event_type)
    .bind(user_id)
    .bind(task.id)
    .bind(serde_json::to_string(&event).unwrap())
    .execute(database.admin())
    .await
    .unwrap();
}

/// A task that was made, changed and deleted, and of which the trail is all that is left.
async fn gone(database: &Database, user_id: Uuid) -> Task {
    let task = Task {
        description: Some("The ones in the *hall*.".to_owned()),
        tags: vec!["home".to_owned()],
        due_on: chrono::NaiveDate::from_ymd_opt(2027, 3, 1),
        due_at: None,
        timezone: "America/New_York".to_owned(),
        reminders: vec![TaskReminder::relative("-PT30M".to_owned())],
        ..samples::task()
    };
    happened(database, user_id, TaskEventKind::Created, &task).await;
    let changed = Task {
        version: 2,
        title: "Water all the plants".to_owned(),
        ..task
    };
    happened(database, user_id, TaskEventKind::Updated, &changed).await;
    let deleted = Task {
        version: 3,
        deleted_at: Some(schemas::now()),
        ..changed
    };
    happened(database, user_id, TaskEventKind::Deleted, &deleted).await;
    deleted
}

async fn row(database: &Database, user_id: Uuid, id: Uuid) -> Option<Task> {
    db::tasks::get_or_deleted(database.admin(), user_id, id)
        .await
        .unwrap()
}

async fn events(database: &Database) -> Vec<String> {
    sqlx::query_scalar("select event_type from outbox.events order by seq")
        .fetch_all(database.admin())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_task_that_is_gone_for_good_comes_back_as_it_was_where_its_person_is_now_and_once() {
    let database = Database::create().await;
    let (ada, bob) = (
        database.user("ada@example.com").await,
        database.user("bob@example.com").await,
    );
    let was = gone(&database, ada).await;
    let (ada_text, bob_text, id) = (ada.to_string(), bob.to_string(), was.id.to_string());

    // Not as somebody else's, whatever exists.
    let said = refused(&audit(
        &database,
        &["restore", "--user", &bob_text, "--task", &id],
    ));
    assert!(said.contains("the trail has nothing of a task"), "{said}");
    let nobody = Uuid::now_v7().to_string();
    let said = refused(&audit(&database, &["restore", "--user", &nobody, "--task", &id]));
    assert!(said.contains("has no account"), "{said}");
    assert_eq!(row(&database, ada, was.id).await, None);

    let said = printed(&audit(
        &database,
        &["restore", "--user", &ada_text, "--task", &id],
    ));
    assert_eq!(said, format!("task {id} is back, as version 4\n"));
    let back = row(&database, ada, was.id).await.unwrap();
    let expected = Task {
        version: 4,
        deleted_at: None,
        // A whole day follows its person, who is in Berlin.
        timezone: "Europe/Berlin".to_owned(),
        updated_at: back.updated_at,
        ..was.clone()
    };
    assert_eq!(back, expected);
    assert!(back.updated_at > was.updated_at);
    assert_eq!(events(&database).await, ["com.carillon.task.restored.v1"]);

    let said = printed(&audit(
        &database,
        &["restore", "--user", &ada_text, "--task", &id],
    ));
    assert!(said.contains("nothing was done"), "{said}");
    assert_eq!(row(&database, ada, was.id).await.unwrap(), back);
    assert_eq!(events(&database).await.len(), 1);
}

#[tokio::test]
async fn a_deleted_task_whose_row_is_there_comes_back_from_its_row() {
    let database = Database::create().await;
    let ada = database.user("ada@example.com").await;
    let was = gone(&database, ada).await;
    let newer = Task {
        version: 7,
        title: "Newer than the trail".to_owned(),
        ..was.clone()
    };
    let event = Event::from(TaskEvent::new(
        TaskEventKind::Deleted,
        ada,
        Actor::User,
        newer.clone(),
    ))
    .encode("api")
    .unwrap();
    db::tasks::insert(database.admin(), ada, &newer, &event)
        .await
        .unwrap();
    printed(&audit(
        &database,
        &[
            "restore",
            "--user",
            &ada.to_string(),
            "--task",
            &was.id.to_string(),
        ],
    ));
    let back = row(&database, ada, was.id).await.unwrap();
    assert_eq!(
        (back.version, back.title.as_str(), back.deleted_at),
        (8, "Newer than the trail", None)
    );
}

#[tokio::test]
async fn an_instance_whose_place_is_taken_comes_back_for_itself() {
    let database = Database::create().await;
    let ada = database.user("ada@example.com").await;
    let series = Uuid::now_v7();
    let task = Task {
        series_id: Some(series),
        occurrence: Some(schemas::now()),
        recurrence: Some("FREQ=DAILY".to_owned()),
        ..samples::task()
    };
    // A series that nobody has any more.
    happened(&database, ada, TaskEventKind::Created, &task).await;
    printed(&audit(
        &database,
        &[
            "restore",
            "--user",
            &ada.to_string(),
            "--task",
            &task.id.to_string(),
        ],
    ));
    let back = row(&database, ada, task.id).await.unwrap();
    assert_eq!(
        (back.version, back.series_id, back.occurrence, back.recurrence),
        (2, None, None, None)
    );
}

#[tokio::test]
async fn the_trail_of_a_task_or_a_person_is_shown_and_what_was_done_to_it_is_told() {
    let database = Database::create().await;
    let ada = database.user("ada@example.com").await;
    let was = gone(&database, ada).await;
    let text = printed(&audit(&database, &["show", "task", &was.id.to_string()]));
    let lines: Vec<&str> = text.lines().collect();
    // Under the names of the columns.
    assert_eq!(lines.len(), 4, "{text}");
    let last: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(
        last[1..5],
        ["com.carillon.task.deleted.v1", "user", &was.id.to_string(), "3"],
        "{text}"
    );
    let json = printed(&audit(
        &database,
        &[
            "show",
            "user",
            &ada.to_string(),
            "--format",
            "json",
            "--limit",
            "1",
        ],
    ));
    let first: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(first[0]["payload"]["task"]["version"], 1);
    assert_eq!(first.as_array().unwrap().len(), 1);
    refused(&audit(&database, &["show", "task", &ada.to_string()]));

    let said = printed(&audit(&database, &["verify"]));
    assert!(
        said.contains("3 are not sealed yet") && said.contains("there are no seals"),
        "{said}"
    );
    sqlx::query("update audit.chain set sealed_segment = 5, open_segment = 6")
        .execute(database.admin())
        .await
        .unwrap();
    let said = refused(&audit(&database, &["verify"]));
    let today = chrono::Utc::now().date_naive();
    assert_eq!(
        said.matches(&format!("day {today}, segment 1, event ")).count(),
        3,
        "{said}"
    );
    assert!(
        said.contains("was inserted after its segment was sealed") && said.contains("3 places are not"),
        "{said}"
    );
    for arguments in [["--from", "yesterday"], ["--anchor", "12"]] {
        let output = audit(&database, &["verify", arguments[0], arguments[1]]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}
