"""Rates, rules, likelihoods and intervals against figures computed by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, save_part, tiny_trio
from oracle import Naive, greedy

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.__main__ import main
from proxy_tuning.evaluation import evaluate, measures, poll_task, reports, rules
from proxy_tuning.evaluation.task import Task
from proxy_tuning.polls import questions
from proxy_tuning.polls.answers import NO_POLLS
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import TEMPLATES
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.finetune import with_adapter
from proxy_tuning.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
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
        "cycle": 2024, "state": state, "month": month, "status": status, "trained": status == "known",
        "kind": kind, "leader": leader, "slots": slots, "answer": f"{month} {leader} led",
    }  # fmt: skip


def test_rules_by_hand():
    facts = pd.DataFrame([
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
    ])  # fmt: skip
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
    known = set(zip(new["state"], new["month"]))
    polls = table.assign(lead=np.sign(lead))[
        [key in known for key in zip(table.state, table.month)]
    ]
    polls = polls[polls["lead"] != 0]
    usual = polls.groupby("state")["lead"].agg(lambda leads: leads.mode().iloc[0])
    clear = polls.groupby("state")["lead"].sum() != 0  # where both led as often, any rule will do
    contrary = polls[(polls["lead"] != polls["state"].map(usual)) & polls["state"].map(clear)]
    found = against[against["state"].map(clear)]
    assert sorted(zip(found["state"], found["month"])) == sorted(
        zip(contrary["state"], contrary["month"])
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
    rows = pd.DataFrame({
        "answer": ["Bo led: Al had 40.0% and Bo 42.0%, a lead of 2.0 points."] * 2 + [NO_POLLS] * 2,
        "leader": ["Bo", "Bo", None, None],
    })  # fmt: skip
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


@pytest.mark.parametrize("steered", [False, True])
def test_log_likelihoods_are_those_of_single_texts(steered):
    trio = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(*trio, alpha=0.7) if steered else trio[0]
    naive = Naive(*trio, alpha=0.7 if steered else 0.0)
    tokenizer = letter_tokenizer()
    pairs = [("Who led?", " Trump"), ("In Ohio in May,", " a tie"), ("A", " B")]
    found = measures.log_likelihoods(model, tokenizer, pairs, batch_size=2)
    for (given, text), (nats, tokens) in zip(pairs, found, strict=True):
        ids = torch.tensor([tokenizer.encode(given + text)])
        with torch.no_grad():
            scores = naive(ids).logits[0].log_softmax(-1)
        expected = sum(scores[t - 1, ids[0, t]].item() for t in range(len(given), ids.shape[1]))
        assert nats == pytest.approx(expected, abs=1e-3)
        assert tokens == len(text)


def poll_like(**fields):
    """A `Task` with the polls' scores and no questions."""
    fields = {"questions": {}, "judge": questions.grade} | fields
    aims = ("leader_accuracy", "exact_match")
    return Task("polls", scores=poll_task.SCORES, new="new", old="old", aims=aims, **fields)


TASK = poll_like()


def graded_by_hand():
    """Two systems on two facts of two questions each."""
    rows = pd.DataFrame({
        "set": "new", "fact": list("AABB"), "abstained": np.nan,
        "leader_accuracy": pd.array([True, True, False, None], dtype="boolean"),
        "exact_match": pd.array([True, False, False, False], dtype="boolean"),
        "nats": [1.0, 2.0, 3.0, np.nan], "tokens": [1.0, 1.0, 4.0, np.nan],
        "batch": 0, "seconds": 0.5,
    })  # fmt: skip
    direct = rows.assign(exact_match=pd.array([True, True, False, True], dtype="boolean"))
    base = rows.assign(exact_match=pd.array([False] * 4, dtype="boolean"))
    named = {"M": base, evaluate.DIRECT: direct, "steered": rows}
    return pd.concat([rows.assign(system=name) for name, rows in named.items()], ignore_index=True)


