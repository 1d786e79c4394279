"""The widget: ask, watch M, M+ and the proxy-tuned M answer side by side, check the answers.

One `gr.Blocks` for a notebook (`launch(build_app(...))`), a shell (`serve`) and a Space.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from inspect import signature
from typing import Any

import gradio as gr
import torch
from starlette.middleware import Middleware

from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.parts import bare
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.widget import html
from proxy_tuning.widget.asking import ALPHA, LIMITS, LONGEST, SEED, TEMPERATURE, within_limits
from proxy_tuning.widget.desk import SETTINGS, Desk, pressed
from proxy_tuning.widget.faster import take_over
from proxy_tuning.widget.gate import Gate
from proxy_tuning.widget.looks import ABOUT, CSS, FIGURE, KEEP_ADDRESS, SCREEN, THEME, show
from proxy_tuning.widget.topics import topic_of

AT_ONCE, WAITING = 2, 40
"""Questions answered at a time, and events that may wait for their turn."""
CALLS = {
    name: list(signature(getattr(Desk, name)).parameters)[1:] for name in ("ask", "sweep", "facts")
}
"""What programs may call, and the names of the values that each takes."""
START = "Ask lets M, M+ and the proxy-tuned M answer side by side; Stop ends an answer early."
MODELS_TURN: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "models"}
"""For events that let the models run."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For events that programs have no use for."""
IMMEDIATE: dict[str, Any] = PRIVATE | {"queue": False}
"""For events that wait for nobody."""


def build_app(model, tokenizer, family_name: str, about) -> gr.Blocks:
    """The widget as a `gr.Blocks`; `launch` gives it its looks and starts it.

    Args:
        model, tokenizer: as `load_family` returns them.
        family_name: shown to people, as "pocket".
        about: what the page knows beside the models: fact tables as `tables.load_facts` returns
            them, one's own rows as `training.material.read_rows` does, or a `topics.Topic`.

    Raises:
        ValueError: the model's alpha is outside `LIMITS`.
    """
    return page_of(Desk(model, tokenizer, family_name, topic_of(about)))


def page_of(desk: Desk) -> gr.Blocks:
    """The widget before a desk; ValueError as `build_app` raises."""
    model = desk.model
    within_limits("alpha", model.alpha)
    examples: list = [(example.question, example.tells, {}) for example in desk.examples]
    app = gr.Blocks(title="Proxy-tuning", analytics_enabled=False)
    with app:
        show(html.head(desk.family, millions(model.base), millions(model.antiexpert)))
        question = gr.Textbox(
            label="Question",
            info=f"{desk.topic.hint} At most {LONGEST} characters; Enter asks.",
            value=examples[0][0] if examples else "",
            max_lines=4,
            elem_id="pt-question",
        )
        with gr.Row(elem_id="pt-go"):
            ask_button = gr.Button(
                "Ask", variant="primary", scale=3, min_width=120, elem_id="pt-ask"
            )
            stop_button = gr.Button("Stop", scale=1, min_width=80, elem_id="pt-stop")
        chosen = show(html.asks("Examples", examples), "pt-examples")
        with gr.Tabs() as tabs:
            with gr.Tab("Answers", id="answers"):
                begins = [ask_button.click, question.submit, chosen.submit]
                settings = answers_tab(desk, question, begins, stop_button)
            with gr.Tab("Compare", id="compare"):
                compare_tab(desk, question, settings)
            with gr.Tab("Sweep", id="sweep"):
                sweep_tab(desk, question, settings)
            with gr.Tab("About", id="about"):
                show(f'<div class="pt-diagram">{FIGURE}</div>')
                gr.Markdown(ABOUT)
        gr.on(begins, lambda: gr.Tabs(selected="answers"), outputs=tabs, **IMMEDIATE)
        gr.api(desk.ask, api_name="ask", **MODELS_TURN)
        gr.api(desk.sweep, api_name="sweep", **MODELS_TURN)
        gr.api(desk.facts, api_name="facts", concurrency_limit=AT_ONCE)
        wide, search = gr.Checkbox(visible=False), gr.Textbox(visible=False)
        app.load(desk.page_open, [wide, search], settings["opened"], js=SCREEN, **PRIVATE)
    return app.queue(max_size=WAITING)


