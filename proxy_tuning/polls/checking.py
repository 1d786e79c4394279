"""What the fact tables say about a question, and whether the numbers of an answer agree.

`look_up` takes what the tables have about an `Asked`; `mark_numbers` compares each number of an
answer with that, and `verdict` sums it up. No language model has a part in it.
"""

import calendar
import re
from dataclasses import dataclass, field, replace

import pandas as pd

from proxy_tuning.polls.questions import NO_POLLS, leader_of, month_name, place_name
from proxy_tuning.polls.reading import CANDIDATES, find_places, find_times

NUMBER = r"\d+(?:\.\d+)?"
YEAR = r"(?:19|20)\d\d"
POINTS = rf"({NUMBER}) (?:percentage )?points?"
PERCENT = rf"({NUMBER}) ?(?:%|percent)"
NAME = rf"({'|'.join(CANDIDATES)})"


@dataclass(frozen=True)
class Facts:
    """What the tables say about an `Asked`."""

    lines: list[dict] = field(default_factory=list)
    """Rows to show: what, democrat, republican (each 'Name 48.2%'), ahead, rests_on."""
    polls: list[dict[str, float]] = field(default_factory=list)
    """Poll shares in percent by surname, one dictionary per match-up (July 2024 has two)."""
    start: dict[str, float] = field(default_factory=dict)
    """Poll shares at the start of a trend."""
    votes: dict[str, float] = field(default_factory=dict)
    """Vote shares in percent by surname."""
    trend: pd.DataFrame | None = None
    """The months of the same place and cycle: rows of the monthly table."""
    missing: str = ""
    """A sentence where the tables have nothing."""


def look_up(asked, tables):
    """The `Facts` about an `Asked`; tables as `polls.load_facts` returns them."""
    if asked.kind is None:
        return Facts()
    here = {name: table[(table["state"] == asked.state) & (table["cycle"] == asked.cycle)]
            for name, table in tables.items()}  # fmt: skip
    facts = Facts(trend=here["monthly"])
    if asked.kind in ("month", "trend"):
        at = {month: narrow(here["monthly"][here["monthly"]["month"] == month], asked.names)
              for month in (asked.start, asked.month) if month}  # fmt: skip
        for month, rows in at.items():
            facts.lines.extend(
                line(row, f"Polls, {month_name(month)}") for row in rows.itertuples()
            )
        facts.polls.extend(shares(row) for row in at[asked.month].itertuples())
        for row in at.get(asked.start, pd.DataFrame()).itertuples():
            facts.start.update(shares(row))
        empty = [month for month, rows in at.items() if rows.empty]
        missing = " or ".join(map(month_name, empty))
        missing = missing and f"polls of {place_name(asked.state)} in {missing}"
    else:
        if asked.kind != "result":
            for row in here["final"].itertuples():
                facts.lines.append(line(row, f"Last polls before the vote of {asked.cycle}"))
                facts.polls.append(shares(row))
        if asked.kind != "final":
            for row in here["results"].itertuples():
                facts.lines.append(line(row, f"Votes, {asked.cycle}"))
                facts.votes.update(shares(row))
        lacking = [what for what, have in (("last polls", facts.polls or asked.kind == "result"),
                                           ("votes", facts.votes or asked.kind == "final"))
                   if not have]  # fmt: skip
        missing = " and ".join(lacking)
        missing = missing and f"{missing} of {place_name(asked.state)} in {asked.cycle}"
    return replace(facts, missing=f"The tables have no {missing}." if missing else "")


def narrow(rows, names):
    """The rows of the match-up that `names` speak of, where they single one out."""
    named = rows[[{*names} & {"Biden", "Harris"} <= {d} for d in rows["democrat"]]]
    return named if len(named) else rows


def shares(row):
    """Surname -> percent of one row of a table."""
    both = {row.democrat: row.democrat_pct, row.republican: row.republican_pct}
    third = getattr(row, "kennedy_pct", None)
    return both | ({"Kennedy": third} if pd.notna(third) else {})


