"""Questions of 2024 as people type them, and answers to them, refusals included.

The templates stand in natural.toml with a split of their own; what is answered besides single facts
is told in `natural_forms`. A question without a year means 2024; without a month it means the
last polls before the election, or the result.
"""

import re

import pandas as pd

from proxy_tuning.polls import typed
from proxy_tuning.polls.answers import numbers_of
from proxy_tuning.polls.elections import NATIONAL, STATES, THIRD, month_name, place_name
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.natural_facts import CYCLE, drawn_by, facts_asked, nominees, trends
from proxy_tuning.polls.natural_forms import (
    FORMS,
    NATURAL,
    listed,
    templates_of,
    write_parts,
)

COLUMNS = ["kind", "state", "month", "question", "answer", "template", "leader", "status"]

POLLED = ("leader", "margin", "share", "standing", "polls_yes")
TRENDS = ("trend", "lead_trend")
LIMITED = ("share_yes", "lead_yes", "tied_yes")
SELDOM = (*TRENDS, *LIMITED, "miss_yes")
SELDOM_MOST = 2
"""Questions per fact of the kinds `SELDOM`, at most."""
DENIES = {
    "polls_yes": r"\blos[et]\b",
    "result_yes": r"\blos[et]\b",
    "share_yes": r"\b(?:below|under|less)\b",
    "lead_yes": r"\b(?:below|under|less|within)\b",
    "tied_yes": r"$^",
    "miss_yes": r"\b(?:under(?:est|rat)\w+|low|pessimistic|better|beat|out\w+|overperform|exceed|miss)\b",
}
"""Kind -> the words by which a template asks for the opposite of what `true` says of a fact:
that `who` leads or won, is above the limit; that the lead is above it; that the polls were too
kind to `who`."""
COMPARED = ("better", "bigger", "closest", "both")
OFTEN = 4
"""Times as many questions about a fact without a month, the last polls and results: most ask those."""


def _fits(template, fact):
    """Whether a template can ask about a fact."""
    slots = set(re.findall(r"\{(\w+)\}", template))
    nation = "place" not in slots or " in {place}" in template
    if not (nation if fact["state"] == NATIONAL else "place" in slots):
        return False
    if slots & {"front", "trail"} and not fact["leader"]:
        return False
    if slots & {"party", "dem", "rep", "other"} and fact["who"] not in (None, *nominees(fact)):
        return False
    if fact["kind"] in (*POLLED, *LIMITED) and fact["month"]:
        return bool(slots & {"when", "month"})
    return fact["month"] is not None or "month" not in slots


def _filled(template, fact, rng):
    """A template with its slots filled for a fact, as typed."""
    slots = (
        typed.typed_people(template, fact, rng)
        | typed.typed_times(template, fact, rng)
        | fact.get("slots", {})
    )
    if fact["state"] == NATIONAL:
        template = template.replace("in {place}", rng.choice(typed.NATIONALLY))
    elif "{place}" in template:
        slots["place"] = typed.typed_place(fact["state"], rng)
    return typed.as_typed(template.format(**slots), rng)


def _asked(fact, split, per_fact, seed):
    """Up to `per_fact` rows that ask about one fact in different templates."""
    names = [fact[key] for key in ("kind", "state", "month", "dem", "who")]
    if fact.get("draw"):
        names.append(fact["draw"])
    rng = drawn_by(seed, split, *names, *fact.get("span", ()))
    templates = [t for t in templates_of(fact["kind"], split) if _fits(t, fact)]
    rng.shuffle(templates)
    rows = []
    for template in templates:
        question = _filled(template, fact, rng)
        if fact.get("must_tell") and not typed.tells_match_up(question, fact["month"], fact["dem"]):
            continue
        rows.append(fact | _answered(template, fact) | {"template": template, "question": question})
        if len(rows) == per_fact:
            break
    return rows


def _answered(template, fact):
    """The answer to a template about a fact: Yes or No before it, or that it is the latest."""
    answer = fact["answer"]
    if fact["kind"] in DENIES:
        yes = fact["true"] != bool(re.search(DENIES[fact["kind"]], template))
        answer = FORMS["yes" if yes else "no"].format(usual=answer)
    if re.search(r"\{now\}|\blatest\b|\brecent\b", template):
        answer = FORMS["latest"].format(usual=answer)
    return {"answer": answer}


def _standings(tables, states):
    """Who stood how at one time: {(month or 'final' or 'result', democrat): {state: fact}}."""
    times = {}
    for fact in facts_asked(tables, states, "train"):
        kind, month = fact["kind"], fact["month"]
        at = month if kind == "standing" else kind if kind in ("final", "result") else None
        if at is None or fact["state"] == NATIONAL or (at, fact["dem"]) == ("2024-07", "Biden"):
            continue
        d, r = numbers_of(fact["answer"])[:2]
        times.setdefault((at, fact["dem"]), {})[fact["state"]] = fact | {"lead": round(d - r, 1)}
    return times


