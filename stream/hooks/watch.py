"""The targets in force, kept up to date with their file and the files of their secrets.

Invariant: every enabled target in `loaded` could be started as it stands there; two that are equal
need not be told apart by whoever runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stream.file_watch import FileWatch
from stream.hooks.credentials import Credentials, credentials_of
from stream.hooks.load import DEFAULT_PATH, load_targets
from stream.hooks.senders import sender_of
from stream.hooks.targets import Target
from stream.settings import HookSettings


@dataclass(frozen=True, slots=True)
class Ready:
    """An enabled target with all that it needs."""

    target: Target
    credentials: Credentials
    #: The certificate of its own authority.
    authority: bytes


class TargetsWatch(FileWatch[Mapping[str, Ready]]):
    """Loads the targets and loads them again when a file of them changed; by name, those enabled.

    Args:
        settings: the section `hooks`.

    Raises:
        ConfigError: the file has mistakes, or a secret is missing.
    """

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        super().__init__(settings.reload_s)

    def _load(self) -> tuple[Mapping[str, Ready], tuple[Path, ...]]:
        found: dict[str, Ready] = {}
        files: list[Path] = []
        for name, target in load_targets(self._settings).items():
            if not target.enabled:
                continue
            # It is made to see what is wrong with it; nothing is connected before it sends.
            sender_of(name, target, allow_private=self._settings.allow_private)
            authority = getattr(target, "ca_file", None)
            files += _files_of(target)
            found[name] = Ready(
                target,
                credentials_of(name, target),
                b"" if authority is None else _content_of(Path(authority)),
            )
        return found, tuple(dict.fromkeys(files))

    def _named(self) -> Iterable[Path]:
        return (self._settings.path or DEFAULT_PATH,)

    def _is_other(self, loaded: Mapping[str, Ready]) -> bool:
        return loaded != self.loaded


def _content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it was there a moment ago: the next look says what is wrong
        return b""


def _files_of(target: Target) -> list[Path]:
    """What a target reads beside the file it stands in."""
    found: list[Path] = []
    for field in target.__struct_fields__:
        given = getattr(target, field)
        if field.endswith("_file") and given:
            names = [given] if isinstance(given, str) else given
            found += [Path(name).expanduser() for name in names]
    return found
