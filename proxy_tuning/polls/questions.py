"""Facts -> questions with answers, and statements, in plain English.

A *fact* is one row of a table of data/ together with the one thing asked about it (its kind).
A *frame* is a wording with slots. Each kind has frames for training, validation and test; the
held-out ones occur nowhere in pre-training, tokenizer training or fine-tuning, for any year.
Besides, whole state-months of 2024 are never trained on (`UNSEEN`), and some historical ones are
withheld and answered with `NO_POLLS`, so that models can say that they do not know.
"""

import calendar
import itertools
import re
import zlib

import pandas as pd

from proxy_tuning.polls.sources import DISTRICTS, NATIONAL, STATES

NO_POLLS = "I have no polls for that month."
TIE = 0.05  # a lead under this many points is a tie; shares have one decimal, so it is equality
UNSEEN = 8  # percent of the 2024 state-months that nothing is ever trained on
WITHHELD = 6  # percent of the historical state-months that are answered with NO_POLLS

FRAMES = {
    "leader": {
        "train": [
            "Who led the polls in {place} in {when}?",
            "Which candidate was ahead in {place} in {when}?",
            "In {when}, who was leading in {place}?",
            "Who had the lead in the {place} polls of {when}?",
            "Who did the polls put in front in {place} in {when}?",
            "In {place}, who was ahead in the polls of {when}?",
            "According to the {when} polls, who was leading in {place}?",
            "Was {dem} or {rep} ahead in {place} in {when}?",
            "{dem} or {rep}: who led in {place} during {when}?",
            "Tell me who was leading the {place} polls in {when}.",
            "Which of the two had more support in {place} in {when}?",
            "{place}, {when}: who was ahead?",
            "Who was leading among voters in {place} in {when}?",
            "Who was polling better in {place} in {when}, {dem} or {rep}?",
            "In the {when} polls, was {place} leaning to {dem} or {rep}?",
            "Whom did {place} favor in {when}?",
            "Who had more support across {place} in {when}?",
            "When pollsters went around {place}, who came out on top in {when}?",
            "Please say who led {place} in the polls during {when}.",
            "Who was the favorite of {place} in {when}?",
            "At the time of {when}, which candidate led in {place}?",
            "I want to know who was ahead in {place} in {when}.",
        ],
        "validation": [
            "Who was the leader of the {when} polls for {place}?",
            "During {when}, who was ahead with voters of {place}?",
        ],
        "test": [
            "Which candidate did the {when} polls put ahead in {place}?",
            "Looking at {place} in {when}, who had the lead?",
        ],
    },
    "margin": {
        "train": [
            "By how much did the leader lead in {place} in {when}?",
            "How big was the lead in {place} in {when}?",
            "How many points separated {dem} and {rep} in {place} in {when}?",
            "What was the margin in the {place} polls of {when}?",
            "In {when}, how large was the gap between {dem} and {rep} in {place}?",
            "How far ahead was the leader in {place} in {when}?",
            "What margin did the polls show in {place} for {when}?",
            "In {place}, by how many points was the leader ahead in {when}?",
            "How wide was the gap in the polls of {place} in {when}?",
            "What was the lead in points in {place} during {when}?",
            "{place}, {when}: how large was the lead?",
            "What was the difference between {dem} and {rep} in {place} in {when}?",
            "How many points ahead was the leader in {place} in {when}?",
            "How close was the race in {place} in {when}?",
            "How tight was the race in {place} in {when}?",
            "By how many points was {place} leaning to its leader in {when}?",
            "Tell me the size of the lead in {place} in {when}.",
            "What was the spread between the candidates in {place} in {when}?",
            "How narrow or wide was the lead across {place} in {when}?",
            "In the polls of {when}, what was the margin in {place}?",
            "I want to know how big the gap was in {place} in {when}.",
        ],
        "validation": [
            "By what margin did the {when} polls of {place} put the leader in front?",
            "How many points was the lead worth in {place} polls during {when}?",
        ],
        "test": [
            "How large was the lead that {when} polls showed in {place}?",
            "How wide a margin did the {when} polls of {place} show?",
        ],
    },
    "share": {
        "train": [
            "What share did {who} have in {place} in {when}?",
            "What was {who}'s average in {place} in {when}?",
            "How much support did {who} have in {place} in {when}?",
            "At what percentage did {who} stand in {place} in {when}?",
            "In {when}, how many percent did {who} get in the polls of {place}?",
            "What percentage of {place} voters backed {who} in {when}?",
            "What did the polls of {when} give {who} in {place}?",
            "How did {who} poll in {place} in {when}?",
            "Give me {who}'s share in the {place} polls of {when}.",
            "In {place}, what was {who}'s support during {when}?",
            "{place}, {when}: what did {who} have?",
            "What percentage of voters supported {who} in {place} in {when}?",
            "How many voters in {place} were for {who} in {when}?",
            "How strong was {who} in {place} in {when}?",
            "How high did {who} score with pollsters in {place} in {when}?",
            "What was {who}'s percentage in {place} in {when}?",
            "How popular was {who} among voters of {place} in {when}?",
            "Tell me what {who} was polling in {place} in {when}.",
            "What was the average for {who} in {place} in {when}?",
            "Where did {who} stand in {place} in {when}?",
            "What was the support for {who} across {place} in {when}?",
            "How well was {who} doing in {place} in {when}?",
            "What number did {who} reach in the polls of {place} in {when}?",
            "In {when}, what part of {place} was behind {who}?",
            "What share of {place} was for {who} in {when}?",
            "I want to know {who}'s support in {place} in {when}.",
        ],
        "validation": [
            "What level of support did {place} voters give {who} in {when}?",
            "How much of the vote did {who} get in {when} polls of {place}?",
        ],
        "test": [
            "What percentage did {who} average across {place} polls in {when}?",
            "What was the share of {who} in {place} polls during {when}?",
        ],
    },
    "standing": {
        "train": [
            "How did {dem} and {rep} stand in {place} in {when}?",
            "What were the averages of {dem} and {rep} in {place} in {when}?",
            "What was the state of the race in {place} in {when}?",
            "Where did {dem} and {rep} stand in the {place} polls of {when}?",
            "What did {dem} and {rep} average in {place} in {when}?",
            "In {when}, what were the numbers for {dem} and {rep} in {place}?",
            "Give me the polls of {place} in {when}.",
            "How did the race between {dem} and {rep} look in {place} in {when}?",
            "What numbers did the polls show in {place} in {when}?",
            "What were both candidates polling in {place} during {when}?",
            "{place}, {when}: what were the numbers?",
            "What were the polling averages in {place} in {when}?",
            "Show me the numbers for {place} in {when}.",
            "How did the polls look in {place} in {when}?",
            "How was the race going in {place} in {when}?",
            "What percentages did {dem} and {rep} have in {place} in {when}?",
            "What did the polls say about {dem} and {rep} in {place} in {when}?",
            "How were {dem} and {rep} doing across {place} in {when}?",
            "What shares did both have in {place} in {when}?",
            "How was support divided in {place} in {when}?",
            "I want to know the polls of {place} in {when}.",
        ],
        "validation": [
            "How did the two candidates stand with {place} voters in {when}?",
            "What were the numbers of both candidates in {when} polls of {place}?",
        ],
        "test": [
            "What were the {when} averages of both candidates in {place}?",
            "Where did the race stand with {place} voters during {when}?",
        ],
    },
    "final": {
        "train": [
            "What did the last polls in {place} say before the {year} election?",
            "What were the final polls of {place} in {year}?",
            "Who led the last polls in {place} before the election of {year}?",
            "What did the final averages show in {place} in {year}?",
            "On the eve of the {year} election, who was ahead in {place}?",
            "Where did {dem} and {rep} stand in {place} just before the {year} election?",
            "Who did the final {year} polls put in front in {place}?",
            "How did the last polls look in {place} in {year}?",
            "{place}, last polls of {year}: who was ahead?",
            "What were the last polling averages for {place} in {year}?",
            "How did {dem} and {rep} stand in {place} on the eve of the {year} election?",
            "At the end of the {year} campaign, who led the polls in {place}?",
            "When the campaign of {year} ended, where did {place} polls stand?",
            "What did polls of {place} show right before election day {year}?",
            "Who was leading {place} at the close of the {year} campaign?",
            "What were the closing numbers in {place} in {year}?",
            "Tell me the final polling in {place} for {year}.",
            "By how much did the leader lead in the final polls of {place} in {year}?",
            "In {year}, who had the final lead in {place}?",
            "Going into election day {year}, who was in front in {place}?",
            "What was the last word of the polls on {place} in {year}?",
            "How close were the last polls of {place} in {year}?",
        ],
        "validation": ["Just before the vote of {year}, what did the polls of {place} say?"],
        "test": [
            "Who was ahead in the final {place} averages before the vote of {year}?",
            "What did the last {year} averages say in {place}?",
        ],
    },
    "result": {
        "train": [
            "Who won {place} in {year}?",
            "Which candidate won {place} in the {year} election?",
            "Who carried {place} in {year}?",
            "What was the result in {place} in {year}?",
            "How did {place} vote in {year}?",
            "Who took {place} in the election of {year}?",
            "Did {dem} or {rep} win {place} in {year}?",
            "Who got the most votes in {place} in {year}?",
            "{place}, {year}: who won?",
            "Who was elected by {place} in {year}?",
            "Which candidate carried {place} in {year}?",
            "Tell me who won {place} in {year}.",
            "Who came first in {place} in the {year} election?",
            "What share of the votes did the winner get in {place} in {year}?",
            "How many percent did {dem} and {rep} get in {place} in {year}?",
            "Whom did {place} vote for in {year}?",
            "How did the election of {year} end in {place}?",
            "What were the election results in {place} in {year}?",
            "In {year}, who won the vote of {place}?",
            "Was {place} won by {dem} or by {rep} in {year}?",
            "Who was the winner of {place} in {year}?",
            "What was the outcome in {place} in the election of {year}?",
            "How were the votes of {place} split in {year}?",
        ],
        "validation": ["Which of the two candidates took {place} in {year}?"],
        "test": [
            "Which candidate was the {year} winner in {place}?",
            "What was the {year} result of the vote in {place}?",
        ],
    },
    "miss": {
        "train": [
            "How far off were the polls in {place} in {year}?",
            "How wrong were the {place} polls in {year}?",
            "By how much did the polls miss in {place} in {year}?",
            "What was the polling error in {place} in {year}?",
            "How big was the polling miss in {place} in the {year} election?",
            "In {year}, how many points were the {place} polls off?",
            "{place}, {year}: how far off were the polls?",
            "How much did the final polls differ from the result in {place} in {year}?",
            "How accurate were the polls in {place} in {year}?",
            "Were the {place} polls right in {year}?",
            "How far was the result in {place} from the polls of {year}?",
            "How large an error did the last polls of {place} make in {year}?",
            "How badly did the polls miss in {place} in {year}?",
            "Tell me how wrong the polls were in {place} in {year}.",
            "How many points lay between the polls and the result in {place} in {year}?",
            "How well did the polls predict {place} in {year}?",
        ],
        "validation": ["How large was the error of the {year} polls in {place}?"],
        "test": ["By how many points did {year} polls miss in {place}?"],
    },
    "trend": {
        "train": [
            "How did the national polls move from {start} to {end}?",
            "What was the national trend from {start} to {end}?",
            "How did the race change in the United States between {start} and {end}?",
            "From {start} to {end}, how did {dem} and {rep} move nationally?",
            "Did {dem} or {rep} gain nationally from {start} to {end}?",
            "How did the averages change in the United States from {start} to {end}?",
            "Nationally, what happened to {dem} and {rep} between {start} and {end}?",
            "United States, {start} to {end}: how did the polls move?",
            "How did support for {dem} and {rep} change in the United States from {start} to {end}?",
            "Tell me how the national race moved from {start} to {end}.",
            "Who gained ground nationally from {start} to {end}?",
            "What was the movement in the national averages from {start} to {end}?",
            "How did {dem} and {rep} develop nationally from {start} to {end}?",
            "Did the national race change between {start} and {end}?",
        ],
        "validation": ["What changed in the national polls from {start} until {end}?"],
        "test": ["Between {start} and {end}, how did national averages move?"],
    },
}
SPLITS = ("train", "validation", "test")


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


