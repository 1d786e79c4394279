"""The widget: ask, watch M, M+ and the proxy-tuned M answer side by side, check the answers.

One `gr.Blocks` for a notebook (`launch(build_app(...))`), a shell (`serve`) and a Space. Top to
bottom: what is asked, what the models do with it, how it is shown, how it is exported, the page.
"""

import base64
import contextlib
import csv
import difflib
import html
import io
import json
import math
import os
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

import gradio as gr
import torch

from proxy_tuning.decoding import HISTORIES, stream, stream_side_by_side
from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.polls import checking, reading
from proxy_tuning.polls.questions import month_name, place_name
from proxy_tuning.polls.sources import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA

LONGEST = 300
"""Characters that a question may have."""
ALPHA, TEMPERATURE, LENGTH, SEED = 1.0, 0.0, 64, 0
"""The recommended settings."""
LIMITS = {"alpha": (0, 3), "temperature": (0, 2), "length": (1, 256), "seed": (0, 2**31 - 1)}
ALPHAS = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
"""What the sweep tries, in one batch."""
TOP = 10
"""How many of the likeliest tokens are shown."""
EVERY = 0.05
"""Seconds between two looks at a growing answer."""
AT_ONCE, WAITING = 2, 40
"""Questions answered at a time, and events that may wait for their turn."""

MODELS = ("base", "expert", "antiexpert", "steered")
"""Whose wishes are shown at a token, in the order of the rows of `Choice`."""
NAMES = {"base": "M", "expert": "M+", "antiexpert": "M−", "steered": "Proxy-tuned M"}
ROLES = {
    "base": "the large model, untouched",
    "expert": "the small model after fine-tuning",
    "antiexpert": "the small model before fine-tuning",
    "steered": "M, steered by that difference",
}
EXAMPLES = [
    "Who led the polls in Pennsylvania in October 2024?",
    "How did Biden and Trump stand in Wisconsin in June 2024?",
    "How big was the lead in Arizona in September 2024?",
    "Who won Georgia in 2020?",
    "What did the last polls in Michigan say in 2024?",
    "Who was ahead in Ohio in October 2016?",
]


# What is asked


@dataclass(frozen=True)
class Ask:
    """One question with its settings, checked; ValueError with a friendly message otherwise."""

    question: str
    alpha: float = ALPHA
    """Weight of (expert - antiexpert)."""
    temperature: float = TEMPERATURE
    """0 takes the most likely token, above 0 draws."""
    length: int = LENGTH
    """Longest answer, in tokens."""
    seed: int = SEED
    """Where chance starts, for temperatures above 0."""

    def __post_init__(self):
        object.__setattr__(self, "question", readable(self.question))
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            whole = name in ("length", "seed")
            if not (number and low <= value <= high and (not whole or value == int(value))):
                kind = "whole number" if whole else "number"
                raise ValueError(f"The {name} needs to be a {kind} from {low} to {high}.")
            if whole:
                object.__setattr__(self, name, int(value))


def readable(question) -> str:
    """The question with single spaces; ValueError where it is nothing that the models can read."""
    if not isinstance(question, str) or not question.strip():
        raise ValueError("Please type a question first, or choose an example.")
    if len(question) > LONGEST:
        raise ValueError(
            f"That question has {len(question):,} characters. "
            f"Please ask in at most {LONGEST}: a place, a time and what you want to know."
        )
    question = " ".join(unicodedata.normalize("NFC", question).split())
    for character in question:
        if character.isascii() and character.isprintable():
            continue
        if character.isalpha() and "LATIN" in unicodedata.name(character, ""):
            continue
        if character in "\u2018\u2019\u201c\u201d\u2013\u2014\u2026":
            continue
        name = unicodedata.name(character, "a control character").lower()
        raise ValueError(
            f"These models have read English only and cannot take {name} "
            f"(U+{ord(character):04X}). Please ask in English letters, digits and punctuation."
        )
    if not any(character.isalpha() for character in question):
        raise ValueError("That has no words. Please ask a question in English.")
    return question


# What the models do with it


@dataclass(frozen=True)
class Choice:
    """One token of the steered text and what each of the four `MODELS` wanted there."""

    token: int
    """The token chosen."""
    scores: list[float]
    """Its log-probability under each, (4,), natural logarithm."""
    top_ids: torch.Tensor
    """The likeliest tokens of each, (4, TOP)."""
    top_scores: torch.Tensor
    """Their log-probabilities, (4, TOP)."""

    @classmethod
    def of(cls, step) -> "Choice":
        """From a `decoding.SideBySide` with one prompt."""
        logits = torch.cat([step.base, step.expert, step.antiexpert, step.steered])
        scores = logits.log_softmax(-1)  # (4, V)
        top, token = scores.topk(min(TOP, scores.shape[1])), int(step.next_ids[2, 0])
        return cls(token, scores[:, token].tolist(), top.indices.int().cpu(), top.values.cpu())

    @property
    def change(self) -> float:
        """What steering did to the token: its log-probability, steered minus M."""
        return self.scores[3] - self.scores[0]

    @property
    def turned(self) -> bool:
        """Whether M alone would have put another token first."""
        return bool(self.top_ids[0, 0] != self.top_ids[3, 0])


@dataclass
class Story:
    """What was asked, how the three texts grew, and why the steered one did."""

    ask: Ask
    asked: reading.Asked
    facts: checking.Facts
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HISTORIES, ""))
    """The answers so far, by who writes them."""
    choices: list[Choice] = field(default_factory=list)
    """One per token of the steered text, its end included."""
    done: bool = False


