"""From `config/hooks.yaml` to targets: every mistake of the file in one error, with its place.

A file is taken whole or not at all; secrets are not read here, so that a file can be checked
where they are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from stream.errors import HooksFileError
from stream.hooks.document import Place, YamlFile
from stream.hooks.escaping import for_people
from stream.hooks.targets import KINDS, Email, HttpTarget, Target, Webhook, kind_of
from stream.hooks.templates import VARIABLES, TemplateMistakeError, check, environment
from stream.policy.diagnostics import suggestion
from stream.settings import ENV_PREFIX, HookSettings

DEFAULT_PATH: Final = Path("config/hooks.yaml")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
#: Fields in which a time may be written so.
_SPANS: Final = ("since", "retries")
_UNITS_S: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
#: A signing key would be a name of a variable, were it not for its beginning.
_VARIABLE: Final = re.compile(r"(?!whsec_)[A-Za-z_][A-Za-z0-9_]*")
#: A YAML file of more than this is a mistake.
_MOST_BYTES: Final = 1_000_000
_KINDS_OF_VALUES: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def hooks_path(settings: HookSettings) -> Path | None:
    """The file that is in force; None where there is none, and nothing is delivered."""
    if settings.path is not None:
        return settings.path
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def load_targets(settings: HookSettings) -> dict[str, Target]:
    """The targets in force, by name; none without a file.

    Raises:
        HooksFileError: the file cannot be read, or has mistakes.
    """
    path = hooks_path(settings)
    if path is None:
        return {}
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise HooksFileError(
            f"the hooks cannot be read: {(exc.strerror or str(exc)).lower()}: `{path}`",
            hint="`hooks.path` names the file; config/hooks.example.yaml is one to begin with",
        ) from exc
    if len(data) > _MOST_BYTES:
        raise HooksFileError(f"`{path}` has {len(data)} bytes, more than {_MOST_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise HooksFileError(f"`{path}` is not UTF-8: byte {exc.start}") from exc
    return parse_targets(text, str(path), allow_private=settings.allow_private)


def parse_targets(
    text: str, name: str = "hooks.yaml", *, allow_private: bool = False
) -> dict[str, Target]:
    """The targets of a file's text.

    Args:
        text: YAML.
        name: the file's name, for the mistakes.
        allow_private: the setting; a target may say otherwise.

    Raises:
        HooksFileError: with every mistake.
    """
    file = _File(name, text, allow_private)
    targets = file.targets()
    file.raise_if_any()
    return targets


class _File(YamlFile):
    """One file on its way to targets; mistakes are collected, not raised."""

    def __init__(self, name: str, text: str, allow_private: bool) -> None:
        super().__init__(name, text)
        self._allow_private = allow_private

    def targets(self) -> dict[str, Target]:
        """What is right in the file."""
        data = self.parsed()
        if data is None:
            return {}
        if not isinstance(data, dict):
            self.at((), "the file is a mapping with the key `targets`")
            return {}
        for key in data:
            if key != "targets":
                self.at_key((key,), f"unknown key `{key}`", suggestion(str(key), ["targets"]))
        targets = data.get("targets") or {}
        if not isinstance(targets, dict):
            self.at(("targets",), "`targets` is a mapping from a name to a target")
            return {}
        found = {}
        for name, fields in targets.items():
            target = self._target(str(name), fields)
            if target is not None:
                found[str(name)] = target
        return found

    # -- one target

    def _target(self, name: str, fields: Any) -> Target | None:
        path: Place = ("targets", name)
        if not self._has_kind(name, fields):
            return None
        kind = KINDS[fields["type"]]
        if list(self._unknown_fields(kind, fields, path)):
            return None
        self._spans(fields, path)
        try:
            target = msgspec.convert(fields, kind)
        except msgspec.ValidationError as exc:
            self._explain(exc, path)
            return None
        before = len(self.mistakes.found)
        self._check_names(target, fields, path)
        self._check_templates(fields, path)
        if isinstance(target, HttpTarget):
            self._check_url(target, path)
        self._check_needs(target, path)
        return target if len(self.mistakes.found) == before else None

    def _has_kind(self, name: str, fields: Any) -> bool:
        """Whether there is a target at all: a name, a mapping, a type."""
        path: Place = ("targets", name)
        if not _NAME.fullmatch(name):
            self.at_key(
                path,
                f"`{name}` is no name of a target",
                "small letters, digits and `-`, at most 40 characters",
            )
        elif not isinstance(fields, dict):
            self.at_key(path, f"`{name}` is a mapping with a `type`")
        elif "type" not in fields:
            self.at_key(path, f"`{name}` has no `type`", suggestion("", KINDS, "types"))
        elif not isinstance(fields["type"], str) or fields["type"] not in KINDS:
            kind = str(fields["type"])
            self.at((*path, "type"), f"unknown type `{kind}`", suggestion(kind, KINDS, "types"))
        else:
            return True
        return False

    def _unknown_fields(self, kind: Any, fields: Mapping[str, Any], path: Place) -> Iterator[str]:
        """Names that the kind does not have, at every level, each with a suggestion."""
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        names = [*known, "type"] if len(path) == 2 else list(known)
        for name, value in fields.items():
            if name not in names:
                self.at_key((*path, name), f"unknown field `{name}`", suggestion(name, names))
                yield name
            elif name in known and isinstance(value, dict):
                inner = known[name].type
                if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                    yield from self._unknown_fields(inner, value, (*path, name))

    def _spans(self, fields: dict[str, Any], path: Place) -> None:
        """`5m` in `retries` and `since` becomes seconds."""
        if isinstance(since := fields.get("since"), str):
            fields["since"] = self._span(since, (*path, "since"))
        if isinstance(retries := fields.get("retries"), list):
            fields["retries"] = [
                self._span(value, (*path, "retries", number)) if isinstance(value, str) else value
                for number, value in enumerate(retries)
            ]

    def _span(self, value: str, place: Place) -> float:
        if span := _SPAN.fullmatch(value.strip()):
            return float(span[1]) * _UNITS_S[span[2]]
        self.at(place, f"`{value}` is no time", "write 30s, 5m or 2h")
        return 0.0

    def _explain(self, exc: msgspec.ValidationError, path: Place) -> None:
        message = str(exc)
        place = path
        if at := re.search(r" - at `\$\.?(.*?)`$", message):
            message = message[: at.start()]
            for part in re.findall(r"[^.\[\]]+", at[1]):
                wanted: str | int = int(part) if part.isdigit() else part
                if (*place, wanted) not in self.nodes:
                    break  # `[...]`: a value of a mapping, msgspec does not say which
                place = (*place, wanted)
        name = next((part for part in reversed(place) if isinstance(part, str)), "")
        if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
            self.at_key(place, f"`{name}` has no `{missing[1]}`")
        elif enum := re.fullmatch(r"Invalid enum value (.*)", message):
            value = enum[1].strip("'")
            known = self._choices(place)
            self.at(place, f"`{value}` is no value of `{name}`", suggestion(value, known, "values"))
        elif wrong := re.fullmatch(r"Expected `(.*?)`, got `(.*?)`", message):
            kinds = [_KINDS_OF_VALUES.get(k, k) for k in wrong[1].split(" | ") if k != "null"]
            got = _KINDS_OF_VALUES.get(wrong[2], wrong[2])
            self.at(place, f"`{name}` should be {' or '.join(kinds)}, not {got}")
        elif bound := re.fullmatch(r"Expected `(.*?)`( of length)? (>=|<=|>|<) (.*)", message):
            words = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
            counted = bound[2] and bound[1] == "array"
            limit = f"{words[bound[3]]} {_figure(float(bound[4]), is_span=name in _SPANS)}"
            limit = f"have {limit} entries" if counted else f"be {limit}"
            self.at(place, f"`{name}` should {limit}".replace(" 1 entries", " one entry"))
        else:
            self.at(place, f"`{name}`: {message[:1].lower()}{message[1:]}")

    def _choices(self, place: Place) -> list[str]:
        """The values that a field of a closed set may have, from the structs themselves."""
        kind: Any = KINDS[str(self.nodes[(*place[:2], "type")].value)]
        for part in place[2:]:
            if isinstance(part, str):
                fields = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
                kind = fields[part]
        schema = msgspec.json.schema(kind)
        return sorted(set(_enum_values(schema)))

    # -- what the structs cannot say

    def _check_names(self, target: Target, fields: Mapping[str, Any], path: Place) -> None:
        for field, value in fields.items():
            if not field.endswith("_env"):
                continue
            for variable in [value] if isinstance(value, str) else value or []:
                if variable.upper().startswith(ENV_PREFIX):
                    self.at(
                        (*path, field),
                        f"`{variable}`: names with `{ENV_PREFIX}` are settings, not secrets",
                        "give the variable another name",
                    )
                elif not _VARIABLE.fullmatch(variable):
                    self.at(
                        (*path, field),
                        f"`{field}` is the name of an environment variable",
                        "the secret itself never stands in this file",
                    )
        if isinstance(target, Email):
            for field, addresses in (("sender", [target.sender]), ("to", target.to)):
                if any("\n" in address for address in addresses):
                    self.at((*path, field), "an address is one line")

    def _check_templates(self, fields: Mapping[str, Any], path: Place) -> None:
        jinja = environment(for_people)
        for field, text in (fields.get("template") or {}).items():
            if text is None:
                continue
            try:
                check(jinja, text)
            except TemplateMistakeError as exc:
                hint = None if exc.unknown is None else suggestion(exc.unknown, VARIABLES)
                self.at((*path, "template", field), str(exc), hint)

    def _check_url(self, target: HttpTarget, path: Place) -> None:
        given = [field for field in ("url", "url_env", "url_file") if (*path, field) in self.nodes]
        if len(given) > 1:
            self.at_key((*path, given[1]), f"`{given[0]}` and `{given[1]}` contradict each other")
        if not given and target.url is None:
            self.at_key(path, f"`{path[1]}` has no `url`, `url_env` or `url_file`")
        if target.url is None or "url" not in given:
            return
        allowed = self._allow_private if target.allow_private is None else target.allow_private
        if (problem := url_problem(target.url, allow_http=allowed)) is not None:
            self.at((*path, "url"), *problem)

    def _check_needs(self, target: Target, path: Place) -> None:
        kind = kind_of(target)
        if isinstance(target, Webhook) and not (target.secret_env or target.secret_file):
            self.at_key(
                path,
                f"`{path[1]}` has no `secret_env` or `secret_file`",
                "a webhook that nobody can verify can be forged: `tidegate hooks new-key` makes a key",
            )
        if kind == "pagerduty" and not (
            getattr(target, "routing_key_env", None) or getattr(target, "routing_key_file", None)
        ):
            self.at_key(path, f"`{path[1]}` has no `routing_key_env` or `routing_key_file`")
        for one in ("token", "password", "routing_key"):
            if getattr(target, f"{one}_env", None) and getattr(target, f"{one}_file", None):
                self.at_key(
                    (*path, f"{one}_file"), f"`{one}_env` and `{one}_file` contradict each other"
                )


def _figure(value: float, *, is_span: bool) -> str:
    if is_span and value and value % 86_400 == 0:
        return f"{value / 86_400:g}d"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def url_problem(url: str, *, allow_http: bool) -> tuple[str, str | None] | None:
    """What is wrong with a URL, and a hint; None where it can be used. Never shows the URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "that is no URL", None
    if parts.scheme not in ("http", "https") or not host:
        return "a URL begins with https:// and has a host", None
    if parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        return "a URL has no spaces and no `#`", None
    if parts.scheme == "http" and not allow_http:
        return (
            "posts would travel unencrypted",
            "use https://, or `allow_private: true` for a receiver on this machine or network",
        )
    return None


def _enum_values(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (str(value) for value in schema.get("enum", []) if value is not None)
        for value in schema.values():
            yield from _enum_values(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _enum_values(value)
