"""What has been published already: the `alerts` topic, which has the last word.

Whatever is computed again after a crash, for the time up to a group's last published record the
record stands. So an episode is published once even where metrics arrive in another order the
second time, and a record that was sent and never confirmed is not sent again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from stream.alerts.reading import group_of
from stream.alerts.state import Standing
from stream.outcomes import QUOTA_PREFIX, Alert
from stream.records import rfc3339
from stream.times import timestamp_ms


def moment(at: str) -> int:
    """Seconds since the epoch of a time as records have it."""
    return timestamp_ms(at) // 1000


def written(at: int) -> str:
    """A tick as records have it."""
    return rfc3339(at * 1000)


#: Which of the two clocks an alert is on: that of the metrics, or that of the pipeline.
Clock = Literal["metrics", "pipeline"]


def clock_of(kind: str) -> Clock:
    """The clock that a kind of rule is evaluated on."""
    return "pipeline" if kind == "pipeline" else "metrics"


class History:
    """Published alerts by rule and group, to be followed tick by tick.

    Tests, and the quotas' alerts, which the role `decide` fires and resolves, are none of ours.
    """

    def __init__(self, alerts: Iterable[Alert] = ()) -> None:
        self._last: dict[tuple[str, str], int] = {}
        self._ahead: dict[Clock, dict[int, list[Alert]]] = {
            "metrics": defaultdict(list),
            "pipeline": defaultdict(list),
        }
        #: By id, the record with which an episode that is still open fired.
        self.published: dict[str, Alert] = {}
        for alert in alerts:
            if alert.test or alert.rule.startswith(QUOTA_PREFIX):
                continue
            at, key = moment(alert.at), (alert.rule, group_of(alert.group))
            self._last[key] = max(at, self._last.get(key, at))
            self._ahead[clock_of(alert.kind)][at].append(alert)
            if alert.state == "firing":
                self.published[alert.alert_id] = alert
            else:
                self.published.pop(alert.alert_id, None)

    def decided(self, key: tuple[str, str], tick: int) -> bool:
        """Whether what happens to the group at this tick has been published."""
        return tick <= self._last.get(key, tick - 1)

    def follow(
        self, standings: dict[tuple[str, str], Standing], clock: Clock, since: int, tick: int
    ) -> None:
        """Bring a clock's standings to what was published after `since`, up to and with `tick`."""
        ahead = self._ahead[clock]
        if not ahead:
            return
        for at in sorted(at for at in ahead if at <= tick):
            for alert in ahead.pop(at):
                if at > since:
                    _apply(standings, alert, at)


def _apply(standings: dict[tuple[str, str], Standing], alert: Alert, at: int) -> None:
    standing = standings.setdefault((alert.rule, group_of(alert.group)), Standing())
    if alert.state == "firing":
        standing.alert_id = alert.alert_id
        standing.started = moment(alert.started_at)
        standing.seen = alert.observed
        standing.clear_since = None
        standing.shared = False
    elif standing.alert_id in (alert.alert_id, None):
        standing.alert_id = standing.breach_since = standing.clear_since = None
        standing.resolved_at = at
