"""What an alert rule says, once the file has been read and checked.

Invariant: a rule is data and never changes; what becomes of it depends on metrics and on these
fields alone. All spans of time are whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from stream.aggregates.merge import WIDTHS_S, By
from stream.outcomes import Severity

#: Rules are evaluated every so often, on the clock of the metrics: their narrowest window.
TICK_S: Final = WIDTHS_S[0]
#: More windows than this are not added up for one value: a wider kind of window is read instead.
_MOST_WINDOWS: Final = 60

Kind = Literal["threshold", "change", "silence", "pipeline", "new-term"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Measure(StrEnum):
    """What a threshold looks at: a number of one window and group."""

    POSTS = "posts"
    AUTHORS = "authors"
    TOXIC = "toxic"
    TOXICITY_RATE = "toxicity_rate"
    NEGATIVE_RATE = "negative_rate"
    NET_SENTIMENT = "net_sentiment"
    UNSUPPORTED_RATE = "unsupported_rate"
    STRONG_ACTION_RATE = "strong_action_rate"
    POSTS_PER_AUTHOR = "posts_per_author"


#: Shares between 0 and 1, written in per cent.
RATES: Final = frozenset(
    {
        Measure.TOXICITY_RATE,
        Measure.NEGATIVE_RATE,
        Measure.UNSUPPORTED_RATE,
        Measure.STRONG_ACTION_RATE,
    }
)


class PipelineMeasure(StrEnum):
    """What a pipeline rule looks at: the machinery and not the posts."""

    LAG = "lag"
    DEAD_LETTER_RATE = "dead_letter_rate"
    QUOTA_TRIPPED = "quota_tripped"


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which nothing fires, on the wall clock of a time zone; `begin` may be after `end`.

    `unless` is the severity from which a rule fires all the same.
    """

    begin: time
    end: time
    zone: ZoneInfo
    days: frozenset[int] = frozenset(range(7))
    unless: Severity | None = None

    def covers(self, at_s: float, severity: Severity) -> bool:
        """Whether a rule of this severity keeps quiet at this moment."""
        if self.unless is not None and (
            SEVERITIES.index(severity) >= SEVERITIES.index(self.unless)
        ):
            return False
        local = datetime.fromtimestamp(at_s, self.zone)
        now, day = local.time(), local.weekday()
        if self.begin <= self.end:
            return self.begin <= now < self.end and day in self.days
        if now >= self.begin:
            return day in self.days
        # After midnight it is still the night of the day before.
        return now < self.end and (day - 1) % 7 in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBase:
    """What every rule has.

    `by` and `only` say for which groups it is evaluated, each on its own; `together` makes one
    alert of all groups that breach at a time. At most `most` alerts of the rule fire at a time:
    the groups beyond share one. `hold_s`: a breach must last so long to fire; `resolve_after_s`:
    it must be over for so long to resolve; `cool_down_s`: nothing fires so soon after a resolve.
    """

    id: str
    version: str
    severity: Severity = "medium"
    description: str = ""
    by: By = "all"
    only: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    window_s: int = 60
    hold_s: int = 0
    resolve_after_s: int = 0
    cool_down_s: int = 300
    together: bool = False
    most: int = 10
    quiet: Quiet | None = None
    on: bool = True

    @property
    def width_s(self) -> int:
        """Which kind of window it adds up: the widest needed to have few, and no wider."""
        fitting = [width for width in WIDTHS_S if self.window_s % width == 0]
        few = [width for width in fitting if self.window_s // width <= _MOST_WINDOWS]
        return (few or fitting[-1:])[0]

    @property
    def step_s(self) -> int:
        """How often it is evaluated."""
        return self.width_s

    def concerns(self, group: str) -> bool:
        """Whether the rule is about this group."""
        return (not self.only or group in self.only) and group not in self.but


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRule(RuleBase):
    """A number over (or under) a bound.

    `resolve_at` is the other side of the hysteresis: only there the breach counts as over.
    Windows with fewer authors, posts or, for a rate, `min_count` posts of the kind never breach.
    """

    measure: Measure
    over: float | None = None
    under: float | None = None
    resolve_at: float = 0.0
    min_authors: int = 0
    min_posts: int = 0
    min_count: int = 0
    kind: Literal["threshold"] = field(default="threshold", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule(RuleBase):
    """Distinct authors, or toxic posts among them, against what a series has taught.

    `effect` is the factor by which what is seen must at least differ from what is expected.
    `level_s` is how far back the level is learnt, `history_s` how much of it there must be.
    """

    measure: Literal["authors", "toxic"]
    direction: Literal["up", "down", "both"] = "up"
    effect: float = 2.0
    min_authors: int = 10
    history_s: int = 1800
    level_s: int = 7200
    kind: Literal["change"] = field(default="change", init=False)

    @property
    def step_s(self) -> int:
        """Windows are tested once and do not overlap: their p-values must not repeat each other."""
        return self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRule(RuleBase):
    """Nothing comes where something should; `hold_s` is how long.

    `of` is what is missed: posts, or `useful` ones, in a language that the models know. A group
    that is not named in `only` is missed where `min_posts` were to be expected in that time.
    """

    of: Literal["posts", "useful"] = "posts"
    min_posts: int = 10
    forget_s: int = 7 * 86_400
    kind: Literal["silence"] = field(default="silence", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRule(RuleBase):
    """The machinery: a group's lag, the share of dead letters, a tripped quota."""

    measure: PipelineMeasure
    over: float = 0.0
    resolve_at: float = 0.0
    kind: Literal["pipeline"] = field(default="pipeline", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTermRule(RuleBase):
    """A tag, or a word of the texts, that was not there in `memory_s` and has enough authors.

    Nothing fires before `history_s` have taught what is known.
    """

    of: Literal["tag", "term"] = "tag"
    min_authors: int = 10
    memory_s: int = 7 * 86_400
    history_s: int = 1800
    kind: Literal["new-term"] = field(default="new-term", init=False)


Rule: TypeAlias = ThresholdRule | ChangeRule | SilenceRule | PipelineRule | NewTermRule


@dataclass(frozen=True, slots=True)
class RuleTest:
    """A rule's own test: windows of `width_s` seconds in order, and how often it is to fire."""

    name: str
    rule: str
    width_s: int
    windows: tuple[dict[str, int], ...]
    fires: int
    resolves: int | None
    group: str
    where: str


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a file.

    `grace_s`: how long after a window's end its parts may still come; `false_share` is the share
    of false ones among the alerts of all change rules of a day that is not to be exceeded.
    """

    rules: tuple[Rule, ...]
    grace_s: int = 5
    false_share: float = 0.05
    tests: tuple[RuleTest, ...] = ()

    @property
    def longest_s(self) -> int:
        """How far back any rule reads metrics."""
        return max((rule.window_s for rule in self.rules), default=TICK_S)
