"""What can go wrong with a model, each error with the next thing to type.

    TidegateError
    └── ModelError
        ├── ManifestError      the manifest is not what it should be
        ├── ModelFileError     a file is missing or is not the file the manifest names
        ├── ModelRuntimeError  onnxruntime refuses: provider, graph, memory
        ├── ModelSourceError   a PyTorch model cannot be had, loaded or understood
        ├── ParityError        an exported graph answers otherwise than its PyTorch model
        └── ModelBuildError    training, export or quantisation

`stream.errors` continues the tree for everything that moves.
"""

from __future__ import annotations


class TidegateError(Exception):
    """A failure a user can act on: a fact, where it happened, and a hint.

    Args:
        message: a lower-case fact with `backticked` names.
        where: `file:line:column`, `topic[partition]@offset` or the like.
        hint: the next thing to do or type.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """The message as the user reads it, over up to three lines."""
        text = self.message if self.where is None else f"{self.where}: {self.message}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class ModelError(TidegateError):
    """Something about a model or its files."""


class ManifestError(ModelError):
    """The manifest names something that is not there or contradicts itself."""


class ModelFileError(ModelError):
    """A model's file is missing, unreadable, or its sha256 is not the manifest's."""


class ModelRuntimeError(ModelError):
    """onnxruntime could not load or run a graph."""


class ModelBuildError(ModelError):
    """A model could not be trained, exported, quantised or measured."""


class ModelSourceError(ModelError):
    """A PyTorch model cannot be had, cannot be loaded, or is not what the task needs."""


class ParityError(ModelError):
    """A graph is further from its PyTorch model than the stated bound."""
