"""How a question and its answers look: HTML from the templates, which escape all text by default."""

import base64
import difflib
import json
import math

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.polls import checking, reading
from proxy_tuning.polls.elections import month_name, place_name
from proxy_tuning.widget.asking import (
    ALPHAS,
    BINS,
    MODELS,
    Ask,
    Choice,
    Story,
    bin_of,
    most_telling,
    token_text,
)
from proxy_tuning.widget.export import story_csv

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
    """What stands above the question: the line, the family's name and the sizes of its models."""
    return render("head", family=family, large=large, small=small)


def status(message: str, trouble: bool = False) -> Markup:
    """One line that screen readers speak."""
    return render("status", message=message, trouble=trouble)


def answers(story: Story) -> Markup:
    """The three answers side by side; numbers are marked once they are complete."""
    cards = []
    for who in HISTORIES:
        text, pieces, verdict = story.texts[who], [], ""
        if story.done:
            pieces = checking.mark_numbers(text, story.asked, story.facts)
            verdict = checking.verdict(text, story.asked, story.facts)
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
    return render("answers", cards=cards, done=story.done, signs=SIGNS)


def facts(asked: reading.Asked, found: checking.Facts) -> Markup:
    """What the fact tables say about the question, and the months around it."""
    months = found.trend is not None and len(found.trend)
    return render(
        "facts",
        understood=str(asked),
        rows=[list(line.values()) for line in found.lines],
        missing=found.missing,
        trend=trend(asked, found.trend) if months else "",
    )


def trend(asked: reading.Asked, months: pd.DataFrame) -> Markup:
    """Poll averages by month as a plot and as a table.

    Args:
        asked: whose months are marked.
        months: rows of the monthly table, at least one.
    """
    title = f"Poll averages by month, {place_name(asked.state)}, election of {asked.cycle}"
    rows = [
        (
            month_name(row.month),
            f"{row.democrat} {row.democrat_pct:.1f}%",
            f"{row.republican} {row.republican_pct:.1f}%",
        )
        for row in months.itertuples()
    ]
    return render("trend", title=title, rows=rows, **plotted(asked, months))


def plotted(asked: reading.Asked, months: pd.DataFrame) -> dict:
    """Where everything stands in the plot of `trend`, 400 wide and 230 high, as its template asks.

    Months run from 40 to 385 across, shares from 185 up to 35; a match-up has a line of its own.
    """
    count = {month: int(month[:4]) * 12 + int(month[5:]) for month in months["month"]}
    first, last = min(count), max(count)
    every = [*months["democrat_pct"], *months["republican_pct"]]
    low, high = math.floor(min(every) / 5) * 5, math.ceil(max(every) / 5) * 5
    high += 5 * (low == high)

    def x(month):
        if first == last:
            return "212.5"
        return f"{40 + 345 * (count[month] - count[first]) / (count[last] - count[first]):.1f}"

    def y(share, below=0):
        return f"{185 - 150 * (share - low) / (high - low) + below:.1f}"

    marked = [month for month in (asked.start, asked.month) if month in count]
    parties = ("democrat", "republican")
    return {
        "names": {party: " / ".join(dict.fromkeys(months[party])) for party in parties},
        "shares": [
            (share, y(share), y(share, below=4))
            for share in range(low, high + 1, 5 if high - low <= 30 else 10)
        ],
        "asked": " to ".join(map(month_name, marked)),
        "asked_at": [x(month) for month in marked],
        "asked_anchor": "end" if marked and float(x(marked[-1])) > 250 else "start",
        "lines": [
            (
                party,
                [(x(m), y(s)) for m, s in zip(rows["month"], rows[f"{party}_pct"], strict=True)],
            )
            for party in parties
            for _, rows in months.groupby("democrat", sort=False)
        ],
        "ends": [(first, x(first), "start"), (last, x(last), "end")]
        if first != last
        else [(first, x(first), "middle")],
    }


def tokens(story: Story, tokenizer) -> Markup:
    """The steered answer as tokens to choose from, coloured by what steering did to them."""
    chips = []
    for choice in story.choices:
        number = bin_of(choice.change)
        _, sign, words = BINS[number]
        gap = "\u00a0" if token_text(tokenizer, choice.token).startswith(" ") else ""
        text = gap + "◆" * choice.turned + visible(tokenizer, choice.token)
        chips.append(
            {"bin": number, "sign": sign, "words": words, "turned": choice.turned, "text": text}
        )
    return render("tokens", bins=BINS, tokens=chips, chosen=most_telling(story, tokenizer))


def predictions(story: Story, index: int, tokenizer) -> Markup:
    """The likeliest tokens of M, M+, M- and the steered model at one token: bars and numbers."""
    choice = story.choices[index]
    before = "".join(token_text(tokenizer, c.token) for c in story.choices[:index])
    alone, steered = (percent(choice.scores[MODELS.index(who)]) for who in ("base", "steered"))
    return render(
        "predictions",
        before=before[-60:].strip(),
        taken=visible(tokenizer, choice.token),
        alone=alone,
        steered=steered,
        models=[
            {
                "name": NAMES[who],
                "description": DESCRIPTIONS[who],
                "tokens": likeliest(choice, row, tokenizer),
            }
            for row, who in enumerate(MODELS)
        ],
    )


def likeliest(choice: Choice, row: int, tokenizer) -> list[dict]:
    """The lines of one model's predictions, the likeliest token first."""
    return [
        {
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


def sweep(
    ask: Ask, texts: list[str], asked: reading.Asked, found: checking.Facts, done: bool
) -> Markup:
    """The answers at each alpha; words that differ from the line above are marked."""
    rows, above = [], None
    for alpha, text in zip(ALPHAS, texts, strict=True):
        words, body, note = text.split(), text, ""
        if above is not None:
            body, count = changed_words(above, words)
            note = "same" if words == above else f"{count} changed"
        check = checking.verdict(text, asked, found) if done else ""
        rows.append((f"{alpha:g}", body, note, check))
        above = words
    return render("sweep", question=ask.question, rows=rows)


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


def export(record: dict) -> Markup:
    """Two links that hold the files of a `story_record` themselves."""
    contents = {
        ("answer.json", "application/json"): json.dumps(record, ensure_ascii=False, indent=1),
        ("answer.csv", "text/csv"): story_csv(record),
    }
    files = [
        (name, kind, base64.b64encode(text.encode()).decode())
        for (name, kind), text in contents.items()
    ]
    return render("export", files=files)
