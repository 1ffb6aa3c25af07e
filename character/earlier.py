"""An earlier run of the same traits, whose finished work a new build takes over.

It is the first round's: later ones hang on the policy that the first came to, and so do their
queries, by what they must not be near.

Rows are known by ids that hash what decides them, so whatever a run has under an id that a build
would make anyway is that work. Only drafts are also taken by what they are made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from character.data.queries import TEMPLATES, Before
from character.errors import RunError
from character.folder import constitution_of, database_of, record_of
from character.rows import Draft, Judgement, Query, Reply, Row
from character.run import DATABASE, RECORD, Run
from character.spec.constitution import Constitution
from character.store.store import Store

EARLIER = "earlier"  # fact of run.json: the run that was taken over from, if any
HELD_BEFORE = "held_out_before"  # fact of run.json: messages held out by the runs before this one
LAST = "own_judgements"  # the last stage that takes anything over
TAKEN = "taken_over"  # fact of run.json: how many rows of each kind

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run made that another can take over; read once."""

    folder: Path
    constitution: Constitution
    drafts: Sequence[Draft]
    queries: Sequence[Query]
    replies: Mapping[str, Reply]
    judgements: Mapping[str, Judgement]
    held_out: Sequence[str]

    @property
    def before(self) -> Before:
        return Before(self.drafts, self.queries, self.held_out)

    @property
    def foils(self) -> dict[str, str]:
        return foils_in(self.queries, self.replies.values(), self.judgements.values())

    def rows(self, kind: type[R]) -> Mapping[str, R]:
        """By id; there are replies and judgements."""
        found: Any = {Reply: self.replies, Judgement: self.judgements}[kind]
        rows: Mapping[str, R] = found
        return rows


def open_earlier(folder: Path) -> Earlier:
    """Raises RunError when it is no run, or when its database cannot be read now."""
    held_before = record_of(folder).get(HELD_BEFORE, ())
    path = database_of(folder)
    try:
        with Store(path, read_only=True) as store:  # others may be reading it too
            return _read(folder, store, held_before)
    except RunError:
        with Store(path) as store:  # which brings an older run up to date
            return _read(folder, store, held_before)


def _read(folder: Path, store: Store, held_before: Sequence[str]) -> Earlier:
    queries = [query for query in store.all(Query) if not query.round]
    asked = {query.id for query in queries}
    replies = {reply.id: reply for reply in store.all(Reply) if reply.query_id in asked}
    return Earlier(
        folder,
        constitution_of(folder),
        [draft for draft in store.all(Draft) if not draft.round],
        queries,
        replies,
        {found.id: found for found in store.all(Judgement) if found.reply_id in replies},
        held_out_by(queries, held_before),
    )


def choose_earlier(
    run: Run,
    constitution: Constitution,
    identity: Mapping[str, Any],
    source: Path | None = None,
    fresh: bool = False,
) -> Earlier | None:
    """The run to take over from, decided and recorded when a build begins and kept when it goes on.

    `source`, or else the newest one beside it; None with `fresh`, or when there is none. Raises
    RunError when the source cannot be read or is of other traits, or when it was decided otherwise.
    """
    known = run.recorded(EARLIER)
    if known is None and run.store.finished():
        known = {"from": None}  # begun before there was anything to decide
    if known is not None:
        _same_decision(run.folder, known["from"], source, fresh)
        return _opened_again(run, known["from"])
    found = None
    if source:
        found = open_earlier(source)
        _check_traits(found, constitution)
    elif not fresh:
        found = _first_opened(run, find_earlier(run.folder, constitution, identity))
    held = {HELD_BEFORE: list(found.held_out)} if found else {}
    run.record(**{EARLIER: {"from": str(found.folder) if found else None}}, **held)
    if found:
        run.reporter.say(
            f"Takes over from {found.folder} what holds for these traits too; --fresh would make "
            "everything anew."
        )
    return found


