from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from dashboard.figures import RANGES, abusive_share, figures, net_sentiment, stretch
from dashboard.languages import LANGUAGES, language_code, language_name
from dashboard.projection import bin_ms, latency_bin
from dashboard.reader import open_reader, percentile_ms
from dashboard.scope import FeedFilter, Scope
from dashboard.store import PartitionBacklog, Store
from stream.database_url import ReadModelAt
from stream.times import timestamp_ms
from tests.dashboard.label_feed import stream_of

#: On a coarse bucket's edge, so that every width sees the same posts.
START_S = 1_795_000_500
MADE = list(stream_of(1200, start_ms=START_S * 1000, posts_per_s=4, wave=(100, 160)))
ALL = FeedFilter()
Fill = Callable[..., ReadModelAt]


def labels(task: str) -> Counter[str]:
    return Counter(made.label.labels[task].label for made in MADE)


def test_buckets_add_up_to_the_posts_for_every_step(fill: Fill) -> None:
    with open_reader(fill(MADE)) as reader:
        assert reader is not None
        for step in sorted({step for _, step in RANGES.values()}):
            found = reader.buckets(Scope(), START_S, START_S + 900, step)
            assert len(found) == 900 // step
            assert sum(bucket.posts for bucket in found) == 1200
            sentiments = labels("sentiment")
            assert sum(bucket.negative for bucket in found) == sentiments["negative"]
            assert sum(bucket.positive for bucket in found) == sentiments["positive"]
            abusive = 1200 - labels("toxicity")["none"]
            assert sum(bucket.abusive for bucket in found) == abusive
            assert abusive_share(found) == abusive / 1200
            net = (sentiments["positive"] - sentiments["negative"]) / 1200
            assert net_sentiment(found) == pytest.approx(net)


@pytest.mark.parametrize("scope", [Scope(), Scope(sources=("mastodon",), languages=("en", "de"))])
def test_a_total_is_what_its_buckets_add_up_to(fill: Fill, scope: Scope) -> None:
    made = list(stream_of(900, start_ms=(START_S - 50 * 3600) * 1000, posts_per_s=0.005))
    with open_reader(fill(made)) as reader:
        assert reader is not None
        for name in RANGES:
            for hours_ago in (0, 1, 13, 24):
                cut = stretch(name, (START_S - hours_ago * 3600) * 1000)
                found = reader.buckets(scope, cut.from_s, cut.to_s, cut.step_s)
                sums = [sum(column) for column in zip(*(b[1:] for b in found), strict=True)]
                total = reader.total(scope, cut.from_s, cut.to_s)
                assert [*total] == [cut.from_s, *sums]
                assert cut.to_s - cut.from_s < 86_400 or (total.posts > 0 and total.abusive > 0)


def test_the_scope_narrows_buckets_shares_and_feed_alike(fill: Fill) -> None:
    scope = Scope(sources=("mastodon",), languages=("en", "de"))
    wanted = {
        made.label.post_id
        for made in MADE
        if made.label.post
        and made.label.post.source == "mastodon"
        and made.label.labels["language"].label in ("en", "de")
    }
    with open_reader(fill(MADE)) as reader:
        assert reader is not None
        found = reader.buckets(scope, START_S, START_S + 300, 10)
        assert sum(bucket.posts for bucket in found) == len(wanted)
        shares = reader.shares("language", scope, START_S, START_S + 300)
        assert sum(n for _, n, _ in shares) == len(wanted)
        assert {post.post_id for post in reader.feed(scope, ALL, 2000)} == wanted
        assert reader.sources()[0] == "bluesky"
        assert reader.languages()[0] == "en"


def test_feed_filters_are_literal_and_newest_first(fill: Fill) -> None:
    with open_reader(fill(MADE)) as reader:
        assert reader is not None

        def ids(**wanted: object) -> list[str]:
            return [p.post_id for p in reader.feed(Scope(), FeedFilter(**wanted), 2000)]  # type: ignore[arg-type]

        assert ids()[0] == MADE[-1].label.post_id
        abusive = labels("toxicity")
        assert len(ids(toxicity=("any",))) == 1200 - abusive["none"]
        assert len(ids(toxicity=("insult", "none"))) == abusive["insult"] + abusive["none"]
        assert ids(text="%") == ids(text="_") == []
        assert len(ids(text="#DIY")) == sum(
            "#diy" in (m.label.post.text or "") for m in MADE if m.label.post
        )
        assert ids(author="mara1' OR 1=1 --") == []
        assert len(ids(until_ms=(START_S + 100) * 1000)) == sum(
            timestamp_ms(m.label.labelled_at) <= (START_S + 100) * 1000 for m in MADE
        )
        low = ids(score_from=0.6, score_to=0.8)
        assert len(low) == sum(0.6 <= m.label.labels["toxicity"].score <= 0.8 for m in MADE)


