//! Tasks and series: with their events or not at all, each version once, and never somebody else's.

use std::slice::from_ref;

use chrono::{NaiveDate, TimeDelta};
use db::series::{self, Anchor, Content, Overlap, Progress, Series};
use db::tasks::{self, DependencyFlaw};
use schemas::{Priority, TaskReminder, Timestamp};

use super::*;

/// The people of one test, and the API that they use.
struct World {
    database: Database,
    api: PgPool,
    ada: Uuid,
    bob: Uuid,
}

impl World {
    async fn create() -> Self {
        let database = Database::create().await;
        let (ada, bob) = (
            database.user("ada@example.org").await,
            database.user("bob@example.org").await,
        );
        Self {
            api: database.pool("api"),
            database,
            ada,
            bob,
        }
    }

    async fn insert(&self, user_id: Uuid, task: &Task) -> Encoded {
        let event = event(TaskEventKind::Created, user_id, task);
        assert!(tasks::insert(&self.api, user_id, task, &event).await.unwrap());
        event
    }

    async fn series(&self, user_id: Uuid) -> Series {
        let (now, content) = (schemas::now(), Content::of(&samples::task()));
        let series = Series::new(
            "FREQ=DAILY".to_owned(),
            now,
            "Europe/Berlin".to_owned(),
            content,
            now,
        );
        let mut tx = self.api.begin().await.unwrap();
        series::insert(&mut tx, user_id, &series).await.unwrap();
        tx.commit().await.unwrap();
        series
    }
}

/// A task with something in every field.
fn full() -> Task {
    let at = schemas::now() + TimeDelta::days(1);
    Task {
        description: Some("Each of *them*, \"slowly\" \u{1f331}".to_owned()),
        priority: Priority::Urgent,
        tags: vec!["home".to_owned(), String::new(), "a, b".to_owned()],
        reminders: vec![
            TaskReminder::absolute(at),
            TaskReminder::relative("-PT10M".to_owned()),
        ],
        completed_at: Some(at),
        ..samples::task_with_reminder(at)
    }
}

fn instance(series: &Series, occurrence: Timestamp) -> Task {
    Task {
        series_id: Some(series.id),
        occurrence: Some(occurrence),
        recurrence: Some(series.rrule.clone()),
        ..samples::task()
    }
}