def answers_tab(
    desk: Desk, question: gr.Textbox, begins: list[Callable], stop_button: gr.Button
) -> dict:
    """Settings, three answers, the facts, why each word was chosen, and where it could have gone.

    Args:
        begins: events that ask, beside those of this tab.

    Returns:
        The settings by name, and under "opened" what `Desk.page_open` fills.
    """
    settings = controls(desk)
    places: dict[str, Any] = {
        "question": question,
        **settings,
        "status": show(html.status(START), "pt-status"),
        "answers": show("", "pt-answers"),
        "facts": show("", "pt-facts"),
    }
    with gr.Accordion("Why this word? Take the wheel", elem_id="pt-wheel") as wheel:
        places |= {
            "why": show("", "pt-why"),
            "here": gr.Slider(
                *LIMITS["alpha"],
                ALPHA,
                step=0.1,
                label="alpha at this word",
                info="Moves the predictions below at once, from logits already there; a token "
                "that you press goes on at this alpha.",
                elem_id="pt-here",
            ),
            "predictions": show("", "pt-predictions"),
            "branches": show("", "pt-branches"),
        }
    places |= {
        "export": show("", "pt-export"),
        "history": show("", "pt-history"),
        "told": gr.State(None, time_to_live=3600),
        "asked": gr.State([], time_to_live=3600),
    }
    linked = gr.State(0)

    def named(change: dict):
        return {places[name]: value for name, value in change.items()} or gr.skip()

    def respond(question, alpha, temperature, length, seed, reword, asked, event: gr.EventData):
        values = alpha, temperature, length, seed, reword
        yield from map(named, desk.page_ask(question, values, asked, pressed(event)))

    def take(story, here, event: gr.EventData):
        yield from map(named, desk.page_take(story, here, pressed(event)))

    everything, told, here = list(places.values()), places["told"], places["here"]
    asking = gr.on(
        [*begins, places["facts"].submit, places["history"].submit, linked.change],
        respond,
        [question, *settings.values(), places["asked"]],
        everything,
        show_progress="minimal",
        show_progress_on=places["status"],
        trigger_mode="once",
        **MODELS_TURN,
        **PRIVATE,
    )
    asking.then(None, js=KEEP_ADDRESS)
    taking = places["predictions"].take(
        take,
        [told, here],
        everything,
        show_progress="minimal",
        show_progress_on=places["status"],
        trigger_mode="once",
        **MODELS_TURN,
        **PRIVATE,
    )
    quiet: dict[str, Any] = {"show_progress": "hidden", **IMMEDIATE}

    def pick(story, here, event: gr.EventData):
        return desk.page_pick(story, here, pressed(event))

    def branch(story, event: gr.EventData):
        return named(desk.page_branch(story, pressed(event)))

    places["why"].pick(pick, [told, here], places["predictions"], **quiet)
    here.input(
        desk.page_here, [told, here], places["predictions"], trigger_mode="always_last", **quiet
    )
    places["branches"].branch(branch, told, everything, **quiet)
    places["branches"].back(lambda story: named(desk.page_back(story)), told, everything, **quiet)
    stop_button.click(
        lambda: html.status("Stopped."),
        None,
        places["status"],
        cancels=[asking, taking],
        **IMMEDIATE,
    )
    return settings | {"opened": [question, *settings.values(), linked, wheel]}


def controls(desk: Desk) -> dict[str, gr.components.Component]:
    """The settings by name in the order of `SETTINGS`, and what sets the recommended values."""
    usual = desk.recommended()
    with gr.Accordion("Settings", open=False, elem_id="pt-settings"):
        with gr.Row():
            alpha, temperature = alpha_and_temperature(usual["alpha"])
        with gr.Row():
            length = gr.Slider(
                *LIMITS["length"],
                usual["length"],
                step=1,
                label="length",
                info="Longest answer, in tokens (words and parts of words).",
            )
            seed = seed_box()
        reword = gr.Checkbox(
            usual["reword"],
            label="Ask in a wording that M+ was trained in",
            info="The page then says “Asked as”. Off: your own words.",
            visible=desk.topic.rewords,
        )
        reset = gr.Button("Back to the recommended values", size="sm", elem_id="pt-reset")
    settings = dict(zip(SETTINGS, (alpha, temperature, length, seed, reword), strict=True))
    reset.click(lambda: list(usual.values()), None, list(settings.values()), **IMMEDIATE)
    return settings


