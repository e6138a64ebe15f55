"""A trial: records in bursts, a disturbance during each, then quiet, then the account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.kafka.client import aiokafka_config
from stream.settings import KafkaSettings
from stream.topics import POSTS
from tests.chaos.account import Account, account
from tests.chaos.crew import Crew
from tests.chaos.posts import records
from tests.chaos.proxy import Proxy
from tests.chaos.traffic import send

#: After the last disturbance everything must be labelled within this time.
_QUIET_TIMEOUT_S = 180.0


class Restartable(Protocol):
    """A broker that can be killed and comes back with its data: Apache Kafka."""

    def start(self) -> Any: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class World:
    """What the disturbances disturb."""

    kafka: KafkaSettings
    crew: Crew
    dice: random.Random
    broker: Restartable | None = None
    proxy: Proxy | None = None
    done: Counter[str] = field(default_factory=Counter)


Disturbance = Callable[[World], Awaitable[None]]


async def kill(world: World) -> None:
    """Kill -9 of a worker, or of what scores for it, at a random moment; another takes its place."""
    world.crew.revive()
    await asyncio.sleep(world.dice.uniform(0, 0.6))
    member = world.dice.choice(world.crew.members)
    if world.dice.random() < 0.5 and await world.crew.kill_scoring(member):
        world.done["scoring_kills"] += 1
    elif member in world.crew.members:
        world.crew.kill(member)
    world.crew.start()
    world.done["kills"] += 1


async def rebalance(world: World) -> None:
    """A worker joins, and one leaves in good order."""
    world.crew.revive()
    first = world.crew.members[0]
    await world.crew.joined(world.crew.start())
    await world.crew.joined(first)
    await asyncio.sleep(world.dice.uniform(0, 1))
    code = await world.crew.stop(first)
    assert code == 0, f"a worker ended with {code} after SIGTERM\n{world.crew.logs}"
    world.done["rebalances"] += 2


async def restart_broker(world: World) -> None:
    """The broker is killed or stopped and comes back; workers may end meanwhile."""
    assert world.broker is not None
    await asyncio.sleep(world.dice.uniform(0, 0.5))
    end = world.broker.kill if world.dice.random() < 0.5 else world.broker.stop
    await asyncio.to_thread(end)
    await asyncio.sleep(world.dice.uniform(0, 3))
    await asyncio.to_thread(world.broker.start)
    world.crew.revive()
    world.done["broker_restarts"] += 1


async def cut(world: World) -> None:
    """Every connection is cut in the middle of what it carries."""
    assert world.proxy is not None
    await asyncio.sleep(world.dice.uniform(0, 0.5))
    world.proxy.cut()
    world.done["cuts"] += 1


async def slow(world: World) -> None:
    """The broker is slow for a while."""
    assert world.proxy is not None
    world.proxy.delay_s = world.dice.uniform(0.05, 0.3)
    await asyncio.sleep(world.dice.uniform(1, 3))
    world.proxy.delay_s = 0.0
    world.done["slow_spells"] += 1


async def trial(
    world: World, disturbances: Sequence[Disturbance], *, count: int, pause_s: float = 0.0
) -> tuple[Account, dict[str, Any]]:
    """Run it; the account and what was done.

    Args:
        world: broker, workers and dice.
        disturbances: in their order, one burst of records for each.
        count: records in all.
        pause_s: longest pause between two disturbances.
    """
    begun = time.monotonic()
    sent = list(records(count))
    share = -(-count // max(1, len(disturbances)))
    world.crew.revive()
    for number, disturb in enumerate(disturbances):
        burst = sent[number * share : (number + 1) * share]
        await world.crew.at_work()
        if disturb in (restart_broker, cut, slow):
            # The trial is about the workers: what feeds them must not fail.
            await send(world.kafka, burst)
            await disturb(world)
        else:
            await asyncio.gather(send(world.kafka, burst), disturb(world))
        await asyncio.sleep(world.dice.uniform(0, pause_s))
    disturbed = time.monotonic()
    await _quiet(world, count)
    quiet = time.monotonic()
    world.done["worker_exits"] = len(world.crew.exits)
    result = await account(world.kafka, sent)
    return result, {
        **world.done,
        "disturbed_s": round(disturbed - begun, 1),
        "caught_up_after_s": round(quiet - disturbed, 1),
    }


async def _quiet(world: World, count: int) -> None:
    """Wait until every record is committed, then stop the workers in good order."""
    deadline = time.monotonic() + _QUIET_TIMEOUT_S
    while await committed(world.kafka) < count:
        world.crew.revive()
        assert time.monotonic() < deadline, f"not caught up\n{world.crew.logs}"
        await asyncio.sleep(0.5)
    for member in list(world.crew.members):
        await world.crew.joined(member)
        code = await world.crew.stop(member)
        assert code == 0, f"a worker ended with {code} after SIGTERM\n{world.crew.logs}"


async def committed(kafka: KafkaSettings) -> int:
    """Records of `posts` that the group has committed."""
    # Not the admin client: aiokafka's cannot read the embedded broker's answer.
    consumer = AIOKafkaConsumer(
        **aiokafka_config(kafka), group_id=kafka.group, enable_auto_commit=False
    )
    topic = POSTS.full_name(kafka.topic_prefix)
    try:
        await consumer.start()
        partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
        consumer.assign(partitions)
        return sum([await consumer.committed(p) or 0 for p in partitions])
    except KafkaError:
        return 0  # not back yet
    finally:
        await consumer.stop()
