"""Compares random rules with python-dateutil: see ../../../docs/RECURRENCE.md.

    compare.py ORACLE [--rules N] [--seed S] [--show N]

ORACLE is the binary of examples/oracle.rs. Ends with 1 if a difference is left that no class explains.

A difference counts as explained if its rule is of a class below and this crate says what definition.py says, which
shares no code with either side. A difference outside of the classes is left over whatever the definition says.
"""

import argparse
import datetime
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

os.environ["PYTHONTZPATH"] = ""  # the pinned tzdata, not the machine's
import zoneinfo  # noqa: E402

from dateutil import rrule  # noqa: E402

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from definition import Definition  # noqa: E402

zoneinfo.reset_tzpath(())
LAST_YEAR = datetime.MAXYEAR
MOST = 8
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
# Years that are looked at, as dateutil goes through all of them.
YEARS = {"YEARLY": 29, "MONTHLY": 9, "WEEKLY": 5, "DAILY": 3, "HOURLY": 1, "MINUTELY": 1, "SECONDLY": 1}
FREQS = list(YEARS)
SHARES = [22, 24, 18, 16, 12, 5, 3]
# dateutil goes through a frequency step by step; what it has found after so many seconds is what it is compared by.
PATIENCE = 0.015
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Europe/Lisbon",
    "America/Sao_Paulo",
]
HOUR = datetime.timedelta(hours=1)
UTC = datetime.timezone.utc


def changes(zone):
    """Local days from 1970 to 2037 on which the offset of a zone changes."""
    zone = zoneinfo.ZoneInfo(zone)
    day = datetime.datetime(1970, 1, 1, tzinfo=UTC)
    offset, days = day.astimezone(zone).utcoffset(), []
    while day.year < 2037:
        day += datetime.timedelta(1)
        now = day.astimezone(zone).utcoffset()
        if now != offset:
            days.append((day - datetime.timedelta(1)).replace(tzinfo=None))
        offset = now
    return days


CHANGES = {}


def some(rng, values, most):
    return sorted(rng.sample(values, rng.randint(1, min(most, len(values)))))


def random_case(rng):
    """A start, a zone or nothing, and a rule that RFC 5545 allows."""
    freq = rng.choices(FREQS, SHARES)[0]
    parts = [("FREQ", freq)]
    yearly, monthly, hourly = freq == "YEARLY", freq == "MONTHLY", freq in ("HOURLY", "MINUTELY", "SECONDLY")
    zone = rng.choice(ZONES) if freq not in ("MINUTELY", "SECONDLY") and rng.random() < 0.25 else ""
    if rng.random() < 0.5:
        wide = {"YEARLY": 6, "MONTHLY": 20, "WEEKLY": 9, "DAILY": 40, "HOURLY": 100, "MINUTELY": 200, "SECONDLY": 4000}
        parts.append(("INTERVAL", rng.randint(1, rng.choice([3, wide[freq]]))))
    by = lambda share: rng.random() < share
    if by(0.3):
        parts.append(("BYMONTH", some(rng, range(1, 13), 4)))
    weeks = yearly and by(0.12)
    if weeks:
        weeks = [1, 2, 20, 26, 51, 52, 53, -1, -2, -10, -51, -52, -53]
        parts.append(("BYWEEKNO", some(rng, weeks, 3)))
    if (yearly or hourly) and by(0.15):
        parts.append(("BYYEARDAY", some(rng, [1, 2, 59, 60, 61, 100, 200, 365, 366, -1, -2, -307, -365, -366], 5)))
    if freq != "WEEKLY" and by(0.3):
        parts.append(("BYMONTHDAY", some(rng, [*range(1, 32), -1, -2, -15, -29, -30, -31], 5)))
    if by(0.4):
        days = some(rng, WEEKDAYS, 5)
        if monthly or yearly and not weeks:
            nth = [0, 1, 2, 3, 4, 5, -1, -2, -4, -5]
            if yearly and not any(name == "BYMONTH" for name, _ in parts):
                nth += [10, 20, 52, 53, -10, -52, -53]
            style = rng.random()
            if style < 0.5:
                days = [f"{rng.choice(nth[1:])}{day}" for day in days]
            elif style < 0.54:
                days = [f"{rng.choice(nth) or ''}{day}" for day in days]
        parts.append(("BYDAY", days))
    if by(0.3):
        parts.append(("BYHOUR", some(rng, range(24), 4)))
    if by(0.2):
        parts.append(("BYMINUTE", some(rng, range(60), 3)))
    if by(0.1):
        parts.append(("BYSECOND", some(rng, range(60), 3)))
    if any(name.startswith("BY") for name, _ in parts) and by(0.25):
        parts.append(("BYSETPOS", sorted({rng.choice([1, 1, 1, 2, 2, 3, 5, 9, 20, -1, -1, -1, -2, -2, -3, -7, -20]) for _ in "12"})))
    if by(0.3):
        parts.append(("WKST", rng.choice(WEEKDAYS)))
    start = datetime.datetime(rng.randint(1971, 2036), 1, 1) + datetime.timedelta(rng.randrange(366))
    if zone and rng.random() < 0.6:
        CHANGES.get(zone) or CHANGES.update({zone: changes(zone)})
        if CHANGES[zone]:
            start = rng.choice(CHANGES[zone]) - datetime.timedelta(rng.choice([0, 0, 0, 1, 2, 7, 30, 365]))
    elif rng.random() < 0.2:
        start = start.replace(month=rng.choice([1, 2, 12]), day=rng.choice([1, 28]))
        start += datetime.timedelta(rng.choice([0, 1, 2, 3]))
    start += rng.choice([0, 1, 2, 3, 3, 9, 23]) * HOUR + datetime.timedelta(minutes=rng.choice([0, 0, 15, 30, 59]))
    if rng.random() < 0.2:
        parts.append(("COUNT", rng.randint(1, 9)))
    elif rng.random() < 0.2:
        end = start + datetime.timedelta(rng.randint(0, YEARS[freq] * 200), rng.randrange(86400))
        parts.append(("UNTIL", end.strftime("%Y%m%dT%H%M%S")))
    text = lambda value: ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return start, zone, ";".join(f"{name}={text(value)}" for name, value in parts)


