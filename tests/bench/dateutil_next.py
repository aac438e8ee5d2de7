"""How long python-dateutil takes to the next occurrence. Asked on standard input, as JSON; answers on standard output."""

import json
import statistics
import sys
import time
from datetime import datetime, timezone

from dateutil import rrule, tz

asked = json.load(sys.stdin)
zone = tz.gettz(asked["zone"])
start = datetime.fromisoformat(asked["start"]).replace(tzinfo=zone)
answers = {}
for text in asked["rules"]:
    rule = rrule.rrulestr(text, dtstart=start)
    times, found = [], []
    began = time.perf_counter()
    for moment in asked["from"]:
        moment = datetime.fromisoformat(moment).astimezone(zone)
        before = time.perf_counter()
        occurrence = rule.after(moment)
        times.append((time.perf_counter() - before) * 1e6)
        found.append(occurrence.astimezone(timezone.utc).isoformat())
        if time.perf_counter() - began > asked["patience_seconds"]:
            break
    answers[text] = {"median_us": statistics.median(times), "next": found}
json.dump(answers, sys.stdout)
