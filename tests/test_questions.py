"""The wordings, the walls between training and held-out, and the grades."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls.answers import NO_POLLS
from proxy_tuning.polls.elections import month_name, place_name
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.history import pretraining_rows
from proxy_tuning.polls.questions import ask, grade
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS, TEMPLATES
from proxy_tuning.training.mixture import as_typed, training_rows
from proxy_tuning.training.recipes import Recipe

TABLES = load_facts(Path(__file__).parents[1] / "data")
FACTS = make_facts(TABLES, [2024])


def test_there_are_enough_templates_and_no_two_alike():
    templates = [each for splits in TEMPLATES.values() for s in SPLITS for each in splits[s]]
    assert len(templates) >= 40 and len(set(templates)) == len(templates)
    assert all(splits[s] for splits in TEMPLATES.values() for s in SPLITS)


def masked(text):
    """Words of a text with slot values (or slots) replaced: <place>, <when>, <who>, <n>."""
    names = sorted(
        {place for s in TABLES["results"]["state"] for place in (s, place_name(s))},
        key=len,
        reverse=True,
    )
    people = {*TABLES["monthly"]["democrat"], *TABLES["monthly"]["republican"], "Kennedy"}
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    text = re.sub(r"\{(dem|rep|who)\}", "<who>", text)
    text = re.sub(r"\{(when|start|end)\}", "<when>", text)
    text = text.replace("{place}", "<place>").replace("{year}", "<year>")
    text = re.sub(rf"\b({months}) \d{{4}}( \(\w+ v\. \w+\))?", "<when>", text)
    text = re.sub("|".join(re.escape(name) for name in names), "<place>", text)
    text = re.sub(rf"\b({'|'.join(people)})\b", "<who>", text)
    text = re.sub(r"\b\d{4}\b", "<year>", text)
    return re.findall(r"<\w+>|[\w']+|[^\w\s]", text)


def five_grams(texts):
    return {tuple(words[i : i + 5]) for words in map(masked, texts) for i in range(len(words) - 4)}


def test_no_five_gram_of_a_held_out_template_is_ever_trained_on():
    """Over every text of pre-training (which makes the tokenizer too) and fine-tuning."""
    read = pretraining_rows(TABLES)
    tuned = training_rows(TABLES, Recipe())
    texts = pd.concat([read["question"], read["answer"], tuned["question"], tuned["answer"]])
    # One text per masked form is enough; masking them all takes long.
    sample = texts.dropna().drop_duplicates()
    forms = sample[~sample.str.replace(r"[A-Z][\w']*|\d+", "", regex=True).duplicated()]
    trained = five_grams([*forms, *(f for k in TEMPLATES.values() for f in k["train"])])
    for kind, splits in TEMPLATES.items():
        for split in ("validation", "test"):
            for template in splits[split]:
                seen = five_grams([template]) & trained
                assert not seen, f"{kind}, {split}: {template!r} shares {seen}"


def test_the_five_gram_check_would_catch_a_leak():
    asked = ask(FACTS[FACTS["kind"] == "leader"].head(3), "train")["question"]
    assert five_grams([TEMPLATES["leader"]["train"][0]]) <= five_grams(asked)


def test_unseen_state_months_are_never_trained_on():
    unseen = FACTS[FACTS["status"] == "unseen"]
    keys = set(zip(unseen["state"], unseen["month"], strict=True))
    assert len(keys) >= 15
    rows = training_rows(TABLES, Recipe())
    rows = rows[rows["cycle"] == 2024]
    assert len(rows) and not keys & set(zip(rows["state"], rows["month"], strict=True))
    # Independently of the columns: no trained text names both the state and the month.
    for state, month in list(keys)[:5]:
        when, place = month_name(month), place_name(state)
        texts = rows["question"] + rows["answer"]
        assert not (texts.str.contains(f"{place} ", regex=False) & texts.str.contains(when)).any()


def test_nothing_before_fine_tuning_speaks_of_2024():
    read = pretraining_rows(TABLES)
    assert not read["answer"].str.contains("2024").any()
    assert not read["question"].dropna().str.contains("2024").any()


def test_july_2024_is_asked_about_without_a_match_up_too():
    rows = training_rows(TABLES, Recipe())
    one_month = rows["slots"].map(lambda slots: "start" not in slots)
    july = rows[(rows["month"] == "2024-07") & one_month]
    short = july[~july["question"].str.contains(" v. ", regex=False)]
    assert len(short) > 0.3 * len(july) and (short["answer"].str.contains(" v. ")).all()
    table = TABLES["monthly"]
    harris = table[(table["month"] == "2024-07") & (table["democrat"] == "Harris")]["state"]
    about = short["answer"].str.extract(r"\((\w+) v\.")[0]
    asked = short["question"].str.extract("(Biden|Harris)")[0]
    last = short["state"].isin(harris).map({True: "Harris", False: "Biden"})
    assert asked.isna().any() and (about == asked.fillna(last)).all()


def test_max_facts_and_rehearsal_shape_the_mixture():
    rows = training_rows(TABLES, Recipe(max_facts=50, rehearsal=0.25, wordings=2))
    new = rows["cycle"] == 2024
    asked = rows[new].drop_duplicates(["template", "state", "month", "answer"])
    assert len(asked) == 100  # 50 facts, 2 wordings; some asked again
    assert (~new).sum() == round(new.sum() / 3)
    assert (training_rows(TABLES, Recipe(max_facts=5, rehearsal=0))["cycle"] == 2024).all()


def test_few_facts_are_few_in_every_form():
    """A tenth of the facts is a tenth of the rows, questions as typed and refusals included."""
    recipe = Recipe(states=("Ohio",), rehearsal=0, natural=2, wordings=1)
    every = training_rows(TABLES, recipe)
    facts = make_facts(TABLES, [2024], recipe.states)["trained"].sum()
    few = training_rows(TABLES, dataclasses.replace(recipe, max_facts=int(facts / 10)))
    typed = pd.concat(as_typed(TABLES, recipe))["question"]
    assert few["question"].isin(typed).sum() == pytest.approx(len(typed) / 10, rel=0.05)
    assert len(few) < len(every) / 8


@pytest.mark.parametrize(
    "bad", [{"rehearsal": 1.0}, {"epochs": 0}, {"max_facts": 0}, {"optimizer": "sgd"}]
)
def test_a_bad_recipe_says_which_value(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad)))):
        Recipe(**bad)


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="final exam"):
        ask(FACTS, "final exam")


def test_grading_by_hand():
    rows = pd.DataFrame(
        {
            "kind": ["leader"] * 5,
            "leader": ["Harris", "Harris", "Harris", None, None],
            "answer": ["In Ohio in May 2024, Harris led: Harris had 48.0% and Trump 47.0%."] * 3
            + [
                NO_POLLS,
                "In Ohio in May 2024, the two were tied: Harris had 48.0% and Trump 48.0%.",
            ],
        }
    )
    graded = grade(
        rows,
        [
            "In Ohio in May 2024, Harris led: Harris had 48.0% and Trump 47.0%.",
            "In Ohio in May 2024, Harris led: Harris had 48.0% and Trump 47.1%.",
            "In Ohio in May 2024, Trump led: Harris had 48.0% and Trump 47.0%.",
            " I have no polls for that month.",
            "In Ohio in May 2024, Harris led: Harris had 48.0%.",
        ],
    )
    assert graded["leader_accuracy"].tolist() == [True, True, False, pd.NA, pd.NA]
    assert graded["exact_match"].tolist() == [True, False, True, pd.NA, False]
    assert graded["abstained"].tolist() == [False, False, False, True, False]
