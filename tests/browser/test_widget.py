"""One pass over the widget as a person would make it."""

import json
import re

import httpx
import pytest

QUESTION = "Who led the polls in Pennsylvania in October 2024?"
# Every text that the steered answer passes through, as a person sees it.
RECORD = """() => {
  window.seen = [];
  const look = () => {
    const answer = document.querySelector('.pt-steered .pt-answer');
    if (answer && window.seen.at(-1) !== answer.innerText) window.seen.push(answer.innerText);
  };
  new MutationObserver(look).observe(document.body,
    {subtree: true, childList: true, characterData: true});
}"""


def ask(page, question=QUESTION):
    page.fill("#pt-question textarea", question)
    page.press("#pt-question textarea", "Enter")
    page.wait_for_selector("#pt-status >> text=Three answers in")


def wider_than_the_screen(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth") > 0


def test_ask_choose_export_sweep(open_page):
    page = open_page()
    page.evaluate(RECORD)
    ask(page)
    seen = [text for text in page.evaluate("window.seen") if text.strip()]
    assert len(seen) >= 3 and seen[0] in seen[-1], "the answer did not stream"
    for who in ("base", "expert", "steered"):
        assert page.inner_text(f".pt-{who} .pt-answer").strip()
    facts = page.inner_text("#pt-facts")
    assert "Harris 47.8%" in facts and "Read as: polls of October 2024 in Pennsylvania." in facts
    assert page.locator("#pt-facts svg:visible .pt-asked").count() == 1

    # another token, by keyboard
    tokens = page.locator("#pt-why [data-token]")
    first = page.inner_text("#pt-predictions h3")
    other = next(
        i for i in range(tokens.count()) if tokens.nth(i).get_attribute("aria-pressed") == "false"
    )
    tokens.nth(other).focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "was => document.querySelector('#pt-predictions h3').innerText !== was", arg=first
    )
    assert tokens.nth(other).get_attribute("aria-pressed") == "true"
    assert page.locator("#pt-predictions table").count() == 4
    assert page.locator("#pt-predictions tbody tr").count() == 40

    with page.expect_download() as download:
        page.click("#pt-export >> text=answer.json")
    kept = json.loads(download.value.path().read_text())
    assert kept["question"] == QUESTION and len(kept["tokens"]) == tokens.count()
    with page.expect_download() as download:
        page.click("#pt-export >> text=answer.csv")
    assert len(download.value.path().read_text().splitlines()) == tokens.count() + 1

    page.click("role=tab[name='Sweep']")
    page.click("#pt-sweep")
    page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
    assert page.inner_text("#pt-swept tbody tr:first-child td") == kept["base"]
    page.click("role=tab[name='About']")
    page.wait_for_selector("text=How to cite")


def test_bad_input_is_told_kindly(open_page):
    page = open_page()
    for question, message in (
        ("", "type a question"),
        ("x" * 5000, "5,000 characters"),
        ("\u8ab0\u9818\u5148?", "English"),
    ):
        page.fill("#pt-question textarea", question)
        page.click("#pt-ask")
        page.wait_for_selector(f"#pt-status >> text={message}")
    ask(page, "Who led in Ohio <img src=x onerror='window.hurt=1'> {{value}} ${window.hurt=1}?")
    page.click("role=tab[name='Sweep']")
    page.click("#pt-sweep")
    page.wait_for_selector("#pt-swept h2 >> text=onerror")
    assert page.evaluate("window.hurt") is None


def test_settings_and_stop(open_page):
    page = open_page()
    page.click("#pt-settings button")
    slider = "document.querySelector('#pt-settings input[type=range]')"
    page.wait_for_function(f"{slider}?.value === '1'")  # what opens late would undo what is typed
    page.wait_for_timeout(500)
    page.fill("#pt-settings input[type=number] >> nth=0", "0")
    page.press("#pt-settings input[type=number] >> nth=0", "Tab")
    page.wait_for_function(f"{slider}.value === '0'")
    ask(page)
    assert page.inner_text(".pt-steered .pt-answer") == page.inner_text(".pt-base .pt-answer")
    page.click("#pt-reset")
    page.wait_for_function(
        "document.querySelector('#pt-settings input[type=number]').value === '1'"
    )
    page.click("#pt-stop")
    page.wait_for_selector("#pt-status >> text=Stopped.")


def test_a_waiting_question_shows_its_place(open_page, address):
    page = open_page()
    for seed in range(14):  # long, random answers to others, two at a time
        others = [QUESTION, 0, 2, 256, seed, False]
        httpx.post(f"{address}/gradio_api/call/ask", json={"data": others}).raise_for_status()
    page.click("#pt-ask")
    page.wait_for_selector(r"#pt-status >> text=/queue: \d\/\d/")
    page.wait_for_selector("#pt-status >> text=Three answers in")


