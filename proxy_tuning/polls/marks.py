"""Whether the numbers of an answer agree with the tables: ticks for what was asked, and only that.

`mark_numbers` compares each number of an answer with the `Facts` about the question; `verdict` sums
it up. An answer with a fault (it contradicts itself, speaks of what was not asked, ...) has no
right number. No language model has a part in it.
"""

import calendar
import re
from dataclasses import dataclass

from proxy_tuning.polls.answers import BETWEEN, NAME, NO_POLLS, NUMBER, YEAR, read_answer
from proxy_tuning.polls.checking import Facts
from proxy_tuning.polls.elections import NATIONAL, THIRD, place_name
from proxy_tuning.polls.faults import faults_of, refuses, wanted_places
from proxy_tuning.polls.places import place_spans

LEADS = ("lead", "start lead", "won by")
RIGHT, WRONG, UNCHECKED = "right", "wrong", "not checkable"
LEADING = re.compile(
    rf"{NAME},? {BETWEEN}(led|leads?|leading|ahead|in front|was up|is up|had the (?:edge|lead)|"
    rf"(?:won|wins|carried|took)(?! {NUMBER} ?(?:%|percent))|beat|defeated|prevailed|came first)\b"
)
VOTED = {"won", "wins", "carried", "took", "beat", "defeated", "prevailed", "came first"}
EVEN = re.compile(r"\b(?:tied|tie|dead heat|level)\b")


@dataclass(frozen=True)
class Piece:
    """A part of an answer."""

    text: str
    mark: str | None = None
    """'right', 'wrong' or 'not checkable' for a number, None for what is between and for years."""
    why: str = ""
    """What the tables say instead, or why it cannot be checked."""


def mark_numbers(answer, asked, facts):
    """Split an answer into `Piece`s, every number in one of its own with a mark.

    A number is right if the tables say the same, to the decimals it is given with, for what the
    question asks; the candidate it is said of and the direction of a lead count. A year that was
    asked about is no figure and has no mark.
    """
    said, faults = read_answer(answer), faults_of(answer, asked, facts)
    spans = place_spans(answer)
    marks = {claim.start: judged(claim, said, asked, facts, spans, faults) for claim in said.claims}
    pieces, at = [], 0
    for match in re.finditer(rf"{NUMBER}%?", answer):
        mark = marks.get(match.start(), (UNCHECKED, "no figure of the tables belongs to it"))
        pieces += [Piece(answer[at : match.start()]), Piece(match[0], *mark)]
        at = match.end()
    return [piece for piece in (*pieces, Piece(answer[at:])) if piece.text]


def judged(claim, said, asked, facts, spans, faults):
    """The mark of one number of an answer, and why."""
    if asked.kind is None or asked.unplaced:
        return UNCHECKED, "the question was not looked up"
    if claim.kind == "year":
        years = wanted_times(asked)[1]
        good = int(claim.number) in years
        return (None, "") if good else (WRONG, f"the question asks about {max(years)}")
    if refuses(said.text):
        return UNCHECKED, "the answer says that it has no figures"
    if elsewhere := speaks_of_other(said, asked, facts):
        return WRONG, f"the answer speaks of {elsewhere}, which was not asked"
    if of_two_years(said, asked):
        return UNCHECKED, "one election at a time is looked up"
    facts = facts_at(claim.start, said.text, spans, facts)
    if facts is None:
        return UNCHECKED, "the answer does not say of which place"
    mark, why = compared(claim, said, asked, facts)
    return (UNCHECKED, faults[0]) if mark == RIGHT and faults else (mark, why)


def facts_at(start, text, spans, facts):
    """The `Facts` of the place that a number or a leader is said of; None where none is said."""
    if not facts.places:
        return facts
    clauses = [
        0,
        *(m.end() for m in re.finditer(r"[.;:] |, (?!a lead|and)|\band ", text)),
        len(text),
    ]
    begin = max(at for at in clauses if at <= start)
    end = min((at for at in clauses if at > start), default=len(text))
    inside = {place for (first, _), place in spans.items() if begin <= first < end}
    if len(inside) == 1:
        return facts.places.get(*inside)
    before = [place for (first, _), place in spans.items() if first < start]
    if inside or not before:
        only = len(facts.places) == 1 and not before
        return next(iter(facts.places.values())) if only else None
    return facts.places.get(before[-1])


def compared(claim, said, asked, facts):
    """The mark of a number against the facts of its place, and why."""
    kind, name = claim.kind, claim.name
    polls = polls_of(said, asked, facts)
    of_votes = kind in ("vote", "won by") or (
        kind in ("poll", "lead") and speaks_of_votes(said.text)
    )
    figures = facts.votes if of_votes else facts.start if kind.startswith("start") else polls
    if not figures and kind in ("poll", "lead", "tie") and not speaks_of_polls(said.text):
        figures = facts.votes
    if not figures or (kind == "error" and not (polls and facts.votes)):
        return UNCHECKED, "the tables have no such figure"
    if name is not None and name not in figures:
        if name == THIRD:
            return UNCHECKED, "the tables have no figure of Kennedy there"
        return WRONG, f"{name} is not in the match-up of the tables"
    if kind == "tie":
        want = next(iter(figures.values()))
        if lead_of(figures) != 0:
            return WRONG, "the tables have no tie there"
    elif kind == "error":
        want = abs(lead_of(polls) - lead_of(facts.votes))
    elif name is None:
        if len(asked.names) == 1 and not re.search(NAME, said.text) and asked.names[0] in figures:
            name = asked.names[0]  # whose lead was asked for
        want = lead_of(figures, name) if name else abs(lead_of(figures))
    else:
        want = lead_of(figures, name) if kind in LEADS else figures[name]
    decimals = len(claim.number.partition(".")[2])
    if f"{float(claim.number):.{decimals}f}" == f"{want + 1e-9:.{decimals}f}":
        return RIGHT, "the tables say the same"
    behind = f"{name} is behind by {-want:.1f} in the tables"
    return WRONG, behind if want < 0 else f"the tables say {want:.1f}"


