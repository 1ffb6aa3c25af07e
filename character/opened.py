"""The models a run asks, each opened when it is first needed and only once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from character.models.base import ChatModel
from character.models.budget import Budget
from character.models.cache import shared_cache
from character.models.config import RequestsConfig
from character.models.folders import model_folder
from character.models.loading import Serving, identity_of, load_local, load_served
from character.models.local import LocalModel
from character.models.names import has_weights
from character.models.served import ServedModel, tallies
from character.run import ASKED, Run, plain

if TYPE_CHECKING:
    from character.models.embedder import Embedder

JOURNAL = "spending.jsonl"


class Models:
    """Open for as long as the run is; `cap` is in dollars."""

    def __init__(self, run: Run, requests: RequestsConfig, cap: float | None) -> None:
        self._run, self._requests, self._cap = run, requests, cap
        self._local: dict[str, LocalModel] = {}
        self._served: dict[str, ServedModel] = {}
        self._embedder: Embedder | None = None

    def __getitem__(self, name: str) -> LocalModel:
        """A model whose weights are needed."""
        if name not in self._local:
            self._local[name] = load_local(name, self._run.reporter.say)
        return self._local[name]

    def any(self, name: str) -> ChatModel:
        """A model that is only asked, wherever it runs."""
        if has_weights(name):
            return self[name]
        if name not in self._served:
            self._served[name] = load_served(name, self._serving)
        return self._served[name]

    def embedder(self) -> Embedder:
        if self._embedder is None:
            from character.models.embedder import embedder

            self._embedder = embedder(self._run.reporter.say)
        return self._embedder

    def identity(self, name: str) -> str:
        return identity_of(name, self._run.reporter.say)

    def folder(self, name: str) -> Path:
        return model_folder(name, self._run.reporter.say)

    def close(self) -> None:
        """Close the models behind APIs, and add to the run's record what they were asked."""
        asked = tallies(self._run.recorded(ASKED))
        for model in self._served.values():
            tally = model.tally()
            asked[tally.model] = asked[tally.model] + tally if tally.model in asked else tally
            model.close()
        if self._served:
            self._run.record(**{ASKED: [plain(tally) for tally in asked.values()]})

    @cached_property
    def _serving(self) -> Serving:
        budget = Budget(self._cap, self._run.folder / JOURNAL)
        return Serving(self._requests, budget, shared_cache())
