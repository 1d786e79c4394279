"""The widget: ask, watch M, M+ and the proxy-tuned M answer side by side, check the answers.

One `gr.Blocks` for a notebook (`launch(build_app(...))`), a shell (`serve`) and a Space.
"""

import html
import math
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import torch

from proxy_tuning import factcheck
from proxy_tuning.decoding import HISTORIES, stream_side_by_side
from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.polls import load_facts
from proxy_tuning.questions import prompt

DATA = Path(__file__).parent.parent / "data"
LONGEST = 300
"""Characters that a question may have."""
ALPHA, TEMPERATURE, LENGTH, SEED = 1.0, 0.0, 64, 0
"""The recommended settings."""
LIMITS = {"alpha": (0, 3), "temperature": (0, 2), "length": (1, 256), "seed": (0, 2**31 - 1)}
EVERY = 0.05
"""Seconds between two looks at a growing answer."""
AT_ONCE, WAITING = 2, 40
"""Questions answered at a time, and events that may wait for their turn."""

NAMES = {"base": "M alone", "expert": "M+ alone", "steered": "Proxy-tuned M"}
ROLES = {
    "base": "the large model, untouched",
    "expert": "the small model after fine-tuning",
    "steered": "M, steered by what fine-tuning changed in the small model",
}
EXAMPLES = [
    "Who led the polls in Pennsylvania in October 2024?",
    "How did Biden and Trump stand in Wisconsin in June 2024?",
    "How big was the lead in Arizona in September 2024?",
    "Who won Georgia in 2020?",
    "What did the last polls in Michigan say before the 2024 election?",
    "Who was ahead in Ohio in October 2016?",
]


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


@dataclass
class Story:
    """What was asked and how the three texts grew."""

    ask: Ask
    asked: factcheck.Asked
    facts: factcheck.Facts
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HISTORIES, ""))
    """The answers so far, by who writes them."""
    done: bool = False


