"""Rows of polls and of published averages -> average support by month and before election day.

How an average is made is told in data/README.md; the code that makes it is `average_polls`.
"""

import pandas as pd

from proxy_tuning.polls.elections import ELECTION_DAYS, MATCHUPS, THIRD

# Likely voters speak for a poll before registered voters, all voters and adults.
POPULATIONS = {"lv": 0, "rv": 1, "v": 2, "a": 3}
LAST_DAYS = 21  # polls that ended in the last three weeks make a final average

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


def match_up(days):
    """Keep the rows of each cycle's own nominees and days; name the match-up they belong to.

    `days` has columns cycle, day and candidate. A row of a candidate who is in two match-ups
    (Trump in 2024) is kept once for each whose days it lies in.
    """
    parts = []
    for cycle, rows in days.groupby("cycle"):
        if cycle not in MATCHUPS:
            raise ValueError(
                f"the cycle {cycle} has no nominees in proxy_tuning.polls.elections.MATCHUPS"
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
