"""The process that scores beside the worker: what it makes, and what becomes of its failures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import pytest
from aiokafka.record.memory_records import MemoryRecords

from models.null import NullScorer
from stream.agents.label import apart, prepare
from stream.errors import ManifestError, ModelRuntimeError, ScoringProcessError
from stream.flow import Computed, PackedPipeline
from stream.kafka.ledger import Partition, Span, SpanState
from stream.kafka.packing import Packer
from stream.pipeline import ATTEMPT_HEADER, Pipeline
from stream.scoring_process.handle import ScoringProcess
from stream.scoring_process.messages import Channel, Load, Loaded, Names, PassedRecord, Ready
from stream.settings import Settings, load_settings
from tests.stream.sources.bad_lines import BAD_KINDS, ODD_BUT_GOOD

PLENTY_S = 30.0
COMMAND = (sys.executable, "-m", "tests.stream.scoring_process.scorers")
LIMITS = {"labels": 1_000_000, "dead-letters": 1_000_000}
Start = Callable[..., ScoringProcess]


def settings(preset: str, batches: int = 2) -> Settings:
    return load_settings(
        {"models.preset": preset, "models.threads": 1, "worker.in_flight_batches": batches}, {}
    )


@pytest.fixture
def start() -> Iterator[Start]:
    started = []

    def starting(preset: str = "obedient", batches: int = 2, **limits: int) -> ScoringProcess:
        process = ScoringProcess(settings(preset, batches), COMMAND)
        started.append(process)
        process.start("labels", "dead-letters", LIMITS | limits)
        return process

    yield starting
    for process in started:
        process.close()


def span(*values: bytes | None, partition: int = 0, first: int = 0) -> Span:
    records = [
        PassedRecord(
            b"k%d" % n,
            value,
            [(ATTEMPT_HEADER, b"3"), ("null", None)],
            1_760_000_000_000 + n,
            first + n,
        )
        for n, value in enumerate(values)
    ]
    return Span(Partition("posts", partition), records, 0, first + len(records))


def texts(*found: str) -> Span:
    return span(*(json.dumps({"id": f"p{n}", "text": t}).encode() for n, t in enumerate(found)))


def read(computed: Computed) -> list[tuple[str, int, bytes | None, dict[str, Any]]]:
    found = []
    for packed in computed.packed:
        records = MemoryRecords(bytes(packed.builder.buffer))
        while records.has_next():
            batch = records.next_batch()
            assert batch is not None
            assert batch.validate_crc()
            for record in batch:
                value = json.loads(record.value)
                for when in ("labelled_at", "at"):
                    value.pop(when, None)
                found.append((packed.topic, packed.partition, record.key, value))
    return found


def in_threads(spans: Sequence[Span]) -> Computed:
    pipeline = Pipeline(NullScorer(), labels="labels", dead_letters="dead-letters")
    return PackedPipeline(pipeline, Packer(LIMITS, instead=pipeline.instead_of).pack).compute(spans)


@contextlib.contextmanager
def computing(process: ScoringProcess, batch: Span) -> Iterator[threading.Thread]:
    """A batch in a thread of its own, which must fail by the end because the process is closed."""
    errors: list[ScoringProcessError] = []

    def compute() -> None:
        try:
            process.compute([batch])
        except ScoringProcessError as exc:
            errors.append(exc)

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    yield thread
    thread.join(PLENTY_S)
    assert len(errors) == 1


def test_it_makes_what_the_workers_own_threads_make(start: Start) -> None:
    """Good, odd and bad records of two partitions: every output, place, key and header."""

    def some() -> list[Span]:
        return [
            span(*ODD_BUT_GOOD, None, first=10),
            span(*(kind.value for kind in BAD_KINDS), b'{"id":"x","text":"y"}', partition=3),
        ]

    spans = some()
    computed = start().compute(spans)
    expected = in_threads(some())
    assert read(computed) == read(expected)
    assert computed[:2] == expected[:2]
    assert computed.dead_letters > len(BAD_KINDS) - 1
    assert [list(s.records) for s in spans] == [[], []]


def test_what_was_taken_away_is_not_computed(start: Start) -> None:
    gone = texts("die now")
    gone.state = SpanState.DROPPED
    assert start().compute([gone, texts("calm")]).labels == 1


def test_one_post_that_fails_is_a_dead_letter_and_its_neighbours_are_not(start: Start) -> None:
    computed = start().compute([texts("calm", "fail here", "calm too")])
    assert (computed.labels, computed.dead_letters) == (2, 1)
    (letter,) = [value for topic, *_, value in read(computed) if topic == "dead-letters"]
    assert (letter["post_id"], letter["attempt"]) == ("p1", 3)
    assert letter["error"] == "the models cannot score it: as asked"


def test_a_label_its_topic_does_not_take_is_a_dead_letter(start: Start) -> None:
    computed = start(labels=2_000).compute([texts("calm", "long " * 500)])
    assert [(topic, value.get("reason")) for topic, *_, value in read(computed)] == [
        ("labels", None),
        ("dead-letters", "too-large"),
    ]


def test_models_that_fail_on_everything_are_the_workers_error(start: Start) -> None:
    with pytest.raises(ModelRuntimeError, match="the models fail on every post") as caught:
        start("broken").compute([texts("calm")])
    assert caught.value.hint == "`tidegate doctor` checks the models; no post was lost"


@pytest.mark.parametrize(
    ("preset", "error", "words"),
    [
        ("cannot", ModelRuntimeError, "cuda:9: no such card\n  hint: take another"),
        ("surprise", ScoringProcessError, "scoring failed: ZeroDivisionError: a surprise"),
        ("dies", ScoringProcessError, "the process that scores ended with code 7"),
    ],
)
def test_what_cannot_be_loaded_is_an_error(
    preset: str, error: type[Exception], words: str, start: Start
) -> None:
    with pytest.raises(error) as caught:
        start(preset)
    assert str(caught.value).startswith(words)


def test_a_preset_that_there_is_not_is_the_same_error_as_without_a_process() -> None:
    errors = []
    for scoring in ("process", "threads"):
        wanted = load_settings({"models.preset": "none", "worker.scoring": scoring}, {})
        with pytest.raises(ManifestError) as caught:
            prepare(wanted)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_its_end_is_an_error_that_says_how_to_go_on(start: Start) -> None:
    process = start()
    with pytest.raises(ScoringProcessError, match="ended with code -9") as caught:
        process.compute([texts("calm", "die now")])
    assert "Nothing was committed past it" in str(caught.value.hint)
    with pytest.raises(ScoringProcessError, match="ended with code -9"):
        process.compute([texts("calm")])


def test_batches_are_computed_side_by_side(start: Start) -> None:
    """The second is done while the first still waits: its answer is the proof."""
    process = start()
    with computing(process, texts("wait 3600")) as first:
        assert process.compute([texts("calm")]).labels == 1
        assert first.is_alive()
        process.close()


def test_it_leaves_signals_to_the_worker(start: Start) -> None:
    process = start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert process.compute([texts("calm")]).labels == 1


def test_closing_ends_it_in_the_middle_of_a_batch(start: Start) -> None:
    process = start(batches=1)
    with computing(process, texts("wait 3600")):
        process.close()
    assert not psutil.pid_exists(process.pid)


def test_it_ends_when_its_worker_is_killed() -> None:
    code = (
        "from stream.scoring_process.handle import ScoringProcess\n"
        "from stream.settings import load_settings\n"
        "process = ScoringProcess(load_settings({'models.preset': 'null'}, {}))\n"
        "print(process.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        beside = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
        assert psutil.wait_procs([beside], timeout=PLENTY_S)[1] == []


def test_what_it_does_not_understand_ends_it_so_that_nobody_waits_for_an_answer() -> None:
    wanted = settings("null")
    ours, theirs = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-m", "stream.scoring_process.child", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.PIPE,
    ) as process:
        theirs.close()
        channel = Channel(ours)
        load = Load(wanted.models.model_dump_json(), wanted.log.model_dump_json())
        channel.send(load)
        assert isinstance(channel.receive(), Loaded)
        channel.send(Names("labels", "dead-letters", LIMITS))
        assert isinstance(channel.receive(), Ready)
        channel.send(load)
        with pytest.raises(EOFError):
            channel.receive()
        channel.close()
        assert process.wait(PLENTY_S) == 1


def test_its_facts_are_those_of_its_scorer() -> None:
    with ScoringProcess(settings("compact")) as process:
        assert set(process.models) == {"language", "sentiment", "toxicity"}
        assert [event["provider"] for event in process.events] == ["CPUExecutionProvider"] * 2
        assert [model.id for model in process.in_use] == [e["model"] for e in process.events]


@pytest.mark.parametrize(("scoring", "wanted"), [("process", True), ("threads", False)])
def test_the_setting_says_where_it_scores(scoring: str, wanted: bool) -> None:
    assert apart(load_settings({"worker.scoring": scoring}, {}).worker) is wanted