def test_percentiles_are_within_a_bin() -> None:
    values = [int(1.07**n) for n in range(1, 120)]
    histogram = sorted(Counter(latency_bin(value) for value in values).items())
    for q in (0.5, 0.95, 0.99):
        wanted = values[int(q * len(values))]
        assert percentile_ms(histogram, q) == pytest.approx(wanted, rel=0.13, abs=1)
    assert percentile_ms([], 0.5) is None
    assert latency_bin(-5) == latency_bin(0) == 0
    assert bin_ms(latency_bin(250)) == pytest.approx(250, rel=0.06)


def test_figures_of_a_running_stream(fill: Fill) -> None:
    now_ms = int(time.time()) // 300 * 300_000 + 295_000
    made = list(stream_of(1000, start_ms=now_ms - 250_000, posts_per_s=4))
    with open_reader(fill(made)) as reader:
        assert reader is not None
        read = figures(reader, Scope(), stretch("5 min", now_ms), now_ms)
        assert read.posts == 1000
        assert read.posts_per_s == pytest.approx(4, abs=0.5)
        assert read.p50_ms == pytest.approx(66, rel=0.25)
        assert read.abusive_share_before is None
        later = figures(reader, Scope(), stretch("5 min", now_ms + 300_000), now_ms + 300_000)
        assert later.posts_per_s == 0
        assert later.p95_ms is None
        assert later.abusive_share_before == read.abusive_share


def test_every_language_is_found_by_its_name() -> None:
    assert language_name("de") == "German"
    assert language_name("de-AT") == "German"
    assert language_name("xx") == "xx"
    for code, name in LANGUAGES.items():
        assert language_name(language_code(name)) == name
        assert language_code(code) == code


def test_what_is_scanned_for_is_found_behind_the_newest_posts_too(
    fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.reader._GLANCE_POSTS", 100)
    with open_reader(fill(MADE)) as reader:
        assert reader is not None
        wanted = [
            m.label.post_id
            for m in reversed(MADE)
            if m.label.post and m.label.post.source == "forum"
        ]
        assert len(wanted) > 60
        found = [p.post_id for p in reader.feed(Scope(sources=("forum",)), ALL, 60)]
        assert found == wanted[:60]
        few = reader.feed(Scope(sources=("forum",)), FeedFilter(text="library"), 60)
        assert len(few) == sum(
            "library" in (m.label.post.text or "") and m.label.post.source == "forum"
            for m in MADE
            if m.label.post
        )
        abusive = {
            m.label.post_id: m.label.labels["toxicity"].label
            for m in reversed(MADE)
            if m.label.post_id in wanted and m.label.labels["toxicity"].label != "none"
        }
        found = [
            p.post_id for p in reader.feed(Scope(("forum",)), FeedFilter(toxicity=("any",)), 999)
        ]
        assert found == list(abusive)
        insults = FeedFilter(toxicity=("insult", "threat"), score_from=0.01)
        assert [p.post_id for p in reader.feed(Scope(("forum",)), insults, 999)] == [
            post_id for post_id, label in abusive.items() if label in ("insult", "threat")
        ]
        monkeypatch.setattr("dashboard.reader.SEARCHED_POSTS", 50)
        assert len(reader.feed(Scope(), FeedFilter(text="e"), 2000)) <= 50


def test_what_is_over_time_adds_up_to_the_range(fill: Fill) -> None:
    with open_reader(fill(MADE)) as reader:
        assert reader is not None
        for step in (10, 60, 300):
            over_time = reader.languages_over_time(Scope(), START_S, START_S + 900, step)
            assert {start % step for start, _, _ in over_time} == {0}
            together = Counter[str]()
            for _, code, posts in over_time:
                together[code] += posts
            shares = reader.shares("language", Scope(), START_S, START_S + 900)
            assert together == {code: posts for code, posts, _ in shares}
            latency = reader.latency(0, 2**40, step)
            assert sum(n for found in latency.values() for _, n in found) == 1200
            assert {start % step for start in latency} == {0}


def test_of_a_step_the_most_that_waited_counts(place: ReadModelAt) -> None:
    with Store(place) as store:
        for second, waiting in ((100, 4), (102, 9), (104, 1), (111, 3)):
            store.sample_backlog([PartitionBacklog(0, 50, 50 - waiting, waiting)], second * 1000)
    with open_reader(place) as reader:
        assert reader is not None
        assert reader.backlog_history(0, 10) == [(100, 9), (110, 3)]
        assert reader.backlog_history(0) == [(100, 4), (102, 9), (104, 1), (111, 3)]
