"""Every error message of policy, decisions, aggregates, alerts and hooks, word for word.

What a file of rules or targets is told stands in golden files beside those tests; what happens at
run time and on the command line is provoked here and stands in `messages.txt`. That no message is
left out is `test_message_sources.py`'s. To write the file anew after a change:
`python -m tests.stream.test_messages`, then read the difference.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytest
import typer.testing
from kafka import KafkaConsumer

from stream.agents.aggregate import Aggregation, Names
from stream.agents.alert_recall import _committed
from stream.aggregates.book import Book
from stream.aggregates.books import Books
from stream.aggregates.facts import label_facts
from stream.alerts.load import load_rules
from stream.cli.main import app
from stream.decisions import readback
from stream.decisions.parts import _alive
from stream.decisions.precision import wilson
from stream.decisions.stored import RecordFile, TopicValues
from stream.errors import TidegateError
from stream.hooks.credentials import credentials_of
from stream.hooks.follow import new_deliveries
from stream.hooks.load import load_targets
from stream.hooks.replay import _Log
from stream.hooks.senders import sender_of
from stream.kafka.embedded import EmbeddedBroker
from stream.outcomes import Delivery
from stream.policy import load_policy
from stream.policy.syntax import parse_serialised
from stream.records import decode_dead_letter
from stream.settings import HookSettings, KafkaSettings
from stream.topics import LABELS
from tests.apache_kafka import ROOT, free_ports
from tests.conftest import clean_environment, kafka_environment, kafka_settings, topics_on
from tests.stream.aggregates.feed import HOUR, NEVER, label
from tests.stream.decisions.labels import Topics, deciding_over, policy_of
from tests.stream.hooks.servers import target

GOLDEN = Path(__file__).with_name("messages.txt")


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


# -- policy

case("policy: no file of that name")(lambda place: load_policy(place.folder / "none.yaml"))
case("policy: a folder without rules")(lambda place: load_policy(place.folder))
case("policy: not UTF-8")(lambda p: load_policy(p.file("latin.yaml", b"name: m\xfcll")))
case("policy: a file as a folder")(lambda p: load_policy(p.file("a.yaml") / "b.yaml"))


@case("policy: two lists of one name in two files")
def _(place: Place) -> None:
    place.file("both/1.yaml", "lists: {bad: {words: [muppet]}}\n")
    place.file("both/2.yaml", "lists: {bad: {words: [clown]}}\n")
    load_policy(place.folder / "both")


case("policy: the compiler's tree is of another form")(lambda _: parse_serialised(b"\x03"))
case("policy: the compiler's tree is cut off")(lambda _: parse_serialised(b"\x0a\x7f"))
case("policy explain: nothing given")(command("policy", "explain"))
case("policy explain: no file")(command("policy", "explain", "--label", "FOLDER/none"))


@case("policy explain: no label")
def _(place: Place) -> None:
    place.file("labels", "\n")
    command("policy", "explain", "--label", "FOLDER/labels")(place)


@case("policy explain: another post")
def _(place: Place) -> None:
    place.file("labels", "\n")
    command("policy", "explain", "--label", "FOLDER/labels", "--post", "p1")(place)


@case("policy explain: no label record")
def _(place: Place) -> None:
    place.file("labels", "\n[]\n")
    command("policy", "explain", "--label", "FOLDER/labels")(place)


# -- decisions


def _dead_letter(place: Place, topic: str) -> str:
    topics = Topics()
    topics.put(topic, 0, b"[]")
    deciding = deciding_over(topics, policy_of(place.folder, "rules: []"))
    (letter,) = deciding.run([topics.span(topic, 0, 0, 1)]).outputs
    return decode_dead_letter(letter.value or b"").error


case("decide: no label")(lambda place: _dead_letter(place, "labels"))
case("decide: no review")(lambda place: _dead_letter(place, "reviews"))
case("precision: more than all")(lambda _: wilson(3, 2))
case("a file that is not there")(lambda place: RecordFile(place.folder / "none.jsonl"))
case("a topic that is not there")(lambda place: TopicValues(place.bare, LABELS, None))


@case("backtest: a process was killed")
def _(_: Place) -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    process.kill()
    process.join()
    _alive(process)


@case("the past: nobody answers")
def _(place: Place) -> None:
    with readback.TopicReader(place.nothing) as reader:
        list(reader.read("labels", 0, 0, 1))


@case("the past: the broker gives no more")
def _(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch, readback.TopicReader(place.kafka) as reader:
        patch.setattr(readback, "_PATIENCE_S", 0.5)
        list(reader.read(LABELS.full_name(place.kafka.topic_prefix), 0, 0, 1))


case("policy backtest: no labels named")(command("policy", "backtest", "--policy", "FOLDER"))


@case("policy backtest: no label in the file")
def _(place: Place) -> None:
    place.file("other.jsonl", "root:x:0:0\n{}\n")
    given = ("--policy", str(ROOT / "config/policy.yaml"), "--labels", "FOLDER/other.jsonl")
    command("policy", "backtest", *given, "--processes", "1")(place)


# -- aggregates


def _restored(key: bytes, value: bytes | None) -> Case:
    return lambda _: Books(NEVER).restore(0, key, value)


case("aggregate: no key of ours")(_restored(b"?l", None))
case("aggregate: no change of ours")(_restored(b"?l", b"[]"))
case("aggregate: a time before all")(lambda _: label_facts(label("p", 1, at_s=-2 * HOUR), 1))


@case("aggregate: the topic is another one")
def _(_: Place) -> None:
    books, unused = Books(NEVER), cast("Any", None)
    book = Book("labels", 0)
    book.add([(number, label(f"p{number}", number)) for number in range(50)])
    books.unchecked = [book]
    counting = Aggregation(
        books, unused, unused, Names({"labels": "labels"}, "aggregates", "metrics"),
        every_s=1, most_records=1, hurried=lambda: False, partition_ends=lambda partitions: dict.fromkeys(partitions, 1),
    )  # fmt: skip
    asyncio.run(counting._check_topics())


# -- alerts

case("alerts: no file")(lambda place: load_rules(place.folder / "none.yaml"))
case("alerts: not UTF-8")(lambda p: load_rules(p.file("latin.yaml", b"# \xfc")))
case("alerts test: no such rule")(command("alerts", "test", "--rule", "toxic-wav"))


@case("alerts test: the broker does not take it")
def _(place: Place) -> None:
    group = "x" * 1_100_000
    rule = f"{{id: a, kind: threshold, measure: posts, over: 1, by: tag, only: [{group}]}}"
    place.file("alerts.yaml", f"rules: [{rule}]\n")
    command("alerts", "test", "--rules", "FOLDER/alerts.yaml", "--fire")(place)


@case("alerts test: no rule")
def _(place: Place) -> None:
    place.file("alerts.yaml", "rules: []\n")
    command("alerts", "test", "--rules", "FOLDER/alerts.yaml", "--fire")(place)


case("alerts backtest: nothing to run over")(command("alerts", "backtest"))


@contextmanager
def _impatient() -> Iterator[None]:
    """kafka-python asks for half a minute whether somebody answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KafkaConsumer.DEFAULT_CONFIG, "bootstrap_timeout_ms", 200)
        yield


