"""Attention over a prefix that a whole batch shares, computed once and never copied.

Demonstration turns are several times longer than the query and the reply, and they are the same
for hundreds of requests. The prefix lives once, without a batch dimension; each row adds its own
keys and values behind it. The two parts are merged by their log-sum-exps, so the result equals
ordinary attention over the concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache

IMPLEMENTATION = "shared_prefix"


class RowCache(Cache):
    """Keys and values of one batch behind a shared prefix, in buffers allocated once.

    Row i keeps its tokens in slots 0, 1, 2 ... without holes, so rows of different prompt
    lengths need no padding between prompt and reply.
    """

    def __init__(self, rows: int, slots: int, prefix: list[tuple[Tensor, Tensor]] | None) -> None:
        self.layers: list[Any] = []  # transformers asks it for layer kinds; all of ours are full
        self.rows, self.slots = rows, slots
        self.prefix = prefix or []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.write_at = torch.empty(0, dtype=torch.long)  # (rows, new tokens)
        self.filled = 0  # slots in use by the longest row
        self.mask: Tensor | None = None  # who sees whom in a packed row; else all that is before

    @property
    def prefix_length(self) -> int:
        return self.prefix[0][0].shape[1] if self.prefix else 0

    def place(self, slots: Tensor) -> None:
        """Say where the next forward pass writes: (rows, new tokens)."""
        self.write_at = slots
        self.filled = int(slots.max()) + 1

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values, (rows, heads, new, width); return all so far."""
        if layer_idx == len(self.keys):
            rows, heads, _, width = key_states.shape
            for store in (self.keys, self.values):
                store.append(key_states.new_zeros(rows, heads, self.slots, width))
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        row = torch.arange(key_states.shape[0], device=keys.device).unsqueeze(1)
        keys[row, :, self.write_at] = key_states.transpose(1, 2)
        values[row, :, self.write_at] = value_states.transpose(1, 2)
        return keys[:, :, : self.filled], values[:, :, : self.filled]

    def keep_rows(self, rows: Tensor) -> None:
        """Forget the rows that have finished."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.rows = len(rows)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prefix_length + self.filled

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        return self.get_seq_length(), 0


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    rows: RowCache | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax([Q Kp^T, Q K^T] / sqrt(d)) [Vp; V], with Kp, Vp shared by the batch.

    query (rows, heads, new, width); key and value (rows, kv heads, filled, width). The two parts
    are attended to apart and merged by their log-sum-exps, as flash attention merges its blocks
    (Dao et al. 2022, algorithm 1).
    """
    if rows is None:
        raise RuntimeError("this attention serves LocalModel only; train with another, like sdpa")
    batch, heads, new, width = query.shape
    kv_heads = key.shape[1]
    # heads that share keys become rows of one attention: (rows, kv heads, group * new, width)
    grouped = query.reshape(batch, kv_heads, -1, width)
    if new == 1:
        mixed, own_weight = _attention(grouped, key, value, attention_mask, scaling)
    else:  # slots are written from the first on, so without packing the mask is the causal one
        group = heads // kv_heads
        mixed, own_weight = _attention(
            query,
            key.repeat_interleave(group, dim=1),
            value.repeat_interleave(group, dim=1),
            rows.mask,
            scaling,
            causal=rows.mask is None,
        )
        mixed = mixed.reshape(grouped.shape)
        own_weight = own_weight.reshape(grouped.shape[:-1])
    if rows.prefix:
        shared, shared_weight = _over_prefix(grouped, *rows.prefix[_layer(module)], scaling)
        weight = torch.sigmoid(own_weight - shared_weight).unsqueeze(-1).to(mixed.dtype)
        mixed = torch.lerp(shared, mixed, weight)
    # (rows, new, heads, width), as transformers expects
    return mixed.reshape(batch, heads, new, width).transpose(1, 2), None


