"""The demo's webhook: a target in a file of its own, and the receiver behind it.

What arrives here has gone the whole way: a rule matched or an alert fired, the record was signed
and delivered, and the signature was verified.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from stream.hooks.receiver import Receiver
from stream.settings import ENV_PREFIX

#: The variable with the signing key; the file names it and never holds the key.
KEY_VARIABLE: Final = "DEMO_HOOK_KEY"
_PATH_VARIABLE: Final = f"{ENV_PREFIX}HOOKS__PATH"
_TARGETS: Final = """\
# Written by `tidegate demo`: every decision that is no `allow`, and every alert, to this machine.
targets:
  demo:
    type: webhook
    url: {url}
    secret_env: {variable}
    allow_private: true
"""


class HookResult(msgspec.Struct, kw_only=True):
    """What the receiver counted; every message once, signatures verified."""

    decisions: int
    actions: dict[str, int]
    alerts_fired: int
    alerts_resolved: int
    repeated: int
    refused: int


class DemoHook:
    """The receiver's side of the demo.

    Args:
        receiver: listening.
        folder: where the targets' file goes.
    """

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._receiver = receiver
        self._decisions = 0
        self._firing: dict[str, str] = {}
        file = folder / "hooks.yaml"
        file.write_text(_TARGETS.format(url=receiver.url, variable=KEY_VARIABLE), "utf-8")
        self.environ = {_PATH_VARIABLE: str(file), KEY_VARIABLE: receiver.key}

    @staticmethod
    def wanted() -> bool:
        """Not where the user has targets: then theirs get what the demo decides."""
        return _PATH_VARIABLE not in os.environ

    @property
    def firing(self) -> int:
        """Alerts that fire now."""
        return len(self._receiver.account.firing)

    def news(self) -> Iterator[tuple[str, str, str]]:
        """What has happened since the last call: a word, what belongs to it, a colour."""
        account = self._receiver.account
        if account.decisions and not self._decisions:
            actions = ", ".join(account.actions)
            yield (
                "decision",
                f"{actions}: the first of many, signed, at {self._receiver.url}",
                "cyan",
            )
        self._decisions = account.decisions
        for alert, rule in account.firing.items():
            if alert not in self._firing:
                yield "alert", f"{rule} fires", "red"
        for alert, rule in self._firing.items():
            if alert not in account.firing:
                yield "alert", f"{rule} is over", "green"
        self._firing = dict(account.firing)

    @property
    def result(self) -> HookResult:
        """The account at the end."""
        account = self._receiver.account
        return HookResult(
            decisions=account.decisions,
            actions=dict(account.actions),
            alerts_fired=account.fired,
            alerts_resolved=account.resolved,
            repeated=account.repeated,
            refused=account.refused,
        )
