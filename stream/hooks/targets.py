"""The targets of `config/hooks.yaml`: one class per kind, its fields are the file's.

Secrets never stand in here: a field `..._env` names an environment variable, `..._file` a file,
and `stream.hooks.credentials` reads them when something is sent.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from stream.hooks.filters import Filter
from stream.hooks.outbox import Limits
from stream.hooks.schedule import DEFAULT_SCHEDULE
from stream.topics import ALERTS, DECISIONS, Topic

Records = Literal["decisions", "alerts"]
#: By the file's word, the topics that a target may read.
RECORDS: Final[dict[str, Topic]] = {"decisions": DECISIONS, "alerts": ALERTS}
Seconds = Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Names = Annotated[list[str], msgspec.Meta(min_length=1)]

_PAGERDUTY: Final = "https://events.pagerduty.com/v2/enqueue"


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a target is left alone: after `failures` in a row, for `open_s`, doubled each time."""

    failures: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    open_s: Positive = 30.0
    most_open_s: Positive = 300.0


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many records make one message, and how long the first of them waits for company."""

    records: Annotated[int, msgspec.Meta(ge=1, le=500)] = 1
    seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people read; Jinja, sandboxed, and what comes from a post is escaped for the target."""

    title: str | None = None
    text: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind of target has; `since` says how far back one begins that is new."""

    enabled: bool = True
    records: Annotated[list[Records], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["decisions", "alerts"]
    )
    filter: Filter = Filter()
    since: Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)] = 0.0
    timeout_s: Positive = 20.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = None
    retries: Annotated[list[Seconds], msgspec.Meta(min_length=1, max_length=50)] = msgspec.field(
        default_factory=lambda: list(DEFAULT_SCHEDULE)
    )
    window: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    breaker: Breaker = Breaker()

    @property
    def retractions(self) -> bool:
        """Whether the target is told of posts that are no more, unless its filter says."""
        return False

    @property
    def batching(self) -> Batch:
        """How records are put together; kinds that cannot have one each."""
        return Batch()

    def limits(self) -> Limits:
        """How the target wants to be treated."""
        return Limits(
            concurrency=self.concurrency,
            per_s=self.rate_per_s,
            batch=self.batching.records,
            batch_s=self.batching.seconds if self.batching.records > 1 else 0.0,
            schedule=tuple(self.retries),
            failures=self.breaker.failures,
            open_s=self.breaker.open_s,
            most_open_s=self.breaker.most_open_s,
        )


class HttpTarget(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every target behind a URL has; one of `url`, `url_env` and `url_file` is needed."""

    url: str | None = None
    url_env: str | None = None
    url_file: str | None = None
    headers: dict[str, str] = {}
    ca_file: str | None = None
    allow_private: bool | None = None


class Webhook(
    HttpTarget, frozen=True, kw_only=True, tag="webhook", tag_field="type",
    forbid_unknown_fields=True,
):  # fmt: skip
    """A signed POST for each record, as Standard Webhooks has it; several keys while one is replaced."""

    secret_env: Names | str | None = None
    secret_file: Names | str | None = None
    content: Literal["full", "thin"] = "full"
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1_000_000)] = 20_000

    @property
    def retractions(self) -> bool:
        """A program keeps a state: it must hear of both."""
        return True


class CloudEvents(
    HttpTarget, frozen=True, kw_only=True, tag="cloudevents", tag_field="type",
    forbid_unknown_fields=True,
):  # fmt: skip
    """A CloudEvent 1.0 over HTTP for each record, structured or binary, with a bearer token."""

    mode: Literal["structured", "binary", "batched"] = "structured"
    source: str = "/tidegate"
    token_env: str | None = None
    token_file: str | None = None
    content: Literal["full", "thin"] = "full"
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1_000_000)] = 60_000
    batch: Batch = Batch(records=50, seconds=1.0)

    @property
    def retractions(self) -> bool:
        """As a webhook."""
        return True

    @property
    def batching(self) -> Batch:
        """A receiver gets batches only where it asked for them."""
        return self.batch if self.mode == "batched" else Batch()


