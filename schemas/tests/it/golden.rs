//! Files of tests/golden: the bytes of every sample, and the sample as JSON for whoever reads the difference (and for
//! readers in other languages).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use schemas::Event;

use crate::samples;

/// The folder of golden files, rewritten first if that is asked for.
fn folder() -> PathBuf {
    static UPDATE: Once = Once::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    UPDATE.call_once(|| {
        if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
            std::fs::create_dir_all(&folder).unwrap();
            for (stem, event) in named() {
                let body = event.encode("test").unwrap().body;
                std::fs::write(folder.join(format!("{stem}.hex")), to_hex(&body)).unwrap();
                std::fs::write(folder.join(format!("{stem}.json")), to_json(&event)).unwrap();
            }
        }
    });
    folder
}

/// Every sample and the stem of its files.
fn named() -> Vec<(String, Event)> {
    let all = samples::all()
        .into_iter()
        .map(|event| (event.record_name().to_owned(), event));
    all.chain([("TaskCreated.minimal".to_owned(), samples::minimal())])
        .collect()
}

/// 32 bytes a line.
fn to_hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn to_json(event: &Event) -> String {
    let json = match event {
        Event::Task(e) => serde_json::to_string_pretty(e),
        Event::Reminder(e) => serde_json::to_string_pretty(e),
        Event::Notification(e) => serde_json::to_string_pretty(e),
    };
    json.unwrap() + "\n"
}

/// What differs between a golden file (`None` when it is missing) and what is written today.
fn difference(file: &str, golden: Option<&[u8]>, today: &[u8]) -> Option<String> {
    let advice = "If that is meant: UPDATE_GOLDEN=1 cargo test -p schemas";
    let Some(golden) = golden else {
        return Some(format!("{file} is missing. {advice}"));
    };
    let common = golden.iter().zip(today).take_while(|(a, b)| a == b).count();
    (golden != today).then(|| {
        let excerpt = |bytes: &[u8]| {
            let rest = &bytes[common..];
            to_hex(&rest[..rest.len().min(16)]).trim_end().to_owned()
        };
        format!(
            "{file} differs first at offset {common}: it has {} bytes, there {:?}; today there are {} bytes, there {:?}. \
             {advice}",
            golden.len(),
            excerpt(golden),
            today.len(),
            excerpt(today),
        )
    })
}

#[test]
fn every_event_is_written_as_the_same_bytes_as_ever() {
    let mut differences = Vec::new();
    for (stem, event) in named() {
        let body = event.encode("test").unwrap().body;
        let path = folder().join(format!("{stem}.hex"));
        let golden = std::fs::read_to_string(&path).ok().map(|text| from_hex(&text));
        differences.extend(difference(&format!("{stem}.hex"), golden.as_deref(), &body));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_golden_bytes_of_every_event_are_read_as_the_sample() {
    for (stem, event) in named() {
        let Ok(text) = std::fs::read_to_string(folder().join(format!("{stem}.hex"))) else {
            panic!("{stem}.hex is missing");
        };
        let read = crate::read(event.record_name(), &from_hex(&text)).unwrap();
        assert_eq!(read, event, "{stem}");
    }
}

#[test]
fn the_golden_json_of_every_event_shows_the_sample() {
    let mut differences = Vec::new();
    for (stem, event) in named() {
        let json = to_json(&event);
        let path = folder().join(format!("{stem}.json"));
        let golden = std::fs::read(&path).ok();
        differences.extend(difference(
            &format!("{stem}.json"),
            golden.as_deref(),
            json.as_bytes(),
        ));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_golden_file_is_left_over_from_an_event_that_is_gone() {
    let expected: BTreeSet<String> = named()
        .into_iter()
        .flat_map(|(stem, _)| [format!("{stem}.hex"), format!("{stem}.json")])
        .collect();
    let found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        found.difference(&expected).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

#[test]
fn a_difference_is_reported_with_its_first_offset() {
    assert_eq!(difference("x.hex", Some(&[1, 2, 3]), &[1, 2, 3]), None);
    let report = difference("x.hex", Some(&[1, 2, 3]), &[1, 2, 4]).unwrap();
    assert!(report.contains("x.hex differs first at offset 2"), "{report}");
    let report = difference("x.hex", Some(&[1, 2, 3]), &[1, 2]).unwrap();
    assert!(
        report.contains("offset 2") && report.contains("3 bytes"),
        "{report}"
    );
    let report = difference("x.hex", None, &[1]).unwrap();
    assert!(report.contains("x.hex is missing"), "{report}");
}
