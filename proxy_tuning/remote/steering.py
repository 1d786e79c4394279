"""Steering a base that shows k log-probabilities per token, by M- and M+ on this machine.

The line is the same, base + alpha * (expert - antiexpert), over the k tokens that the API shows.
Log-probabilities serve as logits: they differ by a constant. A token that is not shown has at most
the lowest log-probability shown, so where even that could not make it the likeliest, the choice is
certain: the one that the whole vocabulary would give.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from proxy_tuning.decoding import end_of_text
from proxy_tuning.logits import Line, divergence
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.prompts import continuation, prompt
from proxy_tuning.remote.endpoint import Completion, Endpoint
from proxy_tuning.remote.tokens import PROBE, bytes_of, ids_by_bytes


@dataclass
class Report:
    """What steering a text over an API took and saw."""

    requests: int = 0
    tokens: int = 0
    """Chosen, end-of-text included; without drafts each would be a request."""
    certain: int = 0
    """Choices that the whole vocabulary would give as well."""
    visible: list[float] = field(default_factory=list)
    """The base's probability of all tokens shown that are ours, at each choice."""
    unmatched: set[str] = field(default_factory=set)
    """Tokens shown that are none of ours."""

    def as_dict(self) -> dict:
        """JSON-able figures; the visible mass is a mean."""
        mass = sum(self.visible) / len(self.visible) if self.visible else None
        return {
            "requests": self.requests,
            "tokens": self.tokens,
            "certain": self.certain,
            "visible_mass": mass,
            "unmatched": sorted(self.unmatched),
        }


