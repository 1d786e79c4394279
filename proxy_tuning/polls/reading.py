"""A question in plain English -> what is asked: `read_question` finds place, time and match-up.

Abbreviations and misspelling are tolerated, and what had to be assumed is said. No language model
has a part in it.
"""

import calendar
import difflib
import re
import unicodedata
from dataclasses import dataclass

from proxy_tuning.polls.elections import (
    CANDIDATES,
    MATCHUPS,
    NATIONAL,
    STATES,
    month_name,
    place_name,
)
from proxy_tuning.polls.templates import TEMPLATES

MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if number}
MONTHS |= {name[:3]: number for name, number in MONTHS.items()} | {"sept": 9}
FIRST_NAMES = {
    "kamala": "Harris",
    "hillary": "Clinton",
    "donald": "Trump",
    "joe": "Biden",
    "barack": "Obama",
    "mitt": "Romney",
    "rfk": "Kennedy",
}
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
WORDS_TOO = {"in", "or", "me", "ok", "hi", "oh", "id", "la", "ma", "us", "as", "de", "al", "co"}
# Words that no misspelt state or month is looked for in.
PLAIN = set(
    re.findall(
        r"[a-z]+",
        " ".join(
            template for kind in TEMPLATES.values() for split in kind.values() for template in split
        ).lower(),
    )
) | {"member", "members", "please", "there", "their", "president", "winning"}

RESULT = (
    r"\b(?:won|wins?|winner|carried|carry|took|results?|votes?|voted|outcome|elected|gets?|got|"
    r"came first|election (?:of \d+ )?end(?:ed)?)\b"
)
POLLED = r"\b(?:poll|polls|polled|polling|average|averages|led|lead|leads|leader|leading|ahead)\b"
FINAL = (
    r"\b(?:last|final|closing|eve|(?:just|right) before|before the|going into|"
    r"(?:end|close) of the|campaign (?:of \d+ )?ended)\b"
)
MISS = (
    r"\b(?:off|wrong|error|miss|missed|differ|differed|accurate|good|right(?! before)|predict|"
    r"predicted|(?:polls?|polling) .*\bresults?|results? .*\b(?:polls?|polling))\b"
)


@dataclass(frozen=True)
class Asked:
    """What was understood of a question; None where it says nothing."""

    kind: str | None = None
    """'month', 'trend', 'year', 'final', 'result', 'miss', or None: nothing was understood."""
    state: str | None = None
    """As in the tables."""
    cycle: int | None = None
    """Year of the election."""
    month: str | None = None
    """YYYY-MM; for a trend its end."""
    start: str | None = None
    """YYYY-MM, where a trend starts."""
    names: tuple[str, ...] = ()
    """Candidates, by surname."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out, in sentences."""

    def __str__(self):
        """What was understood, in one line."""
        if self.kind is None:
            notes = self.notes or ("I found neither a state nor a time in the question.",)
            return " ".join(["I could not look this up.", *notes])
        about = f", about {' and '.join(self.names)}" if self.names else ""
        when = {
            "year": f"last polls and result of {self.cycle}",
            "final": f"last polls before the election of {self.cycle}",
            "result": f"result of the election of {self.cycle}",
            "miss": f"last polls and result of {self.cycle}",
        }.get(self.kind)
        if self.kind == "trend":
            when = f"polls from {month_name(self.start)} to {month_name(self.month)}"
        elif self.kind == "month":
            when = f"polls of {month_name(self.month)}"
        return " ".join([f"Read as: {when} in {place_name(self.state)}{about}.", *self.notes])


