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

from stream.policy.call_sites import CallSites, rewritten
from stream.policy.compiler_messages import Mistake, mistakes_of, not_a_condition
from stream.policy.syntax import Node, parse_serialised, walk

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


class Facts:
    """The values that an expression is evaluated with; made once per post for all its rules.

    Lists that calls answer are asked for by the expressions that need them, each once.
    """

    __slots__ = ("_activated", "_answers", "_values", "activation")

    def __init__(
        self, values: Mapping[str, Any], activated: Callable[[Mapping[str, Any]], cel.Activation]
    ) -> None:
        self._values = values
        self._activated = activated
        self._answers: dict[str, Any] = {}
        self.activation = activated(values)

    def and_lists(
        self, names: frozenset[str], lists: Mapping[str, Callable[[], Any]]
    ) -> cel.Activation:
        """The values of these names, and what these calls answer; raises what a call raises."""
        for name, call in lists.items():
            if name not in self._answers:
                self._answers[name] = call()
        known = {name: self._values[name] for name in names if name in self._values}
        return self._activated(known | {name: self._answers[name] for name in lists})


class Expression:
    """A compiled expression of type bool, unless compiled with `any_type`.

    Attributes:
        tree: what it says.
        lists: by name the calls in it that answer a list.
    """

    __slots__ = ("_compiled", "_eval", "_names", "lists", "tree")

    def __init__(
        self, compiled: cel.Expression, tree: Node, lists: Mapping[str, Callable[[], Any]]
    ) -> None:
        self._compiled = compiled
        self._eval = compiled.eval
        self.tree = tree
        self.lists = lists
        self._names = frozenset(node.text for node, _ in walk(tree) if node.kind == "name")

    def holds(self, facts: Facts) -> bool | Failure | Unknown:
        """Its truth; never raises."""
        try:
            answer = self._eval(self._activation(facts)).value()
        except Exception as exc:  # noqa: BLE001 - a rule's mistake must not end the worker
            return Failure(_plain_error(str(exc)))
        if answer is True or answer is False:
            return answer
        return _failure(str(answer))

    def value(self, facts: Facts) -> Any:
        """Its value, as Python has it, or a `Failure` or `Unknown`."""
        try:
            answer = self._eval(self._activation(facts))
            if answer.type() == cel.Type.ERROR:
                return _failure(str(answer.value()))
            return answer.plain_value()
        except Exception as exc:  # noqa: BLE001 - as above
            return Failure(_plain_error(str(exc)))

    def _activation(self, facts: Facts) -> cel.Activation:
        # Most conditions have no list: theirs is made once for all of them.
        return facts.and_lists(self._names, self.lists) if self.lists else facts.activation


class Environment:
    """The names that expressions may use.

    Expressions are checked with `KEY` as a type of its own and then compiled with it as a
    string: the run time cannot pass values of abstract types to functions.
    """

    def __init__(self, variables: Mapping[str, Type], functions: Sequence[Function]) -> None:
        self._check = cel.NewEnv(variables=dict(variables), functions=_declared(functions, KEY))
        self._functions = {function.name: function for function in functions}
        self._sites = {kind.name(): (kind, CallSites(f"_{kind.name()}_")) for kind in (BOOL, INT)}
        self._lists = CallSites("_LIST_")
        sites = [
            Function(name, (), kind, run)
            for kind, named in self._sites.values()
            for name, run in named.declared()
        ]
        self._run = cel.NewEnv(
            variables={
                **{name: STRING if kind == KEY else kind for name, kind in variables.items()},
                **{name: STRINGS for name, _ in self._lists.declared()},
            },
            functions=_declared([*functions, *sites], STRING),
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
                return [not_a_condition(source, kind.name())]
            tree = parse_serialised(checked.serialize())
            # One in `KEY` itself cannot be run, and only `explain` asks for it.
            written = rewritten(source, tree, self._name_of)
            compiled = self._run.compile(written)
        except Exception as exc:  # noqa: BLE001 - the compiler raises RuntimeError for everything
            return mistakes_of(str(exc), source)
        return Expression(compiled, tree, self._lists.within(written))

    def _name_of(self, call: Node) -> str | None:
        """What stands for a call of ours and leaves nothing behind; None where there is no such."""
        function = self._functions.get(call.text)
        if function is None:
            return None
        is_list = function.result == STRINGS
        if not is_list and function.result.name() not in self._sites:
            return None
        given = []
        for kind, node in zip(function.parameters, call.children, strict=True):
            # A key's value is its name; of anything else only what is written out is known here.
            value = node.text if kind == KEY and node.kind == "name" else node.value
            if not isinstance(value, str):
                return None
            given.append(value)
        if is_list:
            return self._lists.name_of(call.text, function.run, tuple(given))
        _, named = self._sites[function.result.name()]
        name = named.name_of(call.text, function.run, tuple(given))
        return None if name is None else f"{name}()"

    def parse(self, source: str) -> Node | None:
        """The tree of an expression whose types may be wrong; None where it cannot even be read."""
        try:
            return parse_serialised(self._check.compile(source, disable_check=True).serialize())
        except Exception:  # noqa: BLE001 - as above
            return None

    def facts(self, values: Mapping[str, Any]) -> Facts:
        """Values for evaluating; names without one are unknown."""
        return Facts(values, self._activated)

    def _activated(self, values: Mapping[str, Any]) -> cel.Activation:
        try:
            return self._run.Activation(values)
        except RuntimeError:
            # The library cannot take text with lone surrogates.
            return self._run.Activation({name: _clean(v) for name, v in values.items()})


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
