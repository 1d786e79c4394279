"""The polls as a task: sets, rules and marks against figures computed by hand and the tables."""

import numpy as np
import pandas as pd
import pytest

from proxy_tuning.evaluation import measures, poll_task, rules
from proxy_tuning.polls.answers import NO_POLLS
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import TEMPLATES
from proxy_tuning.records import DATA
from proxy_tuning.training.recipes import RECIPES

TABLES = load_facts(DATA)
FACTS = poll_task.all_facts(TABLES, RECIPES["pocket"].states)


def test_the_sets_are_in_test_wordings_and_overlap_in_against_alone():
    rows = poll_task.question_sets(FACTS)
    assert set(rows["set"]) == {"new", "unseen", "old", "silent", "against"}
    assert rows["question"].groupby(rows["set"]).size().min() > 20
    apart = rows[rows["set"] != "against"]
    assert not apart.duplicated(["question", "answer"]).any()
    test = {frame for kind in TEMPLATES.values() for frame in kind["test"]}
    assert set(rows["template"]) <= test
    assert (rows.loc[rows["set"] == "silent", "trained"] == False).all()  # noqa: E712
    assert rows.loc[rows["set"].isin(["new", "old", "against"]), "trained"].all()


def fact(month, leader, state="Ohio", status="known", kind="leader", dem="Biden", **slots):
    """A fact of 2024 with Trump as the other candidate."""
    slots |= {"place": state, "when": month, "dem": dem, "rep": "Trump"}
    return {
        "cycle": 2024,
        "state": state,
        "month": month,
        "status": status,
        "trained": status == "known",
        "kind": kind,
        "leader": leader,
        "slots": slots,
        "answer": f"{month} {leader} led",
    }


def test_rules_by_hand():
    facts = pd.DataFrame(
        [
            fact("2024-01", "Biden"),
            fact("2024-02", "Biden"),
            fact("2024-03", "Trump"),
            fact("2024-09", "Harris", status="unseen", dem="Harris"),
            fact("2024-11", "Trump", dem="Harris"),
            fact("2024-12", "Harris", dem="Harris"),
            *[fact("2024-05", "Trump", state=state) for state in ("Iowa", "Utah", "Texas")],
            fact("2024-06", None, status="unseen", kind="share", who="Kennedy"),
            fact("2024-05", None, kind="share", who="Trump"),
            fact("2024-04", None, kind="share", who="Kennedy"),
            fact("2024-08", None, kind="share", who="Kennedy"),
        ]
    )
    party, state, nearest = (rules.with_rules(facts)[rule] for rule in rules.RULES)
    # Three of Ohio's five known months have a Democrat ahead, three of all eight.
    assert set(party) == {"Trump led"}
    harris = [i for i, slots in enumerate(facts["slots"]) if slots["dem"] == "Harris"]
    assert [state[i] for i in harris] == ["Harris led"] * 3
    assert state[0] == state[2] == "Biden led" and state[6] == "Trump led"
    # September: November has the same match-up and is nearer than December; March has another.
    # June's share of Kennedy: April and August are as near, the earlier is taken; May has no Kennedy.
    assert list(nearest[nearest != ""]) == ["2024-11 Trump led", "2024-04 None led"]
    assert nearest[3] == "2024-11 Trump led" and nearest[9] == "2024-04 None led"


