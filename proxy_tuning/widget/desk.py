"""What happens when a person or a program asks: from a question to what the page shows."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.polls import checking, reading
from proxy_tuning.widget import html
from proxy_tuning.widget.asking import (
    ALPHA,
    ALPHAS,
    LENGTH,
    SEED,
    TEMPERATURE,
    Ask,
    Story,
    answer,
    most_telling,
    readable,
    sweep,
)
from proxy_tuning.widget.export import story_record


@dataclass(frozen=True)
class Desk:
    """Takes the questions of people and programs: `page_` for the page, the others for the API."""

    model: ProxyTunedForCausalLM
    tokenizer: object
    family: str
    tables: dict

    def ask(
        self,
        question: str,
        alpha: float = ALPHA,
        temperature: float = TEMPERATURE,
        length: int = LENGTH,
        seed: int = SEED,
    ) -> dict:
        """Answer one question with M, M+ and the proxy-tuned M.

        Returns the keys base, expert and steered (the answers), understood, facts and check (what
        the fact tables say), and tokens (the predictions of each model at every token of steered).
        """
        with friendly():
            asked = Ask(question, alpha, temperature, length, seed)
            *_, story = answer(self.model, self.tokenizer, self.tables, asked)
        return story_record(story, self.tokenizer, self.family)

    def sweep(self, question: str, length: int = LENGTH) -> list[dict]:
        """Answer one question at alpha 0 to 2: a list of alpha and answer."""
        with friendly():
            *_, texts = sweep(self.model, self.tokenizer, Ask(question, length=length))
        return [{"alpha": a, "answer": text} for a, text in zip(ALPHAS, texts, strict=True)]

    def facts(self, question: str) -> dict:
        """What the fact tables say about a question, without any model: understood and facts."""
        with friendly():
            asked = reading.read_question(readable(question), self.tables)
        found = checking.look_up(asked, self.tables)
        return {"understood": str(asked), "facts": found.lines, "missing": found.missing}

    def page_ask(self, question, alpha, temperature, length, seed) -> Iterator[dict]:
        """What changes on the page while an answer grows, by the names of `answers_tab`."""
        try:
            asked = Ask(question, alpha, temperature, length, seed)
            begun = time.monotonic()
            for number, story in enumerate(answer(self.model, self.tokenizer, self.tables, asked)):
                change: dict = {"answers": html.answers(story)}
                if number == 0:
                    change |= dict.fromkeys(("why", "predictions", "export"), "") | {
                        "status": html.status("Answering."),
                        "facts": html.facts(story.asked, story.facts),
                        "told": None,
                    }
                if story.done:
                    change |= self.ending(story, time.monotonic() - begun)
                yield change
        except ValueError as error:
            empty = dict.fromkeys(("answers", "facts", "why", "predictions", "export"), "")
            yield empty | {"status": html.status(str(error), trouble=True), "told": None}

    def ending(self, story: Story, seconds: float) -> dict:
        """What appears on the page once the three answers are complete."""
        return {
            "status": html.status(f"Three answers in {seconds:.1f} s."),
            "why": html.tokens(story, self.tokenizer),
            "predictions": html.predictions(
                story, most_telling(story, self.tokenizer), self.tokenizer
            ),
            "export": html.export(story_record(story, self.tokenizer, self.family)),
            "told": story,
        }

    def page_pick(self, story: Story | None, event: gr.EventData):
        """The predictions at the token that was chosen."""
        index = getattr(event, "token", None)
        if story is None or not isinstance(index, int) or not 0 <= index < len(story.choices):
            return gr.skip()
        return html.predictions(story, index, self.tokenizer)

    def page_sweep(self, question, length) -> Iterator[str]:
        """The sweep's rows while they grow."""
        try:
            ask = Ask(question, length=length)
            asked = reading.read_question(ask.question, self.tables)
            found = checking.look_up(asked, self.tables)
            texts: list[str] = []
            for texts in sweep(self.model, self.tokenizer, ask):
                yield html.sweep(ask, texts, asked, found, done=False)
            yield html.sweep(ask, texts, asked, found, done=True)
        except ValueError as error:
            yield html.status(str(error), trouble=True)


@contextlib.contextmanager
def friendly():
    """Turn what is wrong with a question into an error that API clients can read."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
