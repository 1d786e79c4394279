"""What people see of a question and its answers: nothing typed or generated is markup."""

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace
from html import unescape

import pandas as pd
import pytest
import torch
from stand_in import OCTOBER, POLLS, ask, stand_in

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.polls.elections import month_name
from proxy_tuning.widget import chart, export, html
from proxy_tuning.widget.asking import Ask
from proxy_tuning.widget.stories import BINS, TOP, Choice
from proxy_tuning.widget.topics import Found, Rows

NASTY = Found(
    **dict.fromkeys(("understood", "page", "missing"), "<script> <b>"),
    near=("<script> <b> \"'",),
    pairs=(("<script> <b>", "<script> <b>"),),
)


def test_sweep_marks_changed_words():
    texts = ["Trump led by 2.0 points."] * 4 + ["Harris led by 2.0 points."] * 5
    page = html.sweep(Ask(OCTOBER), POLLS, POLLS.find(OCTOBER), texts, done=True)
    assert page.count("<mark>") == 1 and "<mark>Harris</mark> led by" in page
    assert page.count(">same</td>") == 7 and page.count(">1 changed</td>") == 1


def test_text_is_never_markup():
    story = ask()
    story.texts = dict.fromkeys(HISTORIES, "<script>alert(1)</script> 5.0 <b>")
    for page in (
        html.answers(story),
        html.status("<script> <b>"),
        html.sweep(Ask("<script> <b> me"), POLLS, story.found, ["<script> <b>"] * 9, True),
        html.history([Ask('<script> <b> "me')]),
        html.compare([Ask("<script> <b> me")] * 2, POLLS, story.found, ["<script> <b>"] * 2, True),
        html.facts(POLLS, NASTY),
        html.export({"tokens": []}, '?q=<script> <b>"'),
    ):
        assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page


def test_tokens_are_never_markup():
    tokenizer = stand_in()[1]
    story = ask()
    tag = tokenizer.convert_tokens_to_ids("<")
    nasty = Choice(tag, [0.0] * 4, torch.full((4, 10), tag), torch.zeros(4, 10), torch.zeros(3, 97))
    story.choices[0], story.place = nasty, 0
    page = html.tokens(story, tokenizer) + html.predictions(story, nasty, 1.0, None, tokenizer)
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
        assert shown.count("pt-mark") == 5  # a year is no figure
        shown = re.sub(r'<span (aria-hidden|class="pt-hidden").*?</span>', "", shown)
        assert unescape(re.sub("<.*?>", "", shown)) == said


def test_marks_do_not_rest_on_colour():
    story = ask(OCTOBER)
    story.texts["steered"] = "Harris had 47.8%, Trump had 50.0% of 17 states."
    page = html.answers(story)
    for sign, word in (("\u2713", "right"), ("\u2717", "wrong"), ("?", "not checkable")):
        assert f">{sign}<" in page and f" ({word}:" in page


def test_facts_are_told_apart_from_the_models():
    page = html.facts(POLLS, POLLS.find("Who led in PA last October?"))
    assert "Harris 47.8%" in page and "Trump 47.7%" in page and "53 polls" in page
    assert "not from any model" in page and "Read as: polls of October 2024 in Pennsylvania" in page


@pytest.mark.parametrize(
    "question, marks",
    [
        (OCTOBER, 1),
        ("How did the national polls move from May 2024 to July 2024?", 2),
        ("Who won Ohio in 2020?", 0),
        ("Who won Florida in 2012?", 0),  # published averages, without counts of polls
        ("Who led in Delaware in September 2024?", 1),
    ],
)
def test_trend_is_drawn(question, marks):
    found = POLLS.find(question)
    months = found.trend
    page = html.facts(POLLS, found)
    for share in months["democrat_pct"]:
        assert f"{share:.1f}%" in page
    for size in chart.drawings(found.asked, months):
        assert len(size.points) == 2 * len(months) and len(size.asked) == marks
        for point in size.points:
            assert 0 < point["x"] - point["r"] and point["x"] + point["r"] < size.width
            assert 0 < point["y"] - point["r"] and point["y"] + point["r"] < size.height - 40
        across = [point["x"] for point in size.points]
        if len(months) > 6:  # the drawing uses its width, half a month at each end included
            steps = len(months["month"].unique()) - 1
            assert (max(across) - min(across)) * (steps + 1) / steps > 0.8 * size.width
        for labels in (size.months, size.years):
            at = [x for _, x in labels]
            assert all(b - a >= 28 for a, b in zip(at, at[1:], strict=False))


