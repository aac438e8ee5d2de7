"""scripts/deploy, with a kubectl that writes down what it is asked to do."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from project import ROOT, run, services

KUBECTL = r"""#!/usr/bin/env bash
case " $* " in
  ' kustomize '*) exec kustomize build "$2" ;;
  *' apply -f - '*) echo "apply $(grep -E '^kind: ' | sort -u | sed 's/kind: //' | paste -sd,)" >>"$CALLS" ;;
  *' apply -f '*) cp "${@: -1}" "$APPLIED"; echo "apply $(grep -E '^kind: ' "${@: -1}" | sort -u | sed 's/kind: //' | paste -sd,)" >>"$CALLS" ;;
  *' get job '*) echo "wait $5" >>"$CALLS"; [ "$5" = "$FAILING" ] && echo 'FailureTarget Failed ' || echo 'SuccessCriteriaMet Complete ' ;;
  *' get deployment '*) [ "$5" = "$NEW" ] || echo 7 ;;
  *' rollout status '*) echo "status $5" >>"$CALLS"; [ "$5" != "deployment/$FAILING" ] || grep -q '^undo' "$CALLS" ;;
  *' rollout undo '*) echo "undo ${*:5}" >>"$CALLS" ;;
  *) echo "$3" >>"$CALLS" ;;
esac
"""


UNDONE = {f"undo deployment/{name} --to-revision 7" for name in services()}


class Rollout(unittest.TestCase):
    def deploy(self, *arguments, **settings):
        run(ROOT / "k8s/overlays/local/secrets")
        with tempfile.TemporaryDirectory() as folder:
            kubectl, calls, applied = Path(folder) / "kubectl", Path(folder) / "calls", Path(folder) / "applied"
            kubectl.write_text(KUBECTL)
            kubectl.chmod(0o755)
            environment = os.environ | {"KUBECTL": str(kubectl), "CALLS": str(calls), "APPLIED": str(applied), "POLL_SECONDS": "0.01"}
            environment |= {"FAILING": "", "NEW": ""} | settings
            done = subprocess.run(
                ["scripts/deploy", "k8s/overlays/local", *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            )
            self.applied = applied.read_text() if applied.exists() else ""
            return done, calls.read_text().splitlines() if calls.exists() else []

    def test_jobs_are_complete_before_any_service_is_changed(self):
        done, calls = self.deploy()
        self.assertEqual(done.returncode, 0, done.stderr)
        rolled = next(n for n, call in enumerate(calls) if call.startswith("apply") and "Deployment" in call)
        before = calls[:rolled]
        self.assertEqual(before[0], "apply Namespace")
        self.assertLess(before.index("delete"), before.index("apply Job"))
        self.assertEqual({call for call in before if call.startswith("wait")}, {"wait migrate", "wait topics", "wait schemas"})
        self.assertEqual({call for call in calls if call.startswith("status")}, {f"status deployment/{name}" for name in services()})
        self.assertFalse([call for call in calls if call.startswith("undo")])

    def test_when_a_job_fails_no_service_is_touched(self):
        done, calls = self.deploy(FAILING="topics")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the job topics failed", done.stderr)
        self.assertFalse([call for call in calls if "Deployment" in call or call.startswith(("status", "undo"))])

    def test_when_a_service_does_not_get_ready_all_go_back(self):
        done, calls = self.deploy(FAILING="email-sender")
        self.assertEqual(done.returncode, 1)
        self.assertIn("email-sender was not ready", done.stderr)
        self.assertIn("the services are as before", done.stderr)
        self.assertEqual({call for call in calls if call.startswith("undo")}, UNDONE)

    def test_a_service_that_was_not_there_before_has_nothing_to_go_back_to_and_that_is_said(self):
        done, calls = self.deploy(FAILING="email-sender", NEW="api")
        self.assertEqual(done.returncode, 1)
        self.assertIn("api was not there before, and stays", done.stderr)
        self.assertEqual({call for call in calls if call.startswith("undo")}, UNDONE - {"undo deployment/api --to-revision 7"})

    def test_a_platform_that_does_not_do_its_job_goes_back_and_is_asked_again(self):
        # Where nobody listens.
        done, calls = self.deploy("http://127.0.0.1:9", SMOKE_SECONDS="1")
        self.assertEqual(done.returncode, 1)
        self.assertEqual({call for call in calls if call.startswith("undo")}, UNDONE)
        self.assertIn("the platform does not do its job", done.stderr)
        self.assertIn("what was there before does not do its job either", done.stderr)

    def test_a_platform_that_could_not_be_asked_is_not_changed(self):
        with tempfile.TemporaryDirectory() as without_jq:
            for tool in ("bash", "curl", "dirname", "readlink"):
                os.symlink(shutil.which(tool), Path(without_jq) / tool)
            for url, settings, why in [
                ("carillon.example.org", {}, "carillon.example.org is no URL"),
                ("https://carillon.example.org", {"PATH": without_jq}, "needs jq"),
                ("https://carillon.example.org", {"KUBECTL": "/nowhere/kubectl"}, "needs /nowhere/kubectl"),
            ]:
                done, calls = self.deploy(url, **settings)
                self.assertEqual((done.returncode, calls), (2, []))
                self.assertIn(why, done.stderr)

    def test_every_pod_of_ours_runs_the_image_that_is_asked_for(self):
        image = "registry.example.org/carillon@sha256:" + 64 * "0"
        done, _ = self.deploy(CARILLON_IMAGE=image)
        self.assertEqual(done.returncode, 0, done.stderr)
        ours = [one for one in re.findall(r"^ +(?:- )?image: (.*)$", self.applied, re.MULTILINE) if "carillon" in one]
        self.assertGreater(len(ours), len(services()))
        self.assertEqual(set(ours), {image})
