//! The SQL that finds tasks. Its text is ours, every value is bound. Each order has an index that starts with the owner,
//! so a page is one stretch of it however far behind it lies (migrations/sql/20261122110000_finding.sql).

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use db::tasks::{COLUMNS, from_row};
use schedule::{Tz, resolve_local};
use schemas::{Priority, Task, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder, Row};

use super::position::{Key, Position};
use super::query::{Due, Find, SortBy, Status};
use super::question::Question;
use crate::tasks::KEPT_AFTER_DELETION;

/// Who has at most so many tasks has each of them looked at for their words: sooner done than asking the index, which first
/// gathers everybody's words that begin with the last one.
const FEW: i64 = 1000;

/// How many of a person's newest tasks are looked at for titles that are similar to what was not found.
const SIMILAR_AMONG: i64 = 5000;

/// From where on titles are similar, in thousandths: "recieve" is so similar to "receive".
const SIMILAR_FROM: i32 = 350;

/// A whole day begins somewhere on Earth within so much of where it begins elsewhere.
const DAYS_DIFFER_BY: TimeDelta = TimeDelta::hours(26);

/// A page.
#[derive(Debug)]
pub struct Found {
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Where it ends, if another one follows.
    pub next: Option<Position>,
    /// How many tasks match, if that was asked for.
    pub total: Option<i64>,
    /// Nothing held the words: these titles are similar to them.
    pub similar: bool,
}

/// Finds what is asked for.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn find(pool: &PgPool, find: &Find) -> Result<Found, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let read_at = find
        .page
        .after
        .as_ref()
        .map_or_else(schemas::now, |position| position.read_at);
    let page = Page { find, read_at };
    let mut similar = find.goes_on_with_similar();
    let mut rows = Vec::new();
    if !similar {
        rows = page.rows(&mut connection).await?;
        if rows.is_empty()
            && find.page.after.is_none()
            && let Some(question) = &find.filter.question
        {
            rows = page.similar_rows(&mut connection, question).await?;
            similar = !rows.is_empty();
        }
    } else if let Some(question) = &find.filter.question {
        rows = page.similar_rows(&mut connection, question).await?;
    }
    let last = find.page.cut(&mut rows);
    let next = last.map(|(task, key)| page.position(task, key));
    let total = match &find.filter.question {
        _ if !find.total => None,
        Some(question) if similar => Some(page.count_similar(&mut connection, question).await?),
        _ => Some(page.count(&mut connection).await?),
    };
    Ok(Found {
        tasks: rows.into_iter().map(|(task, _)| task).collect(),
        next,
        total,
        similar,
    })
}

type Sql = QueryBuilder<Postgres>;

/// A task, and its place in the order.
type Placed = (Task, Key);

struct Page<'a> {
    find: &'a Find,
    read_at: Timestamp,
}

