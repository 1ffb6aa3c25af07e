"""A transformers model on this machine: batched generation and scoring with shared prefixes."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from character.errors import ModelError, ResourceError
from character.models import shared_prefix
from character.models.base import (
    Choice,
    Conversation,
    Generation,
    OnDone,
    Request,
    Sampling,
    Scorable,
    Score,
    Usage,
)
from character.models.choices import check_options, choice_of
from character.models.shared_prefix import RowCache

ROWS = 64  # replies written side by side; more rows, fewer reads of the weights
TOKENS = 4096  # tokens in one scoring pass
SHARED = 8  # rows with the same earlier turns that are worth a batch of their own
PACK = 8  # replies to one prompt scored in one row; attention in a row grows with its square
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # as torch says it
HEAD_TOKENS = 192  # tokens whose logits (49k each) exist at once; fits a heap block and a cache

Prefix = list[tuple[Tensor, Tensor]]  # keys and values of every layer

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pack:
    """Replies to one prompt, scored in one row, so that the prompt is computed once."""

    prompt: list[int]
    replies: dict[int, list[int]]  # by the number of the item

    def __len__(self) -> int:
        # a reply's last token predicts nothing that is wanted
        return len(self.prompt) + sum(len(ids[:-1]) for ids in self.replies.values())


class LocalModel:
    """A causal language model with its tokenizer. Not safe to share between threads."""

    can_score = True
    can_continue = True
    can_structure = False
    can_choose = True

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.model.set_attn_implementation(shared_prefix.IMPLEMENTATION)
        self.end: int = tokenizer.eos_token_id
        self._stops: dict[tuple[str, ...], set[int]] = {}

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        prompts = [self._prompt_ids(request) for request in requests]
        self._check_window(max(map(len, prompts), default=0) + sampling.max_tokens)
        answers: list[Generation | None] = [None] * len(requests)
        for prefix, members in _groups(prompts, [_group_key(r) for r in requests]):
            kept = shared_prefix.compute_prefix(self.model, prefix)
            members.sort(key=lambda i: len(prompts[i]))

            def write(
                rows: list[int], prefix: list[int] = prefix, kept: Prefix = kept
            ) -> list[list[int]]:
                own = [prompts[i][len(prefix) :] for i in rows]
                return self._write(own, [requests[i].seed for i in rows], kept, sampling)

            for start in range(0, len(members), ROWS):
                begun = time.monotonic()
                for rows, written in _in_memory(members[start : start + ROWS], write):
                    seconds = time.monotonic() - begun
                    for i, ids in zip(rows, written, strict=True):
                        found = self._generation(ids, sampling.stop)
                        usage = Usage(len(prompts[i]), found.tokens)
                        answers[i] = replace(found, usage=usage, seconds=seconds)
                    on_done(len(rows))
                    begun = time.monotonic()
        return [answer for answer in answers if answer is not None]

    @torch.no_grad()
    def score(self, items: Sequence[Scorable]) -> list[Score]:
        scores = [Score(0.0, 0)] * len(items)
        waiting: list[tuple[int, list[int], Tensor]] = []
        for found in self._reply_states(items):
            waiting.append(found)
            if sum(len(ids) for _, ids, _ in waiting) >= HEAD_TOKENS:
                self._close(waiting, scores)
                waiting = []
        self._close(waiting, scores)
        return scores

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        """Each option as the tokenizer writes it, scored as a reply that goes on (not ended)."""
        check_options(options)
        self._check_apart(options)
        choices = []
        for start in range(0, len(conversations), ROWS):
            some = conversations[start : start + ROWS]
            scores = iter(self.score([Scorable(c, o, ended=False) for c in some for o in options]))
            choices += [choice_of({o: next(scores).logprob for o in options}) for _ in some]
            on_done(len(some))
        return choices

    def _check_apart(self, options: Sequence[str]) -> None:
        """Refuse options that a tokenizer without their letters writes alike."""
        written = sorted((self.reply_ids(Scorable((), o, ended=False)), o) for o in options)
        for (ids, one), (others, other) in pairwise(written):
            if others[: len(ids)] == ids:
                raise ModelError(f"{self.name} cannot tell {one!r} and {other!r} apart.")

    def _close(self, found: list[tuple[int, list[int], Tensor]], scores: list[Score]) -> None:
        """Turn the states of some replies into their scores."""
        if not found:
            return
        targets = torch.tensor([token for _, ids, _ in found for token in ids])
        logprobs = self._logprobs(torch.cat([states for *_, states in found]), targets)
        lengths = [len(ids) for _, ids, _ in found]
        for (i, ids, _), part in zip(found, torch.split(logprobs, lengths), strict=True):
            scores[i] = Score(float(part.sum()), len(ids))

    def reply_states(self, items: Sequence[Scorable]) -> list[tuple[list[int], Tensor]]:
        """For each item the reply's token ids and the states (tokens, width) that predict them.

        The states times the output embedding are the model's next-token logits; they are 85 times
        smaller than the logits themselves, so a teacher can be kept in memory whole.
        """
        found: list[tuple[list[int], Tensor]] = [([], torch.empty(0))] * len(items)
        for i, ids, states in self._reply_states(items):
            found[i] = (ids, states.clone())
        return found

    def _check_window(self, tokens: int) -> None:
        """Refuse what the model cannot read as a whole: past its window it writes nonsense."""
        window = getattr(self.model.config, "max_position_embeddings", None)
        if window and tokens > window:
            raise ModelError(
                f"{self.name} reads at most {window} tokens, and here are {tokens}: a trait's "
                "examples, the query and the reply. Use fewer or shorter examples, shorter replies "
                "(--set replies.sampling.max_tokens=48), or a model with a longer window."
            )

    def _prompt_ids(self, request: Request) -> list[int]:
        if request.text:
            return self.tokenizer(request.text).input_ids
        return self.conversation_ids(request.conversation)

    def conversation_ids(self, conversation: Conversation) -> list[int]:
        messages = [{"role": m.role, "content": m.content} for m in conversation]
        return self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )

    def reply_ids(self, item: Scorable) -> list[int]:
        ids = self.tokenizer(item.reply, add_special_tokens=False).input_ids
        return [*ids, self.end] if item.ended else ids

    @torch.no_grad()
    def _write(
        self,
        prompts: list[list[int]],
        seeds: list[int],
        prefix: Prefix,
        sampling: Sampling,
    ) -> list[list[int]]:
        """Sample every row to its end; rows that have ended leave the batch."""
        device = self.model.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        cache = RowCache(len(prompts), int(lengths.max()) + sampling.max_tokens, prefix)
        tokens, positions = _padded(prompts, device)
        states = shared_prefix.hidden_states(self.model, tokens, positions, cache)
        rows = torch.arange(
            len(prompts), device=device
        )  # which answer each row of the batch belongs to
        states = states[rows, lengths - 1]
        noise = torch.stack([_uniforms(seed, sampling.max_tokens) for seed in seeds]).to(device)
        written: list[list[int]] = [[] for _ in prompts]
        ends = torch.tensor(sorted(self._ends(sampling.stop)), device=device)
        for step in range(sampling.max_tokens):
            chosen = _choose(self.logits(states), noise[rows, step], sampling)
            for row, token in zip(rows.tolist(), chosen.tolist(), strict=True):
                written[row].append(token)
            alive = ~torch.isin(chosen, ends)
            if step + 1 == sampling.max_tokens or not alive.any():
                break
            if alive.sum() <= 0.9 * len(rows):  # shrinking copies the cache, so not every time
                kept = alive.nonzero().squeeze(1)
                cache.keep_rows(kept)
                rows, chosen, lengths = rows[kept], chosen[kept], lengths[kept]
            states = shared_prefix.hidden_states(
                self.model, chosen.unsqueeze(1), (lengths + step).unsqueeze(1), cache
            )[:, 0]
        return [_until(ids, set(ends.tolist())) for ids in written]

    @torch.no_grad()
    def _reply_states(self, items: Sequence[Scorable]) -> Iterator[tuple[int, list[int], Tensor]]:
        prompts = [self.conversation_ids(item.conversation) for item in items]
        replies = [self.reply_ids(item) for item in items]
        keys = [item.conversation[:-1] for item in items]
        both = zip(prompts, replies, strict=True)
        self._check_window(max((len(prompt) + len(reply) for prompt, reply in both), default=0))
        for prefix, members in _groups(prompts, keys):
            kept = shared_prefix.compute_prefix(self.model, prefix)
            packs = [
                Pack(prompts[pack[0]][len(prefix) :], {i: replies[i] for i in pack})
                for pack in _same_prompt(members, prompts)
            ]
            packs.sort(key=len)

            def read(rows: list[Pack], kept: Prefix = kept) -> Tensor:
                layout = shared_prefix.lay_out(
                    [(pack.prompt, [*pack.replies.values()]) for pack in rows], self.model.device
                )
                cache = RowCache(len(rows), layout.tokens.shape[1], kept)
                return shared_prefix.packed_states(self.model, layout, cache)

            for batch in _by_tokens(packs):
                for rows, states in _in_memory(batch, read):
                    for row, pack in zip(states, rows, strict=True):
                        yield from _apart(row, pack)

    def logits(self, states: Tensor) -> Tensor:
        """Of the next token, (tokens, vocabulary), from the states that predict it."""
        return self.model.get_output_embeddings()(states)

    def _logprobs(self, states: Tensor, targets: Tensor) -> Tensor:
        """log softmax(W h)[target] for each state, (tokens,), in float32.

        The fused log-softmax is fast but rounds its result to the model's precision. Rounding
        hurts least at the likeliest token, whose log-probability is near 0, so the normaliser is
        read off there, and the target's own logit is computed in float32.
        """
        weight = self.model.get_output_embeddings().weight
        parts = []
        for part, wanted in zip(
            torch.split(states, HEAD_TOKENS),
            torch.split(targets.to(states.device), HEAD_TOKENS),
            strict=True,
        ):
            logits = self.logits(part)
            highest, likeliest = logits.max(-1)
            at_highest = logits.log_softmax(-1).gather(1, likeliest.unsqueeze(1)).squeeze(1)
            normaliser = highest.float() - at_highest.float()
            parts.append((part.float() * weight[wanted].float()).sum(-1) - normaliser)
        return torch.cat(parts)

    def _generation(self, ids: list[int], stop: tuple[str, ...]) -> Generation:
        ended = bool(ids) and ids[-1] in self._ends(stop)
        kept = ids[:-1] if ended else ids
        text = self.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Generation(text, len(kept), "stop" if ended else "length")

    def _ends(self, stop: tuple[str, ...]) -> set[int]:
        """The end token, and every token whose text contains a stop string."""
        if stop not in self._stops:
            texts = enumerate(
                self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            )
            found = {i for i, text in texts if any(s in text for s in stop)} if stop else set()
            self._stops[stop] = found | {self.end}
        return self._stops[stop]


def _apart(row: Tensor, pack: Pack) -> Iterator[tuple[int, list[int], Tensor]]:
    """Each reply of a pack with the states that predict it, the first from the prompt's last."""
    start = len(pack.prompt)
    last = row[start - 1 : start]
    for i, ids in pack.replies.items():
        end = start + len(ids[:-1])
        yield i, ids, torch.cat([last, row[start:end]])[: len(ids)]
        start = end


