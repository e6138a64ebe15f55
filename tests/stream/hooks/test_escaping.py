"""Whatever a post says, it rings nobody, formats nothing and hides nothing."""

from __future__ import annotations

import re
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.credentials import Credentials
from stream.hooks.escaping import cut, for_discord, for_people, for_slack, one_line, plain
from stream.hooks.formats.discord import DiscordFormat
from stream.hooks.formats.slack import SlackFormat
from stream.hooks.senders import now_utc
from stream.hooks.targets import Discord, Slack, Template
from stream.hooks.templates import Texts
from tests.stream.hooks.servers import alert, decision

SLACK = SlackFormat(Slack(url="x"), Credentials(url="https://x.test/y"))
DISCORD = DiscordFormat(Discord(url="x"), Credentials(url="https://x.test/y"))
NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<!channel>", "<!here|x>", "<@U123>", "@everyone", "@here", "<@&42>", "<#C1>",
                "*bold*", "_it_", "~~gone~~", "`code`", "```", "||spoiler||", "> quote", "# big",
                "[text](https://evil.test)", "<https://evil.test|click>", "https://evil.test/a_b",
                "&amp;", "&", "\u202e", "\u2066", "\u200b", "\x00", "\x1b[31m", "\r\nBcc: x@y.test",
                "\u2028", "\\", "\\*", "- item", "1. item", ":smile:", "\U000e0041", "-#",
            ]
        ),
        st.text(max_size=12),
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(NASTY)
def test_nothing_invisible_is_left(text: str) -> None:
    for char in plain(text):
        assert char in "\n\t\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    assert "\n" not in one_line(text)


@given(NASTY)
def test_slack_sees_no_markup(text: str) -> None:
    escaped = for_slack(text)
    assert "<" not in escaped
    assert ">" not in escaped
    assert not re.search(r"&(?!(amp|lt|gt);)", escaped)
    assert "`" not in escaped
    for mark in re.finditer(r"[*_~]", escaped):
        # Inside a word, where Slack takes it for a letter.
        assert escaped[mark.start() - 1 : mark.start()].isalnum()
        assert escaped[mark.end() : mark.end() + 1].isalnum()
    assert not re.search(r"(?m)^&gt;", escaped)


@given(NASTY)
def test_discord_sees_no_markup(text: str) -> None:
    escaped = for_discord(text)
    bare = re.sub(r"\\.", "", escaped)
    assert not re.search(r"[\\*_~`|>#\-+\[\]()<]", bare)
    assert not re.search(r"@(everyone|here)", escaped)
    assert "://" not in escaped
    assert not re.search(r"(?m)^\s*\d+\.(\s|$)", escaped)


@given(NASTY, st.integers(1, 60))
def test_a_cut_leaves_no_half_of_an_escape(text: str, most: int) -> None:
    slack = cut(for_slack(text), most, for_slack)
    assert len(slack) <= most
    assert not re.search(r"&(?!(amp|lt|gt);)", slack)
    discord = cut(for_discord(text), most, for_discord)
    assert len(discord) <= most
    assert not re.search(r"[\\*_~`|>#\-+\[\]()<]", re.sub(r"\\.", "", discord))


@given(NASTY)
def test_the_whole_message_rings_nobody(text: str) -> None:
    event = decision(text=text, post="p<!channel>")
    slack = SLACK.request([event], now_utc())
    body = msgspec.json.decode(slack.body)
    words = [body["text"], *(b["text"]["text"] for b in body["blocks"])]
    for each in words:
        links = re.findall(r"<([^<>]*)>", each)
        assert all(link == "https://x.test/1" for link in links)
    assert body["blocks"][0]["text"]["verbatim"] is True
    assert body["unfurl_links"] is False
    discord = DISCORD.request([event], now_utc())
    body = msgspec.json.decode(discord.body)
    assert body["allowed_mentions"] == {"parse": []}
    (embed,) = body["embeds"]
    assert set(re.findall(r"(?<!\\)<(.*?)>", embed["description"])) <= {"https://x.test/1"}


@pytest.mark.parametrize(
    ("escape", "wanted"),
    [
        (for_slack, "&lt;!channel&gt; ∗now∗ @everyone snake_case"),
        (for_discord, "\\<!channel\\> \\*now\\* @\u200beveryone snake\\_case"),
        (for_people, "<!channel> *now* @everyone snake_case"),
    ],
)
def test_what_an_escape_looks_like(escape: object, wanted: str) -> None:
    assert callable(escape)
    assert escape("<!channel> *now* @everyone \u202esnake_case\x00") == wanted


def test_a_template_escapes_what_it_puts_out_and_nothing_else() -> None:
    template = Template(title="*{{ post.text }}*", text="{{ post.url | link }} {{ 'a<b' }}")
    message = Texts(template, for_slack).message(decision(text="<!here> *x*"))
    assert message.title == "*&lt;!here&gt; ∗x∗*"
    assert message.text == "<https://x.test/1> a&lt;b"


def test_a_made_up_link_is_no_link() -> None:
    texts = Texts(Template(text="{{ post.text | link }}"), for_slack)
    assert texts.message(decision(text="javascript:alert(1)|<!here>")).text == (
        "javascript:alert(1)|&lt;!here&gt;"
    )
    assert "<!here>" not in texts.message(decision(text="https://a.test/<!here>")).text


def test_a_template_that_fails_for_a_record_gives_our_own_text() -> None:
    texts = Texts(Template(title="{{ 1 / decision.scores['toxicity'] }}"), for_people)
    assert texts.message(decision(scores={"toxicity": 0.0})).title == "HIDE (high): insults"
    assert texts.message(decision(scores={"toxicity": 0.5})).title == "2.0"


def test_a_template_cannot_leave_its_sandbox() -> None:
    for attack in (
        "{{ decision.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ decision.items.__globals__ }}",
        "{{ post.update({'text': 'x'}) }}",
    ):
        text = Texts(Template(text=attack), for_people).message(decision()).text
        assert "class" not in text
        assert "builtins" not in text


def test_an_alert_says_what_was_seen() -> None:
    message = Texts(Template(), for_people).message(alert())
    assert message.title == "FIRING: Toxicity in tag news is 31 %"
    assert "Seen 0.31, threshold 0.2 (share of posts)" in message.text
    assert "tag: news" in message.text