def answer(model, tokenizer, tables, ask: Ask) -> Iterator[Story]:
    """Answer one question; the same `Story` again and again while it grows, its last time done.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    asked = reading.read_question(ask.question, tables)
    story = Story(ask, asked, checking.look_up(asked, tables))
    inputs, longest = encode(model, tokenizer, ask)
    steps = stream_side_by_side(
        model,
        **inputs,
        max_new_tokens=longest,
        temperature=ask.temperature,
        alpha=ask.alpha,
        generator=torch.Generator(model.device).manual_seed(ask.seed),
        eos_token_id=tokenizer.eos_token_id,
    )
    written, shown, ended = [], -math.inf, False
    for step in steps:
        written.append(step.next_ids[:, 0])
        if not ended:
            story.choices.append(Choice.of(step))
            ended = bool(step.finished[2, 0])
        if time.monotonic() - shown > EVERY:
            story.texts = dict(zip(HISTORIES, read(tokenizer, written), strict=True))
            shown = time.monotonic()
            yield story
    story.texts = dict(zip(HISTORIES, read(tokenizer, written), strict=True))
    story.done = True
    yield story


def sweep(model, tokenizer, ask: Ask) -> Iterator[list[str]]:
    """The greedy answers at each of `ALPHAS`, in one batch, while they grow.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    inputs, longest = encode(model, tokenizer, ask)
    steps = stream(
        model,
        **inputs,
        max_new_tokens=longest,
        alpha=torch.tensor([ALPHAS], device=model.device),
        eos_token_id=tokenizer.eos_token_id,
    )
    written, shown = [], -math.inf
    for step in steps:
        written.append(step.next_ids)
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            yield read(tokenizer, written)
    yield read(tokenizer, written)


def encode(model, tokenizer, ask: Ask):
    """The inputs of one row, (1, T), and how many tokens may follow.

    Raises:
        ValueError: the prompt leaves the shortest context no room for an answer.
    """
    inputs = tokenizer([prompt(ask.question, tokenizer)], return_tensors="pt")
    tokens = inputs["input_ids"].shape[1]
    context = model.config.max_position_embeddings or math.inf
    if tokens + 8 > context:
        raise ValueError(
            f"That question takes {tokens} tokens, and these models read {context} in all, "
            "their answer included. Please ask in fewer words."
        )
    return dict(inputs), min(ask.length, context - tokens)


def read(tokenizer, written: list[torch.Tensor]) -> list[str]:
    """The texts of so many steps of token ids (rows,); a letter half written waits."""
    rows = torch.stack(written, dim=1).tolist()  # (rows, N)
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [text.strip().rstrip("\ufffd") for text in texts]


def token_text(tokenizer, token: int) -> str:
    """A token as people can read it; pieces of a letter as the tokenizer writes them."""
    if token == tokenizer.eos_token_id:
        return "(end)"
    text = tokenizer.decode([token])
    return text if "\ufffd" not in text else tokenizer.convert_ids_to_tokens(token)


def visible(tokenizer, token: int) -> str:
    """A token as HTML in which blanks can be seen."""
    return html.escape(token_text(tokenizer, token).replace("\n", "⏎").strip() or "␣")


# How it is shown: HTML in which every piece of text that is not ours is escaped


def show_answers(story: Story) -> str:
    """The three answers side by side; marked numbers once they are complete."""
    cards = []
    for who in HISTORIES:
        text = story.texts[who]
        if story.done:
            pieces = checking.mark_numbers(text, story.asked, story.facts)
            body = "".join(map(show_piece, pieces)) or "<em>(it said nothing)</em>"
            below = html.escape(checking.verdict(text, story.asked, story.facts))
        else:
            body, below = html.escape(text) + '<span class="pt-cursor"></span>', ""
        alone = "" if who == "steered" else " alone"
        cards.append(
            f'<section class="pt-box pt-{who}"><h2>{NAMES[who]}{alone}</h2>'
            f'<p class="pt-small">{ROLES[who]}</p><p class="pt-answer">{body}</p>'
            f'<p class="pt-verdict">{below}</p></section>'
        )
    return f'<div class="pt-cards">{"".join(cards)}</div>'


SIGNS = {"right": "✓", "wrong": "✗", "not checkable": "?"}


def show_piece(piece: checking.Piece) -> str:
    """A part of an answer; a number carries a sign and, for screen readers, words."""
    text = html.escape(piece.text)
    if piece.mark is None:
        return text
    why = html.escape(piece.why)
    return (
        f'<span class="pt-mark pt-{piece.mark.replace(" ", "-")}" title="{why}">{text}'
        f'<span aria-hidden="true">{SIGNS[piece.mark]}</span>'
        f'<span class="pt-hidden"> ({piece.mark}: {why})</span></span>'
    )


def show_table(heads, rows) -> str:
    """A table of pieces of HTML, the first of each row its name.

    On a narrow screen a row becomes a block, with the head of its column before each cell.
    """
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row" data-head="{heads[0]}">{first}</th>'
        + "".join(
            f'<td data-head="{name}">{cell}</td>'
            for name, cell in zip(heads[1:], cells, strict=True)
        )
        + "</tr>"
        for first, *cells in rows
    )
    return f'<table class="pt-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def show_facts(asked: reading.Asked, facts: checking.Facts) -> str:
    """What the fact tables say about the question, and the months around it."""
    parts = [f"<p>{html.escape(str(asked))}</p>"]
    if facts.lines:
        parts.append(
            show_table(
                ("What", "Democrat", "Republican", "Ahead", "Rests on"),
                [map(html.escape, line.values()) for line in facts.lines],
            )
        )
    if facts.missing:
        parts.append(f"<p>{html.escape(facts.missing)}</p>")
    if facts.trend is not None and len(facts.trend):
        parts.append(show_trend(asked, facts.trend))
    return (
        '<section class="pt-box"><h2>What the polls say</h2>'
        '<p class="pt-small">From the fact tables in data/, not from any model: check the answers '
        "against it. ✓ right, ✗ wrong, ? not checkable.</p>" + "".join(parts) + "</section>"
    )


