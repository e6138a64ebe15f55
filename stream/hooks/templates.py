"""What people read: titles and texts, from Jinja templates in a sandbox.

The invariant: whatever an expression of a template puts out is escaped for the target, unless the
template's own `link` made it; a template that fails for a record gives the kind's own text, and
never keeps the record from being delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import ChainableUndefined, TemplateError
from jinja2 import Template as Compiled
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stream.hooks.escaping import (
    Safe,
    discord_link,
    for_discord,
    for_people,
    for_slack,
    one_line,
    plain,
    plain_link,
    slack_link,
)
from stream.hooks.events import Event
from stream.hooks.targets import Template
from stream.outcomes import Alert

Escape = Callable[[object], str]
_LINKS: Final[dict[Escape, Callable[[str], str]]] = {
    for_slack: slack_link,
    for_discord: discord_link,
    for_people: plain_link,
}
#: What a template may name.
VARIABLES: Final = ("event", "decision", "alert", "post", "author", "rules", "shadow_rules")

_TITLE: Final = """\
{%- if alert -%}
{% if alert.test %}TEST, {% endif %}{{ alert.state | upper }}: {{ alert.summary }}
{%- elif decision.retracted -%}
Post taken back: {{ decision.post_id }}
{%- elif decision.by == "review" -%}
Reviewed, {{ decision.action }}: {{ decision.post_id }}
{%- else -%}
{{ decision.action | upper }} ({{ decision.severity }}): {{ rules | join(", ") or shadow_rules | join(", ") or "no rule" }}
{%- endif -%}
"""
_TEXT: Final = """\
{%- if alert -%}
{{ alert.rule }}, {{ alert.severity }}, since {{ alert.started_at }}
{%- if alert.observed is not none %}
Seen {{ alert.observed | figure }}{% if alert.expected is not none %}, expected {{ alert.expected | figure }}{% endif %}
{%- if alert.threshold is not none %}, threshold {{ alert.threshold | figure }}{% endif %}
{%- if alert.unit %} ({{ alert.unit }}){% endif %}{% endif %}
{%- for name, value in alert.group.items() %}
{{ name }}: {{ value }}
{%- endfor %}
{%- if alert.terms %}
Terms: {{ alert.terms | join(", ") }}
{%- endif %}
{%- for example in alert.examples[:5] %}
- {{ (example.text or example.post_id) | cut(200) }}
{%- endfor %}
{%- else -%}
{%- if post and post.text %}{{ post.text | cut(600) }}
{% endif -%}
Post {{ decision.post_id | cut(200) }}{% if author %} by {{ author | cut(100) }}{% endif %}
{%- if decision.reason %}, reason {{ decision.reason }}{% endif %}
{%- if decision.language %}, language {{ decision.language }}{% endif %}
{%- if post and post.url %}
{{ post.url | link }}
{%- endif %}
{%- endif -%}
"""


class TemplateMistakeError(ValueError):
    """A template that cannot be compiled; `unknown` names a variable that there is not."""

    def __init__(self, message: str, unknown: str | None = None) -> None:
        super().__init__(message)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Message:
    """What people read of one event, escaped; the title is one line."""

    title: str
    text: str


class Texts:
    """The title and the text of a target's messages.

    Args:
        template: the file's; what it leaves out is the kind's own.
        escape: the target's.

    Raises:
        TemplateMistakeError: one of them cannot be compiled.
    """

    def __init__(self, template: Template, escape: Escape) -> None:
        self._environment = environment(escape)
        self._own = (self._compiled(_TITLE), self._compiled(_TEXT))
        self._title = self._own[0] if template.title is None else self._compiled(template.title)
        self._text = self._own[1] if template.text is None else self._compiled(template.text)

    def message(self, event: Event) -> Message:
        """What is said of an event."""
        variables = variables_of(event)
        return Message(
            title=" ".join(self._rendered(self._title, self._own[0], variables).split()),
            text=self._rendered(self._text, self._own[1], variables).strip(),
        )

    def _compiled(self, text: str) -> Compiled:
        check(self._environment, text)
        return self._environment.from_string(text)

    def _rendered(self, wanted: Compiled, own: Compiled, variables: dict[str, Any]) -> str:
        try:
            return wanted.render(variables)
        except Exception:
            # The user's template may do anything with a record it was not written for.
            if wanted is own:
                raise
            return own.render(variables)


def environment(escape: Escape) -> ImmutableSandboxedEnvironment:
    """Jinja that escapes what expressions put out."""

    def finalize(value: object) -> object:
        return value if isinstance(value, Safe) else Safe(escape("" if value is None else value))

    made = ImmutableSandboxedEnvironment(
        undefined=ChainableUndefined,
        finalize=finalize,
        autoescape=False,
        keep_trailing_newline=True,
    )
    made.globals.clear()
    link = _LINKS[escape]
    made.filters["link"] = lambda value: Safe(link(str(value or "")))
    made.filters["cut"] = _cut
    made.filters["line"] = one_line
    made.filters["figure"] = _figure
    return made


def check(jinja: ImmutableSandboxedEnvironment, text: str) -> None:
    """Compile a template and look at the names it uses.

    Raises:
        TemplateMistakeError: it is no template, or names a variable that there is not.
    """
    try:
        tree = jinja.parse(text)
        jinja.from_string(text)
    except TemplateError as exc:
        message = str(exc.message or exc)
        raise TemplateMistakeError(message[:1].lower() + message[1:].rstrip(".")) from exc
    for name in sorted(find_undeclared_variables(tree)):
        if name not in VARIABLES:
            raise TemplateMistakeError(f"the template names `{name}`, which there is not", name)


def variables_of(event: Event) -> dict[str, Any]:
    """What a template sees of an event: plain data, no methods of ours."""
    record = event.record
    if isinstance(record, Alert):
        return {"event": _about(event), "alert": _Fields(record), "decision": None, "post": None}
    return {
        "event": _about(event),
        "alert": None,
        "decision": _Fields(record),
        "post": None if record.post is None else _Fields(record.post),
        "author": _author(record.post),
        "rules": [rule.id for rule in record.rules if rule.mode == "live"],
        "shadow_rules": [rule.id for rule in record.rules if rule.mode == "shadow"],
    }


class _Fields(dict[str, Any]):
    """A record as a template reads it: `decision.action`."""

    def __init__(self, record: Any) -> None:
        super().__init__({name: getattr(record, name) for name in record.__struct_fields__})


def _about(event: Event) -> dict[str, Any]:
    return {"id": event.message_id, "type": event.type, "at": event.at, "kind": event.kind}


def _author(post: Any) -> str | None:
    if post is None:
        return None
    handle: str | None = getattr(post.author, "handle", None)
    return handle or post.author_id


def _cut(text: object, most: int = 500) -> str:
    cleaned = plain(text)
    return cleaned if len(cleaned) <= most else cleaned[: max(0, most - 1)] + "…"


def _figure(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else str(value)
