"""Take over what an earlier run already made; what is taken is told, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from character.building.context import Build
from character.earlier import TAKEN, foils_in
from character.judging.likelihood import foils
from character.rows import Judgement, Query, Reply, Row

R = TypeVar("R", bound=Row)


def stored(
    this: Build,
    stage: str,
    kind: type[R],
    ids: Sequence[str],
    renewed: Callable[[R], R | None],
) -> set[str]:
    """Those of the rows with these ids that are in the run, once the earlier run's are.

    `renewed` gives an earlier row as this build would have it, or None for one that is of no use.
    """
    there = this.run.store.ids(kind)
    if this.earlier and this.stage(stage) not in this.run.store.finished():
        rows = this.earlier.rows(kind)
        wanted = [rows[identity] for identity in ids if identity in rows and identity not in there]
        found = [row for row in map(renewed, wanted) if row is not None]
        if found:
            this.run.store.keep(found)
            tell(this, stage, len(found), len(ids))
            there |= {row.id for row in found}
    return there.intersection(ids)


def tell(this: Build, stage: str, taken: int, wanted: int) -> None:
    """Say and record that so many rows of a stage were taken over."""
    if this.earlier is None or not taken:
        return
    known = this.run.recorded(TAKEN) or {}
    this.run.record(**{TAKEN: known | {stage: taken}})
    what = stage.replace("_", " ")
    this.run.reporter.say(f"Took over {taken} of {wanted} {what} from {this.earlier.folder}.")


def in_order(rows: Sequence[R], ids: Sequence[str]) -> list[R]:
    """Rows as they were planned, wherever they came from: sums of them round alike."""
    place = {identity: i for i, identity in enumerate(ids)}
    return sorted(rows, key=lambda row: place.get(row.id, len(place)))


def foils_of(this: Build, queries: Sequence[Query]) -> dict[str, str]:
    """For each query's text another one; where one was used before it stays.

    Else a few new queries would change the foils of many old ones, and their replies would have to
    be judged again.
    """
    found = foils(query.text for query in queries if query.split != "none")
    known = dict(this.earlier.foils) if this.earlier else {}
    store = this.run.store
    known |= foils_in(store.all(Query), store.all(Reply), store.all(Judgement))
    return found | {text: foil for text, foil in known.items() if text in found}
