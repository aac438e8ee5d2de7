//! Every example of RFC 5545, section 3.8.5.3, with the dates printed there.

use recurrence::{Moment, Recurrence, Rule, Start};

use crate::moment;

/// A start, lines RRULE and EXDATE, and the dates as the RFC prints them: year, time of day (several with commas) and
/// offset, then months with days and ranges of days. "..." means that it goes on.
const EXAMPLES: [(&str, &str, &str); 41] = [
    (
        "19970902T090000",
        "RRULE:FREQ=DAILY;COUNT=10",
        "1997 09:00 EDT September 2-11",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=DAILY;UNTIL=19971224T000000Z",
        "1997 09:00 EDT September 2-30 October 1-25\n1997 09:00 EST October 26-31 November 1-30 December 1-23",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=DAILY;INTERVAL=2",
        "1997 09:00 EDT September 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30 October 2,4,6,8,10,12,14,16,18,20,22,24\n\
         1997 09:00 EST October 26,28,30 November 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29 December 1,3 ...",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=DAILY;INTERVAL=10;COUNT=5",
        "1997 09:00 EDT September 2,12,22 October 2,12",
    ),
    (
        "19980101T090000",
        "RRULE:FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
        "1998 09:00 EST January 1-31\n1999 09:00 EST January 1-31\n2000 09:00 EST January 1-31",
    ),
    (
        "19980101T090000",
        "RRULE:FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
        "1998 09:00 EST January 1-31\n1999 09:00 EST January 1-31\n2000 09:00 EST January 1-31",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;COUNT=10",
        "1997 09:00 EDT September 2,9,16,23,30 October 7,14,21\n1997 09:00 EST October 28 November 4",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;UNTIL=19971224T000000Z",
        "1997 09:00 EDT September 2,9,16,23,30 October 7,14,21\n\
         1997 09:00 EST October 28 November 4,11,18,25 December 2,9,16,23",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997 09:00 EDT September 2,16,30 October 14\n1997 09:00 EST October 28 November 11,25 December 9,23\n\
         1998 09:00 EST January 6,20 February 3,17 ...",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
        "1997 09:00 EDT September 2,4,9,11,16,18,23,25,30 October 2",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH",
        "1997 09:00 EDT September 2,4,9,11,16,18,23,25,30 October 2",
    ),
    (
        "19970901T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        "1997 09:00 EDT September 1,3,5,15,17,19,29 October 1,3,13,15,17\n\
         1997 09:00 EST October 27,29,31 November 10,12,14,24,26,28 December 8,10,12,22",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
        "1997 09:00 EDT September 2,4,16,18,30 October 2,14,16",
    ),
    (
        "19970905T090000",
        "RRULE:FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
        "1997 09:00 EDT September 5 October 3\n1997 09:00 EST November 7 December 5\n\
         1998 09:00 EST January 2 February 6 March 6 April 3\n1998 09:00 EDT May 1 June 5",
    ),
    (
        "19970905T090000",
        "RRULE:FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR",
        "1997 09:00 EDT September 5 October 3\n1997 09:00 EST November 7 December 5",
    ),
    (
        "19970907T090000",
        "RRULE:FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "1997 09:00 EDT September 7,28\n1997 09:00 EST November 2,30\n1998 09:00 EST January 4,25 March 1,29\n\
         1998 09:00 EDT May 3,31",
    ),
    (
        "19970922T090000",
        "RRULE:FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "1997 09:00 EDT September 22 October 20\n1997 09:00 EST November 17 December 22\n\
         1998 09:00 EST January 19 February 16",
    ),
    (
        "19970928T090000",
        "RRULE:FREQ=MONTHLY;BYMONTHDAY=-3",
        "1997 09:00 EDT September 28\n1997 09:00 EST October 29 November 28 December 29\n\
         1998 09:00 EST January 29 February 26 ...",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        "1997 09:00 EDT September 2,15 October 2,15\n1997 09:00 EST November 2,15 December 2,15\n\
         1998 09:00 EST January 2,15",
    ),
    (
        "19970930T090000",
        "RRULE:FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "1997 09:00 EDT September 30 October 1\n1997 09:00 EST October 31 November 1,30 December 1,31\n\
         1998 09:00 EST January 1,31 February 1",
    ),
    (
        "19970910T090000",
        "RRULE:FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "1997 09:00 EDT September 10-15\n1999 09:00 EST March 10-13",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997 09:00 EDT September 2,9,16,23,30\n1997 09:00 EST November 4,11,18,25\n\
         1998 09:00 EST January 6,13,20,27 March 3,10,17,24,31 ...",
    ),
    (
        "19970610T090000",
        "RRULE:FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "1997 09:00 EDT June 10 July 10\n1998 09:00 EDT June 10 July 10\n1999 09:00 EDT June 10 July 10\n\
         2000 09:00 EDT June 10 July 10\n2001 09:00 EDT June 10 July 10",
    ),
    (
        "19970310T090000",
        "RRULE:FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997 09:00 EST March 10\n1999 09:00 EST January 10 February 10 March 10\n\
         2001 09:00 EST January 10 February 10 March 10\n2003 09:00 EST January 10 February 10 March 10",
    ),
    (
        "19970101T090000",
        "RRULE:FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "1997 09:00 EST January 1\n1997 09:00 EDT April 10 July 19\n2000 09:00 EST January 1\n\
         2000 09:00 EDT April 9 July 18\n2003 09:00 EST January 1\n2003 09:00 EDT April 10 July 19\n\
         2006 09:00 EST January 1",
    ),
    (
        "19970519T090000",
        "RRULE:FREQ=YEARLY;BYDAY=20MO",
        "1997 09:00 EDT May 19\n1998 09:00 EDT May 18\n1999 09:00 EDT May 17 ...",
    ),
    (
        "19970512T090000",
        "RRULE:FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "1997 09:00 EDT May 12\n1998 09:00 EDT May 11\n1999 09:00 EDT May 17 ...",
    ),
    (
        "19970313T090000",
        "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "1997 09:00 EST March 13,20,27\n1998 09:00 EST March 5,12,19,26\n1999 09:00 EST March 4,11,18,25 ...",
    ),
    (
        "19970605T090000",
        "RRULE:FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        "1997 09:00 EDT June 5,12,19,26 July 3,10,17,24,31 August 7,14,21,28\n\
         1998 09:00 EDT June 4,11,18,25 July 2,9,16,23,30 August 6,13,20,27\n\
         1999 09:00 EDT June 3,10,17,24 July 1,8,15,22,29 August 5,12,19,26 ...",
    ),
    (
        "19970902T090000",
        "EXDATE:19970902T090000\nRRULE:FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "1998 09:00 EST February 13 March 13 November 13\n1999 09:00 EDT August 13\n2000 09:00 EDT October 13 ...",
    ),
    (
        "19970913T090000",
        "RRULE:FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997 09:00 EDT September 13 October 11\n1997 09:00 EST November 8 December 13\n\
         1998 09:00 EST January 10 February 7 March 7\n1998 09:00 EDT April 11 May 9 June 13 ...",
    ),
    (
        "19961105T090000",
        "RRULE:FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996 09:00 EST November 5\n2000 09:00 EST November 7\n2004 09:00 EST November 2 ...",
    ),
    (
        "19970904T090000",
        "RRULE:FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        "1997 09:00 EDT September 4 October 7\n1997 09:00 EST November 6",
    ),
    (
        "19970929T090000",
        "RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997 09:00 EDT September 29\n1997 09:00 EST October 30 November 27 December 30\n\
         1998 09:00 EST January 29 February 26 March 30 ...",
    ),
    // The RFC prints until 5:00 PM in New York and means it: erratum 3883 makes the UNTIL 21:00 UTC.
    (
        "19970902T090000",
        "RRULE:FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z",
        "1997 09:00,12:00,15:00 EDT September 2",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=MINUTELY;INTERVAL=15;COUNT=6",
        "1997 09:00,09:15,09:30,09:45,10:00,10:15 EDT September 2",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=MINUTELY;INTERVAL=90;COUNT=4",
        "1997 09:00,10:30,12:00,13:30 EDT September 2",
    ),
    (
        "19970902T090000",
        "RRULE:FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40",
        "1997 09:00,09:20,09:40,10:00,10:20,10:40,11:00,11:20,11:40,12:00,12:20,12:40,13:00,13:20,13:40,14:00,14:20,\
         14:40,15:00,15:20,15:40,16:00,16:20,16:40 EDT September 2-3 ...",
    ),
    (
        "19970805T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
        "1997 09:00 EDT August 5,10,19,24",
    ),
    (
        "19970805T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
        "1997 09:00 EDT August 5,17,19,31",
    ),
    (
        "20070115T090000",
        "RRULE:FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
        "2007 09:00 EST January 15,30 February 15\n2007 09:00 EDT March 15,30",
    ),
];