def test_rates_by_hand():
    table = measures.summary(graded_by_hand(), TASK)
    table = table[(table["system"] == "steered") & (table["set"] == "new")].set_index("score")
    assert table.loc["leader_accuracy", "mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert table.loc["leader_accuracy", "questions"] == 3
    assert table.loc["exact_match", "mean"] == 0.25
    # Two facts: a resample has A twice, B twice or both: rates 1/2, 0 or 1/4.
    assert table.loc["exact_match", "interval"] == [0.0, 0.5]
    # 6 nats over 6 tokens; A alone has 3 over 2, B alone 3 over 4.
    assert table.loc["perplexity", "mean"] == pytest.approx(np.e, abs=1e-4)
    assert table.loc["perplexity", "interval"] == pytest.approx(
        [np.exp(0.75), np.exp(1.5)], abs=1e-4
    )
    assert "abstained" not in table.index


def test_perplexity_of_the_impossible_is_left_out():
    graded = graded_by_hand().assign(nats=[np.inf, 1, 1, 1] * 3, tokens=1.0)
    assert "perplexity" not in set(measures.summary(graded, TASK)["score"])


def test_comparisons_by_hand():
    found = {(c["system"], c["score"]): c for c in evaluate.comparisons(graded_by_hand(), TASK)}
    gap = found["steered", "exact_match gap closed"]
    assert gap["mean"] == pytest.approx(1 / 3, abs=1e-4)  # (1/4 - 0) / (3/4 - 0)
    # A twice 1/2 of 1, B twice 0 of 1/2, both 1/3: shared resamples, or 1 / (1/2) would occur.
    assert gap["interval"] == [0.0, 0.5]
    assert found[evaluate.DIRECT, "exact_match gap closed"]["interval"] == [1.0, 1.0]
    # M is as good at leaders as M tuned directly: there is no gap.
    assert ("steered", "leader_accuracy gap closed") not in found


def test_intervals_cover_the_truth():
    """Of 200 samples of 60 facts, a 95% interval misses the true rate about 10 times."""
    draws = np.random.default_rng(0)
    misses = 0
    for seed in range(200):
        values = draws.random(60) < 0.7
        low, high = measures.interval(measures.resampled(values, range(60), seed=seed))
        misses += not low <= 0.7 <= high
    # P(more than 25 misses) is under 0.001 at a true coverage of 93%, the bootstrap's at this size.
    assert misses <= 25


def test_seeds_by_hand():
    recipes = {
        "M+": {"seed": 0, "rehearsal": 0.3},
        "M+ one": {"seed": 1, "rehearsal": 0.3},
        "M+ other": {"seed": 1, "rehearsal": 0.0},
        evaluate.DIRECT: {"seed": 2, "rehearsal": 0.3},
    }
    means = {"M+": 0.5, "M+ one": 0.7, "M+ other": 0.1, evaluate.DIRECT: 0.9}
    proxies = {"proxy-tuned M, alpha 1": 0.2, "proxy-tuned M by one": 0.3}
    scores = [
        {"system": name, "set": "new", "score": "leader_accuracy", "mean": mean}
        for name, mean in (means | proxies).items()
    ]
    experts, steered = evaluate.over_seeds(scores, recipes, alpha=1.0)
    assert experts["system"].startswith("M+, 2 seeds")
    assert (experts["mean"], experts["interval"]) == (0.6, [0.5, 0.7])
    assert (steered["mean"], steered["interval"]) == (0.25, [0.2, 0.3])


def test_variants_share_the_weights():
    base, expert, antiexpert = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(base, expert, antiexpert)
    ids = torch.randint(1, 97, (2, 6), generator=torch.Generator().manual_seed(0))
    systems = dict(evaluate.systems_of(model, 1.5, experts={"twin": expert}))
    with torch.no_grad():
        logits = {name: system(ids).logits for name, system in systems.items()}
    twice = logits["proxy-tuned M, 2 experts"]  # half of the one difference, two times
    torch.testing.assert_close(twice, logits["proxy-tuned M, alpha 1"])
    expected = logits["M"] + 1.5 * (logits["M+"] - logits["M-"])
    torch.testing.assert_close(logits["proxy-tuned M, alpha 1.5 (chosen)"], expected)
    assert logits["proxy-tuned M, plausibility 0.1"].isinf().any()
    assert systems["proxy-tuned M, adaptive alpha"].line.adaptive


def test_an_adapter_is_measured_with_and_without():
    base, small, _ = tiny_trio("gpt2")
    ids = torch.randint(1, 97, (2, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = small(ids).logits
        expert = with_adapter(small, rank=2).eval()
        for name, weight in expert.named_parameters():
            if "lora_B" in name:  # an untrained adapter changes nothing
                torch.nn.init.normal_(weight)
        systems = dict(evaluate.systems_of(ProxyTunedForCausalLM(base, expert), 1.0))
        torch.testing.assert_close(systems["M-"](ids).logits, before)
        after = systems["M+"](ids).logits
        assert not torch.allclose(after, before, atol=0.1)
        steered = systems["proxy-tuned M, alpha 1"](ids).logits
        torch.testing.assert_close(steered, base(ids).logits + after - before)
    assert systems["M-"].generate(ids, max_new_tokens=2, do_sample=False).shape == (2, 8)


def test_a_sweep_is_each_alpha_alone():
    trio = tiny_trio("gpt2")
    tokenizer = letter_tokenizer(LINES)
    rows = pd.DataFrame({
        "question": ["Who led?", "In May?"], "answer": "Bo had 1.0%.", "leader": None
    })  # fmt: skip
    model = ProxyTunedForCausalLM(*trio)
    model.generation_config.pad_token_id = model.generation_config.eos_token_id = 1
    swept = evaluate.alpha_sweep(model, tokenizer, TASK, rows, [0.0, 0.5, 2.0], batch_size=4)
    assert swept["alpha"].tolist() == [0.0, 0.5, 2.0] * 2
    for row in swept.itertuples():
        ids = torch.tensor([tokenizer.encode(prompt(row.question))])
        new = greedy(*trio, ids, row.alpha, 64)[0, ids.shape[1] :].tolist()
        new = new[: new.index(1)] if 1 in new else new
        assert row.answered == tokenizer.decode(new).strip()


def test_disagreement_is_that_of_single_texts():
    texts = ["A tie.", "Trump led by 2.0."]
    trio, tokenizer = tiny_trio("gpt2"), letter_tokenizer(LINES)
    questions = ["Who?", "Who led in May?"]
    found = measures.disagreement(ProxyTunedForCausalLM(*trio), tokenizer, questions, texts)
    for question, text, kl in zip(questions, texts, found, strict=True):
        start = len(prompt(question))  # one token is one letter
        ids = torch.tensor([tokenizer.encode(f"{prompt(question)} {text}")])
        with torch.no_grad():
            expert, antiexpert = (part(ids).logits[0, start - 1 : -1] for part in trio[1:])
        expected = torch.nn.functional.kl_div(
            antiexpert.log_softmax(-1), expert.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)
        assert len(expected) == len(text) + 1
        assert kl == pytest.approx(expected.mean().item(), rel=1e-4)


def test_a_gate_by_hand(monkeypatch):
    rows = pd.DataFrame({
        "set": ["new", "new", "old", "old"], "question": list("abcd"), "answer": "Bo led: 1.0%.",
        "leader": "Bo",
    })  # fmt: skip
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    right, wrong = "Bo led: 1.0%.", "Al led: 2.0%."
    said = {model.base: [wrong, wrong, right, right], model: [right, right, wrong, wrong]}
    kl = np.array([3.0, 1.0, 0.4, 0.2])
    monkeypatch.setattr(evaluate, "greedy_answers", lambda part, tokenizer, questions: said[part])
    monkeypatch.setattr(evaluate, "disagreement", lambda *args: kl)
    gate = evaluate.choose_gate(model, None, poll_like(choice=rows))
    assert gate == pytest.approx(0.7)
    base, steered = (questions.grade(rows, said[part]) for part in (model.base, model))
    base["seconds"], steered["seconds"] = 0.25, 1.0
    both = evaluate.gated(base, steered, kl, gate)
    assert both["answered"].tolist() == [right] * 4
    assert both["seconds"].tolist() == [1.0, 1.0, 1.25, 1.25]


def test_the_command_measures_all_rows(tmp_path, monkeypatch, capsys):
    folders = {}
    for name, seed in {"base": 1, "antiexpert": 2, "expert": 3, "direct": 4, "other": 5}.items():
        folders[name] = save_part(tmp_path / name, "gpt2", seed, LINES, positions=256)
    output = tmp_path / "results.json"
    words = [f"--{part}={folders[part]}" for part in ("base", "antiexpert", "expert", "direct")]
    words += ["--experts", folders["other"], "--limit", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "evaluate", *words])
    main()
    results = json.loads(output.read_text())
    systems = {score["system"] for score in results["scores"]}
    assert {"M", "M-", "M+", "M+ other", evaluate.DIRECT, *rules.RULES[:2]} <= systems
    assert sum(name.startswith("proxy-tuned M") for name in systems) >= 5
    assert results["questions"] == dict.fromkeys(results["questions"], 1)
    assert results["command"].startswith("python -m proxy_tuning evaluate --base=")
    assert results["data"] == poll_task.polls_task(TABLES, per_set=1).data
    printed = capsys.readouterr().out
    assert all(reports.markdown(results, report) in printed for report in reports.REPORTS["polls"])


def test_a_table_by_hand():
    score = {"system": "M", "set": "new", "score": "leader_accuracy", "mean": 0.5}
    results = {
        "scores": [
            score | {"interval": [0.25, 0.751]},
            score | {"score": "absolute_error", "mean": 1.25, "interval": [1.0, 2.5]},
            score | {"system": "M-", "set": "old", "interval": [0.25, 0.751]},
        ],
        "seeds": [],
        "task": "polls",
    }
    head, _, row, _ = reports.markdown(results).splitlines()
    cells = dict(zip(*(line.removesuffix(" |").split(" | ") for line in (head, row))))
    assert cells["2024: leader accuracy"] == "50.0% (25-75)"
    assert cells["2024: mean absolute error (points)"] == "1.25 (1-2.5)"
    assert cells["before: leader accuracy"] == "-"
    assert "before: exact match" not in head
    assert reports.markdown(results, "gap") == ""


def test_the_headline_by_hand():
    score = {"set": "new", "score": "exact_match", "mean": 0.5, "interval": [0.25, 0.751]}
    names = ["always the leading party", "M", "M-", "M+", "M tuned directly",
             "proxy-tuned M, alpha 1", "proxy-tuned M, adaptive alpha", "M+ seed1",
             "proxy-tuned M by seed1", "proxy-tuned M, 3 experts"]  # fmt: skip
    scores = [score | {"system": name} for name in names]
    scores.append(score | {"system": "M+", "set": "old", "score": "leader_accuracy kept"})
    results = {"alpha": 1.0, "scores": scores, "seeds": []}
    lines = [line.strip("| ").split(" | ") for line in reports.headline(results).splitlines()]
    assert [line[0] for line in lines[2:]] == [*names[1:6], names[9]]
    assert len(lines[2]) == 5
    assert lines[4] == ["M+", "50.0% (25-75)", "-", "-", "50.0% (25-75)"]


def test_the_page_has_every_results_file(tmp_path):
    score = {
        "system": "M",
        "set": "new",
        "score": "leader_accuracy",
        "mean": 0.5,
        "interval": [0, 1],
    }
    results = {
        "command": "python -m proxy_tuning evaluate", "task": "polls", "split": "test",
        "alpha": 1.0,
        "chosen_alpha": 0.75, "machine": machine(), "scores": [score], "seeds": [],
        "recipes": {
            "M+": {"seed": 0, "rehearsal": 0.3, "epochs": 1}, "M+ bare": {"seed": 0, "epochs": 1},
            "M+ other": None,
        },
    }  # fmt: skip
    (tmp_path / "pocket.json").write_text(json.dumps(results))
    (tmp_path / "speed.json").write_text(json.dumps({"command": "another"}))
    page = reports.page(tmp_path)
    assert "- M+: rehearsal 0.3\n- M+ bare: rehearsal None\n\n" in page
    assert page.count("\n## ") == 1 and "0.75" in page and results["command"] in page
    assert all(reports.markdown(results, report) in page for report in reports.REPORTS["polls"])


def test_the_page_is_in_step_with_the_files():
    assert (ROOT / "results" / "README.md").read_text(encoding="utf-8") == reports.page()


def test_results_are_whole_json(tmp_path):
    path = tmp_path / "deep" / "table.json"
    write_json(path, {"a": 1, "machine": machine()})
    assert json.loads(path.read_text())["a"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]


def test_the_readme_says_what_the_results_file_says():
    results = json.loads((ROOT / "results" / "pocket.json").read_text())
    assert reports.headline(results) in (ROOT / "README.md").read_text()
    assert results["data"] == poll_task.polls_task(TABLES, per_set=1).data


def test_all_2024_facts_of_the_recipe_are_asked_about():
    facts = make_facts(TABLES, [2024], RECIPES["pocket"].states)
    asked = poll_task.question_sets(FACTS)
    assert len(asked[asked["set"] == "new"]) == (facts["status"] == "known").sum()
