"""What natural questions ask about: facts of 2024, and what two facts or a limit say together.

Single facts are those of facts.py. From them come yes and no (who leads, whether it is tied, over a
limit, whether the polls were too kind), the last polls by kind, and how two months differ.
"""

import itertools
import random
import re

from proxy_tuning.polls.answers import HAD, MOVED, TOLD, TOLD_BEFORE, TOLD_FROM, numbers_of
from proxy_tuning.polls.elections import month_name, place_name
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.natural_forms import FORMS, NATURAL, WON_BY

CYCLE = 2024
LIMITS = 4
"""Limits that a trained share or lead is asked about with, so that it is compared, not learnt by heart."""


def drawn_by(*words):
    """A random generator that depends on the words alone."""
    return random.Random("|".join(map(str, words)))


def nominees(fact):
    """The nominees of a fact."""
    return fact["dem"], fact["rep"]


def facts_asked(tables, states, split):
    """Facts of 2024 of the kinds in natural.toml, with what natural questions ask besides: dicts.

    Args: split, by which limits are drawn.
    """
    facts = make_facts(tables, [CYCLE], states)
    facts = facts[facts["kind"].isin(NATURAL) & (facts["kind"] != "trend")]
    july = facts[facts["month"] == "2024-07"]
    both = set(july.loc[[slots["dem"] == "Harris" for slots in july["slots"]], "state"])
    for row in facts[facts["status"].isin(["known", "unseen"])].itertuples():
        dem, rep = row.slots["dem"], row.slots["rep"]
        place, who = place_name(row.state), row.slots.get("who")
        month, leader = (x if isinstance(x, str) else None for x in (row.month, row.leader))
        fact = {
            "kind": row.kind,
            "state": row.state,
            "month": month,
            "dem": dem,
            "rep": rep,
            "who": who,
            "leader": leader,
            "status": row.status,
            "answer": row.answer,
            "must_tell": dem == "Biden" and row.state in both,
        }
        yield fact
        if row.kind == "share":
            yield from _limited(fact | {"kind": "share_yes"}, numbers_of(row.answer)[0], split)
        elif row.kind == "miss":
            yield from _misses(fact)
        if row.kind not in ("standing", "final", "result"):
            continue
        d, r = numbers_of(row.answer)[:2]
        yes = "result_yes" if row.kind == "result" else "polls_yes"
        yield from (
            fact | {"kind": yes, "who": name, "true": name == leader} for name in (dem, rep)
        )
        if row.kind == "result":
            lead = abs(d - r)
            won = WON_BY.format(leader=leader, lead=lead, dem=dem, d=d, rep=rep, r=r)
            yield fact | {
                "kind": "won_by",
                "answer": TOLD.format(place=place, when=CYCLE, clause=won),
            }
            continue
        yield fact | {"kind": "tied_yes", "true": leader is None}
        if leader:
            led = fact | {"kind": "lead_yes", "who": leader}
            yield from _limited(led, round(abs(d - r), 1), split)
        if row.kind == "final":
            yield from (fact | {"kind": kind} for kind in ("leader", "margin", "standing"))
            for name, share in ((dem, d), (rep, r)):
                told = HAD.format(who=name, share=share)
                told = TOLD_BEFORE.format(place=place, year=CYCLE, clause=told)
                share_fact = fact | {"who": name, "answer": told, "leader": None}
                yield share_fact | {"kind": "share"}
                yield from _limited(share_fact | {"kind": "share_yes"}, share, split)


def _limited(fact, value, split):
    """The fact with limits near to its value, and whether it is above.

    In training `LIMITS` of them; else one that is not among those, where there are more.
    """
    limits, held_out = [], split != "train"
    rng = drawn_by(*(fact[key] for key in ("kind", "state", "month", "who")))
    while len(set(limits)) < LIMITS + held_out and len(limits) < 40:
        near = round(value) + rng.choice((-3, -2, -1, 1, 2, 3))
        limit = rng.choice((near, near, 50)) if fact["kind"] == "share_yes" else max(near, 2)
        limits.append(limit + (limit == value))
    different = list(dict.fromkeys(limits))
    chosen = different[LIMITS:] or different[-1:] if held_out else different[:LIMITS]
    for number, limit in enumerate(chosen):
        yield fact | {"slots": {"limit": limit}, "true": value > limit, "draw": number}


def _misses(fact):
    """For each nominee a fact on whether the last polls were too kind to them."""
    ahead = re.search(r"had (\w+) ahead", fact["answer"])
    lead, won_by = numbers_of(fact["answer"])[:2] if ahead else (0.0, numbers_of(fact["answer"])[0])
    winner = re.search(r"(\w+) won by", fact["answer"])[1]
    for who in nominees(fact):
        polled = lead if ahead and ahead[1] == who else -lead
        voted = won_by if winner == who else -won_by
        if polled != voted:
            yield fact | {"kind": "miss_yes", "who": who, "true": polled > voted}


def trends(facts):
    """Facts on how two months of one match-up in one place differ, in shares and in the lead."""
    months = {}
    for fact in facts:
        if fact["kind"] == "standing" and fact["month"]:
            months.setdefault((fact["state"], fact["dem"]), []).append(fact)
    for here in months.values():
        pairs = itertools.combinations(sorted(here, key=lambda fact: fact["month"]), 2)
        for start, end in pairs:
            yield from _moved(start, end)


def _moved(start, end):
    """The facts of one pair of months, given as standings."""
    (d0, r0), (d1, r1) = (numbers_of(fact["answer"])[:2] for fact in (start, end))
    dem, rep = nominees(end)
    times = [month_name(fact["month"], dem, rep) for fact in (start, end)]
    moved = MOVED.format(dem=dem, d0=d0, d1=d1, rep=rep, r0=r0, r1=r1)
    told = TOLD_FROM.format(
        place=place_name(end["state"]), start=times[0], end=times[1], clause=moved
    )
    unseen = "unseen" in (start["status"], end["status"])
    fact = end | {
        "kind": "trend",
        "span": (start["month"], end["month"]),
        "leader": None,
        "answer": told,
        "status": "unseen" if unseen else "known",
        "must_tell": False,
    }
    yield fact
    if start["leader"] and end["leader"]:
        first, last = (f"{abs(d - r):.1f}" for d, r in ((d0, r0), (d1, r1)))
        same = start["leader"] == end["leader"]
        answer = FORMS["lead_moved" if same else "lead_changed"].format(
            usual=told.removesuffix("."),
            whose=f"{end['leader']}'s",
            one=start["leader"],
            other=end["leader"],
            first=first,
            last=last,
        )
        yield fact | {"kind": "lead_trend", "answer": answer}
