"""Where a text speaks of: states, districts and the nation, in full, in short and misspelt."""

import calendar
import re

from proxy_tuning.polls.elections import DISTRICTS, NATIONAL, STATES
from proxy_tuning.polls.spelling import Speller
from proxy_tuning.polls.words import KNOWN

MONTH_WORDS = {name.lower() for name in calendar.month_name}
NATION = (
    "united states",
    "national",
    "nationally",
    "nationwide",
    "nation",
    "america",
    "country",
    "usa",
    "u.s.",
    "u.s",
    "countrywide",
    "popular vote",
    "popvote",
)
# Short forms from before the postal ones; written with a capital, because some are words too.
SHORT = {
    "Ala": "AL",
    "Ariz": "AZ",
    "Ark": "AR",
    "Calif": "CA",
    "Colo": "CO",
    "Conn": "CT",
    "Del": "DE",
    "Fla": "FL",
    "Ill": "IL",
    "Ind": "IN",
    "Kan": "KS",
    "Kans": "KS",
    "Mass": "MA",
    "Mich": "MI",
    "Minn": "MN",
    "Mont": "MT",
    "Neb": "NE",
    "Nebr": "NE",
    "Nev": "NV",
    "Okla": "OK",
    "Ore": "OR",
    "Penn": "PA",
    "Penna": "PA",
    "Pa": "PA",
    "Tenn": "TN",
    "Tex": "TX",
    "Wash": "WA",
    "Wis": "WI",
    "Wisc": "WI",
    "Wyo": "WY",
    "Va": "VA",
    "Vt": "VT",
    "Md": "MD",
    "Ga": "GA",
    "Ky": "KY",
}
SMALL = "mich penn penna wisc minn tenn fla calif ariz okla nebr tex wyo nev neb colo ala".split()
"""Those that are no words either when they are written small."""
BEFORE = (
    "(?:" + "|".join(rf"(?<=\b{w} )" for w in "in won win took carry carried lost".split()) + ")"
)
"""What stands before those that are words, too."""
NICKNAMES = {"cali": "California", "jersey": "New Jersey", "show me state": "Missouri"}
AFTER_IN = {"ok", "hi", "oh", "id", "la", "ma", "de", "al", "co"}
"""Codes that are words, too, and states where one of those stands before them."""
WORDS_TOO = {"in", "or", "me", "ok", "hi", "oh", "id", "la", "ma", "us", "as", "de", "al", "co"}


def state_names():
    """Lower-case name -> state, with short directions: 'n. carolina'."""
    names = {name.lower(): name for name in STATES.values()}
    for direction in ("north", "south", "west", "new"):
        for key, name in list(names.items()):
            if key.startswith(f"{direction} "):
                rest = key.removeprefix(f"{direction} ")
                names |= {f"{direction[0]}. {rest}": name, f"{direction[0]} {rest}": name}
    return names


def place_patterns():
    """All ways to write a place, the longer first: (pattern, place, whether capitals tell nothing).

    The last is True where a text all in capitals may have an ordinary word there: IN, OR.
    """

    def way(pattern, place, flags=re.IGNORECASE, too=False):
        return re.compile(pattern, flags), place, too

    for name, code in (("Maine", "ME"), ("Nebraska", "NE")):
        for number, word in enumerate(("first", "second", "third"), start=1):
            district = rf"(?:(?:CD-?)?(?:0?{number}|{word})|{number}(?:st|nd|rd))(?: congressional| district)*"
            before = rf"(?:{name}[ -]|{code}-|(?-i:{code}) ?)"
            yield way(rf"\b{before}{district}\b", f"{name} CD-{number}")
    capital = r"\b(?:washington,? )?d\.? ?c\b\.?"
    yield way(capital, "District of Columbia")
    for name, state in sorted(STATE_NAMES.items(), key=lambda pair: len(pair[0]), reverse=True):
        yield way(rf"\b{re.escape(name).replace(' ', ' ?')}\b", state)
    for name in NATION:
        yield way(rf"\b{re.escape(name)}(?!\w)", NATIONAL)
    yield way(r"\bUS(?!\w)|\b(?i:the us)\b", NATIONAL, 0)
    for short, code in SHORT.items():
        flags = re.IGNORECASE if short.lower() in SMALL else 0
        yield way(rf"\b{short}\b", STATES[code], flags)
        yield way(rf"{BEFORE}{short.lower()}\b", STATES[code], 0)
    for name, state in NICKNAMES.items():
        yield way(rf"\b{name}\b", state)
    for code, name in STATES.items():
        word_too = code.lower() in WORDS_TOO
        yield way(rf"\b{code[0]}\. ?{code[1]}\.", name, 0)
        yield way(rf"\b{code}\b", name, 0, word_too)
        if not word_too or code.lower() in AFTER_IN:
            needs = BEFORE if word_too or code == "MS" else ""
            yield way(rf"{needs}\b{code.lower()}\b", name, 0)


STATE_NAMES = state_names()
PLACE_PATTERNS = list(place_patterns())
SPELLER = Speller(STATE_NAMES)


def place_spans(text):
    """Where a text names places: {(start, end): place as the tables write it}."""
    found = {}
    shouted = text == text.upper() and len(re.findall("[A-Z]+", text)) > 2
    for pattern, place, word_too in PLACE_PATTERNS:
        if not (shouted and word_too):
            spans = [match.span() for match in pattern.finditer(text)]
            found |= {span: place for span in spans if is_free(span, found)}
    return dict(sorted((found | misspelt_states(text, found)).items()))


def find_places(text):
    """The places named in a text, in its order, as the tables write them."""
    return list(dict.fromkeys(place_spans(text).values()))


def blanked(text, spans):
    """The text with blanks where these spans are."""
    for start, end in spans:
        text = f"{text[:start]}{' ' * (end - start)}{text[end:]}"
    return text


def without_districts(text, spans):
    """The text with blanks where it names districts that the tables have; spans as `place_spans` does."""
    return blanked(text, [span for span, place in spans.items() if place in DISTRICTS])


def is_free(span, found):
    """Whether no span of `found` overlaps this one."""
    return not any(span[0] < end and start < span[1] for start, end in found)


def misspelt_states(text, known):
    """States that one to three words of a text are nearly the name of: {(start, end): state}.

    Args:
        known: spans that are read already.
    """
    found, words = {}, list(re.finditer(r"[A-Za-z]+", text))
    for size in (3, 2, 1):
        for first in range(len(words) - size + 1):
            part = words[first : first + size]
            lower = [match[0].lower() for match in part]
            name = " ".join(lower)
            if not 5 <= len(name) <= 22 or any(w in KNOWN or w in MONTH_WORDS for w in lower):
                continue
            span = part[0].start(), part[-1].end()
            if is_free(span, known) and is_free(span, found) and (like := SPELLER.like(name)):
                found[span] = STATE_NAMES[like]
    return found
