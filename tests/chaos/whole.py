"""The whole worker killed: every role's process at once, in the middle of alerts and deliveries.

`python -m tests.chaos.whole --kills 20` starts Apache Kafka, sends posts as time goes by, some tags
of which turn toxic every now and then, and `tidegate worker` with all its roles, whose hook is a
receiver that fails one time in twenty. It kills the supervisor and its children with -9, again and
again, and prints an account: which alerts there had to be is known from the posts alone. One JSON
object; exit code 1 when anything was lost, doubled or out of order.
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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from stream.kafka.admin import open_admin
from stream.kafka.scan import scan
from stream.outcomes import decode_alert, decode_decision
from stream.settings import ENV_PREFIX, KafkaSettings
from stream.topics import ALERTS, DECISIONS
from tests.apache_kafka import ApacheKafka, missing
from tests.chaos.waves import Traffic
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings
from tests.processes import family_of, kill
from tests.stream.agents.hook_trials import Arrivals
from tests.stream.hooks.servers import KEY, serve

#: A worker lives no longer than this before it is killed, whatever it has reached.
_LONGEST_LIFE_S = 180.0
_QUIET_S = 180.0
#: Processes of a worker besides the supervisor: label, decide, aggregate, alert and one hook.
_ROLES = 5

POLICY = """
name: whole
lists: {abuse: {words: [idiot, moron]}}
rules:
  - {id: abuse, when: words("abuse"), action: hide, severity: high, reason: harassment-other}
"""
ALERT_RULES = """
rules:
  - {id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 50%, window: 10s,
     cool_down: 0s}
