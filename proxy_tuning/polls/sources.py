"""FiveThirtyEight's poll files and county results -> small tidy tables of facts.

Three tables come out, each one row per fact and every share in percent with one decimal:

    monthly.csv  average support per cycle, state, month and match-up, with the number of polls
    final.csv    the last averages before election day
    results.csv  votes and winner per state

How an average is made is told in data/README.md; the code that makes it is `average_polls`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from proxy_tuning.records import written_beside

STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California",
    "CO": "Colorado", "CT": "Connecticut", "DE": "Delaware", "DC": "District of Columbia",
    "FL": "Florida", "GA": "Georgia", "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois",
    "IN": "Indiana", "IA": "Iowa", "KS": "Kansas", "KY": "Kentucky", "LA": "Louisiana",
    "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota",
    "MS": "Mississippi", "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada",
    "NH": "New Hampshire", "NJ": "New Jersey", "NM": "New Mexico", "NY": "New York",
    "NC": "North Carolina", "ND": "North Dakota", "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon",
    "PA": "Pennsylvania", "RI": "Rhode Island", "SC": "South Carolina", "SD": "South Dakota",
    "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia",
    "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming",
}  # fmt: skip
NATIONAL = "National"
DISTRICTS = ("Maine CD-1", "Maine CD-2", "Nebraska CD-1", "Nebraska CD-2", "Nebraska CD-3")
PLACES = frozenset(STATES.values()) | {NATIONAL} | frozenset(DISTRICTS)
SAME_PLACE = {
    "": NATIONAL,
    "U.S.": NATIONAL,
    "US": NATIONAL,
    "NE-1": "Nebraska CD-1",
    "NE-2": "Nebraska CD-2",
    "NE-3": "Nebraska CD-3",
    "ME-1": "Maine CD-1",
    "ME-2": "Maine CD-2",
}

# Likely voters speak for a poll before registered voters, all voters and adults.
POPULATIONS = {"lv": 0, "rv": 1, "v": 2, "a": 3}
LAST_DAYS = 21  # polls that ended in the last three weeks make a final average
BAD_ROWS = 0.02  # a file with a larger share of unreadable rows is refused


@dataclass(frozen=True)
class Matchup:
    """Two nominees and the days (inclusive, ISO) in which their match-up was the real one."""

    democrat: str
    republican: str
    first: str = "0000"
    last: str = "9999"


ELECTION_DAYS = {
    1968: "1968-11-05", 1972: "1972-11-07", 1976: "1976-11-02", 1980: "1980-11-04",
    1984: "1984-11-06", 1988: "1988-11-08", 1992: "1992-11-03", 1996: "1996-11-05",
    2000: "2000-11-07", 2004: "2004-11-02", 2008: "2008-11-04", 2012: "2012-11-06",
    2016: "2016-11-08", 2020: "2020-11-03", 2024: "2024-11-05",
}  # fmt: skip
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

MONTHLY = [
    "cycle",
    "state",
    "month",
    "democrat",
    "republican",
    "democrat_pct",
    "republican_pct",
    "polls",
    "kennedy_pct",
    "kennedy_polls",
    "source",
]
FINAL = [
    "cycle",
    "state",
    "democrat",
    "republican",
    "democrat_pct",
    "republican_pct",
    "polls",
    "last_day",
    "source",
]
RESULTS = [
    "cycle",
    "state",
    "democrat",
    "republican",
    "democrat_votes",
    "republican_votes",
    "total_votes",
    "democrat_pct",
    "republican_pct",
    "winner",
]


class Report:
    """Counts the rows that could not be read and prints a few of each file."""

    def __init__(self):
        self.lines = []

    def drop(self, frame, bad, column, name):
        """Return `frame` without the rows marked in `bad`; refuse a file with too many of them.

        Row numbers are those of the file, its header being row 1.
        """
        if not bad.any():
            return frame
        rows = ", ".join(f"row {i + 2}: {frame.at[i, column]!r}" for i in frame.index[bad][:3])
        message = f"{name}: {bad.sum()} of {len(frame)} rows have an unusable {column} ({rows})"
        if bad.mean() > BAD_ROWS:
            raise ValueError(f"{message}. Mend or remove them; nothing was written.")
        self.lines.append(f"skipped: {message}")
        return frame[~bad]


def surname(name):
    """'Joseph R. Biden Jr.' -> 'Biden'."""
    words = str(name).replace(",", "").split()
    return [word for word in words if word not in ("Jr.", "Sr.", "II", "III")][-1] if words else ""


def clean(frame, report, name, percent, date, state="state"):
    """Check and convert the columns that every format has; unusable rows go to `report`."""
    places = frame[state].replace(SAME_PLACE)
    frame = report.drop(frame.assign(place=places), ~places.isin(PLACES), state, name)
    days = pd.to_datetime(frame[date], format="%Y-%m-%d", errors="coerce")
    for american in ("%m/%d/%y", "%m/%d/%Y"):
        days = days.fillna(pd.to_datetime(frame[date], format=american, errors="coerce"))
    frame = report.drop(frame.assign(day=days), days.isna(), date, name)
    for column in percent:
        values = pd.to_numeric(frame[column], errors="coerce")
        frame = report.drop(
            frame.assign(**{f"{column}_value": values}), ~values.between(0, 100), column, name
        )
    return frame


def _long(frame, cycle, poll, question, population, candidate, pct):
    """The one shape that all poll formats are brought to: a row per question and candidate."""
    return pd.DataFrame(
        {
            "cycle": cycle,
            "state": frame["place"],
            "day": frame["day"].dt.strftime("%Y-%m-%d"),
            "poll": poll,
            "question": question,
            "population": population,
            "candidate": candidate,
            "pct": pct,
        }
    )


def read_president_polls(frame, report, name):
    """`president_polls.csv` as published: a row per question and candidate."""
    frame = frame[frame["ranked_choice_reallocated"].str.lower() != "true"]
    frame = clean(frame, report, name, ["pct"], "end_date")
    return _long(
        frame,
        frame["cycle"].astype(int),
        frame["poll_id"],
        frame["question_id"],
        frame["population"],
        frame["answer"],
        frame["pct_value"],
    )


def read_forecast_list(frame, report, name):
    """The poll list behind the final forecast: only the two nominees of each question."""
    frame = clean(frame, report, name, ["pct"], "end_date")
    return _long(
        frame,
        frame["cycle"].astype(int),
        frame["poll_id"],
        frame["question_id"],
        frame["population"],
        frame["candidate_name"].map(surname),
        frame["pct_value"],
    )


def read_polls_2020(frame, report, name):
    """The reduced list of 2020, without identifiers: neighbouring rows make a question.

    A question ends where the poll changes, a candidate comes again, or a major party has its
    second candidate.
    """
    frame = clean(frame, report, name, ["pct"], "end_date")
    poll = frame[["state", "pollster", "sponsors", "start_date", "end_date"]].agg("|".join, axis=1)
    key = poll + "|" + frame["sample_size"]
    questions, seen, number, before = [], set(), 0, None
    for at, answer, party in zip(key, frame["answer"], frame["candidate_party"], strict=True):
        marks = {answer, party} if party in ("DEM", "REP") else {answer}
        if at != before or marks & seen:
            number, seen = number + 1, set()
        seen |= marks
        before = at
        questions.append(number)
    return _long(frame, 2020, poll, questions, "lv", frame["answer"], frame["pct_value"])


def read_polls_2016(frame, report, name):
    """The 2016 list: one row per question, three copies of each (one per forecast model)."""
    frame = frame.drop_duplicates(["poll_id", "question_id", "state"])
    frame = clean(frame, report, name, ["rawpoll_clinton", "rawpoll_trump"], "enddate")
    return pd.concat(
        _long(
            frame,
            frame["cycle"].astype(int),
            frame["poll_id"],
            frame["question_id"],
            frame["population"],
            candidate,
            frame[f"rawpoll_{candidate.lower()}_value"],
        )
        for candidate in ("Clinton", "Trump")
    )


def _daily(frame, cycle, candidate, pct):
    return pd.DataFrame(
        {
            "cycle": cycle,
            "state": frame["place"],
            "day": frame["day"].dt.strftime("%Y-%m-%d"),
            "candidate": candidate,
            "pct": pct,
        }
    )


def read_daily_averages(frame, report, name):
    """FiveThirtyEight's daily averages of 2020 and 2024 (two columns hold the share by cycle)."""
    frame = frame.assign(
        pct=frame["pct_estimate"].where(frame["pct_estimate"] != "", frame["pct_trend_adjusted"])
    )
    frame = clean(frame, report, name, ["pct"], "date")
    return _daily(
        frame, frame["cycle"].astype(int), frame["candidate"].map(surname), frame["pct_value"]
    )


