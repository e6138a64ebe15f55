"""`tidegate health`: a container engine's question to one of our processes on the same host.

Exit code 0 is healthy. A worker is healthy while the broker counts it among the group's members:
one that the group has thrown out lives on and labels nothing. (One that is in the group and makes
no progress ends by itself.)
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import Annotated

import typer

from stream.cli.options import KafkaOption
from stream.errors import BrokerError, TidegateError
from stream.settings import load_settings

app = typer.Typer(
    name="health", help="Is a process on this host healthy? For containers.", no_args_is_help=True
)
_TIMEOUT_S = 5.0
_PAGE = "/_stcore/health"


@app.command("worker")
def worker(
    *,
    role: Annotated[
        list[str] | None,
        typer.Option(help="As for `tidegate worker`; default: label.", show_default=False),
    ] = None,
    kafka: KafkaOption = None,
) -> None:
    """Healthy while a worker on this host is a member of the roles' consumer groups.

    The roles of one worker live and die together: without --role it is labelling that is asked for.
    """
    from stream.kafka.admin import open_admin
    from stream.kafka.client import addresses
    from stream.roles import duties_of, group_of

    settings = load_settings({"kafka.bootstrap": kafka})
    groups = [group_of(settings, duty) for duty in duties_of(settings, role or ("label",))[0]]
    with open_admin(settings.kafka) as admin:
        members = {group: [member.host for member in admin.members(group)] for group in groups}
    here = {address for broker in addresses(settings.kafka) for address in _own_addresses(*broker)}
    for group, hosts in members.items():
        if not here & set(hosts):
            raise BrokerError(
                f"no worker on this host is in the group `{group}`",
                hint=f"its members are on {', '.join(hosts)}"
                if hosts
                else "the group has no members",
            )


@app.command("dashboard")
def dashboard(
    *,
    port: Annotated[
        int | None, typer.Option(help="Default: setting `dashboard.port`.", show_default=False)
    ] = None,
) -> None:
    """Healthy while the page on this host answers."""
    settings = load_settings({"dashboard.port": port}).dashboard
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", _PAGE)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as exc:
            raise TidegateError(
                f"the page does not answer: {exc}", where=f"127.0.0.1:{settings.port}"
            ) from exc
    if status != http.HTTPStatus.OK:
        raise TidegateError(f"the page answers with {status}", where=f"127.0.0.1:{settings.port}")


def _own_addresses(host: str, port: int) -> set[str]:
    """The addresses from which this host reaches the broker, as the broker sees them."""
    found = set()
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        ):
            # Connecting a datagram socket sends nothing; it only chooses the address.
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                found.add(str(probe.getsockname()[0]))
    return found
