"""Rules that answer questions about the polls without a model: what a score has to be held against."""

RULES = ("always the leading party", "the state's leading party", "nearest trained month")


def with_rules(facts):
    """The facts with what three rules answer to each, learnt from the facts that training may use.

    The leading party is that of most months, of the election year or of the state in it. The
    nearest trained month is for months of the status `unseen` alone, "" elsewhere.
    """
    learnt = facts[facts["trained"] & (facts["status"] == "known") & facts["month"].notna()]
    answers = [usual_leaders(facts, learnt, by) for by in (["cycle"], ["cycle", "state"])]
    answers.append(nearest_months(facts, learnt))
    return facts.assign(**dict(zip(RULES, answers, strict=True)))


def usual_leaders(facts, learnt, by):
    """'Trump led' for each fact where his party leads most months among those with the same `by`.

    "" where there is no such month.
    """
    learnt = learnt[(learnt["kind"] == "leader") & learnt["leader"].notna()]
    pairs = zip(learnt["slots"], learnt["leader"], strict=True)
    parties = ["dem" if slots["dem"] == leader else "rep" for slots, leader in pairs]
    usual = learnt.assign(party=parties).groupby(by)["party"]
    usual = usual.agg(lambda party: party.value_counts().idxmax())
    pairs = zip(facts["slots"], facts[by].join(usual, on=by)["party"], strict=True)
    return [f"{slots[party]} led" if party in slots else "" for slots, party in pairs]


def nearest_months(facts, learnt):
    """For each unseen month the same question's answer in the nearest one that is trained on.

    Months with the same match-up come first, then the nearer, then the earlier.
    """
    keys = ["cycle", "state", "kind", "who"]
    facts, learnt = (rows.assign(who=who_is_asked(rows)) for rows in (facts, learnt))
    groups = {key: list(rows.itertuples()) for key, rows in learnt.groupby(keys)}
    answers = []
    for row, *key in zip(facts.itertuples(), *(facts[k] for k in keys), strict=True):
        near = groups.get(tuple(key), []) if row.status == "unseen" else []
        nearest = min(near, key=lambda other: distance(row, other), default=None)
        answers.append(nearest.answer if nearest else "")
    return answers


def who_is_asked(facts):
    """The candidate whose share is asked for, '' where there is none."""
    return [slots.get("who", "") for slots in facts["slots"]]


def distance(fact, other):
    """What `nearest_months` sorts by."""
    first, second = (12 * int(f.month[:4]) + int(f.month[5:]) for f in (fact, other))
    return fact.slots["dem"] != other.slots["dem"], abs(first - second), second
