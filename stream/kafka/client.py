"""From `KafkaSettings` to what each client library wants.

One place for both libraries, so that worker, projector and command line cannot differ in how they
log in. `stream.kafka.preflight` tells why a broker cannot be used, which the libraries hide.
"""

from __future__ import annotations

import re
import ssl
from typing import Any, Final

from stream.errors import ConfigError
from stream.settings import KafkaSettings

#: What the clients put before the reasons in their own exceptions.
_CLASS_AND_NUMBER: Final = re.compile(r"^(\[Error -?\d+\] )?[A-Za-z]+Error: ")


def bootstrap_servers(kafka: KafkaSettings) -> list[str]:
    """The addresses to try, each `host:port`.

    Raises:
        ConfigError: one of them is no address.
    """
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses(kafka)
    ]


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """The TLS context; None for a protocol without TLS.

    Raises:
        ConfigError: the authority's file cannot be used.
    """
    if kafka.security_protocol not in ("SSL", "SASL_SSL"):
        return None
    try:
        return ssl.create_default_context(cafile=kafka.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"`kafka.ca_file` cannot be used: {reason_of(exc)}",
            where=str(kafka.ca_file),
            hint="it must be a PEM file with the authority's certificate",
        ) from exc


def aiokafka_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments for aiokafka's consumer, producer and admin client."""
    return {**_common_config(kafka), "request_timeout_ms": _request_timeout_ms(kafka)}


def kafka_python_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments for kafka-python's clients."""
    # Its consumer insists on a request timeout above the session timeout.
    timeout_ms = max(_request_timeout_ms(kafka), int(kafka.session_timeout_s * 1000) + 1000)
    return {**_common_config(kafka), "request_timeout_ms": timeout_ms}


def addresses(kafka: KafkaSettings) -> list[tuple[str, int]]:
    """The addresses to try, as (host, port).

    Raises:
        ConfigError: one of them is no address.
    """
    found = []
    for part in kafka.bootstrap.split(","):
        host, _, port = part.strip().removeprefix("kafka://").rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"`{part.strip()}` in `kafka.bootstrap` is not an address",
                hint="write host:port, for instance 127.0.0.1:9092",
            )
        found.append((host.strip("[]"), int(port)))
    return found


def _common_config(kafka: KafkaSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(kafka),
        "client_id": "tidegate",
        "security_protocol": kafka.security_protocol,
        "ssl_context": ssl_context(kafka),
    }
    if kafka.security_protocol.startswith("SASL"):
        if kafka.username is None or kafka.password is None:
            missing = "username" if kafka.username is None else "password"
            raise ConfigError(
                f"`kafka.security_protocol` is {kafka.security_protocol}, and `kafka.{missing}` is not set",
                hint=f"set TIDEGATE_KAFKA__{missing.upper()}",
            )
        config |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password.get_secret_value(),
        }
    return config


def _request_timeout_ms(kafka: KafkaSettings) -> int:
    return int(kafka.request_timeout_s * 1000)


def reason_of(exc: BaseException) -> str:
    """The reason in an operating system's or library's exception, without its class and number."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    text = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
    text = _CLASS_AND_NUMBER.sub("", text) or text
    if text.startswith("Unable to bootstrap"):
        return "nobody answers at `kafka.bootstrap`"
    return text[:1].lower() + text[1:]
