"""The long form: `python -m tests.chaos [--broker embedded|apache] [--kills 50] ...`.

Prints one JSON object, the account of the trial; exit code 1 when anything was lost or wrong.
Needs the embedded broker, or Apache Kafka (KAFKA_HOME or ../shared/kafka) for broker restarts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from tests.apache_kafka import ApacheKafka, free_ports, missing
from tests.chaos.crew import Crew
from tests.chaos.proxy import Proxy
from tests.chaos.trials import (
    Disturbance,
    World,
    cut,
    kill,
    rebalance,
    restart_broker,
    slow,
    trial,
)
from tests.conftest import kafka_settings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "apache"), default="apache")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rebalances", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--slow", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@contextlib.contextmanager
def _broker(kind: str, folder: Path, advertised: int) -> Iterator[Any]:
    if kind == "embedded":
        with EmbeddedBroker(advertised_port=advertised) as embedded:
            yield embedded
        return
    if (reason := missing()) is not None:
        sys.exit(reason)
    settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised}"}
    with ApacheKafka(folder / "kafka", settings) as apache:
        yield apache


async def _run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    dice = random.Random(arguments.seed)
    plan: list[Disturbance] = [
        *[kill] * arguments.kills,
        *[rebalance] * -(-arguments.rebalances // 2),  # each is one joining and one leaving
        *[cut] * arguments.cuts,
        *[slow] * arguments.slow,
    ]
    if arguments.broker == "apache":  # the embedded broker's data ends with it
        plan += [restart_broker] * arguments.restarts
    dice.shuffle(plan)
    (port,) = free_ports(1)
    async with Proxy(port) as proxy:
        # The broker's own first start asks itself through what it advertises.
        with contextlib.ExitStack() as stack:
            broker = await asyncio.to_thread(
                stack.enter_context, _broker(arguments.broker, folder, port)
            )
            proxy.target_port = int(broker.bootstrap.rpartition(":")[2])
            kafka = kafka_settings(broker, bootstrap=f"127.0.0.1:{port}")
            await asyncio.to_thread(_create_topics, kafka)
            async with Crew(kafka, folder) as crew:
                world = World(
                    kafka,
                    crew,
                    dice,
                    broker=broker if arguments.broker == "apache" else None,
                    proxy=proxy,
                )
                result, done = await trial(world, plan, count=arguments.events, pause_s=4.0)
    return {"broker": arguments.broker, "seed": arguments.seed, **done, **result.as_dict()}


def _create_topics(kafka: Any) -> None:
    with open_admin(kafka) as admin:
        admin.create_missing()


def main() -> int:
    """Run the trial; the exit code."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="tidegate-chaos-") as folder:
        result = asyncio.run(_run(arguments, Path(folder)))
    print(json.dumps(result))  # noqa: T201
    return 0 if result["complete"] else 1


if __name__ == "__main__":
    sys.exit(main())