@dataclass
class RemoteTrio:
    """A base behind an API with its proxies: greedy texts, multiple choice, nudging.

    Its texts are those of the trio on one machine where all choices are certain and the server
    computes what the model does here.
    """

    endpoint: Endpoint
    proxies: ProxyTunedForCausalLM
    """Any trio whose M- and M+ are meant; its own base is not asked."""
    tokenizer: PreTrainedTokenizerBase
    alpha: float = 1.0
    top: int = 20
    """Log-probabilities asked for at each token: k."""
    ahead: int = 16
    """Tokens of the base per request: those that the steered choice agrees with cost no request."""
    spread: bool = False
    """Whether tokens that are not shown may be chosen too: what is left of the base's probability is
    shared out among them as M- has it, none getting more than it can have. Else only the k shown."""
    gate: float | None = None
    """Nats of KL(M+ || M-) at a token below which it is the base's own, as in `logits.gated`."""
    nudge: float | None = None
    """In place of the line: where the base's own token has a lower probability, M+ writes one
    (nudging, ACL 2025). It needs the log-probability of the base's token alone."""

    def __post_init__(self):
        if self.top < 1 or self.ahead < 1:
            raise ValueError(f"top and ahead must be 1 or more, not {self.top} and {self.ahead}")
        if self.nudge is not None and not 0 < self.nudge <= 1:
            raise ValueError(f"a nudge is a probability above 0, not {self.nudge}")
        Line(alpha=self.alpha, gate=self.gate)  # which checks them
        self.by_bytes = ids_by_bytes(self.tokenizer)
        self.ends = set(end_of_text(self.proxies.expert).tolist())

    def check_tokenizer(self) -> None:
        """One request that shows whether the API cuts text as M- and M+ do.

        Raises:
            ValueError: it does not, so that its log-probabilities are of other tokens.
        """
        ids = self.tokenizer(PROBE)["input_ids"]
        response = self.endpoint.counted(PROBE, len(ids))
        if response is not None and response != len(ids):
            raise ValueError(
                f"{self.endpoint.model} has another tokenizer than M- and M+: it cuts a text into "
                f"{response} tokens that they cut into {len(ids)}. Steering adds logits token by "
                "token, so all three need the same one"
            )

    def answer(self, question: str, max_new_tokens: int = 80) -> dict:
        """The base's own answer and the steered one to a question asked as `prompts.prompt` says.

        Returns:
            question, base and steered (text), and the figures of `Report`.
        """
        ids = self.tokenizer(prompt(question, self.tokenizer))["input_ids"]
        max_new_tokens = self.proxies.fit(len(ids), max_new_tokens)
        report = Report()
        first = self.read(ids, max_new_tokens, report)
        new = self.steer(ids, max_new_tokens, report, first)
        base = [number for number in map(self.id_of, first.tokens) if number is not None]
        return {
            "question": question,
            "base": self.text(base),
            "steered": self.text(new),
        } | report.as_dict()

    def text(self, ids: list[int]) -> str:
        """What tokens decode to, as an answer."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def read(self, ids: list[int], count: int, report: Report) -> Completion:
        """What the base writes after these tokens, with its likeliest ones."""
        report.requests += 1
        return self.endpoint.complete(ids, str(self.tokenizer.decode(ids)), count, self.top)

    def steer(
        self, ids: list[int], max_new_tokens: int, report: Report, first: Completion
    ) -> list[int]:
        """New tokens after a prompt, end-of-text included; `first`, the base's continuation of it.

        The base's tokens are its draft, as in `speculate(draft="base")`: M- and M+ read all of them
        in one pass each, and the text goes with the base up to the first choice that is another.
        """
        new: list[int] = []
        written = first
        while True:
            for chosen, agreed in self.choices(ids + new, written, report):
                new.append(chosen)
                if chosen in self.ends or len(new) == max_new_tokens:
                    return new
                if not agreed:
                    break
            else:
                if written.ended or not written.tokens:
                    return new  # an end that the server does not show
            written = self.read(ids + new, min(self.ahead, max_new_tokens - len(new)), report)

    def choices(self, ids: list[int], written: Completion, report: Report):
        """Yields (token, whether the base writes it too) along what the base wrote after `ids`."""
        draft = [self.id_of(token) for token in written.tokens]
        known: list[int] = []
        for number in draft:
            if number is None:
                break
            known.append(number)
        expert, antiexpert = self.read_by_proxies(ids + known[: len(draft) - 1], len(ids))
        for place in range(min(len(draft), len(expert))):
            shown = self.shown(written.top[place], report)
            if self.nudge is not None:
                sure = draft[place] is not None and written.logprobs[place] >= math.log(self.nudge)
                chosen, certain = draft[place] if sure else int(expert[place].argmax()), True
            else:
                chosen, certain = self.choose(shown, expert[place], antiexpert[place])
            report.tokens += 1
            report.certain += certain
            report.visible.append(sum(map(math.exp, shown.values())))
            yield chosen, chosen == draft[place]

    def choose(
        self, shown: dict[int, float], expert: torch.Tensor, antiexpert: torch.Tensor
    ) -> tuple[int, bool]:
        """The likeliest of the tokens shown, and whether no other of the vocabulary can be likelier.

        Args:
            shown: log-probabilities by token id; not empty.
            expert, antiexpert: logits (V,) float32.
        """
        ids = torch.tensor(sorted(shown))
        hidden = torch.ones_like(expert, dtype=torch.bool)
        hidden[ids] = False
        highest, offset = highest_hidden(shown), self.alpha * (expert - antiexpert)
        moved = divergence(expert.log_softmax(-1), antiexpert.log_softmax(-1))
        if self.gate is not None and moved < self.gate:
            offset = torch.zeros_like(offset)
        base = torch.full_like(expert, -torch.inf)
        base[ids] = torch.tensor([shown[i] for i in ids.tolist()])
        if self.spread and highest > -math.inf:
            shares = antiexpert[hidden].log_softmax(-1) + math.log(left(shown))
            base[hidden] = shares.clamp(max=highest)
        chosen = int((base + offset).argmax())
        bound = highest + offset[hidden]
        certain = not len(bound) or float(bound.max()) < float(base[chosen] + offset[chosen])
        return chosen, certain and not bool(hidden[chosen])

    def shown(self, top: dict[str, float], report: Report) -> dict[int, float]:
        """Log-probabilities by our ids, of the tokens that are ours."""
        found = {}
        for token, logprob in top.items():
            number = self.id_of(token)
            if number is None:
                report.unmatched.add(token)
            else:
                found[number] = logprob
        if not found:
            raise ValueError(
                f"none of the tokens that {self.endpoint.model} shows is one of M-'s: "
                f"{', '.join(map(repr, top))}"
            )
        return found

    def id_of(self, token: str) -> int | None:
        """Our id of a server's token."""
        return self.by_bytes.get(bytes_of(token))

    @torch.inference_mode()
    def read_by_proxies(self, ids: list[int], first: int) -> list[torch.Tensor]:
        """Logits of M+ and M- after the token before `first` and all that follow: (N, V) float32."""
        read, keep = torch.tensor([ids]), len(ids) - first + 1
        parts: list[Any] = [self.proxies.expert, self.proxies.antiexpert]
        return [
            part(input_ids=read.to(part.device), logits_to_keep=keep).logits[0].float().cpu()
            for part in parts
        ]

    def choice(self, question: str, options: list[str], begun: str = "") -> dict:
        """Multiple choice by one request: the option whose first token is the likeliest next one.

        An option that the API does not show counts with the lowest log-probability shown, the most
        that it can have.

        Args:
            question: in plain words.
            options: the words to choose from; each begins with a token of its own.
            begun: how the answer begins, up to the option.

        Returns:
            question, base and steered (options), hidden (options not shown) and certain, whether
            the steered option stays the likeliest wherever the hidden ones lie.
        """
        asked = prompt(question, self.tokenizer)
        asked += continuation(begun, self.tokenizer).rstrip() if begun else ""
        ids = self.tokenizer(asked)["input_ids"]
        first = {}
        for option in options:
            word = f" {option}" if begun else continuation(option, self.tokenizer)
            first[option] = self.tokenizer(word, add_special_tokens=False)["input_ids"][0]
        if len(set(first.values())) < len(options):
            raise ValueError(f"the options {', '.join(options)} begin with the same token")
        report = Report()
        shown = self.shown(self.read(ids, 1, report).top[0], report)
        expert, antiexpert = (logits[-1] for logits in self.read_by_proxies(ids, len(ids)))
        hidden = [option for option in options if first[option] not in shown]
        floor = highest_hidden(shown)
        base = {option: shown.get(first[option], floor) for option in options}
        steered = {
            option: base[option] + self.alpha * float((expert - antiexpert)[first[option]])
            for option in options
        }
        best = max(options, key=lambda option: steered[option])
        return {
            "question": question,
            "base": max(options, key=lambda option: base[option]),
            "steered": best,
            "hidden": hidden,
            "certain": best not in hidden,
            "requests": report.requests,
        }


