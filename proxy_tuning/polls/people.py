"""Whom a text speaks of: the nominees of the tables, and Kennedy."""

import re

from proxy_tuning.polls.elections import CANDIDATES, MATCHUPS, THIRD
from proxy_tuning.polls.spelling import Speller
from proxy_tuning.polls.times import month_number
from proxy_tuning.polls.words import KNOWN

FIRST_NAMES = {
    "kamala": "Harris",
    "hillary": "Clinton",
    "donald": "Trump",
    "joe": "Biden",
    "barack": "Obama",
    "mitt": "Romney",
    "rfk": "Kennedy",
}
SURNAMES = {name.lower(): name for name in CANDIDATES}
SPELLER = Speller([*SURNAMES, *FIRST_NAMES])


def people_of(cycle: int) -> set[str]:
    """The surnames that the tables know in an election."""
    named = {name for pair in MATCHUPS[cycle] for name in (pair.democrat, pair.republican)}
    return named | ({THIRD} if cycle == 2024 else set())


def name_spans(text: str) -> dict[tuple[int, int], str]:
    """Where a text names candidates: {(start, end): surname}."""
    words = ((match.span(), name_of(match[0].lower())) for match in re.finditer("[A-Za-z]+", text))
    return {span: name for span, name in words if name}


def name_of(word: str) -> str | None:
    """The candidate whose first name, surname or nearly surname a lower-case word is, or None."""
    name = FIRST_NAMES.get(word) or SURNAMES.get(word)
    if name is None and word not in KNOWN and month_number(word) is None:
        like = SPELLER.like(word)
        name = like and (SURNAMES.get(like) or FIRST_NAMES.get(like))
    return name
