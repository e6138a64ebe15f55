"""Reads the sources of policy, decisions, aggregates, alerts and hooks: each message is in a golden file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.apache_kafka import ROOT

GOLDEN = (
    Path(__file__).with_name("messages.txt"),
    Path(__file__).parent / "policy" / "mistakes.txt",
    *sorted((Path(__file__).parent / "alerts" / "mistakes").glob("*.txt")),
    *sorted((Path(__file__).parent / "hooks" / "golden").glob("*.txt")),
)

PACKAGES = ("policy", "decisions", "aggregates", "alerts", "hooks")
AGENTS = ("aggregate", "alert", "alert_recall", "decide", "hooks")
COMMANDS = ("alerts", "alerts_backtest", "hooks", "policy", "policy_backtest", "policy_screen")
#: Modules that return what went wrong in words: what the log of deliveries says.
ANSWERS = ("answer", "verdict", "process", "addresses")
#: What is called with a mistake's words, beside everything whose name ends in Error or Mistake.
RECORDERS = {"wrong", "wrong_within", "at", "at_key", "_at", "add"}


def sources() -> list[Path]:
    """The modules whose messages are looked for."""
    found = [path for name in PACKAGES for path in (ROOT / "stream" / name).rglob("*.py")]
    for folder, names in (("agents", AGENTS), ("cli", COMMANDS)):
        found += [ROOT / "stream" / folder / f"{name}.py" for name in names]
    return found


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with words that a user may read as a mistake, each with its longest fixed part."""
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func).rpartition(".")[2]
        if not name.endswith(("Error", "Mistake")) and name not in RECORDERS:
            continue
        hints = [keyword.value for keyword in call.keywords if keyword.arg == "hint"]
        for given in (*call.args, *hints):
            for text in texts(given):
                yield given.lineno, text


def answers(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a module that return words, each with its longest fixed part."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        given: list[ast.expr] = []
        if isinstance(node, ast.Return) and node.value is not None:
            given = [node.value]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Verdict":
            given = node.args
        for each in given:
            for text in texts(each):
                yield each.lineno, text


def texts(node: ast.expr) -> Iterator[str]:
    """The longest fixed part of each text an expression may be; none of what is a word or less."""
    if isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    fixed = [part.value for part in parts if isinstance(part, ast.Constant)]
    longest = max((part for part in fixed if isinstance(part, str)), key=len, default="").strip()
    if " " in longest:
        yield longest


def test_every_message_of_the_sources_is_in_a_golden_file() -> None:
    written = "\n".join(path.read_text("utf-8") for path in GOLDEN)
    found = [(path, line, text) for path in sources() for line, text in messages(path)]
    assert len(found) > 150, "the sources are read as they were meant to be"
    hooks = [ROOT / "stream" / "hooks" / f"{name}.py" for name in ANSWERS]
    returned = [(path, line, text) for path in hooks for line, text in answers(path)]
    assert len(returned) > 12, "and what is returned"
    found += returned
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, line, text in found
        if text not in written
    ]
    assert missing == []
