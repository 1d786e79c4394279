"""The grammar of answers: the sentences that facts are told in, and what is read out of an answer.

Written and read side by side, so that whoever changes a sentence sees who reads it. Facts are
written with the templates of the first half. What models answer need not be one of these
sentences; the second half finds in any English text what it claims.
"""

import calendar
import re
from dataclasses import dataclass

from proxy_tuning.polls.elections import CANDIDATES, place_name
from proxy_tuning.polls.places import find_places
from proxy_tuning.polls.times import find_times

TIE = 0.05  # a lead under this many points is a tie; shares have one decimal, so it is equality

NO_POLLS = "I have no polls for that month."
TOLD = "In {place} in {when}, {clause}."
TOLD_BEFORE = "In {place} before the {year} election, {clause}."
TOLD_FROM = "In {place} from {start} to {end}, {clause}."

LED = "{leader} led: {dem} had {d:.1f}% and {rep} {r:.1f}%, a lead of {lead:.1f} points"
TIED = "the two were tied: {dem} had {d:.1f}% and {rep} {r:.1f}%"
HAD = "{who} had {share:.1f}%"
WON = "{leader} won: {dem} got {d:.1f}% and {rep} {r:.1f}% of the votes"
MISSED = (
    "the last polls had {leader} ahead by {lead:.1f} and {winner} won by {won_by:.1f}, "
    "so they were off by {error:.1f} points"
)
MISSED_A_TIE = MISSED.replace("{leader} ahead by {lead:.1f}", "a tie")
MOVED = "{dem} went from {d0:.1f}% to {d1:.1f}% and {rep} from {r0:.1f}% to {r1:.1f}%"


def leader_and_lead(democrat, republican, d, r):
    """Who leads and by how many points; nobody and 0 for a tie. d and r are shares in percent."""
    lead = round(abs(d - r), 1)
    if lead < TIE:
        return None, 0.0
    return (democrat if d > r else republican), lead


def race(democrat, republican, d, r):
    """'Harris led: Harris had 48.2% and Trump 47.6%, a lead of 0.6 points', or that they tied."""
    leader, lead = leader_and_lead(democrat, republican, d, r)
    template = LED if leader else TIED
    return template.format(leader=leader, lead=lead, dem=democrat, rep=republican, d=d, r=r)


def miss(leader, lead, winner, won_by):
    """How far the last polls were off, where `leader` was ahead by `lead` and `winner` won."""
    error = lead + won_by if leader not in (winner, None) else abs(lead - won_by)
    template = MISSED if leader else MISSED_A_TIE
    return template.format(leader=leader, lead=lead, winner=winner, won_by=won_by, error=error)


def tell(state, when, clause):
    """A whole sentence: where, when (a month or a year), what."""
    return TOLD.format(place=place_name(state), when=when, clause=clause)


# What is read

NUMBER = r"\d+(?:\.\d+)?"
YEAR = r"(?:19|20)\d\d"
POINTS = rf"({NUMBER})[ -](?:percentage )?(?:points?|pts?)\b"
PERCENT = rf"({NUMBER}) ?(?:%|percent)"
DATE = rf"(?:{'|'.join(calendar.month_name[1:])})(?: \d{{4}})?|\b\d{{4}}\b"
NAME = rf"({'|'.join(CANDIDATES)})"
BETWEEN = rf"(?:(?!{NAME.replace('(', '(?:')})\w+ ){{0,2}}?"
"""Up to two words, none of them a candidate's name."""
ON = r"(?:(?!\b(?:and|while|but|as|whereas|who)\b)[^.;,%\d])*?"
"""The rest of what is said of a candidate, up to a figure: not what is said of the other one."""
LEADS = re.compile(r"\b(\w+) (led|won)\b")

