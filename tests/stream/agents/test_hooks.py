"""The hooks role on real brokers: kills, dead targets, retries that survive, rebalances."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from stream.hooks.log import read_log
from stream.kafka.admin import open_admin
from stream.kafka.client import aiokafka_config
from stream.kafka.embedded import EmbeddedBroker
from stream.outcomes import AUDIT_SCHEMA, Action, AuditEvent, Delivery
from stream.records import encode, rfc3339
from stream.settings import KafkaSettings
from stream.topics import AUDIT
from tests.apache_kafka import ApacheKafka, free_ports
from tests.conftest import RunTidegate, kafka_environment, kafka_settings
from tests.stream.agents.hook_trials import (
    Arrivals,
    HookWorkers,
    committed,
    complete,
    publish,
    story,
    trial,
)
from tests.stream.hooks.servers import alert, answering, decision, serve


@pytest.fixture
def embedded_topics(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    return _topics(kafka_settings(embedded_broker))


def _topics(kafka: KafkaSettings) -> KafkaSettings:
    with open_admin(kafka) as admin:
        admin.create_missing()
    return kafka


def _webhook(name: str, url: str, more: str = "") -> str:
    return f"  {name}: {{type: webhook, url: '{url}', secret_env: HOOK_KEY{more}}}\n"


def _log(kafka: KafkaSettings) -> list[Delivery]:
    return list(read_log(kafka, lambda _: True))


@pytest.mark.kafka
async def test_kill_9_in_the_middle_loses_nothing(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """A short form of `python -m tests.stream.agents.hook_trials --kills 20`."""
    kafka = _topics(kafka_settings(apache_kafka))
    account = await trial(kafka, tmp_path, kills=4, events=1200)
    assert complete(account), account


async def test_filters_orders_and_logs(topics: KafkaSettings, tmp_path: Path) -> None:
    """Every record that is wanted, in the order of its post; the rest is passed over."""
    arrivals = Arrivals(failures=0.1)
    sent = story(30, 4)
    unwanted = [decision(n, f"q{n}", action=Action.ALLOW, rules=[]) for n in range(50)]
    async with serve(arrivals.handle) as server:
        more = ", retries: [0, 0, 0, 0, 0, 0, 0, 0, 0], breaker: {failures: 1000}"
        async with HookWorkers(topics, tmp_path, _webhook("bot", server.url, more)) as workers:
            await publish(topics, [*sent, *unwanted])
            workers.start()
            await workers.until(lambda: len(arrivals.ids) >= len(sent))
            await workers.until_committed("bot", len(sent) + len(unwanted))
            assert await workers.stop() == 0
    account = arrivals.account(sent)
    assert (account["lost"], account["disordered"], account["two_ids"]) == ([], [], [])
    assert account["repeated"] == 0
    states = Counter(delivery.state for delivery in _log(topics))
    assert states["delivered"] == len(sent)
    assert states["retrying"] > 0
    assert set(states) == {"delivered", "retrying"}


async def test_a_dead_target_delays_no_other_and_gets_everything_later(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    kafka = embedded_topics
    well, revived = Arrivals(), Arrivals()
    sent = story(40, 3)
    port = free_ports(1)[0]
    dead = _webhook(
        "dead",
        f"http://127.0.0.1:{port}/hook",
        ", since: 1h, breaker: {open_s: 0.3, most_open_s: 0.5}",
    )
    async with serve(well.handle) as server:
        targets = dead + _webhook("well", server.url, ", since: 1h")
        async with HookWorkers(kafka, tmp_path, targets) as workers:
            await publish(kafka, sent)
            workers.start()
            await workers.until(lambda: len(well.ids) >= len(sent))
            await workers.until_committed("well", len(sent))
            assert await committed(kafka, "dead") == 0
            app = web.Application()
            app.router.add_post("/hook", revived.handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", port).start()
                # The breaker tries one, and then all that waits goes out, not at its own time.
                await workers.until(lambda: len(revived.ids) >= len(sent))
                await workers.until_committed("dead", len(sent))
                assert await workers.stop() == 0
            finally:
                await runner.cleanup()
    for arrivals in (well, revived):
        account = arrivals.account(sent)
        assert (account["lost"], account["disordered"], account["repeated"]) == ([], [], 0)


async def test_a_restart_goes_on_with_the_schedule_and_repeats_nothing(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    """One record waits for hours; those behind it were delivered, and nothing is committed."""
    kafka = embedded_topics
    arrivals = Arrivals()
    attempts: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        data = (await request.json())["data"]
        if data.get("post_id") == "stuck":
            attempts.append(data["decision_id"])
            return web.Response(status=503)
        return await arrivals.handle(request)

    first = [decision(0, "stuck"), *(decision(n, f"p{n}") for n in range(1, 30)), alert(1)]
    second = [decision(100, "stuck"), decision(101, "p1"), alert(2, "resolved")]
    async with serve(handle) as server:
        bot = _webhook("bot", server.url, ", retries: [0, 0.2, 2h, 2h]")
        async with HookWorkers(kafka, tmp_path, bot) as workers:
            await publish(kafka, first)
            workers.start()
            await workers.until(lambda: len(arrivals.ids) == len(first) - 1 and len(attempts) == 2)
            assert await workers.stop() == 0
            workers.start()
            await publish(kafka, second)
            await workers.until(lambda: len(arrivals.ids) == len(first) + 1)
            assert await workers.stop() == 0
    assert '"remembered": 31' in workers.log
    assert attempts == ["stuck@posts/0/0"] * 2, "neither again before its time, nor the one behind"
    assert arrivals.account([*first, *second])["repeated"] == 0
    last = [d for d in _log(kafka) if d.post_id == "stuck"][-1]
    assert (last.state, last.attempt, last.status) == ("retrying", 2, 503)
    assert last.next_at is not None
    assert await committed(kafka, "bot") < len(first) + len(second)


async def test_what_is_given_up_is_committed_past_and_can_be_replayed(
    embedded_topics: KafkaSettings, tmp_path: Path, run_tidegate: RunTidegate
) -> None:
    topics, arrivals = embedded_topics, Arrivals()
    broken = True

    async def handle(request: web.Request) -> web.StreamResponse:
        if broken:
            return web.Response(status=400, text="what is this?")
        return await arrivals.handle(request)

    sent = [decision(1, "p1"), alert(1), decision(2, "p1")]
    async with serve(handle) as server:
        async with HookWorkers(topics, tmp_path, _webhook("bot", server.url)) as workers:
            await publish(topics, sent)
            workers.start()
            await workers.until_committed("bot", len(sent))
            assert await workers.stop() == 0
        log = _log(topics)
        assert {(d.state, d.status, d.error) for d in log} == {
            ("failed", 400, "HTTP 400: what is this?")
        }
        assert {d.original for d in log} == {event.original for event in sent}
        broken = False

        def cli(*arguments: str) -> str:
            done = run_tidegate(*arguments, env=workers.environment)
            assert done.returncode == 0, done.stderr
            return done.stdout

        replay = ("hooks", "replay", "--target", "bot", "--json")
        listed = await asyncio.to_thread(cli, *replay, "--dry-run")
        assert listed.count("p1@") == 2
        one = await asyncio.to_thread(cli, *replay, "--id", sent[1].record_id)
        assert one == '{"target":"bot","gone":0,"delivered":1,"failed":0,"left":0}\n'
        rest = await asyncio.to_thread(cli, *replay)
        assert rest == '{"target":"bot","gone":0,"delivered":2,"failed":0,"left":0}\n'
        assert await asyncio.to_thread(cli, *replay) == (
            '{"target":"bot","gone":0,"delivered":0,"failed":0,"left":0}\n'
        )
        again = await asyncio.to_thread(cli, *replay, "--delivered")
        assert '"delivered":3' in again
    account = arrivals.account(sent)
    assert (account["lost"], account["repeated"], account["two_ids"]) == ([], 3, [])
    log = _log(topics)
    assert max(d.attempt for d in log) == 3


async def test_two_workers_share_a_target(topics: KafkaSettings, tmp_path: Path) -> None:
    """Partitions move while deliveries are made: nothing is lost, no post is out of order."""
    arrivals = Arrivals(delay_s=0.02)
    sent = story(50, 6)
    async with serve(arrivals.handle) as server:
        bot = _webhook("bot", server.url)
        (tmp_path / "b").mkdir()
        async with (
            HookWorkers(topics, tmp_path, bot) as one,
            HookWorkers(topics, tmp_path / "b", bot) as two,
        ):
            await publish(topics, sent)
            one.start()
            await one.until(lambda: arrivals.messages > 20)
            two.start()
            await two.until(lambda: '"reading"' in two.log)
            await one.until(lambda: len(arrivals.ids) >= len(sent))
            await one.until_committed("bot", len(sent))
            assert await one.stop() == 0
            assert await two.stop() == 0
    account = arrivals.account(sent)
    assert (account["lost"], account["two_ids"], account["disordered"]) == ([], [], [])


async def test_a_record_of_somebody_else_is_passed_over(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    kafka = embedded_topics
    arrivals = Arrivals()
    strange = decision(1, "x")
    object.__setattr__(strange, "original", b'{"schema": "other"}')
    async with serve(arrivals.handle) as server:
        bot = _webhook("bot", server.url)
        async with HookWorkers(kafka, tmp_path, bot) as workers:
            await publish(kafka, [strange, decision(2, "x")])
            workers.start()
            await workers.until(lambda: len(arrivals.ids) == 1)
            await workers.until_committed("bot", 2)
            assert await workers.stop() == 0
    assert "record left out" in workers.log
    assert re.search(
        r'"records": 2, .*"event": "stopped"|"event": "stopped", .*"records": 2', workers.log
    )
    assert "You are a nuisance" not in workers.log


def test_a_missing_secret_is_said_before_anything_starts(
    embedded_topics: KafkaSettings, tmp_path: Path, run_tidegate: RunTidegate
) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text("targets:\n  chat: {type: slack, url_env: NOT_SET}\n")
    environment = kafka_environment(embedded_topics) | {"TIDEGATE_HOOKS__PATH": str(file)}
    done = run_tidegate("worker", "--role", "hooks", env=environment)
    assert done.returncode == 2
    assert "hook `chat`: `url_env` names `NOT_SET`, and that variable is not set" in done.stderr


async def test_an_unfinished_target_stops_in_time(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    async with serve(answering(500)) as server:
        bot = _webhook("bot", server.url, ", retries: [0, 1h]")
        async with HookWorkers(embedded_topics, tmp_path, bot) as workers:
            await publish(embedded_topics, [decision(n, f"p{n}") for n in range(20)])
            workers.start()
            await workers.until(lambda: len(server.requests) >= 5)
            assert await workers.stop() == 0


async def test_an_orderly_stop_in_the_middle_repeats_nothing(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    kafka, arrivals = embedded_topics, Arrivals(delay_s=0.1)
    sent = [decision(n, f"p{n % 40}") for n in range(120)]
    async with serve(arrivals.handle) as server:
        bot = _webhook("bot", server.url)
        async with HookWorkers(kafka, tmp_path, bot) as workers:
            await publish(kafka, sent)
            workers.start()
            await workers.until(lambda: arrivals.messages >= 10)
            assert await workers.stop() == 0
            assert arrivals.messages < len(sent), "it was to be stopped in the middle"
            workers.start()
            await workers.until(lambda: len(arrivals.ids) == len(sent))
            await workers.until_committed("bot", len(sent))
            assert await workers.stop() == 0
    account = arrivals.account(sent)
    assert (account["lost"], account["repeated"], account["disordered"]) == ([], 0, [])


async def test_a_muted_rule_tells_nobody_until_the_mute_ends(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    kafka, arrivals = embedded_topics, Arrivals()
    begins, ends = alert(1), alert(3, "resolved")
    other = alert(2, rule="another", alert_id="another/1")
    over = [alert(n, state, alert_id="short") for n, state in ((4, "firing"), (5, "resolved"))]
    await _say(kafka, "alert.mute", int(time.time() * 1000) + 3_600_000)
    async with (
        serve(arrivals.handle) as server,
        HookWorkers(kafka, tmp_path, _webhook("bot", server.url)) as workers,
    ):
        await publish(kafka, [begins, *over, other])
        workers.start()
        await workers.until_committed("bot", 4)
        assert set(arrivals.ids) == {other.record_id}
        assert await workers.stop() == 0
        # What is kept back is not lost with the process.
        workers.start()
        await _say(kafka, "alert.unmute", 0)
        await workers.until(lambda: begins.record_id in arrivals.ids)
        await publish(kafka, [ends])
        await workers.until(lambda: ends.record_id in arrivals.ids)
        assert await workers.stop() == 0
    account = arrivals.account([begins, other, ends])
    assert (account["lost"], account["repeated"], account["disordered"]) == ([], 0, [])
    assert account["messages"] == 3


async def _say(kafka: KafkaSettings, what: str, until_ms: int) -> None:
    """As the dashboard does when somebody mutes a rule."""
    event = AuditEvent(
        schema=AUDIT_SCHEMA, event_id=what, at=rfc3339(int(time.time() * 1000)), who="p-1",
        what=what, on="toxicity", detail={"until_ms": until_ms},
    )  # fmt: skip
    producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(AUDIT.full_name(kafka.topic_prefix), encode(event))
    finally:
        await producer.stop()


async def test_a_changed_file_is_in_force_without_a_restart(
    embedded_topics: KafkaSettings, tmp_path: Path
) -> None:
    """Targets more, one less, one elsewhere; one that did not change keeps its process.

    And a new one begins with what comes after it was added, unless it asks for more.
    """
    kafka = embedded_topics

    def pid_of(name: str) -> int | None:
        assert workers.process is not None
        for child in psutil.Process(workers.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it ended, and was not yet seen to
                if child.cmdline()[-2:] == ["hooks", name]:
                    return child.pid
        return None

    async with serve(answering(204)) as one, serve(answering(204)) as two:
        kept, moved = _webhook("kept", one.url), _webhook("moved", one.url)
        async with HookWorkers(
            kafka, tmp_path, kept + moved + _webhook("gone", one.url)
        ) as workers:
            await publish(kafka, [decision(0, "p0")])
            workers.start()
            await workers.until(lambda: workers.log.count('"target begins"') == 3)
            await publish(kafka, [decision(1, "p1")])
            await workers.until(lambda: len(one.requests) == 3)
            before = pid_of("kept"), pid_of("moved")

            workers.file.write_text("targets:\n  moved: {type: webhook, secret_env: HOOK_KEY\n")
            await workers.until(lambda: "not reloaded" in workers.log)
            assert before == (pid_of("kept"), pid_of("moved")), "a mistake changes nothing"

            new = _webhook("moved", two.url) + _webhook("new", two.url)
            past = _webhook("past", two.url, ", since: 1h")
            workers.file.write_text(f"targets:\n{kept}{new}{past}")
            await workers.until(lambda: pid_of("new") and pid_of("gone") is None)
            await workers.until(lambda: pid_of("moved") not in (None, before[1]))
            await publish(kafka, [decision(2, "p2")])
            await workers.until(lambda: len(one.requests) == 4 and len(two.requests) == 5)
            assert pid_of("kept") == before[0]
    named = Counter((d.target, d.record_id) for d in _log(kafka) if d.state == "delivered")
    assert set(named.values()) == {1}, "nothing was sent twice"
    told = {
        number: {target for target, record in named if record == f"p{number}@posts/0/{number}"}
        for number in range(3)
    }
    assert told == {
        0: {"past"},
        1: {"kept", "moved", "gone", "past"},
        2: {"kept", "moved", "new", "past"},
    }
