"""The policy in force, kept up to date with its files.

Invariant: all or nothing. `policy` is always a whole policy that loaded without a mistake; after
a change with a mistake in it the one before stays in force and `error` says what is wrong.
"""

from __future__ import annotations

from pathlib import Path

from stream.errors import PolicyError
from stream.policy.engine import Policy


class PolicyWatch:
    """Loads a policy and loads it again when a file of it changed; for use from any thread.

    Args:
        path: file or folder; None: `config/policy.yaml`, else the bundled starter pack.
        reload_s: setting `policy.reload_s`, the least time between two looks at the files.

    Raises:
        PolicyError: there is no policy to begin with.
    """

    policy: Policy
    error: PolicyError | None

    def __init__(self, path: Path | None, *, reload_s: float = 2.0) -> None:
        raise NotImplementedError

    def poll(self) -> bool:
        """Look at the files if `reload_s` has passed since the last look: is the policy another?

        Call it once per batch; between looks it costs a clock reading. It blocks while files are
        read and compiled (tens of milliseconds); `asyncio.to_thread(watch.poll)` where that hurts.
        """
        raise NotImplementedError
