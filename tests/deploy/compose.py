"""docker-compose.yml and the Dockerfile."""

import json
import re
import unittest

from project import ROOT, password, port, read, role, run, services

DIGEST = r"^sha256:[0-9a-f]{64}$"
PROFILES = [word for name in ("logs", "traces", "chaos") for word in ("--profile", name)]


def config(*arguments):
    return json.loads(run("docker-compose", "-f", "docker-compose.yml", *arguments, "config", "--format", "json"))


class Compose(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.file = config(*PROFILES)
        cls.ours = {name: made for name, made in cls.file["services"].items() if made["image"].startswith("carillon:")}

    def test_it_is_clean_with_and_without_each_profile_and_with_the_sample_of_settings(self):
        for arguments in ([], PROFILES, PROFILES[:2], PROFILES[2:4], PROFILES[4:], ["--env-file", ".env.sample"]):
            done = run("docker-compose", "-f", "docker-compose.yml", *arguments, "config", "--quiet")
            self.assertEqual(done, "")

    def test_every_service_runs_at_its_port_with_its_own_role(self):
        for name in services():
            made = self.file["services"][name]
            self.assertEqual(made["command"], [name])
            self.assertEqual(made["environment"]["HTTP_PORT"], str(port(name)))
            self.assertRegex(made["environment"]["DATABASE_URL"], rf"^postgres://{role(name)}:[a-z-]+@postgres:5432/carillon$")
            self.assertIn(password(name), self.file["services"]["migrate"]["environment"])
            self.assertNotIn("profiles", made)

    def test_a_password_is_the_same_where_it_is_set_and_where_it_is_used(self):
        migrate = self.file["services"]["migrate"]["environment"]
        for name in services():
            url = self.file["services"][name]["environment"]["DATABASE_URL"]
            self.assertEqual(re.findall(r":([^:@/]+)@", url), [migrate[password(name)]])
        owner = self.file["services"]["postgres"]["environment"]["OWNER_DATABASE_PASSWORD"]
        self.assertIn(f":{owner}@", migrate["DATABASE_URL"])

    def test_services_wait_for_the_jobs_and_the_jobs_for_what_they_need(self):
        for name in services():
            waits = self.file["services"][name]["depends_on"]
            self.assertEqual({made["condition"] for made in waits.values()}, {"service_completed_successfully"})
            kafka = "KAFKA_BOOTSTRAP_SERVERS" in self.file["services"][name]["environment"]
            self.assertEqual(set(waits), {"migrate", "topics", "schemas"} if kafka else {"migrate", "key"})
        for job, needs in (("migrate", "postgres"), ("topics", "redpanda"), ("schemas", "redpanda")):
            self.assertEqual(self.file["services"][job]["depends_on"][needs]["condition"], "service_healthy")
            self.assertIn("healthcheck", self.file["services"][needs])

    def test_our_containers_may_write_nothing_and_gain_nothing(self):
        self.assertGreaterEqual(set(self.ours), set(services()))
        for name, made in self.ours.items():
            self.assertTrue(made["read_only"], name)
            self.assertEqual(made["cap_drop"], ["ALL"], name)
            self.assertEqual(made["security_opt"], ["no-new-privileges:true"], name)
            self.assertNotIn("user", made)

    def test_a_service_gets_longer_to_stop_than_it_takes(self):
        budget = int(re.search(r'"SHUTDOWN_BUDGET_SECONDS",\s*Duration::from_secs\((\d+)\)', read("common/service/src/config/service.rs"))[1])
        for name in services():
            self.assertGreater(int(self.file["services"][name]["stop_grace_period"].removesuffix("s")), budget)

    def test_every_port_is_of_this_machine_alone(self):
        published = [port for made in self.file["services"].values() for port in made.get("ports", [])]
        self.assertGreater(len(published), 5)
        self.assertEqual({port["host_ip"] for port in published}, {"127.0.0.1"})
        self.assertEqual(len({port["published"] for port in published}), len(published))

    def test_every_image_of_others_has_a_version_and_all_but_three_a_digest(self):
        by_tag_alone = set()
        for name, made in self.file["services"].items():
            if name not in self.ours:
                tagged, _, digest = made["image"].partition("@")
                self.assertRegex(tagged, r":v?\d+\.\d+\.\d+$|:\d+\.\d+-\w+$", name)
                if digest:
                    self.assertRegex(digest, DIGEST, name)
                else:
                    by_tag_alone.add(name)
        self.assertEqual(by_tag_alone, {"redpanda", "console", "chaos"})

    def test_what_is_mounted_is_there_and_what_is_kept_is_in_a_named_volume(self):
        named = set(self.file["volumes"])
        for name, made in self.file["services"].items():
            for volume in made.get("volumes", []):
                if volume["type"] == "bind" and volume["source"] != "/var/run/docker.sock":
                    self.assertTrue((ROOT / volume["source"]).exists(), volume["source"])
                    self.assertTrue(volume["read_only"], name)
                elif volume["type"] == "volume":
                    self.assertIn(volume["source"], named)
        for name in ("postgres", "redpanda", "mailpit", "prometheus", "grafana"):
            self.assertIn("volume", [volume["type"] for volume in self.file["services"][name]["volumes"]])

    def test_the_sample_names_every_setting_with_its_default_and_no_other(self):
        used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", read("docker-compose.yml")))
        sample = dict(re.findall(r"^#(\w+)=(.*)$", read(".env.sample"), re.MULTILINE))
        self.assertEqual(sample, used)
        self.assertEqual(re.findall(r"^[^#\n]", read(".env.sample"), re.MULTILINE), [])

    def test_a_setting_has_one_default(self):
        defaults = {}
        for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", read("docker-compose.yml")):
            self.assertEqual(defaults.setdefault(name, default), default, name)


class Image(unittest.TestCase):
    def test_it_is_built_by_the_toolchain_of_the_checkout(self):
        version = re.search(r'channel = "([\d.]+)"', read("rust-toolchain.toml"))[1]
        for path in ("Dockerfile", "docker-compose.yml", ".env.sample"):
            self.assertIn(f"rust:{version}-bookworm", read(path), path)

    def test_its_bases_are_by_digest_and_the_same_wherever_they_are_named(self):
        bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(.*)$", read("Dockerfile"), re.MULTILINE))
        self.assertEqual(bases.keys(), {"BUILD_IMAGE", "RUN_IMAGE"})
        for name, image in bases.items():
            self.assertRegex(image.partition("@")[2], DIGEST, name)
            self.assertIn(f"${{{name}:-{image}}}", read("docker-compose.yml"))
            self.assertIn(f"#{name}={image}\n", read(".env.sample"))

    def test_it_runs_as_nobody_by_number_and_asks_for_its_health_without_a_shell(self):
        last = read("Dockerfile").split("\nFROM ")[-1]
        self.assertIn("\nUSER 65532:65532\n", last)
        self.assertIn('CMD ["carillon", "healthcheck"]', last)
        self.assertNotIn("RUN", re.findall(r"^[A-Z]+", last, re.MULTILINE))

    def test_its_version_is_that_of_the_workspace(self):
        version = re.search(r'^version = "(.*)"', read("Cargo.toml"), re.MULTILINE)[1]
        self.assertIn(f"ARG VERSION={version}\n", read("Dockerfile"))

    def test_its_bases_are_arguments(self):
        bases = re.findall(r"^FROM (\S+)", read("Dockerfile"), re.MULTILINE)
        self.assertEqual(set(bases), {"${BUILD_IMAGE}", "${RUN_IMAGE}"})
