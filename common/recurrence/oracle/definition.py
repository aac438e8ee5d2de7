"""What a rule means, day by day, for the differences that compare.py finds: slow, and independent of both sides.

It goes through all days from a year before the start on, asks of each whether it belongs to the rule, and puts the
times of the days into their periods. docs/RECURRENCE.md gives the RFC's words for what is decided here.
"""

from collections import defaultdict
from datetime import date, datetime, timedelta

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def numbers(parts, name):
    return [int(value) for value in parts[name].split(",")] if name in parts else []


def has(values, front, length):
    return front in values or front - length - 1 in values


class Definition:
    def __init__(self, rule, start):
        parts = dict(part.split("=") for part in rule.split(";"))
        self.start = start
        self.freq = parts["FREQ"]
        self.interval = int(parts.get("INTERVAL", 1))
        self.count = int(parts["COUNT"]) if "COUNT" in parts else None
        self.until = datetime.strptime(parts["UNTIL"], "%Y%m%dT%H%M%S") if "UNTIL" in parts else None
        self.month, self.week_no, self.year_day, self.month_day, self.hour, self.minute, self.second, self.set_pos = (
            numbers(parts, name)
            for name in ("BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS")
        )
        self.day = [(int(d[:-2] or 0), WEEKDAYS.index(d[-2:])) for d in parts["BYDAY"].split(",")] if "BYDAY" in parts else []
        self.week_start = WEEKDAYS.index(parts.get("WKST", "MO"))

    def numbered_week(self, day):
        """The year a day's week belongs to, its number and how many weeks that year has."""
        fourth = day - timedelta((day.weekday() - self.week_start) % 7) + timedelta(3)
        last = date(fourth.year, 12, 31)
        while last.weekday() != fourth.weekday():
            last -= timedelta(1)
        week = lambda of: (of.timetuple().tm_yday - 1) // 7 + 1
        return fourth.year, week(fourth), week(last)

    def takes(self, day):
        start = self.start
        next_month = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        month_len = (next_month - timedelta(1)).day
        year_len = date(day.year, 12, 31).timetuple().tm_yday
        in_year = day.timetuple().tm_yday
        if self.month and day.month not in self.month:
            return False
        if self.year_day and not has(self.year_day, in_year, year_len):
            return False
        if self.month_day and not has(self.month_day, day.day, month_len):
            return False
        if self.week_no:
            _, week, weeks = self.numbered_week(day)
            if not has(self.week_no, week, weeks):
                return False
        index, length = (in_year, year_len) if self.freq == "YEARLY" and not self.month else (day.day, month_len)
        if self.day:
            nth, back = (index - 1) // 7 + 1, -((length - index) // 7 + 1)
            return any(w == day.weekday() and n in (0, nth, back) for n, w in self.day)
        if not self.year_day and not self.month_day:
            if self.freq == "WEEKLY" or self.freq == "YEARLY" and self.week_no:
                return day.weekday() == start.weekday()
            if self.freq == "MONTHLY" or self.freq == "YEARLY":
                return day.day == start.day and (self.freq == "MONTHLY" or bool(self.month) or day.month == start.month)
        return True

    def period(self, at):
        if self.freq == "YEARLY":
            return self.numbered_week(at.date())[0] if self.week_no else at.year
        if self.freq == "MONTHLY":
            return at.year * 12 + at.month
        if self.freq == "WEEKLY":
            return (at.toordinal() - 1 - self.week_start) // 7
        seconds = at.toordinal() * 86400 + at.hour * 3600 + at.minute * 60 + at.second
        return seconds // {"DAILY": 86400, "HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}[self.freq]

    def first_period(self):
        first = self.period(self.start)
        if self.freq == "YEARLY" and self.week_no and first != self.start.year:
            # Not the year of its week, unless the start is one of the rule's days.
            if self.interval == 1 or not self.takes(self.start.date()):
                return self.start.year
        return first

    def occurrences(self, most, before):
        rank = ["SECONDLY", "MINUTELY", "HOURLY"].index(self.freq) if self.freq in ("SECONDLY", "MINUTELY", "HOURLY") else 3
        of_start = lambda values, own, everything, implied: values or ([own] if implied else list(range(everything)))
        hours = sorted(set(of_start(self.hour, self.start.hour, 24, rank > 2)))
        minutes = sorted(set(of_start(self.minute, self.start.minute, 60, rank > 1)))
        seconds = sorted(set(of_start(self.second, self.start.second, 60, rank > 0)))
        first = self.first_period()
        found = []
        day = (self.start - timedelta(366 if self.set_pos or self.week_no else 0)).date()
        end = min(before, self.until + timedelta(seconds=1)) if self.until else before
        # BYSETPOS wants whole periods.
        reach = end + timedelta(400 if self.set_pos else 1)
        periods = defaultdict(list)
        limit = most if self.count is None else min(most, self.count)
        while datetime(day.year, day.month, day.day) < reach:
            if self.takes(day):
                for hour in hours:
                    for minute in minutes:
                        for second in seconds:
                            at = datetime(day.year, day.month, day.day, hour, minute, second)
                            period = self.period(at)
                            if (period - first) % self.interval == 0:
                                if self.set_pos:
                                    periods[period].append(at)
                                elif self.start <= at < end:
                                    found.append(at)
            if not self.set_pos and len(found) > limit:
                break
            day += timedelta(1)
        for times in periods.values():
            for index, at in enumerate(times):
                if has(self.set_pos, index + 1, len(times)) and self.start <= at < end:
                    found.append(at)
        return sorted(found)[:limit]