def test_the_drawing_says_what_it_rests_on():
    """The nation in the election of 2024: gaps, few polls and two match-ups in July, by hand."""
    found = POLLS.find("Who led the national polls in October 2024?")
    months = found.trend.reset_index(drop=True)
    pairs = chart.match_ups(months)
    assert pairs == [("Biden", "Trump"), ("Harris", "Trump")]
    drawn = chart.drawing("wide", 960, 300, found.asked, months)
    by_title = {point["title"]: point for point in drawn.points}
    for row in months.itertuples():
        words = f"{row.democrat} {row.democrat_pct:.1f}%, {row.polls:.0f} poll"
        start = f"{month_name(row.month)}: {words}"
        (point,) = (point for title, point in by_title.items() if title.startswith(start))
        assert point["faint"] == (row.polls < 3) and point["hollow"] == (row.democrat == "Harris")
        size = 2 + 4.5 * (row.polls / months["polls"].max()) ** 0.5
        assert point["r"] == pytest.approx(size, abs=0.06)
    july = {
        point["x"]
        for title, point in by_title.items()
        if title.startswith(("July 2024: Biden", "July 2024: Harris"))
    }
    assert len(july) == 2
    for line, pair in zip(drawn.lines[::2], pairs, strict=True):
        of = months[months["democrat"] == pair[0]]["month"].tolist()
        counted = [int(m[:4]) * 12 + int(m[5:]) for m in of]
        gaps = sum(b - a != 1 for a, b in zip(counted, counted[1:], strict=False))
        assert line["d"].count("M") == 1 + gaps and line["d"].count("L") == len(of) - 1 - gaps


def test_a_lone_month_is_drawn():
    found = POLLS.find(OCTOBER)
    page = html.trend(found.asked, found.trend.iloc[-1:])
    assert "nan" not in page and page.count("<circle") == 3  # two sizes and the legend


@pytest.mark.parametrize(
    "question, wording",
    [
        ("who led PA oct 24?", "Who led the polls in Pennsylvania in October 2024?"),
        ("who won pennsylvania?", "Who won Pennsylvania in 2024?"),
        ("How did polls in Ohio move from May 2024 to June 2024?", ""),
        ("Hello", ""),
    ],
)
def test_a_question_in_a_trained_wording(question, wording):
    assert POLLS.find(question).wording == wording


def test_what_lies_outside_has_no_tick_but_questions_near_to_it():
    found = POLLS.find("who won the iowa caucus in 2024")
    said = "In Iowa in 2024, Trump won: Harris got 42.7% and Trump 56.0% of the votes."
    assert not found.facts and len(found.near) == 3
    assert all(piece.mark != "right" for piece in POLLS.mark(said, found))
    page = html.facts(POLLS, found)
    assert page.count('data-event="submit"') == 3 and "<svg" not in page
    for near in found.near:
        assert POLLS.find(near).facts


def test_the_page_answers_what_is_asked_of_it():
    found = POLLS.find("What is proxy-tuning?")
    assert found.page and f"This page says:</strong> {found.page[:20]}" in html.facts(POLLS, found)


def test_rows_of_a_readers_own():
    rows = pd.DataFrame(
        {
            "question": ["When does the bakery open?", "Who bakes the bread?", None],
            "answer": ["At six.", "Ann <b>does</b>.", "A passage."],
        }
    )
    topic = Rows(rows)
    found = topic.find("who bakes?")
    assert found.pairs[0] == ("Who bakes the bread?", "Ann <b>does</b>.")
    assert topic.verdict("Ann  <b>does</b>.", found) and not topic.verdict("Bob.", found)
    page = html.facts(topic, found)
    assert "&lt;b&gt;does" in page and "<svg" not in page and "polls" not in page.lower()
    assert topic.find("zebra").missing and not topic.find("zebra").pairs
    assert [example.question for example in topic.examples] == rows["question"][:2].tolist()
    assert "no questions" in Rows(rows.iloc[2:]).find("who?").missing


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
    page = html.predictions(story, story.choices[3], 1.0, None, stand_in()[1])
    assert page.count("<table>") == 4 and page.count("<tr") == 4 * (1 + TOP)
    top = 100 * story.choices[3].top_scores[0, 0].exp()
    assert f'style="width:{top:.1f}%"' in page and f"<td>{top:.1f}%</td>" in page


def test_how_far_fine_tuning_moved_a_token_and_what_a_gate_makes_of_it():
    """M+ (3/4, 1/4) from M- (1/4, 3/4): 3/4 ln 3 - 1/4 ln 3 = 0.549 nats."""
    story, choice = ask(), ask().choices[3]
    parts = torch.full((3, choice.parts.shape[1]), -1e4)
    parts[:, :2] = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]).log()
    choice = replace(choice, parts=parts)
    assert choice.moved == pytest.approx(math.log(3) / 2, rel=1e-5)
    for gate, said in ((None, False), (0.5, False), (0.6, True)):
        page = html.predictions(story, choice, 1.0, gate, stand_in()[1])
        assert "0.55 nats here" in page
        assert ("less than the gate of 0.6: M alone decides" in page) == said


def test_export_holds_the_whole_story():
    tokenizer = stand_in()[1]
    story = ask(alpha=0.5)
    record = export.story_record(story, tokenizer, "stand-in")
    links = dict(
        re.findall(
            r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', html.export(record, "?q=Who")
        )
    )
    kept = json.loads(base64.b64decode(links["answer.json"]))
    assert kept == record and kept["steered"] == story.texts["steered"] and kept["alpha"] == 0.5
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(links["answer.csv"]).decode())))
    assert "".join(line["token"] for line in lines).strip().removesuffix("(end)") == kept["steered"]
    for line, choice in zip(lines, story.choices, strict=True):
        assert float(line["change"]) == pytest.approx(choice.change, abs=1e-4)