def show_trend(asked: reading.Asked, trend) -> str:
    """Poll averages by month as a drawn plot (viewBox 400 x 230) and as a table."""
    count = {month: int(month[:4]) * 12 + int(month[5:]) for month in trend["month"]}
    first, last = min(count), max(count)
    shares = [*trend["democrat_pct"], *trend["republican_pct"]]
    low, high = math.floor(min(shares) / 5) * 5, math.ceil(max(shares) / 5) * 5
    high += 5 * (low == high)

    def x(month):
        if first == last:
            return 212.5
        return 40 + 345 * (count[month] - count[first]) / (count[last] - count[first])

    def y(share):
        return 185 - 150 * (share - low) / (high - low)

    draw = []
    for share in range(low, high + 1, 5 if high - low <= 30 else 10):
        draw.append(f'<path class="pt-grid" d="M40 {y(share):.1f}H385"/>')
        draw.append(f'<text x="35" y="{y(share) + 4:.1f}" text-anchor="end">{share}%</text>')
    wanted = [month for month in (asked.start, asked.month) if month in count]
    draw.extend(f'<path class="pt-asked" d="M{x(month):.1f} 30V185"/>' for month in wanted)
    if wanted:
        at = x(wanted[-1])
        anchor = "end" if at > 250 else "start"
        draw.append(
            f'<text x="{at:.1f}" y="218" text-anchor="{anchor}" class="pt-strong">asked: '
            f"{html.escape(' to '.join(map(month_name, wanted)))}</text>"
        )
    names = {}
    marks = {
        "democrat": 'circle class="pt-democrat" r="3"',
        "republican": 'rect class="pt-republican" x="-3" y="-3" width="6" height="6"',
    }
    for party, mark in marks.items():
        names[party] = " / ".join(dict.fromkeys(trend[party]))
        for _, rows in trend.groupby("democrat", sort=False):
            points = list(zip(map(x, rows["month"]), map(y, rows[f"{party}_pct"]), strict=True))
            path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
            draw.append(f'<path class="pt-line pt-{party}" d="M{path}"/>')
            draw.extend(f'<{mark} transform="translate({a:.1f} {b:.1f})"/>' for a, b in points)
    for month, anchor in {first: "start", last: "end" if first != last else "middle"}.items():
        draw.append(f'<text x="{x(month):.1f}" y="202" text-anchor="{anchor}">{month}</text>')
    title = f"Poll averages by month, {place_name(asked.state)}, election of {asked.cycle}"
    rows = [
        (month_name(row.month), html.escape(f"{row.democrat} {row.democrat_pct:.1f}%"),
         html.escape(f"{row.republican} {row.republican_pct:.1f}%"))
        for row in trend.itertuples()
    ]  # fmt: skip
    return (
        f'<figure class="pt-trend"><figcaption>{html.escape(title)}</figcaption>'
        f'<svg viewBox="0 0 400 230" role="img" aria-label="{html.escape(title)}; the same figures '
        'are in the table below">'
        f'<{marks["democrat"]} transform="translate(46 14)"/>'
        f'<text x="55" y="18">{html.escape(names["democrat"])} (circles)</text>'
        f'<{marks["republican"]} transform="translate(246 14)"/>'
        f'<text x="255" y="18">{html.escape(names["republican"])} (squares)</text>'
        f"{''.join(draw)}</svg></figure><details><summary>These months as a table</summary>"
        f"{show_table(('Month', 'Democrat', 'Republican'), rows)}</details>"
    )


# What steering did to a token: lowest change in log-probability, sign, words. The factor is e to
# the change: 0.1 is 10 percent, 1 is threefold, 3 is twentyfold.
BINS = [
    (-math.inf, "−−−", "much less likely (to a 20th or lower)"),
    (-3.0, "−−", "less likely (to a third or lower)"),
    (-1.0, "−", "a little less likely"),
    (-0.1, "", "about as likely"),
    (0.1, "+", "a little likelier"),
    (1.0, "++", "likelier (3 times or more)"),
    (3.0, "+++", "much likelier (20 times or more)"),
]


def bin_of(change: float) -> int:
    """Which of the seven `BINS` a change falls into."""
    return max(i for i, (low, _, _) in enumerate(BINS) if change >= low)


def most_telling(story: Story, tokenizer) -> int:
    """The token to open first: the whole word, or else token, that steering helped most to the top.

    Whole: letters that no letter goes before or after.
    """
    texts = [token_text(tokenizer, choice.token) for choice in story.choices]

    def telling(i):
        text = texts[i].strip()
        starts = texts[i] != texts[i].lstrip() or not "".join(texts[:i])[-1:].isalpha()
        whole = text.isalpha() and starts and not "".join(texts[i + 1 :])[:1].isalpha()
        return story.choices[i].turned, whole, story.choices[i].change

    return max(range(len(texts)), key=telling)