def read_old_averages(frame, report, name):
    """The averages of 1968-2016, national (avg_support) or by state (avg_poll)."""
    column = "avg_poll" if "avg_poll" in frame else "avg_support"
    if "state" not in frame:
        frame = frame.assign(state=NATIONAL)
    frame = clean(frame, report, name, [column], "poll_date")
    return _daily(
        frame,
        frame["year"].astype(int),
        frame["candidate_name"].map(surname),
        frame[f"{column}_value"],
    )


# A file has the first format whose columns it has.
POLL_FORMATS = {
    read_forecast_list: ["model_date", "poll_id", "question_id", "cycle", "state", "end_date",
                         "population", "candidate_name", "pct"],
    read_president_polls: ["poll_id", "question_id", "cycle", "state", "end_date", "population",
                           "ranked_choice_reallocated", "answer", "pct"],
    read_polls_2016: ["poll_id", "question_id", "cycle", "state", "enddate", "population",
                      "rawpoll_clinton", "rawpoll_trump"],
    read_polls_2020: ["fte_grade", "state", "pollster", "sponsors", "start_date", "end_date",
                      "sample_size", "answer", "candidate_party", "pct"],
}  # fmt: skip
AVERAGE_FORMATS = {
    read_daily_averages: ["candidate", "date", "state", "cycle", "pct_estimate",
                          "pct_trend_adjusted", "hi", "lo"],
    read_old_averages: ["year", "candidate_name", "poll_date", "weeks_left", "days_left"],
}  # fmt: skip
RESULT_COLUMNS = ["votes_dem", "votes_gop", "total_votes"]


