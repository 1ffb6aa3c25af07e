"""Keep the libraries' own talk away from the build's: their bars, tips and deprecation notices."""

from __future__ import annotations

import logging
import os
import warnings


def hush_libraries() -> None:
    """Silence progress bars and anything short of an error from the training stack."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    for library in ("trl", "peft", "accelerate"):
        logging.getLogger(library).setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