def alpha_and_temperature(alpha: float) -> list[gr.components.Component]:
    """Two sliders."""
    return [
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


def seed_box() -> gr.Number:
    """Where chance starts."""
    return gr.Number(
        SEED,
        precision=0,
        label="seed",
        info="Equal seeds draw equal answers; used above temperature 0.",
    )


def compare_tab(desk: Desk, question: gr.Textbox, settings: dict) -> None:
    """The same question in two settings."""
    words = (
        "The proxy-tuned M answers the question above in two settings; words of the second that "
        "differ are underlined. Length and wording are those of Answers."
    )
    begin, stop = buttons(words, "Compare", "compare")
    values = []
    with gr.Row():
        for name, alpha in (("The one", 0.5), ("The other", 1.5)):
            with gr.Column(min_width=240):
                gr.Markdown(f"**{name}**")
                values += [*alpha_and_temperature(alpha), seed_box()]
    shown = show("", "pt-compared")
    given = [question, settings["length"], settings["reword"], *values]
    run(desk.page_compare, given, shown, begin, stop)


def sweep_tab(desk: Desk, question: gr.Textbox, settings: dict) -> None:
    """The same question at every alpha."""
    words = (
        "The proxy-tuned M answers the question above greedily at alpha 0 to 2 in one batch: watch "
        "the words change as steering grows."
    )
    begin, stop = buttons(words, "Sweep", "sweep")
    swept = show("", "pt-swept")
    run(desk.page_sweep, [question, settings["length"], settings["reword"]], swept, begin, stop)


def buttons(words: str, name: str, elem: str) -> tuple[gr.Button, gr.Button]:
    """What a tab does, and its buttons to begin and to stop."""
    gr.Markdown(words, elem_classes="pt-small")
    with gr.Row():
        begin = gr.Button(name, variant="primary", scale=3, elem_id=f"pt-{elem}")
        stop = gr.Button("Stop", scale=1, elem_id=f"pt-stop-{elem}")
    return begin, stop


def run(answers: Callable, given: list, shown: gr.HTML, begin: gr.Button, stop: gr.Button) -> None:
    """Let a button show what grows; another ends it."""
    running = begin.click(answers, given, shown, show_progress="minimal", **MODELS_TURN, **PRIVATE)
    stop.click(lambda: html.status("Stopped."), None, shown, cancels=running, **IMMEDIATE)


def millions(part) -> str:
    """How many parameters a part has, in words; those of an adapter are not counted."""
    model: Any = bare(part)
    own = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" not in name)
    return f"{(own or model.num_parameters()) / 1e6:.1f} million parameters"


def leave_a_core() -> None:
    """Keep the models from one processor core, which serves the page.

    With all of them at work on the models, words reach the page only when the answer is complete.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))


def launch(app: gr.Blocks, **kwargs):
    """Start the app with its looks and without anything from outside; returns what Gradio does.

    Args:
        app: as `build_app` returns it.
        kwargs: go on to `gr.Blocks.launch`, as server_port, or share=True for a public link.
    """
    leave_a_core()
    ours: dict[str, Any] = {
        "theme": THEME,
        "css": CSS,
        "share": False,
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "max_file_size": 1,  # bytes: nobody has a file to send
        "state_session_capacity": 50,  # a story holds the logits of all its tokens
        "height": 1000,
        "app_kwargs": {"middleware": [Middleware(Gate, calls=CALLS, events=list(app.fns))]},
    }
    return app.launch(**ours | kwargs)


def check_port(port: int | None) -> None:
    """ValueError for a port that cannot be had on this machine."""
    if port is None:
        return
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be had ({error}): name another one") from None


def serve(
    family: str = "auto",
    alpha: float = ALPHA,
    port: int | None = None,
    begun: float | None = None,
    about=None,
    **parts,
) -> None:
    """Load a family, serve the widget on this machine, print its address, and wait.

    Args:
        family: as `load_family` takes it.
        alpha: where the slider stands at first.
        port: None takes the first free one from 7860.
        begun: `time.monotonic()` when the start began, None for now.
        about: as `build_app` takes it; None is the polls.
        parts: other keywords of `load_family`, such as base. Without an engine it is ONNX Runtime
            where the models have been exported; else torch answers until they are.

    Raises:
        ValueError: alpha is outside `LIMITS`, or the port is taken; nothing is loaded then.
    """
    within_limits("alpha", alpha)
    check_port(port)
    begun = begun or time.monotonic()
    print(f"Loading M, M- and M+ of the family {family} ...", flush=True)
    leave_a_core()  # before ONNX Runtime is told how many it has
    model, tokenizer = load_family(family, alpha=alpha, **{"engine": "auto"} | parts)
    known = {f.base: name for name, f in FAMILIES.items()}
    name = known.get(model.sources["base"], "own")
    desk = Desk(model, tokenizer, name, topic_of(load_facts(DATA) if about is None else about))
    del model  # the desk's may be exchanged, and this one is to go then
    app = page_of(desk)
    _, address, _ = launch(app, server_port=port, quiet=True, prevent_thread_lock=True)
    seconds = time.monotonic() - begun
    print(f"Ready after {seconds:.1f} s. Open {address} (Ctrl+C ends it).", flush=True)
    if "engine" not in parts:
        threading.Thread(target=take_over, args=[desk], daemon=True).start()
    app.block_thread()
