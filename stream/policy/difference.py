"""What changed from one policy to another, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stream.policy.engine import Policy, Rule

_FIELDS = (
    "version", "mode", "when", "action", "severity", "reason", "languages", "expires_at", "priority",
    "quota", "description",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, before and after, as text; None where it is not set."""

    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """A rule, list or safelist that is not the same; for lists `fields` has what came and went.

    `silent`: the condition or the outcome changed and the rule's version did not, so that
    decisions of both look alike.
    """

    kind: Literal["added", "removed", "changed"]
    what: Literal["rule", "list", "policy"]
    id: str
    fields: tuple[FieldChange, ...] = ()
    silent: bool = False


def difference(old: Policy, new: Policy) -> list[Change]:
    """Every change, rules first, by id."""
    before, after = ({rule.id: rule for rule in policy.rules} for policy in (old, new))
    changes = [
        _rule_change(before.get(name), after.get(name)) for name in sorted({*before, *after})
    ]
    lists_before, lists_after = old.lists.contents, new.lists.contents
    changes += [
        _list_change(name, lists_before.get(name), lists_after.get(name))
        for name in sorted({*lists_before, *lists_after})
    ]
    if old.quota != new.quota:
        change = FieldChange("quota", _text(old.quota), _text(new.quota))
        changes.append(Change("changed", "policy", "quota", (change,)))
    return [change for change in changes if change is not None]


def _rule_change(old: Rule | None, new: Rule | None) -> Change | None:
    if old is None or new is None:
        rule = new if old is None else old
        assert rule is not None
        fields = tuple(
            FieldChange(name, None if old is None else value, None if new is None else value)
            for name in ("mode", "action", "when")
            if (value := _text(getattr(rule, name)))
        )
        return Change("added" if old is None else "removed", "rule", rule.id, fields)
    fields = tuple(
        FieldChange(name, _text(getattr(old, name)), _text(getattr(new, name)))
        for name in _FIELDS
        if _text(getattr(old, name)) != _text(getattr(new, name))
    )
    if not fields:
        return None
    weighty = any(change.field not in ("version", "description", "mode") for change in fields)
    return Change("changed", "rule", new.id, fields, silent=weighty and old.version == new.version)


def _list_change(
    name: str, old: frozenset[str] | None, new: frozenset[str] | None
) -> Change | None:
    if old == new:
        return None
    gone, come = (
        sorted((old or frozenset()) - (new or frozenset())),
        sorted((new or frozenset()) - (old or frozenset())),
    )
    fields = (
        *(FieldChange("entry", entry, None) for entry in gone),
        *(FieldChange("entry", None, entry) for entry in come),
    )
    return Change(
        "added" if old is None else "removed" if new is None else "changed", "list", name, fields
    )


def _text(value: object) -> str | None:
    if value in (None, (), ""):
        return None
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return " ".join(str(value).split())
