"""What can go wrong while posts move; continues the tree of `models.errors`.

    TidegateError                (models.errors)
    ├── ModelError …             (models.errors)
    ├── ConfigError              a setting, an option or a config file is wrong
    │   └── HooksFileError       the hooks' targets, with every mistake in the file
    ├── PolicyError              rules that cannot be loaded, with every mistake in them
    ├── MissingExtraError        an optional part is not installed: package, Java, browser
    ├── BrokerError              the broker cannot be reached, refuses, or lost us
    │   └── DeliveryError        the broker did not confirm an output; the worker must end
    ├── ScoringProcessError      the process that scores for a worker has ended
    ├── StallError               a worker holds partitions and makes no progress
    ├── SourceError              an input file or feed cannot be read at all
    └── PostError                one post cannot be a post; becomes a dead letter, never ends a worker

An infrastructure error ends the process with exit code 1 and a restart resumes; a `PostError`
never does.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import (
    ManifestError,
    ModelBuildError,
    ModelError,
    ModelFileError,
    ModelRuntimeError,
    ModelSourceError,
    ParityError,
    TidegateError,
)

__all__ = [
    "BrokerError",
    "ConfigError",
    "DeliveryError",
    "HooksFileError",
    "ManifestError",
    "MissingExtraError",
    "ModelBuildError",
    "ModelError",
    "ModelFileError",
    "ModelRuntimeError",
    "ModelSourceError",
    "ParityError",
    "PolicyError",
    "PostError",
    "ScoringProcessError",
    "SourceError",
    "StallError",
    "TidegateError",
]


class ConfigError(TidegateError):
    """A setting, an option or a configuration file is wrong."""


class HooksFileError(ConfigError):
    """The file of the hooks' targets cannot be used.

    Args:
        message: one line about every mistake in it.
        rendered: the mistakes as a compiler shows them: place, fact, line, caret, hint.
    """

    def __init__(self, message: str, *, rendered: str = "", hint: str | None = None) -> None:
        super().__init__("\n\n".join(part for part in (message, rendered) if part), hint=hint)
        self.rendered = rendered


class PolicyError(TidegateError):
    """Rules that cannot be loaded.

    Args:
        diagnostics: every mistake that was found, in the order of the files.
        message: one line about all of them.
        rendered: the mistakes as a compiler shows them: place, fact, line, caret, hint.
    """

    def __init__(
        self,
        message: str,
        *,
        diagnostics: Sequence[object] = (),
        rendered: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)
        self.rendered = rendered

    def __str__(self) -> str:
        """The mistakes, then how many there are."""
        return "\n\n".join(part for part in (self.rendered, super().__str__()) if part)


class MissingExtraError(TidegateError):
    """Something optional is asked for and not installed."""


class BrokerError(TidegateError):
    """The broker cannot be reached, refuses us, or went away."""


class DeliveryError(BrokerError):
    """The broker did not confirm an output; committing past it would lose a post."""


class ScoringProcessError(TidegateError):
    """The process that scores for a worker has ended, or failed on something that is no post."""


class StallError(TidegateError):
    """A worker holds partitions with work in them and makes no progress."""


class SourceError(TidegateError):
    """An input cannot be read at all (one bad line in it is a `PostError`)."""


class PostError(TidegateError):
    """A record that cannot be a post.

    Args:
        reason: a short code (`not-json`, `no-text`, ...), one of `stream.records.DeadLetterReason`.
        message: a sentence a person understands.
    """

    def __init__(self, reason: str, message: str, *, where: str | None = None) -> None:
        super().__init__(message, where=where)
        self.reason = reason
