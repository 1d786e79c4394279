"""The widget: ask, watch M, M+ and the proxy-tuned M answer side by side, check the answers.

One `gr.Blocks` for a notebook (`launch(build_app(...))`), a shell (`serve`) and a Space.
"""

import os
import time
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.widget import html
from proxy_tuning.widget.asking import (
    ALPHA,
    LENGTH,
    LIMITS,
    LONGEST,
    SEED,
    TEMPERATURE,
    within_limits,
)
from proxy_tuning.widget.desk import Desk

AT_ONCE, WAITING = 2, 40
"""Questions answered at a time, and events that may wait for their turn."""
EXAMPLES = [
    "Who led the polls in Pennsylvania in October 2024?",
    "How did Biden and Trump stand in Wisconsin in June 2024?",
    "How big was the lead in Arizona in September 2024?",
    "Who won Georgia in 2020?",
    "What did the last polls in Michigan say in 2024?",
    "Who was ahead in Ohio in October 2016?",
]
START = "Ask lets M, M+ and the proxy-tuned M answer side by side; Stop ends an answer early."
MODELS_TURN: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "models"}
"""For events that let the models run."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For events that programs have no use for."""
IMMEDIATE: dict[str, Any] = PRIVATE | {"queue": False}
"""For events that wait for nobody."""

