from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from dashboard import actions
from dashboard.actions import Workplace
from dashboard.desk import Claim, open_desk
from dashboard.errors import ClaimError, NotAllowedError
from dashboard.people import Person, Role
from dashboard.queries.alerts import mutes
from dashboard.queries.brands import brands
from dashboard.reader import open_reader
from dashboard.store import Store
from dashboard.writer import MemoryWriter
from stream.database_url import PostgresUrl, ReadModelAt
from stream.errors import ConfigError, DeliveryError
from stream.outcomes import Action, Review
from stream.topics import AUDIT, DECISIONS, REVIEWS, Topic
from tests.dashboard.conftest import batch_of, without_desk
from tests.dashboard.label_feed import label_of
from tests.dashboard.outcome_feed import batch_of_outcomes, decision_on

START_MS = 1_795_000_000_000
NOW = START_MS + 60_000
HERON = Person("ann", Role.MODERATOR, "heron")
KESTREL = Person("bob", Role.MODERATOR, "kestrel")
ADMIN = Person("eve", Role.ADMIN, "osprey")
VIEWER = Person("vic", Role.VIEWER, "wren")


@pytest.fixture
def path(place: ReadModelAt) -> ReadModelAt:
    """A read model with five posts that wait, p0 the first."""
    path = place
    made = [
        label_of(n, posted_ms=START_MS + n, rng=random.Random(n), post_id=f"p{n}") for n in range(5)
    ]
    with Store(path) as store:
        store.apply(batch_of(made))
        store.apply(
            batch_of_outcomes([(DECISIONS, decision_on(m.label, Action.REVIEW)) for m in made])
        )
    return path


@contextmanager
def working(path: ReadModelAt, writer: MemoryWriter | None = None) -> Iterator[Workplace]:
    with open_desk(path, 300) as desk, open_reader(path) as reader:
        assert reader is not None
        yield Workplace(desk, reader.db, writer or MemoryWriter())


def claim(at: Workplace, who: Person, now_ms: int = NOW, *, passed: bool = False) -> Claim:
    found = at.desk.claim_next(at.model, who.pseudonym, now_ms, passed=passed)
    assert found is not None
    return found


def test_two_people_get_two_posts_and_one_person_the_same_again(path: ReadModelAt) -> None:
    with working(path) as at:
        first, second = claim(at, HERON), claim(at, KESTREL)
        assert (first.post.post_id, second.post.post_id) == ("p0", "p1")
        again = claim(at, HERON, NOW + 1000)
        assert again.post.post_id == "p0"
        assert again.claim_id == first.claim_id
        assert again.expires_ms == NOW + 301_000
        assert at.desk.in_hand(NOW + 1000) == 2


def test_a_claim_that_ran_out_is_another_persons_and_cannot_be_used(path: ReadModelAt) -> None:
    with working(path) as at:
        mine = claim(at, HERON)
        late = NOW + 301_000
        assert claim(at, KESTREL, late).post.post_id == "p0"
        with pytest.raises(ClaimError, match="not in your hands"):
            actions.decide(HERON, at, mine, Action.ALLOW, late)
        assert at.writer.written == []  # type: ignore[attr-defined]


def test_a_post_that_is_read_for_long_stays_in_hand_while_it_is_renewed(path: ReadModelAt) -> None:
    with working(path) as at:
        mine = claim(at, HERON)
        assert at.desk.renew(mine, NOW + 299_000)
        assert claim(at, KESTREL, NOW + 500_000).post.post_id == "p1"
        # Nobody asks for more time: the browser was closed.
        assert not at.desk.renew(mine, NOW + 600_000)
        assert claim(at, ADMIN, NOW + 600_000).post.post_id == "p0"
        assert not at.desk.renew(mine, NOW + 601_000), "and it never comes back by itself"


def test_a_review_is_on_the_topic_before_the_next_post_shows(path: ReadModelAt) -> None:
    writer = MemoryWriter()
    with working(path, writer) as at:
        mine = claim(at, HERON)
        sent = actions.decide(
            HERON, at, mine, Action.HIDE, NOW + 5000, reason="insult", note="clear"
        )
        (topic, key, record, partition) = writer.written[0]
        assert isinstance(record, Review)
        assert (topic, key, partition) == ("reviews", b"p0", 0)
        assert (record.action, record.reason, record.note) == ("hide", "insult", "clear")
        assert record.decision_id == mine.post.decision_id
        assert record.taken_s == 5.0
        assert record.review_id == sent.review_id
        # The projector has not read it yet, and still nobody gets the post again.
        assert claim(at, HERON, NOW + 6000).post.post_id == "p1"
        assert claim(at, KESTREL, NOW + 6000).post.post_id == "p2"


