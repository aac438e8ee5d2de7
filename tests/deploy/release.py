"""scripts/release, as far as it needs no registry: in a repository of its own with two releases."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from project import ROOT

IDENTITY = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))}


class Release(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.write("scripts/release", (ROOT / "scripts/release").read_text())
        shutil.copymode(ROOT / "scripts/release", self.folder / "scripts/release")
        self.git("init", "--quiet")
        self.version("0.1.0")
        self.write("schemas/avro/TaskCreated.avsc", "{}")
        self.write("schemas/released/0.1.0/TaskCreated.avsc", "{}")
        self.write("migrations/sql/1_tasks.sql", "")
        self.commit("everything: a beginning")
        self.git("tag", "v0.1.0")

    def write(self, path, text):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def version(self, version):
        self.write("Cargo.toml", f'[workspace.package]\nversion = "{version}"\n')
        self.write("Dockerfile", f"ARG VERSION={version}\n")
        self.write("k8s/overlays/production/kustomization.yaml", f"images:\n  - name: carillon\n    newTag: {version}\n")

    def git(self, *arguments):
        subprocess.run(["git", *arguments], cwd=self.folder, env=os.environ | IDENTITY, check=True, capture_output=True)

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)

    def release(self, *arguments):
        return subprocess.run(["scripts/release", *arguments], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)

    def test_a_commit_whose_versions_and_schemas_are_those_of_the_tag_is_fit(self):
        done = self.release("check", "v0.1.0")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_everything_that_a_commit_lacks_is_named_at_once(self):
        self.write("schemas/avro/TaskCreated.avsc", '{"changed": true}')
        done = self.release("check", "v0.2.0")
        self.assertEqual(done.returncode, 1)
        for lacking in ("work tree", "Cargo.toml", "Dockerfile", "k8s/overlays/production", "schemas/released/0.2.0 has not TaskCreated.avsc"):
            self.assertIn(lacking, done.stderr)

    def test_the_notes_have_what_came_since_the_release_before_and_its_migrations_alone(self):
        self.write("migrations/sql/2_tags.sql", "")
        self.commit("tags: tasks have tags")
        self.version("0.2.0")
        self.commit("release: 0.2.0")
        self.git("tag", "v0.2.0")
        done = self.release("notes", "v0.2.0")
        self.assertEqual(done.returncode, 0, done.stderr)
        for told in ("since v0.1.0", "- tags: tasks have tags (", "- `2_tags.sql`"):
            self.assertIn(told, done.stdout)
        for other in ("a beginning", "1_tasks.sql"):
            self.assertNotIn(other, done.stdout)

    def test_the_first_release_has_all_of_it_in_its_notes(self):
        done = self.release("notes", "v0.1.0")
        self.assertEqual(done.returncode, 0, done.stderr)
        for told in ("since the beginning", "- everything: a beginning (", "- `1_tasks.sql`"):
            self.assertIn(told, done.stdout)

    def test_what_is_no_tag_of_a_release_or_no_digest_is_refused_before_anything_is_done(self):
        for arguments in (("check", "main"), ("image", "v1"), ("scan", "carillon:dev"), ("sign", "carillon"), ("verify", "a@sha256:1"), ("publish", "v0.1.0")):
            with self.subTest(arguments):
                done = self.release(*arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn("is no tag of a release" if arguments[0] in ("check", "image") else "names no image by its digest", done.stderr)