def test_keyboard_alone(open_page):
    """From the question by tabs alone to everything that can be pressed, each with a name."""
    page = open_page()
    ask(page)
    names = []
    for _ in range(300):
        page.keyboard.press("Tab")
        name = page.evaluate("""() => {
          const e = document.activeElement;
          return e === document.body ? null
            : e.getAttribute('aria-label') || e.innerText || e.title || e.labels?.[0]?.innerText || '';
        }""")
        if name is None:
            break
        names.append(" ".join(name.split()))
    assert all(names), names
    for wanted in (
        "Who was ahead in Ohio in October 2016?",
        "Answers",
        "Compare",
        "Sweep",
        "About",
        "Settings",
        "Ask",
        "Stop",
        "answer.json",
        "answer.csv",
        "These months as a table",
        "Poll averages by month",
        "Why this word?",
        "link to this question",
        "Asked in this session",
    ):
        assert any(name.startswith(wanted) for name in names), (wanted, names)
    assert sum("likel" in name for name in names) == page.locator("#pt-why [data-token]").count()
    assert sum("go on with this token" in name for name in names) == 40


def test_narrow_screen(open_page):
    """At 360 pixels nothing is wider than the screen, and no table hides a column."""
    page = open_page(width=360)
    assert not wider_than_the_screen(page)
    ask(page)
    assert not wider_than_the_screen(page)
    page.click("text=Poll averages by month")
    page.click("#pt-wheel > button")
    page.wait_for_selector("#pt-predictions table")
    assert not wider_than_the_screen(page)
    assert "Rests on: 53 polls" in spoken(page, "#pt-facts tbody tr")
    page.click("role=tab[name='Sweep']")
    page.click("#pt-sweep")
    page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
    assert not wider_than_the_screen(page)
    assert "check: " in spoken(page, "#pt-swept tbody tr")
    page.click("role=tab[name='About']")
    assert not wider_than_the_screen(page)


def spoken(page, row):
    """The cells of the first such row with their heads, where they are on the screen."""
    return page.eval_on_selector_all(
        f"{row}:first-of-type > *",
        """cells => cells.filter(cell => cell.getBoundingClientRect().right <= innerWidth)
             .map(cell => getComputedStyle(cell, '::before').content.replaceAll('"', '')
                          + cell.innerText).join('; ')""",
    )


def test_accessibility(open_page, axe):
    """Nothing serious in what is ours, light and dark; what Gradio brings is printed."""
    ours, theirs = [], set()
    for dark in (False, True):
        page = open_page(dark=dark)
        ask(page)
        page.click("#pt-history summary")
        page.click("#pt-predictions [data-event=take] >> nth=1")
        page.wait_for_selector("#pt-status >> text=Branch 2")
        page.evaluate(axe)
        for tab, button in (
            ("Answers", "#pt-settings button"),
            ("Compare", "#pt-compare"),
            ("Sweep", "#pt-sweep"),
            ("About", None),
        ):
            page.click(f"role=tab[name='{tab}']")
            if button:
                page.click(button)
            if tab == "Compare":
                page.wait_for_selector("#pt-compared .pt-verdict:not(:empty)")
            if tab == "Sweep":
                page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
            report = page.evaluate("axe.run(document)")
            assert report["passes"]
            for violation in report["violations"]:
                kind = f"{violation['impact']} {violation['id']}"
                for node in violation["nodes"]:
                    where = " ".join(node["target"])
                    if "pt-" in where or "pt-" in node["html"]:
                        ours.append((violation["impact"], kind, where, node["failureSummary"]))
                    else:
                        theirs.add(f"{kind}: {re.sub('[.]svelte-[a-z0-9]+', '', where)}")
    print("from Gradio:", *sorted(theirs), sep="\n  ")
    assert not [each for each in ours if each[0] in ("serious", "critical")]


def test_screenshots(open_page, request):
    """The pictures of the README, where --screenshots names a folder."""
    folder = request.config.getoption("--screenshots", None)
    if folder is None:
        pytest.skip("no --screenshots DIR given")
    folder.mkdir(parents=True, exist_ok=True)

    def picture(page, name, *parts):
        """The page from the first to the last of the parts."""
        page.evaluate("window.scrollTo(0, 0)")
        boxes = [page.locator(part).bounding_box() for part in parts]
        top = boxes[0]["y"] - 12
        bottom = boxes[-1]["y"] + boxes[-1]["height"] + 12
        size = page.viewport_size["width"]
        page.screenshot(
            path=folder / f"{name}.png",
            full_page=True,
            clip={"x": 0, "y": top, "width": size, "height": bottom - top},
        )

    for look, width, dark in (
        ("wide", 1280, False),
        ("wide-dark", 1280, True),
        ("narrow", 390, False),
        ("narrow-dark", 390, True),
    ):
        page = open_page(width, dark)
        ask(page)
        picture(page, f"widget-{look}", ".pt-head", "#pt-facts")
        if width > 390:
            page.click("#pt-predictions table:nth-of-type(1) [data-event=take] >> nth=0")
            page.wait_for_selector("#pt-status >> text=Branch 2")
            picture(page, f"why-{look}", "#pt-wheel", "#pt-branches")
            page.click("role=tab[name='Sweep']")
            page.click("#pt-sweep")
            page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
            picture(page, f"sweep-{look}", ".pt-head", "#pt-swept")
