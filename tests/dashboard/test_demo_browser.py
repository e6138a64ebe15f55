"""A running `tidegate demo`, every role and the real model in it, and what people do with it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, Locator, Page, expect

from dashboard.policy_text import comparisons, rule_block, with_key, with_threshold
from stream.decisions.stored import stored_reviews
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.outcomes import Review
from stream.policy import load_policy
from stream.policy.load import policy_path
from stream.records import Post, encode
from stream.settings import KafkaSettings
from stream.topics import POSTS
from tests.cli.demos import Demo
from tests.conftest import kafka_environment, kafka_settings
from tests.dashboard.chromium import CHROMIUM, chromium, press, shown, visiting

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

SLOW_MS = 60_000
TITLES = ("Trends", "Review", "Rules", "Alerts", "Models", "Audit", "System", "Live")
CALM = (
    "The ferry leaves at nine and takes bicycles.",
    "Hoy el mercado huele a pan recién hecho.",
    "Am Kanal sitzen die Leute in der Sonne.",
    "Third tram in a row without heating. Nobody answers the phone.",
)
BROKEN = b'{"id": "broken-1", "text": "no end'
#: What people are to look at, whatever the model says of it.
CREW = "Notice {} of the quay crew: the crane moves at noon."
CREW_RULE = """
lists:
  crew:
    words: [quay crew]

rules:
  - id: crew
    description: The crew's notices are read by a person.
    when: words("crew")
    action: review
    severity: critical
    reason: violence-threats
    priority: 1000
"""
GREY = "e => getComputedStyle(e.querySelector('.text')).filter"
#: Fires on the feed below, by itself, while the other journeys are made; and goes on firing.
ALERTS_FILE = """
rules:
  - id: busy-quay
    kind: threshold
    description: Many posts at once.
    severity: high
    measure: posts
    over: 15
    window: 1m
    resolve_after: 1h
