"""From files to a policy: every mistake found in one run, none of them half applied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from stream.errors import PolicyError
from stream.policy.conditions import Compiler
from stream.policy.diagnostics import Diagnostics, SourceFile
from stream.policy.document import read_document
from stream.policy.engine import CompiledRule, Policy, Safelist
from stream.policy.expectations import Expectation, read_expectation
from stream.policy.expressions import Environment
from stream.policy.reading import Current, Lists, functions
from stream.policy.rule_file import RuleFiles, read_rule_file
from stream.policy.vocabulary import Task, Vocabulary, bundled_tasks
from stream.policy.words import WordIndex

#: Looked for in the working directory.
LOCAL = Path("config") / "policy.yaml"
#: In a wheel; in a checkout it is `LOCAL` of the repository.
_BUNDLED = Path(__file__).with_name("starter.yaml")
_REPOSITORY = Path(__file__).resolve().parents[2] / LOCAL


def policy_path(path: Path | None = None) -> Path:
    """Where the rules are: the path given, else `config/policy.yaml`, else the starter pack."""
    if path is not None:
        return path
    if LOCAL.is_file():
        return LOCAL
    return _BUNDLED if _BUNDLED.is_file() else _REPOSITORY


def policy_files(path: Path) -> list[Path]:
    """The file, or the `*.yaml` and `*.yml` of the folder, by name.

    Raises:
        PolicyError: there is none.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file())
        if not found:
            raise PolicyError(f"no `*.yaml` file in the folder `{path}`")
        return found
    return [path]


def load_policy(path: Path | None = None, *, tasks: Sequence[Task] | None = None) -> Policy:
    """The policy in a file or a folder of `*.yaml`; None: where `policy_path` finds one.

    Args:
        path: file or folder.
        tasks: the models' tasks and labels; default: those of the bundled manifest.

    Raises:
        PolicyError: with every mistake in the files.
    """
    return load(path, tasks=tasks).policy


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, the tests beside its rules, and every file it was read from."""

    policy: Policy
    tests: tuple[Expectation, ...]
    files: tuple[Path, ...]


def load(
    path: Path | None = None,
    *,
    tasks: Sequence[Task] | None = None,
    edited: Mapping[Path, str] | None = None,
) -> Loaded:
    """As `load_policy`, with the tests and the files.

    `edited` has texts that are taken instead of what is in files of the policy: an edit is tried
    as a whole, beside the other files, before it is saved.
    """
    found = Diagnostics()
    files = read_files(policy_path(path), found, edited)
    known = {task.name: task for task in (bundled_tasks() if tasks is None else tasks)}
    known.update({task.name: task for task in files.tasks})
    vocabulary = Vocabulary(tuple(known.values()))
    current = Current()
    environment = Environment(vocabulary.types, functions(current))
    compiler = Compiler(environment, vocabulary, files)
    compiled = [rule for each in files.rules if (rule := compiler.compile(each)) is not None]
    ids = [each.rule.id for each in files.rules]
    read = [read_expectation(each, ids, vocabulary) for each in files.tests]
    found.raise_if_any()
    policy = Policy(
        compiled,
        name=files.name,
        version=_version(files, compiled),
        quota=files.quota,
        safelist=Safelist(files.safe_authors, files.safe_languages),
        lists=Lists(
            WordIndex(files.words),
            files.domains,
            compiler.patterns,
            files.safe_domains,
            _contents(files),
        ),
        vocabulary=vocabulary,
        environment=environment,
        current=current,
    )
    return Loaded(policy, tuple(test for test in read if test is not None), tuple(files.included))


def read_files(
    path: Path, found: Diagnostics, edited: Mapping[Path, str] | None = None
) -> RuleFiles:
    """What the files say, or what `edited` says in their place; mistakes go to `found`.

    Raises:
        PolicyError: a file cannot be read at all.
    """
    files = RuleFiles()
    for each in policy_files(path):
        try:
            text = (edited or {}).get(each)
            if text is None:
                text = each.read_text("utf-8-sig")
        except FileNotFoundError:
            raise PolicyError(
                f"there is no file `{each}`",
                hint="`tidegate policy check` without a path checks the rules in force",
            ) from None
        except UnicodeDecodeError as exc:
            raise PolicyError(f"`{each}` is not UTF-8: byte {exc.start}") from exc
        except OSError as exc:
            raise PolicyError(
                f"cannot read `{each}`: {(exc.strerror or str(exc)).lower()}"
            ) from exc
        files.included.append(each)
        document = read_document(SourceFile(str(each), text.replace("\r\n", "\n")), found)
        if document is not None:
            read_rule_file(document, each.parent, files)
    return files


def _contents(files: RuleFiles) -> dict[str, frozenset[str]]:
    words = {
        name: frozenset([*words.terms, *(f"allow: {term}" for term in words.allow)])
        for name, words in files.words.items()
    }
    safe = {
        "safelist.authors": files.safe_authors,
        "safelist.languages": files.safe_languages,
        "safelist.domains": files.safe_domains,
    }
    return {
        **words,
        **files.domains,
        **{name: entries for name, entries in safe.items() if entries},
    }


def _version(files: RuleFiles, compiled: Sequence[CompiledRule]) -> str:
    """The name and a digest of all that decides; comments, order and tests do not."""
    rules = [
        {
            "id": rule.id,
            "version": rule.version,
            "when": rule.when.strip(),
            "action": rule.action,
            "severity": rule.severity,
            "reason": rule.reason,
            "mode": rule.mode,
            "languages": sorted(rule.languages),
            "expires": rule.expires_at.isoformat() if rule.expires_at else None,
            "priority": rule.priority,
            "quota": rule.quota,
        }
        for rule in sorted((each.rule for each in compiled), key=lambda rule: rule.id)
    ]
    content = {
        "rules": rules,
        "words": {
            name: [sorted(words.terms), sorted(words.allow), words.fold]
            for name, words in sorted(files.words.items())
        },
        "domains": {name: sorted(domains) for name, domains in sorted(files.domains.items())},
        "safelist": [
            sorted(files.safe_authors),
            sorted(files.safe_languages),
            sorted(files.safe_domains),
        ],
        "tasks": {task.name: task.labels for task in files.tasks},
        "quota": files.quota,
    }
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return f"{files.name or 'policy'}@{digest}"
