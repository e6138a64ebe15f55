"""The short form: a few of each disturbance. The long form is `python -m tests.chaos`."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from stream.kafka.embedded import EmbeddedBroker
from stream.settings import KafkaSettings
from tests.apache_kafka import ApacheKafka, free_ports, missing
from tests.chaos.account import account
from tests.chaos.crew import Crew
from tests.chaos.posts import records
from tests.chaos.proxy import Proxy
from tests.chaos.traffic import send
from tests.chaos.trials import World, cut, kill, rebalance, restart_broker, slow, trial
from tests.conftest import Broker, topics_on


async def test_nothing_is_lost_when_workers_are_killed_and_join_and_leave(
    broker: Broker, tmp_path: Path
) -> None:
    kafka = await asyncio.to_thread(topics_on, broker)
    async with Crew(kafka, tmp_path) as crew:
        world = World(kafka, crew, random.Random(1))
        result, done = await trial(world, [kill, rebalance], count=6000)
        assert result.complete, (result.as_dict(), done, crew.logs)
    assert done["kills"] == 1


async def test_nothing_is_lost_when_the_connection_is_cut_or_slow(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with Proxy(port) as proxy:
        with EmbeddedBroker(advertised_port=port) as broker:
            proxy.target_port = int(broker.bootstrap.rpartition(":")[2])
            kafka = await asyncio.to_thread(
                partial(topics_on, broker, bootstrap=f"127.0.0.1:{port}")
            )
            async with Crew(kafka, tmp_path) as crew:
                world = World(kafka, crew, random.Random(2), proxy=proxy)
                result, done = await trial(world, [cut, slow], count=4000)
                assert result.complete, (result.as_dict(), done, crew.logs)
        assert proxy.cuts > 0


@pytest.mark.kafka
async def test_nothing_is_lost_when_the_broker_restarts(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with ApacheKafka(tmp_path / "kafka") as broker:
        kafka = await asyncio.to_thread(topics_on, broker)
        async with Crew(kafka, tmp_path) as crew:
            world = World(kafka, crew, random.Random(3), broker=broker)
            result, done = await trial(world, [restart_broker], count=5000)
            assert result.complete, (result.as_dict(), done, crew.logs)


async def test_the_account_notices_a_loss_and_a_wrong_label(
    embedded_topics: KafkaSettings,
) -> None:
    """The judge is judged: records without a worker are all lost."""
    kafka = embedded_topics
    sent = list(records(100))
    await send(kafka, sent)
    result = await account(kafka, sent)
    assert len(result.lost) == 100
    assert not result.complete