def _over_prefix(
    grouped: Tensor, keys: Tensor, values: Tensor, scaling: float | None
) -> tuple[Tensor, Tensor]:
    batch, kv_heads, many, width = grouped.shape
    # the prefix is the same for every row: one multiplication a head for the whole batch
    stacked = grouped.transpose(0, 1).reshape(kv_heads, batch * many, width)
    scale = scaling if scaling is not None else width**-0.5
    scores = torch.bmm(stacked * scale, keys.transpose(1, 2))
    highest, where = scores.max(-1)
    weights = scores.softmax(-1)
    # log-sum-exp from the largest weight, which low precision rounds least
    largest = weights.gather(2, where.unsqueeze(-1)).squeeze(-1)
    total = highest.float() - largest.float().log()
    mixed = torch.bmm(weights, values).view(kv_heads, batch, many, width)
    return mixed.transpose(0, 1), total.view(kv_heads, batch, many).transpose(0, 1)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its scores, (rows, heads, queries)."""
    if query.device.type == "cpu":
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return flash(query, key, value, is_causal=causal, attn_mask=mask, scale=scaling)
    scores = torch.matmul(query, key.transpose(2, 3)).float()
    scores = scores * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    weight = scores.logsumexp(-1)
    return torch.matmul((scores - weight.unsqueeze(-1)).exp().to(value.dtype), value), weight


def _layer(module: nn.Module) -> int:
    index = module.layer_idx
    assert isinstance(index, int)
    return index


AttentionInterface.register(IMPLEMENTATION, attend)


def own_mask(positions: Tensor, filled: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (rows, 1, new, filled): the token in slot p sees slots 0..p of its own row."""
    seen = torch.arange(filled, device=positions.device) <= positions.unsqueeze(-1)
    mask = torch.zeros(seen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)


@torch.no_grad()
def compute_prefix(model: PreTrainedModel, ids: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of the prefix for every layer, each (kv heads, length, width)."""
    if not ids:
        return []
    cache = RowCache(1, len(ids), None)
    tokens = torch.tensor([ids], device=model.device)
    hidden_states(model, tokens, torch.arange(len(ids), device=model.device).unsqueeze(0), cache)
    return [(keys[0], values[0]) for keys, values in zip(cache.keys, cache.values, strict=True)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Packed rows, all (rows, longest): a prompt and behind it, side by side, several replies.

    Every reply's positions go on from the prompt's, and `part` says which reply a token belongs to:
    0 is the prompt, which all see; -1 is padding.
    """

    tokens: Tensor
    positions: Tensor
    part: Tensor


def lay_out(rows: Sequence[tuple[list[int], list[list[int]]]], device: torch.device) -> Layout:
    """Rows of (prompt, replies); a reply's last token predicts nothing wanted and is left out."""
    longest = max(len(prompt) + sum(len(ids[:-1]) for ids in replies) for prompt, replies in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    positions = torch.zeros_like(tokens)
    part = torch.full_like(tokens, -1)
    for row, (prompt, replies) in enumerate(rows):
        at = 0
        for number, ids in enumerate([prompt, *(ids[:-1] for ids in replies)]):
            here = slice(at, at + len(ids))
            tokens[row, here] = torch.tensor(ids, dtype=torch.long)
            begin = len(prompt) if number else 0
            positions[row, here] = torch.arange(begin, begin + len(ids))
            part[row, here] = number
            at += len(ids)
    return Layout(tokens.to(device), positions.to(device), part.to(device))


def packed_states(model: PreTrainedModel, layout: Layout, cache: RowCache) -> Tensor:
    """Last hidden states (rows, longest, width) of packed rows."""
    slots = torch.arange(layout.tokens.shape[1], device=layout.tokens.device)
    if int(layout.part.max()) > 1:
        part = layout.part
        own = (part.unsqueeze(1) == 0) | (part.unsqueeze(1) == part.unsqueeze(2))
        seen = own & (slots <= slots.unsqueeze(-1))
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=slots.device)
        cache.mask = mask.masked_fill_(~seen, torch.finfo(model.dtype).min).unsqueeze(1)
    return hidden_states(
        model, layout.tokens, slots.expand_as(layout.tokens), cache, layout.positions
    )


def hidden_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    slots: Tensor,
    cache: RowCache,
    positions: Tensor | None = None,
) -> Tensor:
    """Last hidden states (rows, new, width); positions count from the end of the prefix.

    A token's position is its slot unless rows are packed.
    """
    cache.place(slots)
    positions = slots if positions is None else positions
    mask = own_mask(slots, cache.filled, model.dtype)
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    output = decoder(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions + cache.prefix_length,
        past_key_values=cache,
        use_cache=True,
        rows=cache,
    )
    return output.last_hidden_state
