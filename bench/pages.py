"""What the pages cost with a large read model: `python -m bench.pages [--posts 1000000] [--postgres]`.

Fills a read model with labels, decisions, reviews, alerts and windows; asks every question that a
page asks, over a new connection and then again; and runs every page's script whole, as Streamlit
does (its test bench, without a browser), in its default view and in its tabs, longer ranges and
filters: the first of the process, and the median of the others, which are run in turns. Prints
milliseconds as JSON. `--most-ms` exits with 3 where a question or a view takes more. `--keep PLACE`:
an SQLite file or a PostgreSQL URL to fill, or to use as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from bench.projector import place, size_of
from bench.varied import varied
from dashboard import page
from dashboard.queries import (
    alerts,
    audit,
    brands,
    decisions,
    deliveries,
    queue,
    rules,
    scores,
    trends,
)
from dashboard.reader import Reader, open_reader
from dashboard.scope import EVERYTHING, FeedFilter, Scope
from dashboard.serve import warm_up
from dashboard.store import Store
from stream.aggregates.book import Book
from stream.database_url import PostgresUrl, ReadModelAt, parse_database
from stream.outcomes import DELIVERY_SCHEMA, Action, Delivery
from stream.records import rfc3339
from stream.topics import ALERTS, AUDIT, DECISIONS, DELIVERIES, METRICS, REVIEWS, Topic
from tests.dashboard.conftest import batch_of
from tests.dashboard.desk_feed import alerts_at
from tests.dashboard.label_feed import Made, stream_of
from tests.dashboard.outcome_feed import after, batch_of_outcomes, decision_on, event, review_on

DAY_S = 86_400
#: What is looked at: the page and what stands in its address. A page's own name is its default view.
VIEWS: dict[str, tuple[str, dict[str, str]]] = {
    **{
        name: (name, {})
        for name in ("live", "trends", "review", "rules", "alerts", "models", "audit", "system")
    },
    "live: 24 h": ("live", {"range": "24 h"}),
    "live: 24 h, one language, latency, mix": (
        "live",
        {"range": "24 h", "language": "German", "pace": "Latency", "mix": "Over time"},
    ),
    "live: a text": ("live", {"text": "turnip"}),
    "live: a text that is nowhere": ("live", {"text": "zebra", "source": "bluesky"}),
    "live: abuse that is reviewed": ("live", {"toxicity": "insult", "action": "review"}),
    "live: a post": ("live", {"post": "bluesky:77"}),
    **{
        f"trends: {look}, {period}": ("trends", {"look": look, "period": period})
        for look in ("Breakdown", "Rising", "Authors and domains", "Topics and brands")
        for period in ("24 h", "7 d", "30 d")
    },
    "trends: tags, 7 d": ("trends", {"by": "Tag", "period": "7 d"}),
    "trends: one source, 30 d": ("trends", {"source": "bluesky", "by": "Source", "period": "30 d"}),
    "trends: one tag, 7 d": ("trends", {"tag": "transit", "period": "7 d"}),
    "rules: one rule": ("rules", {"rule": "insult"}),
    "rules: thresholds, 24 h": ("rules", {"view": "Thresholds"}),
    "rules: thresholds, 30 d": ("rules", {"view": "Thresholds", "scores_range": "30 d"}),
    "rules: edit": ("rules", {"view": "Edit"}),
    "rules: changes": ("rules", {"view": "Changes"}),
    "alerts: past, 90 d": ("alerts", {"state": "Past", "began": "90 d"}),
    "models: 7 d": ("models", {"model_period": "7 d"}),
    "models: 30 d": ("models", {"model_period": "30 d"}),
    "audit: all": ("audit", {"within": "All"}),
    "audit: one kind, all": ("audit", {"within": "All", "kind": "Rules"}),
    "audit: one person, 7 d": ("audit", {"within": "7 d", "who": "m1"}),
    "audit: reviews of people, 30 d": (
        "audit",
        {"within": "30 d", "kind": "Reviews", "people": "true"},
    ),
}
_BATCH = 10_000


def fill(path: ReadModelAt, posts: int, days: float) -> None:
    """Posts over the last days; 3 % wait for a review, 1 % are judged."""
    now_s = int(time.time())
    rng = random.Random(7)
    start_ms = int((now_s - days * DAY_S) * 1000)
    feed = varied(
        stream_of(posts, start_ms=start_ms, posts_per_s=posts / (days * DAY_S), partitions=1)
    )
    offsets: dict[str, int] = {}
    book = Book("labels", 0)
    read = 0
    with closing(Store(path, retention_posts=posts + 1)) as store:
        while made := list(islice(feed, _BATCH)):
            store.apply(batch_of(made))
            records: list[Any] = []
            for each in made:
                dice = rng.random()
                action = (
                    Action.REVIEW if dice < 0.04 else Action.HIDE if dice < 0.05 else Action.ALLOW
                )
                matched = [(f"rule-{rng.randrange(20)}", "1", "live")] if dice < 0.1 else []
                decision = decision_on(each.label, action, rules=matched)
                records.append((DECISIONS, decision))
                if dice < 0.01:
                    at_ms = start_ms + int(dice * 1e6)
                    said = review_on(decision, f"m{rng.randrange(5)}", Action.HIDE, at_ms)
                    records += [(REVIEWS, said), (DECISIONS, after(said, decision))]
            for few in batched(made, 500):
                book.add([(read + n, each.value) for n, each in enumerate(few)])
                read += len(few)
            records += [(METRICS, metric) for metric in book.checkpoint().metrics]
            store.apply(batch_of_outcomes(records, offsets))
            sys.stderr.write(".")
            sys.stderr.flush()
        store.apply(batch_of_outcomes(_happened(now_s * 1000), offsets))
    sys.stderr.write("\n")


def batched(made: list[Made], size: int) -> Iterator[list[Made]]:
    """In parts of at most `size`."""
    return (made[start : start + size] for start in range(0, len(made), size))


def _happened(now_ms: int) -> list[tuple[Topic, msgspec.Struct]]:
    """Alerts of a week, one of them firing, and what hooks made of them."""
    firing, past = alerts_at(now_ms)
    found: list[tuple[Topic, msgspec.Struct]] = [
        (ALERTS, firing),
        (AUDIT, event("brand.save", "Trams", now_ms, query='tram OR "night bus"')),
        (AUDIT, event("brand.save", "Library", now_ms, query="librar* -closed")),
        (AUDIT, event("brand.save", "River", now_ms, query="river OR bridge OR quay")),
    ]
    for n in range(300):
        at = rfc3339(now_ms - n * 2_000_000)
        other = msgspec.structs.replace(
            past, alert_id=f"a{n}", started_at=at, at=at, resolved_at=at
        )
        found.append((ALERTS, other))
    for n in range(5_000):
        delivery = Delivery(
            schema=DELIVERY_SCHEMA, delivery_id=f"d{n}", target="pager", kind="decision",
            record_id=f"r{n}", state="delivered", attempt=1, at=rfc3339(now_ms - n * 1000),
        )  # fmt: skip
        found.append((DELIVERIES, delivery))
    return found


def questions(now: int) -> dict[str, Callable[[Reader], Any]]:
    """Every question of a page, by its name."""
    day, week = now - DAY_S, now - 7 * DAY_S
    english = Scope(languages=("en",))
    query = brands.parse_query('tram OR "river" -delay')
    return {
        "live buckets, 24 h": lambda r: r.buckets(EVERYTHING, day, now, 300),
        "live languages, 24 h": lambda r: r.shares("language", EVERYTHING, day, now),
        "live feed": lambda r: r.feed(EVERYTHING, FeedFilter(), 50),
        "live feed, one author": lambda r: r.feed(EVERYTHING, FeedFilter(author="mara1"), 50),
        "live feed, a text": lambda r: r.feed(english, FeedFilter(text="turnip"), 50),
        "live feed, a text that is nowhere": lambda r: r.feed(
            english, FeedFilter(text="zebra"), 50
        ),
        "post: decision": lambda r: decisions.decision_of(r.db, "bluesky:77"),
        "post: author": lambda r: decisions.author_posts(r.db, "mara1"),
        "post: reviews": lambda r: decisions.reviews_of(r.db, "bluesky:77"),
        "queue": lambda r: queue.waiting(r.db, 50, not_passed_by="m1"),
        "queue, one language": lambda r: queue.waiting(r.db, 50, languages=("ja",)),
        "queue counts": lambda r: queue.queue_counts(r.db),
        "queue passed": lambda r: queue.passed_count(r.db, "m1"),
        "recent reviews": lambda r: decisions.recent_reviews(r.db, "m1"),
        "rules, 7 d": lambda r: rules.rule_figures(r.db, week, now),
        "rule hours, 7 d": lambda r: rules.rule_hours(r.db, None, week, now),
        "rule posts": lambda r: rules.matched_posts(r.db, "rule-3"),
        "thresholds, 24 h": lambda r: scores.threshold_figures(
            r.db, "toxicity.insult", [n / 20 for n in range(20)], day, now
        ),
        "thresholds, 7 d, one language": lambda r: scores.threshold_figures(
            r.db, "toxicity.insult", [n / 20 for n in range(20)], week, now, languages=["en"]
        ),
        "drift of every label": lambda r: scores.drifts(r.db, day, now),
        "trends series, 24 h": lambda r: trends.series(r.db, day, now, 300),
        "trends series, 7 d": lambda r: trends.series(r.db, week, now, 3600),
        "trends sources": lambda r: trends.groups(r.db, "source", week, now),
        "trends languages": lambda r: trends.groups(r.db, "language", week, now),
        "trends authors, 24 h": lambda r: trends.top_authors(r.db, day, now),
        "trends authors, 7 d": lambda r: trends.top_authors(r.db, week, now),
        "trends actions, 7 d": lambda r: trends.action_steps(r.db, week, now, 3600),
        "trends rising terms": lambda r: trends.rising(r.db, "terms", day, now),
        "a topic, 100,000 posts": lambda r: brands.posts_meant(r.db, query, 0, 100_000),
        "alerts": lambda r: alerts.alerts(r.db, now * 1000),
        "deliveries": lambda r: deliveries.deliveries(r.db),
        "audit": lambda r: audit.audit_entries(r.db),
        "audit, people": lambda r: audit.audit_entries(r.db, audit.AuditFilter(people_only=True)),
        "audit, one person": lambda r: audit.audit_entries(r.db, audit.AuditFilter(who="m1")),
        "audit, one post": lambda r: audit.audit_entries(r.db, audit.AuditFilter(on="bluesky:77")),
        "audit, one family": lambda r: audit.audit_entries(r.db, audit.AuditFilter(what="review.")),
        "audit chains": lambda r: audit.chains(r.db),
    }


def timed(
    path: ReadModelAt, question: Callable[[Reader], Any], rounds: int
) -> tuple[float, float, float]:
    """Milliseconds of the first answer over a new connection, and the median of the others, and of their CPU."""
    with open_reader(path) as reader:
        assert reader is not None
        took, cpu = [], []
        for _ in range(rounds + 1):
            began, cpu_began = time.perf_counter(), time.process_time()
            question(reader)
            took.append((time.perf_counter() - began) * 1000)
            cpu.append((time.process_time() - cpu_began) * 1000)
    return round(took[0], 1), round(median(took[1:]), 1), round(median(cpu[1:]), 1)


def newest_s(path: ReadModelAt) -> int:
    """The second after the newest post: what pages take for now, so that their ranges are full."""
    with open_reader(path) as reader:
        assert reader is not None
        return (reader.newest_post_ms() or 0) // 1000 + 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one script: first of the process, and the medians of the later ones.

    `cpu` is this process's, `server_cpu` PostgreSQL's on this machine (all its processes'); both
    say more than the clock where other programs want the same cores.
    """

    first: float
    later: float
    cpu: float
    server_cpu: float


