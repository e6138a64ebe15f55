"""What is installed, by the names of the package index."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str | None:
    """Its installed version; None where it is not installed, as ours in a bare checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