fn changed(task: &Task, title: &str) -> Task {
    Task {
        version: task.version + 1,
        title: title.to_owned(),
        updated_at: schemas::now(),
        ..task.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inserted_is_read_back_as_it_was_and_its_event_is_written_with_it() {
    let world = World::create().await;
    let task = full();
    let event = world.insert(world.ada, &task).await;
    assert_eq!(
        tasks::get(&world.api, world.ada, task.id).await.unwrap(),
        Some(task.clone())
    );
    assert_eq!(outbox(&world.database).await, [event.event_id]);

    // In a transaction that is rolled back neither of them stays.
    let mut tx = world.api.begin().await.unwrap();
    let undone = samples::task();
    let event = super::event(TaskEventKind::Created, world.ada, &undone);
    assert!(tasks::insert(&mut *tx, world.ada, &undone, &event).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(tasks::get(&world.api, world.ada, undone.id).await.unwrap(), None);
    assert_eq!(outbox(&world.database).await.len(), 1);

    // And an id that is taken writes no event.
    assert!(!tasks::insert(&world.api, world.ada, &task, &event).await.unwrap());
    assert_eq!(outbox(&world.database).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occurrence_of_a_series_is_made_once_by_whomever_and_the_second_writes_no_event() {
    let world = World::create().await;
    let generator = world.database.pool("recurrence-generator");
    let series = world.series(world.ada).await;
    let first = instance(&series, series.starts_at);
    let event = world.insert(world.ada, &first).await;

    for pool in [&generator, &world.api] {
        let again = instance(&series, series.starts_at);
        let event = super::event(TaskEventKind::Created, world.ada, &again);
        assert!(!tasks::insert(pool, world.ada, &again, &event).await.unwrap());
        assert_eq!(tasks::get(&world.api, world.ada, again.id).await.unwrap(), None);
    }
    assert_eq!(outbox(&world.database).await, [event.event_id]);

    // Many at once: one of them makes it.
    let occurrence = series.starts_at + TimeDelta::days(1);
    let made = futures::future::join_all((0..8).map(|_| async {
        let next = instance(&series, occurrence);
        let event = super::event(TaskEventKind::Created, world.ada, &next);
        tasks::insert(&generator, world.ada, &next, &event).await.unwrap()
    }))
    .await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(outbox(&world.database).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_from_one_version_to_the_next_and_any_other_is_refused_with_its_event() {
    let world = World::create().await;
    let task = full();
    world.insert(world.ada, &task).await;
    let second = Task {
        due_at: None,
        reminders: Vec::new(),
        completed_at: None,
        ..changed(&task, "second")
    };
    let mut tx = world.api.begin().await.unwrap();
    assert_eq!(
        tasks::lock(&mut tx, world.ada, task.id).await.unwrap(),
        Some(task.clone())
    );
    let event = super::event(TaskEventKind::Updated, world.ada, &second);
    tasks::update(&mut tx, world.ada, from_ref(&second), from_ref(&event))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        tasks::get(&world.api, world.ada, task.id).await.unwrap(),
        Some(second.clone())
    );
    assert_eq!(outbox(&world.database).await.len(), 2);

    let skips = Task {
        version: 4,
        ..second.clone()
    };
    for wrong in [&second, &task, &skips] {
        let mut tx = world.api.begin().await.unwrap();
        let event = super::event(TaskEventKind::Updated, world.ada, wrong);
        let error = tasks::update(&mut tx, world.ada, from_ref(wrong), from_ref(&event))
            .await
            .unwrap_err();
        assert!(
            matches!(error, sqlx::Error::RowNotFound),
            "version {}: {error}",
            wrong.version
        );
        // Even by a caller who commits all the same.
        tx.commit().await.unwrap();
    }
    assert_eq!(
        tasks::get(&world.api, world.ada, task.id).await.unwrap(),
        Some(second)
    );
    assert_eq!(outbox(&world.database).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_meet_wait_for_each_other_and_each_sees_the_one_before() {
    let world = World::create().await;
    let task = samples::task();
    world.insert(world.ada, &task).await;
    futures::future::join_all((0..12).map(|n| {
        let (api, user_id, id) = (world.api.clone(), world.ada, task.id);
        tokio::spawn(async move {
            let mut tx = api.begin().await.unwrap();
            let before = tasks::lock(&mut tx, user_id, id).await.unwrap().unwrap();
            let after = changed(&before, &format!("{} {n}", before.title));
            let event = super::event(TaskEventKind::Updated, user_id, &after);
            tasks::update(&mut tx, user_id, from_ref(&after), from_ref(&event))
                .await
                .unwrap();
            tx.commit().await.unwrap();
        })
    }))
    .await
    .into_iter()
    .for_each(|done| done.unwrap());
    let last = tasks::get(&world.api, world.ada, task.id).await.unwrap().unwrap();
    assert_eq!(last.version, 13);
    for n in 0..12 {
        assert!(last.title.contains(&format!(" {n}")), "{n} is lost");
    }
    assert_eq!(outbox(&world.database).await.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_locks_or_changes_what_belongs_to_somebody_else() {
    let world = World::create().await;
    let series = world.series(world.ada).await;
    let task = instance(&series, series.starts_at);
    world.insert(world.ada, &task).await;
    let api = &world.api;
    for stranger in [world.bob, Uuid::now_v7()] {
        assert_eq!(tasks::get(api, stranger, task.id).await.unwrap(), None);
        let mut tx = api.begin().await.unwrap();
        assert_eq!(tasks::lock(&mut tx, stranger, task.id).await.unwrap(), None);
        let stolen = changed(&task, "stolen");
        let event = super::event(TaskEventKind::Updated, stranger, &stolen);
        let error = tasks::update(&mut tx, stranger, from_ref(&stolen), from_ref(&event))
            .await
            .unwrap_err();
        assert!(matches!(error, sqlx::Error::RowNotFound), "{error}");
        assert_eq!(series::lock(&mut tx, stranger, series.id).await.unwrap(), None);
        assert_eq!(
            series::latest_occurrence(&mut tx, stranger, series.id, None)
                .await
                .unwrap(),
            None
        );
        tx.commit().await.unwrap();
    }
    // Nor can he make it an instance of her series.
    let intruder = instance(&series, series.starts_at + TimeDelta::days(1));
    let event = super::event(TaskEventKind::Created, world.bob, &intruder);
    let error = tasks::insert(api, world.bob, &intruder, &event)
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Failure::Data);
    assert_eq!(tasks::get(api, world.ada, task.id).await.unwrap(), Some(task));
    assert_eq!(outbox(&world.database).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_task_is_not_got_and_its_occurrence_stays_taken() {
    let world = World::create().await;
    let series = world.series(world.ada).await;
    let task = instance(&series, series.starts_at);
    world.insert(world.ada, &task).await;
    let mut tx = world.api.begin().await.unwrap();
    let deleted = Task {
        deleted_at: Some(schemas::now()),
        ..changed(&task, &task.title)
    };
    let event = super::event(TaskEventKind::Deleted, world.ada, &deleted);
    tasks::update(&mut tx, world.ada, from_ref(&deleted), from_ref(&event))
        .await
        .unwrap();
    tx.commit().await.unwrap();

    assert_eq!(tasks::get(&world.api, world.ada, task.id).await.unwrap(), None);
    let generator = world.database.pool("recurrence-generator");
    for pool in [&world.api, &generator] {
        let mut tx = pool.begin().await.unwrap();
        assert_eq!(
            series::lock(&mut tx, world.ada, series.id).await.unwrap(),
            Some(series.clone())
        );
        let latest = series::latest_occurrence(&mut tx, world.ada, series.id, None)
            .await
            .unwrap();
        assert_eq!(latest, Some(series.starts_at));
    }
    let mut tx = world.api.begin().await.unwrap();
    // Whoever restores it needs it.
    assert_eq!(
        tasks::lock(&mut tx, world.ada, task.id).await.unwrap(),
        Some(deleted)
    );
    let again = instance(&series, series.starts_at);
    let event = super::event(TaskEventKind::Created, world.ada, &again);
    assert!(
        !tasks::insert(&generator, world.ada, &again, &event)
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_written_and_changed_at_once_with_every_field_kept() {
    let world = World::create().await;
    let whole_day = Task {
        due_at: None,
        due_on: NaiveDate::from_ymd_opt(2027, 2, 1),
        depends_on: vec![Uuid::now_v7(), Uuid::now_v7()],
        timezone: "Europe/Berlin".to_owned(),
        ..samples::task()
    };
    let mut all = [full(), whole_day.clone(), samples::task()];
    all.sort_by_key(|task| task.id);
    let events = |kind, tasks: &[Task]| -> Vec<_> {
        tasks
            .iter()
            .map(|task| super::event(kind, world.ada, task))
            .collect()
    };
    let mut tx = world.api.begin().await.unwrap();
    tasks::insert_many(&mut tx, world.ada, &all, &events(TaskEventKind::Created, &all))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for task in &all {
        assert_eq!(
            tasks::get(&world.api, world.ada, task.id).await.unwrap().as_ref(),
            Some(task)
        );
    }
    let starts: Vec<Option<Timestamp>> = sqlx::query_scalar("select due_key from tasks.tasks where id = $1")
        .bind(whole_day.id)
        .fetch_all(&world.api)
        .await
        .unwrap();
    assert_eq!(starts, [Some("2027-01-31T23:00:00Z".parse().unwrap())]);

    let after: Vec<Task> = all.iter().map(|task| changed(task, "other")).collect();
    let mut tx = world.api.begin().await.unwrap();
    tasks::update(
        &mut tx,
        world.ada,
        &after,
        &events(TaskEventKind::Updated, &after),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let ids: Vec<Uuid> = after.iter().map(|task| task.id).collect();
    let mut tx = world.api.begin().await.unwrap();
    assert_eq!(tasks::lock_many(&mut tx, world.ada, &ids).await.unwrap(), after);
    assert_eq!(outbox(&world.database).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_depends_on_tasks_of_its_owner_only_and_on_none_that_depends_on_it() {
    let world = World::create().await;
    let depends_on = |ids: &[Uuid]| Task {
        depends_on: ids.to_vec(),
        ..samples::task()
    };
    let first = depends_on(&[]);
    let second = depends_on(&[first.id]);
    let third = depends_on(&[second.id, first.id]);
    let bobs = depends_on(&[]);
    for task in [&first, &second, &third] {
        world.insert(world.ada, task).await;
    }
    world.insert(world.bob, &bobs).await;
    let unknown = Uuid::now_v7();
    let mut tx = world.api.begin().await.unwrap();
    let wanted = [third.id, second.id, first.id, bobs.id, unknown];
    let mut flaws = tasks::check_dependencies(&mut tx, world.ada, first.id, &wanted)
        .await
        .unwrap();
    flaws.sort_by_key(|(id, _)| wanted.iter().position(|wanted| wanted == id));
    assert_eq!(
        flaws,
        [
            (third.id, DependencyFlaw::Cycle),
            (second.id, DependencyFlaw::Cycle),
            (first.id, DependencyFlaw::Cycle),
            (bobs.id, DependencyFlaw::Unknown),
            (unknown, DependencyFlaw::Unknown),
        ]
    );
    let none = tasks::check_dependencies(&mut tx, world.ada, Uuid::now_v7(), &[first.id, third.id])
        .await
        .unwrap();
    assert_eq!(none, []);
    let open = tasks::open_among(&mut *tx, world.ada, &wanted).await.unwrap();
    assert_eq!(open.len(), 3, "{open:?}");
    let none = tasks::open_among(&mut *tx, world.bob, &[first.id]).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_long_ago_goes_for_good_but_for_the_latest_instance_of_a_series() {
    let world = World::create().await;
    let series = world.series(world.ada).await;
    let now = schemas::now();
    let deleted = |task: Task, days| Task {
        deleted_at: Some(now - TimeDelta::days(days)),
        ..task
    };
    let gone = [
        deleted(samples::task(), 31),
        deleted(instance(&series, series.starts_at), 31),
    ];
    let kept = [
        deleted(samples::task(), 29),
        samples::task(),
        deleted(instance(&series, series.starts_at + TimeDelta::days(1)), 31),
    ];
    for task in gone.iter().chain(&kept) {
        world.insert(world.ada, task).await;
    }
    let purge = async || {
        tasks::purge_deleted(&world.api, now - TimeDelta::days(30))
            .await
            .unwrap()
    };
    assert_eq!([purge().await, purge().await], [2, 0]);
    let ids: Vec<Uuid> = gone.iter().chain(&kept).map(|task| task.id).collect();
    let mut tx = world.api.begin().await.unwrap();
    let mut left: Vec<Uuid> = tasks::lock_many(&mut tx, world.ada, &ids)
        .await
        .unwrap()
        .iter()
        .map(|task| task.id)
        .collect();
    left.sort_by_key(|id| ids.iter().position(|known| known == id));
    assert_eq!(left, ids[2..]);
}

#[test]
fn what_a_series_makes_instances_with_is_taken_from_a_task() {
    let due: Timestamp = "2027-02-01T08:00:00Z".parse().unwrap();
    let task = Task {
        due_at: Some(due),
        reminders: vec![
            TaskReminder::relative("-PT10M".to_owned()),
            TaskReminder::absolute(due - TimeDelta::minutes(90)),
            TaskReminder::absolute(due),
            // Further away than an offset can be: it rings for this one only.
            TaskReminder::absolute(due - TimeDelta::days(400)),
        ],
        ..full()
    };
    let content = Content::of(&task);
    let offsets: Vec<_> = content
        .reminders
        .iter()
        .map(|reminder| reminder.offset.as_str())
        .collect();
    assert_eq!(offsets, ["-PT10M", "-PT1H30M", "PT0S"]);
    let series = Series::new(
        "FREQ=DAILY".to_owned(),
        due,
        "Asia/Tokyo".to_owned(),
        content,
        due,
    );
    let next = series.instance(due + TimeDelta::days(1), schemas::now());
    assert_eq!(
        (&next.title, &next.description, next.priority, &next.tags),
        (&task.title, &task.description, task.priority, &task.tags)
    );
    assert_eq!(
        (next.due_at, next.occurrence),
        (Some(due + TimeDelta::days(1)), next.due_at)
    );
    assert_eq!(
        (next.timezone.as_str(), next.series_id),
        ("Asia/Tokyo", Some(series.id))
    );
    assert!(next.is_open());
    assert_eq!(Content::of(&next), series.content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_is_read_back_as_it_was_written_and_changes_from_version_to_version() {
    let world = World::create().await;
    let series = world.series(world.ada).await;
    let other = world.series(world.ada).await;
    let mut db = world.api.acquire().await.unwrap();
    assert_eq!(
        series::list(&mut db, world.ada, None, 10).await.unwrap(),
        [other.clone(), series.clone()]
    );
    assert_eq!(
        series::list(&mut db, world.ada, Some(other.id), 10)
            .await
            .unwrap(),
        std::slice::from_ref(&series)
    );
    let now = schemas::now();
    let paused = Series {
        version: 2,
        rrule: "FREQ=WEEKLY".to_owned(),
        rdates: vec![now + TimeDelta::days(3)],
        exdates: vec![now, now + TimeDelta::days(1)],
        overlap: Overlap::PileUp,
        made_through: Some(now),
        paused_at: Some(now),
        updated_at: now,
        ..series.clone()
    };
    series::update(&mut db, world.ada, &paused).await.unwrap();
    assert_eq!(
        series::get(&mut db, world.ada, series.id).await.unwrap(),
        Some(paused.clone())
    );
    assert!(!paused.is_active() && series.is_active());
    for stale in [&series, &paused] {
        let error = series::update(&mut db, world.ada, stale).await.unwrap_err();
        assert!(matches!(error, sqlx::Error::RowNotFound), "{error}");
    }
    for stranger in [world.bob, Uuid::now_v7()] {
        assert_eq!(series::get(&mut db, stranger, series.id).await.unwrap(), None);
        assert_eq!(series::list(&mut db, stranger, None, 10).await.unwrap(), []);
        series::end(&mut db, stranger, series.id, now).await.unwrap();
        let next = Series {
            version: 3,
            ..paused.clone()
        };
        let error = series::update(&mut db, stranger, &next).await.unwrap_err();
        assert!(matches!(error, sqlx::Error::RowNotFound), "{error}");
    }
    // Ending happens once.
    let mut generator = world
        .database
        .pool("recurrence-generator")
        .acquire()
        .await
        .unwrap();
    series::end(&mut generator, world.ada, series.id, now)
        .await
        .unwrap();
    series::end(&mut generator, world.ada, series.id, schemas::now())
        .await
        .unwrap();
    let ended = Series {
        version: 3,
        ended_at: Some(now),
        ..paused
    };
    assert_eq!(
        series::get(&mut db, world.ada, series.id).await.unwrap(),
        Some(ended.clone())
    );
    let deleted = Series {
        version: 4,
        deleted_at: Some(now),
        ..ended
    };
    series::update(&mut db, world.ada, &deleted).await.unwrap();
    assert_eq!(series::get(&mut db, world.ada, series.id).await.unwrap(), None);
    assert_eq!(series::list(&mut db, world.ada, None, 10).await.unwrap(), [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_of_an_older_version_holds_what_its_newest_instance_holds() {
    let world = World::create().await;
    let series = world.series(world.ada).await;
    sqlx::query("update tasks.series set content = null")
        .execute(world.database.admin())
        .await
        .unwrap();
    for (days, title) in [(2, "newest"), (1, "older")] {
        let task = Task {
            title: title.to_owned(),
            ..instance(&series, series.starts_at + TimeDelta::days(days))
        };
        world.insert(world.ada, &task).await;
    }
    let mut db = world.api.acquire().await.unwrap();
    let read = series::get(&mut db, world.ada, series.id).await.unwrap().unwrap();
    assert_eq!(read.content.title, "newest");
    let listed = series::list(&mut db, world.ada, None, 10).await.unwrap();
    assert_eq!(listed, [read]);
}

/// A series in Tokyo from 1 March 2027, 09:00 there, on.
fn series_of(rrule: &str) -> Series {
    Series::new(
        rrule.to_owned(),
        at("2027-03-01T00:00:00Z"),
        "Asia/Tokyo".to_owned(),
        Content::default(),
        schemas::now(),
    )
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn after(series: &Series, after: &str, most: usize) -> Vec<String> {
    let timeline = series.timeline().unwrap();
    let found = timeline.after(at(after)).take(most);
    found
        .map(|at| at.unwrap().format("%m-%dT%H:%M").to_string())
        .collect()
}

#[test]
fn the_occurrences_of_a_series_are_its_start_its_rule_and_its_dates_without_its_exceptions() {
    let plain = series_of("FREQ=WEEKLY;BYDAY=WE");
    // Monday is none of the rule, but the start.
    assert_eq!(
        after(&plain, "2027-01-01T00:00:00Z", 3),
        ["03-01T00:00", "03-03T00:00", "03-10T00:00"]
    );
    let dated = Series {
        rdates: vec![at("2027-02-01T00:00:00Z"), at("2027-03-05T10:00:00Z")],
        exdates: vec![at("2027-03-01T00:00:00Z"), at("2027-03-10T00:00:00Z")],
        ..plain.clone()
    };
    // A date before the start is none.
    assert_eq!(
        after(&dated, "2027-01-01T00:00:00Z", 3),
        ["03-03T00:00", "03-05T10:00", "03-17T00:00"]
    );
    for (series, until, last) in [
        (&plain, "2027-03-02T23:59:59Z", Some("2027-03-01T00:00:00Z")),
        (&plain, "2027-02-28T23:59:59Z", None),
        (&dated, "2027-03-02T23:59:59Z", None),
        (&dated, "2027-03-16T00:00:00Z", Some("2027-03-05T10:00:00Z")),
    ] {
        let timeline = series.timeline().unwrap();
        assert_eq!(timeline.last_until(at(until)).unwrap(), last.map(at), "{until}");
        let found = last.map(|last| timeline.at(at(last)).unwrap());
        assert!(found.is_none_or(|found| found == last.map(at)));
    }
    assert_eq!(
        dated.timeline().unwrap().at(at("2027-03-10T00:00:00Z")).unwrap(),
        None
    );
    assert_eq!(
        plain.timeline().unwrap().at(at("2027-03-10T00:00:01Z")).unwrap(),
        None
    );

    // From its completion on a series has no places of its own.
    let counted = Series {
        anchor: Anchor::Completion,
        ..series_of("FREQ=DAILY;INTERVAL=3")
    };
    assert_eq!(
        after(&counted, "2027-03-02T15:00:00Z", 2),
        ["03-06T00:00", "03-09T00:00"]
    );
    assert_eq!(
        counted
            .timeline()
            .unwrap()
            .last_until(at("2028-01-01T00:00:00Z"))
            .unwrap(),
        None
    );
    let unusable = Series {
        anchor: Anchor::Completion,
        ..plain
    };
    let error = unusable.timeline().unwrap_err().to_string();
    assert!(error.contains("BYDAY"), "{error}");
}

#[test]
fn only_what_does_not_wait_for_a_completion_is_attended_to() {
    let skipping = series_of("FREQ=DAILY");
    assert_eq!(skipping.attend_at(), None);
    let piling_up = Series {
        overlap: Overlap::PileUp,
        ..skipping
    };
    assert_eq!(piling_up.attend_at(), Some(at("2027-03-02T00:00:00Z")));
    let unmade = Series {
        made_through: None,
        ..piling_up.clone()
    };
    assert_eq!(unmade.attend_at(), Some(piling_up.starts_at));
    let paused = Series {
        paused_at: Some(schemas::now()),
        ..piling_up.clone()
    };
    let broken = Series {
        rrule: "FREQ=OFTEN".to_owned(),
        ..piling_up
    };
    assert_eq!((paused.attend_at(), broken.attend_at()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_turn_it_is_is_claimed_once_and_how_far_it_came_is_written_without_a_version() {
    let world = World::create().await;
    let mut db = world.database.pool("api").acquire().await.unwrap();
    let mut made = Vec::new();
    for (user_id, days, overlap) in [
        (world.ada, -2, Overlap::PileUp),
        (world.bob, 5, Overlap::PileUp),
        (world.ada, -1, Overlap::RollForward),
        (world.ada, -3, Overlap::Skip),
    ] {
        let series = Series {
            overlap,
            ..Series::new(
                "FREQ=DAILY;INTERVAL=7".to_owned(),
                schemas::now() + TimeDelta::days(days - 7),
                "UTC".to_owned(),
                Content::default(),
                schemas::now(),
            )
        };
        series::insert(&mut db, user_id, &series).await.unwrap();
        made.push(series);
    }
    let generator = world.database.pool("recurrence-generator");
    let ids = |claimed: &[series::Claimed]| claimed.iter().map(|one| one.series.id).collect::<Vec<_>>();
    let mut tx = generator.begin().await.unwrap();
    let claimed = series::claim(&mut tx, Overlap::PileUp, TimeDelta::days(6), 10)
        .await
        .unwrap();
    assert_eq!(ids(&claimed), [made[0].id, made[1].id]);
    assert_eq!((claimed[0].user_id, claimed[1].user_id), (world.ada, world.bob));
    let mut beside = generator.begin().await.unwrap();
    assert!(
        series::claim(&mut beside, Overlap::PileUp, TimeDelta::days(6), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let rolling = series::claim(&mut beside, Overlap::RollForward, TimeDelta::zero(), 10)
        .await
        .unwrap();
    assert_eq!(ids(&rolling), [made[2].id]);
    beside.rollback().await.unwrap();
    let through = made[0].starts_at + TimeDelta::days(7);
    let progress = Progress {
        user_id: world.ada,
        id: made[0].id,
        made_through: Some(through),
        attend_at: None,
    };
    // With another owner it is nobody's.
    let stolen = Progress {
        user_id: world.bob,
        ..progress.clone()
    };
    series::advance(&mut tx, &[stolen]).await.unwrap();
    assert_eq!(
        series::get(&mut tx, world.ada, made[0].id).await.unwrap(),
        Some(made[0].clone())
    );
    series::advance(&mut tx, &[progress]).await.unwrap();
    tx.commit().await.unwrap();
    let read = series::get(&mut db, world.ada, made[0].id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((read.made_through, read.version), (Some(through), 1));
    let next = series::next_claim(&mut db, Overlap::PileUp, TimeDelta::days(4))
        .await
        .unwrap()
        .unwrap();
    assert!((80_000.0..=86_400.0).contains(&next), "{next}");
    series::end_all(&mut db, world.bob).await.unwrap();
    assert_eq!(
        series::next_claim(&mut db, Overlap::PileUp, TimeDelta::days(4))
            .await
            .unwrap(),
        None
    );
    let read = series::get(&mut db, world.ada, made[0].id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.ended_at, None);
}