def show_why(story: Story, tokenizer) -> str:
    """The steered answer as tokens to choose from, coloured by what steering did to them."""
    legend = "".join(
        f'<li><span class="pt-swatch pt-bin{i}">{sign or "="}</span>{words}</li>'
        for i, (_, sign, words) in enumerate(BINS)
    )
    chips, chosen = [], most_telling(story, tokenizer)
    for i, choice in enumerate(story.choices):
        _, sign, words = BINS[bin_of(choice.change)]
        gap = "&nbsp;" * token_text(tokenizer, choice.token).startswith(" ")
        turned = "; M alone would have put another word first" if choice.turned else ""
        chips.append(
            f'<button type="button" class="pt-token pt-bin{bin_of(choice.change)}" '
            f'data-token="{i}" aria-pressed="{str(i == chosen).lower()}" title="{words}{turned}">'
            f"{gap}{'◆' * choice.turned}{visible(tokenizer, choice.token)}"
            f'<span class="pt-sign">{sign}</span><span class="pt-hidden">, {words}{turned}</span>'
            "</button>"
        )
    return (
        '<section class="pt-box"><h2>Why this word?</h2><p class="pt-small">The answer of the '
        "proxy-tuned M, token by token: how much likelier steering made each than M alone finds "
        "it. ◆ marks where it changed the first choice. Choose a token to see what each model "
        f'wanted.</p><ul class="pt-legend">{legend}</ul>'
        f'<div class="pt-tokens" role="group" aria-label="Tokens of the answer">{"".join(chips)}'
        "</div></section>"
    )


def percent(score: float) -> str:
    """A log-probability as HTML."""
    share = 100 * math.exp(score)
    return f"{share:.1f}%" if share >= 0.05 else "&lt;0.1%"


def show_wishes(story: Story, index: int, tokenizer) -> str:
    """The likeliest tokens of M, M+, M- and the steered model at one token: bars and numbers."""
    choice = story.choices[index]
    before = "".join(token_text(tokenizer, c.token) for c in story.choices[:index])[-60:].strip()
    tables = []
    for row, who in enumerate(MODELS):
        lines = []
        for token, score in zip(choice.top_ids[row], choice.top_scores[row], strict=True):
            text = visible(tokenizer, int(token))
            taken = int(token) == choice.token
            lines.append(
                f'<tr{" class=pt-taken" if taken else ""}><th scope="row">{text}'
                f"{' ◂' if taken else ''}{'<span class=pt-hidden> (taken)</span>' * taken}</th>"
                f'<td class="pt-bar"><span style="width:{100 * math.exp(score):.1f}%"></span></td>'
                f"<td>{percent(score)}</td></tr>"
            )
        tables.append(
            f"<table><caption>{NAMES[who]}<small>{ROLES[who]}</small></caption><thead "
            'class="pt-hidden"><tr><th scope="col">token</th><th scope="col">bar</th>'
            f'<th scope="col">probability</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
        )
    alone, steered = (percent(choice.scores[MODELS.index(who)]) for who in ("base", "steered"))
    taken = visible(tokenizer, choice.token)
    return (
        f'<section class="pt-box" aria-live="polite"><h3>After “…{html.escape(before)}”</h3>'
        f"<p>Taken: <strong>{taken}</strong>, which M alone finds {alone} likely and the "
        f"proxy-tuned M {steered}. ◂ marks it in each list.</p>"
        f'<div class="pt-wishes">{"".join(tables)}</div></section>'
    )


def show_sweep(ask: Ask, texts: list[str], asked, facts, done: bool) -> str:
    """The answers at each alpha; words that differ from the line above are marked."""
    rows, above = [], None
    for alpha, text in zip(ALPHAS, texts, strict=True):
        words, count = text.split(), 0
        body = html.escape(text)
        if above is not None:
            parts = []
            for tag, *_, start, end in difflib.SequenceMatcher(
                None, above, words, autojunk=False
            ).get_opcodes():
                piece = html.escape(" ".join(words[start:end]))
                changed = tag != "equal"
                count += changed * (end - start)
                if piece:
                    parts.append(f"<mark>{piece}</mark>" if changed else piece)
            body = " ".join(parts)
        note = "" if above is None else "same" if words == above else f"{count} changed"
        check = html.escape(checking.verdict(text, asked, facts)) if done else ""
        rows.append((f"{alpha:g}", body, note, check))
        above = words
    table = show_table(("alpha", "answer of the proxy-tuned M", "words", "check"), rows)
    return (
        f'<section class="pt-box"><h2>{html.escape(ask.question)}</h2><p class="pt-small">alpha 0 '
        "is M alone, 1 the paper's. Words that differ from the line above are marked; the last "
        f"column compares with the fact tables.</p>{table}</section>"
    )


def show_status(message: str, trouble: bool = False) -> str:
    """One line that screen readers speak."""
    kind = ' class="pt-trouble"' if trouble else ""
    return f'<p role="status"{kind}>{html.escape(message)}</p>'


# How it is exported


def story_record(story: Story, tokenizer, family: str) -> dict:
    """Everything about one answer, ready for JSON; probabilities from 0 to 1."""
    ask, facts = story.ask, story.facts
    tokens = []
    for choice in story.choices:
        wanted = {
            who: [
                {"token": token_text(tokenizer, int(token)), "p": round(math.exp(score), 5)}
                for token, score in zip(choice.top_ids[row], choice.top_scores[row], strict=True)
            ]
            for row, who in enumerate(MODELS)
        }
        tokens.append(
            {
                "token": token_text(tokenizer, choice.token),
                "id": choice.token,
                "change": round(choice.change, 4),
                "change_in_words": BINS[bin_of(choice.change)][2],
                "first_choice_changed": choice.turned,
                "p": {
                    who: round(math.exp(score), 5)
                    for who, score in zip(MODELS, choice.scores, strict=True)
                },
                "wanted": wanted,
            }
        )
    return {
        "question": ask.question,
        "family": family,
        "alpha": ask.alpha,
        "temperature": ask.temperature,
        "length": ask.length,
        "seed": ask.seed,
        **story.texts,
        "understood": str(story.asked),
        "facts": facts.lines,
        "check": {
            who: checking.verdict(text, story.asked, facts) for who, text in story.texts.items()
        },
        "tokens": tokens,
    }


