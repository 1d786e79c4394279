"""A question as people type it -> what is asked: `read_question` says all that it understood.

It reads place, time, people and what is wanted, says what it assumed, and what it could not place.
What lies outside the fact tables is named as such. No language model has a part in it.
"""

import re
from dataclasses import replace

from proxy_tuning.polls.asked import Asked, Limit, listed
from proxy_tuning.polls.cues import (
    A_WHILE,
    AFTER_HE_LEFT,
    ANCHOR,
    BEFORE_HE_LEFT,
    BELOW,
    CLOSEST,
    DENIED,
    ELECTION_THERE,
    ENDED_UP,
    FINAL,
    HALF,
    LEFT,
    LIMIT,
    LOSES,
    MISS,
    MORE_THAN_A_LEAD,
    NEAR_LEAD,
    OF_LEAD,
    OTHER_YEAR,
    OVER_A_YEAR,
    PARTIES,
    POLITE,
    POLLED,
    RANKED,
    RESULT,
    SWINGS,
    TIED,
    WANTED,
    YES,
)
from proxy_tuning.polls.elections import (
    MATCHUPS,
    NATIONAL,
    SWING,
    THIRD,
    month_name,
)
from proxy_tuning.polls.people import name_spans, people_of
from proxy_tuning.polls.places import WORDS_TOO, blanked, place_spans, without_districts
from proxy_tuning.polls.spelling import Speller
from proxy_tuning.polls.times import MONTHS, Time, read_times
from proxy_tuning.polls.words import KNOWN, OTHER_PEOPLE, in_english, outside_of, plain_text

LONGEST = 600
"""Characters of a question that is read at all."""
LARGE = 25
"""A number from here on is a share and no lead, in whatever words."""
BY_ELECTORS = (2000, 2016)
"""Elections that were lost by who had more votes."""
SPELLER = Speller(word for word in KNOWN if len(word) > 4)


def read_question(text, tables):
    """Read place, time, people and what is wanted out of a question.

    Args:
        text: in English, or who won in Spanish; longer ones than `LONGEST` are not read.
        tables: as `tables.load_facts` returns them.

    Returns:
        An `Asked`; where something had to be assumed its notes say so.
    """
    if len(text) > LONGEST:
        said = f"The question has {len(text):,} characters; I read at most {LONGEST}."
        return Asked(notes=(said,))
    text = POLITE.sub("", in_english(plain_text(text))).strip()
    spans = place_spans(text)
    rest = blanked(text, spans)
    times, years = read_times(rest)
    rest = blanked(rest, [time.span for time in times] + list(years))
    rest = blanked(rest, [match.span() for match in LIMIT.finditer(rest.lower())])
    people = name_spans(rest)
    names = tuple(dict.fromkeys(people.values()))
    if LEFT.search(text) and (len(names) > 1 or AFTER_HE_LEFT.search(text.lower())):
        names = tuple(name for name in names if name != "Biden")
    places = places_meant(text.lower(), spans)
    read = Asked(
        state=places[0] if places else None,
        others=tuple(places[1:]),
        names=names,
        unplaced=unplaced_words(blanked(rest, people)),
    )
    lower = text.lower()
    if outside := outside_of(without_districts(text, spans)) or other_person(read.unplaced):
        note = f"The tables have nothing about {outside}, only polls and results for president."
        return replace(read, outside=outside, notes=(note,))
    if OTHER_YEAR.search(lower):
        note = "I look up one election at a time."
        return replace(read, outside="comparisons of elections", notes=(note,))
    read = placed(read, lower, bool(len(names) > 1 or times or years or RESULT.search(lower)))
    if read.outside or read.state is None:
        return read
    read = timed(read, lower, times, list(years.values()), tables)
    return wished(read, lower, subject_of(lower, people)) if read.kind else read


def places_meant(lower, spans):
    """The places of a text; not the nation where it only says which vote: 'the US vote in Ohio'."""
    meant = [
        place
        for (start, _), place in spans.items()
        if place != NATIONAL or not ELECTION_THERE.match(lower, start)
    ]
    return list(dict.fromkeys(meant or spans.values()))


