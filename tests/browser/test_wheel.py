"""What a person can do with an answer in a browser: another way, another alpha, back, and share."""

import re

import pytest
from browser.test_widget import QUESTION, ask

from proxy_tuning.widget.topics import Polls

EXAMPLES = [example.question for example in Polls.examples if not example.chat]
WORDS = "#pt-why [data-token]"


def take(page, index):
    """Press a listed token of M's."""
    number = page.locator("#pt-branches article").count() or 1
    page.click(f"#pt-predictions table >> nth=0 >> [data-event=take] >> nth={index}")
    page.wait_for_selector(f"#pt-status >> text=Branch {number + 1}")


def untouched(page):
    """The first branch, as it is shown beside the others."""
    return page.inner_text("#pt-branches article >> nth=0 >> .pt-answer")


def test_take_the_wheel(open_page):
    page = open_page()
    ask(page)
    steered = "".join(page.locator(".pt-steered .pt-answer").all_inner_texts())

    # alpha at one word, by keyboard: the predictions move, the text does not
    before = page.inner_text("#pt-predictions")
    page.locator("#pt-here input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#pt-predictions >> text=at alpha 0.9")
    page.keyboard.press("Home")
    page.wait_for_selector("#pt-predictions >> text=at alpha 0.")
    moved = page.locator("#pt-predictions table")
    page.wait_for_function(
        "() => document.querySelector('#pt-predictions').innerText.includes('at alpha 0.')"
    )
    shares = [moved.nth(i).locator("tbody").inner_text() for i in (0, 3)]
    assert shares[0] == shares[1] and page.inner_text("#pt-predictions") != before
    assert page.inner_text(".pt-steered .pt-answer") == steered

    # another token, by keyboard, at this alpha, which is 0: M goes on alone
    choice = page.locator("#pt-predictions table >> nth=0 >> [data-event=take] >> nth=2")
    word = choice.inner_text().split(",")[0].strip()
    choice.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#pt-status >> text=Branch 2")
    assert page.locator("#pt-branches article").count() == 2
    assert word in page.inner_text("#pt-branches .pt-forced")
    assert "alpha 0, from branch 1" in page.inner_text("#pt-branches").lower()
    first = untouched(page)
    assert re.sub(r"[\u2713\u2717?]|\(.*?\)|\s", "", steered) == re.sub(r"\?|\s", "", first)

    # a branch of the branch, and back, and back again
    page.click(f"{WORDS} >> nth=2")
    page.wait_for_selector(f"{WORDS}[aria-pressed=true] >> nth=0")
    take(page, 1)
    assert "from branch 2" in page.inner_text("#pt-branches")
    for number in (2, 1):
        page.click("#pt-branches [data-event=back]")
        page.wait_for_selector(f"#pt-branches article.pt-steered >> text=/^{number}\\./")
    assert page.locator("#pt-branches [data-event=back]").count() == 0
    assert untouched(page) == first
    page.click("#pt-branches [data-branch='2']")
    page.wait_for_selector("#pt-branches article.pt-steered >> text=/^3\\./")


def test_an_example_runs_and_the_address_keeps_it(open_page):
    page = open_page()
    page.click(f"#pt-examples >> text={EXAMPLES[1]}")
    page.wait_for_selector("#pt-status >> text=Three answers in")
    assert page.input_value("#pt-question textarea") == EXAMPLES[1]
    cards = page.locator("#pt-answers .pt-question").all_inner_texts()
    assert len(cards) == 3 and all(card.startswith(EXAMPLES[1]) for card in cards)
    page.wait_for_url("**q=How+big+was+the+lead**")
    first = page.inner_text("#pt-answers")
    ask(page, QUESTION)
    page.wait_for_url("**q=Who+led+the+polls+in+Penn**")

    # back to the question before, out of the session's list
    page.click("#pt-history summary")
    assert page.locator("#pt-history button").count() == 2
    page.click(f"#pt-history >> text={EXAMPLES[1]}")
    page.wait_for_selector(f"#pt-answers >> text={EXAMPLES[1]}")
    page.wait_for_selector("#pt-status >> text=Three answers in")
    assert page.inner_text("#pt-answers") == first
    page.wait_for_url("**q=How+big+was+the+lead**")


def test_a_link_gives_the_same_page(open_page):
    page = open_page(
        query="&q=Who+won+Ohio+in+2020%3F&alpha=0&seed=many&length=0&evil=<script>window.hurt=1"
    )
    page.wait_for_selector("#pt-status >> text=Three answers in")
    assert page.input_value("#pt-question textarea") == "Who won Ohio in 2020?"
    steered, base = (page.inner_text(f".pt-{who} .pt-answer") for who in ("steered", "base"))
    assert steered == base
    nasty = "%3Cimg+src%3Dx+onerror%3D%22window.hurt%3D1%22%3E+Ohio%3F"
    page = open_page(query=f"&q={nasty}")
    page.wait_for_selector("#pt-status >> text=Three answers in")
    page.wait_for_selector("#pt-answers >> text=onerror")
    page.click("#pt-history summary")
    page.wait_for_selector("#pt-history button >> text=onerror")
    assert page.evaluate("window.hurt") is None


def test_two_settings_side_by_side(open_page):
    page = open_page()
    page.click("role=tab[name='Compare']")
    page.click("#pt-compare")
    page.wait_for_selector("#pt-compared .pt-verdict >> nth=1 >> text=/./")
    titles = page.locator("#pt-compared h3").all_inner_texts()
    assert [title.split(",")[0] for title in titles] == ["alpha 0.5", "alpha 1.5"]
    boxes = [page.locator("#pt-compared section").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 720)])
def test_the_first_screen_and_the_whole(open_page, width, height):
    page = open_page(width, height=height)
    box = page.locator("#pt-ask").bounding_box()
    assert box["y"] + box["height"] <= height
    ask(page)
    tops = {
        who: page.locator(f".pt-{who}").bounding_box()["y"] for who in ("base", "expert", "steered")
    }
    if width == 390:
        assert page.evaluate("document.documentElement.scrollHeight") <= 2500
        assert tops["steered"] < min(tops["base"], tops["expert"])
    shown = page.locator("#pt-facts svg[role=img]:visible")
    assert shown.count() == (width > 390)  # folded on a narrow screen
    if width == 390:
        page.click("text=Poll averages by month")
        page.wait_for_selector("#pt-facts svg[role=img]:visible")
    drawn, panel = shown.bounding_box(), page.locator("#pt-facts section").bounding_box()
    assert drawn["width"] > 0.85 * panel["width"]


def test_words_explain_themselves(open_page):
    page = open_page()
    for name, words in (("M", "untouched"), ("M\u2212", "before"), ("alpha", "not at all")):
        page.locator(f".pt-term >> text=/^{re.escape(name)}$/").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f".pt-tip:visible >> text={words}")
        page.keyboard.press("Escape")
        page.wait_for_selector(f".pt-tip:visible >> text={words}", state="detached")
