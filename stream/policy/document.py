"""YAML whose every value knows its place in the file.

Invariant: what a file contains is read through `Value`, which reports what does not fit at the
value's own line and column and goes on, so that one run shows every mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import yaml

from stream.policy.diagnostics import Diagnostics, SourceFile, suggestion
from stream.times import moment_of

#: libyaml's loader where it is there: the same, ten times as fast.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Value:
    """A value of a file: a scalar, a list or a mapping."""

    def __init__(self, node: yaml.Node, file: SourceFile, found: Diagnostics) -> None:
        self.node = node
        self.file = file
        self.found = found

    @property
    def offset(self) -> int:
        """Its first character in the file."""
        return int(self.node.start_mark.index)

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file.name}:{self.node.start_mark.line + 1}"

    def wrong(self, message: str, *, hint: str | None = None) -> None:
        """Report what does not fit about this value."""
        end = self.node.end_mark.index
        first = self.file.text[self.offset : end].split("\n")[0].rstrip()
        self.found.add(self.file, self.offset, message, width=max(1, len(first)), hint=hint)

    def wrong_within(
        self, at: int, message: str, *, width: int = 1, hint: str | None = None
    ) -> None:
        """Report a mistake `at` characters into the value of this scalar."""
        places = self._places()
        begin = places[min(at, len(places) - 1)] if places else self.offset
        self.found.add(self.file, begin, message, width=width, hint=hint)

    def _places(self) -> list[int]:
        """For every character of a scalar's value its offset in the file, whatever its style."""
        assert isinstance(self.node, yaml.ScalarNode)
        text = self.file.text
        at, end = self.offset, self.node.end_mark.index
        if self.node.style in ("|", ">"):
            at = text.find("\n", at) + 1  # what stands in the line of the `|` is no text
        elif self.node.style in ("'", '"'):
            at += 1
        places = []
        for char in self.node.value:
            if char.isspace():
                # Folding makes one space of a line's end and its indentation.
                places.append(min(at, max(end - 1, 0)))
                if at < end and text[at].isspace():
                    at += 1
                continue
            found = text.find(char, at, end)
            at = found if found >= 0 else at  # an escape such as \x41: stay where we are
            places.append(at)
            at += 1 if found >= 0 else 0
        return places

    def text(self, *, what: str = "a text") -> str | None:
        """A scalar as it is written; a number or a date is its text."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.wrong(f"this is {_kind(self.node)}, not {what}")
            return None
        if self.node.tag == "tag:yaml.org,2002:null":
            self.wrong(f"nothing stands here, not {what}")
            return None
        return str(self.node.value)

    def choice(self, known: Sequence[str], what: str) -> str | None:
        """A text that is one of the known ones."""
        text = self.text(what=what)
        if text is None or text in known:
            return text
        self.wrong(f"`{text}` is not {what}", hint=suggestion(text, known))
        return None

    def number(self, what: str, *, least: int | None = None) -> int | None:
        """A whole number."""
        text = self.text(what=what)
        if text is None:
            return None
        if not re.fullmatch(r"[+-]?\d[\d_]*", text):
            self.wrong(f"`{text}` is not {what}")
            return None
        number = int(text)
        if least is not None and number < least:
            self.wrong(f"{what} is at least {least}, not {number}")
            return None
        return number

    def fraction(self, what: str) -> float | None:
        """A score: 0 to 1."""
        text = self.text(what=what)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0.0 <= number <= 1.0:
            self.wrong(f"`{text}` is not {what}", hint="a number from 0 to 1")
            return None
        return number

    def boolean(self) -> bool | None:
        """`true` or `false`."""
        value = self.plain()
        if isinstance(value, bool):
            return value
        self.wrong("this is neither `true` nor `false`")
        return None

    def moment(self, what: str) -> datetime | None:
        """A date, which is its beginning in UTC, or a date and time."""
        text = self.text(what=what)
        if text is None:
            return None
        try:
            return moment_of(text)
        except ValueError:
            self.wrong(f"`{text}` is not {what}", hint="write 2027-01-31 or 2027-01-31T12:00:00Z")
            return None

    def items(self, what: str = "a list") -> list[Value]:
        """The items of a list; a single scalar is a list of one."""
        if isinstance(self.node, yaml.SequenceNode):
            return [Value(item, self.file, self.found) for item in self.node.value]
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag != "tag:yaml.org,2002:null":
            return [self]
        if isinstance(self.node, yaml.MappingNode):
            self.wrong(f"this is {_kind(self.node)}, not {what}")
        return []

    def texts(self, what: str = "a list of texts") -> list[tuple[str, Value]]:
        """The texts of a list, each with its place."""
        read = [(item.text(), item) for item in self.items(what)]
        return [(text, item) for text, item in read if text is not None]

    def fields(self, known: Mapping[str, str] | None, what: str) -> dict[str, Value]:
        """The entries of a mapping; a key that is not known, or there twice, is a mistake.

        Args:
            known: key to its meaning; None: any key.
            what: what the mapping is, as in "a rule".
        """
        if not isinstance(self.node, yaml.MappingNode):
            if self.node.tag != "tag:yaml.org,2002:null" or known is None:
                self.wrong(f"this is {_kind(self.node)}, not {what}")
            else:
                self.wrong(f"{what} is empty")
            return {}
        fields: dict[str, Value] = {}
        for key_node, value_node in self.node.value:
            key = Value(key_node, self.file, self.found)
            name = key.text(what="a name")
            if name is None:
                continue
            if known is not None and name not in known:
                key.wrong(f"{what} has no `{name}`", hint=suggestion(name, known))
            elif name in fields:
                key.wrong(f"`{name}` is here twice", hint=f"first in {fields[name].where}")
            else:
                fields[name] = Value(value_node, self.file, self.found)
        return fields

    def keys(self) -> Iterator[tuple[str, Value]]:
        """The keys of a mapping with their own places."""
        if isinstance(self.node, yaml.MappingNode):
            for key_node, _ in self.node.value:
                if isinstance(key_node, yaml.ScalarNode):
                    yield key_node.value, Value(key_node, self.file, self.found)

    def plain(self) -> Any:
        """The value as Python has it."""
        loader = yaml.SafeLoader("")
        try:
            return _jsonable(loader.construct_document(self.node))
        except Exception as exc:  # noqa: BLE001 - a tag that does not fit: YAML raises what it meets
            self.wrong(f"not a value: {getattr(exc, 'problem', None) or 'its tag does not fit'}")
            return None
        finally:
            loader.dispose()


def read_document(file: SourceFile, found: Diagnostics) -> Value | None:
    """The document in a file; None, and a mistake reported, where it is no YAML or is empty."""
    try:
        node = yaml.compose(file.text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        offset = _offset(file, mark) if mark is not None else 0
        found.add(
            file,
            offset,
            f"not YAML: {exc.problem or exc.context}",
            hint=_yaml_hint(exc, file, offset),
        )
        return None
    except yaml.YAMLError as exc:
        at = getattr(exc, "position", 0)
        found.add(file, at, f"not YAML: {getattr(exc, 'reason', str(exc))}")
        return None
    if node is None:
        found.add(file, 0, "the file is empty", hint="it needs `rules:`")
        return None
    if _has_anchor_loop(node):
        found.add(file, 0, "an alias refers to what it is part of")
        return None
    return Value(node, file, found)


def _offset(file: SourceFile, mark: yaml.Mark) -> int:
    before = file.text.split("\n")[: mark.line]
    return sum(len(line) + 1 for line in before) + int(mark.column)


def _yaml_hint(exc: yaml.MarkedYAMLError, file: SourceFile, offset: int) -> str | None:
    line = file.lines[file.place(offset)[0] - 1] if file.lines else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in str(exc.problem):
        return "put a text with `: ` in it into quotes, or after a `|` on a line of its own"
    if re.search(r"when:\s*[!&*\"'`@%{[]", line):
        return "put the condition into quotes, or after `when: |` on a line of its own"
    return None


def _has_anchor_loop(top: yaml.Node) -> bool:
    done: set[int] = set()

    def loops(node: yaml.Node, above: frozenset[int]) -> bool:
        if isinstance(node, yaml.ScalarNode) or id(node) in done:
            return False
        if id(node) in above:
            return True
        inside = [n for pair in node.value for n in (pair if isinstance(pair, tuple) else (pair,))]
        found = any(loops(each, above | {id(node)}) for each in inside)
        done.add(id(node))
        return found

    return loops(top, frozenset())


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a text"


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
