"""The worker as a process, on both brokers: labels, signals, kills, failures and what it says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from stream.kafka.embedded import EmbeddedBroker
from stream.records import decode_dead_letter
from stream.settings import KafkaSettings
from stream.topics import DEAD_LETTERS, LABELS
from tests.apache_kafka import free_ports
from tests.chaos.account import account
from tests.chaos.crew import Crew
from tests.chaos.posts import Sent, records
from tests.chaos.proxy import Proxy
from tests.chaos.traffic import count_all, read_all, send
from tests.chaos.trials import committed
from tests.conftest import (
    TIDEGATE,
    RunTidegate,
    clean_environment,
    kafka_environment,
    kafka_settings,
    topics_on,
)


@pytest_asyncio.fixture
async def crew(topics: KafkaSettings, tmp_path: Path) -> AsyncIterator[Crew]:
    async with Crew(topics, tmp_path, delay_s=0.005) as made:
        yield made


async def _until_labelled(kafka: KafkaSettings) -> None:
    """Until the first label is there."""
    async with asyncio.timeout(60):
        while await count_all(kafka, LABELS) == 0:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)


async def _until_committed(kafka: KafkaSettings, count: int, crew: Crew) -> None:
    async with asyncio.timeout(60):
        while await committed(kafka) < count:
            assert all(m.poll() is None for m in crew.members), crew.logs
            await asyncio.sleep(0.2)


async def test_every_post_is_labelled_or_dead_lettered_exactly_once(
    topics: KafkaSettings, crew: Crew
) -> None:
    sent = list(records(3000))
    await send(topics, sent)
    worker = crew.start()
    await _until_committed(topics, 3000, crew)
    assert await crew.stop(worker) == 0
    result = await account(topics, sent)
    assert result.complete, result.as_dict()
    assert result.duplicates == 0


async def test_sigterm_in_the_middle_finishes_commits_and_leaves(
    topics: KafkaSettings, crew: Crew
) -> None:
    """After an orderly stop nothing is labelled twice: what was delivered was committed."""
    sent = list(records(12_000))
    await send(topics, sent)
    first = crew.start()
    await _until_labelled(topics)
    assert await crew.stop(first) == 0
    so_far = await committed(topics)
    assert so_far == await count_all(topics, LABELS, DEAD_LETTERS)
    assert so_far < 12_000, "it was to be stopped in the middle"
    second = crew.start()
    await _until_committed(topics, 12_000, crew)
    assert await crew.stop(second) == 0
    result = await account(topics, sent)
    assert result.complete, result.as_dict()
    assert result.duplicates == 0


async def test_two_workers_share_the_partitions(topics: KafkaSettings, crew: Crew) -> None:
    sent = list(records(4000))
    crew.start()
    crew.start()
    await crew.at_work()
    await crew.sharing(2)
    await send(topics, sent)
    await _until_committed(topics, 4000, crew)
    for member in list(crew.members):
        assert await crew.stop(member) == 0
    labelled = [int(n) for n in re.findall(r'"labels": (\d+), .*"event": "stopped"', crew.logs)]
    assert len(labelled) == 2
    assert min(labelled) > 0
    assert (await account(topics, sent)).complete


async def test_an_unconfirmed_delivery_ends_the_worker_and_is_not_committed(
    tmp_path: Path,
) -> None:
    """The broker reads our requests and never answers: exit 1, and a restart loses nothing."""
    (port,) = free_ports(1)
    async with Proxy(port) as proxy:
        with EmbeddedBroker(advertised_port=port) as broker:
            proxy.target_port = int(broker.bootstrap.rpartition(":")[2])
            kafka = await asyncio.to_thread(
                partial(topics_on, broker, bootstrap=f"127.0.0.1:{port}", request_timeout_s=2.0)
            )
            sent = list(records(20_000))
            await send(kafka, sent)
            async with Crew(kafka, tmp_path, delay_s=0.02) as crew:
                worker = crew.start()
                await _until_labelled(kafka)
                proxy.silent = True
                code = await crew.ended(worker)
                assert code == 1, crew.logs
                assert "error: " in crew.logs
                assert "hint: " in crew.logs
                proxy.silent = False
                proxy.cut()
                crew.revive()
                await _until_committed(kafka, 20_000, crew)
                assert await crew.stop(crew.members[0]) == 0
            result = await account(kafka, sent)
            assert result.complete, result.as_dict()


async def test_a_worker_without_progress_ends_itself(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    async with Crew(embedded_topics, tmp_path, delay_s=600, worker={"stall_timeout_s": 2}) as crew:
        await send(embedded_topics, records(50))
        code = await crew.ended(crew.start())
        assert code == 1
        assert "no progress for 2 s: 50 posts are in flight" in crew.logs
    assert await committed(embedded_topics) == 0


async def test_a_stop_has_a_deadline(embedded_topics: KafkaSettings, tmp_path: Path) -> None:
    async with Crew(embedded_topics, tmp_path, delay_s=600, worker={"stop_timeout_s": 0.5}) as crew:
        await send(embedded_topics, records(50))
        worker = crew.start()
        await crew.at_work()
        assert await crew.stop(worker) == 0
    assert await committed(embedded_topics) == 0


_ASKS_FOR_LONG = """
import threading, time
from stream.alerts.watermark import Watermark
from stream.roles import Duty
from stream.settings import load_settings
from stream.worker import run_worker