"""


class Quay:
    """The demo, its broker and its page."""

    def __init__(self, url: str, kafka: KafkaSettings, policy: Path) -> None:
        self.url = url
        self.kafka = kafka
        self.policy = policy

    def post(self, *posts: Post) -> None:
        """Put posts on the topic, in this order."""
        topic = POSTS.full_name(self.kafka.topic_prefix)
        with closing(KafkaProducer(**kafka_python_config(self.kafka))) as producer:
            for post in posts:
                producer.send(topic, encode(post), partition=0).get(20)

    def reviews(self) -> list[Review]:
        """What is on the topic."""
        # On a thread of its own: this one has Playwright's event loop.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: list(stored_reviews(self.kafka))).result()


@pytest.fixture(scope="module")
def quay(
    embedded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Quay]:
    folder = tmp_path_factory.mktemp("demo")
    kafka = kafka_settings(embedded_broker)
    policy = folder / "policy.yaml"
    text = with_threshold(policy_path().read_text(), "obscene", "toxicity.obscene", 0.5)
    text = with_key(text, "obscene", "mode", "shadow")
    lists, _, crew = CREW_RULE.partition("\n\nrules:")
    text = text.replace("\nlists:", lists, 1).replace("\nrules:", f"\nrules:{crew}", 1)
    policy.write_text(text)
    posts = [json.dumps({"id": f"calm-{n}", "text": CALM[n % 4]}).encode() for n in range(40)]
    (folder / "feed.jsonl").write_bytes(b"\n".join([*posts, BROKEN]) + b"\n")
    (folder / "alerts.yaml").write_text(ALERTS_FILE)
    environment = kafka_environment(kafka) | {
        "TIDEGATE_POLICY__PATH": str(policy),
        "TIDEGATE_ALERTS__PATH": str(folder / "alerts.yaml"),
    }
    demo = Demo(
        folder, "--posts", "feed.jsonl", "--kafka", kafka.bootstrap, "--no-browser", "--json",
        "--port", "0", env=environment,
    )  # fmt: skip
    try:
        found = demo.wait_for(lambda: re.search(r"page\s+(http://\S+)", demo.errors), 120)
        yield Quay(found[1], kafka, policy)
        demo.process.terminate()
        code, _ = demo.finish(60)
        assert code == 0, demo.errors
        demo.gone()
    finally:
        demo.kill_what_is_left()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def visit(browser: Browser, quay: Quay) -> Iterator[Callable[..., Page]]:
    with visiting(browser, quay.url) as go:
        yield go


def done(page: Page) -> None:
    """The script has run through, and nothing on the page is an exception or cut off."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached(
        timeout=SLOW_MS
    )
    expect(page.locator("[data-testid=stException]")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def grid(page: Page, alt: str) -> Locator:
    """A table by what it says of itself to those who do not see it."""
    return page.get_by_role("grid", name=re.compile(alt)).or_(
        page.locator("[data-testid=stDataFrame]").filter(has=page.get_by_label(re.compile(alt)))
    )


def drawn(page: Page, description: str) -> Locator:
    """A chart by what it says of itself to those who do not see it."""
    return page.locator(f'[data-testid=stVegaLiteChart][aria-label^="{description}"]').first


def test_a_post_that_is_sent_appears_with_its_labels(
    quay: Quay, visit: Callable[..., Page]
) -> None:
    page = visit()
    expect(page.locator("li.post").first).to_be_visible(timeout=SLOW_MS)
    expect(
        page.locator(".stMarkdownBadge, [data-testid=stMarkdown]", has_text="live").first
    ).to_be_visible()
    words = "A lantern swings above the lock tonight, and it is lovely."
    quay.post(Post(id="lantern", text=words, source="quay"))
    post = page.locator("li.post", has_text=words)
    expect(post).to_be_visible(timeout=30_000)
    expect(post).to_contain_text(re.compile("positive", re.IGNORECASE))
    expect(post).to_contain_text("English")


def test_a_filter_is_in_the_address_and_the_address_brings_it_back(
    quay: Quay, visit: Callable[..., Page]
) -> None:
    quay.post(
        Post(id="quartz-1", text="The quartz lantern is lit.", author="otto"),
        Post(id="quartz-2", text="The other lantern is lit.", author="otto"),
    )
    page = visit()
    expect(page.locator("li.post", has_text="The other lantern")).to_be_visible(timeout=SLOW_MS)
    page.get_by_placeholder("Search in texts").fill("quartz lantern")
    expect(page.locator("li.post")).to_have_count(1)
    expect(page.get_by_text("The quartz lantern is lit.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"text=quartz"))
    # In somebody else's browser.
    again = visit(page.url.removeprefix(quay.url).lstrip("/"))
    expect(again.get_by_text("The quartz lantern is lit.")).to_be_visible(timeout=SLOW_MS)
    expect(again.locator("li.post")).to_have_count(1)
    expect(again.get_by_placeholder("Search in texts")).to_have_value("quartz lantern")


def test_ten_posts_are_reviewed_by_keyboard_with_one_undo(
    quay: Quay, visit: Callable[..., Page]
) -> None:
    ids = [f"crew-{n}" for n in range(10)]
    quay.post(*(Post(id=post_id, text=CREW.format(post_id)) for post_id in ids))
    # Nothing is escalated, so that nothing is in hand before all of them are in the queue.
    page = visit("review?escalated=true")
    expect(page.get_by_text(re.compile(r"\b10 critical")).first).to_be_visible(timeout=SLOW_MS)
    page.goto(f"{quay.url}/review")
    seen = [shown(page)]
    page.keyboard.press("v")
    expect(page.locator(".desk mark").first).to_have_text("quay crew")
    # In grey until its colours are asked for.
    text = page.locator(".desk p.text.whole")
    for colours in ("grayscale(1)", "none", "grayscale(1)"):
        expect(text).to_be_visible()
        assert colours == page.locator(".desk .words").evaluate(GREY)
        page.keyboard.press("g")
    # A note; letters typed into it are no decisions, and `c` and `r` are not Streamlit's.
    page.keyboard.press("n")
    page.keyboard.type("clear case, referred")
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    expect(page.get_by_text("Hide: why?")).to_be_visible()
    for n, key in enumerate(("Enter", "a", "f", "a", "a", "f", "a", "a", "a")):
        following = press(page, key, seen[-1])
        assert following is not None
        # What is confirmed is on the topic before the next post shows.
        written = quay.reviews()
        assert [review.post_id for review in written] == seen
        assert len(written) == n + 1
        seen.append(following)
    assert seen == ids
    assert press(page, "u", seen[-1]) == seen[-2], "the post is in hand again"
    page.keyboard.press("l")
    following = press(page, "1", seen[-2])
    assert following == seen[-1]
    assert press(page, "a", following) is None
    expect(page.get_by_text("The queue is empty")).to_be_visible(timeout=SLOW_MS)
    written = quay.reviews()
    assert [review.verdict for review in written] == ["decide"] * 9 + ["undo"] + ["decide"] * 2
    assert [review.action for review in written] == [
        "hide", "allow", "flag", "allow", "allow", "flag", "allow", "allow", "allow", None, "limit", "allow",
    ]  # fmt: skip
    assert written[0].reason == "violence-threats"
    assert written[0].note == "clear case, referred"
    assert written[9].undoes == written[8].review_id
    assert len({review.reviewer for review in written}) == 1


def test_every_page_is_whole(visit: Callable[..., Page]) -> None:
    page = visit(width=1280, height=720)
    for title in TITLES:
        page.get_by_test_id("stTopNavLink").filter(has_text=title).click(timeout=SLOW_MS)
        address = "" if title == "Live" else title.lower()
        expect(page).to_have_url(re.compile(rf"/{address}($|\?)"), timeout=SLOW_MS)
        done(page)


def test_a_threshold_is_moved_and_its_rule_promoted(quay: Quay, visit: Callable[..., Page]) -> None:
    page = visit("rules?view=Thresholds&label=toxicity.obscene&scores_range=1+h")
    slider = page.get_by_role("slider", name="Threshold")
    expect(slider).to_have_value("0.5", timeout=SLOW_MS)
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Would flag at 0.55")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("nothing is saved")).to_be_visible()
    expect(page).to_have_url(re.compile(r"at=0\.55"))
    page.get_by_role("button", name="Put 0.55 into the rule").click()
    expect(page.get_by_text("Loads without a mistake")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("As it is in force")).to_be_visible(timeout=30_000)
    page.goto(f"{quay.url}/rules?rule=obscene")
    page.get_by_role("button", name="Promote to live").click(timeout=SLOW_MS)
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(page.get_by_role("button", name="Promote to live")).to_have_count(0, timeout=30_000)
    rule = next(rule for rule in load_policy(quay.policy).rules if rule.id == "obscene")
    assert rule.mode == "live"
    assert comparisons(rule.when, "toxicity.obscene")[0][1] == pytest.approx(0.55)
    assert rule_block(quay.policy.read_text(), "obscene")


def test_an_alert_is_acknowledged_on_a_phone(visit: Callable[..., Page]) -> None:
    """One that the role `alert` raised over the counts of the demo's own feed."""
    page = visit("alerts", width=390, height=844)
    card = page.locator("[class*='st-key-alert-']").filter(has_text="busy-quay").first
    expect(card).to_be_visible(timeout=2 * SLOW_MS)
    expect(card.get_by_text("firing")).to_be_visible()
    expect(drawn(page, "Posts over time")).to_be_visible(timeout=SLOW_MS)
    done(page)
    assert page.locator("[data-testid=stVerticalBlock] button").evaluate_all(
        "all => all.every(e => e.getBoundingClientRect().right <= innerWidth)"
    )
    card.get_by_role("button", name="Acknowledge").click()
    expect(card.get_by_text(re.compile("acknowledged by"))).to_be_visible(timeout=30_000)
    # It came back through the topic, so that everybody sees it.
    expect(visit("alerts").get_by_text(re.compile("acknowledged by"))).to_be_visible(
        timeout=SLOW_MS
    )


def test_a_dead_letter_is_replayed(visit: Callable[..., Page]) -> None:
    page = visit("system")
    letters = grid(page, "Dead letters")
    expect(letters).to_be_attached(timeout=SLOW_MS)
    letters.scroll_into_view_if_needed()
    letters.locator(".dvn-scroller").click(position={"x": 18, "y": 52})
    expect(page.get_by_text("no end")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Replay it").click()
    expect(page.get_by_text("The broker has it again.")).to_be_visible(timeout=30_000)
    # It is as broken as it was: the worker says so a second time.
    expect(page.get_by_text("not-json 2")).to_be_visible(timeout=30_000)


def test_the_system_page_knows_every_role_and_how_the_models_run(
    visit: Callable[..., Page],
) -> None:
    page = visit("system")
    roles = grid(page, "Each role of the workers")
    expect(roles).to_be_attached(timeout=2 * SLOW_MS)
    for role in ("label", "decide", "aggregate", "alert", "hooks/demo"):
        expect(roles).to_contain_text(role, timeout=SLOW_MS)
    expect(roles).to_contain_text("✓")
    expect(grid(page, "Lag of every role")).to_contain_text("labels[0]", timeout=30_000)
    running = grid(page, "Provider, device")
    expect(running).to_contain_text("CPUExecutionProvider", timeout=30_000)
    expect(running).to_contain_text("Attention")


def test_trends_and_models_say_what_they_draw(visit: Callable[..., Page]) -> None:
    page = visit("trends?period=1+h&metric=Toxicity")
    expect(drawn(page, "Toxicity over ")).to_be_visible(timeout=SLOW_MS)
    drawn(page, "Toxicity over ").hover()
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("button", name="Download as PNG").click()
    width, height = struct.unpack(">8x4x4xII8x", download.value.path().read_bytes()[:32])
    assert width > 600
    assert height > 150
    page.get_by_role("radio", name="Net sentiment").click()
    expect(drawn(page, "Net sentiment over ")).to_be_visible(timeout=30_000)
    expect(page).to_have_url(re.compile("metric=Net"))
    done(page)
    page = visit("models")
    expect(page.get_by_text("tidegate/compact").first).to_be_visible(timeout=SLOW_MS)
    page.get_by_text("Calibration on dev rows").scroll_into_view_if_needed()
    expect(drawn(page, "Calibration of toxicity")).to_be_visible(timeout=SLOW_MS)
    done(page)