/// Rules the RFC gives as another way to say one of the above.
const ALSO: [(&str, &str); 1] = [(
    "RRULE:FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40",
    "RRULE:FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16",
)];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn printed(text: &str) -> (Vec<String>, bool) {
    let goes_on = text.ends_with(" ...");
    let mut all = Vec::new();
    for line in text.trim_end_matches(" ...").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [year, times, zone, dates @ ..] = words.as_slice() else {
            panic!("{line}");
        };
        let offset = match *zone {
            "EDT" => "-04:00",
            "EST" => "-05:00",
            other => panic!("{other}"),
        };
        for pair in dates.chunks(2) {
            let month = MONTHS.iter().position(|month| *month == pair[0]).unwrap() + 1;
            for range in pair[1].split(',') {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                for day in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
                    for time in times.split(',') {
                        all.push(format!("{year}-{month:02}-{day:02}T{time}:00{offset}"));
                    }
                }
            }
        }
    }
    (all, goes_on)
}

#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn recurrence(start: &str, lines: &str) -> Recurrence {
    let of = |name: &str| -> Vec<String> {
        lines
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
            .collect()
    };
    let rules: Vec<Rule> = of("RRULE:")
        .iter()
        .map(|rule| Rule::parse(rule).unwrap())
        .collect();
    let exceptions: Vec<Moment> = of("EXDATE:").iter().map(|date| moment(date)).collect();
    let start = Start::new(moment(start), Some(chrono_tz::America::New_York)).unwrap();
    Recurrence::new(start, &rules, &[], &exceptions).unwrap()
}