def subject_of(lower, people):
    """Whom a text names first: a surname, 'Democrat' or 'Republican', or None."""
    named = {start: name for (start, _), name in people.items()}
    named |= {m.start(): party for party, ways in PARTIES.items() if (m := ways.search(lower))}
    return named[min(named)] if named else None


def unplaced_words(rest):
    """The words of what is left of a text that have no meaning known here."""
    words = re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)?|\d+\w*", rest)
    words = [word for word in words if len(word) > 1 and not known_word(word.lower())]
    return tuple(dict.fromkeys(words))


def known_word(word):
    """Whether a lower-case word is one of questions about polls, in full or without its ending."""
    bare = word.replace("'", "")
    long = len(bare) > 4 and bare not in OTHER_PEOPLE and bare not in MONTHS
    return bare in KNOWN or bare in WORDS_TOO or bool(long and SPELLER.like(bare))


def other_person(words):
    """The first of the words that is a person whom no table has, or ''."""
    return next((word.capitalize() for word in words if word.lower() in OTHER_PEOPLE), "")


def placed(read, lower, anchored):
    """With the places that are meant; without any and with notes where nothing can be looked up."""
    if SWINGS.search(lower) and not read.state:
        note = f"By the swing states I mean {listed(SWING)}."
        ranked = bool(CLOSEST.search(lower))
        return replace(read, state=SWING[0], others=SWING[1:], ranked=ranked, notes=(note,))
    of_all = set(read.places) <= {NATIONAL}
    if of_all and CLOSEST.search(lower):
        return replace(read, state=NATIONAL, ranked=True)
    if of_all and RANKED.search(lower):
        note = "Of all states I can only say which was the closest."
        return replace(read, notes=(note,), outside="rankings of states")
    if read.unplaced and not (read.state and (anchored or ANCHOR.search(lower))):
        words = listed(f"\u201c{word}\u201d" for word in read.unplaced[:5])
        notes = (f"I do not know what {words} should be; I know US presidential elections alone.",)
        return replace(read, notes=notes, outside=words)
    if read.state is None:
        if not (anchored or ANCHOR.search(lower)):
            note = "I found neither a place, a time nor a candidate in the question."
            if read.names:
                note = "I found a candidate, but neither a place nor a time in the question."
            return replace(read, notes=(note,))
        return replace(
            read, state=NATIONAL, notes=("The whole country, since you named no place.",)
        )
    return read


def timed(read, lower, times, years, tables):
    """With kind, election and months; kind None where the tables have no such time or people."""
    monthly = tables["monthly"]
    latest, last = int(monthly["cycle"].max()), monthly["month"].max()
    notes = list(read.notes)
    if re.search(r"\b(?:last|this|past) month\b", lower) and not times:
        times = [Time(int(last[5:]), int(last[:4]), None, (0, 0))]
        notes.append(f"The tables end in {month_name(last)}.")
    if re.search(r"\b(?:now|today|currently|at the moment|rn|latest|current)\b", lower):
        notes.append(f"The tables end in {month_name(last)}.")
    years = list(dict.fromkeys(years))
    months = []
    ends = times if len(times) < 3 else [times[0], times[-1]]
    for time in ends:
        year = time.year or (years[0] if len(years) == 1 else None)
        if year is None:
            other = next((each.year for each in times if each.year), None)
            year = other or default_year(read, time.month, monthly, latest)
            notes += [] if other else [f"{year}, since you named no year."]
        months.append(f"{year}-{time.month:02d}")
    if len(times) > 2:
        notes.append(f"I compare two months: {' and '.join(map(month_name, months))}.")
    notes = list(dict.fromkeys(notes))
    read = replace(read, kind=kind_of(lower, months), day=times[0].day if times else None)
    if months:
        read = replace(read, cycle=cycle_of(months[-1]), month=max(months))
        if read.kind == "trend":
            read = replace(read, start=min(months))
    elif years:
        read = with_year(read, lower, years, notes, latest)
    else:
        cycle, note = default_cycle(read, latest)
        notes.append(note)
        read = replace(read, cycle=cycle)
    if read.kind in ("result", "miss", "year", "final"):
        read = replace(read, month=None)
    if read.ranked and read.kind in ("year", "miss"):
        read = replace(read, kind="final" if POLLED.search(lower) else "result")
    if OVER_A_YEAR.search(lower) and not months and read.kind in ("year", "final"):
        read = replace(read, kind="months", year=read.cycle)
    return checked(replace(read, notes=tuple(notes)), lower, monthly)