def highest_hidden(shown: dict[int, float]) -> float:
    """The most that the log-probability of a token can be that is not among those shown."""
    rest = left(shown)
    return min(min(shown.values()), math.log(rest) if rest else -math.inf)


def left(shown: dict[int, float]) -> float:
    """The probability of all tokens that are not shown."""
    return max(0.0, 1 - sum(map(math.exp, shown.values())))


def dry_run(trio: RemoteTrio, questions: list[str], max_new_tokens: int) -> dict[str, int]:
    """What questions can take, without a request: at least and at most, and how many are begun.

    The least is a request for each that is not in the cache; the most, one for each token, each
    with as many tokens as are asked for ahead, and two that show how the server cuts text.
    """
    least = fewest = known = 0
    most, total = 2, 2 * (len(trio.tokenizer(PROBE)["input_ids"]) + 1)
    for question in questions:
        ids = trio.tokenizer(prompt(question, trio.tokenizer))["input_ids"]
        if trio.endpoint.has(ids, str(trio.tokenizer.decode(ids)), max_new_tokens, trio.top):
            known += 1
        else:
            least += 1
            fewest += len(ids) + 1
        most += max_new_tokens
        total += len(ids) + max_new_tokens
        total += sum(
            len(ids) + done + min(trio.ahead, max_new_tokens - done)
            for done in range(1, max_new_tokens)
        )
    return {
        "questions": len(questions),
        "first_requests_in_cache": known,
        "requests_at_least": least,
        "requests_at_most": most,
        "tokens_at_least": fewest,
        "tokens_at_most": total,
    }