def instant(wall, zone):
    """As RFC 5545, 3.3.5: Python reads fold=0 the same way."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def on_the_time_line(walls, zone, start, complete):
    """Instants of local times, each once, up to where no local time that is missing can come in between."""
    found = {instant(wall, zone) for wall in walls}
    found = sorted(at for at in found if at >= instant(start, zone))
    if not complete:
        end = instant(walls[-1], zone) - 25 * HOUR
        found = [at for at in found if at < end]
    return found


def times_a_day(rule):
    parts = dict(part.split("=") for part in rule.split(";"))
    length = lambda name: len(parts[name].split(",")) if name in parts else 1
    hours = 24 if parts["FREQ"] == "HOURLY" and "BYHOUR" not in parts else length("BYHOUR")
    return hours * length("BYMINUTE") * length("BYSECOND")


def expected(start, zone, rule, years, source):
    """What `source` (dateutil, or the definition) gives: occurrences, whether these are all, and whether it was slow."""
    before = datetime.datetime(start.year + years, 1, 1)
    most = MOST
    count = until = None
    if zone:
        # COUNT counts occurrences and UNTIL is an instant, so both are for the time line.
        kept = []
        for part in rule.split(";"):
            name, value = part.split("=")
            if name == "COUNT":
                count = int(value)
            elif name == "UNTIL":
                until = datetime.datetime.strptime(value, "%Y%m%dT%H%M%S")
            else:
                kept.append(part)
        rule = ";".join(kept)
        # Local times of more than a day beyond the last that counts: see on_the_time_line.
        most = MOST + 2 * times_a_day(rule) + 3
    walls, slow = source(rule, start, most, before)
    if not zone:
        return walls[:MOST], len(walls) < MOST and not slow, slow
    complete = len(walls) < most and not slow
    zone = zoneinfo.ZoneInfo(zone)
    # Around the end of what is looked at the two sides may cut differently.
    found = on_the_time_line(walls, zone, start, complete) if walls else []
    if until is not None:
        inside = [at for at in found if at <= instant(until, zone)]
        found, complete = inside, complete or len(inside) < len(found)
    if count is not None:
        found, complete = found[:count], complete or len(found) >= count
    return [at.astimezone(zone) for at in found][:MOST], complete and len(found) < MOST, slow


class Slow(Exception):
    """dateutil took too long."""


def stop(*_):
    raise Slow


signal.signal(signal.SIGVTALRM, stop)


def of_dateutil(rule, start, most, before):
    """The first occurrences, and whether dateutil was cut short."""
    found = []
    datetime.MAXYEAR = before.year - 1
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
        for at in rrule.rrulestr(rule, dtstart=start):
            if at >= before or len(found) == most:
                break
            found.append(at)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return found, False
    except ValueError:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return [], False  # dateutil's word for a rule without occurrences
    except Slow:
        return found, True
    finally:
        datetime.MAXYEAR = LAST_YEAR


def of_definition(rule, start, most, before):
    return Definition(rule, start).occurrences(most, before), False


def classes(start, rule):
    """The classes of docs/RECURRENCE.md that a rule falls into."""
    parts = dict(part.split("=") for part in rule.split(";"))
    found = []
    if "BYWEEKNO" in parts:
        if not {"BYDAY", "BYMONTHDAY", "BYYEARDAY"} & parts.keys():
            found.append("week-without-weekday")
        numbers = [int(number) for number in parts["BYWEEKNO"].split(",")]
        if parts.get("INTERVAL", "1") != "1" or "BYSETPOS" in parts:
            found.append("week-across-new-year")
        if any(number <= -52 for number in numbers):
            found.append("first-week-from-the-back")
        if {52, 53} & set(numbers):
            found.append("last-week-in-january")
    days = parts.get("BYDAY", "").split(",")
    if any(len(day) > 2 for day in days) and any(len(day) == 2 for day in days):
        found.append("plain-and-numbered-weekdays")
    if parts["FREQ"] == "WEEKLY" and "BYSETPOS" in parts:
        found.append("positions-in-the-first-week")
    return found


def shown(at):
    return at.isoformat(timespec="seconds")


def same(ours, theirs, complete):
    if complete:
        return ours == theirs
    return ours[: len(theirs)] == theirs


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("oracle")
    arguments.add_argument("--rules", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--show", type=int, default=20)
    arguments = arguments.parse_args()
    rng = random.Random(arguments.seed)
    compared = occurrences = empty = slow = left = 0
    explained = Counter()
    began = time.monotonic()
    while compared < arguments.rules:
        cases = [random_case(rng) for _ in range(min(5000, arguments.rules - compared))]
        lines = "".join(
            f"{start:%Y-%m-%dT%H:%M:%S}\t{zone}\t{rule}\t{MOST}\t{start.year + YEARS[rule.split(';')[0][5:]]}-01-01\n"
            for start, zone, rule in cases
        )
        answers = subprocess.run([arguments.oracle], input=lines, capture_output=True, text=True, check=True)
        if compared:
            print(f"{compared} rules, {left} left over", file=sys.stderr)
        for (start, zone, rule), answer in zip(cases, answers.stdout.splitlines(), strict=True):
            compared += 1
            years = YEARS[rule.split(";")[0][5:]]
            theirs, complete, cut = expected(start, zone, rule, years, of_dateutil)
            slow += cut
            theirs = [shown(at) for at in theirs]
            refused = answer.startswith("!")
            ours = [] if refused else answer[2:].split()
            occurrences += len(theirs)
            empty += complete and not theirs
            sound = not refused or "has no occurrence" in answer or "before the first" in answer
            if sound and same(ours, theirs, complete):
                continue
            names = classes(start, rule)
            defined, complete, _ = expected(start, zone, rule, years, of_definition)
            defined = [shown(at) for at in defined]
            if sound and names and same(ours, defined, complete):
                explained["+".join(names)] += 1
                continue
            left += 1
            if left <= arguments.show:
                print(f"{start:%Y-%m-%dT%H:%M:%S} {zone} {rule} {names}")
                print(f"  ours      {answer}")
                print(f"  dateutil  {' '.join(theirs)} (complete: {complete})")
                print(f"  defined   {' '.join(defined)}")
    for name, number in explained.most_common():
        print(f"{number:8} {name}")
    seconds = time.monotonic() - began
    print(
        f"{compared} rules (seed {arguments.seed}), {occurrences} occurrences, {empty} rules without one, "
        f"{slow} on which dateutil was cut short, "
        f"{sum(explained.values())} differences explained, {left} left over, {seconds:.0f} s"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
