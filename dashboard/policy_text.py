"""Changes to the text of a policy file that leave the rest of it as it was written: pure.

Comments, order and layout are people's; a change touches one key of one rule. Invariant: what
comes out differs from what went in by that change alone, or a `ConfigError` says why it cannot.
"""

from __future__ import annotations

import re
from typing import Final

from stream.errors import ConfigError

_ITEM: Final = re.compile(r"^(?P<indent>[ ]*)-[ ]+id:[ ]*(?P<id>[^\s#]+)", re.MULTILINE)
_NUMBER: Final = r"\d+(?:\.\d+)?"
_BY_LANGUAGE: Final = (
    rf"\(\s*(?P<cases>(?:language\.label\s*==\s*\"[a-z]+\"\s*\?\s*{_NUMBER}\s*:\s*)+)"
    rf"(?P<rest>{_NUMBER})\s*\)"
)


def rule_block(text: str, rule: str) -> tuple[int, int]:
    """From where to where the rule stands in the text, without comments that lead the next one.

    Raises:
        ConfigError: the text has no rule of this id, written as a block.
    """
    for found in _ITEM.finditer(text):
        if found["id"].strip("\"'") != rule:
            continue
        deeper = re.compile(rf"^(?![ ]{{{len(found['indent']) + 1},}}|[ ]*$)", re.MULTILINE)
        end = next(
            (m.start() for m in deeper.finditer(text, found.end()) if m.start() > found.end()),
            len(text),
        )
        body = text[found.start() : end]
        kept = re.sub(r"(?:^[ ]*(?:#.*)?\n?)+\Z", "", body, flags=re.MULTILINE)
        return found.start(), found.start() + len(kept.rstrip("\n"))
    raise ConfigError(
        f"the rule `{rule}` is not in this file, or not written as a block",
        hint="edit the file's text",
    )


def with_key(text: str, rule: str, key: str, value: str) -> str:
    """The text with one plain key of a rule set, added where it was not there.

    Raises:
        ConfigError: see `rule_block`.
    """
    begin, end = rule_block(text, rule)
    block = text[begin:end]
    indent = _inner_indent(block)
    line = re.compile(
        rf"^(?P<head>(?:[ ]*-[ ]+|{indent}){key}:[ ]*)(?P<value>[^#\n]*?)(?P<tail>[ ]*(?:#.*)?)$",
        re.MULTILINE,
    )
    if line.search(block):
        changed = line.sub(lambda m: f"{m['head']}{value}{m['tail']}", block, count=1)
    else:
        first = block.find("\n") + 1 or len(block)
        head = block[:first] if block[:first].endswith("\n") else f"{block[:first]}\n"
        changed = f"{head}{indent}{key}: {value}\n{block[first:]}"
    return text[:begin] + changed + text[end:]


def value_of(text: str, rule: str, key: str) -> str | None:
    """What stands at a plain key of a rule."""
    begin, end = rule_block(text, rule)
    found = re.search(rf"^(?:[ ]*-[ ]+|[ ]+){key}:[ ]*([^#\n]*)", text[begin:end], re.MULTILINE)
    return found[1].strip().strip("\"'") if found else None


def with_raised_version(text: str, rule: str) -> str:
    """The text with the rule's version one higher: its decisions are told apart from older ones."""
    version = value_of(text, rule, "version") or "1"
    found = re.fullmatch(r"(.*?)(\d+)", version)
    raised = f"{found[1]}{int(found[2]) + 1}" if found else f"{version}.1"
    return with_key(text, rule, "version", raised)


def comparisons(when: str, label: str) -> list[tuple[str, float]]:
    """The (operator, number) that a condition compares a label's score with.

    Where languages have numbers of their own, the one of all others.
    """
    pattern = rf"(?<![\w.]){re.escape(label)}\s*(>=|>)\s*(?:{_BY_LANGUAGE}|(?P<general>{_NUMBER}))"
    return [
        (found[1], float(found["rest"] or found["general"])) for found in re.finditer(pattern, when)
    ]


def with_threshold(text: str, rule: str, label: str, value: float, language: str = "") -> str:
    """The text with the number that the rule compares the label with, everywhere or in a language.

    A language gets its own number beside the general one, in CEL's `? :`.

    Raises:
        ConfigError: the rule does not compare the label with a plain number, or does it twice.
    """
    begin, end = rule_block(text, rule)
    block = text[begin:end]
    number = _written(value)
    general = rf"(?P<general>{_NUMBER})"
    pattern = re.compile(
        rf"(?P<head>(?<![\w.]){re.escape(label)}\s*(?:>=|>)\s*)(?:{_BY_LANGUAGE}|{general})"
    )
    found = pattern.findall(block)
    if len(found) != 1:
        many = "compares it more than once" if found else "does not compare it with a number"
        raise ConfigError(f"the rule `{rule}` {many}: `{label}`", hint="edit the rule's text")

    def changed(match: re.Match[str]) -> str:
        cases, rest = match["cases"] or "", match["rest"] or match["general"]
        if not language:
            return f"{match['head']}({cases}{number})" if cases else f"{match['head']}{number}"
        mine = re.compile(rf"(language\.label\s*==\s*\"{language}\"\s*\?\s*){_NUMBER}")
        if mine.search(cases):
            cases = mine.sub(lambda m: f"{m[1]}{number}", cases, count=1)
        else:
            # Without the space behind it: in YAML a colon and a space would begin a mapping.
            cases = f'language.label == "{language}" ? {number} :{cases}'
        return f"{match['head']}({cases}{rest})"

    return text[:begin] + pattern.sub(changed, block, count=1) + text[end:]


def _inner_indent(block: str) -> str:
    found = re.match(r"([ ]*)-([ ]+)", block)
    assert found is not None
    return " " * (len(found[1]) + 1 + len(found[2]))


def _written(value: float) -> str:
    """A CEL double: with a point, else it would be a whole number."""
    text = f"{value:.4f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text
