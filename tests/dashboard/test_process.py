from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dashboard import process
from dashboard.people import Role
from dashboard.sign_in import save_user
from stream.errors import ConfigError, MissingExtraError
from stream.kafka.admin import open_admin
from stream.settings import Settings, load_settings
from tests.conftest import (
    TIDEGATE,
    Broker,
    RunTidegate,
    clean_environment,
    kafka_environment,
    kafka_settings,
)


def test_a_child_has_the_same_settings_wherever_ours_came_from(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(
        '[kafka]\ngroup = "ours"\npassword = "s3cret"\n[dashboard]\nretention_posts = 5000\n'
    )
    ours = load_settings(
        {
            "kafka.bootstrap": "b:1",
            "dashboard.database": tmp_path / "m.db",
            "worker.instance": "w1",
        },
        {"TIDEGATE_CONFIG": str(config), "TIDEGATE_KAFKA__TOPIC_PREFIX": "x."},
    )
    environ = {"PATH": "/bin", "TIDEGATE_CONFIG": str(config), "TIDEGATE_KAFKA__GROUP": "other"}
    child = process.environment(ours, environ)
    assert load_settings(environ=child) == ours
    assert child["PATH"] == "/bin"


def test_the_secret_is_in_no_command_line() -> None:
    settings = Settings.model_validate({"kafka": {"password": "s3cret"}})
    for command in (process.projector_command(settings), process.dashboard_command(settings, 1)):
        assert "s3cret" not in " ".join(command.argv)
        assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("example.org", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert process.is_loopback(host) is loopback


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{taken}: address already in use"):
            process.free_port("127.0.0.1", taken)
        assert not process.is_ready("127.0.0.1", 1)
    assert process.free_port("127.0.0.1", 0) > 0


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    process.require_extra()
    monkeypatch.setitem(sys.modules, "streamlit", None)
    with pytest.raises(MissingExtraError, match="streamlit") as caught:
        process.require_extra()
    assert caught.value.hint == "pip install 'tidegate[dashboard]'"


def test_an_address_that_others_reach_is_refused(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("dashboard", "--host", "0.0.0.0", "--no-browser")
    assert done.returncode == 2
    assert "nobody can sign in yet" in done.stderr
    assert "tidegate dashboard add-user" in done.stderr


def test_without_a_broker_it_says_so_and_leaves(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("dashboard", "--kafka", "127.0.0.1:1", "--port", "0", "--no-browser")
    assert done.returncode == 1
    assert "127.0.0.1:1: nothing listens there" in done.stderr


def test_killed_it_leaves_nothing_running(embedded_broker: Broker, tmp_path: Path) -> None:
    kafka = kafka_settings(embedded_broker)
    with open_admin(kafka) as admin:
        admin.create_missing()
    save_user(tmp_path / ".tidegate" / "users.json", "ann", Role.VIEWER, "three short words")
    log = tmp_path / "log"
    with log.open("w") as stderr:
        command = subprocess.Popen(
            [TIDEGATE, "dashboard", "--no-browser", "--port", "0", "--host", "0.0.0.0"],
            stderr=stderr, env=clean_environment(kafka_environment(kafka)), cwd=tmp_path,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://0\.0\.0\.0:(\d+)", log.read_text())):
            assert command.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert process.is_ready("0.0.0.0", int(found[1]))
        children = psutil.Process(command.pid).children(recursive=True)
        assert len(children) == 2
    finally:
        command.kill()
        command.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    for left in alive:
        left.kill()
    assert not alive