def plain_text(text):
    """The same text with straight quotes, single spaces and no possessive endings."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    return re.sub(r"'s\b", "", " ".join(text.split()))


def like(word, names, cutoff=0.8):
    """The name most like a misspelt word, or None."""
    return next(iter(difflib.get_close_matches(word, names, 1, cutoff)), None)


def state_names():
    """Lower-case name -> state, with short directions: 'n. carolina'."""
    names = {name.lower(): name for name in STATES.values()}
    for direction in ("north", "south", "west", "new"):
        for key, name in list(names.items()):
            if key.startswith(f"{direction} "):
                names[f"{direction[0]}. {key.removeprefix(f'{direction} ')}"] = name
    return names


def place_patterns():
    """All ways to write a place, the longer first: (pattern, place, whether capitals tell nothing).

    The last is True where a text all in capitals may have an ordinary word there: IN, OR.
    """

    def way(pattern, place, flags=re.IGNORECASE, too=False):
        return re.compile(pattern, flags), place, too

    for name, code in (("Maine", "ME"), ("Nebraska", "NE")):
        for number, word in enumerate(("first", "second", "third"), start=1):
            place = f"{name} CD-{number}"
            yield way(rf"\b(?:{name}|{code})[ -](?:CD-?)?(?:{number}|{word})\b", place)
            yield way(rf"\b{name} {number}(?:st|nd|rd)\b", place)
    capital = r"\b(?:washington,? )?d\. ?c\.|\b(?:washington,? )?dc\b"
    yield way(capital, "District of Columbia")
    for name, state in sorted(STATE_NAMES.items(), key=lambda pair: len(pair[0]), reverse=True):
        yield way(rf"\b{re.escape(name).replace(' ', ' ?')}\b", state)
    for name in NATION:
        yield way(rf"\b{re.escape(name)}(?!\w)", NATIONAL)
    yield way(r"\bUS(?!\w)|\b(?i:the us)\b", NATIONAL, 0)
    for short, code in SHORT.items():
        yield way(rf"\b{short}\b", STATES[code], 0)
    for code, name in STATES.items():
        word_too = code.lower() in WORDS_TOO
        yield way(rf"\b{code[0]}\. ?{code[1]}\.", name, 0)
        yield way(rf"\b{code}\b", name, 0, word_too)
        if not word_too:
            yield way(rf"(?<=\bin |\bof ){code}\b", name)


STATE_NAMES = state_names()
PLACE_PATTERNS = list(place_patterns())


def find_places(text):
    """The places named in a text, in its order, as the tables write them."""
    found = {}  # (start, end) -> place
    shouted = text == text.upper()
    for pattern, place, word_too in PLACE_PATTERNS:
        if not (shouted and word_too):
            spans = [match.span() for match in pattern.finditer(text)]
            found |= {span: place for span in spans if is_free(span, found)}
    found = found or misspelt_states(text)
    return list(dict.fromkeys(place for _, place in sorted(found.items())))


def is_free(span, found):
    """Whether no span of `found` overlaps this one."""
    return not any(span[0] < end and start < span[1] for start, end in found)


def misspelt_states(text):
    """States that one to three words of a text are nearly the name of: (start, end) -> state."""
    found, words = {}, list(re.finditer(r"[A-Za-z]+", text))
    for size in (3, 2, 1):
        for first in range(len(words) - size + 1):
            part = words[first : first + size]
            lower = [match[0].lower() for match in part]
            if len(" ".join(lower)) < 5 or any(w in PLAIN or w in MONTHS for w in lower):
                continue
            name = like(" ".join(lower), STATE_NAMES)
            span = part[0].start(), part[-1].end()
            if name and is_free(span, found):
                found[span] = STATE_NAMES[name]
    return found


def full_year(text):
    """'2024' and "'24" -> 2024, "'68" -> 1968."""
    year = int(text.lstrip("'"))
    return year if year > 99 else year + (2000 if year < 60 else 1900)


def find_times(text):
    """The months, as (month number, year or None), and the years of a text without its places."""
    months, years = [], []
    for match in re.finditer(r"\b(\d{4})-(\d\d?)\b|\b(\d\d?)/(\d{4})\b", text):
        year, number = (match[1], match[2]) if match[1] else (match[4], match[3])
        if 1 <= int(number) <= 12:
            months.append((int(number), int(year)))
    text = re.sub(r"\b\d{4}-\d\d?\b|\b\d\d?/\d{4}\b", " ", text)
    for match in re.finditer(r"[A-Za-z]+\.?|\b\d{4}\b|'\d\d\b", text):
        word = match[0].rstrip(".").lower()
        before, after = text[: match.start()].lower(), text[match.end() :]
        if not word.isalpha():
            years.append(full_year(word))
            continue
        number = MONTHS.get(word)
        if number is None and len(word) > 4 and word not in PLAIN:
            number = MONTHS.get(like(word, [name for name in MONTHS if len(name) > 3]))
        year = re.match(r"(?: \d\d?(?:st|nd|rd|th)?)?,? (?:of )?(\d{4}|'\d\d)\b", after)
        dated = year or re.search(r"\b(?:in|of|during|last|this|from|to|for|since) $", before)
        if number and (dated or match[0][0].isupper() or word not in ("may", "march", "mar")):
            months.append((number, full_year(year[1]) if year else None))
    return months, years


def find_names(text):
    """The candidates that a text names, by surname, in its order."""
    names = (name_of(word.lower()) for word in re.findall(r"[A-Za-z]+", text))
    return tuple(dict.fromkeys(name for name in names if name))


def name_of(word):
    """The candidate whose first name, surname or nearly surname a lower-case word is, or None."""
    surnames = {name.lower(): name for name in CANDIDATES}
    name = FIRST_NAMES.get(word) or surnames.get(word)
    if name is None and len(word) > 4 and word not in PLAIN and word not in MONTHS:
        name = surnames.get(like(word, surnames))
    return name


def cycle_of(month):
    """The election that the polls of a month (YYYY-MM) are about."""
    year, number = map(int, month.split("-"))
    return (year + (number == 12) + 3) // 4 * 4


def read_question(text, tables):
    """Read place, time and match-up out of a question in English.

    Args:
        text: at most some hundred characters.
        tables: as `tables.load_facts` returns them.
    Returns:
        An `Asked`; where something had to be assumed its notes say so.
    """
    text = plain_text(text)
    places, bare = find_places(text), without_states(text)
    names, notes = find_names(bare), []
    if len(places) > 1:
        notes.append(f"I look at one place at a time: {place_name(places[0])}.")
    state = places[0] if places else None
    known = known_months(tables["monthly"], state or NATIONAL, names)
    latest = int(tables["monthly"]["cycle"].max())
    months, years, assumed = read_months(text, bare, known, latest)
    notes += assumed
    cycle = cycle_of(months[-1]) if months else (years[0] if years else None)
    if state is None:
        if place := unlisted_place(text):
            return Asked(names=names, notes=(f"No state of the tables is called {place}.",))
        if cycle is None:
            return Asked(names=names)
        state = NATIONAL
        notes.append("No state was named, so I took the whole country.")
    if cycle is None:
        cycle = int(known["cycle"].max()) if len(known) and names else latest
        notes.append(f"No time was given, so I took the election of {cycle}.")
    if cycle not in MATCHUPS:
        return Asked(names=names, notes=(covered(tables["monthly"]),))
    kind = kind_of(text.lower(), months)
    month = {"month": months[-1:], "trend": months}.get(kind)
    month = max(month) if month else None
    start = min(months) if kind == "trend" else None
    return Asked(kind, state, cycle, month, start, names, tuple(notes))


def without_states(text):
    """The text without the names of states, so that no Washington is taken for a candidate."""
    states = sorted(STATES.values(), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, states)), " ", text)


def known_months(monthly, state, names):
    """The rows of the monthly table about a place and, as far as there are any, these names."""
    known = monthly[monthly["state"] == state]
    for name in names:
        named = known[(known["democrat"] == name) | (known["republican"] == name)]
        known = named if len(named) else known
    return known


def read_months(text, bare, known, latest):
    """When a question is about.

    Args:
        text: the question.
        bare: the same without states.
        known: rows of the monthly table, among which a month without a year is looked for.
        latest: the year that is taken where none of them has it.
    Returns:
        At most two months (YYYY-MM), all years named, notes.
    """
    numbered, years = find_times(bare)
    months, notes = [], []
    if re.search(r"\b(?:last|this|past) month\b", text.lower()) and not numbered and len(known):
        last = known["month"].max()
        numbered = [(int(last[5:]), int(last[:4]))]
        notes.append(f"The tables end in {month_name(last)}.")
    for number, year in numbered[:2]:
        if year is None and len(set(years)) == 1:
            year = years[0]
        if year is None:
            of_election_years = known["cycle"].astype(str) + f"-{number:02d}"
            polled = known.loc[known["month"] == of_election_years, "cycle"]
            year = int(polled.max() if len(polled) else latest)
            notes.append(f"No year was given, so I took the latest election year: {year}.")
        months.append(f"{year}-{number:02d}")
    return months, years, notes


def unlisted_place(text):
    """What a question names like a place, in capitals, and is neither a time nor a candidate."""
    place = re.search(r"\b(?:in|for|of|across) (?:the )?([A-Z][a-z]+(?: [A-Z][a-z]+)*)", text)
    if place and not find_times(place[1])[0] and not find_names(place[1]):
        return place[1]
    return None


def covered(monthly):
    """The sentence on which times the tables are about."""
    years = f"{min(MATCHUPS)} to {max(MATCHUPS)}"
    last = month_name(monthly["month"].max())
    return f"The tables have the elections of {years} and months up to {last}."


def kind_of(lower, months):
    """The kind of an `Asked`, from the question in lower case and its months."""
    asks_result = re.search(RESULT, lower) and not re.search(POLLED, lower)
    if len(set(months)) == 2:
        return "trend"
    if months and not (asks_result and months[0].endswith("-11")):
        return "month"
    if re.search(MISS, lower):
        return "miss"
    if asks_result and not re.search(r"\bbefore\b", lower):
        return "result"
    return "final" if re.search(FINAL, lower) else "year"