def _compared(at, here, state, split, rng):
    """A row that compares `state` with others at one time, or None where no answer is the one."""
    kind = rng.choices(COMPARED, (4, 1, 4, 2))[0]
    others = sorted(set(here) - {state})
    count = rng.randint(1, 3) if kind == "closest" else 1
    if len(others) < count:
        return None
    chosen = rng.sample([state, *rng.sample(others, count)], count + 1)
    facts = [here[name] for name in chosen]
    fact = facts[0] | {"kind": kind, "who": rng.choice(nominees(facts[0])), "voted": at == "result"}
    sign = 1 if fact["who"] == fact["dem"] else -1
    leads = [fact["lead"] for fact in facts]
    scores = {"better": [sign * lead for lead in leads], "closest": [-abs(lead) for lead in leads]}
    scores = scores.get(kind, [abs(lead) for lead in leads])
    best = [name for name, score in zip(chosen, scores, strict=True) if score == max(scores)]
    templates = [t for t in templates_of(kind, split) if _fits_pair(t, at, min(scores) > 0)]
    if not templates or (len(best) > 1 and kind != "both"):
        return None
    template = rng.choice(templates)
    form = rng.choice(("full", "full", "code"))
    names = [typed.typed_place(name, rng, form) for name in chosen]
    last = "and" if re.search(r"\b(?:of|between) \{list\}", template) else "or"
    fact["slots"] = {"a": names[0], "b": names[1], "list": listed(names, last)}
    times = {"final": f"Before the {CYCLE} election", "result": f"In {CYCLE}"}
    parts = [
        (
            "won" if at == "result" else "led",
            fact["leader"],
            abs(fact["lead"]),
            place_name(fact["state"]),
        )
        for fact in facts
    ]
    answer = FORMS[kind].format(
        time=times.get(at) or f"In {month_name(at, *nominees(fact))}",
        parts=write_parts(parts),
        who=fact["who"],
        where=place_name(best[0]),
    )
    unseen = any(fact["status"] == "unseen" for fact in facts)
    return (
        fact
        | _answered(template, fact | {"answer": answer})
        | {
            "question": _filled(template, fact, rng),
            "template": template,
            "leader": None,
            "state": ", ".join(chosen),
            "status": "unseen" if unseen else "known",
        }
    )


def _fits_pair(template, at, ahead):
    """Whether a template can compare states at a time; `ahead`: the one asked about leads in all."""
    slots = set(re.findall(r"\{(\w+)\}", template))
    if "further" in template and not ahead:
        return False
    if at == "final":
        return "month" not in slots
    if at == "result":
        return "when" in slots and not re.search(r"poll|\blead|ahead|toss|winning", template)
    return bool(slots & {"when", "month"})


def natural_rows(tables, states, split, per_fact, seed):
    """Questions as people type them with their answers, about facts and comparisons of 2024.

    Args: tables as `tables.load_facts` returns them; states, names as in the tables (None takes
    all); split, one of SPLITS; per_fact, at most so many questions per fact of a month and kind
    (`OFTEN` times as many where there is no month), and so many comparisons per state and time;
    seed, which decides all choices.
    Returns columns kind, state (of a comparison: several, with commas), month, question, answer,
    template, leader and status. Facts whose status is 'unseen' are left out of split 'train'.
    """
    rows = []
    facts = list(facts_asked(tables, states, split))
    for fact in (*facts, *trends(facts)):
        if split != "train" or fact["status"] == "known":
            most = min(per_fact, SELDOM_MOST) if fact["kind"] in SELDOM else per_fact
            rows += _asked(fact, split, most * (1 if fact["month"] else OFTEN), seed)
    for (at, dem), here in _standings(tables, states).items():
        if split == "train":
            here = {name: fact for name, fact in here.items() if fact["status"] == "known"}
        for state in here:
            for number in range(per_fact):
                rng = drawn_by(seed, split, at, dem, state, number)
                tried = (_compared(at, here, state, split, rng) for _ in range(20))
                rows += [row for row in [next(filter(None, tried), None)] if row]
    return _frame(rows)


def _frame(rows):
    """The rows that there are, None apart, as a DataFrame with `COLUMNS`, each question once."""
    rows = [row for row in rows if row]
    return pd.DataFrame(rows, columns=COLUMNS).drop_duplicates("question", ignore_index=True)


def _nothing(kind, state, month, section, who=None):
    """A question to which there is no figure, as a fact."""
    return {
        "kind": kind,
        "state": state,
        "month": month,
        "section": section,
        "who": who,
        "dem": "Biden" if month and month < "2024-07" else "Harris",
        "rep": "Trump",
        "leader": None,
    }