def whole_pages(
    path: ReadModelAt, now: int, rounds: int, only: str | None = None
) -> dict[str, Cost]:
    """What each page and each of its views costs, all in turns.

    Caches are emptied before every run: they would hide what a page costs. The browser was on
    another page before; that one is not timed.
    """
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    spec = importlib.util.find_spec("dashboard.app")
    assert spec is not None
    page.now_ms = lambda: now * 1000
    warm_up()  # as the server does before it takes anybody in
    url = path.get_secret_value() if isinstance(path, PostgresUrl) else str(path)
    os.environ["TIDEGATE_DASHBOARD__DATABASE"] = url
    server = _server_of(path)
    took: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(rounds + 1):
        for view, (name, query) in VIEWS.items():
            if only is not None and only not in view:
                continue
            test = AppTest.from_file(str(spec.origin), default_timeout=120)
            test.switch_page(f"app_pages/{'system' if name != 'system' else 'alerts'}.py").run()
            for key, value in query.items():
                test.query_params[key] = value
            st.cache_data.clear()
            began, cpu, server_cpu = time.perf_counter(), time.process_time(), _cpu_s(server)
            test.switch_page(f"app_pages/{name}.py").run()
            took.setdefault(view, []).append(
                (
                    (time.perf_counter() - began) * 1000,
                    (time.process_time() - cpu) * 1000,
                    (_cpu_s(server) - server_cpu) * 1000,
                )
            )
            if test.exception:
                raise SystemExit(f"{view}: {test.exception}")
    return {
        view: Cost(
            round(runs[0][0], 1),
            *(round(median(column), 1) for column in zip(*runs[1:], strict=True)),
        )
        for view, runs in took.items()
    }


