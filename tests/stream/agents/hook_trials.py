"""The hooks role as processes of its own, that are killed; what was sent, and what arrived.

The long form of the trial: `python -m tests.stream.agents.hook_trials --kills 20`. It needs
Apache Kafka, prints one JSON object, and ends with code 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from standardwebhooks import Webhook as Verifier

from stream.hooks.events import Event
from stream.hooks.load import parse_targets
from stream.kafka.admin import open_admin
from stream.kafka.client import aiokafka_config
from stream.settings import ENV_PREFIX, KafkaSettings
from stream.topics import ALERTS, DECISIONS
from tests.apache_kafka import ApacheKafka, missing
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings
from tests.processes import kill
from tests.stream.hooks.servers import KEY, alert, decision, serve


async def publish(kafka: KafkaSettings, events: Iterable[Event]) -> None:
    """Onto their topics; a post's decisions all in one partition."""
    producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all")
    await producer.start()
    try:
        for event in events:
            topic = DECISIONS if event.kind == "decision" else ALERTS
            number = sum(event.subject.encode()) % kafka.partitions
            await producer.send(
                topic.full_name(kafka.topic_prefix),
                event.original,
                partition=number if topic.partitioned else 0,
            )
        await producer.flush()
    finally:
        await producer.stop()


async def committed(kafka: KafkaSettings, target: str) -> int:
    """How many records of decisions and alerts the target's group has committed."""
    consumer = AIOKafkaConsumer(
        **aiokafka_config(kafka), group_id=f"{kafka.group}-hook-{target}", enable_auto_commit=False
    )
    decisions, alerts = (t.full_name(kafka.topic_prefix) for t in (DECISIONS, ALERTS))
    partitions = [TopicPartition(decisions, number) for number in range(kafka.partitions)]
    partitions.append(TopicPartition(alerts, 0))
    try:
        await consumer.start()
        consumer.assign(partitions)
        return sum([await consumer.committed(each) or 0 for each in partitions])
    finally:
        await consumer.stop()


_ONE_TARGET = """
import sys
from stream.cli.main import print_error
from stream.errors import TidegateError
from stream.roles import Duty
from stream.settings import load_settings
from stream.worker import run_worker
try:
    run_worker(load_settings(), duty=Duty("hooks", sys.argv[1]))
except TidegateError as error:
    print_error(error)
    sys.exit(1)
"""


