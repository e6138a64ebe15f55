"""CEL, Google's Common Expression Language: the one module that knows `cel_expr_python`.

An `Environment` knows names and their types; it compiles an expression to something that runs, or
explains in our words why not. Invariant: evaluating never raises. What went wrong comes back as a
`Failure`, and a fact that the post does not bring as `Unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cel_expr_python import cel

from stream.policy.syntax import Node, parse_serialised

BOOL: Final = cel.Type.BOOL
INT: Final = cel.Type.INT
DOUBLE: Final = cel.Type.DOUBLE
STRING: Final = cel.Type.STRING
TIMESTAMP: Final = cel.Type.TIMESTAMP
STRINGS: Final = cel.Type.List(cel.Type.STRING)
SCORES: Final = cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE)
ANYTHING: Final = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
#: What `count(author, ...)` takes. No value of this type can be made or compared.
KEY: Final = cel.Type.AbstractType("key")

Type: TypeAlias = cel.Type


@dataclass(frozen=True, slots=True)
class Function:
    """A function that rules may call; overloads are told apart by their parameters."""

    name: str
    parameters: tuple[Type, ...]
    result: Type
    run: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation failed; `error` is for the author of the rule."""

    error: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The expression needs a fact that is not there."""

    name: str


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


class Facts:
    """The values that an expression is evaluated with; made once per post for all its rules."""

    __slots__ = ("activation",)

    def __init__(self, activation: cel.Activation) -> None:
        self.activation = activation


class Expression:
    """A compiled expression of type bool, unless compiled with `any_type`."""

    __slots__ = ("_compiled", "_eval", "tree")

    def __init__(self, compiled: cel.Expression, tree: Node) -> None:
        self._compiled = compiled
        self._eval = compiled.eval
        self.tree = tree

    def holds(self, facts: Facts) -> bool | Failure | Unknown:
        """Its truth; never raises."""
        try:
            answer = self._eval(facts.activation).value()
        except Exception as exc:  # noqa: BLE001 - a rule's mistake must not end the worker
            return Failure(_plain_error(str(exc)))
        if answer is True or answer is False:
            return answer
        return _failure(str(answer))

    def value(self, facts: Facts) -> Any:
        """Its value, as Python has it, or a `Failure` or `Unknown`."""
        try:
            answer = self._eval(facts.activation)
            if answer.type() == cel.Type.ERROR:
                return _failure(str(answer.value()))
            return answer.plain_value()
        except Exception as exc:  # noqa: BLE001 - as above
            return Failure(_plain_error(str(exc)))


class Environment:
    """The names that expressions may use.

    Expressions are checked with `KEY` as a type of its own and then compiled with it as a
    string: the run time cannot pass values of abstract types to functions.
    """

    def __init__(self, variables: Mapping[str, Type], functions: Sequence[Function]) -> None:
        self._check = cel.NewEnv(variables=dict(variables), functions=_declared(functions, KEY))
        self._run = cel.NewEnv(
            variables={name: STRING if kind == KEY else kind for name, kind in variables.items()},
            functions=_declared(functions, STRING),
        )

    def compile(self, source: str, *, any_type: bool = False) -> Expression | list[Mistake]:
        """The expression, or every mistake in it."""
        if not source.strip():
            return [
                Mistake(
                    0,
                    1,
                    "the condition is empty",
                    "write an expression, as in `toxicity.threat >= 0.5`",
                )
            ]
        try:
            checked = self._check.compile(source)
            kind = checked.return_type()
            if kind != BOOL and not any_type:
                return [_not_a_condition(source, kind)]
            # One in `KEY` itself cannot be run, and only `explain` asks for it.
            compiled = self._run.compile(source)
        except Exception as exc:  # noqa: BLE001 - the compiler raises RuntimeError for everything
            return _mistakes(str(exc), source)
        return Expression(compiled, parse_serialised(checked.serialize()))

    def parse(self, source: str) -> Node | None:
        """The tree of an expression whose types may be wrong; None where it cannot even be read."""
        try:
            return parse_serialised(self._check.compile(source, disable_check=True).serialize())
        except Exception:  # noqa: BLE001 - as above
            return None

    def facts(self, values: Mapping[str, Any]) -> Facts:
        """Values for evaluating; names without one are unknown."""
        try:
            return Facts(self._run.Activation(values))
        except RuntimeError:
            # The library cannot take text with lone surrogates.
            return Facts(self._run.Activation({name: _clean(v) for name, v in values.items()}))


def _declared(functions: Sequence[Function], key: Type) -> list[cel.FunctionDecl]:
    overloads: dict[str, list[cel.Overload]] = {}
    for number, function in enumerate(functions):
        overloads.setdefault(function.name, []).append(
            cel.Overload(
                f"{function.name}_{number}",
                function.result,
                [key if kind == KEY else kind for kind in function.parameters],
                False,
                function.run,
            )
        )
    return [cel.FunctionDecl(name, group) for name, group in overloads.items()]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


_NO_VALUE = re.compile(r'No value with name "(.*?)" found in Activation')
_CODE = re.compile(r"^[A-Z_]+: ")


def _failure(error: str) -> Failure | Unknown:
    missing = _NO_VALUE.search(error)
    return Unknown(missing[1]) if missing else Failure(_plain_error(error))


def _plain_error(error: str) -> str:
    error = _CODE.sub("", error)
    key = re.fullmatch(r'Key not found in map : "?(.*?)"?', error)
    if key:
        return f"`{key[1]}` is not in the map"
    index = re.fullmatch(r"Index error: index=(-?\d+) size=(\d+)", error)
    if index:
        return f"[{index[1]}] of a list of {index[2]}"
    return error[:1].lower() + error[1:]


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


def _mistakes(error: str, source: str) -> list[Mistake]:
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
    is_operator = function.startswith(("_", "@", "!"))
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


def _not_a_condition(source: str, kind: Type) -> Mistake:
    name = _NAMES.get(kind.name(), kind.name().lower())
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