impl Page<'_> {
    fn position(&self, task: &Task, key: &Key) -> Position {
        Position {
            read_at: self.read_at,
            key: key.clone(),
            id: task.id,
        }
    }

    /// The rows of the page.
    async fn rows(&self, connection: &mut PgConnection) -> Result<Vec<Placed>, sqlx::Error> {
        let wanted = self.find.page.rows();
        let after = self.find.page.after.as_ref();
        match (self.find.sort.by, &self.find.filter.question) {
            (SortBy::Rank, Some(question)) => {
                let few = self.has_few_tasks(&mut *connection).await?;
                let mut sql = self.hits(question, few);
                self.push_best(&mut sql, 0);
                self.fetch(connection, sql, ranked(Key::Rank)).await
            }
            // An index has those that are never due behind all others.
            (SortBy::Due, _) if after.is_none() && !self.find.sort.descending => {
                let sql = self.sorted("", None, wanted);
                self.fetch(connection, sql, due_key).await
            }
            // Read from the middle of it, or backwards, they are another stretch of the index.
            (SortBy::Due, _) => {
                let dated = !matches!(
                    after,
                    Some(Position {
                        key: Key::NeverDue,
                        ..
                    })
                );
                let mut rows = Vec::new();
                if dated {
                    let sql = self.sorted(" and due_key is not null", after, wanted);
                    rows = self.fetch(&mut *connection, sql, due_key).await?;
                }
                let left = wanted - i64::try_from(rows.len()).unwrap_or(wanted);
                if left > 0 {
                    let sql = self.sorted(" and due_key is null", after.filter(|_| !dated), left);
                    rows.extend(self.fetch(connection, sql, due_key).await?);
                }
                Ok(rows)
            }
            _ => {
                let sql = self.sorted("", after, wanted);
                self.fetch(connection, sql, |_, task| Ok(self.key(task))).await
            }
        }
    }

    /// The place of a task in an order that can be told from the task.
    fn key(&self, task: &Task) -> Key {
        match self.find.sort.by {
            SortBy::Updated => Key::At(task.updated_at),
            SortBy::Priority => Key::Priority(match task.priority {
                Priority::Low => 1,
                Priority::Medium => 2,
                Priority::High => 3,
                Priority::Urgent => 4,
            }),
            SortBy::Title => Key::Title(task.title.chars().take(100).collect()),
            SortBy::Created | SortBy::Due | SortBy::Rank => Key::Created,
        }
    }

    /// A page in the order of an index.
    fn sorted(&self, further: &'static str, after: Option<&Position>, rows: i64) -> Sql {
        let sort = self.find.sort;
        let direction = if sort.descending { " desc" } else { "" };
        let key = match sort.by {
            SortBy::Created | SortBy::Rank => "",
            SortBy::Updated => "updated_at",
            SortBy::Due => "due_key",
            SortBy::Priority => "array_position(array['low', 'medium', 'high', 'urgent'], priority)",
            SortBy::Title => "left(title, 100) collate search.titles",
        };
        let mut sql = Sql::new(format!("select {COLUMNS}, due_key from tasks.tasks"));
        self.push_filter(&mut sql, self.find.filter.question.as_ref());
        sql.push(further);
        if let Some(Position { key: after, id, .. }) = after {
            let beyond = if sort.descending { '<' } else { '>' };
            match after {
                Key::Created | Key::NeverDue => {
                    sql.push(format_args!(" and id {beyond} ")).push_bind(*id);
                }
                after => {
                    sql.push(format_args!(" and ({key}, id) {beyond} ("));
                    push_key(&mut sql, after);
                    sql.push(", ").push_bind(*id).push(")");
                }
            }
        }
        sql.push(" order by ");
        if !key.is_empty() {
            sql.push(format_args!("{key}{direction}, "));
        }
        sql.push(format_args!("id{direction} limit ")).push_bind(rows);
        sql
    }

    /// The tasks that hold the words, with their rank: in the title before in the description; then the closer together, the
    /// oftener and the more exactly the better. A whole number, so that a cursor can name it.
    fn hits(&self, question: &Question, few: bool) -> Sql {
        let mut sql = Sql::new("with hits as materialized (select id, ");
        let words = question.positive();
        if words.alternatives.is_empty() {
            sql.push("0");
        } else {
            sql.push("(1000 * (sign(ts_rank_cd('{0,0,0,1}', search, ");
            push_question(&mut sql, &words);
            sql.push(")) + ts_rank_cd('{0,0,0.2,1}', search, ");
            push_question(&mut sql, &words);
            sql.push(", 32)");
            // A word that is all there comes before one that goes on.
            let whole = words.whole();
            if whole != words {
                sql.push(" / 2 + ts_rank_cd('{0,0,0.2,1}', search, ");
                push_question(&mut sql, &whole);
                sql.push(", 32) / 2");
            }
            sql.push("))::int");
        }
        sql.push(" as rank from ");
        if few {
            // OFFSET keeps the planner from looking through it.
            sql.push("(select * from tasks.tasks where user_id = ")
                .push_bind(self.find.user_id)
                .push(" offset 0) tasks");
        } else {
            sql.push("tasks.tasks");
        }
        self.push_filter(&mut sql, Some(question));
        sql.push(")");
        sql
    }

    /// The tasks with titles like these words, with their likeness: mistyped words are found by the parts that are right.
    fn similar_hits(&self, question: &Question) -> Sql {
        let mut sql = Sql::new(
            "with hits as materialized (
                 select id, (1000 * (select avg(search.word_similarity(word, title)) from unnest(",
        );
        sql.push_bind(
            question
                .words()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
        .push("::text[]) word))::int as rank from (select id, title from tasks.tasks");
        self.push_filter(&mut sql, None);
        let terms = question.alternatives.iter().flatten();
        for term in terms.filter(|term| term.negated) {
            sql.push(" and not search @@ search.phrase(")
                .push_bind(term.text.clone())
                .push(")");
        }
        sql.push(" order by id desc limit ")
            .push_bind(SIMILAR_AMONG)
            .push(") newest)");
        sql
    }

    async fn similar_rows(
        &self,
        connection: &mut PgConnection,
        question: &Question,
    ) -> Result<Vec<Placed>, sqlx::Error> {
        let mut sql = self.similar_hits(question);
        self.push_best(&mut sql, SIMILAR_FROM);
        self.fetch(connection, sql, ranked(Key::Similarity)).await
    }

    /// The best of the hits, behind the last one that was shown; of equals the newest.
    fn push_best(&self, sql: &mut Sql, at_least: i32) {
        sql.push(format_args!(
            " select {COLUMNS}, rank from (select id, rank from hits where rank >= "
        ))
        .push_bind(at_least);
        if let Some(Position {
            key: Key::Rank(rank) | Key::Similarity(rank),
            id,
            ..
        }) = &self.find.page.after
        {
            sql.push(" and (rank, id) < (")
                .push_bind(*rank)
                .push(", ")
                .push_bind(*id)
                .push(")");
        }
        sql.push(" order by rank desc, id desc limit ")
            .push_bind(self.find.page.rows())
            .push(") best join tasks.tasks using (id) where user_id = ")
            .push_bind(self.find.user_id)
            .push(" order by rank desc, id desc");
    }

    async fn count(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let mut sql = Sql::new("select count(*) from tasks.tasks");
        self.push_filter(&mut sql, self.find.filter.question.as_ref());
        sql.build_query_scalar()
            .persistent(false)
            .fetch_one(connection)
            .await
    }

    async fn count_similar(
        &self,
        connection: &mut PgConnection,
        question: &Question,
    ) -> Result<i64, sqlx::Error> {
        let mut sql = self.similar_hits(question);
        sql.push(" select count(*) from hits where rank >= ")
            .push_bind(SIMILAR_FROM);
        sql.build_query_scalar()
            .persistent(false)
            .fetch_one(connection)
            .await
    }

    async fn has_few_tasks(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let tasks: i64 = sqlx::query_scalar(
            "select count(*) from (select from tasks.tasks where user_id = $1 and deleted_at is null limit $2) tasks",
        )
        .bind(self.find.user_id)
        .bind(FEW + 1)
        .fetch_one(connection)
        .await?;
        Ok(tasks <= FEW)
    }

    /// The conditions, the owner first.
    fn push_filter(&self, sql: &mut Sql, question: Option<&Question>) {
        let filter = &self.find.filter;
        sql.push(" where user_id = ").push_bind(self.find.user_id);
        if filter.deleted {
            sql.push(" and deleted_at > ")
                .push_bind(self.read_at - KEPT_AFTER_DELETION);
        } else {
            sql.push(" and deleted_at is null");
        }
        match filter.status {
            Some(Status::Open) => drop(sql.push(" and completed_at is null")),
            Some(Status::Completed) => drop(sql.push(" and completed_at is not null")),
            None => {}
        }
        if !filter.priorities.is_empty() {
            sql.push(" and priority = any(")
                .push_bind(Vec::from_iter(filter.priorities.iter().copied()))
                .push(")");
        }
        for (tags, operator) in [(&filter.tags, "@>"), (&filter.tags_any, "&&")] {
            if !tags.is_empty() {
                sql.push(format_args!(" and tags {operator} "))
                    .push_bind(Vec::from_iter(tags.iter().cloned()));
            }
        }
        self.push_due(sql);
        if let Some(before) = filter.due_before {
            sql.push(" and due_key < ").push_bind(before);
        }
        if let Some(after) = filter.due_after {
            sql.push(" and due_key >= ").push_bind(after);
        }
        if let Some(series_id) = filter.series_id {
            sql.push(" and series_id = ").push_bind(series_id);
        }
        if let Some(since) = filter.updated_since {
            sql.push(" and updated_at >= ").push_bind(since);
        }
        if let Some(question) = question {
            sql.push(" and search @@ ");
            push_question(sql, question);
        }
        // What has changed since the first page may have been shown at its old place.
        if self.find.page.after.is_some() && self.find.sort.by != SortBy::Created {
            sql.push(" and updated_at <= ").push_bind(self.read_at);
        }
    }

    /// A whole day is due by its date where the person is, an instant by the clock. `due_key`, which has an index, bounds what
    /// is looked at.
    fn push_due(&self, sql: &mut Sql) {
        let today = Day::at(self.read_at, self.find.zone);
        match self.find.filter.due {
            None => {}
            Some(Due::Any) => drop(sql.push(" and due_key is not null")),
            Some(Due::None) => drop(sql.push(" and due_key is null")),
            Some(Due::Overdue) => {
                sql.push(" and completed_at is null and due_key < ")
                    .push_bind(self.read_at + DAYS_DIFFER_BY)
                    .push(" and case when due_on is null then due_key < ")
                    .push_bind(self.read_at)
                    .push(" else due_on < ")
                    .push_bind(today.date)
                    .push(" end");
            }
            Some(Due::Today) => {
                sql.push(" and due_key >= ")
                    .push_bind(today.starts_at - DAYS_DIFFER_BY)
                    .push(" and due_key < ")
                    .push_bind(today.ends_at + DAYS_DIFFER_BY)
                    .push(" and case when due_on is null then due_key >= ")
                    .push_bind(today.starts_at)
                    .push(" and due_key < ")
                    .push_bind(today.ends_at)
                    .push(" else due_on = ")
                    .push_bind(today.date)
                    .push(" end");
            }
        }
    }

    /// Statements of plain lists are few and stay prepared. The others are as many as there are combinations of filters, and
    /// each is planned for its values: how a rare tag is found best is not how a common one is.
    async fn fetch(
        &self,
        connection: &mut PgConnection,
        mut sql: Sql,
        key: impl Fn(&PgRow, &Task) -> Result<Key, sqlx::Error>,
    ) -> Result<Vec<Placed>, sqlx::Error> {
        let rows = sql
            .build()
            .persistent(self.find.filter.is_plain())
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| {
                let task = from_row(row)?;
                let key = key(row, &task)?;
                Ok((task, key))
            })
            .collect()
    }
}

fn due_key(row: &PgRow, _: &Task) -> Result<Key, sqlx::Error> {
    let at: Option<Timestamp> = row.try_get("due_key")?;
    Ok(at.map_or(Key::NeverDue, Key::At))
}

fn ranked(key: fn(i32) -> Key) -> impl Fn(&PgRow, &Task) -> Result<Key, sqlx::Error> {
    move |row, _| row.try_get("rank").map(key)
}

fn push_key(sql: &mut Sql, key: &Key) {
    match key {
        Key::At(at) => sql.push_bind(*at),
        Key::Priority(level) | Key::Rank(level) | Key::Similarity(level) => sql.push_bind(*level),
        Key::Title(title) => sql.push_bind(title.clone()),
        Key::Created | Key::NeverDue => sql.push("null"),
    };
}

/// One of several alternatives, each the conjunction of its terms. Without any, nothing is found.
fn push_question(sql: &mut Sql, question: &Question) {
    if question.alternatives.is_empty() {
        sql.push("null::tsquery");
        return;
    }
    let mut before = "((";
    for terms in &question.alternatives {
        for term in terms {
            sql.push(before).push(match (term.negated, term.starts) {
                (true, _) => "!!search.phrase(",
                (false, true) => "search.starts(",
                (false, false) => "search.phrase(",
            });
            sql.push_bind(term.text.clone()).push(")");
            before = " && ";
        }
        before = ") || (";
    }
    sql.push("))");
}

/// A day where somebody is.
struct Day {
    date: NaiveDate,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Day {
    fn at(at: Timestamp, zone: Tz) -> Self {
        let date = at.with_timezone(&zone).date_naive();
        let begins = |date: NaiveDate| resolve_local(date.and_time(NaiveTime::MIN), zone);
        Self {
            date,
            starts_at: begins(date),
            ends_at: begins(date.succ_opt().unwrap_or(date)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_where_somebody_is_and_may_have_another_number_of_hours() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let day = |now: &str, zone: Tz| {
            let day = Day::at(at(now), zone);
            (day.date.to_string(), day.starts_at, day.ends_at)
        };
        assert_eq!(
            day("2026-03-29T12:00:00Z", Tz::Europe__Berlin),
            (
                "2026-03-29".to_owned(),
                at("2026-03-28T23:00:00Z"),
                at("2026-03-29T22:00:00Z")
            )
        );
        assert_eq!(
            day("2026-11-21T23:30:00Z", Tz::Pacific__Kiritimati),
            (
                "2026-11-22".to_owned(),
                at("2026-11-21T10:00:00Z"),
                at("2026-11-22T10:00:00Z")
            )
        );
    }
}
