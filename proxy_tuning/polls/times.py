"""When a text speaks of: years, months and days, in full, in short and misspelt."""

import calendar
import re
from dataclasses import dataclass

from proxy_tuning.polls.spelling import Speller
from proxy_tuning.polls.words import KNOWN

MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if number}
SPELLER = Speller(MONTHS)
MONTHS |= {name[:3]: number for name, number in MONTHS.items()} | {"sept": 9}
WORDS_TOO = ("may", "march", "mar")
DATED = re.compile(
    r"\b(?:in|of|during|last|this|from|to|for|since|on|early|late|mid|by|until|through|about|between|and|back in)"
    r"[ -]$"
)
AFTER = re.compile(r"[ .]*(?:(\d\d?)(?:st|nd|rd|th)?\b(?!/))?,? ?(?:of )?(\d{4}\b|'\d\d\b)?")
BEFORE = re.compile(r"\b(\d\d?)(?:st|nd|rd|th)? (?:of )?$")
SHORT_YEAR = re.compile(
    r"(?<=\bin )(?:6[48]|7[26]|8[048]|9[26]|0[048]|1[26]|2[04])\b"
    r"(?!\.\d| ?(?:%|percent|points?|pts|states|months|weeks|days|years|of |\w+ states))"
)
"""The year of an election in two digits: 'in 08'."""
NUMERIC = re.compile(r"\b(\d{4})-(\d\d?)(?:-(\d\d?))?\b|\b(\d\d?)/(?:(\d\d?)/)?(\d{4})\b")


@dataclass(frozen=True)
class Time:
    """A month that a text names."""

    month: int
    """1 to 12."""
    year: int | None
    """None where it is not said."""
    day: int | None
    span: tuple[int, int]


def full_year(text):
    """'2024' and "'24" -> 2024, "'68" -> 1968."""
    year = int(text.lstrip("'"))
    return year if year > 99 else year + (2000 if year < 60 else 1900)


def read_times(text):
    """The `Time`s of a text without its places, and its other years as {(start, end): year}."""
    months, years = [], {}
    for match in NUMERIC.finditer(text):
        year, month, day = (
            (match[1], match[2], match[3]) if match[1] else (match[6], match[4], match[5])
        )
        if 1 <= int(month) <= 12:
            day = int(day) if day else None
            months.append(Time(int(month), int(year), day, match.span()))
    text = NUMERIC.sub(lambda match: " " * len(match[0]), text)
    for match in re.finditer(r"[A-Za-z]+|\b\d{4}\b|'\d\d\b", text):
        if not match[0].isalpha():
            if not any(time.span[0] <= match.start() < time.span[1] for time in months):
                years[match.span()] = full_year(match[0])
            continue
        number = month_number(match[0].lower())
        if number is None:
            continue
        after = AFTER.match(text, match.end())
        before = text[max(0, match.start() - 12) : match.start()].lower()
        early = BEFORE.search(before)
        said = after[2] or after[1] or early or DATED.search(before) or match[0][0].isupper()
        if match[0].lower() in WORDS_TOO and is_word(said, text[match.end() :]):
            continue
        day = after[1] or (early and early[1])
        year = full_year(after[2]) if after[2] else None
        day = int(day) if day and 1 <= int(day) <= 31 else None
        start = match.start() - (len(early[0]) if early else 0)
        months.append(Time(number, year, day, (start, after.end())))
    for match in SHORT_YEAR.finditer(text):
        if not any(time.span[0] <= match.start() < time.span[1] for time in months):
            years[match.span()] = full_year(match[0])
    return months, years


def is_word(said, rest):
    """Whether 'may' or 'march' is a verb: by what follows, where nothing said that it is a month."""
    if re.match(r" (?:I|i|we|you)\b", rest):
        return True
    return not said and bool(re.match(r" (?!poll|numbers|averages?\b|margin|lead)[a-z]", rest))


def month_number(word):
    """1 to 12 for the name of a month in lower case, also short or misspelt; else None."""
    if word in MONTHS:
        return MONTHS[word]
    return MONTHS.get(SPELLER.like(word)) if len(word) > 4 and word not in KNOWN else None


def find_times(text):
    """The months, as (month number, year or None), and all years of a text."""
    months, years = read_times(text)
    dated = [time.year for time in months if time.year]
    return [(time.month, time.year) for time in months], [*dated, *years.values()]
