"""What can go wrong with the read model and at the desk; branches of the tree in `stream.errors`."""

from __future__ import annotations

from stream.errors import TidegateError


class ReadModelError(TidegateError):
    """The read model's file cannot be used: locked, newer than we are, disk full, not ours."""


class ReadModelAwayError(ReadModelError):
    """The server that holds the read model does not answer, or not any more: it may come back."""


class NotAllowedError(TidegateError):
    """A person tried what their role does not allow."""


class ClaimError(TidegateError):
    """The post is not this person's to judge: the claim has run out, or somebody else has it."""


class SignInError(TidegateError):
    """A name and password that do not fit, too many attempts, or nothing set up to sign in with."""


class AuditError(TidegateError):
    """The audit chain is broken."""