@case("alert: nobody answers")
def _(place: Place) -> None:
    with _impatient():
        _committed(place.nothing, "it", "metrics")


@case("alerts backtest: no metric in the file")
def _(place: Place) -> None:
    place.file("other.jsonl", "root:x:0:0\n{}\n")
    command("alerts", "backtest", "--metrics", "FOLDER/other.jsonl")(place)


@case("alerts backtest: no label in the file")
def _(place: Place) -> None:
    place.file("other.jsonl", "root:x:0:0\n{}\n")
    command("alerts", "backtest", "--labels", "FOLDER/other.jsonl")(place)


# -- hooks

_WEBHOOK = "{type: webhook, url: 'https://x.test', secret_env: K}"
_SLACK = "{type: slack, url_env: U}"


def _secret(text: str, **environ: str) -> Case:
    return lambda _: credentials_of("it", target(text), environ)


case("hooks: a variable is not set")(_secret(_SLACK))
case("hooks: no signing key")(_secret(_WEBHOOK, K="hunter2hunter2"))
case("hooks: a short signing key")(_secret(_WEBHOOK, K="whsec_aHVudGVyMg=="))
case("hooks: a file of a secret is not there")(_secret("{type: slack, url_file: /nowhere}"))


@case("hooks: a file of a secret is empty")
def _(place: Place) -> None:
    path = place.file("secret", " \n")
    credentials_of("it", target(f"{{type: slack, url_file: {path}}}"))


