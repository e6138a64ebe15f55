"""Every setting of every process, in one place.

Precedence: a flag, then the environment (`TIDEGATE_KAFKA__BOOTSTRAP=...`), then the file that
`TIDEGATE_CONFIG` names (TOML), then the default. A variable or key that we do not know is an
error with a suggestion, never ignored.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationError,
)

from stream.database_url import ReadModelAt, parse_database
from stream.errors import ConfigError

ENV_PREFIX = "TIDEGATE_"
CONFIG_VARIABLE = "TIDEGATE_CONFIG"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """The broker and how to talk to it."""

    bootstrap: str = Field(
        "127.0.0.1:9092", description="host:port of the broker, or several, comma-separated"
    )
    topic_prefix: str = Field(
        "", description="put before every topic's name", pattern=r"^[a-zA-Z0-9._-]*$"
    )
    partitions: int = Field(
        4, ge=1, le=1000, description="partitions of the topics that are created"
    )
    replication: int = Field(
        1, ge=1, le=16, description="copies of each partition of the topics that are created"
    )
    group: str = Field("tidegate", min_length=1, description="the workers' consumer group")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="as in Kafka's own clients"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="as in Kafka's own clients"
    )
    username: str | None = Field(None, description="SASL user")
    password: SecretStr | None = Field(None, description="SASL password")
    ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the broker's certificate"
    )
    request_timeout_s: float = Field(
        30.0, gt=0, description="a produce request older than this has failed"
    )
    session_timeout_s: float = Field(
        10.0, gt=0, description="a worker silent for this long loses its partitions"
    )


class ModelSettings(_Section):
    """Which models score, and on what."""

    manifest: Path | None = Field(
        None,
        description="manifest file; default: `.tidegate/models/manifest.toml`, else the bundled one",
    )
    preset: str = Field("compact", description="which models of the manifest serve the tasks")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|(cuda|tensorrt)(:\d+)?)$",
        description="auto, cpu, cuda, cuda:n or tensorrt; what is asked for must be there",
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="threads of the models, on a CPU one for each call; 0: every core",
    )
    batch_tokens: int = Field(
        768, ge=64, le=1_000_000, description="tokens, padding included, of one inference call"
    )
    windows: int = Field(
        4, ge=1, le=64, description="most overlapping windows of one long post that are scored"
    )
    second_views: bool = Field(
        True, description="score disguised words (look-alikes, leet, spaced) a second time"
    )


class WorkerSettings(_Section):
    """The Faust worker."""

    batch_posts: int = Field(512, ge=1, le=100_000, description="most posts scored as one batch")
    batch_delay_s: float = Field(0.01, ge=0, le=10, description="longest wait for a batch to fill")
    in_flight_batches: int = Field(
        4, ge=1, le=64, description="batches between consumer and broker; bounds the memory"
    )
    commit_interval_s: float = Field(
        1.0, gt=0, description="how often confirmed offsets are committed"
    )
    stall_timeout_s: float = Field(
        60.0, ge=2, description="no progress for this long with work at hand ends the worker"
    )
    stop_timeout_s: float = Field(
        20.0, gt=0, description="longest wait for posts in flight on SIGTERM"
    )
    instance: str | None = Field(None, description="static member name in the group; default: none")
    scoring: Literal["auto", "process", "threads"] = Field(
        "auto",
        description="where posts are scored: in a process beside the worker's, or in its threads; "
        "auto: a process where there is more than one core",
    )


class PolicySettings(_Section):
    """The rules that turn labels into decisions."""

    path: Path | None = Field(
        None,
        description="file or folder of rules; default: `config/policy.yaml`, else the starter pack",
    )
    reload_s: float = Field(2.0, gt=0, le=4, description="how often a changed file is looked for")


class AggregateSettings(_Section):
    """Windows: how often they are written, and how long they can be corrected."""

    checkpoint_s: float = Field(
        5.0, gt=0, le=60, description="how often changed windows are written, at least"
    )
    checkpoint_records: int = Field(
        20_000, ge=100, le=1_000_000, description="records after which they are written earlier"
    )
    correctable_s: int = Field(
        1800,
        ge=60,
        le=86_400,
        description="a window takes late and corrected posts for this long after its end",
    )
    correctable_posts: int = Field(
        50_000,
        ge=1000,
        le=10_000_000,
        description="posts of a partition that can be corrected: the newest ones",
    )


class AlertSettings(_Section):
    """The rules that turn metrics into alerts."""

    path: Path | None = Field(
        None,
        description="file of alert rules; default: `config/alerts.yaml`, else the starter pack",
    )
    reload_s: float = Field(2.0, gt=0, le=4, description="how often a changed file is looked for")


class HookSettings(_Section):
    """Where decisions and alerts are delivered."""

    path: Path | None = Field(
        None, description="file of targets; default: `config/hooks.yaml`, else no targets"
    )
    allow_private: bool = Field(
        False, description="requests to private, loopback and link-local addresses are allowed"
    )
    reload_s: float = Field(2.0, gt=0, le=4, description="how often a changed file is looked for")


class DashboardSettings(_Section):
    """The read model and the web page."""

    host: str = Field("127.0.0.1", description="address the dashboard listens on")
    port: int = Field(
        8501, ge=0, le=65535, description="port the dashboard listens on; 0: a free one"
    )
    # As JSON it is text both ways: a worker's roles get all settings so, and none asks for this one.
    database: Annotated[
        ReadModelAt,
        PlainValidator(parse_database),
        PlainSerializer(str, return_type=str, when_used="json"),
    ] = Field(
        Path(".tidegate/read-model.db"),
        description="the read model: an SQLite file, or `postgresql://user:password@host/name`",
    )
    retention_posts: int = Field(1_000_000, ge=1000, description="posts kept in the read model")
    retention_days: int = Field(
        30, ge=1, le=3650, description="posts and decisions older than this leave the read model"
    )
    retention_audit: int = Field(
        5_000_000,
        ge=10_000,
        description="entries about the policy's decisions kept in the audit; people's are all kept",
    )
    claim_s: int = Field(
        300, ge=10, le=86_400, description="how long a post in review stays with its reviewer"
    )
    reason_required: Literal["never", "strong", "always"] = Field(
        "strong", description="which reviews need a reason; strong: limit, hide and remove"
    )
    users: Path = Field(
        Path(".tidegate/users.json"), description="named users, with hashed passwords and roles"
    )
    sign_in: Literal["auto", "off", "users", "oidc"] = Field(
        "auto",
        description="auto: off on loopback unless users are named; required elsewhere",
    )
    oidc_roles: str = Field(
        "",
        description="who may do what with OIDC, as `ann@example.org=admin, *@example.org=viewer`",
    )


class LogSettings(_Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="post texts appear at debug only"
    )
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )


class Settings(_Section):
    """All settings. Build it with `load_settings`, which explains mistakes."""

    kafka: KafkaSettings = KafkaSettings()  # type: ignore[call-arg]
    models: ModelSettings = ModelSettings()  # type: ignore[call-arg]
    worker: WorkerSettings = WorkerSettings()  # type: ignore[call-arg]
    policy: PolicySettings = PolicySettings()  # type: ignore[call-arg]
    aggregates: AggregateSettings = AggregateSettings()  # type: ignore[call-arg]
    alerts: AlertSettings = AlertSettings()  # type: ignore[call-arg]
    hooks: HookSettings = HookSettings()  # type: ignore[call-arg]
    dashboard: DashboardSettings = DashboardSettings()  # type: ignore[call-arg]
    log: LogSettings = LogSettings()  # type: ignore[call-arg]


def setting_names() -> Iterator[tuple[str, str]]:
    """Every setting as (`section.name`, environment variable), in the order of the classes."""
    for section, section_field in Settings.model_fields.items():
        annotation = section_field.annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        for name in annotation.model_fields:
            yield f"{section}.{name}", f"{ENV_PREFIX}{section}__{name}".upper()


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting as it is now; `origin` is `default`, or the file, variable or flag that set it.

    `value` and `default` are as in a configuration file; those of a secret are masked.
    """

    name: str
    variable: str
    value: str | float | bool | None
    default: str | float | bool | None
    origin: str
    description: str
    secret: bool


