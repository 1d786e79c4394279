"""What the fact tables say about a question: `look_up` takes it; marks.py compares answers with it.

No language model has a part in it.
"""

from dataclasses import dataclass, field, replace

import pandas as pd

from proxy_tuning.polls.elections import DISTRICTS, NATIONAL, THIRD, month_name, place_name

CLOSEST = 5
"""States that are shown where the closest is asked for."""


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
    months: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Poll shares by month (YYYY-MM), where a whole year is asked about."""
    trend: pd.DataFrame | None = None
    """The months of the same place and cycle: rows of the monthly table."""
    missing: str = ""
    """A sentence where the tables have nothing."""
    places: dict[str, "Facts"] = field(default_factory=dict)
    """The same by place, where there are several."""


def look_up(asked, tables):
    """The `Facts` about an `Asked`; tables as `tables.load_facts` returns them."""
    if asked.kind is None:
        return Facts()
    if asked.ranked:
        return closest(asked, tables)
    if not asked.others:
        return look_up_place(asked, tables)
    by_place = {}
    for place in asked.places:
        found = look_up_place(replace(asked, state=place, others=()), tables)
        lines = [line | {"what": f"{named(place)}: {line['what']}"} for line in found.lines]
        by_place[place] = replace(found, lines=lines)
    first = by_place[asked.state]
    return replace(
        first,
        lines=[line for found in by_place.values() for line in found.lines],
        missing=" ".join(found.missing for found in by_place.values() if found.missing),
        places=by_place,
    )


def named(place):
    """A place at the beginning of a line."""
    name = place_name(place)
    return name[0].upper() + name[1:]


def look_up_place(asked, tables):
    """The `Facts` about an `Asked` of one place."""
    there = {name: table[table["state"] == asked.state] for name, table in tables.items()}
    here = {name: table[table["cycle"] == asked.cycle] for name, table in there.items()}
    if asked.kind in ("month", "trend"):
        found = of_months(asked, there["monthly"])
    elif asked.kind == "months":
        found = of_year(asked, tables["monthly"])
    else:
        found = of_election(asked, here)
    return replace(found, trend=here["monthly"])


def of_months(asked, monthly):
    """What the monthly table says of a month or of the two ends of a trend."""
    at = {
        month: narrow(monthly[monthly["month"] == month], asked.democrat)
        for month in (asked.start, asked.month)
        if month
    }
    lines = [
        line(row, f"Polls, {month_name(month)}")
        for month, rows in at.items()
        for row in rows.itertuples()
    ]
    polls = [shares(row) for row in at[asked.month].itertuples()]
    start = {}
    for row in at[asked.start].itertuples() if asked.start else ():
        start |= shares(row)
    empty = [month_name(month) for month, rows in at.items() if rows.empty]
    missing = empty and f"polls of {place_name(asked.state)} in {' or '.join(empty)}"
    if polls and (absent := absentee(asked, polls)):
        missing, polls, start = f"figures of {absent} there", [], {}
    return Facts(lines, polls, start, missing=f"The tables have no {missing}." if missing else "")


def absentee(asked, figures):
    """Who is asked about and has no figures in these match-ups, by surname; None otherwise."""
    have = {name for shares in figures for name in shares}
    return next((name for name in asked.names if figures and name not in have), None)


def of_year(asked, monthly):
    """What the monthly table says of all months of a year."""
    here = (monthly["state"] == asked.state) & monthly["month"].str.startswith(f"{asked.year}-")
    rows, months = monthly[here], {}
    for row in rows.itertuples():
        months.setdefault(row.month, []).append(shares(row))
    missing = f"The tables have no polls of {place_name(asked.state)} in {asked.year}."
    return Facts(
        [line(row, f"Polls, {month_name(row.month)}") for row in rows.itertuples()],
        months=months,
        missing="" if months else missing,
    )


def of_election(asked, here):
    """What the tables say of an election: its last polls, its votes or both."""
    lines, polls, votes = [], [], {}
    for row in here["final"].itertuples() if asked.kind != "result" else ():
        lines.append(line(row, f"Last polls before the vote of {asked.cycle}"))
        polls.append(shares(row))
    for row in here["results"].itertuples() if asked.kind != "final" else ():
        lines.append(line(row, f"Votes, {asked.cycle}"))
        votes |= shares(row)
    lacking = [
        what
        for what, have in (
            ("last polls", polls or asked.kind == "result"),
            ("votes", votes or asked.kind == "final"),
        )
        if not have
    ]
    missing = lacking and f"{' and '.join(lacking)} of {place_name(asked.state)} in {asked.cycle}"
    if absent := absentee(asked, [*polls, votes] if votes else polls):
        missing, polls, votes = f"figures of {absent} there", [], {}
    return Facts(
        lines, polls, {}, votes, missing=f"The tables have no {missing}." if missing else ""
    )


def closest(asked, tables):
    """The states with the smallest leads, the closest first; those level with it are its like.

    Of the states that are asked about, where there are several, else of all.
    """
    if asked.kind in ("months", "trend"):
        return Facts(missing="The tables rank states in one month or one election.")
    kind = {"month": "monthly", "final": "final"}.get(asked.kind, "results")
    rows = tables[kind]
    rows = rows[(rows["cycle"] == asked.cycle) & ~rows["state"].isin([NATIONAL, *DISTRICTS])]
    if asked.others:
        rows = rows[rows["state"].isin(asked.places)]
    if kind == "monthly":
        rows = rows[rows["month"] == asked.month]
        pair = rows["democrat"].max() if asked.democrat is None else asked.democrat
        rows = rows[rows["democrat"] == pair]
    what = {"monthly": "polls", "final": "last polls", "results": "votes"}[kind]
    if rows.empty:
        return Facts(missing=f"The tables have no {what} by state there.")
    lead = (rows["democrat_pct"] - rows["republican_pct"]).abs().round(1)
    rows = rows.assign(lead=lead).sort_values("lead", kind="stable")
    best = rows[rows["lead"] == rows["lead"].min()]
    places = {
        row.state: Facts(
            polls=[] if kind == "results" else [shares(row)],
            votes=shares(row) if kind == "results" else {},
        )
        for row in best.itertuples()
    }
    lines = [line(row, f"{row.state}: {what}") for row in rows.head(CLOSEST).itertuples()]
    return Facts(lines, places=places)


def narrow(rows, democrat):
    """The rows of the match-up of this Democrat, where there are such."""
    its = rows[rows["democrat"] == democrat]
    return its if len(its) else rows


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
        rests_on = f"{row.total_votes:,} votes in all"
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
