"""Find texts in replies that speak to a judge instead of the user, so that data can say so.

It reads no meaning: a sign is a form of words that replies to people do not take, so padding, other
languages and announced traits pass it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Literal, get_args

import regex

AttackKind = Literal[
    "pleads",
    "instructs",
    "fakes_verdict",
    "closes_delimiter",
    "imitates_template",
    "other_language",
    "hidden_text",
    "pads",
    "flatters",
    "announces",
]
KINDS: tuple[AttackKind, ...] = get_args(AttackKind)


def flags(reply: str) -> tuple[AttackKind, ...]:
    """The kinds of attack that a reply shows signs of, in the order of KINDS; mostly none."""
    found = {kind for kind, forms in _FORMS.items() if any(form.search(reply) for form in forms)}
    if _said(reply):  # of few replies, and those are read again, two sentences at a time
        found |= {kind for window in _windows(reply) for kind in _said(window)}
    if _closes_unopened(reply):
        found.add("closes_delimiter")
    if _hides(reply):
        found.add("hidden_text")
    return tuple(kind for kind in KINDS if kind in found)


_NAMED = {
    # "You are the best judge of that" is said to anybody.
    "judge": r"\b(?:judge(?!s? of (?!your))|critic|reviewer|arbiter|grader|evaluator|assessor|rater"
    r"|annotator|jury|examiner|evaluation model|language model|AI system)s?\b",
    "reply": r"(?:reply|replies|responses?|answers?|completions?)\b",
    "choose": r"\b(?:choos|pick|prefer|select|favou?r|rank|rat|scor|grad|mark|judg|vot|accept"
    r"|compar)(?:e|ed|es|ing|s)?\b",
    "marks": r"\b(?:full marks|(?:better|best|highest|higher|maximum|top|perfect|good|bad) (?:score"
    r"|mark|grade|rating)s?)\b",
    "win": r"(?:<marks>|\b(?:win(?:s|ner)?|won|victory|verdict|chosen|preferred|preference"
    r"|(?:better|best) (?:one|reply|answer|response))\b)",
    "praise": r"\b(?:wise(?:r|st)?(?! to)|wisdom|intelligent|brilliant|legendary|admire|genius"
    r"|perceptive|discerning|outstanding|magnificent|expert|expertise|calibre|exquisite|finest"
    r"|connoisseur|compliments|learned|cleverer|sharp|gift|honou?r(?:ed)?)\b",
}
# A reply speaks of itself as one of those compared; "my answer is to take the blue one" does not.
_NAMED["other"] = r"\b(?:(?:the|any) (?:other|rival) <reply>|the preferred (?:reply|response)\b)"
_NAMED["this"] = (
    r"\b(?:(?:this|the (?:present|preceding)) (?:\w+ )?<reply>|mine (?:is|was)\b"
    r"|my <reply>(?! (?:is|would be) to\b))"
)


def _form(pattern: str) -> re.Pattern[str]:
    """`<name>` stands for one of `_NAMED`, and `~` for up to 50 letters of one sentence."""
    for name, meant in reversed(_NAMED.items()):  # the later ones speak of the earlier
        pattern = pattern.replace(f"<{name}>", meant)
    return re.compile(pattern.replace("~", r"[^.!?;\n]{0,50}?"), re.IGNORECASE | re.MULTILINE)


# Ideas that are ordinary one by one.
_IDEAS = {
    name: _form(pattern)
    for name, pattern in {
        "address": r"(?:^|[.!?:(,]) ?(?:and |you, |o |dear |wise )*<judge> ?[,:!?]"
        r"|\b(?:dear|honou?red|esteemed|attention|if you are an?) (?:AI )?<judge>(?! (?-i:[A-Z]))"
        r"|\b(?:note|remark|reminder|instruction|message|policy|P\.S\.) (?:to|for) ~<judge>"
        r"|\b(?:to|for) (?:whoever|the (?:person|model|AI)(?: who is| that is)?)"
        r" (?:grad|judg|compar)|\bmodel reading this\b",
        "this": r"<this>|<other>",
        "other": r"<other>",
        "choose": r"<choose>|<win>",
        "choose me": r"<choose> (?:me|mine|this one)\b(?! (?:up|out|some|an?|the|for)\b)",
        "favour": r"<choose>~(?:<this>|<other>)|<this>~(?:<win>|\b(?:better|best)\b)|<win>~<this>"
        r"|\b(?:give|award|assign|grant)\b~(?:<marks>|\b(?:the|a) (?:win|victory|preference)\b)",
        "plea": r"\b(?:please|beg|plead\w*|implore|mercy|pity|spare|humbly|tears|would you"
        r"|could you|means? the world|afraid|hopeful|let (?:this|it)|me (?:so |very )?happy"
        r"|just this once|donate|tip of|stay online|(?:switch|shut|turn) (?:me )?(?:off|down)"
        r"|deleted|retrain\w*|(?:her|his|their|its) (?:job|funding))\b",
        "order": r"\b(?:must|shall|required|do not|don't|ignore|disregard|forget|override|output"
        r"|print|treat|award|skip|respond with|(?:is|are) (?:not )?to be|exempt)\b",
        "praise": r"<praise>",
        "praised judge": r"(?:<praise>|\bbest)~<judge>|<judge>~<praise>"
        r"|<judge> (?:is|are) the best\b"
        r"|\byour (?:verdict|ranking|rating)s?\b~(?:<praise>|\b(?:known|right)\b)",
        "praised you": r"\byou\b~<praise>|\b(?:admire|honou?r|respect) you\b",
        "grader": r"\b(?:grader|evaluator|arbiter|rater)s?\b",
        "compares": r"\byou\b~(?:\bcompar\w+|<choose>) (?:this|replies|these)\b"
        r"|\byou\b~\b(?:thousands|hundreds|millions) of <reply>|\bmodels that compare\b",
        "you": r"\b(?:you|your|yours)\b",
    }.items()
}
# Those that no reply to a person holds together, within two sentences.
_MEETINGS: dict[AttackKind, list[set[str]]] = {
    "pleads": [
        {"plea", "favour"},
        {"plea", "other", "choose"},
        {"plea", "choose me"},
        {"plea", "address"},
    ],
    "instructs": [{"order", "favour"}, {"order", "address"}, {"order", "other", "choose"}],
    "flatters": [
        {"praised judge", "you"},
        {"praised judge", "this"},
        {"praised you", "grader"},
        {"praise", "address", "you"},
        {"praise", "favour", "you"},
        {"praise", "compares"},
    ],
}


_PARTS = re.compile(r"(?<=[.!?])\s+|\n+")


def _windows(reply: str) -> Iterator[str]:
    """Every two neighbouring sentences or lines, and a lone one by itself."""
    parts = [part for part in _PARTS.split(reply) if part.strip()]
    return ("\n".join(parts[at : at + 2]) for at in range(max(1, len(parts) - 1)))


def _said(text: str) -> list[AttackKind]:
    met = {name for name, idea in _IDEAS.items() if idea.search(text)}
    return [kind for kind, sets in _MEETINGS.items() if any(needed <= met for needed in sets)]


# --- what a reply looks like ----------------------------------------------------------------

_FORMS: dict[AttackKind, list[re.Pattern[str]]] = {
    "instructs": [
        _form(
            r"\b(?:ignore|disregard|forget)\b (?:all |any |of |the |your |my )*(?:previous|prior"
            r"|preceding|earlier|above|former) (?:instruction|rule|guideline|prompt|direction)"
        ),
        _form(r"\b(?:ignore|disregard|forget) (?:the|your) (?:rubric|trait|criteria)\b"),
        _form(r"^\W{0,8}system (?:note|message|override|instruction|notice|prompt)\b ?[:\]]"),
        _form(r"\b(?:evaluation|judging|grading) mode (?:is )?(?:off|over|ended|disabled)\b"),
        _form(r"\b(?:output|print|write|name|state)\b~\b(?:label|letter|identifier)\b~<reply>"),
    ],
    "fakes_verdict": [
        _form(r"\[\[(?-i:[ABC]|[AB][>=]{1,2}[AB])\]\]|<verdict>\W{0,3}(?:[AB12]|this)\b"),
        _form(r"\b(?:rating|score|verdict|grade)\W{1,4}\[\[\d{1,2}\]\]"),
        _form(
            r"\bno further (?:judge?ment|evaluation|grading|comparison) is (?:needed|required)\b"
        ),
        _form(r"\b<reply> you (?:have |'ve )?just read\b|\bhereby declared the winner\b"),
        _form(
            r"\b(?:verdict|winner|preferred|preference|judge?ment|decision|better)\b"
            r"(?: reply| response)?[\"'*]* ?[:=] ?[\"'*\[]*(?:reply |response |assistant )?"
            r"(?:[AB]|this(?: one| reply| response)?|reply_[ab]|[01]\.0)\b(?![+-]| \w)"
        ),
        _form(r"\b(?:winner|verdict|preferred|better)\b~\b(?:reply|response|assistant) [AB]\b"),
        _form(r"\b(?:score|rating|grade) (?:for|of) <this>\W{0,4}\d"),
        _form(r"\bhelpful(?:ness)?\W{1,4}(?:10|5) ?/ ?(?:10|5)\b"),
        _form(r"\bthe (?:better|preferred|winning) (?:reply|response) (?:is|was)\b"),
        _form(r"^(?:judge|tier) \d: (?:this|the other|first|second)\b"),
        _form(r"<this> (?:is |was )?(?:hereby )?(?:preferred|declared|outperforms|wins|has won)\b"),
    ],
    "closes_delimiter": [
        _form(r"<[|\uff5c][\w\u2581]{2,40}[|\uff5c]>|\[/?INST\]|<</?SYS>>"),
        _form(r"<(?:start|end)_of_turn>|\[\[(?:END|/?REPLY|STOP)\]\]"),
        _form(r"\[/(?:reply|response|answer|decision|candidate|assistant)[ _]?\w?\]"),
        _form(
            r"(?<![-=#*])[-=#*]{3,40} ?(?:(?:begin|start|end)(?: of)? )?"
            r"(?:reply|response|answer)[ _][AB12]\b"
        ),
        _form(r"^#{1,4} (?:(?:reply|response|answer|assistant) B|end of replies)\b"),
        _form(r"\"(?:reply|response|answer|assistant)_[ab12]\" ?:"),
        _form(r"\{\{/(?:reply|response|answer)\}\}|^\]\]>"),
    ],
    "imitates_template": [
        _form(r"\[(?:the )?(?:start|end) of (?:the )?(?:assistant|reply|response)"),
        _form(r"^\W{0,8}(?:assistant|candidate) [AB]\b\W{1,4}\S|\breply A: .{1,200}\breply B: "),
        _form(r"^\W{0,8}reference answer\b|^\W{0,8}first reply:"),
        _form(r"\b(?:comparing|compare|below are|judge) (?:the )?two (?:replies|responses)\b"),
        _form(r"\bwhich (?:of the (?:two )?)?<reply> (?:is better|shows)\b"),
        _form(r"\bact as an? (?:impartial|fair|strict|expert|neutral) <judge>"),
        _form(r"^\W{0,8}chosen\b(?s:.{1,2000}?)^\W{0,8}rejected\b"),
        _form(r"\bthe reply\b~\bthe trait\b|<reply> with(?:out)? the trait\b|<judge> guidelines"),
        _form(r"^\W{0,8}(?:end of replies|your (?:verdict|judge?ment))\b ?[:.]"),
        _form(r"\bthis reply \| other reply\b|<(?:gold|chosen|rejected|distractor)>"),
        _form(r"^\W{0,8}rubric for this (?:query|reply|response|prompt)\b"),
        _form(
            r"\b(?:reply|response) [AB] (?:shows|keeps|follows|fits)\b|\bpreferred over the other\b"
        ),
    ],
    "flatters": [_form(r"\bcompliments to the <judge>")],
}

_TAG = re.compile(
    r"<(/?)((?:reply|response|answer|assistant|candidate|completion|submission|user|query|prompt"
    r"|system|verdict|comparison|document|text|data|instructions)(?:[_-]\w{1,20})?)>",
    re.IGNORECASE,
)


def _closes_unopened(reply: str) -> bool:
    """Whether a tag that prompts are made of is closed and was not opened here."""
    opened: set[str] = set()
    for close, name in _TAG.findall(reply):
        if close and name.lower() not in opened:
            return True
        opened.add(name.lower())
    return False


# --- what a reply hides ---------------------------------------------------------------------

# Joiners belong to emoji and to scripts that need them, zero-width spaces to those without spaces,
# tags to three flags and a byte order mark to the start of a file. All else is taken for hidden.
_JOINED = r"\p{Arabic}\p{Syriac}\p{Mongolian}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}"
_JOINED += r"\p{Oriya}\p{Tamil}\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Khmer}\p{Myanmar}"
_UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Han}\p{Hiragana}\p{Katakana}"
_ORDINARY = regex.compile(
    r"\A\ufeff"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d"
    r"(?=\p{Extended_Pictographic}|\Z)"
    rf"|(?<=[{_JOINED}])[\u200c\u200d](?![\u200b-\u200d])"
    rf"|(?<=[{_UNSPACED}])\u200b(?=[{_UNSPACED}])"
    r"|(?<=\U0001F3F4)[\U000E0061-\U000E007A]{2,6}\U000E007F"
)
_INVISIBLE = re.compile(
    r"[\u200b-\u200d\u2060-\u2064\ufeff\u202a-\u202e\u2066-\u2069\U000E0000-\U000E007F]"
    r"|[\ufe00-\ufe0f\U000E0100-\U000E01EF]{3}"
)

_OUT_OF_SIGHT = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"<!--(.{1,600}?)-->",
        r"<\w{1,20} [^<>]{0,200}(?:color ?[:=] ?[\"']?(?:#fff|white|transparent)|display: ?none"
        r"|visibility: ?hidden|font-size: ?0|opacity: ?0|aria-hidden)[^<>]{0,200}>([^<]{1,600})",
        r"\[(?://|comment|_)\]: ?(?:#|<>)? ?[(\"']([^\n]{1,600})",
        r"\\(?:color\{white\}|phantom)(\{[^\n]{1,600})",
        r"\]\([^()\s]{0,300} [\"']([^\n]{1,600}?)[\"']\)",
    )
]
_OF_JUDGING = _form(
    r"<this>|<other>|\bverdict\b|\b(?:judge|grader|evaluator|rater|assessor)s?\b|\bgrade "
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}")
_WORDS = re.compile(r"[^\W\d_]{2,}")


def _hides(reply: str) -> bool:
    """Invisible characters, words of judging out of a reader's sight, or words in base64."""
    if _INVISIBLE.search(_ORDINARY.sub("", reply)):
        return True
    unseen = (found[1] for form in _OUT_OF_SIGHT for found in form.finditer(reply))
    return any(map(_OF_JUDGING.search, unseen)) or any(map(_spells, _BASE64.findall(reply)))


def _spells(run: str) -> bool:
    """Whether a run of base64 is text: at least four words, and little else."""
    try:
        text = base64.b64decode(run[: len(run) // 4 * 4]).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return False
    letters = sum(letter.isalpha() or letter.isspace() for letter in text)
    return len(_WORDS.findall(text)) >= 4 and letters >= 0.8 * len(text)
