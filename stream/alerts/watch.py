"""The alert rules in force, kept up to date with their file.

Invariant: all or nothing. `rules` is always a whole set that loaded without a mistake; after a
change with a mistake in it the one before stays in force and `error` says what is wrong.
"""

from __future__ import annotations

import time
from pathlib import Path

from stream.alerts.load import load_rules, rules_path
from stream.alerts.rules import RuleSet
from stream.errors import TidegateError


class RulesWatch:
    """Loads alert rules and loads them again when their file changed; for use from one thread.

    Args:
        path: the file; None: where `rules_path` finds one, at every look.
        reload_s: setting `alerts.reload_s`, the least time between two looks.

    Raises:
        ConfigError: the file cannot be read.
        PolicyError: with every mistake in it.
    """

    def __init__(self, path: Path | None = None, *, reload_s: float = 2.0) -> None:
        self._path = path
        self._reload_s = reload_s
        # Read before it is loaded: a change in between is seen next time.
        self._seen = self._contents()
        self.rules: RuleSet = load_rules(path)
        self.error: TidegateError | None = None
        self._next_s = time.monotonic() + reload_s

    def poll(self) -> bool:
        """Look at the file if `reload_s` has passed since the last look: are the rules others?"""
        if time.monotonic() < self._next_s:
            return False
        self._next_s = time.monotonic() + self._reload_s
        contents = self._contents()
        if contents == self._seen:
            return False
        self._seen = contents
        try:
            rules = load_rules(self._path)
        except TidegateError as error:
            self.error = error
            return False
        self.error = None
        # A changed comment, or a file put back after a mistake, is no other rule.
        changed, self.rules = rules != self.rules, rules
        return changed

    def _contents(self) -> tuple[Path, bytes | int]:
        path = rules_path(self._path)
        try:
            return path, path.read_bytes()
        except OSError as exc:
            return path, exc.errno or 0
