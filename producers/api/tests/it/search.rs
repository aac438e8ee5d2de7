//! What words find, and in which order.

use serde_json::{Value, json};

use crate::server::{Person, Server, escaped};

/// Titles and descriptions, the oldest first.
const TASKS: [(&str, &str); 32] = [
    ("Call the dentist about Thursday", ""),
    ("Water the plants", "The ficus needs less than the others."),
    ("Buy milk and bread", ""),
    ("Buy bread", "No milk this time!"),
    ("Running shoes", "For the run in May."),
    ("Run the marathon", ""),
    ("He runs the organization", ""),
    ("Organize the garage", ""),
    ("Team meeting notes", "Minutes of the weekly meetings"),
    ("Meet Charles", "About the analytical engine"),
    ("Read: To be or not to be", ""),
    ("Réserver un café à Besançon", "crème brûlée"),
    ("Cafe opening hours", ""),
    ("Straße kehren", "Größere Äste zuerst"),
    ("Smørrebrød for the party", ""),
    ("東京タワーに行く", "新幹線の切符を買う"),
    ("京都の寺", ""),
    ("买牛奶", "牛奶和面包"),
    ("서울에서 회의", ""),
    ("ซื้อนม", ""),
    ("Позвонить маме", "В субботу"),
    ("Birthday 🎂 for Ada", "🎈🎈"),
    ("☕ with Bob", ""),
    ("Ship it 👍🏽", ""),
    (
        "Pay invoice INV-2026-0042",
        "See https://example.com/invoices/42?paid=no",
    ),
    ("Mail ada.lovelace@example.org", ""),
    ("Fix bug in foo_bar.baz()", "C++ and version 1.2.3"),
    ("Do state-of-the-art review", ""),
    ("Don't forget Ada's keys", ""),
    ("Quarterly report", ""),
    ("Send notes", "The report is due each quarter; report it"),
    ("Water", ""),
];

/// The indexes into [`TASKS`] of what a page holds, in its order, and whether it is of similar titles.
async fn search(person: &Person, ids: &[Value], q: &str) -> (Vec<usize>, bool) {
    let answer = person.get(&format!("/api/tasks?q={}", escaped(q))).await;
    assert_eq!(answer.status, 200, "{q}: {}", answer.text);
    let page = answer.json();
    let items = page["items"].as_array().unwrap();
    let found = items
        .iter()
        .map(|task| ids.iter().position(|id| *id == task["id"]).unwrap());
    (found.collect(), page["similar"] == true)
}

async fn write(person: &Person) -> Vec<Value> {
    let mut ids = Vec::new();
    for (title, description) in TASKS {
        let description = Some(description).filter(|text| !text.is_empty());
        let body = json!({"title": title, "description": description});
        ids.push(person.task(&body).await.1["id"].clone());
    }
    ids
}

