"""`tidegate policy`: are the rules right, do they do what they should, why did one match, what changed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from stream.cli.options import JsonOption
from stream.cli.output import count, print_json, print_table
from stream.cli.policy_backtest import backtest
from stream.cli.policy_screen import print_change, print_explanation
from stream.errors import ConfigError, PolicyError

if TYPE_CHECKING:
    from stream.policy.explanation import Explanation
    from stream.records import Label

app = typer.Typer(
    name="policy", help="Check, test, explain and compare rules.", no_args_is_help=True
)

app.command("backtest")(backtest)

PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE|DIR",
        help="Rules; default: setting `policy.path`, `config/policy.yaml`, the starter pack.",
        show_default=False,
    ),
]
_STDIN = "-"


def _path(policy: Path | None) -> Path:
    from stream.policy.load import policy_path
    from stream.settings import load_settings

    return policy_path(load_settings({"policy.path": policy}).policy.path)


@app.command("check")
def check(*, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """Find every mistake in the rules; exit code 1 if there is one."""
    from stream.policy.load import load

    path = _path(policy)
    try:
        loaded = load(path)
    except PolicyError as error:
        if not as_json:
            raise
        mistakes = [*error.diagnostics] or [{"message": error.message, "hint": error.hint}]
        print_json({"ok": False, "policy": str(path), "mistakes": mistakes})
        raise typer.Exit(1) from None
    rules = loaded.policy.rules
    if as_json:
        print_json(
            {
                "ok": True,
                "policy": str(path),
                "version": loaded.policy.version,
                "rules": rules,
                "tests": len(loaded.tests),
                "windows": loaded.policy.windows,
                "quota": loaded.policy.quota,
            }
        )
        return
    print_table(
        [
            ("rule", "left"),
            ("version", "left"),
            ("mode", "left"),
            ("action", "left"),
            ("severity", "left"),
            ("reason", "left"),
            ("quota", "right"),
        ],
        [
            (r.id, r.version, r.mode, r.action, r.severity, r.reason, _number(r.quota))
            for r in rules
        ],
    )
    typer.echo(
        f"\n{path}: {len(rules)} rules, {len(loaded.tests)} tests, version {loaded.policy.version}"
    )


def _number(quota: int | None) -> str:
    return "" if quota is None else count(quota)


@app.command("test")
def run_tests(
    *,
    policy: PolicyOption = None,
    model: Annotated[
        bool, typer.Option(help="Also run the tests that need the model to score their text.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run the tests that stand beside the rules; exit code 1 if one fails."""
    from stream.policy.expectations import check_expectation
    from stream.policy.load import load

    loaded = load(_path(policy))
    unscored = [test for test in loaded.tests if test.labels is None]
    scored, scored_by = _scored([test.post.text or "" for test in unscored]) if model else ([], "")
    by_place = {test.where: label.labels for test, label in zip(unscored, scored, strict=False)}
    outcomes = []
    for each in loaded.tests:
        labels = each.labels if each.labels is not None else by_place.get(each.where)
        if labels is not None:
            by = "given" if each.labels is not None else scored_by
            outcomes.append(check_expectation(loaded.policy, each, labels, by))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    skipped = len(loaded.tests) - len(outcomes)
    untested = _untested(loaded)
    if as_json:
        print_json(
            {
                "ok": not failed,
                "policy": loaded.policy.version,
                "passed": len(outcomes) - len(failed),
                "failed": len(failed),
                "skipped": skipped,
                "untested_rules": untested,
                "tests": outcomes,
            }
        )
    else:
        for outcome in failed:
            typer.echo(f"{outcome.where}: {outcome.name}")
            for problem in outcome.problems:
                typer.echo(f"  {problem}")
            answers = outcome.labels.items()
            shown = ", ".join(f"{task}={a.label} {a.score:.2f}" for task, a in answers)
            typer.echo(f"  labels ({outcome.scored_by}): {shown}\n")
        parts = [f"{len(outcomes) - len(failed)} passed", f"{len(failed)} failed"]
        if skipped:
            parts.append(f"{skipped} need the model and were left out")
        if scored:
            parts.append(f"{len(scored)} scored by {scored_by}")
        typer.echo(", ".join(parts))
        if untested:
            typer.echo(f"no test names: {', '.join(untested)}")
    if failed:
        raise typer.Exit(1)


