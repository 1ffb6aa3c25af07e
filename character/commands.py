"""What the front doors share: friendly errors, one console, exit codes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from character.errors import CharacterError

P = ParamSpec("P")
T = TypeVar("T")

USER_ERROR = 2
MENDABLE = {  # what the user's disk, folders and rights can be at fault for
    errno.EACCES,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
INTERRUPTED = 130


def friendly(command: Callable[P, T]) -> Callable[P, T]:
    """Print a user's mistake as one message without a traceback, and exit with 2."""
    return friendly_as(USER_ERROR)(command)


def friendly_as(code: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The same with another exit code, for a command whose 2 means something else."""

    def decorate(command: Callable[P, T]) -> Callable[P, T]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return command(*args, **kwargs)
            except CharacterError as error:
                click.echo(f"Error: {error}", err=True)
                sys.exit(code)
            except OSError as error:
                if error.errno not in MENDABLE:
                    raise
                click.echo(f"Error: {error.filename or 'the disk'}: {error.strerror}.", err=True)
                sys.exit(code)
            except KeyboardInterrupt:
                click.echo("\nStopped. The same command goes on from here.", err=True)
                sys.exit(INTERRUPTED)

        return run

    return decorate
