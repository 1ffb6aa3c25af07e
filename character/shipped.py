"""Where the traits, prompts and pipelines that come with the package are.

In a checkout the three folders lie beside the package; a wheel carries them inside it, under
`_shipped`. Either way a user's file wins over a shipped one of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["traits", "prompts", "pipelines"]

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: Kind) -> Path:
    """The folder of one kind that came with this copy of the package."""
    installed = _PACKAGE / "_shipped"
    return (installed if installed.is_dir() else _PACKAGE.parent) / kind


def find(kind: Kind, reference: str, suffix: str) -> Path | None:
    """The file a user means by `curious`, `curious.yaml`, `traits/curious.yaml` or any path.

    A file at that very path comes first, then `./traits/curious.yaml`, then the shipped one; None
    when there is none. A path into another folder never falls back to a shipped file.
    """
    path = Path(reference)
    candidates = [path]
    if path.parent in (Path(), Path(kind)):
        name = path.name.removesuffix(suffix) + suffix
        candidates += [Path(kind) / name, shipped(kind) / name]
    return next((candidate for candidate in candidates if _is_file(candidate)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a reference longer than a file name can be
        return False


def names(kind: Kind, suffix: str) -> list[str]:
    """What `find` finds by name alone: the user's and the shipped, sorted, each once."""
    files = [*Path(kind).glob(f"*{suffix}"), *shipped(kind).glob(f"*{suffix}")]
    return sorted({file.name.removesuffix(suffix) for file in files if file.is_file()})
