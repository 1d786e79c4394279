"""What happens when a person or a program asks: from a question to what the page shows."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from proxy_tuning.answering import read_template
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.widget import html
from proxy_tuning.widget.asking import (
    ALPHA,
    LENGTH,
    SEED,
    TEMPERATURE,
    Ask,
    readable,
    within_limits,
)
from proxy_tuning.widget.export import story_record
from proxy_tuning.widget.stories import ALPHAS, Story, answer, as_asked, compare, fork, sweep
from proxy_tuning.widget.topics import Example, Topic

SETTINGS = tuple(field.name for field in fields(Ask) if field.name != "question")
"""What a question is asked with, in the order of the page's controls."""
KEPT = 20
"""Questions of a session that the page keeps to go back to."""


@dataclass
class Desk:
    """Takes the questions of people and programs: `page_` for the page, the others for the API."""

    model: ProxyTunedForCausalLM
    """What answers; where it is exchanged, answers that have begun end with the one before."""
    tokenizer: object
    family: str
    topic: Topic

    def __post_init__(self):
        read_template(self.model, self.tokenizer)

    @property
    def chats(self) -> bool:
        """Whether these models have a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def examples(self) -> list[Example]:
        """Those of the topic's that are for these models."""
        return [each for each in self.topic.examples if each.chat in (None, self.chats)]

    @property
    def rewords(self) -> bool:
        """Whether these models are asked in a wording that they were trained in, if left to it.

        A model with a chat template gets people's own words.
        """
        return self.topic.rewords and not self.chats

    def ask(
        self,
        question: str,
        alpha: float = ALPHA,
        temperature: float = TEMPERATURE,
        length: int = LENGTH,
        seed: int = SEED,
        reword: bool | None = None,
    ) -> dict:
        """Answer one question with M, M+ and the proxy-tuned M.

        Returns the keys base, expert and steered (the answers), asked_as (the question as the
        models got it), understood, facts, missing, near, page_says and check (what the page has
        about it without any model), and tokens (the predictions of each model at every token of
        steered).
        """
        with friendly():
            reword = self.rewords if reword is None else reword
            asked = Ask(question, alpha, temperature, length, seed, reword)
            *_, story = answer(self.model, self.tokenizer, self.topic, asked)
        return story_record(story, self.tokenizer, self.family)

    def sweep(self, question: str, length: int = LENGTH) -> list[dict]:
        """Answer one question at alpha 0 to 2: a list of alpha and answer."""
        with friendly():
            ask = Ask(question, length=length, reword=self.rewords)
            asked = as_asked(ask, self.topic.find(ask.question))
            *_, texts = sweep(self.model, self.tokenizer, ask, asked)
        return [{"alpha": a, "answer": text} for a, text in zip(ALPHAS, texts, strict=True)]

    def facts(self, question: str) -> dict:
        """What the page has about a question, without any model: understood, facts and missing."""
        with friendly():
            found = self.topic.find(readable(question))
        return {"understood": found.understood, "facts": found.facts, "missing": found.missing}

    def page_open(self, wide: bool, search: str) -> tuple:
        """What a page begins with: question, settings, 1 if it asks at once, and what is open.

        Args:
            wide: whether the screen is.
            search: what follows the question mark in the address; settings in it that are none
                are left out.
        """
        given = dict(parse_qsl(search.removeprefix("?")))
        values = self.recommended()
        for name in values.keys() & given.keys():
            with contextlib.suppress(ValueError):
                values[name] = getattr(Ask("any", **{name: read(name, given[name])}), name)
        question = given.get("q")
        return (
            gr.skip() if question is None else question,  # what was typed meanwhile stays
            *values.values(),
            int(question is not None),
            gr.Accordion(open=wide),
        )

    def recommended(self) -> dict:
        """The recommended settings by name, in the order of `SETTINGS`."""
        values = (self.model.alpha, TEMPERATURE, LENGTH, SEED, self.rewords)
        return dict(zip(SETTINGS, values, strict=True))

    def address(self, ask: Ask) -> str:
        """What follows the page's address for the same question in the same settings."""
        usual = self.recommended()
        other = {name: value for name, value in asdict(ask).items() if usual.get(name) != value}
        question = other.pop("question")
        return "?" + urlencode({"q": question} | other)

    def page_ask(self, question, values, earlier: list[Ask], event: dict) -> Iterator[dict]:
        """What changes on the page while an answer grows, by the names of `answers_tab`.

        Args:
            question: what stands in the box.
            values: of `SETTINGS`.
            earlier: the session's questions so far.
            event: question and settings of what was pressed elsewhere, which go before.
        """
        given = {"question": question} | dict(zip(SETTINGS, values, strict=True))
        try:
            given |= {name: read(name, event[name]) for name in given.keys() & event.keys()}
            ask = Ask(**given)
            begun = time.monotonic()
            for number, story in enumerate(answer(self.model, self.tokenizer, self.topic, ask)):
                change: dict = {"answers": html.answers(story)}
                if number == 0:
                    change |= dict.fromkeys(("why", "predictions", "branches", "export"), "")
                    change |= asdict(ask) | {
                        "status": html.status("Answering."),
                        "facts": html.facts(self.topic, story.found),
                        "told": None,
                    }
                if story.done:
                    asked = [*(e for e in earlier if e != ask), ask][-KEPT:]
                    change |= self.looked_at(story) | {
                        "status": html.status(
                            f"Three answers in {time.monotonic() - begun:.1f} s."
                        ),
                        "told": story,
                        "asked": asked,
                        "history": html.history(asked),
                    }
                yield change
        except ValueError as error:
            empty = dict.fromkeys(
                ("answers", "facts", "why", "predictions", "branches", "export"), ""
            )
            yield empty | {"status": html.status(str(error), trouble=True), "told": None}

    def looked_at(self, story: Story) -> dict:
        """What the page shows of a branch: its tokens, one of them, and the others beside it."""
        branch = story.branches[story.shown]
        return {
            "why": html.tokens(story, self.tokenizer),
            "here": branch.alpha,
            "predictions": self.page_here(story, branch.alpha),
            "branches": html.branches(story, self.tokenizer),
            "export": html.export(
                story_record(story, self.tokenizer, self.family), self.address(story.ask)
            ),
        }

    def page_here(self, story: Story | None, here):
        """The predictions at the token that is looked at, as they are at an alpha."""
        if story is None:
            return gr.skip()
        choice = story.branches[story.shown].choices[story.place]
        moved = choice.at(self.model, within_limits("alpha", here))
        return html.predictions(story, moved, here, self.model.line.gate, self.tokenizer)

    def page_pick(self, story: Story | None, here, event: dict):
        """The predictions at the token that was pressed."""
        place = whole(event, "token")
        if story is None or not 0 <= place < len(story.branches[story.shown].choices):
            return gr.skip()
        story.place = place
        return self.page_here(story, here)

    def page_take(self, story: Story | None, here, event: dict) -> Iterator[dict]:
        """What changes on the page while a new branch grows from the token that was pressed."""
        if story is None:
            yield {"status": html.status("Please ask a question first.")}
            return
        try:
            begun, token = time.monotonic(), whole(event, "token")
            for number, _ in enumerate(fork(self.model, self.tokenizer, story, token, here)):
                changed = {"branches": html.branches(story, self.tokenizer)}
                if number == 0:  # it is the new branch's tokens that can be chosen from now on
                    changed = self.looked_at(story)
                yield changed | {"status": html.status("Going on from there.")}
            seconds = time.monotonic() - begun
            number = len(story.branches)
            said = html.status(f"Branch {number} of the answer in {seconds:.1f} s.")
            yield self.looked_at(story) | {"status": said}
        except ValueError as error:
            yield {"status": html.status(str(error), trouble=True)}

    def page_branch(self, story: Story | None, event: dict) -> dict:
        """Look at the branch that was pressed, where it left its parent."""
        number = whole(event, "branch")
        if story is None or not 0 <= number < len(story.branches):
            return {}
        story.shown, story.place = number, story.branches[number].at
        return self.looked_at(story)

    def page_back(self, story: Story | None) -> dict:
        """Step back to the branch that this one left, and to the token where it did."""
        if story is None:
            return {}
        branch = story.branches[story.shown]
        if branch.parent is None:
            return {}
        story.shown, story.place = branch.parent, branch.at
        return self.looked_at(story)

    def page_sweep(self, question, length, reword) -> Iterator[str]:
        """The sweep's rows while they grow."""
        try:
            ask = Ask(question, length=length, reword=reword)
            found = self.topic.find(ask.question)
            texts: list[str] = []
            for texts in sweep(self.model, self.tokenizer, ask, as_asked(ask, found)):
                yield html.sweep(ask, self.topic, found, texts, done=False)
            yield html.sweep(ask, self.topic, found, texts, done=True)
        except ValueError as error:
            yield html.status(str(error), trouble=True)

    def page_compare(self, question, length, reword, *values) -> Iterator[str]:
        """The steered M's answers in two settings while they grow.

        Args:
            values: alpha, temperature and seed of the one, and of the other.
        """
        try:
            asks = [
                Ask(question, alpha, temperature, length, seed, reword)
                for alpha, temperature, seed in (values[:3], values[3:])
            ]
            found = self.topic.find(asks[0].question)
            texts: list[str] = []
            for texts in compare(self.model, self.tokenizer, asks, as_asked(asks[0], found)):
                yield html.compare(asks, self.topic, found, texts, done=False)
            yield html.compare(asks, self.topic, found, texts, done=True)
        except ValueError as error:
            yield html.status(str(error), trouble=True)


def read(name: str, text: str):
    """A question or a setting out of an address or a pressed button; ValueError for no number."""
    if name == "question":
        return text
    return text == "True" if name == "reword" else float(text)


def pressed(event: gr.EventData) -> dict[str, str]:
    """What a pressed button carries; nothing where something else began the event."""
    data = event._data
    return {name: str(text) for name, text in data.items()} if isinstance(data, dict) else {}


def whole(event: dict[str, str], name: str) -> int:
    """A number of what was pressed; -1 where it is none."""
    text = event.get(name, "")
    return int(text) if text.isdecimal() else -1


@contextlib.contextmanager
def friendly():
    """Turn what is wrong with a question into an error that API clients can read."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
