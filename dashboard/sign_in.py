"""Signing in: who must, how, and as whom. No Streamlit here: `dashboard.signed_in` has the page.

Invariant: what can be reached from other machines is never without sign-in, whatever is set; a
password is kept as scrypt's hash and nothing else, and a wrong name costs as long as a wrong
password.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import hmac
import importlib.util
import json
import os
import secrets
import tempfile
import threading
import time
import tomllib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from dashboard.errors import SignInError
from dashboard.people import Person, Role
from dashboard.process import is_loopback
from stream.errors import ConfigError, MissingExtraError
from stream.settings import DashboardSettings

Mode = Literal["off", "users", "oidc"]

#: scrypt's cost: 2^15 * 8 * 128 bytes = 32 MiB and about 0.1 s a try (RFC 7914).
_N, _R, _P = 2**15, 8, 1
_MAX_MEMORY: Final = 64 * 1024 * 1024
MIN_PASSWORD_CHARS: Final = 10
MAX_PASSWORD_CHARS: Final = 256
MAX_NAME_CHARS: Final = 64
#: So many wrong passwords for a name, or for all names together, in the window: then wait.
MAX_FAILURES: Final = 5
MAX_FAILURES_OF_ALL: Final = 50
WINDOW_S: Final = 300.0
_OIDC_KEYS: Final = (
    "redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class User:
    """A named user, as the users' file has them."""

    name: str
    role: Role
    password: str


def sign_in_mode(settings: DashboardSettings, *, secrets_file: Path | None = None) -> Mode:
    """How people sign in with these settings.

    Args:
        settings: the dashboard's.
        secrets_file: Streamlit's secrets; default: where Streamlit looks for them.

    Raises:
        ConfigError: sign-in is required here and not set up, or half of it.
        MissingExtraError: what OIDC needs is not installed.
    """
    local = is_loopback(settings.host)
    wanted = settings.sign_in
    if wanted == "oidc" or (wanted == "auto" and not local and oidc_problem(secrets_file) is None):
        problem = oidc_problem(secrets_file)
        if problem is not None:
            raise ConfigError(f"sign-in with OIDC is not set up: {problem}", hint=_OIDC_HINT)
        if not settings.oidc_roles:
            raise ConfigError(
                "nobody may do anything: `dashboard.oidc_roles` is empty",
                hint="TIDEGATE_DASHBOARD__OIDC_ROLES='ann@example.org=admin, *@example.org=viewer'",
            )
        parse_oidc_roles(settings.oidc_roles)
        if importlib.util.find_spec("authlib") is None:
            raise MissingExtraError(
                "sign-in with OIDC is not installed: no `authlib`",
                hint="pip install 'tidegate[dashboard]'",
            )
        return "oidc"
    users = load_users(settings.users)
    if wanted == "users" or (wanted == "auto" and (users or not local)):
        if not users:
            raise ConfigError(
                f"`{settings.host}` can be reached from other machines, and nobody can sign in yet"
                if not local
                else "sign-in is required, and nobody can sign in yet",
                hint="`tidegate dashboard add-user NAME --role admin` makes the first user; "
                "docs/dashboard.md says how to use OIDC",
            )
        return "users"
    if not local:
        raise ConfigError(
            f"`{settings.host}` can be reached from other machines: sign-in cannot be off there",
            hint="`tidegate dashboard add-user NAME --role admin`, and `dashboard.sign_in` auto; "
            "or listen on 127.0.0.1 and use an SSH tunnel",
        )
    return "off"


_OIDC_HINT: Final = (
    "write [auth] with redirect_uri, cookie_secret, client_id, client_secret and "
    "server_metadata_url into .streamlit/secrets.toml"
)


def oidc_problem(secrets_file: Path | None = None) -> str | None:
    """What is missing in Streamlit's secrets for `st.login`; None: nothing."""
    places = (
        [secrets_file]
        if secrets_file is not None
        else [Path.home() / ".streamlit/secrets.toml", Path(".streamlit/secrets.toml")]
    )
    auth: dict[str, Any] = {}
    found = False
    for place in places:
        try:
            auth.update(tomllib.loads(place.read_text("utf-8")).get("auth", {}))
            found = True
        except FileNotFoundError:
            continue
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            return f"`{place}` cannot be read as TOML"
    if not found:
        return "there is no .streamlit/secrets.toml"
    missing = [key for key in _OIDC_KEYS if not auth.get(key)]
    return f"`auth.{missing[0]}` is missing in the secrets" if missing else None


def parse_oidc_roles(text: str) -> list[tuple[str, Role]]:
    """Patterns of addresses with their roles, in order.

    Raises:
        ConfigError: it does not read `pattern=role, pattern=role`.
    """
    found = []
    for part in text.split(","):
        pattern, equals, role = part.strip().rpartition("=")
        if not equals or role not in list(Role) or not pattern:
            raise ConfigError(
                f"`{part.strip()}` in `dashboard.oidc_roles` is not `address=role`",
                hint=f"roles are {', '.join(Role)}; an address may be *@example.org",
            )
        found.append((pattern.casefold(), Role(role)))
    return found


