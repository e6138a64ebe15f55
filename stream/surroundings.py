"""The machine that Tidegate stands on, looked at for `tidegate doctor`; changes nothing.

Every command that is asked for its version has a time limit: a Docker client whose engine hangs
must not hang the doctor.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from models.devices import available_threads
from stream.database_url import ReadModelAt
from stream.findings import Finding, broken, missing, ok

_MACHINE, _OPTIONAL = "machine", "optional"
_MIN_PYTHON = (3, 11)
#: A worker, a dashboard and the embedded broker together stay below this.
_ENOUGH_MEMORY_MIB = 2048
_LEAST_DISK_MIB = 256
_ENOUGH_DISK_MIB = 1024
_MIN_JAVA = 17
_COMMAND_TIMEOUT_S = 10.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def look_at_machine(database: ReadModelAt) -> Iterator[Finding]:
    """Python, processor, memory, and the disk under the read model."""
    yield _python()
    cores = available_threads()
    yield ok(_MACHINE, "cores", f"{cores} usable of {os.cpu_count()}, {platform.machine()}")
    yield _memory()
    if isinstance(database, Path):
        yield _disk(database)


def look_at_optional_programs() -> Iterator[Finding]:
    """Java, Kafka, Docker, a browser, a GPU: what some tests and some ways of running need."""
    yield _java()
    yield _kafka_home()
    yield _docker()
    yield _browser()
    yield _gpu()


def _python() -> Finding:
    detail = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    if sys.version_info < _MIN_PYTHON:
        return broken(_MACHINE, "python", detail, "install Python 3.11 or newer")
    return ok(_MACHINE, "python", detail, required=True)


def _memory() -> Finding:
    if sys.platform == "darwin":
        text = _output("sysctl", "-n", "hw.memsize")
        mib = int(text) // 2**20 if text and text.isdigit() else 0
    else:
        mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        if (limit := _cgroup_limit_mib()) is not None:
            mib = min(mib, limit)
    detail = f"{mib:,} MiB"
    if 0 < mib < _ENOUGH_MEMORY_MIB:
        fix = f"give it {_ENOUGH_MEMORY_MIB:,} MiB, or run worker and dashboard on two machines"
        return broken(_MACHINE, "memory", detail, fix, required=False)
    return ok(_MACHINE, "memory", detail)


def _cgroup_limit_mib() -> int | None:
    """The container's limit, where there is one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) // 2**20 if text.isdigit() else None


def _disk(database: Path) -> Finding:
    folder = database.absolute().parent
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        fix = "choose a place you can write to: TIDEGATE_DASHBOARD__DATABASE=/path/read-model.db"
        return broken(_MACHINE, "disk", f"no permission to write in {there}", fix)
    mib = shutil.disk_usage(there).free // 2**20
    detail = f"{mib:,} MiB free for the read model in {folder}"
    if mib < _ENOUGH_DISK_MIB:
        fix = "make room, or choose another place: TIDEGATE_DASHBOARD__DATABASE=/path/read-model.db"
        return broken(_MACHINE, "disk", detail, fix, required=mib < _LEAST_DISK_MIB)
    return ok(_MACHINE, "disk", detail, required=True)


def _java() -> Finding:
    fix = f"install Java {_MIN_JAVA} or newer, to run Apache Kafka on this machine"
    text = _output("java", "-version")
    if text is None:
        return missing(_OPTIONAL, "java", "no java on the PATH", fix)
    version = re.search(r'version "(?:1\.)?(\d+)', text)
    first = text.splitlines()[0]
    if version is None or int(version[1]) < _MIN_JAVA:
        return broken(_OPTIONAL, "java", f"{first}: too old for Kafka", fix, required=False)
    return ok(_OPTIONAL, "java", first)


def _kafka_home() -> Finding:
    home = os.environ.get("KAFKA_HOME")
    fix = "unpack Apache Kafka and set KAFKA_HOME, to run the tests against it"
    if not home:
        return missing(_OPTIONAL, "apache kafka", "KAFKA_HOME is not set", fix)
    jars = sorted(Path(home).glob("libs/kafka-clients-*.jar"))
    if not jars:
        detail = f"KAFKA_HOME={home} has no libs/kafka-clients-*.jar"
        return broken(_OPTIONAL, "apache kafka", detail, fix, required=False)
    version = jars[-1].stem.removeprefix("kafka-clients-")
    return ok(_OPTIONAL, "apache kafka", f"{version} in {home}")


def _docker() -> Finding:
    fix = "install Docker with Compose, for docker-compose.yml"
    if shutil.which("docker") is None:
        return missing(_OPTIONAL, "docker", "no docker on the PATH", fix)
    compose = _output("docker", "compose", "version", "--short")
    if compose is None:
        return missing(_OPTIONAL, "docker", "docker is there, Compose is not", fix)
    engine = _output("docker", "info", "--format", "{{.ServerVersion}}")
    if engine is None:
        detail = f"Compose {compose} is there, no engine answers"
        return missing(_OPTIONAL, "docker", detail, "start the Docker engine")
    return ok(_OPTIONAL, "docker", f"engine {engine}, Compose {compose}")


def _browser() -> Finding:
    path = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if path is None:
        fix = "install Chromium, to run the tests that drive the dashboard"
        return missing(_OPTIONAL, "chromium", "no Chromium on the PATH", fix)
    return ok(_OPTIONAL, "chromium", path)


def _gpu() -> Finding:
    text = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not text:
        fix = "none needed: the compact model is made for the CPU"
        return missing(_OPTIONAL, "gpu", "no NVIDIA GPU", fix)
    return ok(_OPTIONAL, "gpu", "; ".join(text.splitlines()))


def _output(*command: str) -> str | None:
    """What a program prints, standard error included; None where it is not there or fails."""
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.decode(errors="replace").strip()
    return text if done.returncode == 0 and text else None
