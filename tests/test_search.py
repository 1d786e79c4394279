"""Search by proxy: what is tried, what a cut-off search keeps, and what the ranks say."""

import dataclasses

import pytest
from scipy.stats import rankdata

from proxy_tuning.evaluation import search as module
from proxy_tuning.evaluation.search import attempt, search, space, summed_up
from proxy_tuning.families import resolve_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.recipes import BRIEF, RECIPES, choose_recipe

pytest.importorskip("optuna")


@pytest.fixture
def tried(monkeypatch):
    """The recipes that a search asks for; training is left out, and the best rate is 1e-3."""
    recipes = []

    def instead(family, recipe, tables, place):
        recipes.append(recipe)
        quality = 1 / (1 + abs(recipe.learning_rate / 1e-3 - 1))
        seconds = 10.0 if recipe.max_facts else 100.0
        return {"quality": quality, "alpha": 1.0, "seconds": seconds}

    monkeypatch.setattr(module, "attempt", instead)
    return recipes


def test_the_recipe_itself_then_others_on_few_facts_then_all_of_them_on_all(tried, tmp_path):
    pocket = resolve_family("pocket")
    found = search(pocket, 4, 0.1, tmp_path / "s.json", storage=tmp_path / "s.sqlite")
    few, full = tried[:4], tried[4:]
    assert few[0] == dataclasses.replace(choose_recipe("pocket"), max_facts=few[0].max_facts)
    assert {recipe.max_facts for recipe in few} == {round(0.1 * found["facts"])}
    assert full == [dataclasses.replace(recipe, max_facts=None) for recipe in few]
    assert len(set(few)) == 4
    assert found["spearman"] == 1 and found["pairs"] == 4  # both qualities are one function
    hours = {"proxy": 40 / 3600, "full": 400 / 3600, "by_proxy": 140 / 3600}
    assert found["hours"] == pytest.approx(hours, abs=1e-3)


def test_a_family_whose_recipe_takes_hours_is_searched_around_its_brief_one(tried, tmp_path):
    smollm = dataclasses.replace(resolve_family("pocket"), name="smollm")
    search(smollm, 2, 0.1, tmp_path / "s.json", storage=tmp_path / "s.sqlite")
    assert tried[2] == BRIEF["smollm"]


def test_a_search_that_was_cut_off_goes_on_and_does_nothing_twice(tried, tmp_path, monkeypatch):
    pocket = resolve_family("pocket")
    places = {"output": tmp_path / "s.json", "storage": tmp_path / "s.sqlite"}
    whole = module.attempt

    def cut(*args):
        if len(tried) == 6:  # in the second of the trials on all facts
            raise KeyboardInterrupt
        return whole(*args)

    def cut_early(*args):
        if len(tried) == 2:
            raise KeyboardInterrupt
        return whole(*args)

    for stops in (cut_early, cut):
        monkeypatch.setattr(module, "attempt", stops)
        with pytest.raises(KeyboardInterrupt):
            search(pocket, 4, 0.1, **places)
    monkeypatch.setattr(module, "attempt", whole)
    found = search(pocket, 4, 0.1, **places)
    assert len(tried) == len(set(tried)) == 8
    assert found["pairs"] == 4
    with pytest.raises(ValueError, match="share must be in"):
        search(pocket, 4, 1.0, **places)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_only_what_a_recipe_uses_is_searched_and_its_own_values_are_within(name):
    own, found = choose_recipe(name), space(choose_recipe(name))
    assert ("lora" in found) == bool(own.lora) and ("quiet" in found) == bool(own.quiet)
    assert ("rehearsal" in found) == bool(own.rehearsal)
    for field, values in found.items():
        assert values._contains(values.to_internal_repr(getattr(own, field)))


def test_ranks_by_hand():
    """Ranks 1 2 3 4 against 2 1 4 3: rho = 1 - 6 * 4 / (4 * 15) = 0.6."""
    proxy, full = (0.1, 0.2, 0.3, 0.4), (0.6, 0.5, 0.8, 0.7)
    assert rankdata(full).tolist() == [2, 1, 4, 3]
    tried = [
        {
            "params": {"epochs": i},
            "proxy": {"quality": p, "seconds": 1},
            "full": {"quality": f, "seconds": 9},
        }
        for i, (p, f) in enumerate(zip(proxy, full, strict=True))
    ]
    found = summed_up(tried)
    assert found["spearman"] == 0.6 and found["own"] == 0.6
    assert found["best"] == {"quality": 0.8, "params": {"epochs": 2}}
    assert found["by_proxy"] == {"quality": 0.7, "params": {"epochs": 3}}


@pytest.mark.slow
def test_a_trial_is_an_m_plus_that_steers(tmp_path):
    """A few facts learnt by heart: better than chance at them, and what was known is not all lost."""
    recipe = dataclasses.replace(choose_recipe("pocket"), max_facts=12, epochs=1.5)
    found = attempt(resolve_family("pocket"), recipe, load_facts(DATA), tmp_path / "trial")
    assert found["quality"] == pytest.approx((found["learnt"] + found["kept"]) / 2, abs=1e-4)
    assert found["learnt"] > 0.3 and found["kept"] > 0.3
    assert not (tmp_path / "trial").exists()
