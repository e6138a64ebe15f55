"""docker-compose.yml and the Dockerfile, as far as they can be checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import ENV_PREFIX, KafkaSettings, load_settings
from tests.apache_kafka import free_ports, kafka_libs, missing
from tests.conftest import (
    Broker,
    RunTidegate,
    StartTidegate,
    kafka_environment,
    kafka_settings,
)

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OURS = ("topics", "worker", "dashboard")
LONG_RUNNING = ("kafka", "worker", "dashboard")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return found


def _substituted(value: object) -> str:
    """The value with every `${NAME:-default}` at its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def test_the_services_of_the_design(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", *OURS}


def test_our_services_are_one_image_and_have_no_rights(services: dict[str, Any]) -> None:
    assert {services[name]["image"] for name in OURS} == {"tidegate:local"}
    for name in OURS:
        service = services[name]
        assert service["build"] == "."
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert "user" not in service  # the image's own, which is not root: see below
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


def test_everything_is_published_on_this_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(_substituted(port).startswith("127.0.0.1:") for port in published)


def test_what_runs_for_long_has_a_health_check_and_comes_back(services: dict[str, Any]) -> None:
    for name in LONG_RUNNING:
        assert services[name]["healthcheck"]["test"][0] == "CMD"
        assert services[name]["restart"] == "unless-stopped"


def test_the_order_of_starting(services: dict[str, Any]) -> None:
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "dashboard"):
        assert services[name]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        }


def test_the_settings_in_it_are_settings(services: dict[str, Any]) -> None:
    for name in OURS:
        environment = services[name]["environment"]
        kafka = load_settings({}, environment).kafka
        inside = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert f"INSIDE://{kafka.bootstrap}" in inside
        assert all(variable.startswith(ENV_PREFIX) for variable in environment)


def test_a_worker_may_finish_what_is_in_flight(services: dict[str, Any]) -> None:
    grace_s = int(services["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > load_settings({}, {}).worker.stop_timeout_s


def test_volumes_are_named_and_declared(services: dict[str, Any]) -> None:
    declared = yaml.safe_load(COMPOSE.read_text("utf-8"))["volumes"]
    used = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
    }
    assert used == set(declared)


def test_compose_itself_takes_the_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH: install Docker and its Compose plugin")
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("docker is there, Compose is not: install docker-compose-plugin")
    command = ["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_runs_as_nobody_special_and_takes_the_locked_versions() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    last_stage = text[text.rindex("\nFROM ") :]
    user = last_stage.index("\nUSER tidegate\n")
    assert user < last_stage.index("\nENTRYPOINT ")
    assert "-c constraints.txt '.[cpu,dashboard]'" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.12-slim"}


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_kafkas_own_image_takes_the_environment(services: dict[str, Any], tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    # The program that the official image runs to turn its environment into server.properties.
    for folder in ("default", "mounted", "final"):
        (tmp_path / folder).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (tmp_path / "default" / name).write_text("")
    environment = {
        name: _substituted(value) for name, value in services["kafka"]["environment"].items()
    }
    environment["KAFKA_LOG_DIRS"] = str(tmp_path / "data")
    folders = [
        argument
        for kind in ("default", "mounted", "final")
        for argument in (f"--{kind}-configs-dir", str(tmp_path / kind))
    ]
    done = subprocess.run(
        ["java", "-cp", f"{kafka_libs()}/*", "kafka.docker.KafkaDockerWrapper", "setup", *folders],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").exists()
    properties = (tmp_path / "final" / "server.properties").read_text()
    assert "advertised.listeners=INSIDE://kafka:19092,HOST://127.0.0.1:9092\n" in properties
    assert "auto.create.topics.enable=false\n" in properties


def _becomes(healthy: Callable[[], bool], wanted: bool) -> bool:
    """Asks as an engine does, again and again; whether it came to be so."""
    deadline = time.monotonic() + 90
    while healthy() is not wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@pytest.mark.kafka
def test_topics_then_worker_then_its_health_check(
    services: dict[str, Any],
    apache_kafka: Broker,
    run_tidegate: RunTidegate,
    start_tidegate: StartTidegate,
) -> None:
    environment = kafka_environment(kafka_settings(apache_kafka))

    def healthy() -> bool:
        program, *arguments = services["worker"]["healthcheck"]["test"][1:]
        assert program == "tidegate"
        return run_tidegate(*arguments, env=environment).returncode == 0

    assert run_tidegate(*services["topics"]["command"], env=environment).returncode == 0
    assert not healthy()
    worker = start_tidegate(*services["worker"]["command"], env=environment)
    assert _becomes(healthy, True)
    worker.terminate()
    assert worker.wait(60) == 0
    assert _becomes(healthy, False)


def test_dashboard_and_its_health_check(
    services: dict[str, Any],
    embedded_topics: KafkaSettings,
    tmp_path: Path,
    run_tidegate: RunTidegate,
    start_tidegate: StartTidegate,
) -> None:
    pytest.importorskip("streamlit")
    (port,) = free_ports(1)
    environment = {
        **kafka_environment(embedded_topics),
        "TIDEGATE_DASHBOARD__DATABASE": str(tmp_path / "read-model.db"),
    }

    def healthy() -> bool:
        arguments = services["dashboard"]["healthcheck"]["test"][2:]
        return run_tidegate(*arguments, "--port", str(port), env=environment).returncode == 0

    command = [str(port) if each == "8501" else each for each in services["dashboard"]["command"]]
    assert str(port) in command
    assert not healthy()
    # It listens where others reach it, so somebody has to be able to sign in.
    assert run_tidegate(*command, env=environment).returncode == 2
    added = run_tidegate(
        "dashboard", "add-user", "ann", "--password-stdin",
        env=environment, stdin="three short words\n",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    dashboard = start_tidegate(*command, env=environment)
    assert _becomes(healthy, True)
    dashboard.terminate()
    assert dashboard.wait(60) == 0
    assert not healthy()
