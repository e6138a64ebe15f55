"""What another policy would have decided about labels that are there: pure, one label at a time.

The evaluator and the windows are those of the role `decide`; no model runs. Invariant: parts of the
work, split by author, add up to the whole: `Tally.add` is commutative.

Quotas do not trip here: a backtest says what rules match, and `matches` against the quota is for
the reader to compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from zlib import crc32

import msgspec

from stream.decisions.history import HistoryAt, WindowHistory
from stream.decisions.precision import wilson
from stream.outcomes import STRONG_ACTIONS, Action
from stream.policy import NO_HISTORY, History, Policy, Rule, Subject, Verdict
from stream.policy.engine import CompiledRule, verdict_of
from stream.records import Label

#: Sample posts of a rule, and how much of a text is shown.
SAMPLES: Final = 5
SHOWN_CHARS: Final = 160


class Sample(msgspec.Struct, frozen=True):
    """A post that a rule matches, or matches no more; `draw` orders samples at random."""

    draw: int
    post_id: str
    text: str
    author: str | None
    before: Action
    after: Action
    judged: Action | None = None


class RuleTally(msgspec.Struct):
    """One rule's counts; `judged` says what people decided about the posts it matches."""

    matches: int = 0
    before: int = 0
    gained: int = 0
    lost: int = 0
    decisive: int = 0
    failed: int = 0
    judged: dict[str, int] = msgspec.field(default_factory=dict)
    gained_judged: dict[str, int] = msgspec.field(default_factory=dict)
    lost_judged: dict[str, int] = msgspec.field(default_factory=dict)
    samples: list[Sample] = msgspec.field(default_factory=list)
    lost_samples: list[Sample] = msgspec.field(default_factory=list)


class ChangeTally(msgspec.Struct):
    """Posts whose action would be another."""

    posts: int = 0
    judged: dict[str, int] = msgspec.field(default_factory=dict)
    samples: list[Sample] = msgspec.field(default_factory=list)


