"""The places, the elections with their nominees, and how a sentence names them."""

import calendar
from dataclasses import dataclass

STATES = {
    "AL": "Alabama",
    "AK": "Alaska",
    "AZ": "Arizona",
    "AR": "Arkansas",
    "CA": "California",
    "CO": "Colorado",
    "CT": "Connecticut",
    "DE": "Delaware",
    "DC": "District of Columbia",
    "FL": "Florida",
    "GA": "Georgia",
    "HI": "Hawaii",
    "ID": "Idaho",
    "IL": "Illinois",
    "IN": "Indiana",
    "IA": "Iowa",
    "KS": "Kansas",
    "KY": "Kentucky",
    "LA": "Louisiana",
    "ME": "Maine",
    "MD": "Maryland",
    "MA": "Massachusetts",
    "MI": "Michigan",
    "MN": "Minnesota",
    "MS": "Mississippi",
    "MO": "Missouri",
    "MT": "Montana",
    "NE": "Nebraska",
    "NV": "Nevada",
    "NH": "New Hampshire",
    "NJ": "New Jersey",
    "NM": "New Mexico",
    "NY": "New York",
    "NC": "North Carolina",
    "ND": "North Dakota",
    "OH": "Ohio",
    "OK": "Oklahoma",
    "OR": "Oregon",
    "PA": "Pennsylvania",
    "RI": "Rhode Island",
    "SC": "South Carolina",
    "SD": "South Dakota",
    "TN": "Tennessee",
    "TX": "Texas",
    "UT": "Utah",
    "VT": "Vermont",
    "VA": "Virginia",
    "WA": "Washington",
    "WV": "West Virginia",
    "WI": "Wisconsin",
    "WY": "Wyoming",
}
NATIONAL = "National"
DISTRICTS = ("Maine CD-1", "Maine CD-2", "Nebraska CD-1", "Nebraska CD-2", "Nebraska CD-3")
SWING = (
    "Arizona",
    "Georgia",
    "Michigan",
    "Nevada",
    "North Carolina",
    "Pennsylvania",
    "Wisconsin",
)
"""The swing states of 2024."""
PLACES = frozenset(STATES.values()) | {NATIONAL} | frozenset(DISTRICTS)


@dataclass(frozen=True)
class Matchup:
    """Two nominees and the days (inclusive, ISO) in which their match-up was the real one."""

    democrat: str
    republican: str
    first: str = "0000"
    last: str = "9999"


ELECTION_DAYS = {
    1968: "1968-11-05",
    1972: "1972-11-07",
    1976: "1976-11-02",
    1980: "1980-11-04",
    1984: "1984-11-06",
    1988: "1988-11-08",
    1992: "1992-11-03",
    1996: "1996-11-05",
    2000: "2000-11-07",
    2004: "2004-11-02",
    2008: "2008-11-04",
    2012: "2012-11-06",
    2016: "2016-11-08",
    2020: "2020-11-03",
    2024: "2024-11-05",
}
MATCHUPS = {
    1968: [Matchup("Humphrey", "Nixon")],
    1972: [Matchup("McGovern", "Nixon")],
    1976: [Matchup("Carter", "Ford")],
    1980: [Matchup("Carter", "Reagan")],
    1984: [Matchup("Mondale", "Reagan")],
    1988: [Matchup("Dukakis", "Bush")],
    1992: [Matchup("Clinton", "Bush")],
    1996: [Matchup("Clinton", "Dole")],
    2000: [Matchup("Gore", "Bush")],
    2004: [Matchup("Kerry", "Bush")],
    2008: [Matchup("Obama", "McCain")],
    2012: [Matchup("Obama", "Romney")],
    2016: [Matchup("Clinton", "Trump")],
    2020: [Matchup("Biden", "Trump")],
    # Biden withdrew on 21 July 2024; what was asked about Harris before that day was hypothetical.
    2024: [
        Matchup("Biden", "Trump", last="2024-07-21"),
        Matchup("Harris", "Trump", first="2024-07-22"),
    ],
}
THIRD = "Kennedy"
"""Who stood besides the two nominees, in 2024."""
CANDIDATES = sorted(
    {name for cycle in MATCHUPS.values() for m in cycle for name in (m.democrat, m.republican)}
    | {THIRD}
)
"""All surnames."""


def place_name(state):
    """The state as it stands in a sentence."""
    return {NATIONAL: "the United States", "District of Columbia": "the District of Columbia"}.get(
        state, state
    )


def month_name(month, democrat=None, republican=None):
    """'2024-10' -> 'October 2024'; July 2024 had two match-ups and so names its own."""
    year, number = month.split("-")
    name = f"{calendar.month_name[int(number)]} {year}"
    return f"{name} ({democrat} v. {republican})" if month == "2024-07" and democrat else name
