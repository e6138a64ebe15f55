"""What can go wrong with the read model; a branch of the tree in `stream.errors`."""

from __future__ import annotations

from stream.errors import TidegateError


class ReadModelError(TidegateError):
    """The read model's file cannot be used: locked, newer than we are, disk full, not ours."""