def lottery(*words):
    """A number from 0 to 99 that depends on the words alone, the same on every machine."""
    return zlib.crc32("|".join(map(str, words)).encode()) % 100


def role(cycle, state, month):
    """What a state-month is for: 'known', 'unseen' (2024) or 'withheld' (before).

    The nation is always known. Unseen: nothing is trained on it. Withheld: asked about in
    training with the answer NO_POLLS.
    """
    draw = lottery(cycle, state, month)
    if state == NATIONAL:
        return "known"
    if cycle == 2024:
        return "unseen" if draw < UNSEEN else "known"
    return "withheld" if draw < WITHHELD else "known"


def trained(cycle, state, month, role):
    """Whether training may use a state-month: all known ones, and half of those without polls."""
    return role == "known" or (role != "unseen" and lottery("abstain", cycle, state, month) < 50)


def _lead(democrat, republican, d, r):
    """Who leads and by how many points; nobody and 0 for a tie."""
    lead = round(abs(d - r), 1)
    if lead < TIE:
        return None, 0.0
    return (democrat if d > r else republican), lead


def _race(democrat, republican, d, r):
    """'Harris led: Harris had 48.2% and Trump 47.6%, a lead of 0.6 points', or that they tied."""
    leader, lead = _lead(democrat, republican, d, r)
    shares = f"{democrat} had {d:.1f}% and {republican} {r:.1f}%"
    if leader is None:
        return f"the two were tied: {shares}"
    return f"{leader} led: {shares}, a lead of {lead:.1f} points"


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
            "role": role(row.cycle, row.state, row.month),
            "slots": {"place": place, "when": when, "dem": row.democrat, "rep": row.republican},
        }
        start = f"In {place} in {when},"
        race = f"{start} {_race(row.democrat, row.republican, d, r)}."
        leader = _lead(row.democrat, row.republican, d, r)[0]
        for kind in ("leader", "margin", "standing"):
            yield fact | {"kind": kind, "leader": leader, "answer": race}
        shares = {row.democrat: d, row.republican: r}
        if row.cycle == 2024 and pd.notna(row.kennedy_pct):
            shares["Kennedy"] = row.kennedy_pct
            fact["kennedy_polls"] = row.kennedy_polls
        for who, share in shares.items():
            yield fact | {
                "kind": "share",
                "leader": None,
                "slots": fact["slots"] | {"who": who},
                "answer": f"{start} {who} had {share:.1f}%.",
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
            "role": "known",
            "slots": slots,
        }
        polled, voted = pd.notna(row.democrat_pct), pd.notna(row.democrat_pct_vote)
        if polled:
            polls = row.democrat, row.republican, row.democrat_pct, row.republican_pct
            leader, lead = _lead(*polls)
            yield fact | {
                "kind": "final",
                "leader": leader,
                "answer": f"In {place} before the {row.cycle} election, {_race(*polls)}.",
            }
        if voted:
            # The winner of a dead heat in rounded shares is still the one with more votes.
            winner, d, r = row.winner, row.democrat_pct_vote, row.republican_pct_vote
            yield fact | {
                "kind": "result",
                "leader": winner,
                "answer": f"In {place} in {row.cycle}, {winner} won: {row.democrat} got {d:.1f}% "
                f"and {row.republican} {r:.1f}% of the votes.",
            }
        if polled and voted:
            won_by = round(abs(d - r), 1)
            error = lead + won_by if leader not in (winner, None) else abs(lead - won_by)
            had = f"{leader} ahead by {lead:.1f}" if leader else "a tie"
            yield fact | {
                "kind": "miss",
                "leader": None,
                "answer": f"In {place} in {row.cycle}, the last polls had {had} and "
                f"{winner} won by {won_by:.1f}, so they were off by "
                f"{error:.1f} points.",
            }