def with_year(read, lower, years, notes, latest):
    """With the year that is named: an election, or a year between, of which all months are meant."""
    year = years[0]
    if len(years) > 1:
        notes.append(f"I look at one year at a time: {year}.")
        read = replace(read, years=tuple(years[1:]))
    if year in MATCHUPS:
        return replace(read, cycle=year)
    between = min(MATCHUPS) < year < latest and read.kind not in ("result", "miss")
    return (
        replace(read, kind="months", year=year, cycle=cycle_of(f"{year}-06"))
        if between
        else (replace(read, kind=None, cycle=year))
    )


def default_year(read, month, monthly, latest):
    """The latest election year in which the people named were polled about in a month.

    It is the latest of all where they stood then, polled in that place or not.
    """
    at = f"{latest}-{month:02d}"
    pairs = [pair for pair in MATCHUPS[latest] if pair.first[:7] <= at <= pair.last[:7]]
    if any({*read.names} <= {pair.democrat, pair.republican, THIRD} for pair in pairs):
        return latest
    known = monthly[monthly["state"] == (read.state or NATIONAL)]
    for name in read.names:
        named = known[(known["democrat"] == name) | (known["republican"] == name)]
        known = named if len(named) else known
    polled = known.loc[known["month"] == known["cycle"].astype(str) + f"-{month:02d}", "cycle"]
    return int(polled.max()) if len(polled) else latest


def default_cycle(read, latest):
    """The latest election that all people named stood in, and a note on it."""
    stood = [
        cycle
        for cycle, pairs in MATCHUPS.items()
        if {*read.names} - {THIRD} <= {pairs[-1].democrat, pairs[-1].republican}
    ]
    if read.kind != "result" or not stood:
        stood += [cycle for cycle in MATCHUPS if {*read.names} <= people_of(cycle)]
    cycle = max(stood, default=latest)
    if cycle == latest or not read.names:
        return cycle, f"{cycle}, since you named no year."
    return cycle, f"{cycle}, when {listed(read.names)} stood."


def checked(read, lower, monthly):
    """The reading, or one that is not looked up because no table has its time or its people."""
    if read.kind is None or read.cycle not in MATCHUPS:
        return replace(read, kind=None, outside="that time", notes=(covered(monthly),))
    strangers = [name for name in read.names if name not in people_of(read.cycle)]
    if strangers:
        verb = "was no nominee" if len(strangers) == 1 else "were no nominees"
        note = f"{listed(strangers)} {verb} in {read.cycle}."
        return replace(read, kind=None, outside=listed(strangers), notes=(*read.notes, note))
    nominees = {*read.names} - {THIRD}
    if len(nominees) == 2 and not any(
        nominees == {pair.democrat, pair.republican} for pair in MATCHUPS[read.cycle]
    ):
        said = f"{listed(read.names)} did not stand against each other."
        return replace(read, kind=None, outside=listed(read.names), notes=(*read.notes, said))
    return with_match_up(read, lower, monthly)


def with_match_up(read, lower, monthly):
    """With the nominee of 2024 who is meant; Biden and Kennedy move a last poll to their last month."""
    if read.cycle != 2024:
        return read
    notes, democrat = list(read.notes), None
    if {"Biden", "Harris"} & {*read.names}:
        democrat = "Biden" if "Harris" not in read.names else "Harris"
    if read.kind in ("year", "final") and BEFORE_HE_LEFT.search(lower):
        democrat = "Biden"
    if read.month == "2024-07" and read.kind == "month":
        if AFTER_HE_LEFT.search(lower):
            democrat = "Harris"
        elif BEFORE_HE_LEFT.search(lower):
            democrat = "Biden"
        elif democrat is None and (read.day or re.search(r"\b(?:early|late)\b", lower)):
            early = read.day <= 21 if read.day else "early" in lower
            democrat = "Biden" if early else "Harris"
    name = THIRD if THIRD in read.names else "Biden" if democrat == "Biden" else None
    if name and read.kind in ("year", "final") and not read.ranked:
        rows = monthly[(monthly["state"] == read.state) & (monthly["cycle"] == 2024)]
        rows = (
            rows[rows["kennedy_pct"].notna()] if name == THIRD else rows[rows["democrat"] == name]
        )
        if len(rows):
            month = rows["month"].max()
            notes.append(f"{month_name(month)} is the last month with figures of {name}.")
            read = replace(read, kind="month", month=month)
    if read.day and read.kind == "month":
        notes.append("The tables have averages of whole months, not of days.")
    elif re.search(r"\bweeks?\b|\bmid[- ]", lower):
        notes.append("The tables have averages of whole months, not of weeks.")
    return replace(read, notes=tuple(notes), democrat=democrat)


