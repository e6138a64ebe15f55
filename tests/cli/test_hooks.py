"""`tidegate hooks`: what is shown, what is sent, and what is never shown."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from stream.hooks.deliverer import delivery_of
from stream.hooks.log import log_partition
from stream.hooks.outbox import Item, Settled
from stream.hooks.receiver import Receiver, receive_in_thread
from stream.hooks.verdict import Outcome, Verdict
from stream.outcomes import Delivery
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import DELIVERIES
from tests.conftest import RunTidegate, StartTidegate, kafka_environment
from tests.stream.hooks.servers import KEY, OTHER_KEY, Server, alert, answering, decision, serve

FILE = """
targets:
  bot: {{type: webhook, url: '{url}', secret_env: BOT_KEY}}
  chat: {{type: slack, url_env: SLACK, filter: {{min_severity: high}}}}
  pager: {{type: pagerduty, url: '{url}', routing_key_env: PAGER, enabled: false}}
"""
SECRETS = {"BOT_KEY": KEY, "SLACK": "https://hooks.slack.com/services/T0/B0/s3cr3ts3cr3t"}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server in a thread, for commands that run in processes of their own."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    made: list[Server] = []

    async def run() -> None:
        async with serve(answering(200, "ok")) as server:
            made.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait(10)
    yield made[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def file(tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "hooks.yaml"
    path.write_text(FILE.format(url=server.url))
    return path


@pytest.fixture
def environment(file: Path) -> dict[str, str]:
    return {"TIDEGATE_HOOKS__PATH": str(file), "TIDEGATE_HOOKS__ALLOW_PRIVATE": "1", **SECRETS}


def test_list_shows_what_each_wants_and_no_secret(
    run_tidegate: RunTidegate, environment: dict[str, str]
) -> None:
    as_json = run_tidegate("hooks", "list", "--json", env=environment)
    targets = {each["name"]: each for each in json.loads(as_json.stdout)["targets"]}
    assert list(targets) == ["bot", "chat", "pager"]
    assert targets["bot"]["to"].startswith("http://127.0.0.1:")
    assert targets["chat"]["to"] == "https://hooks.slack.com/…"
    assert targets["chat"]["filter"] == {"min_severity": "high"}
    assert targets["pager"]["enabled"] is False
    assert targets["pager"]["problem"] == (
        "`routing_key_env` names `PAGER`, and that variable is not set"
    )
    as_text = run_tidegate("hooks", "list", env=environment)
    assert "https://hooks.slack.com/…" in as_text.stdout
    for done in (as_json, as_text):
        assert "s3cr3t" not in done.stdout + done.stderr
        assert KEY.removeprefix("whsec_") not in done.stdout + done.stderr


def test_list_without_a_file_says_where_one_goes(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("hooks", "list")
    assert done.returncode == 0
    assert "config/hooks.example.yaml" in done.stderr
    assert json.loads(run_tidegate("hooks", "list", "--json").stdout) == {"targets": []}


def test_mistakes_in_the_file_are_usage_errors(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("targets:\n  a: {type: slak}\n")
    done = run_tidegate("hooks", "list", "--hooks", "bad.yaml")
    assert done.returncode == 2
    assert "error: 1 mistake in `bad.yaml`" in done.stderr
    assert "bad.yaml:2:13: unknown type `slak`" in done.stderr
    assert "did you mean `slack`?" in done.stderr


def test_a_test_is_sent_signed_and_reported(
    run_tidegate: RunTidegate, environment: dict[str, str], server: Server
) -> None:
    done = run_tidegate("hooks", "test", "bot", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["delivered"] is True
    (attempt,) = result["attempts"]
    assert (attempt["type"], attempt["status"]) == ("post.flagged", 200)
    (request,) = server.requests
    message = Verifier(KEY).verify(server.bodies[0], dict(request.headers))
    assert message["test"] is True
    assert request.headers["webhook-id"] == attempt["id"]


def test_a_test_of_an_alert_fires_and_resolves(
    run_tidegate: RunTidegate, environment: dict[str, str], server: Server
) -> None:
    environment["PAGER"] = "R" * 32
    done = run_tidegate("hooks", "test", "pager", env=environment)
    assert done.returncode == 0, done.stderr
    actions = [json.loads(body)["event_action"] for body in server.bodies]
    assert actions == ["trigger", "resolve"]
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "alert.firing: delivered",
        "alert.resolved: delivered",
    ]


def test_a_test_that_fails_says_what_came_back(
    run_tidegate: RunTidegate, environment: dict[str, str], server: Server
) -> None:
    server.answers[:] = [answering(403, f"no {KEY}")]
    done = run_tidegate("hooks", "test", "bot", env=environment)
    assert done.returncode == 1
    assert "post.flagged: failed, status 403" in done.stdout
    assert "HTTP 403: no ***" in done.stdout
    private = run_tidegate(
        "hooks", "test", "bot", env=environment | {"TIDEGATE_HOOKS__ALLOW_PRIVATE": "0"}
    )
    assert private.returncode == 2
    assert "posts would travel unencrypted" in private.stderr
    unknown = run_tidegate("hooks", "test", "bott", env=environment)
    assert unknown.returncode == 2
    assert "did you mean `bot`?" in unknown.stderr


def test_a_new_key_signs(run_tidegate: RunTidegate) -> None:
    keys = {run_tidegate("hooks", "new-key").stdout.strip() for _ in range(2)}
    assert len(keys) == 2
    for key in keys:
        assert len(Verifier(key)._whsecret) == 32


# -- with a broker


def _write(kafka: KafkaSettings, deliveries: list[Delivery]) -> None:
    async def send() -> None:
        from aiokafka import AIOKafkaProducer

        from stream.kafka.client import aiokafka_config

        producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all")
        await producer.start()
        topic = DELIVERIES.full_name(kafka.topic_prefix)
        count = len(await producer.partitions_for(topic))
        for delivery in deliveries:
            number = log_partition(delivery.target, count)
            await producer.send(topic, encode(delivery), partition=number)
        await producer.flush()
        await producer.stop()

    asyncio.run(send())


def _logged(number: int, state: Any, at: str, target: str = "bot") -> Delivery:
    event = decision(number, f"p{number}")
    verdict = Verdict(Outcome.FAILED, 500, "HTTP 500")
    settled = Settled(Item(event, attempt=1), state)
    return delivery_of(target, settled, None if state == "delivered" else verdict, 5, at)


def test_the_log_is_filtered_and_newest_first(
    run_tidegate: RunTidegate, embedded_topics: KafkaSettings, environment: dict[str, str]
) -> None:
    environment |= kafka_environment(embedded_topics)
    _write(
        embedded_topics,
        [
            _logged(1, "delivered", "2026-11-22T10:00:00.000Z"),
            _logged(2, "failed", "2026-11-22T11:00:00.000Z"),
            _logged(3, "retrying", "2026-11-22T12:00:00.000Z", "chat"),
        ],
    )

    def log(*arguments: str) -> list[str]:
        done = run_tidegate("hooks", "log", "--json", *arguments, env=environment)
        assert done.returncode == 0, done.stderr
        assert "original" not in done.stdout
        return [each["post_id"] for each in json.loads(done.stdout)["deliveries"]]

    assert log() == ["p3", "p2", "p1"]
    assert log("--limit", "1") == ["p3"]
    assert log("--target", "bot") == ["p2", "p1"]
    assert log("--state", "failed") == ["p2"]
    assert log("--id", "p1") == ["p1"]
    assert log("--since", "2026-11-22T10:30:00Z") == ["p3", "p2"]
    table = run_tidegate("hooks", "log", env=environment)
    assert "HTTP 500" in table.stdout
    assert "nuisance" not in table.stdout


def test_the_log_is_followed(
    start_tidegate: StartTidegate, embedded_topics: KafkaSettings, environment: dict[str, str]
) -> None:
    _write(embedded_topics, [_logged(1, "delivered", "2026-11-22T10:00:00.000Z")])
    following = start_tidegate(
        "hooks", "log", "-f", "--json", env=environment | kafka_environment(embedded_topics)
    )
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["post_id"] == "p1"
    found: list[str] = []

    def read() -> None:
        assert following.stdout is not None
        found.append(following.stdout.readline())

    reader = threading.Thread(target=read)
    reader.start()
    number = 2
    while reader.is_alive():  # it says nothing when it has begun to follow
        _write(embedded_topics, [_logged(number, "failed", "2026-11-22T11:00:00.000Z")])
        reader.join(1)
        number += 1
        assert number < 60
    assert json.loads(found[0])["state"] == "failed"
    following.terminate()


def test_a_replay_says_what_is_left_when_the_target_is_down(
    run_tidegate: RunTidegate,
    embedded_topics: KafkaSettings,
    environment: dict[str, str],
    server: Server,
) -> None:
    environment |= kafka_environment(embedded_topics)
    server.answers[:] = [answering(500)]
    _write(embedded_topics, [_logged(n, "failed", "2026-11-22T10:00:00.000Z") for n in range(20)])
    done = run_tidegate("hooks", "replay", "--target", "bot", "--json", env=environment)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["delivered"] == 0
    assert result["failed"] >= 5
    assert result["failed"] + result["left"] == 20
    server.answers[:] = [answering(204)]
    again = run_tidegate("hooks", "replay", "--target", "bot", "--json", env=environment)
    assert json.loads(again.stdout)["delivered"] == 20
    none = run_tidegate("hooks", "replay", "--target", "bot", env=environment)
    assert none.stdout == "0 delivered, 0 failed\n"


def test_lag_is_asked_of_the_broker(
    run_tidegate: RunTidegate, embedded_topics: KafkaSettings, environment: dict[str, str]
) -> None:
    from tests.stream.agents.hook_trials import publish

    asyncio.run(publish(embedded_topics, [decision(n, f"p{n}") for n in range(5)] + [alert()]))
    environment |= kafka_environment(embedded_topics)
    done = run_tidegate("hooks", "list", "--lag", "--json", env=environment)
    assert [each["lag"] for each in json.loads(done.stdout)["targets"]] == [6, 6, 1]


def test_the_demos_receiver_takes_what_the_command_sends(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    with receive_in_thread() as receiver:
        account = _tested(run_tidegate, tmp_path, receiver, receiver.key)
        assert (account.decisions, account.refused) == (1, 0)
        account = _tested(run_tidegate, tmp_path, receiver, OTHER_KEY)
        assert account.refused == 1


def _tested(run: Callable[..., Any], folder: Path, receiver: Receiver, key: str) -> Any:
    (folder / "demo.yaml").write_text(FILE.format(url=receiver.url))
    environment = {**SECRETS, "BOT_KEY": key, "TIDEGATE_HOOKS__ALLOW_PRIVATE": "1"}
    run("hooks", "test", "bot", "--hooks", "demo.yaml", env=environment)
    return receiver.account