def test_a_review_that_the_broker_did_not_take_leaves_the_post_in_hand(path: ReadModelAt) -> None:
    writer = MemoryWriter()
    writer.away = True
    with working(path, writer) as at:
        mine = claim(at, HERON)
        with pytest.raises(DeliveryError):
            actions.decide(HERON, at, mine, Action.ALLOW, NOW)
        assert claim(at, HERON).claim_id == mine.claim_id
        writer.away = False
        first = actions.decide(HERON, at, mine, Action.ALLOW, NOW)
        with pytest.raises(ClaimError):
            actions.decide(HERON, at, mine, Action.ALLOW, NOW)
        assert len(writer.written) == 1
        assert first.verdict == "decide"


def test_undo_brings_the_post_back_into_the_same_hands(path: ReadModelAt) -> None:
    writer = MemoryWriter()
    with working(path, writer) as at:
        sent = actions.decide(HERON, at, claim(at, HERON), Action.ALLOW, NOW)
        claim(at, HERON)
        assert at.desk.last_sent("heron") == sent
        with pytest.raises(NotAllowedError, match="another person"):
            actions.undo(KESTREL, at, sent.review_id, NOW)
        back = actions.undo(HERON, at, sent.review_id, NOW + 10)
        assert back is not None
        assert back.post.post_id == "p0"
        undo = writer.written[-1][2]
        assert isinstance(undo, Review)
        assert (undo.verdict, undo.undoes) == ("undo", sent.review_id)
        assert claim(at, HERON).post.post_id == "p0"
        assert claim(at, KESTREL).post.post_id == "p1"
        with pytest.raises(ClaimError, match="no such review"):
            actions.undo(HERON, at, sent.review_id, NOW + 20)


def test_an_administrator_takes_back_what_the_read_model_knows(path: ReadModelAt) -> None:
    writer = MemoryWriter()
    with working(path, writer) as at:
        sent = actions.decide(HERON, at, claim(at, HERON), Action.ALLOW, NOW)
    with Store(path) as store:
        store.apply(batch_of_outcomes([(REVIEWS, writer.written[0][2])]))
    without_desk(path)
    with working(path, writer) as at:
        back = actions.undo(ADMIN, at, sent.review_id, NOW + 50)
        assert back is not None
        assert back.reviewer == "osprey"


def test_skipped_and_escalated_posts_go_to_others(path: ReadModelAt) -> None:
    with working(path) as at:
        actions.skip(HERON, at, claim(at, HERON), NOW)
        actions.escalate(HERON, at, claim(at, HERON), NOW + 1, note="a threat?")
        assert claim(at, HERON, NOW + 2).post.post_id == "p2"
        assert claim(at, KESTREL, NOW + 2).post.post_id == "p0"
        at.desk.release(claim(at, HERON, NOW + 3))
        assert claim(at, HERON, NOW + 3, passed=True).post.post_id == "p1"


def test_nothing_is_left_is_said_so(path: ReadModelAt) -> None:
    with working(path) as at:
        for _ in range(5):
            actions.decide(HERON, at, claim(at, HERON), Action.ALLOW, NOW)
        assert at.desk.claim_next(at.model, "heron", NOW) is None
        assert at.desk.claim_next(at.model, "kestrel", NOW) is None


def test_an_edited_post_is_to_be_judged_anew(path: ReadModelAt) -> None:
    with working(path) as at:
        actions.decide(HERON, at, claim(at, HERON), Action.ALLOW, NOW)
    edited = label_of(99, posted_ms=START_MS + 90_000, rng=random.Random(1), post_id="p0")
    with Store(path) as store:
        store.apply(batch_of([edited]))
        decision = decision_on(edited.label, Action.REVIEW, severity="critical")
        store.apply(batch_of_outcomes([(DECISIONS, decision)], {"decisions": 5}))
    with working(path) as at:
        again = claim(at, KESTREL)
        assert again.post.post_id == "p0"
        assert again.post.decision_id == decision.decision_id


def test_a_post_is_chosen_by_hand_unless_somebody_has_it(path: ReadModelAt) -> None:
    with working(path) as at:
        claim(at, HERON)
        with pytest.raises(ClaimError, match="somebody else"):
            at.desk.claim(at.model, "p0", "kestrel", NOW)
        assert at.desk.claim(at.model, "p4", "kestrel", NOW).post.post_id == "p4"
        with pytest.raises(ClaimError):
            at.desk.claim(at.model, "nothing", "kestrel", NOW)


