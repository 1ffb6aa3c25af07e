"""Which language a text is in."""

from __future__ import annotations

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier


def language_of(text: str) -> str:
    """ISO 639-1 code of the text's language, or "" when it is too short to tell."""
    code, probability = _identifier().classify(text)
    return code if probability > 0.99 else ""


@lru_cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