def answer(model, tokenizer, tables, ask: Ask) -> Iterator[Story]:
    """Answer one question; the same `Story` again and again while it grows, its last time done.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    asked = factcheck.read_question(ask.question, tables)
    story = Story(ask, asked, factcheck.look_up(asked, tables))
    inputs = tokenizer(prompt(ask.question), return_tensors="pt")
    tokens, context = inputs["input_ids"].shape[1], model.config.max_position_embeddings
    if context and tokens + 8 > context:
        raise ValueError(
            f"That question takes {tokens} tokens, and these models read {context} in all, "
            "their answer included. Please ask in fewer words."
        )
    steps = stream_side_by_side(
        model,
        **inputs,
        max_new_tokens=min(ask.length, (context or math.inf) - tokens),
        temperature=ask.temperature,
        alpha=ask.alpha,
        generator=torch.Generator(model.device).manual_seed(ask.seed),
        eos_token_id=tokenizer.eos_token_id,
    )
    written, shown = [], -math.inf
    for step in steps:
        written.append(step.next_ids[:, 0])
        if time.monotonic() - shown > EVERY:
            story.texts = read(tokenizer, written)
            shown = time.monotonic()
            yield story
    story.texts, story.done = read(tokenizer, written), True
    yield story


def read(tokenizer, written: list[torch.Tensor]) -> dict[str, str]:
    """The three texts of so many steps of token ids (3,); a letter half written waits."""
    rows = torch.stack(written, dim=1).tolist()  # (3, N)
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return {who: text.strip().rstrip("\ufffd") for who, text in zip(HISTORIES, texts, strict=True)}


def show_answers(story: Story) -> str:
    """The three answers as HTML, side by side; marked numbers once they are complete."""
    cards = []
    for who in HISTORIES:
        text = story.texts[who]
        if story.done:
            pieces = factcheck.mark_numbers(text, story.asked, story.facts)
            body = "".join(map(show_piece, pieces)) or "<em>(it said nothing)</em>"
            below = html.escape(factcheck.verdict(text, story.asked, story.facts))
        else:
            body, below = html.escape(text) + '<span class="pt-cursor"></span>', ""
        cards.append(
            f'<section class="pt-card pt-{who}"><h3>{NAMES[who]}</h3>'
            f'<p class="pt-role">{ROLES[who]}</p><p class="pt-answer">{body}</p>'
            f'<p class="pt-verdict">{below}</p></section>'
        )
    return f'<div class="pt-cards">{"".join(cards)}</div>'


SIGNS = {"right": "✓", "wrong": "✗", "not checkable": "?"}


def show_piece(piece: factcheck.Piece) -> str:
    """A part of an answer as HTML; a number carries a sign and a word for its mark."""
    text = html.escape(piece.text)
    if piece.mark is None:
        return text
    return (
        f'<span class="pt-mark pt-{piece.mark.replace(" ", "-")}" title="{html.escape(piece.why)}">'
        f'{text}<span aria-hidden="true">{SIGNS[piece.mark]}</span>'
        f'<span class="pt-hidden"> ({piece.mark}: {html.escape(piece.why)})</span></span>'
    )


def show_facts(story: Story) -> str:
    """What the fact tables say about the question, as HTML."""
    parts = [f"<p>{html.escape(str(story.asked))}</p>"]
    if story.facts.lines:
        heads = ("", "Democrat", "Republican", "Ahead", "Rests on")
        rows = "".join(
            "<tr>" + f'<th scope="row">{html.escape(line["what"])}</th>'
            + "".join(f"<td>{html.escape(line[key])}</td>"
                      for key in ("democrat", "republican", "ahead", "rests_on")) + "</tr>"
            for line in story.facts.lines
        )  # fmt: skip
        head = "".join(f'<th scope="col">{name}</th>' for name in heads)
        parts.append(f'<div class="pt-wide"><table><thead><tr>{head}</tr></thead>'
                     f"<tbody>{rows}</tbody></table></div>")  # fmt: skip
    if story.facts.missing:
        parts.append(f"<p>{html.escape(story.facts.missing)}</p>")
    return (
        '<section class="pt-facts"><h3>What the polls say</h3>'
        '<p class="pt-role">From the fact tables in data/, not from any model: check the answers '
        f"against it.</p>{''.join(parts)}</section>"
    )


def show_status(message: str, trouble: bool = False) -> str:
    """One line that screen readers speak."""
    kind = ' class="pt-trouble"' if trouble else ""
    return f'<p role="status"{kind}>{html.escape(message)}</p>'


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
                    change |= {facts: show_facts(story), status: show_status("Answering.")}
                if story.done:
                    seconds = time.monotonic() - begun
                    change[status] = show_status(f"Three answers in {seconds:.1f} s.")
                yield change
        except ValueError as error:
            yield {status: show_status(str(error), trouble=True), answers: "", facts: ""}

    app = gr.Blocks(title="Proxy-tuning", analytics_enabled=False)
    with app:
        gr.HTML(
            '<header class="pt-head"><h1>Proxy-tuning, seen from inside</h1>'
            "<p>A large model M answers; the difference between a small model after fine-tuning "
            "(M+) and before (M-) steers it at every word: "
            "<code>M + alpha × (M+ − M-)</code>.</p>"
            f"<p>Models: {html.escape(family_name)}. They are a demonstration, not a source of "
            "election facts.</p></header>"
        )
        question = gr.Textbox(
            label="Question",
            info=f"About US presidential polls and results; at most {LONGEST} characters.",
            value=EXAMPLES[0],
            lines=2,
            max_lines=4,
            elem_id="pt-question",
        )
        with gr.Row():
            ask_button = gr.Button("Ask", variant="primary", elem_id="pt-ask")
            stop_button = gr.Button("Stop", elem_id="pt-stop")
        gr.Examples(EXAMPLES, question, label="Examples")
        with gr.Accordion("Settings", open=False):
            with gr.Row():
                alpha = gr.Slider(
                    0, 3, model.alpha, step=0.1, label="alpha",
                    info="How strongly the small models steer M; 0 is M alone, 1 is the paper's.",
                )  # fmt: skip
                temperature = gr.Slider(
                    0, 2, TEMPERATURE, step=0.1, label="temperature",
                    info="0 takes the most likely word each time; more lets chance in.",
                )  # fmt: skip
            with gr.Row():
                length = gr.Slider(
                    1, 256, LENGTH, step=1, label="length",
                    info="Longest answer, in tokens (parts of words).",
                )  # fmt: skip
                seed = gr.Number(
                    SEED, precision=0, label="seed",
                    info="The same seed draws the same answer again; used above temperature 0.",
                )  # fmt: skip
            reset = gr.Button("Recommended settings", size="sm")
        status = gr.HTML(show_status(""), elem_id="pt-status")
        answers = gr.HTML(elem_id="pt-answers")
        facts = gr.HTML(elem_id="pt-facts")

        settings = [alpha, temperature, length, seed]
        asking = gr.on(
            [ask_button.click, question.submit],
            respond,
            [question, *settings],
            [answers, facts, status],
            show_progress="minimal",
            show_progress_on=status,
            concurrency_limit=AT_ONCE,
            concurrency_id="models",
            trigger_mode="once",
            api_visibility="private",
        )
        stop_button.click(
            lambda: show_status("Stopped."), outputs=status, cancels=asking, queue=False,
            api_visibility="private",
        )  # fmt: skip
        reset.click(
            lambda: [ALPHA, TEMPERATURE, LENGTH, SEED], outputs=settings, queue=False,
            api_visibility="private",
        )  # fmt: skip
    return app.queue(max_size=WAITING)


THEME = gr.themes.Default(
    font=[gr.themes.Font(name) for name in ("system-ui", "sans-serif")],
    font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "monospace")],
)
CSS = """
.pt-head h1 { font-size: 1.6rem; margin: 0.3rem 0; }
.pt-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
.pt-card, .pt-facts { border: 1px solid var(--border-color-primary); border-radius: 8px;
  padding: 0.8rem 1rem; background: var(--block-background-fill); }
