"""Keep the libraries' own talk away from the build's: their bars, tips and deprecation notices."""

from __future__ import annotations

import logging
import os
import warnings


def hush_libraries() -> None:
    """Silence progress bars, advice and telemetry; call before the training stack is imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read once, when huggingface_hub loads
    os.environ.setdefault("TQDM_DISABLE", "1")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    # peft imports torchao where it is installed, and that tells of every kernel it cannot use
    for library in ("trl", "peft", "accelerate", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