def test_against_is_where_the_states_rule_is_wrong():
    """Counted anew from the table of polls, without the facts' own columns."""
    rows = poll_task.question_sets(FACTS)
    against = rows[(rows["set"] == "against") & (rows["kind"] == "leader")]
    new = rows[(rows["set"] == "new") & (rows["kind"] == "leader")]
    table = TABLES["monthly"]
    table = table[(table["cycle"] == 2024) & table["month"].str.startswith("2024")]
    lead = (table["democrat_pct"] - table["republican_pct"]).round(1)
    known = set(zip(new["state"], new["month"], strict=True))
    polls = table.assign(lead=np.sign(lead))[
        [key in known for key in zip(table.state, table.month, strict=True)]
    ]
    polls = polls[polls["lead"] != 0]
    usual = polls.groupby("state")["lead"].agg(lambda leads: leads.mode().iloc[0])
    clear = polls.groupby("state")["lead"].sum() != 0  # where both led as often, any rule will do
    contrary = polls[(polls["lead"] != polls["state"].map(usual)) & polls["state"].map(clear)]
    found = against[against["state"].map(clear)]
    assert sorted(zip(found["state"], found["month"], strict=True)) == sorted(
        zip(contrary["state"], contrary["month"], strict=True)
    )


def test_points_and_forms_by_hand():
    truth = "In Ohio in May 2024, Trump led: Biden had 41.0% and Trump 48.0%, a lead of 7.0 points."
    said = "In Ohio in May 2024, Trump led: Biden had 42.0% and Trump 48.0%, a lead of 6.5 points."
    assert poll_task.absolute_error(said, truth) == pytest.approx(0.5)
    assert poll_task.absolute_error(truth, truth) == 0
    assert np.isnan(poll_task.absolute_error("In Ohio in May 2024, Biden had 41.0%.", truth))
    assert np.isnan(poll_task.absolute_error("Biden had 141.0%.", "Biden had 41.0%."))
    assert np.isnan(poll_task.absolute_error(NO_POLLS, NO_POLLS))
    forms = poll_task.forms_of(FACTS)
    assert len(forms) < 40  # and not one for every fact
    for good in (truth, said, NO_POLLS, "In New Hampshire in June 2016, Clinton had 1.2%."):
        assert poll_task.form(good) in forms
    for bad in (
        "In Ohio in in May 2024, Biden had 41.0%.",
        "In Ohio in May 2024, Biden had 41%.",
        "In Ohio in May 2024, Trump led: Biden had 41.0%",
        "Trump.",
        "",
    ):
        assert poll_task.form(bad) not in forms


def test_marks_by_hand():
    rows = pd.DataFrame(
        {
            "answer": ["Bo led: Al had 40.0% and Bo 42.0%, a lead of 2.0 points."] * 2
            + [NO_POLLS] * 2,
            "leader": ["Bo", "Bo", None, None],
        }
    )
    texts = [NO_POLLS, "Bo led: Al had 40.0% and Bo 43.0%, a lead of 3.0 points.", NO_POLLS, "Bo."]
    marked = poll_task.mark(rows, texts, {poll_task.form(NO_POLLS)})
    assert marked["spoke"].tolist()[:2] == [0, 1] and marked["spoke"][2:].isna().all()
    assert marked["abstained"].tolist()[2:] == [1, 0] and marked["abstained"][:2].isna().all()
    assert marked["absolute_error"][1] == pytest.approx(2 / 3)
    assert marked["well_formed"].tolist() == [True, False, True, False]


def test_candidates_by_hand():
    row = FACTS[(FACTS["kind"] == "result") & (FACTS["cycle"] == 2024)].iloc[0]
    row = next(row.to_frame().T.itertuples())
    beginning, right, other = poll_task.candidates(row)
    assert (beginning, right) == (f"In {row.slots['place']} in 2024,", f" {row.leader} won")
    assert {right, other} == {" Harris won", " Trump won"}
    rows = pd.DataFrame([{"question": "Who?", "beginning": beginning, "likely": right}])
    given = f"Question: Who?\nAnswer: {beginning}"
    assert measures.continued(rows, "likely", None) == [(given, right)]
    assert poll_task.candidates(row._replace(answer=NO_POLLS)) == (None, None, None)


def test_all_2024_facts_of_the_recipe_are_asked_about():
    facts = make_facts(TABLES, [2024], RECIPES["pocket"].states)
    asked = poll_task.question_sets(FACTS)
    assert len(asked[asked["set"] == "new"]) == (facts["status"] == "known").sum()