def story_csv(record: dict) -> str:
    """One line per token of the steered answer, from `story_record`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["position", "token", "id", "change", "first_choice_changed"]
    writer.writerow([*columns, *(f"p_{who}" for who in MODELS)])
    for position, token in enumerate(record["tokens"]):
        row = [position, *(token[column] for column in columns[1:])]
        writer.writerow([*row, *(token["p"][who] for who in MODELS)])
    return out.getvalue()


def show_export(record: dict) -> str:
    """Two links that hold the files themselves, so that the server keeps none."""

    def link(name, kind, text):
        data = base64.b64encode(text.encode()).decode()
        return f'<a download="{name}" href="data:{kind};base64,{data}">{name}</a>'

    story = json.dumps(record, ensure_ascii=False, indent=1)
    return (
        '<p class="pt-export">Keep this answer and its tokens: '
        f"{link('answer.json', 'application/json', story)} "
        f"{link('answer.csv', 'text/csv', story_csv(record))}</p>"
    )


# The page

FIGURE = """
<svg viewBox="0 0 560 210" role="img" aria-label="The prompt goes to M, M plus and M minus; alpha
times the difference of M plus and M minus is added to the logits of M, and the next token is
chosen from the sum.">
<defs><marker id="pt-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>
<g class="pt-figure">
<rect x="2" y="80" width="96" height="50" rx="8"/><text x="50" y="101">question and</text>
<text x="50" y="117">words so far</text>
<rect x="142" y="10" width="130" height="50" rx="8"/><text x="207" y="31">M, large,</text>
<text x="207" y="47">untouched</text>
<rect x="142" y="80" width="130" height="50" rx="8"/><text x="207" y="101">M+, small,</text>
<text x="207" y="117">fine-tuned</text>
<rect x="142" y="150" width="130" height="50" rx="8"/><text x="207" y="171">M−, small,</text>
<text x="207" y="187">before fine-tuning</text>
<rect x="360" y="80" width="110" height="50" rx="8"/><text x="415" y="101">M + alpha ×</text>
<text x="415" y="117">(M+ − M−)</text>
<path d="M98 105L140 40"/><path d="M98 105H140"/><path d="M98 105L140 170"/>
<path d="M272 35L358 95"/><path d="M272 105H358"/><path d="M272 175L358 115"/>
<path d="M470 105H508"/><text x="335" y="60">+ 1</text>
<text x="313" y="99">+ alpha</text><text x="350" y="158">− alpha</text>
<text x="534" y="101">next</text><text x="534" y="117">word</text>
</g></svg>
"""

ABOUT = """
## How it works

Proxy-tuning steers a large language model M without touching its weights. A small model is
fine-tuned: M− before, M+ after. At every word all three say how much they want each possible next
word (their *logits*), and the word is chosen from

`M + alpha × (M+ − M−)`

So M keeps what it knows, and gets what fine-tuning changed in the small model. With alpha 0 it is
M alone; if M+ and M− were the same, it would be M for every alpha. The method is from *Tuning
Language Models by Proxy*.

## What these models cannot do

They are small, and they were made to show a mechanism. They mix up states, months and numbers,
they know nothing beyond polls and results of US presidential elections, and they answer false
things in the same tone as true ones. Use the fact tables, or better their sources, for facts. The
marks on numbers come from the tables, not from the models; what a question asks for is read by
simple rules, and the line "Read as" says how it was understood.

## Data and licences

Poll averages come from FiveThirtyEight's polls and averages (ABC News, CC BY 4.0), 1968 to 2024;
results of 2016, 2020 and 2024 from county returns (MIT). `data/README.md` tells how an average is
made and where every file came from. The code is under the MIT licence.

## How to cite

```
@inproceedings{liu2024tuning,
  title = {Tuning Language Models by Proxy},
  author = {Liu, Alisa and Han, Xiaochuang and Wang, Yizhong and Tsvetkov, Yulia and
            Choi, Yejin and Smith, Noah A.},
  year = {2024},
  booktitle = {First Conference on Language Modeling},
  url = {https://arxiv.org/abs/2401.08565},
}
```

`CITATION.cff` says how to cite this repository.

## From a program

`gradio_client` calls three endpoints, `/ask`, `/sweep` and `/facts`; docs/demo.md shows how.
"""

START = "Ask lets M, M+ and the proxy-tuned M answer side by side; Stop ends an answer early."
CHOOSE = """
element.addEventListener('click', event => {
  const token = event.target.closest('[data-token]');
  if (!token) return;
  element.querySelectorAll('[data-token]').forEach(
    other => other.setAttribute('aria-pressed', other === token));
  trigger('pick', {token: Number(token.dataset.token)});
});
"""


def millions(model) -> str:
    """How many parameters a model has, in words."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters"