class Slack(
    HttpTarget, frozen=True, kw_only=True, tag="slack", tag_field="type", forbid_unknown_fields=True
):
    """A Slack incoming webhook."""

    template: Template = Template()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = 1.0
    batch: Batch = Batch(records=10, seconds=2.0)

    @property
    def batching(self) -> Batch:
        """At most 20 records: a message has at most 50 blocks."""
        return Batch(records=min(20, self.batch.records), seconds=self.batch.seconds)


class Discord(
    HttpTarget, frozen=True, kw_only=True, tag="discord", tag_field="type",
    forbid_unknown_fields=True,
):  # fmt: skip
    """A Discord webhook."""

    template: Template = Template()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = 2.0
    batch: Batch = Batch(records=5, seconds=2.0)

    @property
    def batching(self) -> Batch:
        """At most ten records: a message has at most ten embeds."""
        return Batch(records=min(10, self.batch.records), seconds=self.batch.seconds)


class PagerDuty(
    HttpTarget, frozen=True, kw_only=True, tag="pagerduty", tag_field="type",
    forbid_unknown_fields=True,
):  # fmt: skip
    """PagerDuty's Events API v2: an alert triggers and resolves under one `dedup_key`."""

    url: str | None = _PAGERDUTY
    records: Annotated[list[Records], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["alerts"]
    )
    routing_key_env: str | None = None
    routing_key_file: str | None = None
    template: Template = Template()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = 2.0

    @property
    def retractions(self) -> bool:
        """They resolve the incident of a decision."""
        return True


class Alertmanager(
    HttpTarget, frozen=True, kw_only=True, tag="alertmanager", tag_field="type",
    forbid_unknown_fields=True,
):  # fmt: skip
    """Prometheus Alertmanager's API v2; `url` is its root. An alert is sent again while it fires."""

    records: Annotated[list[Literal["alerts"]], msgspec.Meta(min_length=1)] = msgspec.field(  # type: ignore[assignment] # narrower
        default_factory=lambda: ["alerts"]
    )
    token_env: str | None = None
    token_file: str | None = None
    labels: dict[str, str] = {}
    template: Template = Template()
    batch: Batch = Batch(records=50, seconds=1.0)
    resend_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1

    @property
    def batching(self) -> Batch:
        """Its API takes a list."""
        return self.batch


class Email(
    Target, frozen=True, kw_only=True, tag="email", tag_field="type", forbid_unknown_fields=True
):
    """Mail over SMTP, as plain text; several records in one mail where `batch` says so."""

    host: str
    to: Names
    sender: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    allow_private: bool | None = None
    template: Template = Template()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = 1.0
    batch: Batch = Batch(records=50, seconds=60.0)

    @property
    def batching(self) -> Batch:
        """A digest."""
        return self.batch


class Command(
    Target, frozen=True, kw_only=True, tag="command", tag_field="type", forbid_unknown_fields=True
):
    """A program that gets one line of JSON for each record on its standard input; no shell."""

    command: Names
    directory: str | None = None
    environment: dict[str, str] = {}
    pass_environment: list[str] = []
    content: Literal["full", "thin"] = "full"
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=10_000_000)] = 1_000_000
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    batch: Batch = Batch()

    @property
    def retractions(self) -> bool:
        """As a webhook."""
        return True

    @property
    def batching(self) -> Batch:
        """Several lines to one run."""
        return self.batch


AnyTarget = Webhook | CloudEvents | Slack | Discord | PagerDuty | Alertmanager | Email | Command
#: By the file's `type`.
KINDS: Final[dict[str, type[Target]]] = {
    "webhook": Webhook,
    "cloudevents": CloudEvents,
    "slack": Slack,
    "discord": Discord,
    "pagerduty": PagerDuty,
    "alertmanager": Alertmanager,
    "email": Email,
    "command": Command,
}


def kind_of(target: Target) -> str:
    """The file's word for the kind of a target."""
    return next(name for name, each in KINDS.items() if type(target) is each)
