"""What people see of a question and its answers: nothing typed or generated is markup."""

import base64
import csv
import io
import json
import re
from html import unescape

import pytest
import torch
from stand_in import OCTOBER, ask, facts_of, stand_in

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.widget import export, html
from proxy_tuning.widget.asking import BINS, TOP, Ask, Choice


def test_sweep_marks_changed_words():
    texts = ["Trump led by 2.0 points."] * 4 + ["Harris led by 2.0 points."] * 5
    page = html.sweep(Ask(OCTOBER), texts, *facts_of(OCTOBER), done=True)
    assert page.count("<mark>") == 1 and "<mark>Harris</mark> led by" in page
    assert page.count(">same</td>") == 7 and page.count(">1 changed</td>") == 1


def test_text_is_never_markup():
    story = ask()
    story.texts = dict.fromkeys(HISTORIES, "<script>alert(1)</script> 5.0 <b>")
    for page in (
        html.answers(story),
        html.status("<script> <b>"),
        html.sweep(Ask("<script> <b> me"), ["<script> <b>"] * 9, story.asked, story.facts, True),
    ):
        assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page


def test_tokens_are_never_markup():
    tokenizer = stand_in()[1]
    story = ask()
    tag = tokenizer.convert_tokens_to_ids("<")
    story.choices[0] = Choice(tag, [0.0] * 4, torch.full((4, 10), tag), torch.zeros(4, 10))
    page = html.tokens(story, tokenizer) + html.predictions(story, 0, tokenizer)
    assert len(re.findall(r"&lt;", page)) >= 42
    assert not re.search(
        r"<(?!/?(?:section|h[23]|p|ul|li|span|div|button|table|caption|small|"
        r"thead|tr|th|tbody|td|strong)\b)",
        page,
    )


def test_marks_leave_the_answer_as_it_was_said():
    """Without the signs and the words for screen readers, to the last blank."""
    story = ask(OCTOBER)
    said = "In 2024, Harris had 47.8%,  Trump had 50.0% of 17 states; <5 & >3."
    story.texts = dict.fromkeys(HISTORIES, said)
    for shown in re.findall(r'<p class="pt-answer">(.*?)</p>', html.answers(story), re.DOTALL):
        assert shown.count("pt-mark") == 6
        shown = re.sub(r'<span (aria-hidden|class="pt-hidden").*?</span>', "", shown)
        assert unescape(re.sub("<.*?>", "", shown)) == said


def test_marks_do_not_rest_on_colour():
    story = ask(OCTOBER)
    story.texts["steered"] = "Harris had 47.8%, Trump had 50.0% of 17 states."
    page = html.answers(story)
    for sign, word in (("\u2713", "right"), ("\u2717", "wrong"), ("?", "not checkable")):
        assert f">{sign}<" in page and f" ({word}:" in page


def test_facts_are_told_apart_from_the_models():
    page = html.facts(*facts_of("Who led in PA last October?"))
    assert "Harris 47.8%" in page and "Trump 47.7%" in page and "53 polls" in page
    assert "not from any model" in page and "Read as: polls of October 2024 in Pennsylvania" in page


@pytest.mark.parametrize(
    "question, places",
    [
        (OCTOBER, {"circle": 28, "rect": 28, "asked": 1}),  # 27 months and one in the legend
        ("How did the national polls move from May 2024 to July 2024?", {"asked": 2}),
        ("Who won Ohio in 2020?", {"asked": 0}),
        ("Who led in Delaware in September 2024?", {"asked": 1}),
    ],
)
def test_trend_is_plotted(question, places):
    asked, facts = facts_of(question)
    page = html.trend(asked, facts.trend)
    assert page.count('class="pt-asked"') == places.pop("asked")
    for shape, number in places.items():
        assert page.count(f"<{shape} ") == number
    at = re.findall(r'translate\(([-\d.]+) ([-\d.]+)\)|<text x="([-\d.]+)" y="([-\d.]+)"', page)
    across, down = zip(*((float(a or c), float(b or d)) for a, b, c, d in at), strict=True)
    assert 0 <= min(across) <= max(across) <= 400 and 0 <= min(down) <= max(down) <= 230
    for share in facts.trend["democrat_pct"]:
        assert f"{share:.1f}%" in page


def test_a_lone_month_is_plotted():
    asked, facts = facts_of(OCTOBER)
    page = html.trend(asked, facts.trend.iloc[-1:])
    assert "nan" not in page and page.count("<circle") == 2


def test_tokens_can_be_chosen_without_colour_or_mouse():
    story = ask()
    page = html.tokens(story, stand_in()[1])
    assert page.count("<button") == len(story.choices) == page.count("data-token=")
    assert page.count('aria-pressed="true"') == 1
    for i, (_, sign, words) in enumerate(BINS):
        assert f'pt-bin{i}">{sign or "="}</span>{words}' in page
    changed = sum(choice.turned for choice in story.choices)
    assert changed and page.count(">◆") + page.count("\u00a0◆") == changed


def test_predictions_are_bars_and_numbers():
    story = ask()
    page = html.predictions(story, 3, stand_in()[1])
    assert page.count("<table>") == 4 and page.count("<tr") == 4 * (1 + TOP)
    top = 100 * story.choices[3].top_scores[0, 0].exp()
    assert f'style="width:{top:.1f}%"' in page and f"<td>{top:.1f}%</td>" in page


def test_export_holds_the_whole_story():
    tokenizer = stand_in()[1]
    story = ask(alpha=0.5)
    record = export.story_record(story, tokenizer, "stand-in")
    links = dict(
        re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', html.export(record))
    )
    kept = json.loads(base64.b64decode(links["answer.json"]))
    assert kept == record and kept["steered"] == story.texts["steered"] and kept["alpha"] == 0.5
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(links["answer.csv"]).decode())))
    assert "".join(line["token"] for line in lines).strip().removesuffix("(end)") == kept["steered"]
    for line, choice in zip(lines, story.choices, strict=True):
        assert float(line["change"]) == pytest.approx(choice.change, abs=1e-4)
