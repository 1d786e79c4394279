"""What the fact tables say about a question, and whether the numbers of an answer agree.

`look_up` takes what the tables have about an `Asked`; `mark_numbers` compares each number of an
answer with that, and `verdict` sums it up. No language model has a part in it.
"""

import calendar
import re
from dataclasses import dataclass, field, replace

import pandas as pd

from proxy_tuning.polls.answers import NO_POLLS, NUMBER, YEAR, read_answer
from proxy_tuning.polls.elections import THIRD, month_name, place_name


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
    """The `Facts` about an `Asked`; tables as `tables.load_facts` returns them."""
    if asked.kind is None:
        return Facts()
    here = {
        name: table[(table["state"] == asked.state) & (table["cycle"] == asked.cycle)]
        for name, table in tables.items()
    }
    facts = Facts(trend=here["monthly"])
    if asked.kind in ("month", "trend"):
        at = {
            month: narrow(here["monthly"][here["monthly"]["month"] == month], asked.names)
            for month in (asked.start, asked.month)
            if month
        }
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
        lacking = [
            what
            for what, have in (
                ("last polls", facts.polls or asked.kind == "result"),
                ("votes", facts.votes or asked.kind == "final"),
            )
            if not have
        ]
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
    return both | ({THIRD: third} if pd.notna(third) else {})


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
    third = shares(row).get(THIRD)
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


def mark_numbers(answer, asked, facts):
    """Split an answer into `Piece`s, every number in one of its own with a mark.

    A number is right if the tables say the same, to the decimals it is given with, for what the
    question asks; the candidate it is said of and the direction of a lead count. An answer about
    another place, month or year than was asked has no right figures.
    """
    said = read_answer(answer)
    marks = {claim.start: judged(claim, said, asked, facts) for claim in said.claims}
    pieces, at = [], 0
    for match in re.finditer(rf"{NUMBER}%?", answer):
        mark = marks.get(match.start(), ("not checkable", "no figure of the tables belongs to it"))
        pieces += [Piece(answer[at : match.start()]), Piece(match[0], *mark)]
        at = match.end()
    return [piece for piece in (*pieces, Piece(answer[at:])) if piece.text]


def judged(claim, said, asked, facts):
    """The mark of one number of an answer, and why."""
    kind, name = claim.kind, claim.name
    if asked.kind is None:
        return "not checkable", "the question was not understood"
    if kind == "year":
        years = wanted_times(asked)[1]
        good = int(claim.number) in years
        return ("right", "as asked") if good else ("wrong", f"the question asks about {max(years)}")
    polls = polls_of(said.text, facts)
    figures = {"vote": facts.votes, "won by": facts.votes, "start": facts.start}.get(
        kind, polls or facts.votes
    )
    if not figures or (kind == "error" and not (polls and facts.votes)):
        return "not checkable", "the tables have no such figure"
    if elsewhere := speaks_of_other(said, asked):
        return "wrong", f"the answer speaks of {elsewhere}, which was not asked"
    if name is not None and name not in figures:
        if name == THIRD:
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
    decimals = len(claim.number.partition(".")[2])
    if f"{float(claim.number):.{decimals}f}" == f"{want + 1e-9:.{decimals}f}":
        return "right", "the tables say the same"
    behind = f"{name} is behind by {-want:.1f} in the tables"
    return "wrong", behind if want < 0 else f"the tables say {want:.1f}"


def polls_of(answer, facts):
    """The poll shares of the match-up that an answer speaks of."""
    return max(facts.polls, key=lambda polls: sum(name in answer for name in polls), default={})


def lead_of(figures, name=None):
    """How far a candidate (default: the first) is ahead of the other nominee, in points."""
    name = name or next(iter(figures))
    others = (share for who, share in figures.items() if who not in (name, THIRD))
    return round(figures[name] - max(others), 1)


def wanted_times(asked):
    """The numbers of the months and the years that were asked about."""
    months = [month for month in (asked.start, asked.month) if month]
    return {int(month[5:]) for month in months}, {int(m[:4]) for m in months} or {asked.cycle}


def speaks_of_other(said, asked):
    """The place, month or year that an answer names although another one was asked, or ''."""
    if said.places and asked.state not in said.places:
        return place_name(said.places[0])
    wanted_months, wanted_years = wanted_times(asked)
    months = {number for number, _ in said.months}
    if wanted_months and months and not months & wanted_months:
        return calendar.month_name[min(months)]
    if said.years and not wanted_years & set(said.years):
        return str(said.years[0])
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
    leader = leader_by_tables(answer, facts)
    said = read_answer(answer)
    if leader and said.leader:
        good = said.leader == leader and not speaks_of_other(said, asked)
        parts.append(f"leader {'right' if good else 'wrong'}")
    if checkable:
        parts.append(f"{checkable.count('right')} of {len(checkable)} figures right")
    if len(marks) > len(checkable):
        parts.append(f"{len(marks) - len(checkable)} not checkable")
    return ", ".join(parts).capitalize() + "." if parts else "Nothing in it can be checked."


def leader_by_tables(answer, facts):
    """Who is ahead in the figures that an answer speaks of; 'tie', or None without figures."""
    figures = facts.votes if "won" in answer else polls_of(answer, facts)
    figures = figures or facts.votes
    if not figures:
        return None
    lead = lead_of(figures)
    return "tie" if lead == 0 else next(iter(figures)) if lead > 0 else list(figures)[1]
