"""The metrics that rules still look at: `Windows`, and which groups came lately."""

from __future__ import annotations

from collections.abc import Iterable

from stream.aggregates.merge import WindowKey, Windows
from stream.outcomes import Metric


class Store(Windows):
    """Windows that know their newest groups without looking at all of them.

    Args:
        wanted: the (width, by) that any rule reads; other metrics are not kept.
    """

    def __init__(self, wanted: Iterable[tuple[int, str]]) -> None:
        super().__init__()
        self._wanted = frozenset(wanted)
        self._newest: dict[tuple[int, str], dict[str, int]] = {key: {} for key in self._wanted}

    def wants(self, metric: Metric) -> bool:
        """Whether any rule reads it."""
        return (metric.width_s, metric.by) in self._wanted

    def add(self, metric: Metric) -> WindowKey | None:
        """As `Windows.add`; None also for a metric that no rule reads."""
        if not self.wants(metric):
            return None
        newest = self._newest[metric.width_s, metric.by]
        newest[metric.group] = max(metric.start, newest.get(metric.group, metric.start))
        return super().add(metric)

    def groups_since(self, width_s: int, by: str, since: int) -> list[str]:
        """The groups with a window that begins at or after `since`, in no order."""
        newest = self._newest.get((width_s, by), {})
        return [group for group, start in newest.items() if start >= since]

    @property
    def empty(self) -> bool:
        """Whether every window is forgotten."""
        return not any(self._newest.values())

    def forget(self, before: int) -> None:
        """As `Windows.forget`."""
        super().forget(before)
        for (width_s, _), newest in self._newest.items():
            for group in [g for g, start in newest.items() if start + width_s <= before]:
                del newest[group]
