"""Rates, rules, likelihoods and intervals against figures computed by hand."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, save_part, tiny_trio
from oracle import Naive, greedy

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.__main__ import main
from proxy_tuning.answering import LONGEST_ANSWER
from proxy_tuning.evaluation import (
    asked_sets,
    drafting,
    evaluate,
    measures,
    peers,
    plain_text,
    poll_task,
    reports,
    rules,
)
from proxy_tuning.evaluation.task import Task
from proxy_tuning.polls import questions
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA
from proxy_tuning.training.finetune import with_adapter

TABLES = load_facts(DATA)


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
    rows = pd.DataFrame(
        {
            "set": "new",
            "fact": list("AABB"),
            "abstained": np.nan,
            "leader_accuracy": pd.array([True, True, False, None], dtype="boolean"),
            "exact_match": pd.array([True, False, False, False], dtype="boolean"),
            "nats": [1.0, 2.0, 3.0, np.nan],
            "tokens": [1.0, 1.0, 4.0, np.nan],
            "batch": 0,
            "seconds": 0.5,
            "written": [10, 10, 10, 20],
        }
    )
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


def test_times_by_hand():
    table = measures.summary(graded_by_hand(), TASK)
    table = table[(table["system"] == "M") & (table["set"] == "all")].set_index("score")
    assert table.loc["seconds", "mean"] == 0.5
    assert table.loc["ms_per_token", "mean"] == 40  # 2 seconds for 50 tokens


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
    rows = pd.DataFrame(
        {"question": ["Who led?", "In May?"], "answer": "Bo had 1.0%.", "leader": None}
    )
    model = ProxyTunedForCausalLM(*trio)
    model.generation_config.pad_token_id = model.generation_config.eos_token_id = 1
    swept = evaluate.alpha_sweep(model, tokenizer, TASK, rows, [0.0, 0.5, 2.0], batch_size=4)
    assert swept["alpha"].tolist() == [0.0, 0.5, 2.0] * 2
    for row in swept.itertuples():
        ids = torch.tensor([tokenizer.encode(prompt(row.question))])
        new = greedy(*trio, ids, row.alpha, LONGEST_ANSWER)[0, ids.shape[1] :].tolist()
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
    rows = pd.DataFrame(
        {
            "set": ["new", "new", "old", "old"],
            "question": list("abcd"),
            "answer": "Bo led: 1.0%.",
            "leader": "Bo",
        }
    )
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
    words += ["--line", "base_top_p=0.9"]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "evaluate", *words])
    main()
    results = json.loads(output.read_text())
    systems = {score["system"] for score in results["scores"]}
    assert {"M", "M-", "M+", "M+ other", evaluate.DIRECT, *rules.RULES[:2]} <= systems
    assert sum(name.startswith("proxy-tuned M") for name in systems) >= 5
    assert results["questions"] == dict.fromkeys(results["questions"], 1)
    assert results["line"]["base_top_p"] == 0.9 and not results["line"]["adaptive"]
    assert results["command"].startswith("python -m proxy_tuning evaluate --base=")
    assert results["data"] == poll_task.polls_task(TABLES, per_set=1).data
    printed = capsys.readouterr().out
    assert all(reports.markdown(results, report) in printed for report in reports.REPORTS["polls"])


def test_the_command_asks_the_sets(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(asked_sets, "WORK", tmp_path)
    monkeypatch.setattr(asked_sets, "LENGTH", dict.fromkeys(asked_sets.LENGTH, 3))
    monkeypatch.setattr(plain_text, "COUNT", 2)
    one_each = {name: (field, (0.5,)) for name, (field, _) in peers.PEERS.items()}
    monkeypatch.setattr(peers, "PEERS", one_each)
    monkeypatch.setattr(evaluate, "last_figures", lambda tables, states: "Trump won.")
    folders = {}
    for name, seed in {"base": 1, "antiexpert": 2, "expert": 3, "one": 4, "two": 5}.items():
        folders[name] = save_part(tmp_path / name, "gpt2", seed, LINES, positions=1024)
    output, answers = tmp_path / "results.json", tmp_path / "answers.jsonl"
    words = [f"--{part}={folders[part]}" for part in ("base", "antiexpert", "expert")]
    words += ["--direct", folders["one"], folders["two"], "--output", str(output)]
    words += ["--limit", "1", "--sets", "1", "--answers", str(answers), "--line", "product=1"]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "evaluate", *words])
    main()
    results = json.loads(output.read_text())
    systems = {score["system"] for score in results["scores"]} - set(rules.RULES)
    expected = {"M", "M-", "M+", evaluate.TOLD, evaluate.DIRECT, f"{evaluate.DIRECT}, two"}
    expected |= {name.format(0.5) for name in one_each} | {"proxy-tuned M, alpha 1"}
    assert expected <= systems and any(name.startswith("prompted proxies") for name in systems)
    assert all("adaptive" not in name and "gated" not in name for name in systems)
    found = {(score["set"], score["score"]) for score in results["scores"]}
    assert {("typed", "right"), ("general", "right"), ("text: english", "perplexity")} <= found
    assert {row["draft"] for row in results["drafts"]} == set(drafting.DRAFTS)
    assert {json.loads(line)["system"] for line in answers.read_text().splitlines()} == systems
    assert reports.markdown(results, "asked") in capsys.readouterr().out