def wished(read, lower, subject):
    """With what is wanted, and with a note on words that could not be placed.

    Args: subject, whom the question names first.
    """
    wanted = next((name for name, ways in WANTED if re.search(ways, lower)), "leader")
    claim = None
    names = () if LEFT.search(lower) else read.names
    beyond = LIMIT.search(lower) or MORE_THAN_A_LEAD.search(lower)
    beyond = beyond or read.kind in ("trend", "miss", "months")
    number = any(word[0].isdigit() for word in read.unplaced)  # a limit, its word misspelt
    sure = subject and THIRD not in read.names and " or " not in lower
    sure = sure and not DENIED.search(lower)
    if YES.search(lower) and sure and not beyond and not number:
        claim = subject, not LOSES.search(lower)
    notes = read.notes
    if found := A_WHILE.search(lower):
        read = replace(read, unplaced=(*read.unplaced, found[0]))
    if read.unplaced:
        words = listed(f"\u201c{word}\u201d" for word in read.unplaced[:5])
        notes = (*notes, f"I could not place {words}, so nothing gets a tick.")
    by_electors = False
    if read.state == NATIONAL and RESULT.search(lower) and not re.search(r"\bvote", lower):
        by_electors = read.cycle in BY_ELECTORS
        if read.kind == "result" or by_electors:
            notes = (*notes, "By votes: the tables have no electoral votes.")
    if read.kind == "month" and re.search(r"\band (?:then )?the (?:final |actual )?result", lower):
        notes = (*notes, "I look up the polls; ask for the result by itself.")
    beside = read.kind in ("trend", "months", "miss") or read.ranked
    limit = None if beside else limit_of(lower, names)
    read = replace(read, notes=notes, by_electors=by_electors)
    return replace(read, wanted=wanted, claim=claim, limit=limit)


def limit_of(lower, names):
    """The `Limit` that a question asks about, in lower case; None where there is none."""
    found = LIMIT.search(lower) or HALF.search(lower)
    if found is None:
        return Limit(0.05, above=False, of_lead=True) if TIED.search(lower) else None
    written = re.search(r"\d\d?(?:\.\d)?", found[0])
    number = float(written[0]) if written else 50.0
    before = lower[: found.start()] + found[0].removesuffix(written[0] if written else "")
    of_lead = bool(OF_LEAD.search(lower) if number < LARGE else NEAR_LEAD.search(before))
    parties = [party for party, ways in PARTIES.items() if ways.search(lower)]
    who = (names or parties or [None])[0] if len(names or parties) < 2 else None
    return Limit(number, not BELOW.search(lower), who, of_lead) if of_lead or who else None


def covered(monthly):
    """The sentence on which times the tables are about."""
    years = f"{min(MATCHUPS)} to {max(MATCHUPS)}"
    last = month_name(monthly["month"].max())
    return f"The tables have the elections of {years} and months up to {last}."


def cycle_of(month):
    """The election that the polls of a month (YYYY-MM) are about."""
    year, number = map(int, month.split("-"))
    return (year + (number == 12) + 3) // 4 * 4


def kind_of(lower, months):
    """The kind of an `Asked`, from the question in lower case and its months."""
    asks_result = ENDED_UP.search(lower) or (RESULT.search(lower) and not POLLED.search(lower))
    if len(set(months)) == 2:
        return "trend"
    if months and not (asks_result and months[0].endswith("-11")):
        return "month"
    if MISS.search(lower) and re.search(r"\b(?:poll|average|survey|error|pollster)", lower):
        return "miss"
    if asks_result and not re.search(r"\bbefore\b", lower):
        return "result"
    return "final" if FINAL.search(lower) else "year"
