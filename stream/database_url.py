"""Where the read model is: a file, or a PostgreSQL database named by a URL.

    .tidegate/read-model.db
    postgresql://user:password@host:5432/name?sslmode=verify-full&schema=tidegate

Invariant: `str` and `repr` of a URL never show its password, so that whatever is printed, logged or
shown on a page is masked; only `get_secret_value` has all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import SecretStr

#: The schema of the read model in a database that others may use too.
DEFAULT_SCHEMA: Final = "tidegate"
_SCHEMES: Final = ("postgresql", "postgres")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_OTHER_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
#: Parameters that go to libpq as they are; none of them is a secret.
_OPTIONS: Final = frozenset(
    {
        "application_name",
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "host",
        "passfile",
        "service",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    }
)


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A database and the schema in it; `parse_database` makes it.

    Without a password in the URL libpq looks into `PGPASSWORD` and `~/.pgpass`, as always.
    """

    host: str
    port: int | None
    name: str
    user: str
    password: SecretStr
    schema: str = DEFAULT_SCHEMA
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The URL with its password masked."""
        return self._written("***" if self.password else "")

    def get_secret_value(self) -> str:
        """The URL with its password."""
        return self._written(quote(self.password.get_secret_value(), safe=""))

    def with_schema(self, schema: str) -> PostgresUrl:
        """The same database, another schema."""
        return replace(self, schema=schema)

    def _written(self, password: str) -> str:
        who = quote(self.user, safe="") + (f":{password}" if password else "")
        host = f"[{self.host}]" if ":" in self.host else quote(self.host)
        port = "" if self.port is None else f":{self.port}"
        schema = [("schema", self.schema)] if self.schema != DEFAULT_SCHEMA else []
        query = urlencode([*self.options, *schema], safe="/")
        return (
            f"postgresql://{f'{who}@' if who else ''}{host}{port}/{quote(self.name, safe='')}"
            f"{f'?{query}' if query else ''}"
        )


#: Where a read model is.
ReadModelAt: TypeAlias = Path | PostgresUrl


def parse_database(value: object) -> ReadModelAt:
    """A path, or the parts of a PostgreSQL URL.

    Raises:
        ValueError: a URL that is not PostgreSQL's, or has parts that are not known; what it says
            holds nothing of the URL but names of parameters.
    """
    if isinstance(value, Path | PostgresUrl):
        return value
    if not isinstance(value, str):
        raise ValueError("not a path and not a URL")  # noqa: TRY004 - what pydantic explains
    if not _OTHER_SCHEME.match(value):
        return Path(value)
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        # The reason may quote a part of the password that was taken for something else.
        raise ValueError(
            "not a URL: write `@`, `/`, `?` and `#` of a password as %40, %2F, %3F and %23"
        ) from None
    if url.scheme not in _SCHEMES:
        raise ValueError("write a path, or a URL that begins with `postgresql://`")
    if url.fragment:
        raise ValueError("not a URL of PostgreSQL: write `#` of a password as %23")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ValueError("`schema` has up to 40 small letters, digits and `_`")
    if unknown := sorted(set(options) - _OPTIONS):
        known = ", ".join(sorted({*_OPTIONS, "schema"}))
        raise ValueError(f"`{unknown[0][:40]}` is no parameter of the URL: {known}")
    return PostgresUrl(
        host=unquote(url.hostname or ""),
        port=port,
        name=unquote(url.path.removeprefix("/")),
        user=unquote(url.username or ""),
        password=SecretStr(unquote(url.password or "")),
        schema=schema,
        options=tuple(sorted(options.items())),
    )
