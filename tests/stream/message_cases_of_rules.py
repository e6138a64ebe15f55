"""Mistakes and failures of policy, decisions, aggregates and alerts, provoked."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import Any, cast

import pytest

from stream.agents.aggregate import Aggregation, Names
from stream.agents.alert_recall import _committed
from stream.aggregates.book import Book
from stream.aggregates.books import Books
from stream.aggregates.facts import label_facts
from stream.alerts.file_tests import run_test
from stream.alerts.load import load_rules
from stream.decisions import readback
from stream.decisions.parts import _alive
from stream.decisions.precision import wilson
from stream.decisions.stored import RecordFile, TopicValues
from stream.policy import load_policy
from stream.policy.syntax import parse_serialised
from stream.records import decode_dead_letter
from stream.topics import LABELS
from tests.apache_kafka import ROOT
from tests.stream.aggregates.feed import HOUR, NEVER, label
from tests.stream.decisions.labels import Topics, deciding_over, policy_of
from tests.stream.message_cases import Case, Place, case, command, impatient

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


@case("alerts test: a test that fails")
def _(place: Place) -> str:
    windows = "windows: [{posts: 9, times: 9}, {posts: 0, times: 9}]"
    path = place.file(
        "alerts.yaml",
        "rules: [{id: a, kind: threshold, measure: posts, over: 5, window: 10s}]\n"
        f"tests: [{{name: x, rule: a, {windows}, fires: 0}},"
        f" {{name: y, rule: a, {windows}, fires: 1, resolves: 2}}]\n",
    )
    rules = load_rules(path)
    return "\n".join(str(run_test(rules, test).problem) for test in rules.tests)


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


@case("alert: nobody answers")
def _(place: Place) -> None:
    with impatient():
        _committed(place.nothing, "it", "metrics")


@case("alerts backtest: no metric in the file")
def _(place: Place) -> None:
    place.file("other.jsonl", "root:x:0:0\n{}\n")
    command("alerts", "backtest", "--metrics", "FOLDER/other.jsonl")(place)


@case("alerts backtest: no label in the file")
def _(place: Place) -> None:
    place.file("other.jsonl", "root:x:0:0\n{}\n")
    command("alerts", "backtest", "--labels", "FOLDER/other.jsonl")(place)
