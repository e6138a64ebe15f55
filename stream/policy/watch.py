"""The policy in force, kept up to date with its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stream.errors import PolicyError
from stream.file_watch import FileWatch
from stream.policy.engine import Policy
from stream.policy.load import load, policy_files, policy_path


class PolicyWatch(FileWatch[Policy]):
    """Loads a policy and loads it again when a file of it changed; for use from any thread.

    Args:
        path: file or folder; None: `config/policy.yaml`, else the bundled starter pack.
        reload_s: setting `policy.reload_s`, the least time between two looks at the files.

    Raises:
        PolicyError: there is no policy to begin with.
    """

    def __init__(self, path: Path | None = None, *, reload_s: float = 2.0) -> None:
        self._path = path
        super().__init__(reload_s)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.loaded

    def _load(self) -> tuple[Policy, tuple[Path, ...]]:
        found = load(self._path)
        return found.policy, found.files

    def _named(self) -> Iterable[Path]:
        try:
            return policy_files(policy_path(self._path))
        except (OSError, PolicyError):
            return ()

    def _is_other(self, loaded: Policy) -> bool:
        # After a mistake the one that mended it is told, whichever it is.
        return loaded.version != self.policy.version or self.error is not None