.pt-steered { border-width: 2px; border-color: var(--body-text-color); }
.pt-role, .pt-verdict { font-size: 0.875rem; color: var(--body-text-color); margin: 0.2rem 0; }
.pt-answer { font-size: 1.1rem; min-height: 3.2em; overflow-wrap: anywhere; }
.pt-verdict { font-weight: 600; }
.pt-cursor { border-left: 2px solid; margin-left: 2px; }
.pt-mark { border-bottom: 2px solid; font-weight: 600; white-space: nowrap; }
.pt-right { border-bottom-style: solid; }
.pt-wrong { border-bottom-style: double; border-bottom-width: 4px; }
.pt-not-checkable { border-bottom-style: dotted; }
.pt-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.pt-wide { overflow-x: auto; }
.pt-facts table { border-collapse: collapse; width: 100%; }
.pt-facts th, .pt-facts td { text-align: left; padding: 0.3rem 0.6rem;
  border-bottom: 1px solid var(--border-color-primary); }
.pt-trouble { font-weight: 600; border-left: 4px solid; padding-left: 0.6rem; }
"""


def launch(app: gr.Blocks, **kwargs):
    """Start the app with its looks and without anything from outside; returns what Gradio does.

    Args:
        app: as `build_app` returns it.
        kwargs: go on to `gr.Blocks.launch`, as server_port, or share=True for a public link.
    """
    return app.launch(
        **{
            "theme": THEME,
            "css": CSS,
            "share": False,
            "footer_links": ["api"],
            "run_history": False,
            "ssr_mode": False,
            "max_file_size": 1,
            "state_session_capacity": 200,
            "height": 1000,
        }
        | kwargs
    )


def serve(family: str = "auto", alpha: float = ALPHA, port: int | None = None) -> None:
    """Load a family, serve the widget on this machine, print its address, and wait.

    Args:
        family: as `load_family` takes it.
        alpha: where the slider stands at first.
        port: None takes the first free one from 7860.
    """
    begun = time.monotonic()
    print(f"Loading M, M- and M+ of the family {family} ...", flush=True)
    model, tokenizer = load_family(family, alpha=alpha)
    name = next(name for name, f in FAMILIES.items() if f.base == model.base.name_or_path)
    app = build_app(model, tokenizer, name, load_facts(DATA))
    _, address, _ = launch(app, server_port=port, quiet=True, prevent_thread_lock=True)
    print(
        f"Ready after {time.monotonic() - begun:.1f} s. Open {address} (Ctrl+C ends it).",
        flush=True,
    )
    app.block_thread()
