"""Every token's figures against whole passes of the three models; tables and figures by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, tiny_trio
from matplotlib.colors import to_rgba

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.answering import answer_questions
from proxy_tuning.decoding import HISTORIES
from proxy_tuning.evaluation import analysis, plots
from proxy_tuning.evaluation.poll_task import all_facts
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA

TABLES = load_facts(DATA)


@pytest.fixture(scope="module")
def words():
    return analysis.word_classes(all_facts(TABLES, ["Ohio", "National"]))


def test_classes_by_hand(words):
    pieces = [
        "In",
        " the",
        " United",
        " States",
        " in",
        " May",
        " 2",
        "024",
        ",",
        " Mc",
        "Cain",
        " had",
        " 41",
        ".",
        "5",
        "%",
        ".",
    ]
    expected = [
        "function word",
        "place",
        "place",
        "place",
        "function word",
        "date",
        "date",
        "date",
        "function word",
        "candidate",
        "candidate",
        "function word",
        "number",
        "number",
        "number",
        "number",
        "function word",
    ]
    assert analysis.classes_of(pieces, words) == expected


@pytest.fixture(scope="module")
def watched(words):
    """(trio, model, tokenizer, questions, answers, tokens) of a random trio."""
    trio = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(*trio, alpha=0.7)
    tokenizer = letter_tokenizer(LINES)
    rows = pd.DataFrame(
        {
            "question": ["Who led in Ohio?", "Who?", "In May?"],
            "set": "new",
            "leader": None,
            "answer": "In Ohio, Trump had 1.0%.",
        }
    )
    answers, tokens = analysis.watch(model, tokenizer, rows, words, max_new_tokens=24, batch_size=2)
    return trio, model, tokenizer, rows, answers, tokens


def test_watching_changes_no_answer(watched):
    _, model, tokenizer, rows, answers, tokens = watched
    told = answer_questions(model, tokenizer, rows["question"].tolist(), max_new_tokens=24)
    for name in HISTORIES:
        assert answers[name].tolist() == [each[name] for each in told]
    for row, text in enumerate(answers["steered"]):
        assert "".join(tokens.loc[tokens["row"] == row, "token"]).strip() == text


def test_tokens_are_what_whole_passes_say(watched):
    trio, _, tokenizer, rows, answers, tokens = watched
    assert tokens["changed"].any() and not tokens["changed"].all()
    for row, question in enumerate(rows["question"]):
        of_row = tokens[tokens["row"] == row].reset_index(drop=True)
        text = "".join(of_row["token"])
        ids = tokenizer.encode(prompt(question)) + tokenizer.encode(text)
        start = len(tokenizer.encode(prompt(question)))
        with torch.no_grad():
            base, expert, antiexpert = (part(torch.tensor([ids])).logits[0] for part in trio)
        steered = base + 0.7 * (expert - antiexpert)
        for token in of_row[of_row["kind"] != "end"].itertuples():
            at, chosen = start + token.step - 1, ids[start + token.step]
            assert token.base == pytest.approx(base[at].softmax(-1)[chosen].item(), abs=1e-4)
            assert token.steered == pytest.approx(steered[at].softmax(-1)[chosen].item(), abs=1e-4)
            assert token.changed == (base[at].argmax() != chosen).item()
            kl = torch.nn.functional.kl_div(
                antiexpert[at].log_softmax(-1),
                expert[at].log_softmax(-1),
                reduction="sum",
                log_target=True,
            )
            assert token.kl == pytest.approx(kl.item(), rel=1e-3, abs=1e-3)
        assert answers["kl"][row] == pytest.approx(of_row["kl"].mean())


TOKENS = pd.DataFrame(
    {
        "row": [0, 0, 0, 1, 1],
        "step": [0, 1, 2, 0, 1],
        "token": [" Trump", " 4", "", " Biden", ""],
        "kind": ["candidate", "number", "end", "candidate", "end"],
        "base": [0.1, 0.5, 0.9, 0.6, 0.9],
        "steered": [0.9, 0.5, 0.9, 0.2, 0.9],
        "changed": [True, False, False, False, False],
        "kl": [1.0, 0.0, 0.0, 2.0, 0.0],
    }
)


def test_tables_of_tokens_by_hand():
    table = analysis.by_class(TOKENS)
    assert table.index.tolist() == ["number", "candidate"]
    assert table.loc["candidate"].tolist() == pytest.approx([2, 0.2, 0.5])
    assert analysis.by_step(TOKENS).to_dict() == {0: 0.5, 1: 0.0}


ANSWERS = pd.DataFrame(
    {
        "set": "new",
        "base_right": pd.array([True, False, False, True, True, None], dtype="boolean"),
        "expert_right": pd.array([True, True, True, False, False, None], dtype="boolean"),
        "steered_right": pd.array([True, True, False, False, False, None], dtype="boolean"),
        "kl": [1.0, 3.0, 2.0, 1.0, 2.0, 9.0],
    }
)


def test_cases_by_hand():
    table = analysis.by_case(ANSWERS).loc["new"]
    assert table["questions"].to_dict() == {"both right": 1, "only M+ right": 2, "only M right": 2}
    assert table.loc["only M+ right"].tolist() == [2, 2.5, 0.5]
    # 3 > 1, 3 > 2, 2 > 1, and 2 ties with 2
    assert analysis.kl_tells(ANSWERS) == pytest.approx(3.5 / 4)
    assert np.isnan(analysis.kl_tells(ANSWERS[:3]))


def test_both_worlds_say_what_the_tables_say():
    rows = analysis.both_worlds(TABLES, ["Ohio", "Pennsylvania", "National"])
    assert len(rows) >= 6
    monthly = TABLES["monthly"].set_index(["cycle", "state", "month", "democrat"])
    row = rows[rows["question"].str.contains("October 2024 poll better in Pennsylvania")].iloc[0]
    share = monthly["democrat_pct"]
    assert row["new"] == share[2024, "Pennsylvania", "2024-10", "Harris"]
    assert row["old"] == share[2020, "Pennsylvania", "2020-10", "Biden"]
    assert row["yes"] == (row["new"] > row["old"])
    assert (
        row["new_question"].replace("Harris", "Biden").replace("2024", "2020")
        == (row["old_question"])
    )


def test_answers_to_both_worlds_by_hand(monkeypatch):
    rows = pd.DataFrame(
        {
            "question": ["?", "??"],
            "new_question": ["n", "nn"],
            "old_question": ["o", "oo"],
            "new": [40.0, 41.0],
            "old": [50.0, 51.0],
        }
    )
    said = {
        "?": "Harris had 40.0% and Biden 50.0%.",
        "??": "Biden had 51.0%.",
        "n": "40.0%",
        "nn": "41.5%",
        "o": "50.0%",
        "oo": "51.0%",
    }
    monkeypatch.setattr(
        analysis,
        "answer_questions",
        lambda model, tokenizer, questions, alpha: [
            dict.fromkeys(HISTORIES, said[q]) | {"question": q} for q in questions
        ],
    )
    table, answers = analysis.answer_both_worlds(None, None, rows)
    assert table.loc["steered"].tolist() == [0.5, 1.0, 0.5, 1.0, 0.5]
    assert answers["base"].tolist() == [said["?"], said["??"]]


def test_figures_show_the_tables():
    swept = pd.DataFrame(
        {
            "alpha": [0.0, 0.0, 1.0, 1.0] * 2,
            "set": ["new"] * 4 + ["old"] * 4,
            "leader_accuracy": pd.array([True, False, True, None] * 2, dtype="boolean"),
            "exact_match": pd.array([False, False, True, False] * 2, dtype="boolean"),
        }
    )
    leaders, numbers = plots.alpha_tradeoff(swept).axes
    assert leaders.lines[0].get_ydata().tolist() == [50, 100]
    assert numbers.lines[0].get_ydata().tolist() == [0, 50]
    gain, changed = plots.steering_by_class(analysis.by_class(TOKENS)).axes
    assert [bar.get_width() for bar in gain.patches] == pytest.approx([0, 0.2])
    assert [bar.get_width() for bar in changed.patches] == pytest.approx([0, 50])
    bars = plots.changed_by_step(analysis.by_step(TOKENS)).axes[0].patches
    assert [bar.get_height() for bar in bars] == [50, 0]
    figure = plots.kl_by_case(ANSWERS)
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    points = figure.axes[0].collections
    assert sum(len(each.get_offsets()) for each in points) == 5


def test_coloured_text_diverges_from_white():
    tokens = TOKENS[TOKENS["row"] == 0].assign(row=0)
    axes = plots.coloured_text(tokens, "Who?", width=8).axes[0]
    assert [text.get_text() for text in axes.texts] == [" Trump", " 4"]
    assert [text.get_weight() for text in axes.texts] == ["bold", "normal"]
    up, same = (np.array(to_rgba(patch.get_facecolor())) for patch in axes.patches)
    assert same[:3].min() > 0.95 and up[2] > up[0] + 0.1  # white, and violet
    down = plots.coloured_text(tokens.assign(base=1.0, steered=0.2), "Who?").axes[0].patches[0]
    assert down.get_facecolor()[0] > down.get_facecolor()[2] + 0.4  # orange