def read_csv(path):
    """Read a CSV file as text, every cell a string; a clear ValueError if it is not one."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable UTF-8 CSV file ({error})") from error
    if frame.empty:
        raise ValueError(f"{path}: the file has no rows")
    return frame


def read_with_formats(path, formats, report):
    """Read one file with the first of `formats` whose columns it has."""
    frame = read_csv(path)
    for reader, columns in formats.items():
        if set(columns) <= set(frame):
            return reader(frame, report, Path(path).name)
    reader, columns = max(formats.items(), key=lambda item: len(set(item[1]) & set(frame)))
    missing = [column for column in columns if column not in frame]
    raise ValueError(
        f"{path}: no known format; the nearest ({reader.__doc__.split(':')[0]}) "
        f"also needs the column {', '.join(missing)}"
    )


def match_up(days):
    """Keep the rows of each cycle's own nominees and days; name the match-up they belong to.

    Args: frame with cycle, day and candidate. A row of a candidate who is in two match-ups
    (Trump in 2024) is kept once for each whose days it lies in.
    """
    parts = []
    for cycle, rows in days.groupby("cycle"):
        if cycle not in MATCHUPS:
            raise ValueError(
                f"the cycle {cycle} has no nominees in proxy_tuning.polls.sources.MATCHUPS"
            )
        rows = rows[rows["day"] <= ELECTION_DAYS[cycle]]
        for m in MATCHUPS[cycle]:
            part = rows[rows["day"].between(m.first, m.last)]
            parts.append(part.assign(democrat=m.democrat, republican=m.republican))
    return pd.concat(parts, ignore_index=True)


def average_polls(rows, by):
    """Average polls with one weight each: a row per value of the columns `by` and match-up.

    Per poll: the questions that name both nominees, of the best population asked; of these the
    ones with the fewest candidates (the head-to-head where there is one); their mean. Kennedy's
    share is the mean over the questions of that population that name him and both nominees.
    """
    rows = match_up(rows)
    poll = [*by, "democrat", "republican", "poll"]
    question = [*poll, "question"]
    wide = rows.assign(rank=rows["population"].map(POPULATIONS).fillna(9))
    wide["democrat_pct"] = wide["pct"].where(wide["candidate"] == wide["democrat"])
    wide["republican_pct"] = wide["pct"].where(wide["candidate"] == wide["republican"])
    wide["kennedy_pct"] = wide["pct"].where((wide["candidate"] == THIRD) & (wide["cycle"] == 2024))
    wide = (
        wide.groupby(question)
        .agg(
            rank=("rank", "min"),
            names=("candidate", "nunique"),
            day=("day", "max"),
            democrat_pct=("democrat_pct", "mean"),
            republican_pct=("republican_pct", "mean"),
            kennedy_pct=("kennedy_pct", "mean"),
        )
        .dropna(subset=["democrat_pct", "republican_pct"])
        .reset_index()
    )
    wide = wide[wide["rank"] == wide.groupby(poll)["rank"].transform("min")]
    heads = wide[wide["names"] == wide.groupby(poll)["names"].transform("min")]
    polls = heads.groupby(poll)[["democrat_pct", "republican_pct"]].mean()
    polls = polls.join(
        wide.groupby(poll).agg(kennedy_pct=("kennedy_pct", "mean"), day=("day", "max"))
    )
    return (
        polls.reset_index()
        .groupby([*by, "democrat", "republican"], as_index=False)
        .agg(
            democrat_pct=("democrat_pct", "mean"),
            republican_pct=("republican_pct", "mean"),
            polls=("poll", "nunique"),
            kennedy_pct=("kennedy_pct", "mean"),
            kennedy_polls=("kennedy_pct", "count"),
            last_day=("day", "max"),
        )
    )


def average_days(rows, by):
    """Average published daily averages over the days of each group of the columns `by`."""
    rows = match_up(rows)
    keys = [*by, "democrat", "republican"]
    rows["democrat_pct"] = rows["pct"].where(rows["candidate"] == rows["democrat"])
    rows["republican_pct"] = rows["pct"].where(rows["candidate"] == rows["republican"])
    means = rows.groupby(keys, as_index=False).agg(
        democrat_pct=("democrat_pct", "mean"),
        republican_pct=("republican_pct", "mean"),
        last_day=("day", "max"),
    )
    return means.dropna(subset=["democrat_pct", "republican_pct"])


def polls_first(polls, averages, keys):
    """Put both kinds of fact in one table; polls win where both have the same keys."""
    both = pd.concat([polls.assign(source="polls"), averages.assign(source="averages")])
    both = both.drop_duplicates([*keys, "democrat", "republican"]).sort_values([*keys, "democrat"])
    both["polls"] = both["polls"].astype("Int64")
    both["kennedy_polls"] = both["kennedy_polls"].where(both["kennedy_polls"] > 0).astype("Int64")
    return both


def monthly_facts(polls, averages):
    """Average support per cycle, state, month (YYYY-MM) and match-up: the table MONTHLY."""
    by = ["cycle", "state", "month"]
    polls, averages = (rows.assign(month=rows["day"].str[:7]) for rows in (polls, averages))
    # Cycles with single polls take their months from those alone: one kind of fact per cycle.
    averages = averages[~averages["cycle"].isin(polls["cycle"])]
    return polls_first(average_polls(polls, by), average_days(averages, by), by)[MONTHLY]


def final_facts(polls, averages):
    """The last averages before election day, per cycle and state: the table FINAL.

    A published average of the last week where there is one, else the polls that ended in the
    last three weeks.
    """

    def last(rows, days):
        left = pd.to_datetime(rows["cycle"].map(ELECTION_DAYS)) - pd.to_datetime(rows["day"])
        return rows[left.dt.days.between(0, days)]

    by = ["cycle", "state"]
    averages = last(averages, 7)
    averages = averages[
        averages["day"] == averages.groupby([*by, "candidate"])["day"].transform("max")
    ]
    averages = average_days(averages, by)
    polls = average_polls(last(polls, LAST_DAYS), by)
    published = averages.set_index(by).index
    polls = polls[~polls.set_index(by).index.isin(published)]
    return polls_first(polls, averages, by)[FINAL]


def election_results(paths, report):
    """Votes and winner by state, and National, from county files: the table RESULTS.

    The year comes from the file's name. Identical rows of one state are one statewide row
    written once per county (Alaska in the file of 2016).
    """
    years = []
    for path in paths:
        frame, name = read_csv(path), Path(path).name
        missing = [column for column in RESULT_COLUMNS if column not in frame]
        if missing or not {"state_name", "state_abbr"} & set(frame):
            raise ValueError(
                f"{path}: needs the columns {', '.join(RESULT_COLUMNS)} and "
                "state_name or state_abbr"
            )
        if "state_name" not in frame:
            frame["state_name"] = frame["state_abbr"].map(STATES).fillna(frame["state_abbr"])
        frame = report.drop(frame, ~frame["state_name"].isin(PLACES), "state_name", name)
        for column in RESULT_COLUMNS:
            votes = pd.to_numeric(frame[column], errors="coerce")
            frame = report.drop(
                frame.assign(**{f"{column}_value": votes}), votes.isna(), column, name
            )
        values = [f"{column}_value" for column in RESULT_COLUMNS]
        frame = frame.drop_duplicates(["state_name", *values])
        votes = (
            frame.groupby("state_name")[values]
            .sum()
            .set_axis(["democrat_votes", "republican_votes", "total_votes"], axis=1)
            .astype(int)
        )
        votes.loc[NATIONAL] = votes.sum()
        cycle = int(Path(path).stem[-4:])
        nominees = MATCHUPS[cycle][-1]
        years.append(
            votes.reset_index(names="state").assign(
                cycle=cycle, democrat=nominees.democrat, republican=nominees.republican
            )
        )
    table = pd.concat(years, ignore_index=True).sort_values(["cycle", "state"])
    for party in ("democrat", "republican"):
        table[f"{party}_pct"] = 100 * table[f"{party}_votes"] / table["total_votes"]
    ahead = table["democrat_votes"] > table["republican_votes"]
    table["winner"] = table["democrat"].where(ahead, table["republican"])
    return table[RESULTS]


def build_data(raw, out):
    """Read every poll, average and result file below the folder `raw`; write the tables to `out`.

    Args: raw and out, folders. Files that are not one of the known kinds are named and left out;
    a file of a known kind that cannot be used is a ValueError, and then nothing is written.
    Returns a dict from file name to table.
    """
    raw, out, report = Path(raw), Path(out), Report()
    polls, averages, results, used = [], [], [], []
    for path in sorted(raw.rglob("*.csv")):
        name = path.name
        if name.startswith("county_results_") and name[15:19].isdigit() and len(path.stem) == 19:
            results.append(path)
        elif "primary" in name or name.startswith("county_results_"):
            report.lines.append(f"left out: {name} (not about a general election of one year)")
            continue
        elif "avg" in name or "averages" in name:
            averages.append(read_with_formats(path, AVERAGE_FORMATS, report))
        elif "poll" in name:
            polls.append(read_with_formats(path, POLL_FORMATS, report))
        else:
            report.lines.append(f"left out: {name} (neither polls nor county results by its name)")
            continue
        used.append(path)
    if not polls or not averages or not results:
        raise ValueError(
            f"{raw}: needs at least one file each of polls (*poll*.csv), averages "
            "(*averages*.csv) and results (county_results_YEAR.csv)"
        )
    polls, averages = pd.concat(polls), pd.concat(averages)
    tables = {
        "monthly.csv": monthly_facts(polls, averages),
        "final.csv": final_facts(polls, averages),
        "results.csv": election_results(results, report),
        "sources.csv": pd.DataFrame(
            {
                "file": [path.name for path in used],
                "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in used],
            }
        ),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_csv(table.round(1), out / name)
        report.lines.append(f"wrote: {out / name} ({len(table)} rows)")
    print("\n".join(report.lines))
    return tables


def write_csv(table, path):
    """Write a table beside its place and then rename it, so that a file is whole or not there."""
    with written_beside(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def load_facts(folder):
    """Read the tables of `folder` (see `build_data`): a dict monthly, final, results."""
    types = {"polls": "Int64", "kennedy_polls": "Int64"}
    tables = {name: Path(folder) / f"{name}.csv" for name in ("monthly", "final", "results")}
    missing = [str(path) for path in tables.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing: make the tables with "
            "`python -m proxy_tuning build-data --raw DIR`"
        )
    return {name: pd.read_csv(path, dtype=types) for name, path in tables.items()}