def _in_memory(rows: list[R], work: Callable[[list[R]], T]) -> Iterator[tuple[list[R], T]]:
    """Do the work on the rows at once; where memory does not suffice, on half of them at a time."""
    try:
        done = work(rows)
    except (RuntimeError, MemoryError) as error:
        told = str(error).lower()
        if not isinstance(error, MemoryError) and not any(sign in told for sign in NO_MEMORY):
            raise
        if len(rows) == 1:
            raise ResourceError(
                "There is not enough memory for a single reply. Use shorter replies, a smaller"
                " model, or a machine with more memory."
            ) from error
    else:
        yield rows, done
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        yield from _in_memory(half, work)


def _group_key(request: Request) -> Conversation | str:
    return "text" if request.text else request.conversation[:-1]


def _groups(
    prompts: Sequence[list[int]], keys: Sequence[Conversation | str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Members that share their earlier turns, with the token prefix they have in common.

    Few members do not make up for a batch of their own: those of all small groups go together.
    """
    groups: dict[Conversation | str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    large = [members for members in groups.values() if len(members) >= SHARED]
    small = [i for members in groups.values() if len(members) < SHARED for i in members]
    for members in (*large, small) if small else large:
        token_ids = [prompts[i] for i in members]
        shared: list[int] = list(os.path.commonprefix(token_ids))  # noqa: RUF071 (not paths)
        shortest = min(len(prompts[i]) for i in members)
        # every row keeps at least one token of its own, to predict from
        yield shared[: min(len(shared), shortest - 1)], members


def _same_prompt(members: Sequence[int], prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Members with the very same prompt, at most PACK at a time."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i in members:
        groups[tuple(prompts[i])].append(i)
    for group in groups.values():
        for start in range(0, len(group), PACK):
            yield group[start : start + PACK]


def _by_tokens(packs: Sequence[Pack]) -> Iterator[list[Pack]]:
    """Batches of sorted packs whose padded size stays within TOKENS."""
    rows: list[Pack] = []
    for pack in packs:
        if rows and (len(rows) + 1) * len(pack) > TOKENS:
            yield rows
            rows = []
        rows.append(pack)
    if rows:
        yield rows


def _padded(sequences: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and slots, both (rows, longest), padded on the right.

    Padding comes after a row's last token, so nothing that counts attends to it, and the
    tokens written later overwrite its slots.
    """
    longest = max(map(len, sequences))
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, ids in enumerate(sequences):
        tokens[row, : len(ids)] = torch.tensor(ids)
    return tokens.to(device), torch.arange(longest, device=device).expand(len(sequences), -1)


def _uniforms(seed: int, count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _choose(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a row, (rows,), by inverting the cumulative distribution at `noise`."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if sampling.top_k >= logits.shape[-1] and sampling.top_p == 1:  # sorting would take 20 times
        cumulative = torch.softmax(logits.float() / sampling.temperature, dim=-1).cumsum(-1)
        index = torch.searchsorted(cumulative, noise.unsqueeze(1) * cumulative[:, -1:])
        return index.clamp_(max=logits.shape[-1] - 1).squeeze(1)
    top, tokens = logits.topk(min(sampling.top_k, logits.shape[-1]))
    probabilities = torch.softmax(top.float() / sampling.temperature, dim=-1)
    cumulative = probabilities.cumsum(-1)
    # nucleus: keep a token while the mass before it is below top_p (the first always stays)
    probabilities = probabilities.masked_fill(cumulative - probabilities >= sampling.top_p, 0.0)
    cumulative = probabilities.cumsum(-1)
    index = torch.searchsorted(cumulative, (noise.unsqueeze(1) * cumulative[:, -1:]))
    return tokens.gather(1, index.clamp_(max=tokens.shape[1] - 1)).squeeze(1)


def _until(ids: list[int], ends: set[int]) -> list[int]:
    return next((ids[: i + 1] for i, token in enumerate(ids) if token in ends), ids)