def build_app(model, tokenizer, family_name: str, tables: dict) -> gr.Blocks:
    """The widget as a `gr.Blocks`; `launch` gives it its looks and starts it.

    Args:
        model, tokenizer: as `load_family` returns them.
        family_name: shown to people, as "pocket".
        tables: as `polls.load_facts` returns them.
    """

    def respond(question, alpha, temperature, length, seed):
        try:
            ask = Ask(question, alpha, temperature, length, seed)
            begun = time.monotonic()
            for number, story in enumerate(answer(model, tokenizer, tables, ask)):
                change = {answers: show_answers(story)}
                if number == 0:
                    change |= {
                        status: show_status("Answering."),
                        facts: show_facts(story.asked, story.facts),
                        why: "", wishes: "", export: "", told: None,
                    }  # fmt: skip
                if story.done:
                    seconds = time.monotonic() - begun
                    change |= {
                        status: show_status(f"Three answers in {seconds:.1f} s."),
                        why: show_why(story, tokenizer),
                        wishes: show_wishes(story, most_telling(story, tokenizer), tokenizer),
                        export: show_export(story_record(story, tokenizer, family_name)),
                        told: story,
                    }
                yield change
        except ValueError as error:
            empty = dict.fromkeys((answers, facts, why, wishes, export), "")
            yield empty | {status: show_status(str(error), trouble=True), told: None}

    def pick(story, event: gr.EventData):
        index = getattr(event, "token", None)
        if story is None or not isinstance(index, int) or not 0 <= index < len(story.choices):
            return gr.skip()
        return show_wishes(story, index, tokenizer)

    def respond_sweep(question, length):
        try:
            ask = Ask(question, length=length)
            asked = reading.read_question(ask.question, tables)
            found, texts = checking.look_up(asked, tables), None
            for texts in sweep(model, tokenizer, ask):
                yield show_sweep(ask, texts, asked, found, done=False)
            yield show_sweep(ask, texts, asked, found, done=True)
        except ValueError as error:
            yield show_status(str(error), trouble=True)

    def ask_api(question: str, alpha: float = ALPHA, temperature: float = TEMPERATURE,
                length: int = LENGTH, seed: int = SEED) -> dict:  # fmt: skip
        """Answer one question with M, M+ and the proxy-tuned M.

        Returns the keys base, expert and steered (the answers), understood, facts and check (what
        the fact tables say), and tokens (what each model wanted at every token of steered).
        """
        with friendly():
            *_, story = answer(
                model, tokenizer, tables, Ask(question, alpha, temperature, length, seed)
            )
        return story_record(story, tokenizer, family_name)

    def sweep_api(question: str, length: int = LENGTH) -> list[dict]:
        """Answer one question at alpha 0 to 2: a list of alpha and answer."""
        with friendly():
            *_, texts = sweep(model, tokenizer, Ask(question, length=length))
        return [{"alpha": a, "answer": text} for a, text in zip(ALPHAS, texts, strict=True)]

    def facts_api(question: str) -> dict:
        """What the fact tables say about a question, without any model: understood and facts."""
        with friendly():
            asked = reading.read_question(readable(question), tables)
        found = checking.look_up(asked, tables)
        return {"understood": str(asked), "facts": found.lines, "missing": found.missing}

    models_turn = {"concurrency_limit": AT_ONCE, "concurrency_id": "models"}
    private = {"api_visibility": "private"}
    at_once = private | {"queue": False}
    app = gr.Blocks(title="Proxy-tuning", analytics_enabled=False)
    with app:
        show(
            '<header class="pt-head"><h1>Proxy-tuning, seen from inside</h1><p>A large model M '
            "answers; what fine-tuning changed in a small one, from M− to M+, steers it at every "
            "word: <code>M + alpha × (M+ − M−)</code>.</p>"
            f'<p class="pt-small">Models: {html.escape(family_name)}; M has {millions(model.base)},'
            f" M− and M+ {millions(model.antiexpert)} each. They demonstrate a mechanism and are "
            "no source of facts about elections.</p></header>"
        )
        question = gr.Textbox(
            label="Question",
            info=f"About US presidential polls and results; at most {LONGEST} characters. "
            "Enter asks.",
            value=EXAMPLES[0],
            max_lines=4,
            elem_id="pt-question",
        )
        gr.Examples(EXAMPLES, question, label="Examples: choose one, then Ask")
        with gr.Tabs() as tabs:
            with gr.Tab("Answers", id="answers"):
                with gr.Accordion("Settings", open=False, elem_id="pt-settings"):
                    with gr.Row():
                        alpha = gr.Slider(
                            0, 3, model.alpha, step=0.1, label="alpha",
                            info="How strongly M is steered: 0 not at all, 1 as in the paper.",
                        )  # fmt: skip
                        temperature = gr.Slider(
                            0, 2, TEMPERATURE, step=0.1, label="temperature",
                            info="0 takes the likeliest word each time; more lets chance in.",
                        )  # fmt: skip
                    with gr.Row():
                        length = gr.Slider(
                            1, 256, LENGTH, step=1, label="length",
                            info="Longest answer, in tokens (words and parts of words).",
                        )  # fmt: skip
                        seed = gr.Number(
                            SEED, precision=0, label="seed",
                            info="Equal seeds draw equal answers; used above temperature 0.",
                        )  # fmt: skip
                    reset = gr.Button(
                        "Back to the recommended values", size="sm", elem_id="pt-reset"
                    )
                with gr.Row():
                    ask_button = gr.Button("Ask", variant="primary", scale=3, elem_id="pt-ask")
                    stop_button = gr.Button("Stop", scale=1, elem_id="pt-stop")
                status = show(show_status(START), "pt-status")
                answers = show("", "pt-answers")
                facts = show("", "pt-facts")
                why = show("", "pt-why", CHOOSE)
                wishes = show("", "pt-wishes")
                export = show("", "pt-export")
                told = gr.State(None, time_to_live=3600)
            with gr.Tab("Sweep", id="sweep"):
                show(
                    '<p class="pt-small">Sweep answers the question greedily at alpha 0 to 2 in one '
                    "batch: watch the words change as steering grows. Stop ends it early.</p>"
                )
                with gr.Row():
                    sweep_button = gr.Button(
                        "Sweep", variant="primary", scale=3, elem_id="pt-sweep"
                    )
                    stop_sweep = gr.Button("Stop", scale=1, elem_id="pt-stop-sweep")
                swept = show("", "pt-swept")
            with gr.Tab("About", id="about"):
                show(f'<div class="pt-drawing">{FIGURE}</div>')
                gr.Markdown(ABOUT)

        settings = [alpha, temperature, length, seed]
        outputs = [answers, facts, why, wishes, export, told, status]
        question.submit(lambda: gr.Tabs(selected="answers"), outputs=tabs, **at_once)
        asking = gr.on(
            [ask_button.click, question.submit],
            respond,
            [question, *settings],
            outputs,
            show_progress="minimal",
            show_progress_on=status,
            trigger_mode="once",
            **models_turn,
            **private,
        )
        why.pick(pick, told, wishes, show_progress="hidden", **at_once)
        sweeping = sweep_button.click(
            respond_sweep,
            [question, length],
            swept,
            show_progress="minimal",
            **models_turn,
            **private,
        )
        stop_button.click(lambda: show_status("Stopped."), None, status, cancels=asking, **at_once)
        stop_sweep.click(lambda: show_status("Stopped."), None, swept, cancels=sweeping, **at_once)
        reset.click(lambda: (ALPHA, TEMPERATURE, LENGTH, SEED), None, settings, **at_once)
        gr.api(ask_api, api_name="ask", **models_turn)
        gr.api(sweep_api, api_name="sweep", **models_turn)
        gr.api(facts_api, api_name="facts", concurrency_limit=AT_ONCE)
    return app.queue(max_size=WAITING)


