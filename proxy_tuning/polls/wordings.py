"""Readings -> questions: the same in a wording that models were trained in, and some near to it."""

from proxy_tuning.polls.asked import Asked
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.elections import MATCHUPS, NATIONAL, month_name, place_name
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.templates import TEMPLATES

NEAR = 3
"""Questions offered beside one that cannot be answered."""


def trained_wording(asked: Asked) -> str:
    """The question in the first training template of its kind; empty where no template asks it."""
    if asked.kind in (None, "months") or asked.cycle is None or asked.others or asked.ranked:
        return ""
    if asked.kind == "trend" and asked.state != NATIONAL:
        return ""
    pair = MATCHUPS[asked.cycle][-1]
    if asked.month and asked.kind == "month":
        fits = [p for p in MATCHUPS[asked.cycle] if p.first[:7] <= asked.month <= p.last[:7]]
        named = [p for p in fits if asked.democrat in (None, p.democrat)]
        pair = (named or fits or [pair])[-1]
    kind = {"month": asked.wanted, "year": "final"}.get(asked.kind, asked.kind)
    if kind == "share" and len(asked.names) != 1:
        kind = "standing"
    return TEMPLATES[kind]["train"][0].format(
        place=place_name(asked.state),
        year=asked.cycle,
        when=asked.month and month_name(asked.month, pair.democrat, pair.republican),
        start=asked.start and month_name(asked.start),
        end=asked.month and month_name(asked.month),
        dem=pair.democrat,
        rep=pair.republican,
        who=asked.names[0] if asked.names else None,
    )


def near_questions(asked: Asked, tables: dict) -> tuple[str, ...]:
    """Up to `NEAR` questions near to one that the tables cannot answer, all of which they can.

    Args:
        asked: what was read; its place and its time are kept where there is something about them.
        tables: as `tables.load_facts` returns them.
    """
    cycle = asked.cycle if asked.cycle in MATCHUPS else max(MATCHUPS)
    places = list(dict.fromkeys([asked.state or NATIONAL, NATIONAL, "Pennsylvania"]))
    found: list[str] = []
    for place in places:
        for near in (
            Asked("month", place, cycle, nearest_month(asked, place, cycle, tables)),
            Asked("result", place, cycle),
            Asked("final", place, cycle),
        ):
            if near.kind == "month" and near.month is None:
                continue
            question = trained_wording(near)
            if answerable(question, tables):
                found.append(question)
    return tuple(found[:NEAR])


def nearest_month(asked, place, cycle, tables):
    """The month with polls of a place and an election that is nearest to what was asked, or None."""
    monthly = tables["monthly"]
    months = monthly.loc[(monthly["state"] == place) & (monthly["cycle"] == cycle), "month"]
    target = asked.month or f"{cycle}-10"

    def away(month):
        return abs(12 * (int(month[:4]) - int(target[:4])) + int(month[5:]) - int(target[5:]))

    return min(sorted(set(months)), key=away, default=None)


def answerable(question, tables):
    """Whether the tables have all that a question asks about."""
    read = read_question(question, tables)
    known = look_up(read, tables)
    return bool(known.lines) and not known.missing