@pytest.mark.parametrize(
    ("action", "required", "needed"),
    [
        (Action.ALLOW, "strong", False),
        (Action.HIDE, "strong", True),
        (Action.ALLOW, "always", True),
        (Action.HIDE, "never", False),
    ],
)
def test_a_reason_where_one_is_required(
    path: ReadModelAt, action: Action, required: actions.ReasonRequired, needed: bool
) -> None:
    with working(path) as at:
        mine = claim(at, HERON)
        if needed:
            with pytest.raises(ConfigError, match="needs a reason"):
                actions.decide(HERON, at, mine, action, NOW, reason_required=required)
        actions.decide(HERON, at, mine, action, NOW, reason="spam", reason_required=required)


def test_roles_are_checked_in_the_action(path: ReadModelAt) -> None:
    with working(path) as at:
        mine = claim(at, VIEWER)
        for act in (
            lambda: actions.decide(VIEWER, at, mine, Action.ALLOW, NOW),
            lambda: actions.skip(VIEWER, at, mine, NOW),
            lambda: actions.escalate(VIEWER, at, mine, NOW),
            lambda: actions.undo(VIEWER, at, "x", NOW),
            lambda: actions.acknowledge_alert(VIEWER, at.writer, "a", NOW),
            lambda: actions.mute_alerts(VIEWER, at.writer, "r", NOW + 1000, NOW),
            lambda: actions.rate_alert(VIEWER, at.writer, "a", NOW, up=True),
            lambda: actions.save_brand(VIEWER, at.writer, "b", "tram", NOW),
            lambda: actions.skip(None, at, mine, NOW),  # type: ignore[arg-type]
        ):
            with pytest.raises(NotAllowedError):
                act()
        assert at.writer.written == []  # type: ignore[attr-defined]
        with pytest.raises(ClaimError, match="another person"):
            actions.skip(KESTREL, at, mine, NOW)


def test_mutes_and_brands_come_back_from_the_audit_topic(path: ReadModelAt) -> None:
    writer = MemoryWriter()
    actions.mute_alerts(HERON, writer, "spike", NOW + 1000, NOW)
    actions.save_brand(ADMIN, writer, " Trams ", "tram OR #transit", NOW)
    actions.save_brand(ADMIN, writer, "Gone", "bus", NOW)
    actions.save_brand(ADMIN, writer, "Gone", None, NOW + 1)
    for query in ("", "tram AND", "(tram", '"tram', "-tram", "a OR OR b"):
        with pytest.raises(ConfigError):
            actions.save_brand(ADMIN, writer, "Bad", query, NOW)
    with pytest.raises(ConfigError, match="30 days"):
        actions.mute_alerts(HERON, writer, "spike", NOW + 31 * 86_400_000, NOW)
    assert len(writer.written) == 4
    records: list[tuple[Topic, msgspec.Struct]] = [(AUDIT, w[2]) for w in writer.written]
    with Store(path) as store:
        store.apply(batch_of_outcomes(records))
    with open_reader(path) as reader:
        assert reader is not None
        assert mutes(reader.db, NOW) == {"spike": NOW + 1000}
        assert [(b.name, b.query, b.saved_by) for b in brands(reader.db)] == [
            ("Trams", "tram OR #transit", "osprey")
        ]


_MODERATOR = """
import sys
from dashboard.actions import Workplace, decide
from dashboard.desk import open_desk
from dashboard.people import Person, Role
from dashboard.reader import open_reader
from dashboard.writer import MemoryWriter
from stream.database_url import parse_database
from stream.outcomes import Action

path, name = parse_database(sys.argv[1]), sys.argv[2]
me = Person(name, Role.MODERATOR, name)
sys.stdin.readline()
with open_desk(path, 300) as desk, open_reader(path) as reader:
    at = Workplace(desk, reader.db, MemoryWriter())
    now = 1_795_000_060_000
    while (claim := desk.claim_next(reader.db, name, now)) is not None:
        print(claim.post.post_id)
        decide(me, at, claim, Action.ALLOW, now)
        now += 1
"""


def test_moderators_in_processes_of_their_own_never_get_the_same_post(place: ReadModelAt) -> None:
    path, posts = place, 120
    where = path.get_secret_value() if isinstance(path, PostgresUrl) else str(path)
    made = [
        label_of(n, posted_ms=START_MS + n, rng=random.Random(n), post_id=f"p{n}")
        for n in range(posts)
    ]
    with Store(path) as store:
        store.apply(batch_of(made))
        store.apply(
            batch_of_outcomes([(DECISIONS, decision_on(m.label, Action.REVIEW)) for m in made])
        )
    people = [
        subprocess.Popen(
            [sys.executable, "-c", _MODERATOR, where, f"m{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for person in people:
        assert person.stdin is not None
        person.stdin.write("go\n")
        person.stdin.flush()
    seen = [post for person in people for post in person.communicate(timeout=120)[0].split()]
    assert all(person.returncode == 0 for person in people)
    assert sorted(seen) == sorted(f"p{n}" for n in range(posts))
