"""From files to a policy: every mistake found in one run, none of them half applied."""

from __future__ import annotations

from pathlib import Path

from stream.policy.engine import Policy


def load_policy(path: Path | None = None) -> Policy:
    """The policy in a file or a folder of `*.yaml`; None: where `policy_path` finds one.

    Raises:
        PolicyError: with every mistake in the files.
    """
    raise NotImplementedError