def line(row, what):
    """One row of a table as it is shown."""
    lead = round(row.democrat_pct - row.republican_pct, 1)
    first = row.democrat if lead > 0 else row.republican
    polls = getattr(row, "polls", None)
    if hasattr(row, "total_votes"):
        rests_on = f"{row.total_votes:,} votes"
    elif pd.notna(polls):
        rests_on = f"{polls} poll{'s' if polls > 1 else ''}"
    else:
        rests_on = "published averages"
    third = shares(row).get("Kennedy")
    return {
        "what": what,
        "democrat": f"{row.democrat} {row.democrat_pct:.1f}%",
        "republican": f"{row.republican} {row.republican_pct:.1f}%",
        "ahead": f"{first} by {abs(lead):.1f}" if lead else "tied",
        "rests_on": rests_on + (f"; Kennedy {third:.1f}%" if third is not None else ""),
    }


@dataclass(frozen=True)
class Piece:
    """A part of an answer."""

    text: str
    mark: str | None = None
    """'right', 'wrong' or 'not checkable' for a number, None for what is between."""
    why: str = ""
    """What the tables say instead, or why it cannot be checked."""


# What an answer may claim: a pattern, and for each of its numbers what it says of whom. Where two
# patterns take the same number, the first counts.
CLAIMS = [
    (rf"{NAME} (?:went )?from {PERCENT} to {PERCENT}",
     lambda g: [("start", g[0], g[1]), ("poll", g[0], g[2])]),
    (rf"{NAME} led {NAME} by {POINTS}, {PERCENT} to {PERCENT}",
     lambda g: [("lead", g[0], g[2]), ("poll", g[0], g[3]), ("poll", g[1], g[4])]),
    (rf"{NAME} (?:led|leads|was ahead|is ahead)(?: {NAME})? (?:by|with) {POINTS}",
     lambda g: [("lead", g[0], g[2])]),
    (rf"{NAME} (?:had|has|with|held) a lead of {POINTS}", lambda g: [("lead", g[0], g[1])]),
    (rf"{NAME} (?:led|leads|was ahead|is ahead)\b.*?\ba lead of {POINTS}",
     lambda g: [("lead", g[0], g[1])]),
    (rf"\blead of {POINTS}", lambda g: [("lead", None, g[0])]),
    (rf"{NAME} ahead by ({NUMBER})", lambda g: [("lead", g[0], g[1])]),
    (rf"{NAME} won by ({NUMBER})", lambda g: [("won by", g[0], g[1])]),
    (rf"off by {POINTS}", lambda g: [("error", None, g[0])]),
    (rf"\btied at {PERCENT}", lambda g: [("tie", None, g[0])]),
    (rf"{NAME} (?:got|won|took|received) {PERCENT}", lambda g: [("vote", g[0], g[1])]),
    (rf"{NAME} (?:had )?{PERCENT} of the votes?", lambda g: [("vote", g[0], g[1])]),
    (rf"{NAME} (?:(?:had|has|was at|stood at|led with|with|at) )?{PERCENT}",
     lambda g: [("poll", g[0], g[1])]),
    (rf"{PERCENT} for {NAME}", lambda g: [("poll", g[1], g[0])]),
    (rf"\b({YEAR})\b", lambda g: [("year", None, g[0])]),
]  # fmt: skip


def mark_numbers(answer, asked, facts):
    """Split an answer into `Piece`s, every number in one of its own with a mark.

    A number is right if the tables say the same, to the decimals it is given with, for what the
    question asks; the candidate it is said of and the direction of a lead count. An answer about
    another place, month or year than was asked has no right figures.
    """
    marks = {}  # start of the number -> (mark, why)
    for pattern, claims in CLAIMS:
        for match in re.finditer(pattern, answer):
            starts = [match.start(i) for i in range(1, match.re.groups + 1)
                      if match[i] and re.fullmatch(NUMBER, match[i])]  # fmt: skip
            for claim, start in zip(claims(match.groups()), starts, strict=True):
                if start not in marks:
                    marks[start] = compare(*claim, answer, asked, facts)
    pieces, at = [], 0
    for match in re.finditer(rf"{NUMBER}%?", answer):
        mark = marks.get(match.start(), ("not checkable", "no figure of the tables belongs to it"))
        pieces += [Piece(answer[at : match.start()]), Piece(match[0], *mark)]
        at = match.end()
    return [piece for piece in (*pieces, Piece(answer[at:])) if piece.text]


