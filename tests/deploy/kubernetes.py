"""k8s/: every overlay, with every combination of components."""

import itertools
import os
import re
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import kubernetes_validate
import yaml
from project import ROOT, dependencies, group_topics, port, read, role, run, services

# The oldest and the newest that we say it runs on: docs/DEPLOY.md.
VERSIONS = ("1.33", "1.37")
OVERLAYS = ("local", "production")
COMPONENTS = sorted(path.name for path in (ROOT / "k8s/components").iterdir())
USES = yaml.safe_load(read("k8s/uses.yaml"))
# Kinds of operators; the API's own schemas do not know them.
CUSTOM = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule", "ExternalSecret"}
OURS = {"Deployment", "StatefulSet", "Job", "CronJob"}


@cache
def parse(text):
    """One document; most of them occur in many builds."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def build(folder):
    return [made for text in run("kustomize", "build", folder).split("\n---\n") if (made := parse(text.strip()))]


@cache
def overlay(name):
    if name == "local":
        run(ROOT / "k8s/overlays/local/secrets")
    return build(ROOT / "k8s/overlays" / name)


def combination(components):
    """The local overlay with more components than its own."""
    with tempfile.TemporaryDirectory(dir=ROOT / "k8s/overlays") as folder:
        more = [name for name in components if name != "network-policies"]
        text = {"resources": ["../local"], "components": [f"../../components/{name}" for name in more]}
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(text))
        return build(folder)


def of(made, *kinds):
    return [one for one in made if one["kind"] in kinds]


def name(one):
    return one["metadata"]["name"]


def template(one):
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    return spec["template"]


def pods(made):
    """The pods that there will be: name, labels and spec."""
    return [(name(one), template(one)["metadata"]["labels"], template(one)["spec"]) for one in of(made, *OURS)]


def of_ours(labels):
    return labels.get("app.kubernetes.io/component") in ("service", "job")


class Rendered(unittest.TestCase):
    def setUp(self):
        overlay("local")

    def test_each_combination_of_components_builds_and_the_api_of_two_versions_knows_all_of_it(self):
        sets = [chosen for count in range(len(COMPONENTS) + 1) for chosen in itertools.combinations(COMPONENTS, count)]
        self.assertEqual(len(sets), 2 ** len(COMPONENTS))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rendered = list(pool.map(combination, sets))
        # The same object, as `parse` gives it, need not be looked at again.
        seen = {id(one): one for made in [*rendered, overlay("local"), overlay("production")] for one in made}
        self.assertGreater(len(seen), 80)
        unknown = set()
        for one in seen.values():
            if one["kind"] in CUSTOM:
                unknown.add(one["kind"])
                continue
            for version in VERSIONS:
                with self.subTest(f"{version} {one['kind']} {name(one)}"):
                    kubernetes_validate.validate(one, version, strict=True)
        self.assertEqual(unknown, CUSTOM)

    def test_a_mistake_is_one_that_the_schemas_find(self):
        one = yaml.safe_load(yaml.safe_dump(of(overlay("production"), "Deployment")[0]))
        template(one)["spec"]["containers"][0]["livenesProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(one, VERSIONS[1], strict=True)

    def test_all_of_it_is_in_one_namespace_which_admits_restricted_pods_alone(self):
        for which in OVERLAYS:
            made = overlay(which)
            (namespace,) = of(made, "Namespace")
            self.assertEqual(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted")
            self.assertEqual({one["metadata"].get("namespace") for one in made if one["kind"] != "Namespace"}, {name(namespace)})

    def test_every_service_is_there_by_its_name_and_listens_where_it_says(self):
        for which in OVERLAYS:
            made = overlay(which)
            self.assertEqual({name(one) for one in of(made, "Deployment")}, set(services()))
            for one in of(made, "Deployment"):
                (container,) = template(one)["spec"]["containers"]
                self.assertEqual(container["command"], [name(one)])
                self.assertEqual(container["ports"], [{"name": "http", "containerPort": port(name(one))}])
                self.assertIn({"name": "HTTP_PORT", "value": str(port(name(one)))}, container["env"])
                self.assertEqual(template(one)["spec"]["serviceAccountName"], name(one))

    def test_what_selects_pods_finds_some(self):
        for which in OVERLAYS:
            made = overlay(which)
            there = [labels for _, labels, _ in pods(made)]
            selectors = [(one, one["spec"]["selector"]) for one in of(made, "Service")]
            selectors += [(one, one["spec"]["selector"]["matchLabels"]) for one in of(made, "Deployment", "StatefulSet", "PodDisruptionBudget")]
            selectors += [(one, one["spec"]["podSelector"].get("matchLabels", {})) for one in of(made, "NetworkPolicy")]
            for one, selector in selectors:
                self.assertTrue([labels for labels in there if selector.items() <= labels.items()], f"{which}: {one['kind']} {name(one)}")

    def test_every_setting_that_is_taken_from_elsewhere_is_given_there(self):
        for which in OVERLAYS:
            made = overlay(which)
            given = {("configMapRef", name(one)) for one in of(made, "ConfigMap")}
            given |= {("secretRef", name(one)) for one in of(made, "Secret", "ExternalSecret")}
            for pod, _, spec in pods(made):
                for container in spec["containers"]:
                    for source in container.get("envFrom", []):
                        ((kind, reference),) = source.items()
                        self.assertIn((kind, reference["name"]), given, f"{which}: {pod}")

    def test_people_reach_every_route_of_the_api_and_no_probe(self):
        (ingress,) = of(overlay("production"), "Ingress")
        (rule,) = ingress["spec"]["rules"]
        open_to = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]

        def reached(route):
            return any(route == path or kind == "Prefix" and route.startswith(f"{path}/") for path, kind in open_to)

        code = "".join(path.read_text().split("#[cfg(test)]")[0] for path in (ROOT / "producers/api/src").glob("**/*.rs") if path.name != "tests.rs")
        routes = set(re.findall(r'(?:\.route\(|path = )"(/[^"]+)"', code))
        self.assertGreater(len(routes), 50)
        self.assertEqual({route for route in routes if not reached(route)}, set())
        self.assertFalse([probe for probe in ("/livez", "/readyz", "/health", "/metrics") if reached(probe)])

    def test_a_pod_has_the_secret_of_its_own_and_no_other(self):
        for which in OVERLAYS:
            for pod, labels, spec in pods(overlay(which)):
                if of_ours(labels):
                    secrets = [source["secretRef"]["name"] for source in spec["containers"][0]["envFrom"] if "secretRef" in source]
                    self.assertEqual(secrets, [f"carillon-{ {'recurrence-horizon': 'recurrence-generator'}.get(pod, pod) }"])

    def test_each_service_connects_to_postgres_as_its_own_role(self):
        import base64
        secrets = {name(one): one["data"] for one in of(overlay("local"), "Secret") if "data" in one}
        for service in services():
            url = base64.b64decode(secrets[f"carillon-{service}"]["DATABASE_URL"]).decode()
            self.assertRegex(url, rf"^postgres://{role(service)}:[0-9a-f]{{48}}@postgres:5432/carillon$")

    def test_git_has_no_secret(self):
        listed = run("git", "ls-files", "k8s", "monitoring", ".env.sample", "docker-compose.yml").split()
        self.assertGreater(len(listed), 40)
        for path in listed:
            text = read(path)
            self.assertNotIn("PRIVATE KEY-----", text, path)
            self.assertNotRegex(text, r"(?im)^kind: Secret$", path)
        ignored = subprocess.run(["git", "check-ignore", "-q", "k8s/overlays/local/.secrets/api.env"], cwd=ROOT, check=False)
        self.assertEqual(ignored.returncode, 0)

    def test_scaling_goes_no_further_than_there_are_partitions_and_never_to_none(self):
        groups, partitions = group_topics()
        scaled = {name(one): one["spec"] for one in of(overlay("production"), "ScaledObject")}
        self.assertEqual(set(scaled), {group for group in groups if group in services()})
        for group, spec in scaled.items():
            self.assertEqual(spec["scaleTargetRef"]["name"], group)
            self.assertEqual(spec["maxReplicaCount"], max(partitions[topic] for topic in groups[group]))
            self.assertGreaterEqual(spec["minReplicaCount"], 1)
            triggers = [trigger["metadata"] for trigger in spec["triggers"]]
            self.assertEqual([(one["consumerGroup"], one["topic"]) for one in triggers], [(group, topic) for topic in groups[group]])

    def test_nobody_says_how_many_replicas_there_are_where_something_else_decides(self):
        made = overlay("production")
        decided = {one["spec"]["scaleTargetRef"]["name"] for one in of(made, "ScaledObject", "HorizontalPodAutoscaler")}
        for one in of(made, "Deployment"):
            self.assertEqual("replicas" in one["spec"], name(one) not in decided, name(one))
            if "replicas" in one["spec"]:
                self.assertGreaterEqual(one["spec"]["replicas"], 2)
        self.assertEqual({name(one) for one in of(made, "PodDisruptionBudget")}, set(services()))

    def test_the_operators_rules_are_those_of_prometheus(self):
        (rule,) = of(overlay("production"), "PrometheusRule")
        files = [yaml.safe_load(read(f"monitoring/prometheus/rules/{file}.yml"))["groups"] for file in ("recording", "alerts")]
        self.assertEqual(rule["spec"]["groups"], [group for groups in files for group in groups])


class Policies(unittest.TestCase):
    where = ""

    def each(self):
        for which in OVERLAYS:
            for pod, labels, spec in pods(overlay(which)):
                for container in spec["containers"] + spec.get("initContainers", []):
                    self.where = f"{which}: {pod}"
                    yield pod, labels, spec, container

    def _formatMessage(self, message, standard):
        return f"{self.where}: {super()._formatMessage(message, standard)}"

    def test_a_pod_is_as_restricted_as_kubernetes_can_make_it(self):
        for _, _, spec, container in self.each():
            security, own = spec["securityContext"], container["securityContext"]
            self.assertTrue(security["runAsNonRoot"])
            self.assertGreater(security["runAsUser"], 0)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertIs(own["allowPrivilegeEscalation"], False)
            self.assertIs(own["readOnlyRootFilesystem"], True)
            self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
            self.assertFalse(spec.keys() & {"hostNetwork", "hostPID", "hostIPC"})
            self.assertFalse([volume for volume in spec.get("volumes", []) if "hostPath" in volume])

    def test_a_pod_has_no_token_of_the_cluster(self):
        for _, _, spec, _ in self.each():
            self.assertIs(spec["automountServiceAccountToken"], False)

    def test_a_pod_says_what_it_needs_and_has_an_end_to_its_memory(self):
        for _, _, _, container in self.each():
            self.assertLessEqual({"cpu", "memory"}, container["resources"]["requests"].keys())
            self.assertIn("memory", container["resources"]["limits"])

    def test_an_image_has_a_version_and_never_the_latest(self):
        for _, _, _, container in self.each():
            tag = re.fullmatch(r".*:([^:/]+)", container["image"].partition("@")[0])
            self.assertTrue(tag, container["image"])
            self.assertNotEqual(tag[1], "latest")

    def test_images_of_others_are_those_of_compose(self):
        composed = set(re.findall(r"^ +image: (.*)$", read("docker-compose.yml"), re.MULTILINE))
        others = {container["image"] for _, _, _, container in self.each() if "carillon" not in container["image"]}
        self.assertEqual(len(others), 3)
        self.assertLessEqual(others, composed)

    def test_a_service_is_probed_for_life_and_readiness_apart_and_has_time_to_start(self):
        for pod, labels, _, container in self.each():
            if labels.get("app.kubernetes.io/component") == "job":
                continue
            self.assertIn("livenessProbe", container)
            self.assertIn("readinessProbe", container)
            self.assertNotEqual(container["livenessProbe"], container["readinessProbe"])
            if pod in services():
                self.assertEqual(container["livenessProbe"]["httpGet"]["path"], "/livez")
                self.assertEqual(container["readinessProbe"]["httpGet"]["path"], "/readyz")
                self.assertGreaterEqual(container["startupProbe"]["failureThreshold"], 30)

    def test_a_service_gets_longer_to_stop_than_it_takes(self):
        budget = int(re.search(r'"SHUTDOWN_BUDGET_SECONDS",\s*Duration::from_secs\((\d+)\)', read("common/service/src/config/service.rs"))[1])
        for pod, _, spec, _ in self.each():
            if pod in services():
                self.assertGreater(spec["terminationGracePeriodSeconds"], budget)

    def test_a_job_ends(self):
        for which in OVERLAYS:
            for one in of(overlay(which), "Job"):
                self.assertIn("activeDeadlineSeconds", one["spec"])
                self.assertIn("backoffLimit", one["spec"])
                self.assertEqual(template(one)["spec"]["restartPolicy"], "OnFailure")


def matches(selector, labels):
    assert not selector.keys() - {"matchLabels"}, f"what {selector} means is not known here"
    return selector.get("matchLabels", {}).items() <= labels.items()


class Side:
    """Who may be at one end of a connection: a pod, or an address outside."""

    def __init__(self, namespace=None, labels=None, address=None):
        self.namespace, self.labels, self.address = namespace, labels or {}, address and ip_address(address)

    def is_peer(self, peer):
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return self.address is not None and self.address in ip_network(block["cidr"]) and not any(
                self.address in ip_network(hole) for hole in block.get("except", [])
            )
        if self.namespace is None:
            return False
        if "namespaceSelector" in peer:
            there = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": self.namespace})
        else:
            there = self.namespace == "carillon"
        return there and matches(peer.get("podSelector", {}), self.labels)


def allows(policies, direction, pod, other, number, named):
    """Whether the policies of a namespace let a pod have a connection. Where none selects it, everything may."""
    mine = [
        policy["spec"] for policy in policies
        if matches(policy["spec"]["podSelector"], pod.labels) and direction in policy["spec"]["policyTypes"]
    ]
    if not mine:
        return True
    for spec in mine:
        for rule in spec.get(direction.lower(), []):
            peers = rule.get("to" if direction == "Egress" else "from")
            ports = rule.get("ports")
            fits = ports is None or any(
                entry.get("protocol", "TCP") == "TCP"
                and (named.get(entry["port"], entry["port"]) <= number <= entry.get("endPort", named.get(entry["port"], entry["port"])))
                for entry in ports
            )
            if fits and (peers is None or any(other.is_peer(peer) for peer in peers)):
                return True
    return False


class Network(unittest.TestCase):
    """What the policies allow is worked out connection by connection, and compared with the table."""

    PLACES = {
        "local": {
            "postgres": Side("carillon", {"app.kubernetes.io/name": "postgres"}),
            "kafka": Side("carillon", {"app.kubernetes.io/name": "redpanda"}),
            "smtp": Side("carillon", {"app.kubernetes.io/name": "mailpit"}),
        },
        "production": {"postgres": Side(address="10.20.0.7"), "kafka": Side(address="10.20.1.7"), "smtp": Side(address="10.20.2.7")},
    }
    PORTS = {"local": {}, "production": {"smtp": [587]}}

    def test_the_table_is_what_the_services_are_built_of(self):
        self.assertEqual(set(USES["services"]), set(services()))
        for service, entry in USES["services"].items():
            self.assertEqual(entry["port"], port(service))
            built_of = dependencies(service)
            self.assertEqual(set(entry["uses"]), {other for other, how in USES["external"].items() if how["needs"] in built_of}, service)
        groups, _ = group_topics()
        self.assertLessEqual(set(groups), {service for service, entry in USES["services"].items() if "kafka" in entry["uses"]})

    def test_pods_are_labelled_as_the_table_says(self):
        for which in OVERLAYS:
            labelled = {
                pod: sorted(label.removeprefix("carillon/uses-") for label in labels if label.startswith("carillon/uses-"))
                for pod, labels, _ in pods(overlay(which)) if of_ours(labels)
            }
            self.assertEqual(labelled, {pod: sorted(entry["uses"]) for pod, entry in (USES["services"] | USES["jobs"]).items()})

    def test_every_connection_of_the_table_is_allowed_and_no_other(self):
        for which in OVERLAYS:
            made = overlay(which)
            policies = of(made, "NetworkPolicy")
            entries = USES["services"] | USES["jobs"]
            ours = {pod: Side("carillon", labels) for pod, labels, _ in pods(made) if of_ours(labels)}
            self.assertEqual(set(ours), set(entries))
            # Everything that could be spoken to: the places of the table, our own services, and some that nobody may reach.
            targets = dict(self.PLACES[which]) | {"internet": Side(address="93.184.215.14"), "internet v6": Side(address="2606:2800::1")}
            targets |= {service: ours[service] for service in services()}
            targets |= {"metadata": Side(address="169.254.169.254"), "inside": Side(address="10.99.0.1"), "inside v6": Side(address="fd00::1"),
                        "another namespace": Side("default", {}), "the cluster's API": Side(address="192.168.0.1")}
            ports = {22, 53, 443, 5432, 8081, 9092, 1025, 587, 6443, *(port(service) for service in services())}
            compared = 0
            for pod, side in ours.items():
                for target, there in targets.items():
                    for number in ports:
                        named = {"http": entries[target]["port"]} if target in services() else {}
                        allowed = allows(policies, "Egress", side, there, number, {})
                        if there.namespace == "carillon":
                            allowed = allowed and allows(policies, "Ingress", there, side, number, named)
                        wanted = target.removesuffix(" v6") in entries[pod]["uses"] and (
                            number in self.PORTS[which].get(target, USES["external"][target.removesuffix(" v6")]["ports"])
                            # Endpoints of webhooks may be at any port above 1023.
                            or target.startswith("internet") and number > 1023
                        )
                        self.assertEqual(allowed, wanted, f"{which}: {pod} to {target}:{number}")
                        compared += 1
            self.assertGreater(compared, 1000)

    def test_in_comes_who_the_table_says_at_the_port_of_the_service_alone(self):
        comers = {"traefik": Side("traefik"), "monitoring": Side("monitoring"), "default": Side("default"), "internet": Side(address="93.184.215.14")}
        for which in OVERLAYS:
            made = overlay(which)
            policies = of(made, "NetworkPolicy")
            for pod, labels, _ in pods(made):
                entry = (USES["services"] | USES["jobs"]).get(pod, {})
                for comer, side in comers.items():
                    for number in (22, 9644, 5432, entry.get("port", 8000)):
                        named = {"http": entry.get("port", 0)}
                        allowed = allows(policies, "Ingress", Side("carillon", labels), side, number, named)
                        self.assertEqual(allowed, comer in entry.get("used_by", []) and number == entry.get("port"), f"{which}: {comer} to {pod}:{number}")

    def test_everybody_may_ask_for_names(self):
        for which in OVERLAYS:
            made = overlay(which)
            dns = Side("kube-system", {"k8s-app": "kube-dns"})
            for _, labels, _ in pods(made):
                self.assertTrue(allows(of(made, "NetworkPolicy"), "Egress", Side("carillon", labels), dns, 53, {}))
