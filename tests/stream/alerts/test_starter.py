"""The starter pack: it is what config/ has, its tests hold, and the demo's wave trips it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.aggregates.book import Book
from stream.alerts.evaluator import Evaluator
from stream.alerts.file_tests import run_test
from stream.alerts.history import moment
from stream.alerts.load import load_rules, rules_path
from stream.demo.feed import shipped_source
from stream.labelling import label_of, model_refs
from stream.outcomes import Alert, Metric
from stream.records import Origin, encode
from stream.sources.files import PostLine
from tests.apache_kafka import ROOT
from tests.stream.alerts.streams import BEGIN

STARTER = ROOT / "stream" / "alerts" / "starter.yaml"
#: When the wave of abuse of the shipped feed is, in seconds from the beginning of a round.
WAVE = (60, 85)
ROUND_S = 150


def test_the_copy_in_config_is_the_one_in_the_package() -> None:
    assert (ROOT / "config" / "alerts.yaml").read_text() == STARTER.read_text()


def test_it_is_what_is_in_force_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rules_path() == STARTER
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "alerts.yaml").write_text("rules: []")
    assert rules_path() == Path("config/alerts.yaml")
    assert rules_path(Path("mine.yaml")) == Path("mine.yaml")


@pytest.mark.parametrize("test", load_rules(STARTER).tests, ids=lambda test: test.name)
def test_its_own_tests_hold(test: object) -> None:
    assert run_test(load_rules(STARTER), test).problem is None  # type: ignore[arg-type]


def test_every_kind_of_rule_is_in_it() -> None:
    kinds = {rule.kind for rule in load_rules(STARTER).rules}
    assert kinds == {"threshold", "change", "silence", "pipeline", "new-term"}


@pytest.fixture(scope="module")
def rounds() -> list[tuple[float, bytes]]:
    """Two rounds of the shipped feed, labelled by the bundled model: seconds, label."""
    from models.scorer import load_scorer

    scorer = load_scorer(None, "compact", threads=1)
    posts = [line.post for line in shipped_source() if isinstance(line, PostLine)]
    scores = scorer.score([post.text or "" for post in posts])
    refs = model_refs(scorer.models)
    made = []
    for number in range(2):
        for n, (post, answer) in enumerate(zip(posts, scores, strict=True)):
            at_s = number * ROUND_S + float(post.meta["offset_s"])
            ms = round((BEGIN + at_s) * 1000)
            origin = Origin(topic="posts", partition=0, offset=1000 * number + n, timestamp_ms=ms)
            label = label_of(post, answer, refs, labelled_at_ms=ms, origin=origin)
            made.append((at_s, encode(label)))
    return made


def _metrics(rounds: list[tuple[float, bytes]], shift_s: float) -> Iterator[Metric]:
    """As two workers write them, each with its partition, every second; begun `shift_s` later."""
    dice = random.Random(1)
    books = [Book("labels", n) for n in range(2)]
    second = 0
    for offset, (at_s, value) in enumerate(rounds):
        if int(at_s + shift_s) > second:
            second = int(at_s + shift_s)
            for book in books:
                yield from book.checkpoint().metrics
        stamp = BEGIN * 1000 + round(at_s * 1000)
        moved = value.replace(str(stamp).encode(), str(stamp + round(shift_s * 1000)).encode())
        dice.choice(books).add([(offset, _posted(moved, at_s + shift_s))])
    for book in books:
        yield from book.checkpoint().metrics


def _posted(value: bytes, at_s: float) -> bytes:
    import msgspec

    from stream.alerts.history import written
    from stream.records import decode_label

    label = msgspec.structs.replace(decode_label(value), posted_at=written(BEGIN + int(at_s)))
    return encode(msgspec.structs.replace(label, labelled_at=written(BEGIN + int(at_s) + 1)))


@pytest.mark.parametrize("shift_s", [0, 2.5, 5, 7.5])
def test_the_wave_of_the_demo_fires_while_it_lasts_and_resolves_before_the_next(
    rounds: list[tuple[float, bytes]], shift_s: float
) -> None:
    """Wherever the feed begins within the windows of ten seconds."""
    rules = load_rules(STARTER)
    evaluator = Evaluator(rules)
    alerts: list[Alert] = []
    for metric in _metrics(rounds, shift_s):
        alerts += [outcome.alert for outcome in evaluator.add(metric)]
    by_rule = [a for a in alerts if a.rule == "toxic-tag" and a.group == {"tag": "northport"}]
    for number in range(2):
        begun = BEGIN + shift_s + number * ROUND_S
        fired, resolved = by_rule[2 * number : 2 * number + 2]
        assert (fired.state, resolved.state) == ("firing", "resolved")
        assert fired.alert_id == resolved.alert_id
        # Evaluated `grace` after the tick.
        assert WAVE[0] <= moment(fired.at) + rules.grace_s - begun <= WAVE[1]
        assert WAVE[1] <= moment(resolved.at) + rules.grace_s - begun < ROUND_S
        assert "northport" in fired.summary
    assert len(by_rule) == 4
    assert {a.rule for a in alerts} <= {"toxic-tag", "toxic-wave"}, "and nothing else"
