"""The policy in force, kept up to date with its files.

Invariant: all or nothing. `policy` is always a whole policy that loaded without a mistake; after
a change with a mistake in it the one before stays in force and `error` says what is wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from stream.errors import PolicyError
from stream.policy.engine import Policy
from stream.policy.load import load, policy_files, policy_path


class PolicyWatch:
    """Loads a policy and loads it again when a file of it changed; for use from any thread.

    Args:
        path: file or folder; None: `config/policy.yaml`, else the bundled starter pack.
        reload_s: setting `policy.reload_s`, the least time between two looks at the files.

    Raises:
        PolicyError: there is no policy to begin with.
    """

    def __init__(self, path: Path | None = None, *, reload_s: float = 2.0) -> None:
        self._path = path
        self._reload_s = reload_s
        self._lock = threading.Lock()
        self._seen = b""
        self._files: tuple[Path, ...] = ()
        self.error: PolicyError | None = None
        # The contents are read before they are compiled: a change in between is seen next time.
        self._seen = self._contents()
        loaded = load(path)
        self.policy: Policy = loaded.policy
        self._files = loaded.files
        self._seen = self._contents()
        self._next_s = time.monotonic() + reload_s

    def poll(self) -> bool:
        """Look at the files if `reload_s` has passed since the last look: is the policy another?

        Call it once per batch; between looks it costs a clock reading. It blocks while files are
        read and compiled (tens of milliseconds); `asyncio.to_thread(watch.poll)` where that hurts.
        """
        if time.monotonic() < self._next_s or not self._lock.acquire(blocking=False):
            return False
        try:
            self._next_s = time.monotonic() + self._reload_s
            return self._look()
        finally:
            self._lock.release()

    def _look(self) -> bool:
        contents = self._contents()
        # While there is a mistake what would mend it may be a file that no policy names yet.
        if contents == self._seen and self.error is None:
            return False
        try:
            loaded = load(self._path)
        except PolicyError as error:
            self._seen = contents
            if self.error is None or str(error) != str(self.error):
                self.error = error
            return False
        changed = loaded.policy.version != self.policy.version or self.error is not None
        self.error = None
        self._files = loaded.files
        # Also where only a description or a test changed: line numbers are new.
        self.policy = loaded.policy
        self._seen = contents
        return changed

    def _contents(self) -> bytes:
        digest = blake2b()
        for path in self._all_files():
            digest.update(str(path).encode())
            try:
                digest.update(path.read_bytes())
            except OSError as exc:
                digest.update(str(exc.errno).encode())
        return digest.digest()

    def _all_files(self) -> Iterable[Path]:
        try:
            found = policy_files(policy_path(self._path))
        except (OSError, PolicyError):
            found = []
        return dict.fromkeys([*found, *self._files])