@contextlib.contextmanager
def friendly():
    """Turn what is wrong with a question into an error that API clients can read."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def show(value: str, elem_id: str | None = None, script: str | None = None) -> gr.HTML:
    """A place for our own HTML, with our looks and no other."""
    return gr.HTML(
        value, elem_id=elem_id, elem_classes="pt-html", js_on_load=script, apply_default_css=False
    )


THEME = gr.themes.Default(
    primary_hue="blue",
    font=[gr.themes.Font(name) for name in ("system-ui", "sans-serif")],
    font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "monospace")],
).set(
    # Gradio's greys are too light to read with ease (WCAG asks for a contrast of 4.5).
    block_info_text_color="*neutral_700",
    block_info_text_color_dark="*neutral_200",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
)

# Colours of parties and bins are safe for colour-blind readers; none carries meaning alone.
CSS = """
.pt-html .html-container { padding: 0; }
[role="tab"].selected { color: var(--body-text-color) !important; font-weight: 700; }
.pt-head h1 { font-size: 1.6rem; font-weight: 700; margin: 0.2rem 0 0.5rem; }
.pt-head p { margin: 0.3rem 0; }
.pt-small { font-size: 0.875rem; margin: 0.2rem 0 0.6rem; }
.pt-box { border: 1px solid var(--border-color-primary); border-radius: 8px;
  padding: 0.8rem 1rem; background: var(--block-background-fill); color: var(--body-text-color); }
.pt-box h2, .pt-box h3 { font-size: 1.1rem; font-weight: 700; margin: 0 0 0.2rem;
  overflow-wrap: anywhere; }
.pt-box p { margin: 0.2rem 0 0.6rem; }
.pt-box table { border-collapse: collapse; width: 100%; }
.pt-box th, .pt-box td { text-align: left; padding: 0.3rem 0.6rem; vertical-align: top;
  border: 0; border-bottom: 1px solid var(--border-color-primary); }
.pt-hidden { position: absolute !important; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.pt-trouble { font-weight: 600; border-left: 4px solid; padding-left: 0.6rem; }

.pt-cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.pt-steered { border: 2px solid var(--body-text-color); }
.pt-box .pt-answer { font-size: 1.1rem; line-height: 1.6; min-height: 4.8em;
  overflow-wrap: anywhere; }
.pt-verdict { font-weight: 600; min-height: 1.5em; }
.pt-cursor { border-left: 2px solid; margin-left: 2px; }
.pt-mark { border-bottom: 2px solid; font-weight: 600; white-space: nowrap; position: relative; }
.pt-wrong { border-bottom: 4px double; }
.pt-not-checkable { border-bottom-style: dotted; }

.pt-legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; list-style: none; padding: 0;
  margin: 0 0 0.8rem; font-size: 0.875rem; }
