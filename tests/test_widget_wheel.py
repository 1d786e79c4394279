"""Taking the wheel: other tokens and other alphas, against whole passes of each model alone."""

import pytest
import torch
from stand_in import LENGTH, QUESTION, ask, stand_in

from proxy_tuning.polls.tables import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA
from proxy_tuning.widget import desk, export, html, stories
from proxy_tuning.widget.topics import topic_of


def greedy(ids, alpha, length):
    """The steered text after token ids, whole passes without caches; ends with end-of-text."""
    model, tokenizer = stand_in()
    new = []
    while len(new) < length and tokenizer.eos_token_id not in new:
        text = torch.tensor([ids + new])
        with torch.no_grad():
            base, expert, antiexpert = (
                part(text).logits[0, -1] for part in (model.base, model.expert, model.antiexpert)
            )
        new.append(int((base + alpha * (expert - antiexpert)).argmax()))
    return new


def forked(story, place, token, alpha=1.0):
    story.place = place
    *_, same = stories.fork(*stand_in(), story, token, alpha)
    assert same is story
    return story.branches[-1]


@pytest.mark.parametrize("place, alpha", [(0, 1.0), (3, 1.0), (3, 0.25), (LENGTH - 1, 2.0)])
def test_the_text_goes_on_from_a_chosen_token(place, alpha):
    tokenizer = stand_in()[1]
    story = ask()
    before = [choice.token for choice in story.choices]
    token = int(story.choices[place].top_ids[1, 4])
    branch = forked(story, place, token, alpha)
    ids = [choice.token for choice in branch.choices]
    given = tokenizer(prompt(QUESTION))["input_ids"] + before[:place] + [token]
    assert ids == [*before[:place], token, *greedy(given, alpha, LENGTH - place - 1)]
    assert [choice.token for choice in story.choices] == before
    assert [choice.forced for choice in branch.choices] == [i == place for i in range(len(ids))]
    assert (branch.parent, branch.at, branch.alpha, story.shown) == (0, place, alpha, 1)


def test_a_branch_of_a_branch():
    story = ask()
    first = forked(story, 5, int(story.choices[5].top_ids[0, 2]))
    second = forked(story, 2, int(first.choices[2].top_ids[0, 3]), alpha=0.5)
    assert second.parent == 1 and second.choices[:2] == first.choices[:2]
    assert not second.choices[3].forced
    third = forked(story, 4, int(second.choices[4].top_ids[0, 1]))
    assert [c.forced for c in third.choices[:5]] == [False, False, True, False, True]


def test_an_end_that_is_chosen_ends():
    story = ask()
    branch = forked(story, 4, stand_in()[1].eos_token_id)
    assert len(branch.choices) == 5
    assert html.pieces(branch, stand_in()[1])[-1] == ("(end)", "forced")


@pytest.mark.parametrize("alpha", [0.0, 0.4, 3.0])
def test_another_alpha_from_logits_already_there(alpha):
    """Against an answer that was written with that alpha, at its first token."""
    other = ask(alpha=alpha).choices[0]
    moved = ask(alpha=1.0).choices[0].at(stand_in()[0], alpha)
    torch.testing.assert_close(moved.top_scores[3], other.top_scores[3], rtol=1e-4, atol=1e-4)
    assert moved.top_ids[3].tolist() == other.top_ids[3].tolist()
    assert not moved.forced


def test_what_cannot_be_taken():
    story = ask()
    for token, alpha, message in (
        (-1, 1.0, "no such token"),
        (10**6, 1.0, "no such token"),
        (3, 4.0, "alpha needs"),
        (3, float("nan"), "alpha needs"),
    ):
        with pytest.raises(ValueError, match=message):
            forked(story, 1, token, alpha)
    assert len(story.branches) == 1 and story.shown == 0
    for _ in range(stories.LIMIT - 1):
        forked(story, LENGTH - 1, 5)
    with pytest.raises(ValueError, match="12 branches already"):
        forked(story, 1, 5)


def test_branches_are_shown_and_kept():
    tokenizer = stand_in()[1]
    story = ask()
    assert html.branches(story, tokenizer) == ""
    tag = tokenizer.convert_tokens_to_ids("<")
    forked(story, 3, tag, alpha=0.5)
    page = html.branches(story, tokenizer)
    assert page.count("<article") == 2 and 'class="pt-forced">&lt;</span>' in page
    assert 'data-event="back"' in page and 'data-branch="0"' in page
    kept = export.story_record(story, tokenizer, "stand-in")["branches"]
    assert [branch["alpha"] for branch in kept] == [1.0, 0.5]
    assert kept[0]["text"] == story.texts["steered"] and kept[1]["at"] == 3
    text = "".join(text for text, _ in html.pieces(story.branches[1], tokenizer))
    assert text.removesuffix("(end)").strip() == kept[1]["text"]


def test_the_first_that_the_page_shows_of_a_branch_are_its_own_tokens():
    """A token pressed while the branch grows is then one of the branch."""
    own = desk.Desk(*stand_in(), "stand-in", topic_of(load_facts(DATA)))
    story = ask()
    story.place, before = 2, html.tokens(story, own.tokenizer)
    token = int(story.choices[2].top_ids[1, 4])
    shown = [
        update["why"]
        for update in own.page_take(story, 1.0, {"token": str(token)})
        if "why" in update
    ]
    assert [page.count('aria-pressed="') for page in shown] == [3, len(story.choices)]
    assert before not in shown and shown[-1] == html.tokens(story, own.tokenizer)
