"""A YAML file as plain data, with the place of every value, so that a mistake is shown where it is.

The invariant: what is shown of the file holds none of its secrets; they are starred out before
any line of it can become part of a message.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from stream.errors import HooksFileError
from stream.policy.diagnostics import Diagnostics, SourceFile

#: Keys and indices from the top of the file to a value.
Place = tuple[str | int, ...]
#: What must not be shown with a mistake beside it: the paths of webhooks, keys. Same length.
_SECRETS: Final = re.compile(r"(https?://[^/\s\"']*[/?]|whsec_)([^\s\"'#]+)")
#: More values than this are aliases within aliases.
_MOST_VALUES: Final = 20_000


class _TooManyError(Exception):
    """More values than any file of targets has."""


class YamlFile:
    """One file; mistakes are collected, and raised together by `raise_if_any`.

    Args:
        name: as the user gave it.
        text: its content.
    """

    def __init__(self, name: str, text: str) -> None:
        self._text = text
        self._source = SourceFile(name, _SECRETS.sub(lambda m: m[1] + "*" * len(m[2]), text))
        self.mistakes = Diagnostics()
        self.nodes: dict[Place, yaml.Node] = {}
        self._keys: dict[Place, yaml.Node] = {}

    def raise_if_any(self) -> None:
        """Raise `HooksFileError` with every mistake found so far."""
        found = sorted(self.mistakes.found, key=lambda d: (d.line, d.column))
        if found:
            number = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
            raise HooksFileError(
                f"{number} in `{self._source.name}`",
                rendered="\n\n".join(each.render() for each in found),
            )

    def parsed(self) -> Any:
        """The file as plain data; None where it is empty, or no YAML."""
        loader = None
        try:
            loader = yaml.SafeLoader(self._text)
            root = loader.get_single_node()
            return None if root is None else self._value(loader, root, ())
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            offset = 0 if mark is None else mark.index
            problem = exc.problem or "it cannot be read"
            self.mistakes.add(self._source, offset, f"not YAML: {problem}")
        except yaml.reader.ReaderError as exc:
            char = exc.character if isinstance(exc.character, int) else 0
            self.mistakes.add(self._source, exc.position, f"not YAML: the character U+{char:04X}")
        except RecursionError:
            self.mistakes.add(self._source, 0, "an alias refers to what it is part of")
        except _TooManyError:
            self.mistakes.add(self._source, 0, "too many values, or aliases within aliases")
        finally:
            if loader is not None:
                loader.dispose()
        return None

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Place) -> Any:
        """A node as plain data; remembers where each part stands, and what is there twice."""
        if len(self.nodes) > _MOST_VALUES:
            raise _TooManyError
        self.nodes[path] = node
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, n, (*path, i)) for i, n in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(loader, node)
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            is_text = isinstance(key_node, yaml.ScalarNode)
            key = self._scalar(loader, key_node) if is_text else None
            if not isinstance(key, str | int | float | bool):
                self.mistakes.add(self._source, key_node.start_mark.index, "a key is a text")
                continue
            name = key if isinstance(key, str) else str(key_node.value)
            here = (*path, name)
            if name in result:
                self.mistakes.add(
                    self._source,
                    key_node.start_mark.index,
                    f"`{name}` is there twice",
                    width=len(name),
                )
            self._keys[here] = key_node
            result[name] = self._value(loader, value_node, here)
        return result

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.Node) -> Any:
        try:
            return loader.construct_object(node)
        except Exception as exc:  # noqa: BLE001 - a tag that does not fit: YAML raises what it meets
            problem = getattr(exc, "problem", None) or "its tag does not fit"
            self.mistakes.add(self._source, node.start_mark.index, f"not a value: {problem}")
            return None

    def at(self, path: Place, message: str, hint: str | None = None) -> None:
        """A mistake at a value, or at the nearest one above it."""
        while path and path not in self.nodes:
            path = path[:-1]
        node = self.nodes.get(path)
        start = 0 if node is None else node.start_mark.index
        end = 1 if node is None else node.end_mark.index
        width = end - start if isinstance(node, yaml.ScalarNode) else 1
        self.mistakes.add(self._source, start, message, width=max(1, width), hint=hint)

    def at_key(self, path: Place, message: str, hint: str | None = None) -> None:
        """A mistake at a key of a mapping."""
        node = self._keys.get(path)
        if node is None:
            self.at(path, message, hint)
            return
        start, end = node.start_mark.index, node.end_mark.index
        self.mistakes.add(self._source, start, message, width=max(1, end - start), hint=hint)
