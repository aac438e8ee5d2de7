"""monitoring/: rules, alerts and dashboards."""

import json
import re
import unittest

import yaml
from project import ROOT, metrics, port, read, run, services

ALERTS = yaml.safe_load(read("monitoring/prometheus/rules/alerts.yml"))["groups"]
RECORDING = yaml.safe_load(read("monitoring/prometheus/rules/recording.yml"))["groups"]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "monitoring/grafana/dashboards").glob("*.json")}
# What Prometheus itself makes.
OF_PROMETHEUS = {"up", "ALERTS"}
WORDS = {
    "sum", "max", "min", "count", "avg", "by", "without", "rate", "increase", "changes", "histogram_quantile", "topk", "absent", "vector",
    "and", "or", "unless", "offset", "bool", "label_replace", "on", "ignoring", "group_left",
}


def rules(groups):
    return [rule for group in groups for rule in group["rules"]]


def expressions():
    for rule in rules(ALERTS) + rules(RECORDING):
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, board in DASHBOARDS.items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def names(expression):
    """The metrics of an expression: words that are neither labels nor of the language."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring) \([^)]*\)", "", bare)
    return {word for word in re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]*", bare) if word not in WORDS and not re.fullmatch(r"\d*[smhd]", word)}


class Rules(unittest.TestCase):
    def test_prometheus_takes_them(self):
        run("promtool", "check", "rules", *(ROOT / "monitoring/prometheus/rules").glob("*.yml"))
        run("promtool", "check", "config", ROOT / "monitoring/prometheus/prometheus.yml")

    def test_each_alert_fires_when_it_must_and_only_then(self):
        run("promtool", "test", "rules", ROOT / "monitoring/prometheus/tests/alerts.yml")
        cases = [case for test in yaml.safe_load(read("monitoring/prometheus/tests/alerts.yml"))["tests"] for case in test["alert_rule_test"]]
        fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
        silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
        alerts = {rule["alert"] for rule in rules(ALERTS)}
        self.assertEqual(fires, alerts)
        self.assertEqual(silent, alerts)

    def test_each_alert_says_how_grave_it_is_and_names_a_section_that_is_there(self):
        sections = {title.lower() for title in re.findall(r"^#+ (\w+)$", read("monitoring/README.md"), re.MULTILINE)}
        for rule in rules(ALERTS):
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"))
            path, anchor = rule["annotations"]["runbook"].split("#")
            self.assertEqual(path, "monitoring/README.md")
            self.assertEqual(anchor, rule["alert"].lower())
            self.assertIn(anchor, sections)

    def test_every_service_is_missed_when_it_is_gone(self):
        gone = next(rule["expr"] for rule in rules(ALERTS) if rule["alert"] == "ServiceGone")
        self.assertEqual(set(re.search(r'job=~"([^"]*)"', gone)[1].split("|")), set(services()))
        self.assertEqual(set(re.findall(r'absent\(up\{job="([^"]*)"\}\)', gone)), set(services()))

    def test_every_service_is_scraped_where_it_listens(self):
        jobs = yaml.safe_load(read("monitoring/prometheus/prometheus.yml"))["scrape_configs"]
        scraped = {job["job_name"]: [target for made in job["static_configs"] for target in made["targets"]] for job in jobs}
        self.assertEqual(scraped, {name: [f"{name}:{port(name)}"] for name in services()})


class Expressions(unittest.TestCase):
    def test_they_name_what_the_services_measure_and_nothing_else(self):
        recorded = {rule["record"] for rule in rules(RECORDING)}
        known = metrics() | recorded | OF_PROMETHEUS
        self.assertGreater(len(metrics()), 30)
        for where, expression in expressions():
            with self.subTest(where):
                found = names(expression)
                self.assertTrue(found, expression)
                self.assertEqual(found - known, set(), expression)

    def test_what_is_measured_is_shown_or_watched(self):
        shown = set().union(*(names(expression) for _, expression in expressions()))
        # A histogram's parts stand for each other; threads and file descriptors are there for whoever looks for them.
        family = lambda name: re.sub(r"_(bucket|sum|count)$", "", name)
        unseen = {family(name) for name in metrics() if not name.startswith("process_")} - {family(name) for name in shown}
        # No harm by itself: docs/OPERATIONS.md.
        self.assertEqual(unseen - {"kafka_consumer_commit_errors_total", "audit_newest_seal_timestamp_seconds", "audit_seals_total"}, set())

    def test_what_is_made_is_as_it_would_be_made(self):
        run("monitoring/generate", "--check")

    def test_a_dashboard_can_be_shared_by_its_name_and_its_panels_do_not_overlap(self):
        self.assertEqual(len({board["uid"] for board in DASHBOARDS.values()}), len(DASHBOARDS))
        for name, board in DASHBOARDS.items():
            taken = set()
            for panel in board["panels"]:
                at = panel["gridPos"]
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                self.assertLessEqual(at["x"] + at["w"], 24)
                taken |= cells

    def test_the_data_source_of_the_panels_is_the_one_that_is_provisioned(self):
        provisioned = yaml.safe_load(read("monitoring/grafana/provisioning/datasources/datasources.yml"))["datasources"]
        self.assertIn("prometheus", {source["uid"] for source in provisioned})
        for board in DASHBOARDS.values():
            self.assertEqual({target["datasource"]["uid"] for panel in board["panels"] for target in panel["targets"]}, {"prometheus"})