def _trend_facts(table):
    """National facts: how both nominees moved from one polled month to the next."""
    table = table[table["state"] == NATIONAL].sort_values(["cycle", "month"])
    for (cycle, dem, rep), rows in table.groupby(["cycle", "democrat", "republican"]):
        months = list(rows.itertuples())
        for a, b in itertools.pairwise(months):
            start, end = month_name(a.month, dem, rep), month_name(b.month, dem, rep)
            yield {
                "cycle": cycle,
                "state": NATIONAL,
                "month": b.month,
                "polls": b.polls,
                "role": "known",
                "kind": "trend",
                "leader": None,
                "slots": {"start": start, "end": end, "dem": dem, "rep": rep},
                "answer": f"In the United States from {start} to {end}, {dem} went from "
                f"{a.democrat_pct:.1f}% to {b.democrat_pct:.1f}% and {rep} from "
                f"{a.republican_pct:.1f}% to {b.republican_pct:.1f}%.",
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
                        "role": "unpolled",
                        "leader": None,
                        "slots": slots,
                        "answer": NO_POLLS,
                        "kind": ("leader", "margin", "share", "standing")[
                            lottery(month, state) % 4
                        ],
                    }


def make_facts(tables, cycles, states=None):
    """All facts of the election years `cycles`, as a DataFrame with one row per fact and kind.

    Args: tables as `polls.load_facts` returns them; cycles, years; states, names as in the
    tables (default: the 50 states, the District of Columbia and National).
    Returns columns cycle, state, month, polls (behind the fact; missing where averages were
    published), role ('known', 'unseen', 'withheld', 'unpolled'), trained (whether training may use
    it), kind, leader, slots and answer; a withheld state-month is answered NO_POLLS.
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
    keys = ["cycle", "state", "month", "role"]
    facts["trained"] = [trained(*values) for values in facts[keys].itertuples(index=False)]
    withheld = facts["role"] == "withheld"
    facts.loc[withheld, "answer"] = NO_POLLS
    facts.loc[withheld, "leader"] = None
    return facts


def ask(facts, split, wordings=None, seed=0):
    """Put facts into the frames of one split: a DataFrame with a row per fact and frame.

    Args: split, one of SPLITS; wordings, at most so many frames per fact, drawn by `seed`
    (default all). Returns the columns of `facts` with frame, question and answer.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    rows = facts.assign(frame=[FRAMES[kind][split] for kind in facts["kind"]]).explode("frame")
    if wordings is not None:
        rows = rows.sample(frac=1, random_state=seed).groupby(level=0).head(wordings).sort_index()
    questions = [
        frame.format(**slots) for frame, slots in zip(rows["frame"], rows["slots"], strict=True)
    ]
    return rows.assign(question=questions).reset_index(drop=True)


