"""What the models do with a question: three answers, why, and where a person takes them.

No HTML and no Gradio: `html` shows a `Story`, `export` keeps it, `page` serves both.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from proxy_tuning.answering import Written, grow, resolve_draft, write_side_by_side
from proxy_tuning.decoding import HISTORIES, end_of_text, stream
from proxy_tuning.logits import divergence
from proxy_tuning.prompts import prompt
from proxy_tuning.speculative import speculate
from proxy_tuning.widget.asking import Ask
from proxy_tuning.widget.topics import Found, Topic

ALPHAS = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
"""What the sweep tries, in one batch."""
TOP = 10
"""How many of the likeliest tokens are shown."""
EVERY = 0.05
"""Seconds between two looks at a growing answer."""

MODELS = ("base", "expert", "antiexpert", "steered")
"""Whose predictions are shown at a token, in the order of the rows of `Choice`."""
LIMIT = 12
"""Branches that a story may have."""


@dataclass(frozen=True)
class Choice:
    """One token of the steered text and what each of the four `MODELS` predicted there."""

    token: int
    """The token chosen."""
    scores: list[float]
    """Its log-probability under each, (4,), natural logarithm."""
    top_ids: torch.Tensor
    """The likeliest tokens of each, (4, TOP)."""
    top_scores: torch.Tensor
    """Their log-probabilities, (4, TOP)."""
    parts: torch.Tensor
    """Raw logits of M, M+ and M-, (3, V) float32: all that another alpha needs."""
    forced: bool = False
    """Whether a person chose it in place of the model."""

    @classmethod
    def of(cls, token: int, logits: dict[str, torch.Tensor], forced: bool = False) -> "Choice":
        """From a token and the raw logits (V,) of each of `MODELS`."""
        raw = torch.stack([logits[who] for who in MODELS])  # (4, V)
        scores = raw.log_softmax(-1)
        top = scores.topk(min(TOP, scores.shape[1]))
        ids, likeliest = top.indices.int().cpu(), top.values.cpu()
        return cls(token, scores[:, token].tolist(), ids, likeliest, raw[:3].clone(), forced)

    def at(self, model, alpha: float, token: int | None = None) -> "Choice":
        """The same place at another alpha, or with another token, which is then forced."""
        logits = dict(zip(MODELS, self.parts, strict=False))
        steered = model.combine(*(part[None] for part in self.parts), alpha=alpha)[0]
        chosen = self.token if token is None else token
        forced = self.forced if token is None else True
        return self.of(chosen, logits | {"steered": steered.float()}, forced)

    @property
    def change(self) -> float:
        """What steering did to the token: its log-probability, steered minus M."""
        return self.scores[3] - self.scores[0]

    @property
    def moved(self) -> float:
        """How far fine-tuning moved the small model here: KL(M+ || M-) in nats."""
        expert, antiexpert = self.parts[1:].log_softmax(-1)
        return float(divergence(expert, antiexpert))

    @property
    def turned(self) -> bool:
        """Whether M alone would have put another token first."""
        return bool(self.top_ids[0, 0] != self.top_ids[3, 0])


@dataclass
class Branch:
    """One text of the steered M: the answer itself, or one that a person sent another way."""

    alpha: float
    """What it is steered with from where it begins."""
    choices: list[Choice] = field(default_factory=list)
    """One per token, its end included."""
    parent: int | None = None
    """The branch that it left, by its number in the story; None for the answer itself."""
    at: int = 0
    """The token at which it left: those before are its parent's, this one was chosen."""


@dataclass
class Story:
    """What was asked, how the three texts grew, why the steered one did, and where it was taken."""

    ask: Ask
    topic: Topic
    found: Found
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HISTORIES, ""))
    """The answers so far, by who writes them."""
    branches: list[Branch] = field(default_factory=list)
    """The first is the steered answer itself."""
    shown: int = 0
    """Which branch is looked at."""
    place: int = 0
    """Which of its tokens."""
    done: bool = False

    @property
    def choices(self) -> list[Choice]:
        """The tokens of the steered answer."""
        return self.branches[0].choices

    @property
    def prompted(self) -> str:
        """The question as the models get it."""
        return as_asked(self.ask, self.found)