def look(self, now):
    # As of a broker that has just gone: in a thread that nobody can end.
    print("asked", flush=True)
    time.sleep(3600)

Watermark.look = look
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
run_worker(load_settings(), duty=Duty("alert"))
"""


def test_a_stop_waits_for_no_answer(embedded_topics: KafkaSettings, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _ASKS_FOR_LONG],
            env=clean_environment(kafka_environment(embedded_topics)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"asked\n"
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert '"event": "stopped"' in (tmp_path / "log").read_text()


def test_without_a_broker_it_says_so_at_once(run_tidegate: RunTidegate) -> None:
    (port,) = free_ports(1)
    done = run_tidegate("worker", "--kafka", f"127.0.0.1:{port}", "--preset", "null")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: nothing listens there" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_topics_it_names_them(
    embedded_broker: EmbeddedBroker, run_tidegate: RunTidegate
) -> None:
    kafka = kafka_settings(embedded_broker)
    done = run_tidegate("worker", "--preset", "null", env=kafka_environment(kafka))
    assert done.returncode == 1
    assert f"no such topic: `{kafka.topic_prefix}posts`" in done.stderr
    assert "`tidegate topics create`" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        [TIDEGATE, "worker", "--preset", "null"],
        [TIDEGATE.with_name("faust"), "-A", "stream.app", "worker", "-l", "warn"],
    ],
    ids=["tidegate worker", "faust worker"],
)
def test_the_command_labels_and_its_log_has_no_text_of_a_post(
    embedded_topics: KafkaSettings, tmp_path: Path, command: list[str | Path]
) -> None:
    asyncio.run(send(embedded_topics, records(500)))
    log = tmp_path / "worker.err"
    environment = clean_environment(kafka_environment(embedded_topics))
    # What Faust would read of its own accord is not read.
    environment |= {"TIDEGATE_MODELS__PRESET": "null", "BROKER_URL": "kafka://127.0.0.1:1"}
    with log.open("wb") as errors:
        worker = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stderr=errors, stdout=subprocess.DEVNULL
        )
    try:
        try:
            asyncio.run(_until(embedded_topics, 500))
        except TimeoutError:
            pytest.fail(log.read_text())
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
    assert "ooo" not in log.read_text()
    assert list(tmp_path.iterdir()) == [log], "a worker writes nothing to disk"


async def test_a_post_larger_than_its_topic_takes_becomes_a_dead_letter(
    topics: KafkaSettings, crew: Crew
) -> None:
    huge = json.dumps({"id": "huge", "text": "x", "meta": {"x": "y" * 1_048_300}}).encode()
    small = [
        Sent(n, b"k", json.dumps({"id": f"p{n}", "text": "x"}).encode(), "label") for n in (1, 2)
    ]
    await send(topics, [small[0], Sent(0, b"k", huge, "too-large"), small[1]])
    worker = crew.start()
    await _until_committed(topics, 3, crew)
    assert await crew.stop(worker) == 0
    (letter,) = [decode_dead_letter(r.value) for r in await read_all(topics, DEAD_LETTERS)]
    assert (letter.reason, letter.post_id, letter.original_truncated) == ("too-large", "huge", True)
    assert await count_all(topics, LABELS) == 2


async def _until(kafka: KafkaSettings, count: int) -> None:
    async with asyncio.timeout(60):
        while await committed(kafka) < count:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)
