from __future__ import annotations

import pytest

from character.language import language_of

ENGLISH = "The sea is salty because rivers carry salt from the rocks into it all the time."
GERMAN = "Das Meer ist salzig, weil die Flüsse ständig Salz aus den Steinen hineintragen."


@pytest.mark.parametrize(
    ("text", "language"), [(ENGLISH, "en"), (GERMAN, "de"), ("Paris.", ""), ("12 34", ""), ("", "")]
)
def test_a_language_is_named_only_when_it_is_sure(text: str, language: str) -> None:
    assert language_of(text) == language