#[tokio::test]
async fn words_find_what_they_mean_the_best_first() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let ids = write(&ada).await;
    // Another person's are never found, whatever they hold.
    write(&server.person("eve@example.org").await).await;
    let table: &[(&str, &[usize])] = &[
        // Words, whole and in their other forms; the exact form before its relatives, the title before the description.
        ("dentist", &[0]),
        ("DENTIST", &[0]),
        ("dentists", &[0]),
        ("plant", &[1]),
        ("water", &[31, 1]),
        ("run", &[5, 4, 6]),
        ("running ", &[4, 5, 6]),
        ("runs ", &[6, 5, 4]),
        ("shoe", &[4]),
        ("meeting", &[8, 9]),
        ("report", &[29, 30]),
        ("minutes", &[8]),
        ("engine", &[9]),
        // All of them, wherever they stand.
        ("buy milk", &[2, 3]),
        ("milk buy", &[2, 3]),
        ("buy bread", &[3, 2]),
        ("bread marathon", &[]),
        // Phrases.
        ("\"buy bread\"", &[3]),
        ("\"bread buy\"", &[]),
        ("\"to be or not to be\"", &[10]),
        ("\"the run\"", &[4]),
        // Not.
        ("bread -milk", &[]),
        ("bread -and", &[3]),
        ("water -plants", &[31]),
        ("buy -\"and bread\"", &[3]),
        // Or.
        ("dentist or marathon", &[5, 0]),
        ("dentist OR garage", &[7, 0]),
        ("buy milk or garage", &[2, 7, 3]),
        // The last word may go on, also where its stem is shorter.
        ("den", &[0]),
        ("mara", &[5]),
        ("organiz", &[7, 6]),
        ("organizat", &[6]),
        ("quart", &[29, 30]),
        ("call den", &[0]),
        ("den call", &[]),
        ("den ", &[]),
        ("\"call the den", &[0]),
        // Stop words are words.
        ("not to be", &[10]),
        // Accents, and letters with strokes.
        ("cafe", &[12, 11]),
        ("café", &[12, 11]),
        ("CAFÉ", &[12, 11]),
        ("reserver", &[11]),
        ("creme brulee", &[11]),
        ("besancon", &[11]),
        ("cafe\u{301}", &[12, 11]),
        ("strasse", &[13]),
        ("aste", &[13]),
        ("smorrebrod", &[14]),
        // Scripts without blanks between words: any part of them.
        ("東京", &[15]),
        ("京", &[16, 15]),
        ("京東", &[]),
        ("タワー", &[15]),
        ("切符", &[15]),
        ("牛奶", &[17]),
        ("回 牛", &[]),
        ("회의", &[18]),
        ("서울", &[18]),
        ("นม", &[19]),
        ("маме", &[20]),
        ("МАМЕ", &[20]),
        ("суббот", &[20]),
        // Emoji, in whatever colour.
        ("🎂", &[21]),
        ("🎈", &[21]),
        ("☕", &[22]),
        ("☕️ bob", &[22]),
        ("👍", &[23]),
        ("👍🏿", &[23]),
        ("🚀", &[]),
        // Numbers, addresses, code: by their parts.
        ("INV-2026-0042", &[24]),
        ("0042", &[24]),
        ("example.com", &[24]),
        ("lovelace", &[25]),
        ("ada.lovelace@example.org", &[25]),
        ("foo_bar", &[26]),
        ("baz()", &[26]),
        ("1.2.3", &[26]),
        ("art", &[27]),
        ("state of the art", &[27]),
        ("don't", &[28]),
        ("ada", &[28, 25, 21]),
        ("!!!", &[]),
        ("\"\"", &[]),
        ("-", &[]),
        ("&|!():*<->", &[]),
        ("'; drop table tasks.tasks; --", &[]),
    ];
    for (q, expected) in table {
        let (found, similar) = search(&ada, &ids, q).await;
        let found = if similar { Vec::new() } else { found };
        let titles: Vec<_> = found.iter().map(|index| TASKS[*index].0).collect();
        assert_eq!(found, *expected, "{q}: {titles:?}");
    }
    // What is not there says nothing about what is.
    assert_eq!(search(&ada, &ids, "-water").await.0.len(), TASKS.len() - 2);
}

#[tokio::test]
async fn mistyped_words_find_what_is_similar_if_nothing_holds_them() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let ids = write(&ada).await;
    write(&server.person("eve@example.org").await).await;
    for (q, best) in [
        ("dentst", 0),
        ("dentsit", 0),
        ("maraton", 5),
        ("marathno", 5),
        ("meetnig notes", 8),
        ("quartely reprot", 29),
        ("wter", 31),
        ("brithday", 21),
        ("lovelase", 25),
    ] {
        let (found, similar) = search(&ada, &ids, q).await;
        assert_eq!(found.first(), Some(&best), "{q}: {found:?}");
        assert!(similar, "{q}");
    }
    for q in ["xyzzy", "dentst -call"] {
        assert_eq!(search(&ada, &ids, q).await, (vec![], false), "{q}");
    }
    // A word that is there is not mistyped.
    assert_eq!(search(&ada, &ids, "water").await, (vec![31, 1], false));
}

#[tokio::test]
async fn a_change_of_a_task_changes_what_finds_it() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "old words"})).await;
    let ids = [task["id"].clone()];
    assert_eq!(search(&ada, &ids, "old").await.0, [0]);
    ada.patch(&path, &json!({"title": "new name", "description": "and more"}))
        .await;
    assert_eq!(search(&ada, &ids, "old").await.0, Vec::<usize>::new());
    for q in ["new", "more"] {
        assert_eq!(search(&ada, &ids, q).await.0, [0], "{q}");
    }
    ada.send(reqwest::Method::DELETE, &path).await;
    assert_eq!(search(&ada, &ids, "new").await.0, Vec::<usize>::new());
}