"""


class WholeWorker:
    """`tidegate worker`, all roles of it.

    Args:
        kafka: its broker.
        folder: for what is configured, and its logs.
        url: of the hook's receiver.
    """

    def __init__(self, kafka: KafkaSettings, folder: Path, url: str) -> None:
        self._folder = folder
        #: Where it runs, and leaves nothing.
        self.directory = folder / "somewhere"
        self.directory.mkdir()
        files = {
            "policy.yaml": POLICY,
            "alerts.yaml": ALERT_RULES,
            "hooks.yaml": (
                f"targets:\n  bot: {{type: webhook, url: '{url}', secret_env: HOOK_KEY, "
                "retries: [0, 0.05, 0.2, 1, 1, 1, 1, 1, 1], breaker: {failures: 1000},\n"
                # Whatever is decided about every post, and every alert.
                "    filter: {actions: [allow, flag, review, limit, hide, remove]}}\n"
            ),
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        settings = {
            "POLICY__PATH": str(folder / "policy.yaml"),
            "ALERTS__PATH": str(folder / "alerts.yaml"),
            "HOOKS__PATH": str(folder / "hooks.yaml"),
            "HOOKS__ALLOW_PRIVATE": "true",
            "WORKER__COMMIT_INTERVAL_S": "0.5",
            "AGGREGATES__CHECKPOINT_S": "1",
            "MODELS__THREADS": "1",
            "WORKER__SCORING": "process",
            # Static members get their partitions back at once, whatever became of them.
            "WORKER__INSTANCE": "one",
        }
        self._environment = clean_environment(kafka_environment(kafka)) | {
            **{f"{ENV_PREFIX}{name}": value for name, value in settings.items()},
            "HOOK_KEY": KEY,
        }
        self.number = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the last one wrote."""
        return (self._folder / f"worker-{self.number:03d}.log").read_text()

    def start(self) -> None:
        """Start it."""
        self.number += 1
        with (self._folder / f"worker-{self.number:03d}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [TIDEGATE, "worker"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                cwd=self.directory,
            )  # fmt: skip

    def kill(self) -> int:
        """Kill -9 of the supervisor and of every role; how many processes that were."""
        assert self.process is not None
        family = family_of(self.process.pid)
        kill(family)
        psutil.wait_procs(family, timeout=30)
        self.process.wait()
        return len(family)

    async def stop(self) -> int:
        """Stop it in good order; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 90)

    async def until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Until something holds, while it lives; whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert self.process is not None
            assert self.process.poll() is None, f"it ended\n{self.log[-6000:]}"
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


async def trial(kafka: KafkaSettings, folder: Path, kills: int, seed: int = 1) -> dict[str, Any]:
    """Kill the whole worker in the middle of what it does, again and again; the account."""
    begun = time.monotonic()
    dice = random.Random(seed)
    arrivals = Arrivals(delay_s=0.005, failures=0.05)
    traffic = Traffic(seed)
    done = killed = in_alerts = in_deliveries = 0
    async with serve(arrivals.handle) as server:
        with WholeWorker(kafka, folder, server.url) as worker:
            # The first posts that there ever are find everybody there: the trial is about kills.
            worker.start()
            there = lambda: worker.log.count('"event": "reading"') >= _ROLES  # noqa: E731 - one question
            assert await worker.until(there, _QUIET_S), worker.log[-6000:]
            sending = asyncio.ensure_future(traffic.run(kafka, lambda: done >= kills))
            try:
                for number in range(kills):
                    if number:
                        worker.start()
                    alerts, delivered = dice.randint(1, 4), dice.randint(1, 200)
                    before = arrivals.messages
                    reached = await worker.until(
                        lambda number=number, alerts=alerts, wanted=before + delivered: (  # type: ignore[misc] # mypy knows no defaults in a lambda
                            # The log says it when the broker has the alert and nothing else does.
                            worker.log.count('"event": "alert"') >= alerts
                            if number % 2 == 0
                            else arrivals.messages >= wanted
                        ),
                        _LONGEST_LIFE_S,
                    )
                    assert reached, f"it did nothing in {_LONGEST_LIFE_S} s\n{worker.log[-6000:]}"
                    in_alerts += number % 2 == 0
                    in_deliveries += number % 2 == 1
                    killed += worker.kill()
                    done += 1
                worker.start()
                await sending
            finally:
                sending.cancel()
            quiet = await worker.until(lambda: _complete(traffic, arrivals), _QUIET_S)
            code = await worker.stop()
            log = "" if quiet and code == 0 else worker.log[-6000:]
    return {
        "kills": kills,
        "killed_processes": killed,
        "in_the_middle_of_alerts": in_alerts,
        "in_the_middle_of_deliveries": in_deliveries,
        "exit": code,
        "not_quiet_in_time": not quiet,
        "left_in_directory": sorted(path.name for path in worker.directory.iterdir()),
        **await asyncio.to_thread(_account, kafka, traffic, arrivals),
        "duration_s": round(time.monotonic() - begun),
        "log": log,
    }


def _complete(traffic: Traffic, arrivals: Arrivals) -> bool:
    """Whether the receiver has heard of every post, and of the end of every alert."""
    heard = arrivals.by_subject
    if len(heard) < len(traffic.posts) or not all(post in heard for post in traffic.posts):
        return False
    return all(f"{name}/resolved" in arrivals.ids for name in traffic.episodes)


def _account(kafka: KafkaSettings, traffic: Traffic, arrivals: Arrivals) -> dict[str, Any]:
    """What was lost, doubled or came in the wrong order, on the topics and at the receiver."""
    prefix = kafka.topic_prefix
    alerts = Counter(
        f"{alert.alert_id}/{alert.state}"
        for record in scan(kafka, ALERTS.full_name(prefix))
        for alert in [decode_alert(record.value or b"")]
    )
    wanted = {f"{name}/{state}" for name in traffic.episodes for state in ("firing", "resolved")}
    decisions = Counter(
        decision.decision_id
        for record in scan(kafka, DECISIONS.full_name(prefix))
        for decision in [decode_decision(record.value or b"")]
    )
    posts = {name.partition(":")[2].partition("@")[0] for name in decisions}
    received = set(arrivals.ids)
    disordered = [
        name
        for name in traffic.episodes
        if arrivals.by_subject[name]
        and arrivals.by_subject[name] != sorted(arrivals.by_subject[name])
    ]
    return {
        "posts": len(traffic.posts),
        "posts_without_decision": _few(set(traffic.posts) - posts),
        "decisions": len(decisions),
        "decisions_written_again": decisions.total() - len(decisions),
        "decisions_never_delivered": _few(set(decisions) - received),
        "alerts": len(wanted),
        "alerts_lost": _few(wanted - set(alerts)),
        "alerts_doubled": _few({name for name, count in alerts.items() if count > 1}),
        "alerts_of_nothing": _few(set(alerts) - wanted),
        "alerts_never_delivered": _few(set(alerts) - received),
        "delivered_again": arrivals.messages - len(arrivals.ids),
        "two_ids": _few({name for name, ids in arrivals.ids.items() if len(ids) > 1}),
        "disordered": _few(set(disordered)),
        "bad_signatures": arrivals.bad,
    }


def _few(names: set[str]) -> list[str]:
    """How many, and the first: for printing; empty where there are none."""
    return [str(len(names)), *sorted(names)[:5]] if names else []


#: What must be empty or zero.
WRONG = (
    "exit",
    "left_in_directory",
    "not_quiet_in_time",
    "posts_without_decision",
    "decisions_never_delivered",
    "alerts_lost",
    "alerts_doubled",
    "alerts_of_nothing",
    "alerts_never_delivered",
    "two_ids",
    "disordered",
    "bad_signatures",
)


def is_right(account: dict[str, Any]) -> bool:
    """Whether nothing is wrong; repetitions under the same id are allowed."""
    return not any(account[name] for name in WRONG)


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[KafkaSettings]:
    if (reason := missing()) is not None:
        sys.exit(reason)
    with ApacheKafka(folder / "kafka") as broker:
        kafka = kafka_settings(broker)
        with open_admin(kafka) as admin:
            admin.create_missing()
        yield kafka


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.whole", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-whole-") as name:
        folder = Path(name)
        with _broker(folder) as kafka:
            account = asyncio.run(trial(kafka, folder, arguments.kills, arguments.seed))
    print(json.dumps(account))  # noqa: T201 - the result
    return 0 if is_right(account) else 1


if __name__ == "__main__":
    sys.exit(main())