def load_settings(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in force.

    Args:
        overrides: flags, as `{"kafka.bootstrap": "..."}`; None values are left out.
        environ: the environment; default: the process's.

    Raises:
        ConfigError: an unknown variable or key, or a value that does not fit.
    """
    given = _given(overrides or {}, os.environ if environ is None else environ)
    return _validated(given)


def settings_in_force(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> list[SettingInForce]:
    """Every setting with its value and where that came from, in the order of the classes.

    Raises:
        ConfigError: as `load_settings`.
    """
    given = _given(overrides or {}, os.environ if environ is None else environ)
    settings = _validated(given)
    rows = []
    for name, variable in setting_names():
        section, _, key = name.partition(".")
        part: BaseModel = getattr(settings, section)
        field = type(part).model_fields[key]
        value = getattr(part, key)
        rows.append(
            SettingInForce(
                name=name,
                variable=variable,
                value=_plain(value),
                default=_plain(field.get_default()),
                origin=given[name][1] if name in given else "default",
                description=field.description or "",
                secret="Secret" in str(field.annotation),
            )
        )
    return rows


def _plain(value: Any) -> str | float | bool | None:
    """A value as it would stand in a file; a secret gives its mask."""
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _given(overrides: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """What was set by anybody: value and origin, the strongest origin last and in force."""
    names = dict(setting_names())
    variables = {variable: name for name, variable in names.items()}
    given: dict[str, tuple[Any, str]] = {}
    config = environ.get(CONFIG_VARIABLE)
    if config:
        for name, value in _read_file(Path(config)):
            if name not in names:
                raise ConfigError(
                    f"unknown setting `{name}`", where=config, hint=_suggestion(name, names)
                )
            given[name] = (value, config)
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if variable not in variables:
            raise ConfigError(
                f"unknown environment variable `{variable}`", hint=_suggestion(variable, variables)
            )
        given[variables[variable]] = (value, f"environment variable {variable}")
    for name, value in overrides.items():
        if value is not None:
            given[name] = (value, "command line")
    return given


def _validated(given: Mapping[str, tuple[Any, str]]) -> Settings:
    merged: dict[str, dict[str, Any]] = {}
    for name, (value, _) in given.items():
        section, _, key = name.partition(".")
        merged.setdefault(section, {})[key] = value
    try:
        return Settings.model_validate(merged)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        told = first["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in first["loc"][:2])
        raise ConfigError(
            f"`{name}`: {told[:1].lower()}{told[1:]}",
            where=given[name][1] if name in given else None,
            hint="`tidegate config` lists every setting with its meaning",
        ) from exc


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"cannot read the configuration file: {exc.strerror}", where=str(path)
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"not TOML: {exc}", where=str(path)) from exc
    for section, values in data.items():
        if not isinstance(values, dict):
            yield section, values
            continue
        for key, value in values.items():
            yield f"{section}.{key}", value


def _suggestion(name: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else "`tidegate config` lists every setting"