def oidc_person(address: str | None, verified: object, roles: str, secret: bytes) -> Person | None:
    """Who signed in with OIDC; None: their address has no role, or the provider doubts it."""
    if not address or verified in (False, "false"):
        return None
    folded = address.casefold()
    for pattern, role in parse_oidc_roles(roles):
        if fnmatch.fnmatchcase(folded, pattern):
            return Person(address, role, pseudonym(folded, secret))
    return None


def load_users(path: Path) -> dict[str, User]:
    """The named users; none where there is no file.

    Raises:
        ConfigError: the file is not ours, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                "the users' file can be read by others", where=str(path), hint=f"chmod 600 {path}"
            )
        data = json.loads(path.read_text("utf-8"))
        return {
            name: User(name, Role(user["role"]), user["password"])
            for name, user in data["users"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError("the users' file cannot be read", where=str(path)) from exc


def save_user(path: Path, name: str, role: Role, password: str) -> None:
    """Add a named user, or give one another role and password.

    Raises:
        ConfigError: the name or the password cannot be used, or the file cannot be written.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise ConfigError(f"a user's name has 1 to {MAX_NAME_CHARS} printable characters")
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise ConfigError(
            f"the password has {len(password)} characters, not {MIN_PASSWORD_CHARS} to "
            f"{MAX_PASSWORD_CHARS}",
            hint="three or four unrelated words are easy to type and hard to guess",
        )
    users = load_users(path)
    users[name] = User(name, role, hashed(password))
    _write_users(path, users)


def remove_user(path: Path, name: str) -> None:
    """Take a named user away; who is signed in is out with the next click.

    Raises:
        ConfigError: there is no such user.
    """
    users = load_users(path)
    if users.pop(name, None) is None:
        raise ConfigError(f"there is no user `{name}`", where=str(path))
    _write_users(path, users)


def hashed(password: str) -> str:
    """A password as it is kept: `scrypt$n$r$p$salt$hash`."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _N, _R, _P).hex()}"


def fits(password: str, kept: str) -> bool:
    """Whether it is the password that was kept."""
    try:
        kind, n, r, p, salt, digest = kept.split("$")
        if kind != "scrypt":
            return False
        found = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
        return hmac.compare_digest(found, bytes.fromhex(digest))
    except ValueError:
        return False


def pseudonym(name: str, secret: bytes) -> str:
    """What topics and audit call a person: the same for good, and not to be guessed back."""
    return f"p-{hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()[:12]}"


def installation_secret(users: Path) -> bytes:
    """The secret behind pseudonyms, made once, beside the users' file.

    Raises:
        ConfigError: it cannot be read or written.
    """
    path = users.with_name("installation-secret")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _write_new(path, secrets.token_hex(32))
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as exc:
        raise ConfigError("the installation's secret cannot be used", where=str(path)) from exc
    if len(secret) < 16:
        raise ConfigError("the installation's secret is too short", where=str(path))
    return secret


class Gate:
    """Checks names and passwords; one per process, for all threads.

    Args:
        users: the users' file.
        clock: seconds that only go forward.
    """

    def __init__(self, users: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, deque[float]] = {}
        self._nobody = hashed(secrets.token_hex(16))

    def enter(self, name: str, password: str) -> Person:
        """The person.

        Raises:
            SignInError: name and password do not fit, or too many did not.
            ConfigError: the users' file cannot be read.
        """
        with self._lock:
            self._check(name)
            # Counted before it is known: many tries at once are as many as one after the other.
            self._failed(name)
        user = load_users(self._users).get(name)
        right = fits(password[: MAX_PASSWORD_CHARS + 1], user.password if user else self._nobody)
        if user is None or not right:
            raise SignInError("name and password do not fit")
        with self._lock:
            self._failures.pop(name, None)
            if self._failures.get(""):
                self._failures[""].pop()
        return Person(name, user.role, pseudonym(name, installation_secret(self._users)))

    def person(self, name: str) -> Person | None:
        """Somebody who signed in before, as the file has them now; None: not any more."""
        user = load_users(self._users).get(name)
        if user is None:
            return None
        return Person(name, user.role, pseudonym(name, installation_secret(self._users)))

    def _check(self, name: str) -> None:
        now = self._clock()
        for who, most in ((name, MAX_FAILURES), ("", MAX_FAILURES_OF_ALL)):
            failures = self._failures.get(who, deque())
            while failures and failures[0] <= now - WINDOW_S:
                failures.popleft()
            if not failures:
                self._failures.pop(who, None)
            elif len(failures) >= most:
                wait_s = failures[0] + WINDOW_S - now
                raise SignInError(
                    "too many attempts", hint=f"try again in {max(1, round(wait_s / 60))} min"
                )

    def _failed(self, name: str) -> None:
        for who in (name, ""):
            self._failures.setdefault(who, deque()).append(self._clock())


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # A typed accent may be one character or two: the same password either way.
    import unicodedata

    text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _write_users(path: Path, users: dict[str, User]) -> None:
    data = {
        "users": {u.name: {"role": u.role.value, "password": u.password} for u in users.values()}
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1, sort_keys=True, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise ConfigError(
            f"the users' file cannot be written: {exc.strerror}", where=str(path)
        ) from exc


def _write_new(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
