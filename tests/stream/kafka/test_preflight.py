from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.errors import BrokerError, ConfigError
from stream.kafka.admin import open_admin
from stream.kafka.client import aiokafka_config, bootstrap_servers, kafka_python_config, ssl_context
from stream.kafka.preflight import check_broker
from stream.settings import KafkaSettings, Settings
from tests.apache_kafka import ApacheKafka, free_ports, missing
from tests.conftest import Broker

_PASSWORD = "open-sesame"


def _kafka(bootstrap: str, **values: object) -> KafkaSettings:
    return Settings.model_validate({"kafka": {"bootstrap": bootstrap, **values}}).kafka


@contextlib.contextmanager
def _server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does `answer` to every connection, on a loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _web_page(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def _error(kafka: KafkaSettings) -> BrokerError:
    with pytest.raises(BrokerError) as raised:
        check_broker(kafka)
    return raised.value


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and `broker.pem` (key and certificate for 127.0.0.1 and localhost)."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH: apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca")
    openssl("req", *key[:3], "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl(
        "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "broker.crt",
    )  # fmt: skip
    pem = (folder / "broker.key").read_text() + (folder / "broker.crt").read_text()
    (folder / "broker.pem").write_text(pem)
    return folder


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[dict[str, str]]:
    """Addresses of one Kafka by protocol: SSL, SASL_SSL and SASL_PLAINTEXT, user `ann`."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    ssl_port, sasl_port, sasl_ssl_port = free_ports(3)
    ports = {"SSL": ssl_port, "SASL_PLAINTEXT": sasl_port, "SASL_SSL": sasl_ssl_port}
    (controller,) = free_ports(1)
    listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    settings = {
        "listeners": ",".join(
            [
                "PLAINTEXT://127.0.0.1:{port}",
                *listeners.values(),
                f"CONTROLLER://127.0.0.1:{controller}",
            ]
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "advertised.listeners": ",".join(["PLAINTEXT://127.0.0.1:{port}", *listeners.values()]),
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": jaas,
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": jaas,
    }
    folder = tmp_path_factory.mktemp("secured-kafka")
    with ApacheKafka(folder, settings, {"ann": _PASSWORD}) as kafka:
        yield {
            "PLAINTEXT": kafka.bootstrap,
            **{name: f"127.0.0.1:{port}" for name, port in ports.items()},
        }


def test_a_broker_that_is_there(broker: Broker) -> None:
    found = check_broker(_kafka(broker.bootstrap))
    assert found.address == broker.bootstrap
    assert found.brokers == (broker.bootstrap,)
    assert found.cluster_id


def test_one_of_several_addresses_is_enough(embedded_broker: Broker) -> None:
    found = check_broker(_kafka(f"127.0.0.1:1,{embedded_broker.bootstrap}"))
    assert found.address == embedded_broker.bootstrap


def test_nothing_listens() -> None:
    error = _error(_kafka("127.0.0.1:1"))
    assert (error.where, error.message) == ("127.0.0.1:1", "nothing listens there")
    assert error.hint is not None
    assert "tidegate demo" in error.hint


def test_a_name_that_does_not_resolve() -> None:
    error = _error(_kafka("kafka.invalid:9092"))
    assert error.message == "the name `kafka.invalid` does not resolve"


def test_something_else_listens() -> None:
    with _server(_web_page) as address:
        error = _error(_kafka(address))
    assert "does not answer as Kafka does" in error.message


def test_something_that_never_answers_does_not_hang() -> None:
    stop = threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        connection.recv(100)
        stop.wait(30)

    started = time.monotonic()
    with _server(say_nothing) as address:
        error = _error(_kafka(address))
        waited = time.monotonic() - started
        stop.set()
    assert "no answer in time" in error.message
    # Far below the half minute after which a client library gives up.
    assert waited < 15


def test_an_answer_of_the_wrong_size_is_refused() -> None:
    with _server(lambda connection: connection.sendall(b"\x7f\xff\xff\xff\0\0\0\1")) as address:
        assert "does not answer as Kafka does" in _error(_kafka(address)).message


def test_tls_is_asked_of_a_broker_without_it(embedded_broker: Broker) -> None:
    error = _error(_kafka(embedded_broker.bootstrap, security_protocol="SSL"))
    assert error.message == (
        "`kafka.security_protocol` is SSL, but the broker does not speak TLS here"
    )


@pytest.mark.parametrize(
    "bootstrap", ["kafka", "kafka:", ":9092", "kafka:0", "kafka:99999", "a:1,,b:2", "a:١"]
)
def test_what_is_no_address_is_a_mistake_in_the_settings(bootstrap: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        check_broker(_kafka(bootstrap))


def test_addresses_are_cleaned() -> None:
    kafka = _kafka("kafka://one:1, two:2 ,[::1]:3")
    assert bootstrap_servers(kafka) == ["one:1", "two:2", "[::1]:3"]


def test_a_log_in_needs_user_and_password() -> None:
    kafka = _kafka("127.0.0.1:9092", security_protocol="SASL_PLAINTEXT", username="ann")
    with pytest.raises(ConfigError, match=r"`kafka\.password` is not set"):
        check_broker(kafka)


def test_an_authority_that_is_no_file_is_named(tmp_path: Path) -> None:
    kafka = _kafka("127.0.0.1:9092", security_protocol="SSL", ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"`kafka\.ca_file` cannot be used: no such file"):
        ssl_context(kafka)
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match="cannot be used"):
        ssl_context(kafka)


def test_both_libraries_log_in_alike() -> None:
    kafka = _kafka(
        "127.0.0.1:9092", security_protocol="SASL_SSL", username="ann", password=_PASSWORD
    )
    one, other = aiokafka_config(kafka), kafka_python_config(kafka)
    same = set(one) - {"request_timeout_ms", "ssl_context"}
    assert {name: one[name] for name in same} == {name: other[name] for name in same}
    assert one["sasl_plain_password"] == _PASSWORD


@pytest.mark.kafka
def test_tls_with_its_authority(secured: dict[str, str], certificates: Path) -> None:
    kafka = _kafka(secured["SSL"], security_protocol="SSL", ca_file=certificates / "ca.pem")
    assert check_broker(kafka).brokers == (secured["SSL"],)


@pytest.mark.kafka
def test_tls_without_its_authority(secured: dict[str, str]) -> None:
    error = _error(_kafka(secured["SSL"], security_protocol="SSL"))
    assert "the broker's certificate is not trusted" in error.message
    assert error.hint is not None
    assert "kafka.ca_file" in error.hint


@pytest.mark.kafka
def test_plaintext_to_a_tls_port(secured: dict[str, str]) -> None:
    error = _error(_kafka(secured["SSL"]))
    assert "but the broker speaks TLS here" in error.message


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_log_in(secured: dict[str, str], certificates: Path, protocol: str) -> None:
    kafka = _kafka(
        secured[protocol],
        security_protocol=protocol,
        username="ann",
        password=_PASSWORD,
        ca_file=certificates / "ca.pem",
        topic_prefix=f"{protocol.lower()}.",
    )
    assert check_broker(kafka).brokers == (secured[protocol],)
    with open_admin(kafka) as admin:
        assert all(topic.created for topic in admin.create_missing())


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_wrong_password(secured: dict[str, str], certificates: Path, protocol: str) -> None:
    threads = threading.active_count()
    error = _error(
        _kafka(
            secured[protocol],
            security_protocol=protocol,
            username="ann",
            password="wrong",
            ca_file=certificates / "ca.pem",
        )
    )
    assert error.message == "the broker refuses the log-in of `ann` (SCRAM-SHA-512)"
    assert "wrong" not in str(error)
    assert threading.active_count() == threads


@pytest.mark.kafka
def test_a_mechanism_that_the_broker_does_not_take(secured: dict[str, str]) -> None:
    error = _error(
        _kafka(
            secured["SASL_PLAINTEXT"],
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            username="ann",
            password=_PASSWORD,
        )
    )
    assert error.message == "the broker does not take `PLAIN`, but SCRAM-SHA-512"


@pytest.mark.kafka
def test_no_log_in_where_one_is_needed(secured: dict[str, str]) -> None:
    error = _error(_kafka(secured["SASL_PLAINTEXT"]))
    assert "a client that does not log in" in error.message
    assert error.hint is not None
    assert "SASL_PLAINTEXT" in error.hint


@pytest.mark.kafka
def test_a_log_in_where_none_is_offered(secured: dict[str, str]) -> None:
    error = _error(
        _kafka(
            secured["PLAINTEXT"],
            security_protocol="SASL_PLAINTEXT",
            username="ann",
            password=_PASSWORD,
        )
    )
    assert error.hint is not None
    assert "PLAINTEXT" in error.hint


@pytest.mark.kafka
def test_an_advertised_address_that_cannot_be_reached(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    settings = {"advertised.listeners": "PLAINTEXT://kafka.invalid:9092"}
    with ApacheKafka(tmp_path / "kafka", settings) as kafka:
        error = _error(_kafka(kafka.bootstrap))
    assert "sends clients to `kafka.invalid:9092`" in error.message
    assert error.hint is not None
    assert "advertised.listeners" in error.hint
