"""Answers of a stated form: a pydantic model in, a valid instance or a recorded failure out.

Endpoints that hold answers to a schema are given it; others are told it. What comes back is
checked on our side either way, ranges too, mended once by a JSON library and once by asking again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import json_repair
from pydantic import BaseModel, ValidationError

from character import prompts
from character.models.base import ChatModel, Generation, Message, Request, Sampling

T = TypeVar("T", bound=BaseModel)

FORM, AGAIN = TEMPLATES = ("answer_as_json", "answer_again_as_json")
# what providers' strict schemas do not take; said in the description, and checked on our side
UNSTRICT = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Formless:
    """No valid answer: why, and the words that were said instead."""

    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Formed(Generic[T]):
    """An answer's value, or None with what is wrong; and the generations it took."""

    value: T | None
    failure: Formless | None
    generations: tuple[Generation, ...]


def ask_formed(
    model: ChatModel, requests: Sequence[Request], sampling: Sampling, form: type[T]
) -> list[Formed[T]]:
    """One outcome a request, in order. Two generations a request at most."""
    schema = strict_schema(form)
    asked = [_with_schema(model, request, schema) for request in requests]
    first = model.generate(asked, sampling)
    found = [_read(generation, form) for generation in first]
    wrong = [i for i, outcome in enumerate(found) if isinstance(outcome, Formless)]
    hopeful = [i for i in wrong if first[i].finish in ("stop", "length") and first[i].text]
    second = dict(
        zip(
            hopeful,
            model.generate([_again(asked[i], first[i], found[i]) for i in hopeful], sampling),
            strict=True,
        )
    )
    return [
        _outcome(_read(second[i], form), first[i], second[i])
        if i in second
        else _outcome(found[i], first[i])
        for i in range(len(requests))
    ]


def strict_schema(form: type[BaseModel]) -> dict[str, Any]:
    """The form's JSON schema as providers' strict modes want it: every key required, no others."""
    strict: dict[str, Any] = _strict(form.model_json_schema())
    return strict


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    kept = {key: _strict(value) for key, value in node.items() if key not in UNSTRICT}
    limits = ", ".join(f"{key}: {node[key]}" for key in UNSTRICT if key in node)
    if limits and "type" in node:
        kept["description"] = f"{node.get('description', '')} ({limits})".strip()
    if node.get("type") == "object" and "properties" in node:
        kept |= {"additionalProperties": False, "required": list(node["properties"])}
    kept.pop("default", None)
    return kept


def _with_schema(model: ChatModel, request: Request, schema: Mapping[str, Any]) -> Request:
    if model.can_structure:
        return replace(request, schema=schema)
    *before, last = request.conversation
    told = prompts.render(FORM, message=last.content, schema=json.dumps(schema))
    return replace(request, conversation=(*before, Message(last.role, told)))


def _again(request: Request, said: Generation, wrong: Any) -> Request:
    told = prompts.render(AGAIN, reason=wrong.reason)
    turns = (Message("assistant", said.text), Message("user", told))
    return replace(request, conversation=(*request.conversation, *turns))


def _read(generation: Generation, form: type[T]) -> T | Formless:
    if generation.finish not in ("stop", "length"):
        return Formless(generation.failure or generation.finish, generation.text)
    if not generation.text.strip():
        return Formless("empty", generation.text)
    try:
        return form.model_validate_json(generation.text)
    except ValidationError as error:
        if generation.finish == "length":  # mending would make up what was not said
            return Formless("cut off", generation.text)
        reason = _reason(error)
    mended = json_repair.loads(generation.text)
    if not isinstance(mended, dict):
        return Formless("no JSON object", generation.text)
    try:
        return form.model_validate(mended, strict=False)
    except ValidationError as error:
        return Formless(_reason(error) or reason, generation.text)


def _outcome(found: T | Formless, *generations: Generation) -> Formed[T]:
    if isinstance(found, Formless):
        return Formed(None, found, generations)
    return Formed(found, None, generations)


def _reason(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'answer'}: {_uncapital(problem['msg'])}"
        for problem in error.errors()
    )


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:]
