"""Fixtures for what runs outside this process: brokers, topics, the command line.

Every broker and every command is ended here, also after a failing test; `_nothing_left_behind`
fails the session when something of it still runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import psutil
import pytest
import structlog

from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from stream.settings import ENV_PREFIX, KafkaSettings, Settings
from tests.apache_kafka import ApacheKafka, missing

# A busy machine is no mistake in the code: how long an example takes is not tested.
hypothesis.settings.register_profile("tidegate", deadline=None)
hypothesis.settings.load_profile("tidegate")

TIDEGATE = Path(sys.executable).with_name("tidegate")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in a shell's background, where Ctrl-C is ignored, and so it would be in what we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Whoever asks for one of these starts processes, and waits for them.
_WAITING = {
    "apache_kafka",
    "embedded_broker",
    "browser",
    "run_tidegate",
    "start_demo",
    "start_tidegate",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the files in which a test waits for a process: what is quick evens out the end.

    That is for `pytest -n`, where each of several processes takes the next file when it is done.
    """
    waiting = {item.path for item in items if _WAITING & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in waiting)


class Broker(Protocol):
    """A running broker, whichever it is."""

    @property
    def bootstrap(self) -> str: ...

    @property
    def alive(self) -> bool: ...


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        # multiprocessing's own helper ends with the interpreter
        if "resource_tracker" not in " ".join(_command_line(child))
    ]
    _, alive = psutil.wait_procs(left, timeout=10)
    commands = [" ".join(_command_line(process)) for process in alive]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not commands, f"still running after the tests: {commands}"


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that ran in this process routed its logs: the next test's are not."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    yield
    structlog.reset_defaults()
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers]
    root.setLevel(level)
    for name in list(root.manager.loggerDict):
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """The broker from the wheel; one for the session."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One node of Apache Kafka for the session, started by the first test that needs it.

    Do not stop or kill it: a test that does needs its own `ApacheKafka(tmp_path)`.
    """
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each kind of broker in turn."""
    name = "embedded_broker" if request.param == "embedded" else "apache_kafka"
    found: Broker = request.getfixturevalue(name)
    return found


def kafka_settings(broker: Broker, **values: Any) -> KafkaSettings:
    """Settings with a prefix and a group that no other test has; the topics are not created."""
    unique = f"t{secrets.token_hex(4)}"
    defaults = {
        "bootstrap": broker.bootstrap,
        "topic_prefix": f"{unique}.",
        "group": unique,
        "session_timeout_s": 6.0,
    }
    return Settings.model_validate({"kafka": {**defaults, **values}}).kafka


def topics_on(broker: Broker, **values: Any) -> KafkaSettings:
    """The catalogue's topics on a broker, under a prefix of their own; `partitions=8` and the like."""
    kafka = kafka_settings(broker, **values)
    with open_admin(kafka) as admin:
        admin.create_missing()
    return kafka


@pytest.fixture
def new_topics(broker: Broker) -> Callable[..., KafkaSettings]:
    """`new_topics(partitions=8)`: see `topics_on`; on each kind of broker in turn."""
    return partial(topics_on, broker)


@pytest.fixture
def topics(broker: Broker) -> KafkaSettings:
    """See `topics_on`; on each kind of broker in turn: for what is about delivery."""
    return topics_on(broker)


@pytest.fixture
def embedded_topics(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    """See `topics_on`: for what is about our own program, for which one broker is enough."""
    return topics_on(embedded_broker)


def kafka_environment(kafka: KafkaSettings) -> dict[str, str]:
    """The settings as environment variables, for `run_tidegate(..., env=...)`."""
    return {
        f"{ENV_PREFIX}KAFKA__{name.upper()}": str(value)
        for name, value in kafka.model_dump(exclude_defaults=True, exclude_none=True).items()
        if name != "password"
    }


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without `TIDEGATE_*`, then `env`; output is plain and wide."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    return {**inherited, "NO_COLOR": "1", "COLUMNS": "200", **(env or {})}


class RunTidegate(Protocol):
    """Runs `tidegate ARGS` to its end; its group of processes is killed at the timeout."""

    def __call__(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]: ...


class StartTidegate(Protocol):
    """Starts `tidegate ARGS` and returns at once; it is ended after the test."""

    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]: ...


@pytest.fixture
def run_tidegate(tmp_path: Path) -> RunTidegate:
    """See `RunTidegate`. Runs in the test's own folder unless `cwd` says otherwise."""

    def run(
        *args: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = subprocess.Popen(
            [TIDEGATE, *args],
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(env),
            cwd=cwd or tmp_path,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(data, timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            out, err = process.communicate()
            pytest.fail(
                f"`tidegate {' '.join(args)}` ran longer than {timeout_s} s\n"
                f"{out.decode(errors='replace')}\n{err.decode(errors='replace')}"
            )
        except BaseException:
            _kill_group(process)
            process.communicate()
            raise
        return subprocess.CompletedProcess(
            process.args, process.returncode, out.decode(), err.decode()
        )

    return run


@pytest.fixture
def start_tidegate(tmp_path: Path) -> Iterator[StartTidegate]:
    """See `StartTidegate`. Standard output is a pipe, standard error goes to the test's output."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [TIDEGATE, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(env),
            cwd=cwd or tmp_path,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        _kill_group(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill whatever is left of a command started in a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
