"""What CEL's compiler says about a mistake, in our words: where, what, and the next thing to type.

Invariant: a message of the compiler that is not known here is passed on as it is, never lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why an expression does not compile, at `offset` characters into it.

    `unknown` is the name that is not known, for a `did you mean`.
    """

    offset: int
    width: int
    message: str
    hint: str | None = None
    unknown: str | None = None


_MISTAKE = re.compile(
    r"ERROR: <input>:(\d+):(\d+): (.*?)(?=\n \||\nERROR: | \[[A-Z_]+\]$)", re.DOTALL
)
#: What people write who come from elsewhere, and what CEL has for it.
_ELSEWHERE: Final = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "True": "true",
    "False": "false",
    "None": "null",
    "=": "==",
    "is": "==",
}


def mistakes_of(error: str, source: str) -> list[Mistake]:
    """Every mistake in the compiler's message about an expression."""
    lines = source.split("\n")
    mistakes: list[Mistake] = []
    for line, column, what in _MISTAKE.findall(error):
        offset = sum(len(each) + 1 for each in lines[: int(line) - 1]) + int(column) - 1
        syntax = what.startswith("Syntax error")
        if syntax and mistakes:
            continue  # the parser stumbles on; only its first complaint is true
        mistakes.append(_syntax(offset, what, source) if syntax else _meaning(offset, what, source))
    if not mistakes:
        text = re.sub(r"^[A-Z_]+: | \[[A-Z_]+\]$", "", error).removeprefix("ERROR: ")
        mistakes.append(Mistake(0, 1, text[:1].lower() + text[1:].splitlines()[0]))
    return mistakes


def _syntax(offset: int, what: str, source: str) -> Mistake:
    found = re.search(r"(?:mismatched|extraneous) input '(.*?)'|at: '(.*)'", what, re.DOTALL)
    got = (found[1] or found[2] or "").strip() if found else ""
    if got == "<EOF>":
        return Mistake(max(len(source.rstrip()) - 1, 0), 1, "the expression ends too early")
    if missing := re.search(r"missing '(.*?)' at", what):
        return Mistake(offset, 1, f"a `{missing[1]}` is missing")
    if re.search(r"\bnot\s+$", source[:offset]):
        start = source.rindex("not", 0, offset)
        return Mistake(start, 3, "`not` is not CEL", "write `!`")
    if wanted := _ELSEWHERE.get(got) or _ELSEWHERE.get(_word_at(source, offset)):
        got = got if got in _ELSEWHERE else _word_at(source, offset)
        return Mistake(offset, len(got), f"`{got}` is not CEL", f"write `{wanted}`")
    if got[:1] in ("'", '"'):
        return Mistake(
            offset,
            1,
            "the string has no end, or a `\\` in it that is not one of CEL's",
            "write r'...' for a regular expression",
        )
    return Mistake(
        offset, max(1, len(got)), f"unexpected `{got}`" if got else "this cannot stand here"
    )


def _meaning(offset: int, what: str, source: str) -> Mistake:
    if found := re.match(r"undeclared reference to '(.*?)'", what):
        name = found[1]
        start = offset - max(name.rfind("."), 0)
        if name in _ELSEWHERE:
            return Mistake(start, len(name), f"`{name}` is not CEL", f"write `{_ELSEWHERE[name]}`")
        if source[offset : offset + 1] == "(":
            start = source.rfind(name, 0, offset)
            return Mistake(start, len(name), f"unknown function `{name}`", unknown=f"{name}()")
        return Mistake(start, len(name), f"unknown name `{name}`", unknown=name)
    if found := re.match(r"found no matching overload for '(.*?)' applied to '(.*)'", what):
        return _overload(offset, found[1], found[2], source)
    if re.match(r"expression of type '.*?' cannot be the operand of a select", what):
        before = re.search(r"[\w.]+$", source[:offset])
        after = re.match(r"\.\s*(\w+)", source[offset:])
        owner, name = before[0] if before else "this", after[1] if after else ""
        return Mistake(
            offset + 1,
            len(name) or 1,
            f"`{owner}` has no field `{name}`",
            unknown=f"{owner}.{name}",
        )
    return Mistake(offset, 1, what[:1].lower() + what[1:])


def _overload(offset: int, function: str, types: str, source: str) -> Mistake:
    is_operator = function.startswith(("_", "@", "!", "-"))
    operator = function.strip("_") if is_operator else None
    given = types.removeprefix("(").removesuffix(")")
    if operator is None:
        start = offset
        if source[offset : offset + 1] == "(":
            start = source.rfind(function, 0, offset)
        member = re.match(r"(.*)\.\((.*)\)$", types)
        said = (
            f"{member[1]} has no `{function}({member[2]})`"
            if member
            else f"`{function}` does not take ({given})"
        )
        return Mistake(max(start, 0), len(function), said, unknown=f"{function}()")
    hint = None
    kinds = given.split(", ")
    if sorted(kinds) == ["double", "int"]:
        hint = "write the whole number with a point: `1.0` instead of `1`"
    elif "key" in kinds:
        hint = "`author` is for `count(author, ...)`; its value is `author.id`"
    elif operator in ("&&", "||"):
        hint = "both sides are conditions: compare with something"
    shown = {"?_:": "? :", "[": "[ ]", "@in": "in", "-_": "-"}.get(operator, operator)
    if function == "!_":
        return Mistake(offset, 1, f"`!` needs a condition, not {given}", hint)
    width = len(shown) if " " not in shown else 1
    return Mistake(offset, width, f"`{shown}` cannot take {' and '.join(kinds)}", hint)


def not_a_condition(source: str, type_name: str) -> Mistake:
    """An expression that compiles and is neither true nor false."""
    name = _NAMES.get(type_name, type_name.lower())
    return Mistake(
        0,
        len(source.rstrip().split("\n")[0]),
        f"the condition is {name}, not true or false",
        "compare it with something, as in `... > 0.5`",
    )


_NAMES: Final = {
    "INT": "an int",
    "DOUBLE": "a double",
    "STRING": "a string",
    "DYN": "of unknown type",
    "key": "a key",
}


def _word_at(source: str, offset: int) -> str:
    word = re.match(r"\w+|\S", source[offset:])
    return word[0] if word else ""