def _server_of(path: ReadModelAt) -> psutil.Process | None:
    """The PostgreSQL of this machine that the URL names."""
    if not isinstance(path, PostgresUrl):
        return None
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (path.port,):
            return psutil.Process(connection.pid)
    return None


def _cpu_s(server: psutil.Process | None) -> float:
    """CPU seconds of a server and of all the processes that it ever started."""
    if server is None:
        return 0.0
    # A connection's process is gone a moment after the connection: its time is the server's then.
    own = server.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def main() -> int:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=7.0)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--keep", help="a file or a URL to fill, or to use as it is")
    where.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", metavar="TEXT", help="only views with this in their name")
    parser.add_argument("--most-ms", type=float, default=float("inf"))
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-pages-")))
        path = (
            parse_database(options.keep)
            if options.keep
            else place(None, folder, stack, postgres=options.postgres)
        )
        began = time.monotonic()
        with open_reader(path) as reader:
            filled = reader is not None
        if not filled:
            fill(path, options.posts, options.days)
        now = newest_s(path)
        filled_s = time.monotonic() - began
        loads = [os.getloadavg()[0]]
        found = (
            {}
            if options.only
            else {name: timed(path, ask, options.rounds) for name, ask in questions(now).items()}
        )
        loads.append(os.getloadavg()[0])
        pages = whole_pages(path, now, options.rounds, options.only)
        loads.append(os.getloadavg()[0])
        size = size_of(path)
    result = {
        "posts": options.posts,
        "database": "SQLite" if isinstance(path, Path) else "PostgreSQL",
        "filled_s": round(filled_s, 1),
        "read_model_mib": round(size / 2**20),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()},"
        f" Python {platform.python_version()}",
        "load_averages": [round(load, 1) for load in loads],
        "views_ms_first_later_cpu_server_cpu": {
            view: astuple(cost)
            for view, cost in sorted(pages.items(), key=lambda item: -item[1].later)
        },
        "questions_cold_median_and_cpu_ms": dict(
            sorted(found.items(), key=lambda item: -item[1][0])
        ),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    slowest = max([cold for cold, _, _ in found.values()] + [cost.later for cost in pages.values()])
    return 3 if slowest > options.most_ms else 0


if __name__ == "__main__":
    sys.exit(main())