MOVED_LEAD = rf"lead went from ({NUMBER})(?: points)? to {POINTS}"
CLAIMS = [
    (rf"{NAME}'s {MOVED_LEAD}", [("start lead", 0), ("lead", 0)]),
    (rf"\b{MOVED_LEAD}", [("start lead", None), ("lead", None)]),
    (
        rf"lead changed from {NAME}'s ({NUMBER}) to {NAME}'s {POINTS}",
        [("start lead", 0), ("lead", 1)],
    ),
    (rf"{NAME} (?:went )?from {PERCENT} to {PERCENT}", [("start", 0), ("poll", 0)]),
    (
        rf"{NAME} led {NAME} by {POINTS}, {PERCENT} to {PERCENT}",
        [("lead", 0), ("poll", 0), ("poll", 1)],
    ),
    (rf"{NAME} led {NAME},? {PERCENT} ?(?:to|-|\u2013) ?{PERCENT}", [("poll", 0), ("poll", 1)]),
    (rf"{NAME} (?:led|leads|was ahead|is ahead)(?: {NAME})? (?:by|with) {POINTS}", [("lead", 0)]),
    (rf"{NAME} (?:had|has|with|held) a lead of {POINTS}", [("lead", 0)]),
    (rf"{NAME} (?:led|leads|was ahead|is ahead)\b.*?\ba lead of {POINTS}", [("lead", 0)]),
    (rf"\blead of {POINTS}", [("lead", None)]),
    (rf"({NUMBER})[ -]points? (?:lead|edge|advantage)\b", [("lead", None)]),
    (rf"{NAME} (?:was|is) up (?:by )?{POINTS}", [("lead", 0)]),
    (rf"{NAME} ahead by ({NUMBER})", [("lead", 0)]),
    (rf"{NAME} won by ({NUMBER})", [("won by", 0)]),
    (rf"off by {POINTS}", [("error", None)]),
    (rf"\btied at {PERCENT}", [("tie", None)]),
    (rf"{NAME} (?:got|won|took|received) {PERCENT}", [("vote", 0)]),
    (rf"{NAME} (?:had )?{PERCENT} of the votes?", [("vote", 0)]),
    (
        rf"{NAME}:? (?:(?:had|has|was at|stood at|(?:was )?poll(?:ed|ing) at|averaged|led with|with|at) )?"
        rf"\(?{PERCENT}",
        [("poll", 0)],
    ),
    (rf"{PERCENT} for {NAME}", [("poll", 0)]),
    (rf"{NAME} (?:won|carried|took)\b{ON} with {PERCENT}", [("vote", 0)]),
    (rf"{NAME} won\b{ON} by ({NUMBER})", [("won by", 0)]),
    (rf"{NAME} (?:led|leads|was (?:up|ahead))\b{ON} with {PERCENT}", [("poll", 0)]),
    (rf"{NAME} (?:led|leads|was (?:up|ahead))\b{ON} by {POINTS}", [("lead", 0)]),
    (rf"\b({YEAR})\b", [("year", None)]),
]
"""What an answer may claim: a pattern, and for each of its numbers the kind of claim and which of
the pattern's names it is about. Where two patterns take the same number, the first counts."""


@dataclass(frozen=True)
class Claim:
    """A number in an answer and what it says."""

    kind: str
    """'poll', 'vote' or 'start' (shares in percent), 'lead', 'start lead', 'won by' or 'error'
    (points), 'tie' or 'year'."""
    name: str | None
    """The candidate it is about, by surname."""
    number: str
    """As written."""
    start: int
    """Where it stands in the answer."""


@dataclass(frozen=True)
class Said:
    """What was read out of an answer."""

    text: str
    leader: str | None
    """As `leader_of` reads it."""
    claims: tuple[Claim, ...]
    """In their order in the text."""
    places: tuple[str, ...]
    """As the tables write them."""
    months: tuple[tuple[int, int | None], ...]
    """Number of the month and year."""
    years: tuple[int, ...]


def read_answer(text):
    """All that an answer says, as `Said`."""
    months, years = find_times(text)
    return Said(
        text,
        leader_of(text),
        tuple(claims_of(text)),
        tuple(find_places(text)),
        tuple(months),
        tuple(years),
    )


def claims_of(text):
    """The `Claim`s of a text in their order; numbers that claim nothing are left out."""
    found = {}
    for pattern, kinds in CLAIMS:
        for match in re.finditer(pattern, text):
            groups = [i for i in range(1, match.re.groups + 1) if match[i]]
            numbers = [i for i in groups if match[i][0].isdigit()]
            names = [match[i] for i in groups if i not in numbers]
            for (kind, who), i in zip(kinds, numbers, strict=True):
                name = None if who is None else names[who]
                found.setdefault(match.start(i), Claim(kind, name, match[i], match.start(i)))
    return [found[start] for start in sorted(found)]


def leader_of(text):
    """The leader that an answer names: a surname, 'tie', or None."""
    named = LEADS.search(text)
    return named[1] if named else ("tie" if re.search(r"\btied\b", text) else None)


def before_leader(text):
    """The part of an answer before its leader, and the verb after: ('In Ohio in 2020,', 'won').

    Raises:
        ValueError: it names no leader.
    """
    named = LEADS.search(text)
    if named is None:
        raise ValueError(f"the answer names no leader: {text!r}")
    return text[: named.start()].rstrip(), named[2]


def numbers_of(text):
    """The shares and leads in an answer, in their order: '48.2% to 47.6%' -> [48.2, 47.6]."""
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]
