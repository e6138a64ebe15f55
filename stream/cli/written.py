"""A file that is complete when it has its name: written beside it, renamed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer

from stream.errors import TidegateError


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """The file to write to; it takes the name `path` when the block ends without an error.

    After an error what was written is in `PATH.partial`, and standard error says so. What is no
    regular file (a pipe, `/dev/null`) is written to as it is.

    Raises:
        TidegateError: it cannot be written: no such directory, a full disk.
    """
    regular = path.is_file() or not path.exists()
    target = path.with_name(f"{path.name}.partial") if regular else path
    try:
        with target.open("wb") as file:
            yield file
        if regular:
            target.replace(path)
    except BrokenPipeError:
        raise
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise TidegateError(
            f"cannot be written: {reason[:1].lower()}{reason[1:]}", where=str(path)
        ) from exc
    except BaseException:
        if regular and target.is_file():
            typer.echo(f"what was made before the error is in {target}", err=True)
        raise