class Tally(msgspec.Struct):
    """What was counted; parts add up."""

    labels: int = 0
    retracted: int = 0
    bad: int = 0
    judged: int = 0
    strong: int = 0
    strong_before: int = 0
    rules: dict[str, RuleTally] = msgspec.field(default_factory=dict)
    #: By `before>after`.
    changes: dict[str, ChangeTally] = msgspec.field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Another part's counts."""
        for name in ("labels", "retracted", "bad", "judged", "strong", "strong_before"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rule, theirs in other.rules.items():
            ours = self.rules.setdefault(rule, RuleTally())
            for name in ("matches", "before", "gained", "lost", "decisive", "failed"):
                setattr(ours, name, getattr(ours, name) + getattr(theirs, name))
            for name in ("judged", "gained_judged", "lost_judged"):
                setattr(ours, name, _sum(getattr(ours, name), getattr(theirs, name)))
            ours.samples = _fewest(ours.samples + theirs.samples)
            ours.lost_samples = _fewest(ours.lost_samples + theirs.lost_samples)
        for change, more in other.changes.items():
            known = self.changes.setdefault(change, ChangeTally())
            known.posts += more.posts
            known.judged = _sum(known.judged, more.judged)
            known.samples = _fewest(known.samples + more.samples)


class _Looking:
    """What a post sees: counts that are the same for both policies, and one policy's actions."""

    __slots__ = ("_actions", "count", "distinct_authors")

    def __init__(self, counts: HistoryAt, actions: HistoryAt) -> None:
        self.count, self.distinct_authors = counts.count, counts.distinct_authors
        self._actions = actions

    def actions(self, author: str, window_s: int) -> int:
        """Earlier posts of the author that this policy flagged or worse."""
        return self._actions.actions(author, window_s)


@dataclass(slots=True)
class _Side:
    """A policy with the history that its own decisions make."""

    policy: Policy
    history: WindowHistory = field(init=False)

    def __post_init__(self) -> None:
        # The counts are kept once for both policies: they are most of the memory.
        self.history = WindowHistory(w for w in self.policy.windows if w.measure == "actions")

    def judge(self, subject: Subject, counts: HistoryAt | None) -> Verdict:
        """What the policy says."""
        history: History = NO_HISTORY
        if counts is not None and self.policy.windows:
            wants = self.history.wants_actions
            history = _Looking(counts, self.history.at(subject)) if wants else counts
        return self.policy.evaluate(subject, history)

    def book(self, subject: Subject, action: Action) -> None:
        """What became of a post, for the rules that ask."""
        if self.history.wants_actions:
            self.history.acted(subject.post_id, subject.author_id, subject.at_ms, action)


class _Before:
    """The old policy, judged by what sets it apart from the new one.

    Most rules of two versions are the same, and evaluating is what a backtest costs: a rule that
    is the same in both is evaluated once. Rules that look at earlier actions never are the same:
    each policy's own decisions feed them.
    """

    def __init__(self, old: Policy, new: Policy) -> None:
        self._shared = _shared_rules(old, new)
        self.side = _Side(old.with_modes(dict.fromkeys(self._shared, "off")))
        self._priorities = {rule.id: rule.priority for rule in old.rules}
        self._alone = bool(self.side.policy.windows) or any(
            rule.mode != "off" for rule in self.side.policy.rules
        )

    def judge(self, subject: Subject, counts: HistoryAt | None, after: Verdict) -> Verdict:
        """The old policy's verdict, given the new one's."""
        own = self.side.judge(subject, counts) if self._alone else None
        shared = self._shared
        matches = [match for match in after.matches if match.id in shared]
        failed = [rule for rule in after.failed if rule.id in shared]
        if own is not None:
            matches += own.matches
            failed += own.failed
        safelist = after.safelist if shared or own is None else own.safelist
        ranked = [(self._priorities[match.id], match) for match in matches]
        verdict = verdict_of(ranked, failed, safelist)
        self.side.book(subject, verdict.action)
        return verdict


def _shared_rules(old: Policy, new: Policy) -> frozenset[str]:
    """Rules that match the same posts in both policies and mean the same."""
    same_lists = (
        old.lists.contents == new.lists.contents
        and old.lists.safe_domains == new.lists.safe_domains
        and old.safelist == new.safelist
    )
    if not same_lists:
        return frozenset()
    theirs = {each.rule.id: _meaning(each) for each in new.compiled}
    return frozenset(
        each.rule.id
        for each in old.compiled
        if theirs.get(each.rule.id) == _meaning(each)
        and not any(window.measure == "actions" for window in each.windows)
    )


def _meaning(each: CompiledRule) -> Rule:
    return replace(each.rule, where="", quota=None)


class Backtest:
    """Judges labels by two policies.

    Every part sees every label, because windows over tags or texts span authors, and judges those
    of its own authors.

    Args:
        new: the policy to try.
        old: what it is compared with.
        judged: by post, what people decided.
        part: which of `parts` this is.
        parts: into how many the authors are split.
    """

    def __init__(
        self,
        new: Policy,
        old: Policy,
        judged: Mapping[str, Action] | None = None,
        *,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        self._new, self._old = _Side(new), _Before(old, new)
        windows = {*new.windows, *self._old.side.policy.windows}
        self._counts = WindowHistory(windows)
        self._judged = judged or {}
        self._part, self._parts = part, parts
        self.tally = Tally()
        for rule in (*old.rules, *new.rules):
            if rule.mode != "off":
                self.tally.rules.setdefault(rule.id, RuleTally())

    def take(self, label: Label) -> None:
        """Judge a label, or only count it."""
        post = label.post
        author = (post.author_id if post is not None else None) or label.post_id
        ours = (
            self._parts == 1 or crc32(author.encode("utf-8", "replace")) % self._parts == self._part
        )
        if label.retracted:
            self.tally.retracted += ours
            return
        windows = self._counts.windows
        if not ours and not windows:
            return
        subject = Subject.of_label(label)
        partition = label.origin.partition if label.origin is not None else 0
        counts = self._counts.at(subject, partition) if windows else None
        if not ours:
            return
        after = self._new.judge(subject, counts)
        self._new.book(subject, after.action)
        before = self._old.judge(subject, counts, after)
        self._count(subject, before, after)

    def _count(self, subject: Subject, before: Verdict, after: Verdict) -> None:
        tally = self.tally
        tally.labels += 1
        tally.strong += after.action in STRONG_ACTIONS
        tally.strong_before += before.action in STRONG_ACTIONS
        judged = self._judged.get(subject.post_id) if self._judged else None
        tally.judged += judged is not None
        if after.decisive is not None:
            tally.rules[after.decisive].decisive += 1
        for failed in after.failed:
            tally.rules[failed.id].failed += 1
        seen = _Seen(subject, before, after, judged)
        if before.matches or after.matches:
            self._count_matches(seen)
        if before.action is not after.action:
            change = tally.changes.setdefault(f"{before.action}>{after.action}", ChangeTally())
            change.posts += 1
            seen.judge(change.judged)
            seen.keep(change.samples)

    def _count_matches(self, seen: _Seen) -> None:
        rules = self.tally.rules
        before = {match.id for match in seen.before.matches}
        after = {match.id for match in seen.after.matches}
        for name in after:
            rule = rules[name]
            rule.matches += 1
            seen.judge(rule.judged)
            seen.keep(rule.samples)
            if name not in before:
                rule.gained += 1
                seen.judge(rule.gained_judged)
        for name in before:
            rule = rules[name]
            rule.before += 1
            if name not in after:
                rule.lost += 1
                seen.judge(rule.lost_judged)
                seen.keep(rule.lost_samples)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A post, what both policies say of it and what a person said."""

    subject: Subject
    before: Verdict
    after: Verdict
    judged: Action | None

    def judge(self, counts: dict[str, int]) -> None:
        """Count what the person said, if anybody did."""
        if self.judged is not None:
            counts[str(self.judged)] = counts.get(str(self.judged), 0) + 1

    def keep(self, samples: list[Sample]) -> None:
        """A fair sample, the same in every run: the smallest checksums of the ids."""
        draw = crc32(self.subject.label_id.encode("utf-8", "replace"))
        if len(samples) >= SAMPLES and draw >= samples[-1].draw:
            return
        text = " ".join(self.subject.text.split())
        shown = text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"
        samples.append(
            Sample(
                draw,
                self.subject.post_id,
                shown,
                self.subject.author_id,
                self.before.action,
                self.after.action,
                self.judged,
            )
        )
        samples.sort(key=_draw)
        del samples[SAMPLES:]


def upheld(judged: Mapping[str, int]) -> tuple[int, int]:
    """How many of the judged posts people acted on, and how many they judged."""
    total = sum(judged.values())
    return total - judged.get(Action.ALLOW, 0), total


def precision(judged: Mapping[str, int]) -> tuple[float, float, float] | None:
    """Share of upheld posts with its Wilson interval; None where nobody judged."""
    good, total = upheld(judged)
    interval = wilson(good, total)
    return None if interval is None else (good / total, *interval)


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _fewest(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=_draw)[:SAMPLES]


def _draw(sample: Sample) -> tuple[int, str]:
    return sample.draw, sample.post_id