def _unpolled(tables, states, split):
    """What is asked in vain: state-months and last polls that do not exist, people without figure.

    Returns {'no_polls': facts, 'no_figure': facts}.
    """
    facts = make_facts(tables, [CYCLE], states)
    facts = facts[facts["trained"] | (split != "train")]
    found = {"no_polls": [], "no_figure": []}
    gaps = facts[facts["status"] == "unpolled"]
    months = list(gaps[["state", "month"]].itertuples(index=False, name=None))
    voted, polled = (set(facts.loc[facts["kind"] == kind, "state"]) for kind in ("result", "final"))
    months += [(state, None) for state in sorted(voted - polled)]
    for state, month in months:
        found["no_polls"] += [_nothing("no_polls", state, month, kind) for kind in POLLED]
    shares = facts[(facts["kind"] == "share") & (facts["status"] != "unpolled")]
    for (state, month), rows in shares.groupby(["state", "month"]):
        named = {slots["who"] for slots in rows["slots"]}
        for who in sorted({"Biden", "Harris", THIRD} - named):
            if month != "2024-07" or who == THIRD:
                found["no_figure"] += [
                    _nothing("no_figure", state, month, kind, who)
                    for kind in ("share", "polls_yes")
                ]
    return found


def _refusal(fact, split, rng):
    """The row of a question that is answered with the form of its kind; None without template."""
    kind, section = fact["kind"], fact.get("section") or fact["kind"]
    fits = [
        t
        for t in templates_of(section, split)
        if _fits(t, fact | {"kind": section}) or "fill" in NATURAL[kind] or kind == section
    ]
    if not fits:
        return None
    template = rng.choice(fits)
    fills = NATURAL[kind].get("fill", [None])
    what = rng.choice([fill for i, fill in enumerate(fills) if split != "train" or i % 5 < 4])
    month = fact["month"]
    answer = FORMS[kind].format(
        what=what,
        where=place_name(fact["state"]),
        name=fact["who"],
        time=f"in {month_name(month)}" if month else f"before the {CYCLE} election",
    )
    question = _filled(template, fact | {"slots": {"what": what}}, rng)
    if fact["section"] is None:
        fact = fact | {
            "state": fact["state"] if "{place}" in template else None,
            "month": month if re.search(r"\{(?:when|month)\}", template) else None,
        }
    return fact | {
        "question": question,
        "answer": answer,
        "template": template,
        "status": "unpolled" if kind in ("no_polls", "no_figure") else kind,
    }


def out_of_scope_rows(tables, states, split, count, seed):
    """`count` questions (rarely fewer) that the tables cannot answer, evenly over the refusals.

    Args and columns as `natural_rows` has them; state and month are missing where none is named.
    """
    pools, rows, asked = _unpolled(tables, states, split), [], set()
    kinds = [kind for kind in NATURAL if "answer" in NATURAL[kind] and pools.get(kind, True)]
    kinds.remove("not_taught")
    taught = [state for state in states or STATES.values() if state != NATIONAL]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        rng = drawn_by(seed, split, kind, number)
        for _ in range(50):
            month = f"{CYCLE}-{rng.randint(1, 11):02d}"
            fact = (
                rng.choice(pools[kind])
                if kind in pools
                else _nothing(kind, rng.choice(taught), month, None)
            )
            row = _refusal(fact, split, rng)
            if row and row["question"] not in asked:
                asked.add(row["question"])
                rows.append(row)
                break
    return _frame(rows)


def not_taught(states, split="train", per_state=4, seed=0):
    """Questions on the states that a recipe leaves out, so that no neighbour's figures are given.

    Args: states, the recipe's places. Columns as `natural_rows` has them.
    """
    rows = []
    for state in left_out(states):
        for number in range(per_state):
            rng = drawn_by(seed, split, state, number)
            month = rng.choice([None, *(f"{CYCLE}-{number:02d}" for number in range(1, 12))])
            rows.append(
                _refusal(_nothing("not_taught", state, month, rng.choice(POLLED)), split, rng)
            )
    return _frame(rows)


def left_out(states):
    """The states that are not among `states`, sorted."""
    return sorted(set(STATES.values()) - set(states))


def endings(tables, states, split, per_state, seed):
    """Questions on how 2024 ended in the states that a recipe leaves out: last polls and results.

    Args: as `natural_rows` has them, states being the recipe's; per_state, at most so many
    questions on each state, and four more on months, to which the answer is that there are no
    polls.
    """
    others = left_out(states)
    asked = natural_rows(tables, others, split, 1, seed)
    asked = asked[
        asked["month"].isna() & ~asked["kind"].isin((*COMPARED, "miss", "miss_yes", "trend"))
    ]
    asked = asked.sample(frac=1, random_state=seed).groupby("state", sort=False).head(per_state)
    polled = set(asked.loc[asked["kind"].isin(POLLED), "state"])
    rows = []
    for state in others:
        rng = drawn_by(seed, split, "endings", state)
        months = [f"{CYCLE}-{month:02d}" for month in rng.sample(range(1, 12), 4)]
        for month in months if state in polled else [*months, None, None]:
            fact = _nothing("no_polls", state, month, rng.choice(POLLED))
            rows.append(_refusal(fact, split, rng))
    return pd.concat([asked, _frame(rows)], ignore_index=True)
