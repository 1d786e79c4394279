"""Poll averages by month as a drawing: where every point, line and label stands.

An SVG of our own rather than a plotting library: it follows light and dark, is there with the first
paint and without a script, and what it shows can be read aloud from the table beside it.
"""

import calendar
import math
from dataclasses import dataclass

import pandas as pd

from proxy_tuning.polls.elections import month_name

LEFT, RIGHT, TOP, BOTTOM = 40, 12, 14, 46
"""Margins in pixels: of shares, of nothing, of nothing, of months and years."""
FEW = 3
"""Months with fewer polls are faint."""
PARTIES = ("democrat", "republican")


@dataclass(frozen=True)
class Drawing:
    """A chart of one size, in pixels; x grows to the right, y downwards."""

    size: str
    """wide or narrow: which screens it is for."""
    width: int
    height: int
    points: list[dict]
    """party, x, y, r (half its size), hollow, faint, title."""
    lines: list[dict]
    """party, hollow, d: a path over months without a gap."""
    shares: list[tuple]
    """Percent, y."""
    months: list[tuple]
    """Abbreviation, x."""
    years: list[tuple]
    """Year, x, where its January or the first month stands."""
    asked: list[float]
    """x of the months that were asked about."""


def match_ups(months: pd.DataFrame) -> list[tuple[str, str]]:
    """(democrat, republican) of the months, in their order: July 2024 has two."""
    return list(dict.fromkeys(zip(months["democrat"], months["republican"], strict=True)))


def drawings(asked, months: pd.DataFrame) -> list[Drawing]:
    """The chart for wide and for narrow screens.

    Args:
        asked: a `polls.asked.Asked`, whose months are marked.
        months: rows of the monthly table, at least one.
    """
    return [
        drawing("wide", 960, 300, asked, months),
        drawing("narrow", 360, 240, asked, months),
    ]


def drawing(size: str, width: int, height: int, asked, months: pd.DataFrame) -> Drawing:
    """The chart at one size; arguments as in `drawings`."""
    months = months.assign(at=[number(month) for month in months["month"]])
    first, last = int(months["at"].min()), int(months["at"].max())
    step = (width - LEFT - RIGHT) / max(1, last - first + 1)  # pixels a month
    every = months[["democrat_pct", "republican_pct"]].to_numpy()
    low, high = math.floor(every.min() / 5) * 5, math.ceil(every.max() / 5) * 5
    high += 5 * (low == high)

    def x(at):
        return round(LEFT + step * (at - first + 0.5), 1)

    def y(share):
        return round(TOP + (height - TOP - BOTTOM) * (high - share) / (high - low), 1)

    twice = months["month"].duplicated(keep=False)
    most = months["polls"].max()
    points, lines = [], []
    for place, pair in enumerate(match_ups(months)):
        rows = months[(months["democrat"] == pair[0]) & (months["republican"] == pair[1])]
        aside = min(5, step / 4) * (1 if place else -1)
        for party in PARTIES:
            path, before = "", None
            for row in rows.itertuples():
                share, across = getattr(row, f"{party}_pct"), x(row.at) + aside * twice[row.Index]
                path += f"{'L' if before == row.at - 1 else 'M'}{across:.1f} {y(share)}"
                before = row.at
                points.append(
                    {
                        "party": party,
                        "x": round(across, 1),
                        "y": y(share),
                        "r": radius(row.polls, most),
                        "hollow": bool(place),
                        "faint": bool(pd.notna(row.polls) and row.polls < FEW),
                        "title": f"{month_name(row.month)}: {getattr(row, party)} {share:.1f}%, "
                        f"{rests_on(row.polls)}",
                    }
                )
            lines.append({"party": party, "hollow": bool(place), "d": path})
    spaced = next(n for n in (1, 2, 3, 6, 12, 24) if n * step >= 28 or n == 24)
    span = range(first, last + 1)
    return Drawing(
        size,
        width,
        height,
        points,
        lines,
        [(s, y(s)) for s in range(low, high + 1, 5 if high - low <= 30 else 10)],
        [(calendar.month_abbr[at % 12 + 1], x(at)) for at in span if at % 12 % spaced == 0],
        [
            (at // 12, x(at))
            for at in span
            if at % 12 == 0 or (at == first and (12 - at % 12) * step > 40)
        ],
        [x(number(month)) for month in marked(asked, months)],
    )


def marked(asked, months: pd.DataFrame) -> list[str]:
    """The months that were asked about and are there, the earlier first."""
    wanted = dict.fromkeys(month for month in (asked.start, asked.month) if month)
    return [month for month in wanted if month in set(months["month"])]


def number(month: str) -> int:
    """YYYY-MM as a number of months."""
    return int(month[:4]) * 12 + int(month[5:]) - 1


def radius(polls: float, most: float) -> float:
    """Half the size of a point, in pixels; its area grows with the number of polls."""
    return 3.0 if pd.isna(polls) else round(2 + 4.5 * math.sqrt(polls / most), 1)


def rests_on(polls: float) -> str:
    """What an average was made from, in words."""
    if pd.isna(polls):
        return "a published average"
    return f"{int(polls)} poll{'s' if polls != 1 else ''}"
