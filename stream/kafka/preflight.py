"""Is there a broker, does it let us in, and if not, why: asked before a client library starts.

The libraries retry in silence and hide the reason in their logs. `check_broker` asks in steps,
name, port, TLS, protocol, log-in, advertised address, and names the first that fails.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

from stream.errors import BrokerError
from stream.kafka.client import addresses, kafka_python_config, reason_of, ssl_context
from stream.kafka.wire import Cluster, Wire, WireError
from stream.settings import KafkaSettings

_CHECK_TIMEOUT_S = 5.0
_STEP_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class BrokerFound:
    """A broker that answers and lets us in."""

    address: str
    cluster_id: str | None
    brokers: tuple[str, ...]


def check_broker(kafka: KafkaSettings, timeout_s: float = _CHECK_TIMEOUT_S) -> BrokerFound:
    """Make sure that a broker answers, lets us in and can be reached where it says it is.

    Raises:
        BrokerError: the reason, in plain words, within about `timeout_s`.
        ConfigError: the settings contradict themselves.
    """
    kafka_python_config(kafka)  # a contradiction in the settings comes before the network
    context = ssl_context(kafka)
    servers = addresses(kafka)
    deadline = time.monotonic() + timeout_s
    first: BrokerError | None = None
    for number, (host, port) in enumerate(servers):
        # Every address has its share of what is left.
        share = (deadline - time.monotonic()) / (len(servers) - number)
        try:
            return _Check(kafka, context, host, port, time.monotonic() + share).run()
        except BrokerError as exc:
            first = first or exc
    assert first is not None
    raise first


class _Check:
    """The steps for one address."""

    def __init__(
        self,
        kafka: KafkaSettings,
        context: ssl.SSLContext | None,
        host: str,
        port: int,
        deadline: float,
    ) -> None:
        self._kafka = kafka
        self._context = context
        self._host = host
        self._port = port
        self._deadline = deadline
        self._address = f"{host}:{port}"

    def run(self) -> BrokerFound:
        with (
            contextlib.closing(self._connected()) as raw,
            contextlib.closing(self._secured(raw)) as connection,
        ):
            wire = self._speaking(connection)
            if self._kafka.security_protocol.startswith("SASL"):
                self._mechanism_known(wire)
                self._log_in(wire)
            cluster = self._cluster(wire)
        self._reachable(cluster)
        return BrokerFound(
            self._address,
            cluster.cluster_id,
            tuple(f"{host}:{port}" for host, port in cluster.brokers),
        )

    def _step_s(self) -> float:
        return max(0.1, min(_STEP_TIMEOUT_S, self._deadline - time.monotonic()))

    def _error(self, message: str, hint: str | None = None) -> BrokerError:
        return BrokerError(message, where=self._address, hint=hint)

    def _connected(self) -> socket.socket:
        infos = _resolved(self._host, self._port, self._step_s())
        if infos is None:
            raise self._error(
                f"the name `{self._host}` does not resolve",
                "check `kafka.bootstrap` (--kafka host:port, or TIDEGATE_KAFKA__BOOTSTRAP)",
            )
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in infos:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(self._step_s())
            try:
                connection.connect(address)
            except OSError as exc:
                connection.close()
                failure = exc
            else:
                return connection
        if isinstance(failure, ConnectionRefusedError):
            raise self._error(
                "nothing listens there",
                "start Kafka (`docker compose up -d kafka`), name the broker with --kafka host:port, "
                "or try `tidegate demo`, which brings its own",
            )
        raise self._error(
            f"no connection: {reason_of(failure)}",
            "is the address right, and does a firewall allow it?",
        )

    def _secured(self, raw: socket.socket) -> socket.socket:
        """The connection, after TLS where that is set."""
        if self._context is None:
            return raw
        try:
            return self._context.wrap_socket(raw, server_hostname=self._host)
        except ssl.SSLCertVerificationError as exc:
            raise self._error(
                f"the broker's certificate is not trusted: {exc.verify_message.rstrip('.')}",
                "set `kafka.ca_file` to the PEM file of the authority that signed it",
            ) from exc
        except OSError as exc:
            if self._speaks_plaintext():
                raise self._error(
                    f"`kafka.security_protocol` is {self._kafka.security_protocol}, but the "
                    "broker does not speak TLS here",
                    "use another port, or the protocol without TLS",
                ) from exc
            raise self._error(f"the TLS handshake failed: {reason_of(exc)}") from exc

    def _speaking(self, connection: socket.socket) -> Wire:
        """Kafka's protocol over the connection."""
        wire = Wire(connection)
        try:
            wire.api_versions()
        except (OSError, WireError) as exc:
            if self._context is None and self._speaks_tls():
                raise self._error(
                    f"`kafka.security_protocol` is {self._kafka.security_protocol}, but the broker "
                    "speaks TLS here",
                    "set `kafka.security_protocol` to SSL or SASL_SSL",
                ) from exc
            raise self._error(
                f"something listens there, but it does not answer as Kafka does: {reason_of(exc)}",
                "is this the port of Kafka's client listener, not of its controller or a web page?",
            ) from exc
        return wire

    def _speaks_plaintext(self) -> bool:
        try:
            with contextlib.closing(self._connected()) as connection:
                Wire(connection).api_versions()
        except (OSError, WireError, BrokerError):
            return False
        return True

    def _speaks_tls(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # only whether, not who: nothing is sent over it
        try:
            with (
                contextlib.closing(self._connected()) as connection,
                context.wrap_socket(connection),
            ):
                return True
        except (OSError, BrokerError):
            return False

    def _cluster(self, wire: Wire) -> Cluster:
        try:
            return wire.cluster()
        except (OSError, WireError) as exc:
            if self._kafka.security_protocol.startswith("SASL"):
                raise self._error(f"no answer after the log-in: {reason_of(exc)}") from exc
            other = "SASL_SSL" if self._context else "SASL_PLAINTEXT"
            raise self._error(
                "the broker ends the connection of a client that does not log in",
                f"set `kafka.security_protocol` to {other}, `kafka.username` and `kafka.password`",
            ) from exc

    def _mechanism_known(self, wire: Wire) -> None:
        wanted = self._kafka.sasl_mechanism
        try:
            known, offered = wire.sasl_mechanisms(wanted)
        except (OSError, WireError) as exc:
            raise self._error(
                "the broker ends the connection when we want to log in",
                "it may want no log-in here: try `kafka.security_protocol` "
                + ("SSL" if self._context else "PLAINTEXT"),
            ) from exc
        if not known and not offered:
            raise self._error(
                "the broker does not offer a log-in on this port",
                "set `kafka.security_protocol` to " + ("SSL" if self._context else "PLAINTEXT"),
            )
        if not known:
            raise self._error(
                f"the broker does not take `{wanted}`, but {', '.join(offered)}",
                "set `kafka.sasl_mechanism` to one of these",
            )

    def _log_in(self, wire: Wire) -> None:
        from kafka.net.sasl import get_sasl_mechanism

        config = kafka_python_config(self._kafka)
        # Their library warns of a password sent in the clear; who set that up knows.
        mechanism = get_sasl_mechanism(self._kafka.sasl_mechanism)(
            **{**config, "security_protocol": None}
        )
        try:
            while not mechanism.is_done():
                refusal, token = wire.sasl_step(mechanism.auth_bytes())
                if refusal is not None:
                    raise self._error(
                        f"the broker refuses the log-in of `{self._kafka.username}` "
                        f"({self._kafka.sasl_mechanism})",
                        "check `kafka.username` and `kafka.password`",
                    )
                mechanism.receive(token)
        except (OSError, WireError, ValueError, KeyError) as exc:
            raise self._error(f"the log-in failed: {reason_of(exc)}") from exc

    def _reachable(self, cluster: Cluster) -> None:
        """Clients go on with the addresses the broker tells, not with the one we know."""
        failure: BrokerError | None = None
        for host, port in cluster.brokers:
            if (host, port) == (self._host, self._port):
                return
            other = _Check(self._kafka, self._context, host, port, self._deadline)
            try:
                other._connected().close()
            except BrokerError as exc:
                failure = exc
            else:
                return
        if failure is not None:
            raise self._error(
                f"the broker answers, but sends clients to `{failure.where}`, and there: "
                f"{failure.message}",
                "its `advertised.listeners` must name an address that this machine can reach",
            )


def _resolved(host: str, port: int, timeout_s: float) -> list[Any] | None:
    """`getaddrinfo` with a limit: a resolver that does not answer takes half a minute."""
    found: list[Any] = []

    def resolve() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return list(found) or None
