"""How `tidegate policy` shows an explanation and a difference to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from stream.policy.difference import Change, FieldChange
    from stream.policy.explanation import Explanation, Part, RuleExplanation

#: Values in an explanation are cut to this.
_SHOWN_CHARS = 60


def print_explanation(explanation: Explanation, text: str, version: str, *, every: bool) -> None:
    """The text with what was found in it, the outcome, the rules that made it."""
    console = Console(highlight=False, soft_wrap=True)
    verdict = explanation.verdict
    marked = Text(text, style="italic")
    for match in verdict.matches:
        for span in match.spans:
            marked.stylize("bold red" if match.mode == "live" else "yellow", span.start, span.end)
    console.print(marked, end="\n\n")
    line = Text(verdict.action, style="bold")
    if verdict.decisive is not None:
        line.append(
            f"  {verdict.severity}, {verdict.reason}, by rule {verdict.decisive}", style="not bold"
        )
    elif verdict.safelist is not None:
        line.append(f"  by safelist ({verdict.safelist})", style="not bold")
    console.print(line)
    for rule in explanation.rules:
        if rule.matched or rule.failed or every:
            _print_rule(console, rule, text)
    others = sum(not (rule.matched or rule.failed) for rule in explanation.rules)
    if others and not every:
        console.print(f"\n{others} rules did not match (--all shows them)", style="dim")
    console.print(f"policy {version}", style="dim")


def _print_rule(console: Console, rule: RuleExplanation, text: str) -> None:
    state = "failed" if rule.failed else "matched" if rule.matched else "did not match"
    head = Text(f"\n{rule.id} {rule.version}", style="bold")
    action = f", {rule.match.action}" if rule.match else ""
    head.append(f"  {rule.mode}{action}: {state}", style="not bold")
    if rule.match is not None and rule.match.score is not None:
        head.append(f", score {rule.match.score:.2f}", style="not bold")
    console.print(head)
    for remark in (rule.skipped, rule.failed):
        if remark:
            console.print(Text(f"  {remark}", style="yellow"))
    if rule.condition is not None:
        _print_part(console, rule.condition, 1)
    for span in rule.match.spans if rule.match else ():
        found = text[span.start : span.end]
        console.print(Text(f"  {span.start}-{span.end}  {found!r}  {span.what}", style="dim"))


def _print_part(console: Console, part: Part, depth: int) -> None:
    value = part.error or _shown_value(part.value)
    style = "red" if part.error else "green" if part.value is True else ""
    line = Text("  " * depth + " ".join(part.source.split()))
    line.append("  = ", style="dim")
    line.append(value, style=style)
    console.print(line)
    for piece in part.parts:
        _print_part(console, piece, depth + 1)


def _shown_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def print_change(console: Console, change: Change) -> None:
    """One change: a line, and one for each field."""
    sign, style = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}[
        change.kind
    ]
    console.print(Text(f"{sign} {change.what} {change.id}", style=f"bold {style}"))
    for field in change.fields:
        _print_field(console, field)
    if change.silent:
        console.print(Text("    its version is the same: raise it", style="yellow"))


def _print_field(console: Console, field: FieldChange) -> None:
    if field.old is None or field.new is None:
        sign, value, style = (
            ("-", field.old, "red") if field.new is None else ("+", field.new, "green")
        )
        console.print(Text(f"    {sign} {field.field}: {value}", style=style))
        return
    console.print(Text(f"    {field.field}: {field.old}", style="red"))
    console.print(Text(f"    {' ' * len(field.field)}→ {field.new}", style="green"))
