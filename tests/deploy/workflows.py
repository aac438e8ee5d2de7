""".github: what workflows may do, and that each of their steps is a script of ours that runs anywhere."""

import os
import re
import unittest

import yaml
from project import ROOT, read, run

WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
# What a job may do beside reading, and why: the comment beside it says the same.
MAY = {
    ("release.yml", "image"): {"packages": "write", "id-token": "write"},
    ("release.yml", "publish"): {"contents": "write"},
}


def workflow(name):
    made = yaml.safe_load(WORKFLOWS[name].read_text())
    made["on"] = made.pop(True)  # `on`, as YAML 1.1 reads it
    return made


def jobs():
    for name in WORKFLOWS:
        for job, made in workflow(name)["jobs"].items():
            yield name, job, made


def steps():
    for name, job, made in jobs():
        for step in made.get("steps", []):
            yield f"{name} {job}", step


class Workflows(unittest.TestCase):
    def test_actionlint_finds_nothing(self):
        self.assertEqual(set(WORKFLOWS), {"ci.yml", "release.yml", "deploy.yml"})
        self.assertEqual(run("actionlint", *WORKFLOWS.values()), "")

    def test_a_step_is_one_script_of_ours_that_can_be_run_here(self):
        scripts = 0
        for where, step in steps():
            if "run" in step:
                scripts += 1
                self.assertNotIn("\n", step["run"], where)
                # No pipes either: a shell of a workflow does not fail with them. No expressions: they would be code.
                self.assertRegex(step["run"], r'^scripts/[a-z-]+( [a-z-]+| "\$[A-Z_]+")*$', where)
                self.assertTrue(os.access(ROOT / step["run"].split()[0], os.X_OK), step["run"])
        self.assertGreater(scripts, 8)

    def test_scripts_know_what_workflows_ask_of_them(self):
        for where, step in steps():
            words = step.get("run", "").split()
            for word in words[1:]:
                if re.fullmatch(r"--[a-z]+|[a-z]+", word):
                    self.assertRegex(read(words[0]), rf"(^|[ (|]){re.escape(word)}[ |)]", f"{where}: {words[0]} {word}")

    def test_actions_are_few_makers_own_and_pinned_by_a_commit_that_says_its_version(self):
        pins = {}
        for path in WORKFLOWS.values():
            for line in re.findall(r"^.*\buses: (.*)$", path.read_text(), re.MULTILINE):
                if line.startswith("./.github/workflows/"):
                    self.assertTrue((ROOT / line).exists(), line)
                    continue
                found = re.fullmatch(r"(actions/[a-z-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
                self.assertTrue(found, line)
                self.assertEqual(pins.setdefault(found[1], found.groups()[1:]), found.groups()[1:])
        self.assertEqual(set(pins), {"actions/checkout", "actions/cache", "actions/upload-artifact"})

    def test_nobody_may_do_anything_but_what_a_job_says_and_that_is_little(self):
        for name in WORKFLOWS:
            self.assertEqual(workflow(name)["permissions"], {}, name)
        for name, job, made in jobs():
            beyond = {what: right for what, right in made["permissions"].items() if right != "read"}
            self.assertEqual(beyond, MAY.get((name, job), {}), f"{name} {job}")

    def test_a_checkout_keeps_no_credentials(self):
        for where, step in steps():
            if step.get("uses", "").startswith("actions/checkout"):
                self.assertIs(step["with"]["persist-credentials"], False, where)

    def test_every_job_ends_some_time_and_no_two_deployments_meet(self):
        for name, job, made in jobs():
            if "uses" not in made:
                self.assertLessEqual(made["timeout-minutes"], 60, f"{name} {job}")
        for name in ("ci.yml", "release.yml"):
            self.assertIn("concurrency", workflow(name))
        for job, made in workflow("deploy.yml")["jobs"].items():
            self.assertEqual(made["concurrency"], {"group": f"deploy-{job}", "cancel-in-progress": False})
            self.assertEqual(made["environment"]["name"], job)

    def test_production_comes_after_staging_and_both_are_the_same_steps(self):
        staging, production = (workflow("deploy.yml")["jobs"][name] for name in ("staging", "production"))
        self.assertEqual(production["needs"], "staging")
        self.assertEqual(production["steps"], staging["steps"])
        self.assertEqual([step["run"].split()[0] for step in staging["steps"] if "run" in step], ["scripts/release", "scripts/deploy"])

    def test_what_the_ci_here_does_is_what_the_workflow_does(self):
        here = set(re.findall(r"^phase (scripts/.*)$", read(".ci/run"), re.MULTILINE))
        there = {step["run"] for where, step in steps() if where.startswith("ci.yml") and "run" in step}
        self.assertEqual(here - there, set())

    def test_ci_builds_with_the_toolchain_of_the_checkout(self):
        version = re.search(r'channel = "([\d.]+)"', read("rust-toolchain.toml"))[1]
        image = re.search(r"^ARG BUILD_IMAGE=(.*)$", read("Dockerfile"), re.MULTILINE)[1]
        self.assertTrue(image.startswith(f"rust:{version}-bookworm@sha256:"), image)
        self.assertGreater(sum("container" in made for _, _, made in jobs()), 3)
        for name, job, made in jobs():
            if "container" in made:
                self.assertEqual(made["container"], image, f"{name} {job}")

    def test_everything_that_pins_versions_is_looked_at_for_newer_ones(self):
        updates = yaml.safe_load(read(".github/dependabot.yml"))["updates"]
        watched = {(one["package-ecosystem"], folder) for one in updates for folder in one.get("directories", [one.get("directory")])}
        pinned = {"go.mod": "gomod", "pom.xml": "maven", "Dockerfile": "docker", "docker-compose.yml": "docker-compose", "Cargo.lock": "cargo"}
        expected = {("github-actions", "/"), ("docker", "/k8s/overlays/local")}
        for path in run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
            folder, _, file = path.rpartition("/")
            if file in pinned or re.fullmatch(r".*requirements\.txt", file):
                expected.add((pinned.get(file, "pip"), f"/{folder}"))
        self.assertEqual(watched, expected)