CSS, ABOUT, FIGURE, CHOOSE = (
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("style.css", "about.md", "figure.svg", "choose.js")
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


def build_app(model, tokenizer, family_name: str, tables: dict) -> gr.Blocks:
    """The widget as a `gr.Blocks`; `launch` gives it its looks and starts it.

    Args:
        model, tokenizer: as `load_family` returns them.
        family_name: shown to people, as "pocket".
        tables: as `tables.load_facts` returns them.

    Raises:
        ValueError: the model's alpha is outside `LIMITS`.
    """
    within_limits("alpha", model.alpha)
    desk = Desk(model, tokenizer, family_name, tables)
    app = gr.Blocks(title="Proxy-tuning", analytics_enabled=False)
    with app:
        show(html.head(family_name, millions(model.base), millions(model.antiexpert)))
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
                length = answers_tab(desk, question)
            with gr.Tab("Sweep", id="sweep"):
                sweep_tab(desk, question, length)
            with gr.Tab("About", id="about"):
                show(f'<div class="pt-diagram">{FIGURE}</div>')
                gr.Markdown(ABOUT)
        question.submit(lambda: gr.Tabs(selected="answers"), outputs=tabs, **IMMEDIATE)
        gr.api(desk.ask, api_name="ask", **MODELS_TURN)
        gr.api(desk.sweep, api_name="sweep", **MODELS_TURN)
        gr.api(desk.facts, api_name="facts", concurrency_limit=AT_ONCE)
    return app.queue(max_size=WAITING)


def answers_tab(desk: Desk, question: gr.Textbox) -> gr.components.Component:
    """Settings, three answers, the facts, and why each word was chosen; the slider for length."""
    settings = controls(desk.model.alpha)  # type: ignore[arg-type]  # one expert, one alpha
    with gr.Row():
        ask_button = gr.Button("Ask", variant="primary", scale=3, elem_id="pt-ask")
        stop_button = gr.Button("Stop", scale=1, elem_id="pt-stop")
    places = {
        "status": show(html.status(START), "pt-status"),
        "answers": show("", "pt-answers"),
        "facts": show("", "pt-facts"),
        "why": show("", "pt-why", CHOOSE),
        "predictions": show("", "pt-predictions"),
        "export": show("", "pt-export"),
        "told": gr.State(None, time_to_live=3600),
    }

    def respond(*asked):
        for change in desk.page_ask(*asked):
            yield {places[name]: value for name, value in change.items()}

    asking = gr.on(
        [ask_button.click, question.submit],
        respond,
        [question, *settings],
        list(places.values()),
        show_progress="minimal",
        show_progress_on=places["status"],
        trigger_mode="once",
        **MODELS_TURN,
        **PRIVATE,
    )
    places["why"].pick(  # type: ignore[attr-defined]  # the event of CHOOSE
        desk.page_pick, places["told"], places["predictions"], show_progress="hidden", **IMMEDIATE
    )
    stop_button.click(
        lambda: html.status("Stopped."), None, places["status"], cancels=asking, **IMMEDIATE
    )
    return settings[2]


def controls(alpha: float) -> list[gr.components.Component]:
    """The settings in the order of `Ask`, and the button that sets the recommended values."""
    with gr.Accordion("Settings", open=False, elem_id="pt-settings"):
        with gr.Row():
            settings: list[gr.components.Component] = [
                gr.Slider(
                    *LIMITS["alpha"],
                    alpha,
                    step=0.1,
                    label="alpha",
                    info="How strongly M is steered: 0 not at all, 1 as in the paper.",
                ),
                gr.Slider(
                    *LIMITS["temperature"],
                    TEMPERATURE,
                    step=0.1,
                    label="temperature",
                    info="0 takes the likeliest word each time; more lets chance in.",
                ),
            ]
        with gr.Row():
            settings += [
                gr.Slider(
                    *LIMITS["length"],
                    LENGTH,
                    step=1,
                    label="length",
                    info="Longest answer, in tokens (words and parts of words).",
                ),
                gr.Number(
                    SEED,
                    precision=0,
                    label="seed",
                    info="Equal seeds draw equal answers; used above temperature 0.",
                ),
            ]
        reset = gr.Button("Back to the recommended values", size="sm", elem_id="pt-reset")
    reset.click(lambda: (ALPHA, TEMPERATURE, LENGTH, SEED), None, settings, **IMMEDIATE)
    return settings


def sweep_tab(desk: Desk, question: gr.Textbox, length: gr.components.Component) -> None:
    """The same question at every alpha."""
    show(
        '<p class="pt-small">Sweep answers the question greedily at alpha 0 to 2 in one '
        "batch: watch the words change as steering grows. Stop ends it early.</p>"
    )
    with gr.Row():
        sweep_button = gr.Button("Sweep", variant="primary", scale=3, elem_id="pt-sweep")
        stop_button = gr.Button("Stop", scale=1, elem_id="pt-stop-sweep")
    swept = show("", "pt-swept")
    sweeping = sweep_button.click(
        desk.page_sweep,
        [question, length],
        swept,
        show_progress="minimal",
        **MODELS_TURN,
        **PRIVATE,
    )
    stop_button.click(lambda: html.status("Stopped."), None, swept, cancels=sweeping, **IMMEDIATE)


def show(value: str, elem_id: str | None = None, script: str | None = None) -> gr.HTML:
    """A place for our own HTML, with our looks and no other."""
    return gr.HTML(
        value, elem_id=elem_id, elem_classes="pt-html", js_on_load=script, apply_default_css=False
    )


def millions(model: torch.nn.Module) -> str:
    """How many parameters a model has, in words."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters"


def launch(app: gr.Blocks, **kwargs):
    """Start the app with its looks and without anything from outside; returns what Gradio does.

    One processor core is left to the server: with all of them at work on the models, words reach
    the page only when the answer is complete.

    Args:
        app: as `build_app` returns it.
        kwargs: go on to `gr.Blocks.launch`, as server_port, or share=True for a public link.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    ours: dict[str, Any] = {
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

    Raises:
        ValueError: alpha is outside `LIMITS`; nothing is loaded then.
    """
    within_limits("alpha", alpha)
    begun = begun or time.monotonic()
    print(f"Loading M, M- and M+ of the family {family} ...", flush=True)
    model, tokenizer = load_family(family, alpha=alpha, **parts)
    known = {f.base: name for name, f in FAMILIES.items()}
    name = known.get(model.sources["base"], "own")
    app = build_app(model, tokenizer, name, load_facts(DATA))
    _, address, _ = launch(app, server_port=port, quiet=True, prevent_thread_lock=True)
    seconds = time.monotonic() - begun
    print(f"Ready after {seconds:.1f} s. Open {address} (Ctrl+C ends it).", flush=True)
    app.block_thread()