def compare(kind, name, number, answer, asked, facts):
    """The mark of one number and why; `kind` as in `CLAIMS`."""
    if asked.kind is None:
        return "not checkable", "the question was not understood"
    if kind == "year":
        years = wanted_times(asked)[1]
        good = int(number) in years
        return ("right", "as asked") if good else ("wrong", f"the question asks about {max(years)}")
    polls = polls_of(answer, facts)
    figures = {"vote": facts.votes, "won by": facts.votes, "start": facts.start}.get(
        kind, polls or facts.votes
    )
    if not figures or (kind == "error" and not (polls and facts.votes)):
        return "not checkable", "the tables have no such figure"
    if elsewhere := speaks_of_other(answer, asked):
        return "wrong", f"the answer speaks of {elsewhere}, which was not asked"
    if name is not None and name not in figures:
        if name == "Kennedy":
            return "not checkable", "the tables have no figure of Kennedy there"
        return "wrong", f"{name} is not in the match-up of the tables"
    if kind == "tie":
        want = next(iter(figures.values()))
        if lead_of(figures) != 0:
            return "wrong", "the tables have no tie there"
    elif kind == "error":
        want = abs(lead_of(polls) - lead_of(facts.votes))
    elif name is None:
        want = abs(lead_of(figures))
    else:
        want = lead_of(figures, name) if kind in ("lead", "won by") else figures[name]
    decimals = len(number.partition(".")[2])
    if f"{float(number):.{decimals}f}" == f"{want + 1e-9:.{decimals}f}":
        return "right", "the tables say the same"
    behind = f"{name} is behind by {-want:.1f} in the tables"
    return "wrong", behind if want < 0 else f"the tables say {want:.1f}"


def polls_of(answer, facts):
    """The poll shares of the match-up that an answer speaks of."""
    return max(facts.polls, key=lambda polls: sum(name in answer for name in polls), default={})


def lead_of(figures, name=None):
    """How far a candidate (default: the first) is ahead of the other nominee, in points."""
    name = name or next(iter(figures))
    others = (share for who, share in figures.items() if who not in (name, "Kennedy"))
    return round(figures[name] - max(others), 1)


def wanted_times(asked):
    """The numbers of the months and the years that were asked about."""
    months = [month for month in (asked.start, asked.month) if month]
    return {int(month[5:]) for month in months}, {int(m[:4]) for m in months} or {asked.cycle}


def speaks_of_other(answer, asked):
    """The place, month or year that an answer names although another one was asked, or ''."""
    places = find_places(answer)
    if places and asked.state not in places:
        return place_name(places[0])
    months, years = find_times(answer)
    wanted_months, wanted_years = wanted_times(asked)
    said = {number for number, _ in months}
    if wanted_months and said and not said & wanted_months:
        return calendar.month_name[min(said)]
    if years and not wanted_years & set(years):
        return str(years[0])
    return ""


def verdict(answer, asked, facts):
    """One sentence about an answer: its leader, how many figures are right, or its silence."""
    if answer.strip() == NO_POLLS:
        if asked.kind is None:
            return ""
        return "The tables do have figures." if facts.lines else "Neither have the tables."
    pieces = mark_numbers(answer, asked, facts)
    marks = [piece.mark for piece in pieces if piece.mark and not re.fullmatch(YEAR, piece.text)]
    checkable = [mark for mark in marks if mark != "not checkable"]
    parts = []
    leader = right_leader(answer, facts)
    named = leader_of(answer)
    if leader and named:
        good = named == leader and not speaks_of_other(answer, asked)
        parts.append(f"leader {'right' if good else 'wrong'}")
    if checkable:
        parts.append(f"{checkable.count('right')} of {len(checkable)} figures right")
    if len(marks) > len(checkable):
        parts.append(f"{len(marks) - len(checkable)} not checkable")
    return ", ".join(parts).capitalize() + "." if parts else "Nothing in it can be checked."


def right_leader(answer, facts):
    """Who is ahead in the figures that an answer speaks of; 'tie', or None without figures."""
    figures = facts.votes if "won" in answer else polls_of(answer, facts)
    figures = figures or facts.votes
    if not figures:
        return None
    lead = lead_of(figures)
    return "tie" if lead == 0 else next(iter(figures)) if lead > 0 else list(figures)[1]
