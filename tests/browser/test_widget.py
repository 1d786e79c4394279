"""One pass over the widget as a person would make it."""

import json

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
    assert page.locator("#pt-facts svg .pt-asked").count() == 1

    # another token, by keyboard
    tokens = page.locator("#pt-why [data-token]")
    first = page.inner_text("#pt-wishes h3")
    other = next(i for i in range(tokens.count())
                 if tokens.nth(i).get_attribute("aria-pressed") == "false")  # fmt: skip
    tokens.nth(other).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("was => document.querySelector('#pt-wishes h3').innerText !== was",
                           arg=first)  # fmt: skip
    assert tokens.nth(other).get_attribute("aria-pressed") == "true"
    assert page.locator("#pt-wishes table").count() == 4
    assert page.locator("#pt-wishes tbody tr").count() == 40

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
    page.fill("#pt-settings input[type=number] >> nth=0", "0")
    page.press("#pt-settings input[type=number] >> nth=0", "Tab")
    ask(page)
    assert page.inner_text(".pt-steered .pt-answer") == page.inner_text(".pt-base .pt-answer")
    page.click("#pt-reset")
    page.wait_for_function(
        "document.querySelector('#pt-settings input[type=number]').value === '1'"
    )
    page.click("#pt-stop")
    page.wait_for_selector("#pt-status >> text=Stopped.")


def test_narrow_screen(open_page):
    page = open_page(width=360)
    assert not wider_than_the_screen(page)
    ask(page)
    assert not wider_than_the_screen(page)
    for tab in ("Sweep", "About"):
        page.click(f"role=tab[name='{tab}']")
        if tab != "About":
            page.click("#pt-sweep")
            page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
        assert not wider_than_the_screen(page)


def test_accessibility(open_page, axe):
    """Nothing serious in what is ours, light and dark; what Gradio brings is printed."""
    for dark in (False, True):
        page = open_page(dark=dark)
        ask(page)
        page.evaluate(axe)
        for tab, button in (("Answers", None), ("Sweep", "#pt-sweep"), ("About", None)):
            page.click(f"role=tab[name='{tab}']")
            if button:
                page.click(button)
                page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
            found = page.evaluate("axe.run(document)")["violations"]
            ours = []
            for violation in found:
                for node in violation["nodes"]:
                    where = " ".join(node["target"])
                    words = f"{violation['impact']} {violation['id']}: {where}"
                    if "pt-" in where or "pt-" in node["html"]:
                        ours.append((violation["impact"], f"{words} {node.get('failureSummary')}"))
                    else:
                        print(f"{'dark' if dark else 'light'}, {tab}, from Gradio: {words}")
            assert not [text for impact, text in ours if impact in ("serious", "critical")]


def test_screenshots(open_page, request):
    """The pictures of the README, where --screenshots names a folder."""
    folder = request.config.getoption("--screenshots", None)
    if folder is None:
        pytest.skip("no --screenshots DIR given")
    folder.mkdir(parents=True, exist_ok=True)

    def picture(page, name, *parts):
        """The page from the first to the last of the parts."""
        boxes = [page.locator(part).bounding_box() for part in parts]
        top = boxes[0]["y"] - 12
        bottom = boxes[-1]["y"] + boxes[-1]["height"] + 12
        size = page.viewport_size["width"]
        page.screenshot(path=folder / f"{name}.png", full_page=True,
                        clip={"x": 0, "y": top, "width": size, "height": bottom - top})  # fmt: skip

    for look, width, dark in (("wide", 1280, False), ("wide-dark", 1280, True),
                              ("narrow", 360, False), ("narrow-dark", 360, True)):  # fmt: skip
        page = open_page(width, dark)
        ask(page)
        picture(page, f"widget-{look}", ".pt-head", "#pt-facts")
        if width > 360:
            picture(page, f"why-{look}", "#pt-why", "#pt-wishes")
            page.click("role=tab[name='Sweep']")
            page.click("#pt-sweep")
            page.wait_for_selector("#pt-swept tr:nth-child(9) td:nth-child(4):not(:empty)")
            picture(page, f"sweep-{look}", ".pt-head", "#pt-swept")
