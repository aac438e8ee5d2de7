"""scripts/deploy, with a kubectl that writes down what it is asked to do."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from project import ROOT, run, services

KUBECTL = r"""#!/usr/bin/env bash
case " $* " in
  ' kustomize '*) exec kustomize build "$2" ;;
  *' apply -f - '*) echo "apply $(grep -E '^kind: ' | sort -u | sed 's/kind: //' | paste -sd,)" >>"$CALLS" ;;
  *' apply -f '*) echo "apply $(grep -E '^kind: ' "${@: -1}" | sort -u | sed 's/kind: //' | paste -sd,)" >>"$CALLS" ;;
  *' get job '*) echo "wait $5" >>"$CALLS"; [ "$5" = "$FAILING" ] && echo 'FailureTarget Failed ' || echo 'SuccessCriteriaMet Complete ' ;;
  *' rollout status '*) echo "status $5" >>"$CALLS"; [ "$5" != "deployment/$FAILING" ] ;;
  *' rollout undo '*) echo "undo $5" >>"$CALLS" ;;
  *) echo "$3" >>"$CALLS" ;;
esac
"""


class Rollout(unittest.TestCase):
    def deploy(self, failing=""):
        run(ROOT / "k8s/overlays/local/secrets")
        with tempfile.TemporaryDirectory() as folder:
            kubectl, calls = Path(folder) / "kubectl", Path(folder) / "calls"
            kubectl.write_text(KUBECTL)
            kubectl.chmod(0o755)
            environment = os.environ | {"KUBECTL": str(kubectl), "CALLS": str(calls), "FAILING": failing, "POLL_SECONDS": "0.01"}
            done = subprocess.run(
                ["scripts/deploy", "k8s/overlays/local"], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            )
            return done, calls.read_text().splitlines()

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
        done, calls = self.deploy(failing="topics")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the job topics failed", done.stderr)
        self.assertFalse([call for call in calls if "Deployment" in call or call.startswith(("status", "undo"))])

    def test_when_a_service_does_not_get_ready_all_go_back(self):
        done, calls = self.deploy(failing="email-sender")
        self.assertEqual(done.returncode, 1)
        self.assertIn("email-sender was not ready", done.stderr)
        self.assertEqual({call for call in calls if call.startswith("undo")}, {f"undo deployment/{name}" for name in services()})
