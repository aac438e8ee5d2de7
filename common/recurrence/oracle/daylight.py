"""Prints the table of ../tests/it/daylight.rs: local times by Python's datetime, instants by its zoneinfo."""

import datetime
import os

os.environ["PYTHONTZPATH"] = ""
import zoneinfo  # noqa: E402

zoneinfo.reset_tzpath(())

# A zone, and local times that a change skips or repeats, or that lie in a day one skips.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T02:30", "2026-10-25T02:30"),
    ("America/New_York", "2026-03-08T02:30", "2026-11-01T01:30"),
    ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-04-05T01:45"),
    ("Africa/Casablanca", "2026-03-22T02:30", "2026-02-15T02:30"),
    ("America/St_Johns", "2026-03-08T02:30", "2026-11-01T01:30", "2010-03-14T00:30"),
    ("Asia/Kathmandu", "1986-01-01T00:10"),
    ("Pacific/Apia", "2011-12-30T09:00", "2012-04-01T03:30", "2012-09-30T03:30"),
    ("Europe/Lisbon", "2026-03-29T01:30", "2026-10-25T01:30"),
    ("America/Sao_Paulo", "2018-11-04T00:30", "2018-02-17T23:30"),
]


def monthly(at):
    """The same day and time of the months around that have it, from the last before on."""
    days = []
    for month in range(at.month - 4, at.month + 8):
        try:
            days.append(at.replace(year=at.year + (month - 1) // 12, month=(month - 1) % 12 + 1))
        except ValueError:
            pass
    return days[days.index(at) - 1 :]


def steps(freq, at):
    """A start before `at` and the local times from there on."""
    if freq == "MONTHLY":
        yield from monthly(at)
        return
    step = {"HOURLY": datetime.timedelta(hours=1), "DAILY": datetime.timedelta(1), "WEEKLY": datetime.timedelta(7)}[freq]
    for number in range(-1, 33 if freq == "HOURLY" else 5):
        yield at + number * step


for zone, *times in CHANGES:
    zone = zoneinfo.ZoneInfo(zone)
    for text in times:
        at = datetime.datetime.fromisoformat(text)
        for freq in ("HOURLY", "DAILY", "WEEKLY", "MONTHLY"):
            walls = list(steps(freq, at))
            instants = {wall.replace(tzinfo=zone).astimezone(datetime.timezone.utc) for wall in walls}
            start = walls[0].replace(tzinfo=zone).astimezone(datetime.timezone.utc)
            instants = sorted(instant for instant in instants if instant >= start)[:4]
            shown = ", ".join('"' + str(instant.astimezone(zone).isoformat()) + '"' for instant in instants)
            print(f'    ("{zone}", "{walls[0].isoformat()}", "{freq}", [{shown}]),')
