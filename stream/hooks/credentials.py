"""Secrets of targets: read from the environment or a file when needed, and never shown.

The invariant: no text that leaves this package (a log, an error, the delivery log, `hooks list`)
holds a secret; `Credentials.masked` is the last thing that happens to each.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from stream.errors import ConfigError
from stream.hooks.targets import (
    Alertmanager,
    CloudEvents,
    Email,
    HttpTarget,
    PagerDuty,
    Target,
    Webhook,
)

_MASK: Final = "***"
#: Standard Webhooks asks for 24 to 64 bytes.
_KEY_BYTES: Final = range(24, 65)
#: Shorter pieces of a URL's path are words such as `api`, no secrets.
_SECRET_PART_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a target needs to be reached; its `repr` shows nothing of it."""

    url: str | None = field(default=None, repr=False)
    #: Keys that sign: the one in use, and those that are still or already accepted.
    keys: tuple[str, ...] = field(default=(), repr=False)
    #: A bearer token, a routing key or a password.
    token: str | None = field(default=None, repr=False)
    #: Values of headers that the file sets.
    headers: tuple[str, ...] = field(default=(), repr=False)

    def masked(self, text: str) -> str:
        """The text without any secret that may stand in it."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return text

    def _secrets(self) -> set[str]:
        found = {*self.keys, *(key.removeprefix("whsec_") for key in self.keys), *self.headers}
        if self.token:
            found |= {self.token, quote(self.token, safe="")}
        if self.url:
            parts = urlsplit(self.url)
            found |= {self.url, parts.password or "", parts.username or ""}
            tail = f"{parts.path}?{parts.query}" if parts.query else parts.path
            found |= {tail, parts.query}
            found |= {p for p in parts.path.split("/") if len(p) >= _SECRET_PART_CHARS}
            found |= {unquote(each) for each in list(found)}
        return {secret for secret in found if len(secret) > 3}


def shown_url(url: str) -> str:
    """A URL as it may be shown: scheme and host. Paths and queries of webhooks are secrets."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return _MASK
    if not host:
        return _MASK
    host = f"[{host}]" if ":" in host else host
    end = "/" if parts.path in ("", "/") and not parts.query else "/…"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{end}"


def credentials_of(
    name: str, target: Target, environ: Mapping[str, str] | None = None
) -> Credentials:
    """Read a target's secrets.

    Raises:
        ConfigError: one is not there, or is not what it should be.
    """
    reader = _Reader(name, os.environ if environ is None else environ)
    url: str | None = None
    token: str | None = None
    keys: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    if isinstance(target, HttpTarget):
        url = target.url
        # What names a secret wins: `url` may be the kind's default.
        if target.url_env or target.url_file:
            url = reader.one("url", target.url_env, target.url_file)
        headers = tuple(target.headers.values())
    if isinstance(target, Webhook):
        keys = tuple(reader.all("secret", target.secret_env, target.secret_file))
        for key in keys:
            reader.check_key(key)
    if isinstance(target, PagerDuty):
        token = reader.one("routing_key", target.routing_key_env, target.routing_key_file)
    elif isinstance(target, Alertmanager | CloudEvents):
        token = reader.one("token", target.token_env, target.token_file)
    elif isinstance(target, Email):
        token = reader.one("password", target.password_env, target.password_file)
    return Credentials(url, keys, token, headers)


class _Reader:
    def __init__(self, target: str, environ: Mapping[str, str]) -> None:
        self._target = target
        self._environ = environ

    def one(self, what: str, env: str | None, file: str | None) -> str | None:
        """The secret, where one of the two is given."""
        return next(self.all(what, env, file), None)

    def all(
        self, what: str, env: list[str] | str | None, file: list[str] | str | None
    ) -> Iterator[str]:
        """Every secret that is named, environment first."""
        for variable in [env] if isinstance(env, str) else env or []:
            value = self._environ.get(variable, "").strip()
            if not value:
                raise ConfigError(
                    f"`{what}_env` names `{variable}`, and that variable is not set",
                    where=f"hook `{self._target}`",
                    hint=f"export {variable}=..., or name a file with `{what}_file`",
                )
            yield value
        for path in [file] if isinstance(file, str) else file or []:
            yield self._from_file(what, Path(path).expanduser())

    def _from_file(self, what: str, path: Path) -> str:
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
            raise ConfigError(
                f"`{what}_file` cannot be read: {str(reason).lower()}",
                where=f"hook `{self._target}`: {path}",
            ) from exc
        if not value:
            raise ConfigError(f"`{what}_file` is empty", where=f"hook `{self._target}`: {path}")
        return value

    def check_key(self, key: str) -> None:
        """A key of Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes."""
        hint = "`tidegate hooks new-key` makes one"
        try:
            raw = base64.b64decode(key.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not key.startswith("whsec_") or not raw:
            raise ConfigError(
                "a signing key is not `whsec_` and base64",
                where=f"hook `{self._target}`",
                hint=hint,
            )
        if len(raw) not in _KEY_BYTES:
            raise ConfigError(
                f"a signing key has {len(raw)} bytes, not 24 to 64",
                where=f"hook `{self._target}`",
                hint=hint,
            )
