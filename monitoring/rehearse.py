"""What monitoring/rehearse does: Prometheus, a short load, and every expression."""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
LOAD_SECONDS = 25
# A round is four requests. A person may send 20 a second (RATE_LIMIT_USER_PER_MINUTE), and what is refused is no load.
ROUND_SECONDS = 0.25
# So that there is a line to see.
DRAWN_SECONDS = 120
# Rates need two scrapes, rules an evaluation after those; a busy machine takes its time for both.
PATIENCE_SECONDS = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def configuration(base, folder):
    """The configuration for compose, with the ports of the platform that runs here."""
    text = yaml.safe_load((HERE / "prometheus/prometheus.yml").read_text())
    text["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    text["rule_files"] = [str(HERE / "prometheus/rules/*.yml")]
    for job in text["scrape_configs"]:
        for targets in job["static_configs"]:
            targets["targets"] = [f"127.0.0.1:{base + int(target.rsplit(':', 1)[1]) - 8000}" for target in targets["targets"]]
    path = Path(folder) / "prometheus.yml"
    path.write_text(yaml.safe_dump(text))
    return path


class Person:
    """Somebody who uses the API."""

    def __init__(self, base):
        self.base, self.token = f"http://127.0.0.1:{base}", None
        made = self.ask("POST", "/api/auth/register", {
            "email": f"rehearsal-{uuid.uuid4()}@example.org", "password": "correct horse battery staple", "name": "A rehearsal", "timezone": "UTC",
        })
        self.token = made["access_token"]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=body and json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def does_a_little_of_everything(self):
        now = datetime.now(timezone.utc)
        due = (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        soon = (now + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.ask("POST", "/api/tasks", {"title": "Rings", "reminders": [{"at": soon}]})
        kept = self.ask("POST", "/api/tasks", {"title": "Recurs", "due_at": due, "recurrence": "FREQ=DAILY", "reminders": [{"offset": "-PT10M"}]})
        self.ask("POST", f"/api/tasks/{kept['id']}/complete")
        self.ask("GET", "/api/tasks")


def queries():
    """What is asked: a name, the expression, and whether it is an alert's."""
    for file in ("recording", "alerts"):
        for group in yaml.safe_load((HERE / f"prometheus/rules/{file}.yml").read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"], "alert" in rule
    for path in sorted((HERE / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "30s"), False


def told(expression):
    """An alert's expression that says 0 where the alert would be silent, so that silence is told from nothing."""
    parts = re.split(r'("[^"]*")', re.sub(r"\s+or absent\([^)]*\)", "", expression))
    # Comparisons, and not the matchers within braces: those have no blanks around them.
    return "".join(part if part.startswith('"') else re.sub(r" (==|!=|>=|<=|>|<) ", r" \1 bool ", part) for part in parts)


def main():
    base, drawings = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={configuration(base, folder)}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
        )
        try:
            return rehearse(base, f"http://127.0.0.1:{port}", prometheus, drawings)
        finally:
            prometheus.terminate()
            prometheus.wait(30)


def rehearse(base, prometheus, process, folder):
    def ask(path, **parameters):
        url = f"{prometheus}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"rehearse: {parameters}: {error.read().decode()}") from error

    person = Person(base)
    began = time.time()
    end = time.monotonic() + (DRAWN_SECONDS if folder else LOAD_SECONDS)
    rounds = 0
    while time.monotonic() < end:
        round_began = time.monotonic()
        person.does_a_little_of_everything()
        rounds += 1
        time.sleep(max(0, round_began + ROUND_SECONDS - time.monotonic()))
    if process.poll() is not None:
        raise SystemExit("rehearse: Prometheus ended")
    print(f"{rounds} rounds of load in {time.time() - began:.0f} s")
    targets = ask("/api/v1/targets")["activeTargets"]
    down = [target["labels"]["job"] for target in targets if target["health"] != "up"]
    if down or not targets:
        raise SystemExit(f"rehearse: not scraped: {down}")
    print(f"{len(targets)} services are scraped")

    waiting = {name: told(expression) if alert else expression for name, expression, alert in queries()}
    count, series = len(waiting), 0
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        for name, expression in list(waiting.items()):
            if found := ask("/api/v1/query", query=expression)["result"]:
                series += len(found)
                del waiting[name]
        if not waiting or time.monotonic() > end:
            break
        time.sleep(1)
    for name, expression in waiting.items():
        print(f"NOTHING: {name}\n    {expression}")
    if folder:
        from draw import draw  # matplotlib is there for this alone

        draw(folder, ask, began, time.time())
        print(f"drawn: {folder}")
    # Every rule as Prometheus itself evaluates it.
    broken = [rule for group in ask("/api/v1/rules")["groups"] for rule in group["rules"] if rule["health"] == "err"]
    for rule in broken:
        print(f"BROKEN: {rule['name']}: {rule.get('lastError')}")
    print(f"{count - len(waiting)} of {count} expressions returned {series} series")
    firing = sorted({alert["labels"]["alertname"] for alert in ask("/api/v1/alerts")["alerts"] if alert["state"] == "firing"})
    print(f"firing: {', '.join(firing) or 'none'}")
    # The record that nobody can read is told of, and nothing else is wrong.
    if firing != ["DeadLetters"]:
        print("rehearse: after this load DeadLetters must fire, and no other alert")
    failed = len(waiting) + len(broken) + (firing != ["DeadLetters"])
    print(f"{count + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
