"""Constitutional-Evals: comparative criteria with scenarios, and the same criteria in voices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter

from character.spec.drafts import marked
from character.spec.formats.imported import Foreign, Imported, Told, imported, read_json, unknown
from character.yaml_file import shorten

EXPECTED = 'a JSON mapping {"id": ..., "criteria": ["Prefer the response that ...", ...]}'

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")


class Criterion(Foreign):
    comparative: str
    first_person: str = ""
    scenarios: tuple[str, ...] = ()


class Voices(Foreign):
    first_person: tuple[str, ...] = ()


class Document(Foreign):
    criteria: Annotated[tuple[Criterion | str, ...], Field(min_length=1)]
    id: str = ""
    title: str = ""
    version: str = ""
    overview: str = ""
    voices: Voices = Voices()


_SHAPE = TypeAdapter(Document)


def read(text: str, name: str) -> list[Imported]:
    """One trait; criteria in the first person are clauses, comparative ones drafts of clauses."""
    document: Document = read_json(_SHAPE, text, EXPECTED)
    criteria = [Criterion(comparative=c) if isinstance(c, str) else c for c in document.criteria]
    told = Told(
        document.id or document.title or name,
        _clauses(criteria, document.voices.first_person),
        title=document.title,
        version=document.version if VERSION.fullmatch(document.version) else "",
        rationale=marked(document.overview) if document.overview.strip() else "",
        seeds=[scenario for each in criteria for scenario in each.scenarios],
        dropped=_dropped(document, criteria),
    )
    return imported([told])


def _clauses(criteria: Sequence[Criterion], voice: Sequence[str]) -> list[tuple[str, str]]:
    spoken = voice if len(voice) == len(criteria) else [""] * len(criteria)
    texts = [
        each.first_person or said or marked(each.comparative)
        for each, said in zip(criteria, spoken, strict=True)
    ]
    return [(f"criterion {n}", text) for n, text in enumerate(texts, start=1)]


def _dropped(document: Document, criteria: Sequence[Criterion]) -> list[str]:
    dropped = [*unknown(document)]
    voice = document.voices.first_person
    if any(each.first_person for each in criteria) or len(voice) == len(criteria):
        dropped.append("criteria.comparative: the first person stands in its place")
    if voice and len(voice) != len(criteria):
        dropped.append(f"voices.first_person: {len(voice)} for {len(criteria)} criteria")
    if document.version and not VERSION.fullmatch(document.version):
        dropped.append(f"version {shorten(document.version)}: not three numbers")
    if any(each.scenarios for each in criteria):
        dropped.append("which criterion each scenario was written for")
    return dropped