def _same_decision(folder: Path, known: str | None, source: Path | None, fresh: bool) -> None:
    if (source and known != str(source)) or (fresh and known):
        begun = f"to take over from {known}" if known else "without taking over from another"
        raise RunError(
            f"{folder} was begun {begun}. Go on with the same command, or build elsewhere: "
            "--out runs/mine"
        )


def _opened_again(run: Run, known: str | None) -> Earlier | None:
    if known is None or LAST in run.store.finished():
        return None
    try:
        return open_earlier(Path(known))
    except RunError as error:
        run.reporter.say(f"Nothing more can be taken over from {known}: {error}")
        return None


def _first_opened(run: Run, folders: Iterable[Path]) -> Earlier | None:
    for folder in folders:
        try:
            return open_earlier(folder)
        except RunError as error:
            run.reporter.say(f"Nothing is taken over from {folder}: {error}")
    return None


def _check_traits(earlier: Earlier, constitution: Constitution) -> None:
    theirs = earlier.constitution
    if not set(_names(theirs)) & set(_names(constitution)):
        raise RunError(
            f"{earlier.folder} is a run of {theirs.name}, and nothing in it holds for "
            f"{constitution.name}. Name a run of the same trait with --from, or leave it out."
        )


def held_out_by(queries: Sequence[Query], before: Sequence[str] = ()) -> list[str]:
    """Every message that a run or one before it held out."""
    own = (query.text for query in queries if query.split == "held_out")
    return list(dict.fromkeys([*before, *own]))


def foils_in(
    queries: Iterable[Query], replies: Iterable[Reply], judgements: Iterable[Judgement]
) -> dict[str, str]:
    """For the text of each query the one that its replies were held against."""
    text = {query.id: query.text for query in queries}
    asked = {reply.id: text[reply.query_id] for reply in replies if reply.query_id in text}
    return {asked[j.reply_id]: j.foil for j in judgements if j.foil and j.reply_id in asked}


def find_earlier(
    folder: Path, constitution: Constitution, identity: Mapping[str, Any]
) -> Iterator[Path]:
    """Runs beside a new one that made data of the same traits in the same way, the newest first.

    The same way: the same seed, roles, settings of queries and replies, and version of this
    package. The traits are the same by name; what they say may differ.
    """
    wanted = _made_by(identity)
    for run, record in _runs_of(folder.parent, _names(constitution)):
        if run != folder and _made_by(record["identity"]) == wanted:
            yield run


def find_run(folder: Path, traits: Sequence[str]) -> Path | None:
    """The newest run in a folder of runs that is of these traits."""
    return next((run for run, _ in _runs_of(folder, list(traits))), None)


def _runs_of(folder: Path, traits: list[str]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Runs with a database and their records, the newest first."""
    runs = [path.parent for path in folder.glob(f"*/{RECORD}")]
    found = [run for run in runs if (run / DATABASE).is_file()]
    for run in sorted(found, key=lambda run: (run / DATABASE).stat().st_mtime, reverse=True):
        try:
            record = record_of(run)
            names = [member["trait"]["id"] for member in record["spec"]]
            _made_by(record["identity"])
        except (RunError, LookupError, TypeError):
            continue  # of no use here, and told of by whoever opens it
        if names == traits:
            yield run, record


def _names(constitution: Constitution) -> list[str]:
    return [trait.id for trait in constitution.traits]


def _made_by(identity: Mapping[str, Any]) -> tuple[object, ...]:
    recipe = identity["recipe"]
    parts = [_first_round(recipe[part]) for part in ("seed", "roles", "queries", "replies")]
    templates = {name: identity.get("templates", {}).get(name) for name in TEMPLATES}
    return (*parts, templates, identity["character"])


def _first_round(part: Any) -> Any:
    """Settings without those of later rounds."""
    if not isinstance(part, Mapping):
        return part
    return {key: value for key, value in part.items() if key not in ("fresh", "own")}