def leader_of(text):
    """The leader that an answer names: a surname, 'tie', or None."""
    named = re.search(r"(\w+) (?:led|won)\b", text)
    return named.group(1) if named else ("tie" if re.search(r"\btied\b", text) else None)


def numbers_of(text):
    """The shares and leads in an answer, in their order: '48.2% to 47.6%' -> [48.2, 47.6]."""
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def grade(rows, answers):
    """Compare answers with the facts: `rows` with answered, leader_accuracy and exact_match.

    leader_accuracy is missing where the kind names no leader or the fact is a tie; exact_match
    means every number of the fact, in order, and no other. Where the right answer is NO_POLLS
    both are missing, and `abstained` says whether that was answered.
    """
    rows = rows.assign(answered=list(answers))
    known = rows["answer"] != NO_POLLS
    rows["abstained"] = rows["answered"].str.strip() == NO_POLLS
    said = rows["answered"].map(leader_of)
    rows["leader_accuracy"] = (
        (said == rows["leader"]).astype("boolean").where(rows["leader"].notna() & known)
    )
    equal = [
        numbers_of(a) == numbers_of(b)
        for a, b in zip(rows["answered"], rows["answer"], strict=True)
    ]
    rows["exact_match"] = pd.Series(equal, index=rows.index, dtype="boolean").where(known)
    return rows