.pt-legend li { display: flex; gap: 0.4rem; align-items: baseline; }
.pt-swatch { flex: none; min-width: 2.4rem; text-align: center; border-radius: 4px;
  border: 1px solid #777; }
.pt-tokens { display: flex; flex-wrap: wrap; row-gap: 0.4rem; }
.pt-token { display: inline-flex; flex-direction: column; align-items: center; min-width: 1.5rem;
  min-height: 2.75rem; padding: 0.1rem 0.3rem; margin-right: 1px; border: 1px solid #777;
  border-radius: 4px; font-size: 1rem; cursor: pointer; position: relative; }
.pt-sign { font-size: 0.75rem; line-height: 1; min-height: 0.75rem; }
.pt-token[aria-pressed="true"] { outline: 3px solid var(--body-text-color); outline-offset: 1px;
  z-index: 1; }
.pt-token:focus-visible, .pt-box summary:focus-visible, .pt-export a:focus-visible { outline: 3px solid #2563eb; outline-offset: 1px; }
.pt-bin0 { background: #b35806; color: #fff; } .pt-bin1 { background: #f1a340; color: #000; }
.pt-bin2 { background: #fee0b6; color: #000; } .pt-bin3 { background: #f7f7f7; color: #000; }
.pt-bin4 { background: #d8daeb; color: #000; } .pt-bin5 { background: #b2abd2; color: #000; }
.pt-bin6 { background: #542788; color: #fff; }

.pt-wishes { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); }
.pt-wishes caption { text-align: left; font-weight: 700; caption-side: top; }
.pt-wishes small { display: block; font-weight: 400; font-size: 0.8rem; min-height: 2.4em; }
.pt-wishes th { font-weight: 400; font-family: var(--font-mono); }
.pt-box .pt-wishes th, .pt-box .pt-wishes td { padding: 0.1rem 0.4rem; }
.pt-wishes .pt-taken th { font-weight: 700; }
.pt-wishes .pt-bar { width: 40%; vertical-align: middle; }
.pt-bar span { display: block; height: 0.8rem; background: var(--body-text-color); opacity: 0.7;
  min-width: 1px; }
.pt-wishes td:last-child { text-align: right; font-variant-numeric: tabular-nums; }

.pt-trend { margin: 0.8rem 0 0; max-width: 36rem; }
.pt-trend figcaption { font-weight: 600; }
.pt-trend svg, .pt-drawing svg { width: 100%; height: auto; color: var(--body-text-color); }
.pt-trend text { fill: currentColor; font-size: 12px; }
.pt-trend .pt-strong { font-weight: 700; }
.pt-grid { stroke: currentColor; opacity: 0.2; fill: none; }
.pt-asked { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 2 3; fill: none; }
.pt-line { fill: none !important; stroke-width: 1.5; }
.pt-democrat { fill: #0072b2; stroke: #0072b2; } .pt-republican { fill: #c2410c; stroke: #c2410c; }
.dark .pt-democrat { fill: #56b4e9; stroke: #56b4e9; }
.dark .pt-republican { fill: #f28e2b; stroke: #f28e2b; }
.pt-republican.pt-line { stroke-dasharray: 6 2; }
.pt-box details summary { cursor: pointer; margin-top: 0.4rem; }

#pt-swept td:nth-child(3) { white-space: nowrap; }
.pt-box mark { background: none; color: inherit; font-weight: 700; text-decoration: underline;
  text-decoration-thickness: 2px; text-underline-offset: 3px; }
.pt-export a { margin-right: 1rem; text-decoration: underline; color: var(--body-text-color); }
.pt-drawing { max-width: 44rem; }
.pt-figure rect, .pt-figure path { fill: none; stroke: currentColor; stroke-width: 1.5; }
.pt-figure path { marker-end: url(#pt-arrow); } #pt-arrow path { fill: currentColor; }
.pt-figure text { fill: currentColor; font-size: 13px; text-anchor: middle; }

@media (max-width: 40rem) {
  .pt-box { padding: 0.6rem 0.7rem; }
  .pt-table thead { display: none; }
  .pt-table tr { display: block; padding: 0.3rem 0;
    border-bottom: 1px solid var(--border-color-primary); }
  .pt-box .pt-table th, .pt-box .pt-table td { display: block; padding: 0.1rem 0; border: 0; }
  .pt-table td:empty { display: none; }
  .pt-table [data-head]::before { content: attr(data-head) ": "; font-weight: 400; opacity: 0.85; }
  .pt-trend text { font-size: 15px; }
}
"""


def launch(app: gr.Blocks, **kwargs):
    """Start the app with its looks and without anything from outside; returns what Gradio does.

    One processor core is left to the server: with all of them at work on the models, words reach
    the page only when the answer is complete.

    Args:
        app: as `build_app` returns it.
        kwargs: go on to `gr.Blocks.launch`, as server_port, or share=True for a public link.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    ours = {
        "theme": THEME,
        "css": CSS,
        "share": False,
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "max_file_size": 1,  # bytes: nobody has a file to send
        "state_session_capacity": 200,
        "height": 1000,
    }
    return app.launch(**ours | kwargs)


def serve(
    family: str = "auto",
    alpha: float = ALPHA,
    port: int | None = None,
    begun: float | None = None,
    **parts,
) -> None:
    """Load a family, serve the widget on this machine, print its address, and wait.

    Args:
        family: as `load_family` takes it.
        alpha: where the slider stands at first.
        port: None takes the first free one from 7860.
        begun: `time.monotonic()` when the start began, None for now.
        parts: other keywords of `load_family`, such as base.
    """
    begun = begun or time.monotonic()
    print(f"Loading M, M- and M+ of the family {family} ...", flush=True)
    model, tokenizer = load_family(family, alpha=alpha, **parts)
    known = {f.base: name for name, f in FAMILIES.items()}
    name = known.get(model.base.name_or_path, "own")
    app = build_app(model, tokenizer, name, load_facts(DATA))
    _, address, _ = launch(app, server_port=port, quiet=True, prevent_thread_lock=True)
    seconds = time.monotonic() - begun
    print(f"Ready after {seconds:.1f} s. Open {address} (Ctrl+C ends it).", flush=True)
    app.block_thread()
