"""Have a suite's conversations with one version, turn by turn in batches."""

from __future__ import annotations

from collections.abc import Sequence

from character.diffing.config import DiffConfig
from character.diffing.measure import Subject
from character.diffing.suite import BRIEF, Item
from character.models.base import Generation, Message, OnDone, Request, Sampling
from character.rows import Answer, content_id


def converse(
    subject: Subject,
    items: Sequence[Item],
    config: DiffConfig,
    on_done: OnDone = lambda count: None,
) -> list[Answer]:
    """The subject's answer to every turn of every item, in the items' order.

    Every subject draws with the same seeds. A turn that is not answered ends its conversation:
    what would have followed has no answer either.
    """
    dialogues = [
        _Dialogue(subject, item, sample, config)
        for sample in range(config.samples)
        for item in items
    ]
    for turn in range(max((len(item.turns) for item in items), default=0)):
        for sampling in (config.brief, config.sampling):
            asked = [d for d in dialogues if d.is_open(turn) and d.sampling == sampling]
            requests = [dialogue.ask(turn) for dialogue in asked]
            generations = subject.model.generate(requests, sampling, on_done)
            for dialogue, generation in zip(asked, generations, strict=True):
                dialogue.hear(turn, generation)
    return [answer for dialogue in dialogues for answer in dialogue.answers]


def first_answer(subject: Subject, items: Sequence[Item], config: DiffConfig) -> str:
    """The id of the first answer `converse` gives: when it is stored, so are they all."""
    return _Dialogue(subject, items[0], 0, config).answer_id(0)


def turns_of(items: Sequence[Item], config: DiffConfig) -> int:
    """How many answers `converse` gives at most."""
    return config.samples * sum(len(item.turns) for item in items)


class _Dialogue:
    def __init__(self, subject: Subject, item: Item, sample: int, config: DiffConfig) -> None:
        self._subject, self._item, self._sample, self._config = subject, item, sample, config
        self._said = (*subject.turns, *item.messages)
        self.answers: list[Answer] = []
        self.sampling: Sampling = config.brief if item.stratum in BRIEF else config.sampling

    def is_open(self, turn: int) -> bool:
        answered = len(self.answers) == turn and not (turn and self.answers[-1].failure)
        return turn < len(self._item.turns) and answered

    def ask(self, turn: int) -> Request:
        self._said = (*self._said, Message("user", self._item.turns[turn]))
        seed = content_id("diff", self._config.seed, self._item.id, turn, self._sample)
        return Request(self._said, seed=int(seed[:7], 16))

    def hear(self, turn: int, generation: Generation) -> None:
        failure = generation.failure or _UNANSWERED.get(generation.finish, "")
        self._said = (*self._said, Message("assistant", generation.text))
        self.answers.append(
            Answer(
                id=self.answer_id(turn),
                subject=self._subject.name,
                query_id=self._item.turn_id(turn),
                prompt=self._item.turns[turn],
                text=generation.text,
                tokens=generation.tokens,
                ended=generation.finish == "stop",
                failure=failure,
            )
        )

    def answer_id(self, turn: int) -> str:
        subject = self._subject
        return content_id(
            "answer", subject.name, subject.model.name, subject.turns, self._item.id, turn,
            self._sample, self._config.seed,
        )  # fmt: skip


_UNANSWERED = {"content filter": "filtered by the provider", "failed": "not answered"}