@case("hooks: a file of a secret is no text")
def _(place: Place) -> None:
    path = place.file("secret", b"\xff\xfe")
    credentials_of("it", target(f"{{type: slack, url_file: {path}}}"))


def _targets(path: Path) -> Any:
    return load_targets(HookSettings(path=path))  # type: ignore[call-arg]


case("hooks: no file")(lambda place: _targets(place.folder / "none.yaml"))
case("hooks: not UTF-8")(lambda place: _targets(place.file("h.yaml", b"\xff\xfe")))
case("hooks: a huge file")(lambda place: _targets(place.file("h.yaml", b"#" * 1_000_001)))


def _sender(text: str, url: str = "https://x.test/hook") -> Case:
    def run(_: Place) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("U", url)
            sender_of("it", target(text), allow_private=False)

    return run


case("hooks: a URL of the environment is none")(_sender(_SLACK, "example.org/hook"))
case("hooks: a URL of the environment is open to all")(_sender(_SLACK, "http://x.test/s3cr3t"))
case("hooks: no authority")(_sender("{type: slack, url_env: U, ca_file: /nowhere.pem}"))
case("hooks: a name without a password")(
    _sender("{type: email, host: x.test, sender: a@x.test, to: [b@x.test], username: a}")
)
case("hooks test: no such target")(command("hooks", "test", "it"))


@case("hooks test: almost such a target")
def _(place: Place) -> None:
    place.file("hooks.yaml", "targets: {slack: {type: slack, url_env: U}}\n")
    command("hooks", "test", "slak", "--hooks", "FOLDER/hooks.yaml")(place)


@case("hooks log: nobody answers")
def _(place: Place) -> None:
    with _impatient(), closing(new_deliveries(place.nothing, lambda _: True)) as log:  # type: ignore[type-var] # a generator
        next(log)


@case("hooks replay: nobody answers")
def _(place: Place) -> None:
    async def run() -> None:
        log = _Log(place.nothing, "it")
        try:
            await log.start()
        finally:
            await log.stop()

    asyncio.run(run())


@case("hooks replay: the log does not take it")
def _(place: Place) -> None:
    delivery = Delivery(
        schema="tidegate.delivery.v1",
        delivery_id="it/decisions/0/1#1",
        target="it",
        kind="decision",
        record_id="p1@posts/0/1",
        state="failed",
        attempt=1,
        at="2026-11-22T10:00:00.000Z",
        original=b"x" * 2_000_000,
    )

    async def run() -> None:
        log = _Log(place.kafka, "it")
        await log.start()
        try:
            await log.write([delivery])
        finally:
            await log.stop()

    asyncio.run(run())


# -- the tests


def said(name: str, place: Place) -> str:
    """What a case says."""
    try:
        answer = CASES[name](place)
    except (TidegateError, ValueError) as error:
        answer = str(error)
    return place.plain(str(answer))


def golden() -> dict[str, str]:
    """Name to message."""
    blocks = (block.partition("\n") for block in GOLDEN.read_text("utf-8").split("=== ")[1:])
    return {name: message.strip("\n") for name, _, message in blocks}


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_what_it_was(
    name: str, tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    assert said(name, Place(tmp_path, embedded_broker)) == golden()[name]


def test_the_golden_file_has_no_other_cases() -> None:
    assert sorted(golden()) == sorted(CASES)


def write_anew() -> None:
    """Write the golden file from what is said now."""
    import tempfile

    blocks = []
    with EmbeddedBroker() as broker:
        for name in CASES:
            with tempfile.TemporaryDirectory() as folder:
                blocks.append(f"=== {name}\n{said(name, Place(Path(folder), broker))}\n")
    GOLDEN.write_text("\n".join(blocks), "utf-8")


if __name__ == "__main__":
    write_anew()
