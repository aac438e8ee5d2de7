"""What the sources say: which services there are, where they listen, what they are built of and what they measure."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read(path):
    return (ROOT / path).read_text()


@cache
def services():
    """Folder of each service by its name."""
    folders = [path.parent for kind in ("producers", "consumers") for path in (ROOT / kind).glob("*/Cargo.toml")]
    return {folder.name: folder for folder in sorted(folders)}


@cache
def port(service):
    """Where a service listens unless HTTP_PORT says otherwise."""
    found = re.findall(r"ServiceConfig::from_env\(env, (\d+)\)", (services()[service] / "src/config.rs").read_text())
    assert len(found) == 1, f"{service}: {found}"
    return int(found[0])


def dependencies(service):
    return set(tomllib.loads((services()[service] / "Cargo.toml").read_text())["dependencies"])


def role(service):
    return "carillon_" + service.replace("-", "_")


def password(service):
    return service.replace("-", "_").upper() + "_DATABASE_PASSWORD"


@cache
def metrics():
    """Every metric that a service registers, histograms by the names of their parts, and those of the process."""
    names = set()
    for path in ROOT.glob("*/*/src/**/*.rs"):
        if path.parts[len(ROOT.parts)] in ("producers", "consumers", "common") and path.name != "tests.rs":
            code = path.read_text().split("#[cfg(test)]")[0]
            for kind, name in re.findall(r'(?:metrics::)?\b((?:int_)?(?:counter|gauge|histogram)(?:_vec)?)\(\s*"([a-z_]+)"', code):
                names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if "histogram" in kind else {name}
    # Of the crate `prometheus`, feature `process`.
    names |= {"process_" + name for name in (
        "cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds", "threads", "virtual_memory_bytes",
    )}
    return names


def group_topics():
    """The topics of each consumer group, and the partitions of each topic, as schemas/src/topics.rs declares them."""
    text = read("schemas/src/topics.rs")
    names = dict(re.findall(r'pub const (\w+): &str = "([a-z-]+)";', text))
    partitions = {names[name]: int(count) for name, count in re.findall(r"\((\w+_\w+), (\d+)\)", text) if name in names}
    groups = {
        group: [names[name.strip()] for name in topics.split(",") if name.strip()]
        for group, topics in re.findall(r'Group = Group \{\s*name: "([a-z-]+)",\s*topics: &\[([^\]]*)\]', text)
    }
    assert groups and partitions, "topics.rs is written differently now: read it anew"
    return groups, partitions


def run(*command, **options):
    """The output of a command that must do well."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout
