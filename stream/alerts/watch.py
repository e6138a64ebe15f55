"""The alert rules in force, kept up to date with their file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stream.alerts.load import load_rules, rules_path
from stream.alerts.rules import RuleSet
from stream.file_watch import FileWatch


class RulesWatch(FileWatch[RuleSet]):
    """Loads alert rules and loads them again when their file changed; for use from any thread.

    Args:
        path: the file; None: where `rules_path` finds one, at every look.
        reload_s: setting `alerts.reload_s`, the least time between two looks.

    Raises:
        ConfigError: the file cannot be read.
        PolicyError: with every mistake in it.
    """

    def __init__(self, path: Path | None = None, *, reload_s: float = 2.0) -> None:
        self._path = path
        super().__init__(reload_s)

    @property
    def rules(self) -> RuleSet:
        """The rules in force."""
        return self.loaded

    def _load(self) -> tuple[RuleSet, tuple[Path, ...]]:
        return load_rules(self._path), (rules_path(self._path),)

    def _named(self) -> Iterable[Path]:
        return (rules_path(self._path),)

    def _is_other(self, loaded: RuleSet) -> bool:
        # A changed comment, or a file put back after a mistake, is no other rule.
        return loaded != self.rules