def speaks_of_polls(text):
    """Whether an answer calls its figures polls."""
    said = r"\b(?:poll|average|survey|before (?:the|election)|going into)"
    return bool(re.search(said, text, re.IGNORECASE))


def speaks_of_votes(text):
    """Whether an answer calls its figures votes, and none of them polls."""
    said = r"\b(?:ballots?|counted|final count|results?|on election day)\b"
    return bool(re.search(said, text, re.IGNORECASE)) and not speaks_of_polls(text)


def polls_of(said, asked, facts):
    """The poll shares of the month and the match-up that an answer speaks of; {} if it is unclear."""
    options = facts.polls
    if asked.kind == "months":
        months = {f"{asked.year}-{number:02d}" for number, _ in said.months}
        options = facts.months.get(*months, []) if len(months) == 1 else []
    if len(options) < 2:
        return options[0] if options else {}
    named = [polls for polls in options if next(iter(polls)) in said.text]
    return named[0] if len(named) == 1 else {}


def lead_of(figures, name=None):
    """How far a candidate (default: the first) is ahead of the other nominee, in points."""
    name = name or next(iter(figures))
    others = (share for who, share in figures.items() if who not in (name, THIRD))
    return round(figures[name] - max(others), 1)


def wanted_times(asked):
    """The numbers of the months and the years that were asked about."""
    months = [month for month in (asked.start, asked.month) if month]
    if asked.kind == "months":
        return set(range(1, 13)), {asked.year}
    return {int(month[5:]) for month in months}, {int(m[:4]) for m in months} or {asked.cycle}


def of_two_years(said, asked):
    """Whether an answer speaks of an election that was named and is not looked up."""
    return not set(said.years).isdisjoint(asked.years)


def speaks_of_other(said, asked, facts):
    """The place, month or year that an answer names although another one was asked, or ''."""
    wanted = wanted_places(asked, facts)
    for place in said.places:
        if place not in wanted and not (asked.ranked and place == NATIONAL):
            return place_name(place)
    wanted_months, wanted_years = wanted_times(asked)
    months = {number for number, _ in said.months}
    if not wanted_months:
        months -= {11}
    if months - wanted_months:
        return calendar.month_name[min(months - wanted_months)]
    wanted_years |= {*asked.years}
    return next((str(year) for year in said.years if year not in wanted_years), "")


def leaders_of(answer, asked, facts):
    """Whether each leader that an answer names, or its tie, is the one by the tables: [bool]."""
    said, spans, found = read_answer(answer), place_spans(answer), []
    named = [(m.start(), m[1], m[2]) for m in LEADING.finditer(answer)]
    if not named:
        named = [(m.start(), "tie", "tied") for m in EVEN.finditer(answer)][:1]
    for start, name, verb in named:
        here = facts_at(start, answer, spans, facts)
        if here is None:
            continue
        polls = polls_of(said, asked, here)
        figures = here.votes if verb in VOTED or speaks_of_votes(answer) else polls
        if not figures and verb not in VOTED and not speaks_of_polls(answer):
            figures = here.votes
        if figures:
            lead = lead_of(figures)
            first, second = list(figures)[:2]
            found.append(name == ("tie" if lead == 0 else first if lead > 0 else second))
    return found


def verdict(answer, asked, facts):
    """What to say about an answer: its leader, how many figures are right, and its faults."""
    if not answer.strip():
        return ""
    if asked.kind is None:
        if refuses(answer):
            return "It says that it has no figures, and neither have the tables."
        return "Not looked up, so nothing in it gets a tick."
    if refuses(answer):
        if answer.strip() == NO_POLLS or not facts.missing:
            return "The tables do have figures." if facts.lines else "Neither have the tables."
        return "Neither have the tables."
    faults = faults_of(answer, asked, facts)
    pieces = mark_numbers(answer, asked, facts)
    marks = [piece.mark for piece in pieces if piece.mark and not re.fullmatch(YEAR, piece.text)]
    checkable = [mark for mark in marks if mark != UNCHECKED]
    parts, sentences = [], list(faults)
    if leader := leader_mark(answer, asked, facts):
        parts.append(f"leader {leader}")
    if checkable:
        parts.append(f"{checkable.count(RIGHT)} of {len(checkable)} figures right")
    if len(marks) > len(checkable):
        parts.append(f"{len(marks) - len(checkable)} not checkable")
    if asked.unplaced:
        sentences.append("Part of the question was not understood.")
    first = ", ".join(parts).capitalize() + "." if parts else ""
    return " ".join([first, *sentences]).strip() or "Nothing in it can be checked."


def leader_mark(answer, asked, facts):
    """'right' or 'wrong' for the leader that an answer names; '' where nothing can be said."""
    if asked.kind is None or asked.unplaced or asked.by_electors or refuses(answer):
        return ""
    if of_two_years(read_answer(answer), asked):
        return ""
    leaders = leaders_of(answer, asked, facts)
    if not leaders:
        return ""
    if not all(leaders) or speaks_of_other(read_answer(answer), asked, facts):
        return WRONG
    return "" if faults_of(answer, asked, facts) else RIGHT


def ticks(answer, asked, facts: Facts) -> list[str]:
    """What an answer gets a tick for: its figures as they are written, and 'leader'."""
    pieces = mark_numbers(answer, asked, facts)
    figures = [piece.text.strip("%") for piece in pieces if piece.mark == RIGHT]
    return figures + ["leader"] * (leader_mark(answer, asked, facts) == RIGHT)
