"""Tables -> facts: what is asked about each row, its true answer, and what may be trained on.

A *fact* is one row of a table together with the one thing asked about it (its kind). Whole
state-months of 2024 are never trained on (`UNSEEN`), and some historical ones are withheld and
answered with `NO_POLLS`, so that models can say that they do not know.
"""

import itertools
import zlib

import pandas as pd

from proxy_tuning.polls import answers
from proxy_tuning.polls.answers import (
    HAD,
    MOVED,
    NO_POLLS,
    TOLD_BEFORE,
    TOLD_FROM,
    WON,
    leader_and_lead,
)
from proxy_tuning.polls.elections import DISTRICTS, NATIONAL, STATES, THIRD, month_name, place_name

UNSEEN = 8  # percent of the 2024 state-months that nothing is ever trained on
WITHHELD = 6  # percent of the historical state-months that are answered with NO_POLLS


def lottery(*words):
    """A number from 0 to 99 that depends on the words alone, the same on every machine."""
    return zlib.crc32("|".join(map(str, words)).encode()) % 100


def status_of(cycle, state, month):
    """What a state-month is for: 'known', 'unseen' (2024) or 'withheld' (before).

    The nation is always known. Unseen: nothing is trained on it. Withheld: asked about in
    training with the answer NO_POLLS.
    """
    ticket = lottery(cycle, state, month)
    if state == NATIONAL:
        return "known"
    if cycle == 2024:
        return "unseen" if ticket < UNSEEN else "known"
    return "withheld" if ticket < WITHHELD else "known"


def trained(cycle, state, month, status):
    """Whether training may use a state-month: all known ones, and half of those without polls."""
    return status == "known" or (
        status != "unseen" and lottery("abstain", cycle, state, month) < 50
    )


def _month_facts(table):
    """Facts of the monthly table: who led, by how much, what share, how the two stood."""
    for row in table.itertuples():
        d, r = row.democrat_pct, row.republican_pct
        place, when = place_name(row.state), month_name(row.month, row.democrat, row.republican)
        fact = {
            "cycle": row.cycle,
            "state": row.state,
            "month": row.month,
            "polls": row.polls,
            "status": status_of(row.cycle, row.state, row.month),
            "slots": {"place": place, "when": when, "dem": row.democrat, "rep": row.republican},
        }
        race = answers.tell(row.state, when, answers.race(row.democrat, row.republican, d, r))
        leader = leader_and_lead(row.democrat, row.republican, d, r)[0]
        for kind in ("leader", "margin", "standing"):
            yield fact | {"kind": kind, "leader": leader, "answer": race}
        shares = {row.democrat: d, row.republican: r}
        if row.cycle == 2024 and pd.notna(row.kennedy_pct):
            shares[THIRD] = row.kennedy_pct
            fact["kennedy_polls"] = row.kennedy_polls
        for who, share in shares.items():
            yield fact | {
                "kind": "share",
                "leader": None,
                "slots": fact["slots"] | {"who": who},
                "answer": answers.tell(row.state, when, HAD.format(who=who, share=share)),
            }


def _year_facts(final, results):
    """Facts of a whole cycle: the last polls, the result, and how far off the polls were."""
    both = final.merge(
        results,
        on=["cycle", "state", "democrat", "republican"],
        how="outer",
        suffixes=("", "_vote"),
    )
    for row in both.itertuples():
        place = place_name(row.state)
        slots = {"place": place, "year": row.cycle, "dem": row.democrat, "rep": row.republican}
        fact = {
            "cycle": row.cycle,
            "state": row.state,
            "month": None,
            "polls": row.polls,
            "status": "known",
            "slots": slots,
        }
        polled, voted = pd.notna(row.democrat_pct), pd.notna(row.democrat_pct_vote)
        if polled:
            polls = row.democrat, row.republican, row.democrat_pct, row.republican_pct
            leader, lead = leader_and_lead(*polls)
            yield fact | {
                "kind": "final",
                "leader": leader,
                "answer": TOLD_BEFORE.format(
                    place=place, year=row.cycle, clause=answers.race(*polls)
                ),
            }
        if voted:
            # The winner of a dead heat in rounded shares is still the one with more votes.
            winner, d, r = row.winner, row.democrat_pct_vote, row.republican_pct_vote
            won = WON.format(leader=winner, dem=row.democrat, d=d, rep=row.republican, r=r)
            yield fact | {
                "kind": "result",
                "leader": winner,
                "answer": answers.tell(row.state, row.cycle, won),
            }
        if polled and voted:
            missed = answers.miss(leader, lead, winner, round(abs(d - r), 1))
            yield fact | {
                "kind": "miss",
                "leader": None,
                "answer": answers.tell(row.state, row.cycle, missed),
            }


