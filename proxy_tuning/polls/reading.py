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
    "us",
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


def find_places(text):
    """The places named in a text, in its order, as the tables write them."""
    found = {}  # (start, end) -> place

    def look(pattern, place, flags=re.IGNORECASE):
        for match in re.finditer(pattern, text, flags):
            start, end = match.span()
            if not any(start < b and a < end for a, b in found):
                found[start, end] = place(match) if callable(place) else place

    ordinal = {"first": "1", "second": "2", "third": "3"}
    for name, code in (("Maine", "ME"), ("Nebraska", "NE")):
        look(
            rf"\b(?:{name}|{code})[ -](?:CD-?)?([123]|first|second|third)\b(?:st|nd|rd)?",
            lambda m, name=name: f"{name} CD-{ordinal.get(m[1].lower(), m[1])}",
        )
        look(rf"\b{name} (\d)(?:st|nd|rd)\b", lambda m, name=name: f"{name} CD-{m[1]}")
    look(r"\b(?:washington,? )?d\. ?c\.|\b(?:washington,? )?dc\b", "District of Columbia")
    names = {name.lower(): name for name in STATES.values()}
    for direction in ("north", "south", "west", "new"):
        names |= {
            f"{direction[0]}. {rest}": name
            for key, name in list(names.items())
            for first, _, rest in [key.partition(" ")]
            if first == direction
        }
    for name in sorted(names, key=len, reverse=True):
        look(rf"\b{re.escape(name).replace(' ', ' ?')}\b", names[name])
    for name in NATION:
        exact = re.escape(name.upper() if name == "us" else name)
        look(rf"\b{exact}(?!\w)", NATIONAL, 0 if name == "us" else re.IGNORECASE)
    look(r"\bthe us\b", NATIONAL)
    for short, code in SHORT.items():
        look(rf"\b{short}\b", STATES[code], 0)
    shouted = text == text.upper()
    for code, name in STATES.items():
        dotted = rf"\b{code[0]}\. ?{code[1]}\."
        look(dotted, name, 0)
        if not shouted or code.lower() not in WORDS_TOO:
            look(rf"\b{code}\b", name, 0)
        if code.lower() not in WORDS_TOO:
            look(rf"(?<=\bin |\bof ){code}\b", name)
    if not found:
        words = list(re.finditer(r"[A-Za-z]+", text))
        for size in (3, 2, 1):
            for i in range(len(words) - size + 1):
                part = words[i : i + size]
                word = " ".join(m[0].lower() for m in part)
                if len(word) < 5 or any(
                    m[0].lower() in PLAIN or m[0].lower() in MONTHS for m in part
                ):
                    continue
                name = like(word, names)
                start, end = part[0].start(), part[-1].end()
                if name and not any(start < b and a < end for a, b in found):
                    found[start, end] = names[name]
    return list(dict.fromkeys(place for _, place in sorted(found.items())))


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
    names = []
    for word in re.findall(r"[A-Za-z]+", text):
        name = FIRST_NAMES.get(word.lower())
        name = name or next((c for c in CANDIDATES if c.lower() == word.lower()), None)
        if (
            name is None
            and len(word) > 4
            and word.lower() not in PLAIN
            and word.lower() not in MONTHS
        ):
            near = like(word.lower(), [c.lower() for c in CANDIDATES])
            name = near.capitalize() if near and near != "mccain" else ("McCain" if near else None)
        names.append(name)
    return tuple(dict.fromkeys(name for name in names if name))


def cycle_of(month):
    """The election that the polls of a month (YYYY-MM) are about."""
    year, number = map(int, month.split("-"))
    return (year + (number == 12) + 3) // 4 * 4


def read_question(text, tables):
    """Read place, time and match-up out of a question in English.

    Args: text, at most some hundred characters; tables, as `tables.load_facts` returns them.
    Returns an `Asked`; where something had to be assumed its notes say so.
    """
    text = plain_text(text)
    monthly, notes = tables["monthly"], []
    places = find_places(text)
    bare = re.sub(
        "|".join(sorted(map(re.escape, STATES.values()), key=len, reverse=True)), " ", text
    )
    months, years = find_times(bare)
    names = find_names(bare)
    if len(places) > 1:
        notes.append(f"I look at one place at a time: {place_name(places[0])}.")
    state = places[0] if places else None
    lower = text.lower()
    asks_result = re.search(RESULT, lower) and not re.search(POLLED, lower)
    known = monthly[monthly["state"] == (state or NATIONAL)]
    for name in names:
        named = known[(known["democrat"] == name) | (known["republican"] == name)]
        known = named if len(named) else known
    if re.search(r"\b(?:last|this|past) month\b", lower) and not months and len(known):
        latest = known["month"].max()
        months = [(int(latest[5:]), int(latest[:4]))]
        notes.append(f"The tables end in {month_name(latest)}.")
    dated = []
    for number, year in months[:2]:
        if year is None and len(set(years)) == 1:
            year = years[0]
        if year is None:
            polled = known.loc[
                known["month"] == known["cycle"].astype(str) + f"-{number:02d}", "cycle"
            ]
            year = int(polled.max() if len(polled) else monthly["cycle"].max())
            notes.append(f"No year was given, so I took the latest election year: {year}.")
        dated.append(f"{year}-{number:02d}")
    last = monthly["cycle"].max()
    cycle = cycle_of(dated[-1]) if dated else (years[0] if years else None)
    if state is None:
        place = re.search(r"\b(?:in|for|of|across) (?:the )?([A-Z][a-z]+(?: [A-Z][a-z]+)*)", text)
        if place and not find_times(place[1])[0] and not find_names(place[1]):
            return Asked(names=names, notes=(f"No state of the tables is called {place[1]}.",))
        if cycle is None:
            return Asked(names=names)
        state = NATIONAL
        notes.append("No state was named, so I took the whole country.")
    if cycle is None:
        cycle = known["cycle"].max() if len(known) and names else last
        notes.append(f"No time was given, so I took the election of {cycle}.")
    if cycle not in MATCHUPS:
        last = month_name(monthly["month"].max())
        years = f"{min(MATCHUPS)} to {max(MATCHUPS)}"
        note = f"The tables have the elections of {years} and months up to {last}."
        return Asked(names=names, notes=(note,))
    if len(dated) == 2 and dated[0] != dated[1]:
        kind = "trend"
        dated.sort()
    elif dated and not (asks_result and dated[0].endswith("-11")):
        kind = "month"
    elif re.search(MISS, lower):
        kind = "miss"
    elif asks_result and not re.search(r"\bbefore\b", lower):
        kind = "result"
    else:
        kind = "final" if re.search(FINAL, lower) else "year"
    timed = kind in ("month", "trend")
    return Asked(
        kind,
        state,
        int(cycle),
        dated[-1] if timed else None,
        dated[0] if kind == "trend" else None,
        names,
        tuple(notes),
    )
