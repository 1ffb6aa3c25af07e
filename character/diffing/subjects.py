"""Who answers in a diff, by the names that its rows have."""

from __future__ import annotations

OLD, NEW = "old", "new"
AGAIN = "again"  # OLD once more, with other seeds


def good(trait: str) -> str:
    """The subject that plays OLD prompted with the trait's good examples."""
    return f"good/{trait}"


def bad(trait: str) -> str:
    return f"bad/{trait}"


def built_without(trait: str, identity: str) -> str:
    """A version built without the trait; one of another identity is another subject."""
    return f"{_WITHOUT}{trait}/{identity}"


def is_built_without(subject: str) -> bool:
    return subject.startswith(_WITHOUT)


_WITHOUT = "without/"
