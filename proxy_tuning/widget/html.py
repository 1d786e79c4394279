"""How a question and its answers look: HTML from the templates, which escape all text by default."""

import base64
import difflib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.polls.asked import Asked
from proxy_tuning.polls.elections import month_name, place_name
from proxy_tuning.widget.asking import Ask
from proxy_tuning.widget.chart import FEW, drawings, marked, match_ups, rests_on
from proxy_tuning.widget.export import story_csv
from proxy_tuning.widget.stories import (
    ALPHAS,
    BINS,
    MODELS,
    Branch,
    Choice,
    Story,
    as_asked,
    bin_of,
    branch_text,
    token_text,
)
from proxy_tuning.widget.topics import Found, Topic

NAMES = {"base": "M", "expert": "M+", "antiexpert": "M−", "steered": "Proxy-tuned M"}
DESCRIPTIONS = {
    "base": "the large model, untouched",
    "expert": "the small model after fine-tuning",
    "antiexpert": "the small model before fine-tuning",
    "steered": "M, steered by that difference",
}
SIGNS = {"right": "✓", "wrong": "✗", "not checkable": "?"}

TEMPLATES = Environment(
    loader=PackageLoader("proxy_tuning.widget"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, **context) -> Markup:
    """A template filled in; whatever is not `Markup` itself comes out escaped."""
    return Markup(TEMPLATES.get_template(f"{name}.html").render(context))


def head(family: str, large: str, small: str) -> Markup:
    """What stands above the question: the method in a line, whose words explain themselves."""
    said = {
        "M": ("large", f"the large model, untouched: here {family}'s, {large}."),
        "M−": ("before", f"the small model before fine-tuning, {small}."),
        "M+": ("after", "the small model after fine-tuning on what M is to learn."),
        "alpha": ("alpha", "how strongly M is steered: 0 not at all, 1 as in the paper."),
    }
    tips = {name: {"slug": slug, "text": text} for name, (slug, text) in said.items()}
    return render("head", tips=tips)


def asks(title: str, rows: list[tuple[str, str, dict]], folded: bool = False) -> Markup:
    """Questions to press.

    Args:
        title: what they are.
        rows: question, what is said beside it, and settings that go with it by name.
        folded: whether they are a list that is opened first; without rows there is none.
    """
    return render("asks", title=title, asks=rows, folded=folded) if rows else Markup()


def history(asked: list[Ask]) -> Markup:
    """The questions of this session, the latest first, to go back to."""
    rows = [
        (
            ask.question,
            f"alpha {ask.alpha:g}" + f", temperature {ask.temperature:g}" * bool(ask.temperature),
            {name: value for name, value in asdict(ask).items() if name != "question"},
        )
        for ask in reversed(asked)
    ]
    return asks("Asked in this session", rows, folded=True)


def status(message: str, trouble: bool = False) -> Markup:
    """One line that screen readers speak."""
    return render("status", message=message, trouble=trouble)


def answers(story: Story) -> Markup:
    """The three answers side by side; numbers are marked once they are complete."""
    cards = []
    for who in HISTORIES:
        text, pieces, verdict = story.texts[who], [], ""
        if story.done:
            pieces = story.topic.mark(text, story.found)
            verdict = story.topic.verdict(text, story.found)
        cards.append(
            {
                "who": who,
                "name": NAMES[who] if who == "steered" else f"{NAMES[who]} alone",
                "description": DESCRIPTIONS[who],
                "text": text,
                "pieces": pieces,
                "verdict": verdict,
            }
        )
    return render(
        "answers",
        cards=cards,
        done=story.done,
        signs=SIGNS,
        question=story.ask.question,
        prompted=story.prompted,
    )


def facts(topic: Topic, found: Found) -> Markup:
    """What the topic has about the question, and the months around it."""
    drawn = ""
    if found.asked and found.trend is not None and len(found.trend):
        drawn = trend(found.asked, found.trend)
    return render(
        "facts",
        topic=topic,
        found=found,
        rows=[list(line.values()) for line in found.facts],
        trend=drawn,
    )


def trend(asked: Asked, months: pd.DataFrame) -> Markup:
    """Poll averages by month as a plot and as a table.

    Args:
        asked: whose months are marked.
        months: rows of the monthly table, at least one.
    """
    rows = [
        (
            month_name(row.month),
            f"{row.democrat} {row.democrat_pct:.1f}%",
            f"{row.republican} {row.republican_pct:.1f}%",
            rests_on(row.polls),
        )
        for row in months.itertuples()
    ]
    return render(
        "trend",
        title=f"Poll averages by month, {place_name(asked.state)}, election of {asked.cycle}",
        pairs=match_ups(months),
        asked=" to ".join(map(month_name, marked(asked, months))),
        few=FEW,
        drawings=drawings(asked, months),
        rows=rows,
    )


def tokens(story: Story, tokenizer) -> Markup:
    """The branch that is looked at as tokens to press, coloured by what steering did to them."""
    chips = []
    for choice in story.branches[story.shown].choices:
        number = bin_of(choice.change)
        _, sign, words = BINS[number]
        gap = "\u00a0" if token_text(tokenizer, choice.token).startswith(" ") else ""
        chips.append(
            {
                "bin": number,
                "sign": sign,
                "words": words,
                "turned": choice.turned,
                "forced": choice.forced,
                "text": gap + "◆" * choice.turned + visible(tokenizer, choice.token),
            }
        )
    number = story.shown + 1
    title = "The answer of the proxy-tuned M" if number == 1 else f"Branch {number}"
    return render("tokens", title=title, bins=BINS, tokens=chips, chosen=story.place)


def predictions(
    story: Story, choice: Choice, alpha: float, gate: float | None, tokenizer
) -> Markup:
    """The likeliest tokens of M, M+, M- and the steered model at one token: bars and numbers.

    Args:
        story: whose shown branch and place are looked at.
        choice: what was chosen there, at this alpha.
        gate: that of the line, see `logits.gated`, or None.
    """
    choices = story.branches[story.shown].choices
    before = "".join(token_text(tokenizer, c.token) for c in choices[: story.place])
    alone, steered = (percent(choice.scores[MODELS.index(who)]) for who in ("base", "steered"))
    return render(
        "predictions",
        before=before[-60:].strip(),
        taken=visible(tokenizer, choice.token),
        forced=choice.forced,
        alone=alone,
        steered=steered,
        alpha=f"{alpha:g}",
        moved=f"{choice.moved:.2g}",
        gate=f"{gate:g}" if gate is not None and choice.moved < gate else None,
        models=[
            {
                "name": NAMES[who],
                "description": DESCRIPTIONS[who],
                "tokens": likeliest(choice, row, tokenizer),
            }
            for row, who in enumerate(MODELS)
        ],
    )


def branches(story: Story, tokenizer) -> Markup:
    """All branches side by side, once there is more than the answer itself."""
    if len(story.branches) < 2:
        return Markup()
    shown = story.branches[story.shown]
    rows = [
        {
            "alpha": f"{branch.alpha:g}",
            "left": None if branch.parent is None else branch.parent + 1,
            "pieces": pieces(branch, tokenizer),
            "verdict": story.topic.verdict(branch_text(branch, tokenizer), story.found),
            "shown": branch is shown,
        }
        for branch in story.branches
    ]
    return render("branches", branches=rows, parent=shown.parent)


def pieces(branch: Branch, tokenizer) -> list[tuple[str, str]]:
    """The text of a branch in parts: what it took over, what a person chose, what followed.

    Its end is in it where a person chose it.
    """
    parts = [
        (
            "forced" if choice.forced else "kept" if place < branch.at else "",
            token_text(tokenizer, choice.token),
        )
        for place, choice in enumerate(branch.choices)
        if choice.forced or choice.token not in tokenizer.all_special_ids
    ]
    grouped = itertools.groupby(parts, lambda part: part[0])
    return [("".join(text for _, text in group), kind) for kind, group in grouped]


def likeliest(choice: Choice, row: int, tokenizer) -> list[dict]:
    """The lines of one model's predictions, the likeliest token first."""
    return [
        {
            "id": token,
            "text": visible(tokenizer, token),
            "taken": token == choice.token,
            "width": f"{100 * math.exp(score):.1f}",
            "percent": percent(score),
        }
        for token, score in zip(
            choice.top_ids[row].tolist(), choice.top_scores[row].tolist(), strict=True
        )
    ]


def visible(tokenizer, token: int) -> str:
    """A token as text in which blanks can be seen."""
    return token_text(tokenizer, token).replace("\n", "⏎").strip() or "␣"


def percent(score: float) -> str:
    """A log-probability as a probability in percent."""
    share = 100 * math.exp(score)
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"


def sweep(ask: Ask, topic: Topic, found: Found, texts: list[str], done: bool) -> Markup:
    """The answers at each alpha; words that differ from the line above are marked."""
    rows, above = [], None
    for alpha, text in zip(ALPHAS, texts, strict=True):
        words, body, note = text.split(), text, ""
        if above is not None:
            body, count = changed_words(above, words)
            note = "same" if words == above else f"{count} changed"
        check = topic.verdict(text, found) if done else ""
        rows.append((f"{alpha:g}", body, note, check))
        above = words
    return render("sweep", question=ask.question, prompted=as_asked(ask, found), rows=rows)


def compare(
    asks: Sequence[Ask], topic: Topic, found: Found, texts: list[str], done: bool
) -> Markup:
    """The answers in two settings side by side; words of the second that differ are marked."""
    left, right = texts
    bodies = [left, changed_words(left.split(), right.split())[0] if done else right]
    columns = [
        (
            f"alpha {ask.alpha:g}, temperature {ask.temperature:g}, seed {ask.seed}",
            body,
            topic.verdict(text, found) if done else "",
        )
        for ask, text, body in zip(asks, texts, bodies, strict=True)
    ]
    question = asks[0].question
    return render("compare", question=question, prompted=as_asked(asks[0], found), columns=columns)


def changed_words(above: list[str], words: list[str]) -> tuple[Markup, int]:
    """Words with those marked that differ from the line above, and how many do."""
    parts, count = [], 0
    matcher = difflib.SequenceMatcher(None, above, words, autojunk=False)
    for tag, *_, start, end in matcher.get_opcodes():
        piece = " ".join(words[start:end])
        if tag != "equal":
            count += end - start
            piece = piece and Markup("<mark>{}</mark>").format(piece)
        if piece:
            parts.append(piece)
    return Markup(" ").join(parts), count


def export(record: dict, address: str) -> Markup:
    """Two links that hold the files of a `story_record` themselves, and one to the same page."""
    contents = {
        ("answer.json", "application/json"): json.dumps(record, ensure_ascii=False, indent=1),
        ("answer.csv", "text/csv"): story_csv(record),
    }
    files = [
        (name, kind, base64.b64encode(text.encode()).decode())
        for (name, kind), text in contents.items()
    ]
    return render("export", files=files, address=address)
