"""What the front doors share: friendly errors, one console, exit codes."""

from __future__ import annotations

import errno
import sys
import traceback
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
    """The same with another exit code, for a command whose 1 and 2 mean something else.

    A crash then ends with that code too, after its traceback: Python would exit with 1.
    """

    def decorate(command: Callable[P, T]) -> Callable[P, T]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return command(*args, **kwargs)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except KeyboardInterrupt:
                click.echo("\nStopped. The same command goes on from here.", err=True)
                sys.exit(INTERRUPTED)
            except CharacterError as error:
                click.echo(f"Error: {error}", err=True)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in MENDABLE:
                    place = error.filename or "the disk"
                    click.echo(f"Error: {place}: {error.strerror}.", err=True)
                elif code == USER_ERROR:
                    raise
                else:
                    traceback.print_exc()
            sys.exit(code)

        return run

    return decorate