def as_asked(ask: Ask, found: Found) -> str:
    """A question as the models get it: as it was typed, or in a wording that they were trained in."""
    return (ask.reword and found.wording) or ask.question


def answer(model, tokenizer, topic: Topic, ask: Ask) -> Iterator[Story]:
    """Answer one question; the same `Story` again and again while it grows, its last time done.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    story = Story(ask, topic, topic.find(ask.question), branches=[Branch(ask.alpha)])
    written = three_texts(model, tokenizer, ask, story.prompted)
    yield story
    ids: dict[str, list[int]] = {name: [] for name in HISTORIES}
    shown = -math.inf
    for new in written:
        ids[new.writer] += new.ids.get(0, [])
        story.choices.extend(choices_of(new))
        if time.monotonic() - shown > EVERY:
            story.texts = dict(zip(ids, texts_of(tokenizer, ids.values()), strict=True))
            shown = time.monotonic()
            yield story
    story.texts = dict(zip(ids, texts_of(tokenizer, ids.values()), strict=True))
    story.place = most_telling(story.choices, tokenizer)
    story.done = True
    yield story


def choices_of(new: Written) -> Iterator[Choice]:
    """What came to the steered text of one question; nothing of the other texts."""
    if new.logits is None:
        return
    for place, token in enumerate(new.ids.get(0, [])):
        yield Choice.of(token, {who: logits[0, place] for who, logits in new.logits.items()})


def three_texts(model, tokenizer, ask: Ask, question: str) -> Iterator[Written]:
    """What comes to the texts of M, M+ and steered M after a question as the models get it."""
    inputs, longest = prompt_inputs(model, tokenizer, question, ask.length)
    return write_side_by_side(model, **inputs, **chances(model, ask, longest))


def steered_text(model, tokenizer, ask: Ask, question: str, begun=()) -> Iterator[Written]:
    """What comes to the steered M's text alone.

    Args:
        question: as the models get it.
        begun: tokens of the answer that are there already.
    """
    inputs, longest = prompt_inputs(model, tokenizer, question, ask.length)
    ids = torch.cat([inputs["input_ids"], torch.tensor([begun], dtype=torch.long)], dim=1)
    options = chances(model, ask, longest - len(begun))
    if options["max_new_tokens"] < 1:
        return
    draft = resolve_draft(model, None, ask.temperature)
    if draft == "none" or ask.temperature:
        for step in stream(model, ids, **options):
            logits = {who: getattr(step, who)[:, None] for who in MODELS}
            yield Written("steered", {0: step.next_ids.tolist()}, logits)
    else:
        for done in speculate(model, ids, draft=draft, **options):
            yield Written("steered", done.new_tokens(), done.logits)


def chances(model, ask: Ask, longest: int) -> dict:
    """The keywords of decoding that an `Ask` decides."""
    return {
        "max_new_tokens": longest,
        "temperature": ask.temperature,
        "alpha": ask.alpha,
        "generator": torch.Generator(model.device).manual_seed(ask.seed),
    }


def fork(model, tokenizer, story: Story, token: int, alpha: float) -> Iterator[Story]:
    """Send the branch that is looked at another way: a token of its place, and on from there.

    Args:
        token: an id; what stands before it is kept.
        alpha: what the branch is steered with.

    Returns:
        The same story again and again while its new, last branch grows; it is the one shown.

    Raises:
        ValueError: an alpha out of range, no such token, or too many branches.
    """
    ask = replace(story.ask, alpha=alpha)
    if len(story.branches) >= LIMIT:
        raise ValueError(f"There are {LIMIT} branches already. Ask again to begin anew.")
    place, parent = story.place, story.branches[story.shown]
    here = parent.choices[place]
    if not 0 <= token < here.parts.shape[1]:
        raise ValueError("There is no such token.")
    kept = [*parent.choices[:place], here.at(model, ask.alpha, token)]
    branch = Branch(ask.alpha, kept, story.shown, place)
    story.branches.append(branch)
    story.shown = len(story.branches) - 1
    yield story
    if token in end_of_text(model):
        return
    begun, shown = [choice.token for choice in kept], time.monotonic()
    for new in steered_text(model, tokenizer, ask, story.prompted, begun):
        branch.choices.extend(choices_of(new))
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            yield story
    yield story


def sweep(model, tokenizer, ask: Ask, question: str) -> Iterator[list[str]]:
    """The greedy answers at each of `ALPHAS`, in one batch, while they grow.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    inputs, longest = prompt_inputs(model, tokenizer, question, ask.length)
    growing = grow(
        model,
        **inputs,
        max_new_tokens=longest,
        alpha=torch.tensor([ALPHAS], device=model.device),
    )
    rows: list[list[int]] = [[] for _ in ALPHAS]
    shown = -math.inf
    for new in growing:
        for row, ids in new.items():
            rows[row] += ids
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            yield texts_of(tokenizer, rows)
    yield texts_of(tokenizer, rows)


