"""Saving a policy: tried as a whole, compared, noted in the audit, then put in place at once.

Invariant: a file is replaced only by a text that loads without a mistake, that was made from what
is in the file now, and whose change the audit already holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.actions import note_event
from dashboard.people import Person, Role, needs
from dashboard.writer import Writer
from stream.errors import ConfigError, PolicyError
from stream.policy import Policy
from stream.policy.diagnostics import Diagnostic
from stream.policy.difference import Change, difference
from stream.policy.load import LOCAL, load, policy_files, policy_path

SAVED = "rule.save"
PROMOTED = "rule.mode"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file of the policy as it was read; `target` is where a change of it is saved."""

    path: Path
    target: Path
    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What an edited text would be: a policy with its changes, or the mistakes in it."""

    policy: Policy | None
    changes: tuple[Change, ...]
    mistakes: str = ""
    #: The lines of the edited file that mistakes are on.
    lines: tuple[int, ...] = ()


def files_of(path: Path | None) -> list[PolicyFile]:
    """The files of the policy in force; `path` is the setting.

    The starter pack is nobody's to change: what is made of it is saved as `config/policy.yaml`.

    Raises:
        PolicyError: there is none, or it cannot be read.
    """
    root = policy_path(path)
    own = path is not None or root == LOCAL
    return [_read(each, each if own else LOCAL) for each in policy_files(root)]


def trial(path: Path | None, file: PolicyFile, text: str, now: Policy) -> Trial:
    """The edited text as part of the whole policy, compared with the one in force."""
    try:
        policy = load(policy_path(path), edited={file.path: text}).policy
    except PolicyError as error:
        found = [each for each in error.diagnostics if isinstance(each, Diagnostic)]
        lines = dict.fromkeys(each.line for each in found if each.file == str(file.path))
        return Trial(None, (), error.rendered or str(error), tuple(lines))
    return Trial(policy, tuple(difference(now, policy)))


@needs(Role.ADMIN)
def save(
    person: Person,
    writer: Writer,
    file: PolicyFile,
    text: str,
    now_ms: int,
    *,
    setting: Path | None,
) -> tuple[Change, ...]:
    """Put the text in place of the file; workers take it up within five seconds.

    Raises:
        NotAllowedError: the role is not enough.
        PolicyError: there are mistakes in it.
        ConfigError: the file is another by now, nothing changed, or it cannot be written.
        DeliveryError: the audit could not be written; the file is as it was.
    """
    root = policy_path(setting)
    if _digest(file.path) != file.digest:
        raise ConfigError(
            f"`{file.path}` was changed by somebody else meanwhile",
            hint="read it again, and make your change in what is there now",
        )
    before = load(root).policy
    after = load(root, edited={file.path: text}).policy
    changes = tuple(difference(before, after))
    if text == file.text:
        raise ConfigError("nothing was changed")
    for on, detail in _events(changes, before, after, file):
        note_event(person, writer, SAVED, on, now_ms, detail=detail)
    try:
        _replace(file.target, text)
    except OSError as exc:
        note_event(person, writer, "rule.save-failed", str(file.target), now_ms)
        raise ConfigError(
            f"`{file.target}` cannot be written: {(exc.strerror or str(exc)).lower()}",
            hint="the rules are as they were; may the dashboard's user write there?",
        ) from exc
    return changes


def _events(
    changes: tuple[Change, ...], before: Policy, after: Policy, file: PolicyFile
) -> list[tuple[str, dict[str, Any]]]:
    """(subject, detail) of what the audit is told: one event for each rule or list."""
    common = {"policy_before": before.version, "policy": after.version, "file": file.target.name}
    if not changes:
        return [("policy", {**common, "change": "comments, tests or descriptions"})]
    return [
        (
            change.id,
            {
                **common,
                "change": f"{change.what} {change.kind}",
                "fields": [
                    {"field": f.field, "before": f.old, "after": f.new} for f in change.fields[:20]
                ],
            },
        )
        for change in changes
    ]


def _read(path: Path, target: Path) -> PolicyFile:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyError(f"cannot read `{path}`: {exc}") from exc
    return PolicyFile(path, target, text, hashlib.sha256(data).hexdigest())


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _replace(target: Path, text: str) -> None:
    """All or nothing, also when the power fails; who may read it stays as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileNotFoundError):
            Path(name).chmod(target.stat().st_mode & 0o777)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
