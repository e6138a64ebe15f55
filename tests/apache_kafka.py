"""A throw-away node of Apache Kafka (KRaft) for tests; it cannot outlive the test process.

Needs Java 17 and Kafka's jars: `KAFKA_HOME`, or `shared/kafka` beside the checkout.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.kafka.wire import Wire, WireError

ROOT = Path(__file__).resolve().parent.parent
_SUPERVISOR = ROOT / "stream" / "kafka" / "broker_supervisor.py"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
_LOG4J = """Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %c{1}: %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""
_READY_TIMEOUT_S = 120.0
#: Linux gives from 32768 on, macOS and Windows from 49152.
_OUTSIDE_THE_SYSTEMS_RANGE = range(20_000, 32_000)


def kafka_libs() -> Path | None:
    """The folder with Kafka's jars."""
    home = os.environ.get("KAFKA_HOME")
    for place in [Path(home)] if home else [ROOT.parent / "shared" / "kafka"]:
        if any(place.glob("libs/kafka-clients-*.jar")):
            return place / "libs"
    return None


def missing() -> str | None:
    """What is missing for Apache Kafka, as a skip message; None when everything is there."""
    if kafka_libs() is None:
        named = os.environ.get("KAFKA_HOME")
        where = f"KAFKA_HOME={named} has no libs/" if named else "KAFKA_HOME is not set"
        return f"no Apache Kafka: {where}, and ../shared/kafka is not there"
    if shutil.which("java") is None:
        return "no Java on the PATH: Apache Kafka needs Java 17 or newer"
    return None


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, all different.

    Not from the range of which the system gives ports to connections and to port 0: there, what is
    free now may be taken when a broker gets round to binding it. By chance, so that test processes
    beside each other do not choose the same.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_OUTSIDE_THE_SYSTEMS_RANGE, 200 + count):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


class ApacheKafka:
    """One node, broker and controller in one process.

    Args:
        folder: an empty folder of this node; everything it writes is in there.
        settings: over the defaults of `server.properties`; `{port}` in a value is the client port.
        scram: users to create before the first start, name to password (SCRAM-SHA-512).
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._settings = dict(settings or {})
        self._scram = dict(scram or {})
        self._port, self._controller = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Format the folder on the first start, launch, wait until the broker answers."""
        if not (self.folder / "server.properties").exists():
            self._format()
        self._launch()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._answers():
            if not self.alive or time.monotonic() > deadline:
                log = (self.folder / "server.log").read_text(errors="replace").splitlines()
                self.kill()
                raise RuntimeError("Apache Kafka did not start:\n" + "\n".join(log[-30:]))
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """Shut down in order; the data stays for the next `start`."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self.kill()

    def kill(self) -> None:
        """Kill -9: what a power cut does."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(30)
        process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # Throw-away data: nothing is gained by an orderly end, and it takes seconds.
        self.kill()

    def _java(self, *arguments: str, heap: str) -> list[str]:
        java = shutil.which("java")
        assert java is not None
        # It lives for minutes: compiling its code thoroughly costs more than it brings.
        jvm = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        jvm.append("-Djava.awt.headless=true")
        jvm.append(f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}")
        return [java, *jvm, "-cp", f"{kafka_libs()}/*", *arguments]

    def _format(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.yaml").write_text(_LOG4J)
        client, controller = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._controller}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{client},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{client}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
        properties |= {
            name: value.replace("{port}", str(self._port)) for name, value in self._settings.items()
        }
        path = self.folder / "server.properties"
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        command = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(path)]
        for user, password in self._scram.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        path.write_text(text)
        done = subprocess.run(
            self._java(*command, heap="128m"), capture_output=True, text=True, check=False
        )
        if done.returncode:
            path.unlink()
            raise RuntimeError(f"formatting failed:\n{done.stdout}{done.stderr}")

    def _launch(self) -> None:
        server = self._java("kafka.Kafka", str(self.folder / "server.properties"), heap="384m")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), *server],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                # Over TLS this cannot be asked; that it listens has to do.
                if "PLAINTEXT:PLAINTEXT" not in self._settings.get(
                    "listener.security.protocol.map", "PLAINTEXT:PLAINTEXT"
                ):
                    return True
                return bool(Wire(connection).cluster().brokers)
        except (OSError, WireError):
            return False