def compare(model, tokenizer, asks: Sequence[Ask], question: str) -> Iterator[list[str]]:
    """The steered M's answers to one question in several settings, one after the other.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    rows: list[list[int]] = [[] for _ in asks]
    for row, ask in zip(rows, asks, strict=True):
        for new in steered_text(model, tokenizer, ask, question):
            row += new.ids[0]
            yield texts_of(tokenizer, rows)
    yield texts_of(tokenizer, rows)


def prompt_inputs(model, tokenizer, question: str, length: int) -> tuple[dict, int]:
    """The inputs of one row, (1, T), and how many tokens may follow, at most `length`.

    Raises:
        ValueError: the prompt leaves the shortest context no room for an answer.
    """
    inputs = tokenizer([prompt(question, tokenizer)], return_tensors="pt")
    tokens = inputs["input_ids"].shape[1]
    context = model.config.max_position_embeddings or math.inf
    if tokens + 8 > context:
        raise ValueError(
            f"That question takes {tokens} tokens, and these models read {context} in all, "
            "their answer included. Please ask in fewer words."
        )
    return dict(inputs), min(length, context - tokens)


# Token ids as text


def texts_of(tokenizer, rows: Iterable[list[int]]) -> list[str]:
    """The texts of rows of token ids; a letter half written waits."""
    texts = tokenizer.batch_decode(list(rows), skip_special_tokens=True)
    return [text.strip().rstrip("\ufffd") for text in texts]


def branch_text(branch: Branch, tokenizer) -> str:
    """The text of a branch."""
    return texts_of(tokenizer, [[choice.token for choice in branch.choices]])[0]


def token_text(tokenizer, token: int) -> str:
    """A token as people can read it; pieces of a letter as the tokenizer writes them."""
    if token == tokenizer.eos_token_id:
        return "(end)"
    text = tokenizer.decode([token])
    return text if "\ufffd" not in text else tokenizer.convert_ids_to_tokens(token)


# What steering did to a token, in words

BINS = [
    (-math.inf, "−−−", "much less likely (to a 20th or lower)"),
    (-3.0, "−−", "less likely (to a third or lower)"),
    (-1.0, "−", "a little less likely"),
    (-0.1, "", "about as likely"),
    (0.1, "+", "a little likelier"),
    (1.0, "++", "likelier (3 times or more)"),
    (3.0, "+++", "much likelier (20 times or more)"),
]
"""Lowest change in log-probability, sign, words. The factor is e to the change: 0.1 is 10 percent,
1 is threefold, 3 is twentyfold."""


def bin_of(change: float) -> int:
    """Which of the seven `BINS` a change falls into."""
    return max(i for i, (low, _, _) in enumerate(BINS) if change >= low)


def most_telling(choices: list[Choice], tokenizer) -> int:
    """The token to open first: the whole word, or else token, that steering helped most to the top.

    Whole: letters that no letter goes before or after.
    """
    texts = [token_text(tokenizer, choice.token) for choice in choices]

    def telling(i):
        text = texts[i].strip()
        starts = texts[i] != texts[i].lstrip() or not "".join(texts[:i])[-1:].isalpha()
        whole = text.isalpha() and starts and not "".join(texts[i + 1 :])[:1].isalpha()
        return choices[i].turned, whole, choices[i].change

    return max(range(len(texts)), key=telling)
