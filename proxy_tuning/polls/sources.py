"""Raw poll files of FiveThirtyEight -> rows of one shape, unusable ones counted or refused."""

from pathlib import Path

import pandas as pd

from proxy_tuning.polls.elections import NATIONAL, PLACES, STATES
from proxy_tuning.records import read_csv

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
VOTES = {
    "votes_dem": "democrat_votes",
    "votes_gop": "republican_votes",
    "total_votes": "total_votes",
}  # column of a county file -> of the table
MOST_VOTES = 10**9  # in one row
BAD_ROWS = 0.02  # a file with a larger share of unreadable rows is refused


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
        rows = ", ".join(f"row {i + 2}: {str(frame.at[i, column])!r}" for i in frame.index[bad][:3])
        message = f"{name}: {bad.sum()} of {len(frame)} rows have an unusable {column} ({rows})"
        if bad.mean() > BAD_ROWS:
            raise ValueError(f"{message}. Mend or remove them; nothing was written.")
        self.lines.append(f"skipped: {message}")
        return frame[~bad]


def surname(name):
    """'Joseph R. Biden Jr.' -> 'Biden'; '' where there is none."""
    words = str(name).replace(",", "").split()
    names = [word for word in words if word not in ("Jr.", "Sr.", "II", "III")]
    return names[-1] if names else ""


def clean(frame, report, name, percent, date, state="state", cycle=None, candidate=None):
    """Check and convert the columns that every format has; unusable rows go to `report`.

    Args:
        percent, date, state, cycle, candidate: names of columns of shares in percent, of the day,
            of the place, of the election's year and of names; None where a format has none.

    Returns:
        The usable rows, with place, day, cycle_value (int), candidate_value (surnames) and, per
        share, NAME_value beside the columns of the file.
    """
    if cycle is not None:
        years = pd.to_numeric(frame[cycle], errors="coerce")
        usable = years.between(1, 9999) & (years % 1 == 0)
        frame = report.drop(frame.assign(cycle_value=years), ~usable, cycle, name)
        frame = frame.astype({"cycle_value": int})
    if candidate is not None:
        names = frame[candidate].map(surname)
        frame = report.drop(frame.assign(candidate_value=names), names == "", candidate, name)
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
    frame = clean(frame, report, name, ["pct"], "end_date", cycle="cycle", candidate="answer")
    return _long(
        frame,
        frame["cycle_value"],
        frame["poll_id"],
        frame["question_id"],
        frame["population"],
        frame["answer"],
        frame["pct_value"],
    )


def read_forecast_list(frame, report, name):
    """The poll list behind the final forecast: only the two nominees of each question."""
    frame = clean(
        frame, report, name, ["pct"], "end_date", cycle="cycle", candidate="candidate_name"
    )
    return _long(
        frame,
        frame["cycle_value"],
        frame["poll_id"],
        frame["question_id"],
        frame["population"],
        frame["candidate_value"],
        frame["pct_value"],
    )


def read_polls_2020(frame, report, name):
    """The reduced list of 2020, without identifiers: neighbouring rows make a question.

    A question ends where the poll changes, a candidate comes again, or a major party has its
    second candidate.
    """
    frame = clean(frame, report, name, ["pct"], "end_date", candidate="answer")
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
    shares = ["rawpoll_clinton", "rawpoll_trump"]
    frame = clean(frame, report, name, shares, "enddate", cycle="cycle")
    return pd.concat(
        _long(
            frame,
            frame["cycle_value"],
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
    frame = clean(frame, report, name, ["pct"], "date", cycle="cycle", candidate="candidate")
    return _daily(frame, frame["cycle_value"], frame["candidate_value"], frame["pct_value"])


def read_old_averages(frame, report, name):
    """The averages of 1968-2016, national (avg_support) or by state (avg_poll)."""
    column = next((each for each in ("avg_poll", "avg_support") if each in frame), None)
    if column is None:
        raise ValueError(f"{name} needs the column avg_support (or, by state, avg_poll)")
    if "state" not in frame:
        frame = frame.assign(state=NATIONAL)
    frame = clean(
        frame, report, name, [column], "poll_date", cycle="year", candidate="candidate_name"
    )
    return _daily(frame, frame["cycle_value"], frame["candidate_value"], frame[f"{column}_value"])


# A file has the first format whose columns it has.
POLL_FORMATS = {
    read_forecast_list: "model_date poll_id question_id cycle state end_date population "
    "candidate_name pct",
    read_president_polls: "poll_id question_id cycle state end_date population "
    "ranked_choice_reallocated answer pct",
    read_polls_2016: "poll_id question_id cycle state enddate population rawpoll_clinton "
    "rawpoll_trump",
    read_polls_2020: "fte_grade state pollster sponsors start_date end_date sample_size answer "
    "candidate_party pct",
}
AVERAGE_FORMATS = {
    read_daily_averages: "candidate date state cycle pct_estimate pct_trend_adjusted hi lo",
    read_old_averages: "year candidate_name poll_date weeks_left days_left",
}


def rows_of(path):
    """The cells of a CSV file as text; ValueError where it is none or has no rows."""
    frame = read_csv(path)
    if frame.empty:
        raise ValueError(f"{path}: the file has no rows")
    return frame


def read_with_formats(path, formats, report):
    """Read one file with the first of `formats` whose columns it has.

    Raises:
        ValueError: it has the columns of none, or is no CSV file.
    """
    frame = rows_of(path)
    columns = {reader: names.split() for reader, names in formats.items()}
    for reader, names in columns.items():
        if set(names) <= set(frame):
            return reader(frame, report, Path(path).name)
    reader = max(columns, key=lambda reader: len(set(columns[reader]) & set(frame)))
    missing = [name for name in columns[reader] if name not in frame]
    raise ValueError(
        f"{path}: no known format; the nearest ({reader.__doc__.split(':')[0]}) "
        f"also needs the column {', '.join(missing)}"
    )


def read_votes(path, report):
    """Votes by state, and National, of one county file: columns state and three of VOTES.

    Identical rows of one state are one statewide row written once per county (Alaska in the file
    of 2016).

    Raises:
        ValueError: a column is missing, too many rows are unusable, or it is no CSV file.
    """
    frame, name = rows_of(path), Path(path).name
    missing = [column for column in VOTES if column not in frame]
    if missing or not {"state_name", "state_abbr"} & set(frame):
        raise ValueError(
            f"{path}: needs the columns {', '.join(VOTES)} and state_name or state_abbr"
        )
    if "state_name" not in frame:
        frame["state_name"] = frame["state_abbr"].map(STATES).fillna(frame["state_abbr"])
    frame = report.drop(frame, ~frame["state_name"].isin(PLACES), "state_name", name)
    for column, votes in VOTES.items():
        counts = pd.to_numeric(frame[column], errors="coerce")
        usable = counts.between(0, MOST_VOTES) & (counts % 1 == 0)
        frame = report.drop(frame.assign(**{votes: counts}), ~usable, column, name)
    both = frame["democrat_votes"] + frame["republican_votes"]
    frame = report.drop(frame, both > frame["total_votes"], "total_votes", name)
    frame = frame.drop_duplicates(["state_name", *VOTES.values()])
    votes = frame.groupby("state_name")[list(VOTES.values())].sum().astype(int)
    if none := list(votes.index[votes["total_votes"] == 0]):
        raise ValueError(f"{path}: no votes at all in {', '.join(none)}; nothing was written")
    votes.loc[NATIONAL] = votes.sum()
    return votes.reset_index(names="state")