#[test]
fn every_example_of_the_rfc_has_the_dates_printed_there() {
    let also = ALSO.iter().flat_map(|(one, other)| {
        let example = EXAMPLES.iter().find(|(_, lines, _)| lines == one).unwrap();
        [(example.0, *other, example.2)]
    });
    for (start, lines, dates) in EXAMPLES.into_iter().chain(also) {
        let (expected, goes_on) = printed(dates);
        let set = recurrence(start, lines);
        let all: Vec<String> = set
            .iter()
            .take(expected.len() + 1)
            .map(|at| at.unwrap().to_string())
            .collect();
        assert_eq!(all[..expected.len().min(all.len())], expected, "{lines}");
        assert_eq!(all.len() > expected.len(), goes_on, "{lines}");

        // The same from the back, one from another, and counted.
        let moments: Vec<Moment> = set.iter().take(expected.len()).map(Result::unwrap).collect();
        let last = *moments.last().unwrap();
        let mut back: Vec<Moment> = set
            .range(None, Some(last))
            .unwrap()
            .rev()
            .map(Result::unwrap)
            .collect();
        back.reverse();
        assert_eq!(back, moments[..moments.len() - 1], "{lines}");
        for (index, at) in moments.iter().enumerate() {
            assert_eq!(set.count_before(*at).unwrap(), index as u64, "{lines} {at}");
            assert!(set.contains(*at).unwrap(), "{lines} {at}");
        }
    }
}
