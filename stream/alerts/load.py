"""From a file to alert rules: every mistake found in one run, none of them half applied."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from stream.alerts.rule_file import read_rules
from stream.alerts.rules import RuleSet
from stream.errors import ConfigError
from stream.policy.diagnostics import Diagnostics, SourceFile
from stream.policy.document import read_document

#: Where rules are looked for when no setting says.
USUAL = Path("config/alerts.yaml")


def rules_path(path: Path | None = None) -> Path:
    """The file in force: the one given, `config/alerts.yaml`, or the starter of the package."""
    if path is not None:
        return path
    return USUAL if USUAL.is_file() else Path(str(files("stream.alerts") / "starter.yaml"))


def load_rules(path: Path | None = None) -> RuleSet:
    """The rules in a file; None: where `rules_path` finds one.

    Raises:
        ConfigError: the file cannot be read.
        PolicyError: with every mistake in it.
    """
    chosen = rules_path(path)
    try:
        text = chosen.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = str(exc.strerror or exc).lower() if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot read the alert rules: {reason}",
            where=str(chosen),
            hint="setting `alerts.path` names the file",
        ) from exc
    return parse_rules(text, str(chosen))


def parse_rules(text: str, name: str) -> RuleSet:
    """The rules in a text; `name` is what mistakes are said of.

    Raises:
        PolicyError: with every mistake in it.
    """
    found = Diagnostics()
    document = read_document(SourceFile(name, text), found)
    rules = RuleSet(()) if document is None else read_rules(document)
    found.raise_if_any()
    return rules
