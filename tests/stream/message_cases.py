"""What a case of the golden file of messages is made with: a place, a command line, a broker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from kafka import KafkaConsumer

from stream.cli.main import app
from stream.kafka.embedded import EmbeddedBroker
from stream.settings import KafkaSettings
from tests.apache_kafka import free_ports
from tests.conftest import clean_environment, kafka_environment, kafka_settings, topics_on


class Place:
    """Where a case runs: a folder of its own, a broker with topics, one without, and none."""

    def __init__(self, folder: Path, broker: EmbeddedBroker) -> None:
        self.folder = folder
        self._broker = broker
        self.nothing = KafkaSettings(bootstrap=f"127.0.0.1:{free_ports(1)[0]}")  # type: ignore[call-arg] # the others have defaults

    @cached_property
    def kafka(self) -> KafkaSettings:
        return topics_on(self._broker, partitions=1)

    @cached_property
    def bare(self) -> KafkaSettings:
        return kafka_settings(self._broker, partitions=1)

    def file(self, name: str, text: str | bytes = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def plain(self, said: str) -> str:
        """Without what is another one every time."""
        names = {str(self.folder): "FOLDER", self.nothing.bootstrap: "NOBODY"}
        names[self._broker.bootstrap] = "BROKER"
        for thing, name in names.items():
            said = said.replace(thing, name)
        return re.sub(r"\bt[0-9a-f]{8}\.", "PREFIX.", said)


Case = Callable[[Place], Any]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """A case under its name in the golden file."""

    def add(made: Case) -> Case:
        assert name not in CASES
        CASES[name] = made
        return made

    return add


def command(*arguments: str) -> Case:
    """A command line; FOLDER in it is the case's folder."""

    def run(place: Place) -> None:
        given = [argument.replace("FOLDER", str(place.folder)) for argument in arguments]
        env = clean_environment(kafka_environment(place.bare)) | {
            "TIDEGATE_KAFKA__REQUEST_TIMEOUT_S": "1"
        }
        result = typer.testing.CliRunner().invoke(app, given, env=env)
        assert result.exception is not None, result.output
        raise result.exception

    return run


@contextmanager
def impatient() -> Iterator[None]:
    """kafka-python asks for half a minute whether somebody answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KafkaConsumer.DEFAULT_CONFIG, "bootstrap_timeout_ms", 200)
        yield