def _trend_facts(table):
    """National facts: how both nominees moved from one polled month to the next."""
    table = table[table["state"] == NATIONAL].sort_values(["cycle", "month"])
    for (cycle, dem, rep), rows in table.groupby(["cycle", "democrat", "republican"]):
        months = list(rows.itertuples())
        for a, b in itertools.pairwise(months):
            start, end = month_name(a.month, dem, rep), month_name(b.month, dem, rep)
            moved = MOVED.format(
                dem=dem,
                d0=a.democrat_pct,
                d1=b.democrat_pct,
                rep=rep,
                r0=a.republican_pct,
                r1=b.republican_pct,
            )
            yield {
                "cycle": cycle,
                "state": NATIONAL,
                "month": b.month,
                "polls": b.polls,
                "status": "known",
                "kind": "trend",
                "leader": None,
                "slots": {"start": start, "end": end, "dem": dem, "rep": rep},
                "answer": TOLD_FROM.format(
                    place=place_name(NATIONAL), start=start, end=end, clause=moved
                ),
            }


def _no_polls_facts(table, cycles, states):
    """State-months of the election year without any poll: every kind is answered NO_POLLS."""
    polled = set(zip(table["cycle"], table["state"], table["month"], strict=True))
    matchups = table.drop_duplicates("cycle", keep="last").set_index("cycle")
    for cycle in cycles:
        dem, rep = matchups.loc[cycle, "democrat"], matchups.loc[cycle, "republican"]
        for state in states:
            for month in (f"{cycle}-{number:02d}" for number in range(1, 12)):
                if (cycle, state, month) not in polled and month != "2024-07":
                    slots = {"place": place_name(state), "when": month_name(month)}
                    slots |= {"dem": dem, "rep": rep, "who": (dem, rep)[lottery(state, month) % 2]}
                    yield {
                        "cycle": cycle,
                        "state": state,
                        "month": month,
                        "polls": 0,
                        "status": "unpolled",
                        "leader": None,
                        "slots": slots,
                        "answer": NO_POLLS,
                        "kind": ("leader", "margin", "share", "standing")[
                            lottery(month, state) % 4
                        ],
                    }


def make_facts(tables, cycles, states=None):
    """All facts of the election years `cycles`, as a DataFrame with one row per fact and kind.

    Args:
        tables: as `tables.load_facts` returns them.
        cycles: years.
        states: names as in the tables; None takes the 50 states, the District of Columbia and
            National.

    Returns:
        Columns cycle, state, month, polls (behind the fact; missing where averages were
        published), status ('known', 'unseen', 'withheld', 'unpolled'), trained (whether training
        may use it), kind, leader, slots and answer; a withheld state-month is answered NO_POLLS.

    Raises:
        ValueError: a state is not in the tables.
    """
    states = list(STATES.values()) + [NATIONAL] if states is None else list(states)
    unknown = set(states) - set(STATES.values()) - {NATIONAL}
    if unknown:
        raise ValueError(f"no state of the tables: {', '.join(sorted(unknown))}")
    chosen = {
        name: table[
            table["cycle"].isin(cycles)
            & table["state"].isin(states)
            & ~table["state"].isin(DISTRICTS)
        ]
        for name, table in tables.items()
    }
    monthly = chosen["monthly"]
    monthly = monthly[monthly["month"].str[:4] == monthly["cycle"].astype(str)]
    facts = pd.DataFrame(
        [
            *_month_facts(monthly),
            *_year_facts(chosen["final"], chosen["results"]),
            *_trend_facts(monthly),
            *_no_polls_facts(monthly, [c for c in cycles if c in set(monthly["cycle"])], states),
        ]
    )
    keys = ["cycle", "state", "month", "status"]
    facts["trained"] = [trained(*values) for values in facts[keys].itertuples(index=False)]
    withheld = facts["status"] == "withheld"
    facts.loc[withheld, "answer"] = NO_POLLS
    facts.loc[withheld, "leader"] = None
    return facts