def _untested(loaded: Any) -> list[str]:
    """Rules that no test expects to match."""
    named = {
        rule for test in loaded.tests for rules in (test.rules, test.shadow) for rule in rules or ()
    }
    return [rule.id for rule in loaded.policy.rules if rule.mode != "off" and rule.id not in named]


@app.command("explain")
def explain(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="A text, to be scored by the model; `-` reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A label record instead, as `tidegate score --json` prints it and the topic "
            "`labels` holds it; of several lines the first, or that of --post. `-`: standard input.",
            show_default=False,
        ),
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Which post of --label.", show_default=False),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also the rules that did not match.")
    ] = False,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which rules match a post, and what each part of their conditions is worth."""
    from stream.policy.explanation import explain as explained
    from stream.policy.load import load_policy
    from stream.policy.subject import Subject

    if (text is None) == (label is None):
        raise ConfigError("give either a text or --label", hint="tidegate policy explain 'a text'")
    rules = load_policy(_path(policy))
    record = _read_label(label, post) if label is not None else _scored([_given(text or "")])[0][0]
    subject = Subject.of_label(record)
    explanation = explained(rules, subject)
    if as_json:
        print_json({"policy": rules.version, "label": record, **_plain(explanation)})
        return
    print_explanation(explanation, subject.text, rules.version, every=every)


def _given(text: str) -> str:
    if text != _STDIN:
        return text.encode("utf-8", "replace").decode()
    return sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n")


def _read_label(name: str, post: str | None) -> Label:
    import msgspec

    from stream.records import decode_label

    try:
        data = sys.stdin.buffer.read() if name == _STDIN else Path(name).read_bytes()
    except OSError as exc:
        raise ConfigError(f"cannot read `{name}`: {(exc.strerror or str(exc)).lower()}") from exc
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = decode_label(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            message = str(exc)
            raise ConfigError(
                f"not a label record: {message[:1].lower()}{message[1:]}",
                where=f"{name}:{number}",
                hint="one JSON object on one line, as `tidegate score --json` prints it",
            ) from exc
        if post in (None, record.post_id):
            return record
    raise ConfigError(f"there is no label of `{post}`" if post else "there is no label", where=name)


def _scored(texts: list[str]) -> tuple[list[Label], str]:
    """The labels of texts, and the models that made them; no model is loaded for no text."""
    if not texts:
        return [], ""
    from models.scorer import load_scorer
    from stream.labelling import label_of, model_refs
    from stream.records import Post
    from stream.settings import load_settings

    models = load_settings().models
    scorer = load_scorer(
        models.manifest,
        models.preset,
        device=models.device,
        threads=models.threads,
        batch_tokens=models.batch_tokens,
    )
    refs = model_refs(scorer.models)
    now_ms = time.time_ns() // 1_000_000
    labels = [
        label_of(Post(id=f"text-{number}", text=text), scores, refs, labelled_at_ms=now_ms)
        for number, (text, scores) in enumerate(zip(texts, scorer.score(texts), strict=True), 1)
    ]
    return labels, ", ".join(sorted({f"{ref.id} {ref.version}" for ref in refs.values()}))


def _plain(explanation: Explanation) -> dict[str, Any]:
    verdict = explanation.verdict
    return {
        "action": verdict.action,
        "severity": verdict.severity,
        "reason": verdict.reason,
        "decisive": verdict.decisive,
        "safelist": verdict.safelist,
        "matches": verdict.matches,
        "failed": verdict.failed,
        "rules": explanation.rules,
    }


@app.command("diff")
def diff(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="File or folder of rules.", show_default=False)
    ],
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="File or folder of rules.", show_default=False)
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what changed from one policy to another: rules, lists, safelists, quotas."""
    from stream.policy.difference import difference
    from stream.policy.load import load_policy

    before, after = load_policy(old), load_policy(new)
    changes = difference(before, after)
    if as_json:
        print_json({"old": before.version, "new": after.version, "changes": changes})
        return
    console = Console(highlight=False, soft_wrap=True)
    for change in changes:
        print_change(console, change)
    if not changes:
        console.print("no change that matters to a decision")
    console.print(Text(f"{before.version} → {after.version}", style="dim"))