class HookWorkers:
    """`tidegate worker --role hooks`, started, stopped and killed; of one target its process alone.

    Args:
        kafka: their broker and group.
        folder: for the targets' file and the logs.
        targets: the file's lines below `targets:`.
        instance: a static name in the group: a killed one is replaced at once.
    """

    def __init__(
        self, kafka: KafkaSettings, folder: Path, targets: str, instance: str | None = None
    ) -> None:
        self._kafka = kafka
        self.folder = folder
        self.file = folder / "hooks.yaml"
        self.file.write_text(f"targets:\n{targets}")
        self.environment = {
            **clean_environment(kafka_environment(kafka)),
            f"{ENV_PREFIX}HOOKS__PATH": str(self.file),
            f"{ENV_PREFIX}HOOKS__ALLOW_PRIVATE": "true",
            f"{ENV_PREFIX}WORKER__COMMIT_INTERVAL_S": "0.3",
            "HOOK_KEY": KEY,
        }
        if instance is not None:
            self.environment[f"{ENV_PREFIX}WORKER__INSTANCE"] = instance
        self.number = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.number += 1
        with (self.folder / f"hooks-{self.number:03d}.log").open("wb") as log:
            names = list(parse_targets(self.file.read_text(), allow_private=True))
            # One target needs no supervisor: half the time to start, and a kill is a kill.
            alone = [sys.executable, "-P", "-c", _ONE_TARGET, *names]
            self.process = subprocess.Popen(
                alone if len(names) == 1 else [TIDEGATE, "worker", "--role", "hooks"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What the last one wrote."""
        return (self.folder / f"hooks-{self.number:03d}.log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        # The targets' processes first: those whose worker dies end in good order.
        parent = psutil.Process(self.process.pid)
        kill([*parent.children(), parent])
        self.process.wait()

    async def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)

    async def until(self, true: Any, timeout_s: float = 60) -> None:
        """Until something holds, while the worker lives."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert self.process is not None
            assert self.process.poll() is None, f"it ended\n{self.log}"
            assert time.monotonic() < deadline, f"not in time\n{self.log}"
            await asyncio.sleep(0.02)

    async def until_committed(self, target: str, records: int) -> None:
        """Until the target's group has committed so many records."""
        async with asyncio.timeout(60):
            while await committed(self._kafka, target) < records:
                assert self.process is not None
                assert self.process.poll() is None, f"it ended\n{self.log}"
                await asyncio.sleep(0.1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Arrivals:
    """A receiver that verifies, takes its time, and fails now and then."""

    def __init__(self, delay_s: float = 0.0, failures: float = 0.0) -> None:
        self.by_subject: dict[str, list[str]] = defaultdict(list)
        self.ids: dict[str, set[str]] = defaultdict(set)
        self.messages = 0
        self.bad = 0
        self._delay_s = delay_s
        self._failures = failures
        self._chance = random.Random(7)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            message = Verifier(KEY).verify(body, dict(request.headers))
        except Exception:  # noqa: BLE001 - whatever is wrong with it is counted
            self.bad += 1
            return web.Response(status=401)
        await asyncio.sleep(self._delay_s)
        if self._chance.random() < self._failures:
            return web.Response(status=500)
        data = message["data"]
        state = f"/{data['state']}" if "alert_id" in data else ""
        record = data.get("decision_id") or data["alert_id"] + state
        self.by_subject[data.get("post_id") or data["alert_id"]].append(record)
        self.ids[record].add(request.headers["webhook-id"])
        self.messages += 1
        return web.Response(status=204)

    def account(self, sent: Sequence[Event]) -> dict[str, Any]:
        """What is missing, doubled, or came under two ids or in the wrong order."""
        order: dict[str, list[str]] = defaultdict(list)
        for event in sent:
            order[event.subject].append(event.record_id)
        disordered = [
            subject
            for subject, found in self.by_subject.items()
            if [order[subject].index(r) for r in found]
            != sorted(order[subject].index(r) for r in found)
        ]
        return {
            "sent": len(sent),
            "messages": self.messages,
            "lost": [e.record_id for e in sent if e.record_id not in self.ids],
            "repeated": self.messages - len(self.ids),
            "two_ids": [record for record, ids in self.ids.items() if len(ids) > 1],
            "disordered": disordered,
            "bad_signatures": self.bad,
        }


def story(posts: int, rounds: int) -> list[Event]:
    """Decisions of so many posts, several of each, and alerts that fire and resolve among them."""
    events: list[Event] = []
    for number in range(posts * rounds):
        events.append(decision(number, f"p{number % posts}"))
        if number % 40 == 20:
            events.append(alert(number, alert_id=f"a{number // 40}"))
        if number % 40 == 39:
            events.append(alert(number, "resolved", alert_id=f"a{number // 40}"))
    return events


async def trial(kafka: KafkaSettings, folder: Path, kills: int, events: int) -> dict[str, Any]:
    """Kill the hooks role in the middle of its deliveries, again and again; the account."""
    arrivals = Arrivals(delay_s=0.01, failures=0.05)
    sent = story(events // 4, 4)
    async with serve(arrivals.handle) as server:
        target = (
            f"  bot: {{type: webhook, url: '{server.url}', secret_env: HOOK_KEY, "
            "retries: [0, 0.05, 0.2, 1, 1, 1, 1, 1, 1], breaker: {failures: 1000}}\n"
        )
        await publish(kafka, sent)
        async with HookWorkers(kafka, folder, target, "hooks-1") as workers:
            chance = random.Random(11)
            share = len(sent) // (kills + 1)
            for _ in range(kills):
                workers.start()
                before = arrivals.messages
                enough = before + chance.randrange(1, max(2, share))
                await workers.until(lambda wanted=enough: arrivals.messages >= wanted)
                workers.kill()
            workers.start()
            await workers.until(lambda: len(arrivals.ids) >= len(sent), 120)
            code = await workers.stop()
    return {"kills": kills, "exit": code, **arrivals.account(sent)}


def complete(account: dict[str, Any]) -> bool:
    """Whether nothing was lost and nothing is wrong; repetitions are allowed."""
    wrong = ("lost", "two_ids", "disordered", "bad_signatures", "exit")
    return not any(account[name] for name in wrong)


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=4000)
    options = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(ApacheKafka(folder / "kafka"))
        kafka = kafka_settings(broker)
        with open_admin(kafka) as admin:
            admin.create_missing()
        account = asyncio.run(trial(kafka, folder, options.kills, options.events))
    print(json.dumps(account))  # noqa: T201 - the result
    return 0 if complete(account) else 1


if __name__ == "__main__":
    sys.exit(main())
