"""Processes that may end at any moment, looked at and killed without a race."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill -9 of each, in their order, of those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def family_of(pid: int) -> list[psutil.Process]:
    """A process, and behind it everything that it started; empty when it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
