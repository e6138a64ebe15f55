"""The wire formats, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import time_machine
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from stream.hooks.credentials import Credentials
from stream.hooks.events import Event
from stream.hooks.formats.alertmanager import labels_of
from stream.hooks.formats.lines import lines_of
from stream.hooks.formats.mail import MailFormat
from stream.hooks.formats.pagerduty import dedup_key
from stream.hooks.formats.request import Request
from stream.hooks.senders import format_of
from stream.hooks.targets import Command, Email, HttpTarget
from stream.hooks.verdict import Outcome
from stream.outcomes import Action, Alert
from tests.stream.hooks.servers import KEY, OTHER_KEY, alert, decision, target

URL = "https://x.test/y"
AT = datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_that_time() -> Iterator[None]:
    """A signature is good for five minutes: the tests must not depend on when they run."""
    with time_machine.travel(AT, tick=False):
        yield


def request(text: str, *events: Event, at: datetime = AT, **credentials: Any) -> Request:
    found = target(text)
    assert isinstance(found, HttpTarget)
    return format_of(found, Credentials(**({"url": URL} | credentials))).request(events, at)


def verdict(text: str, status: int, body: str = "", **headers: str) -> Outcome:
    found = target(text)
    assert isinstance(found, HttpTarget)
    return format_of(found, Credentials(url=URL)).verdict(status, headers, body).outcome


def body(made: Request) -> Any:
    return msgspec.json.decode(made.body)


WEBHOOK = "{type: webhook, url: 'https://x.test/y', secret_env: K}"
SLACK = "{type: slack, url: 'https://x.test/y'}"
DISCORD = "{type: discord, url: 'https://x.test/y'}"
PAGERDUTY = "{type: pagerduty, routing_key_env: K}"
ALERTMANAGER = "{type: alertmanager, url: 'https://x.test', labels: {team: trust}}"


def test_a_webhook_is_signed_as_the_library_verifies_it() -> None:
    made = request(WEBHOOK, decision(), keys=(KEY,))
    message = Verifier(KEY).verify(made.body, dict(made.headers))
    assert message["type"] == "post.flagged"
    assert message["timestamp"] == "2026-11-22T10:00:00.000Z"
    assert message["data"]["post"]["text"] == "You are a nuisance"
    assert made.headers["webhook-id"] == decision().message_id
    assert made.headers["webhook-timestamp"] == str(int(AT.timestamp()))
    with pytest.raises(WebhookVerificationError):
        Verifier(OTHER_KEY).verify(made.body, dict(made.headers))
    with pytest.raises(WebhookVerificationError):
        Verifier(KEY).verify(made.body.replace(b"nuisance", b"treasure"), dict(made.headers))


def test_with_two_keys_either_verifies() -> None:
    made = request(WEBHOOK, decision(), keys=(KEY, OTHER_KEY))
    assert len(made.headers["webhook-signature"].split(" ")) == 2
    for key in (KEY, OTHER_KEY):
        Verifier(key).verify(made.body, dict(made.headers))


def test_another_attempt_has_the_same_id_and_body_and_its_own_time() -> None:
    first = request(WEBHOOK, decision(), keys=(KEY,))
    later = request(WEBHOOK, decision(), keys=(KEY,), at=datetime(2030, 1, 1, tzinfo=UTC))
    assert first.body == later.body
    assert first.headers["webhook-id"] == later.headers["webhook-id"]
    assert later.headers["webhook-timestamp"] == "1893456000"
    assert first.headers["webhook-signature"] != later.headers["webhook-signature"]


def test_slack_one_message_for_a_batch() -> None:
    made = body(request(SLACK, decision(), alert()))
    assert made["text"] == "HIDE (high): insults\nFIRING: Toxicity in tag news is 31 %"
    assert [block["type"] for block in made["blocks"]] == ["section", "divider", "section"]
    assert made["blocks"][0]["text"]["text"] == (
        "*HIDE (high): insults*\nYou are a nuisance\n"
        "Post p1 by ann, reason reasonHarassment, language en\n<https://x.test/1>"
    )


def test_slack_keeps_to_the_limits() -> None:
    long = "{type: slack, url: 'https://x.test/y', template: {text: '{{ post.text }}'}}"
    made = body(request(long, *[decision(n, text="&" * 5000) for n in range(20)]))
    assert len(made["blocks"]) <= 50
    assert all(len(b["text"]["text"]) <= 3000 for b in made["blocks"] if b["type"] == "section")


@pytest.mark.parametrize(
    ("status", "answer", "wanted"),
    [
        (200, "ok", Outcome.DELIVERED),
        (200, "invalid_token", Outcome.REFUSED),
        (400, "invalid_payload", Outcome.REFUSED),
        (403, "action_prohibited", Outcome.FAILED),
        (404, "no_service", Outcome.FAILED),
        (410, "channel_is_archived", Outcome.GONE),
        (429, "", Outcome.SLOW_DOWN),
        (500, "rollup_error", Outcome.FAILED),
    ],
)
def test_what_slack_says(status: int, answer: str, wanted: Outcome) -> None:
    assert verdict(SLACK, status, answer) is wanted


def test_discord_embeds_mention_nobody_and_keep_to_the_limits() -> None:
    events = [decision(n, text="long * " * 2000) for n in range(10)]
    made = request(DISCORD, *events)
    assert made.url == f"{URL}?wait=true"
    content = body(made)
    assert content["allowed_mentions"] == {"parse": []}
    assert len(content["embeds"]) == 10
    sizes = [len(embed["title"]) + len(embed["description"]) for embed in content["embeds"]]
    assert sum(sizes) <= 6000
    assert content["embeds"][0]["timestamp"] == "2026-11-22T10:00:00.000Z"


def test_discord_tells_fractions_of_a_second_in_its_body() -> None:
    found = target(DISCORD)
    assert isinstance(found, HttpTarget)
    format_ = format_of(found, Credentials(url=URL))
    said = format_.verdict(429, {}, '{"message": "slow", "retry_after": 0.65, "global": false}')
    assert (said.outcome, said.retry_after_s) == (Outcome.SLOW_DOWN, 0.65)
    assert format_.verdict(429, {"Retry-After": "3"}, "<html>").retry_after_s == 3
    assert format_.verdict(204, {}, "").outcome is Outcome.DELIVERED


def test_pagerduty_triggers_and_resolves_under_one_key() -> None:
    trigger = body(request(PAGERDUTY, alert(), token="R" * 32))
    resolve = body(request(PAGERDUTY, alert(state="resolved"), token="R" * 32))
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"] == "tidegate/alert/toxicity/tag=news/1"
    assert trigger["routing_key"] == "R" * 32
    assert trigger["payload"]["severity"] == "critical"
    assert trigger["payload"]["summary"] == "FIRING: Toxicity in tag news is 31 %"
    assert trigger["payload"]["source"] == "tidegate"
    assert "payload" not in resolve


def test_pagerduty_a_decision_is_an_incident_of_its_post() -> None:
    trigger = body(request(PAGERDUTY, decision(), token="R"))
    for over in (decision(2, retracted=True), decision(3, action=Action.ALLOW, by="review")):
        resolve = body(request(PAGERDUTY, over, token="R"))
        assert resolve["event_action"] == "resolve"
        assert resolve["dedup_key"] == trigger["dedup_key"]
    assert len(dedup_key(decision(post="x" * 500))) <= 255
    assert len(body(request(PAGERDUTY, alert(summary="x" * 3000)))["payload"]["summary"]) == 1024


def test_pagerduty_a_400_is_for_good() -> None:
    assert verdict(PAGERDUTY, 202) is Outcome.DELIVERED
    assert verdict(PAGERDUTY, 400) is Outcome.REFUSED
    assert verdict(PAGERDUTY, 429) is Outcome.SLOW_DOWN
    assert verdict(PAGERDUTY, 403) is Outcome.FAILED


def test_alertmanager_gets_label_sets_that_outlive_some_repetitions() -> None:
    at = datetime(2026, 11, 22, 10, 5, tzinfo=UTC)
    made = request(ALERTMANAGER, alert(), alert(state="resolved"), at=at, url="https://x.test/")
    assert made.url == "https://x.test/api/v2/alerts"
    firing, resolved = body(made)
    assert firing["labels"] == resolved["labels"]
    assert firing["labels"] == {
        "alertname": "toxicity", "severity": "critical", "kind": "threshold", "tag": "news",
        "service": "tidegate", "team": "trust",
    }  # fmt: skip
    assert firing["startsAt"] == "2026-11-22T10:00:00.000Z"
    assert firing["endsAt"] == "2026-11-22T10:09:00Z"
    assert resolved["endsAt"] == "2026-11-22T10:09:00.000Z"
    assert firing["annotations"]["summary"].startswith("FIRING")


def test_alertmanager_labels_have_names_it_takes_and_values() -> None:
    record = alert(group={"9 lives": "x", "tag": ""}).record
    assert isinstance(record, Alert)
    names = labels_of(record, {})
    assert names["_9_lives"] == "x"
    assert "tag" not in names


def test_cloudevents_structured() -> None:
    made = request(
        "{type: cloudevents, url: 'https://x.test/y', token_env: K}", decision(), token="T"
    )
    assert made.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert made.headers["authorization"] == "Bearer T"
    content = body(made)
    assert content["specversion"] == "1.0"
    assert content["type"] == "tidegate.post.flagged"
    assert content["id"] == decision().message_id
    assert (content["source"], content["subject"]) == ("/tidegate", "p1")
    assert content["time"] == "2026-11-22T10:00:00.000Z"
    assert content["data"]["post_id"] == "p1"


def test_cloudevents_binary_escapes_its_headers() -> None:
    event = decision(post='a "b" %ä€\n')
    made = request("{type: cloudevents, url: 'https://x.test/y', mode: binary}", event)
    assert made.headers["ce-subject"] == "a%20%22b%22%20%25%C3%A4%E2%82%AC%0A"
    assert made.headers["ce-id"] == event.message_id
    assert made.headers["content-type"] == "application/json"
    assert "ce-datacontenttype" not in made.headers
    assert body(made)["post_id"] == event.post_id


def test_cloudevents_in_batches() -> None:
    made = request(
        "{type: cloudevents, url: 'https://x.test/y', mode: batched}", decision(), alert()
    )
    assert made.headers["content-type"].startswith("application/cloudevents-batch+json")
    assert [each["type"] for each in body(made)] == [
        "tidegate.post.flagged",
        "tidegate.alert.firing",
    ]


def mail_of(*events: Event) -> Any:
    found = target("{type: email, host: h, sender: Tidegate <t@x.test>, to: [a@x.test, b@x.test]}")
    assert isinstance(found, Email)
    return MailFormat(found).mail(events, AT)


def test_a_mail_has_headers_that_nothing_breaks_out_of() -> None:
    mail = mail_of(alert(summary="over\r\nBcc: victim@x.test\r\n\r\nhello \u202e"))
    again = mail_of(alert(summary="over\r\nBcc: victim@x.test\r\n\r\nhello \u202e"))
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    assert mail["Subject"].startswith("[Tidegate] FIRING: over Bcc: victim@x.test hello")
    assert mail["To"] == "a@x.test, b@x.test"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    assert mail["Message-ID"] == again["Message-ID"]


def test_a_digest_has_every_record() -> None:
    mail = mail_of(decision(1, "p1", text="ümlaut 🦊"), decision(2, "p2"))
    assert mail["Subject"] == "[Tidegate] 2 records, the first: HIDE (high): insults"
    text = mail.get_content()
    assert "ümlaut 🦊" in text
    assert decision(2, "p2").message_id in text


def test_a_command_gets_a_line_for_each_record() -> None:
    found = target("{type: command, command: [cat], content: thin}")
    assert isinstance(found, Command)
    lines = [
        msgspec.json.decode(line) for line in lines_of(found, [decision(), alert()]).splitlines()
    ]
    assert [line["type"] for line in lines] == ["post.flagged", "alert.firing"]
    assert lines[0]["id"] == decision().message_id
    assert "post" not in lines[0]["data"]
