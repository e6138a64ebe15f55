from __future__ import annotations

import json

from stream.settings import KafkaSettings
from stream.topics import CATALOGUE
from tests.conftest import Broker, RunTidegate, kafka_environment, kafka_settings


def test_create_list_describe(broker: Broker, run_tidegate: RunTidegate) -> None:
    kafka = kafka_settings(broker)
    environment = kafka_environment(kafka)
    names = [topic.full_name(kafka.topic_prefix) for topic in CATALOGUE]

    before = run_tidegate("topics", "list", env=environment)
    assert before.returncode == 0
    assert before.stdout.count("missing: `tidegate topics create`") == len(CATALOGUE)

    created = run_tidegate("topics", "create", "--partitions", "3", "--json", env=environment)
    assert created.returncode == 0, created.stderr
    answer = json.loads(created.stdout)
    assert answer["broker"] == broker.bootstrap
    assert answer["topics"] == [
        {
            "name": topic.full_name(kafka.topic_prefix),
            "created": True,
            "partitions": 3 if topic.partitioned else 1,
        }
        for topic in CATALOGUE
    ]

    again = run_tidegate("topics", "create", env=environment)
    assert again.returncode == 0
    assert again.stdout.count("was there") == len(CATALOGUE)

    described = run_tidegate("topics", "describe", "posts", "--json", env=environment)
    answer = json.loads(described.stdout)
    (posts,) = answer["topics"]
    assert (posts["topic"], posts["exists"], posts["records"]) == (names[0], True, 0)
    assert [part["partition"] for part in posts["partitions"]] == [0, 1, 2]
    assert posts["problems"] == []
    assert answer["lag"] == {
        "group": kafka.group,
        "lag": 0,
        "partitions": [
            {"topic": names[0], "partition": number, "committed": None, "end": 0, "lag": 0}
            for number in range(3)
        ],
    }

    for command in ("list", "describe"):
        shown = run_tidegate("topics", command, env=environment)
        assert shown.returncode == 0
        assert all(name in shown.stdout for name in names)
        assert shown.stderr == ""


def test_a_name_outside_the_catalogue_is_a_usage_error(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("topics", "describe", "postings")
    assert done.returncode == 2
    assert "the topics are posts, labels, dead-letters" in done.stderr


def test_no_broker_is_said_plainly_and_quickly(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("topics", "list", "--kafka", "127.0.0.1:1", timeout_s=20)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 127.0.0.1:1: nothing listens there\n hint: ")
    assert "Traceback" not in done.stderr


def test_the_flag_wins_over_the_environment(
    topics: KafkaSettings, run_tidegate: RunTidegate
) -> None:
    environment = {**kafka_environment(topics), "TIDEGATE_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    done = run_tidegate("topics", "list", "--kafka", topics.bootstrap, "--json", env=environment)
    assert done.returncode == 0
    assert all(topic["exists"] for topic in json.loads(done.stdout)["topics"])
