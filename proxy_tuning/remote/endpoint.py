"""A base that only an API reaches: each request counted, kept, and tried again where it failed."""

import hashlib
import json
import os
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import openai
import tenacity

from proxy_tuning.records import WORK

NAMED = re.compile(r"openai:(?P<model>\S+?)@(?P<url>https?://\S+)")
KEY = "OPENAI_API_KEY"
"""The environment variable with the key; it is read nowhere else, and written nowhere."""
CACHE = WORK / "api.sqlite"
LONGEST_WAIT = 30.0
"""Seconds that are waited at most, whatever a server asks for."""
LONGEST = 200
"""Characters of what a server said."""


class Malformed(Exception):
    """An answer that is no completion, or lacks what was asked for."""


PASSING = (
    openai.APIConnectionError,  # timeouts too
    openai.RateLimitError,
    openai.InternalServerError,
    openai.ConflictError,
    Malformed,
)
"""What may be gone at the next try."""


NO_IDS = (400, 422, 500)
"""What servers answer to a prompt of token ids that take text alone."""


@dataclass
class Budget:
    """What may be spent, and what was: failed tries count as requests."""

    max_requests: int
    max_tokens: int
    """Of prompts and completions together."""
    requests: int = 0
    tokens: int = 0
    cached: int = 0
    """Requests that were answered from the cache, for nothing."""

    def check(self, tokens: int) -> None:
        """ValueError where one more request, of so many tokens at most, could pass the budget."""
        if self.requests + 1 > self.max_requests or self.tokens + tokens > self.max_tokens:
            raise ValueError(
                f"the budget ends here: {self.requests} of {self.max_requests} requests and "
                f"{self.tokens} of {self.max_tokens} tokens are spent, and the next request may "
                f"take {tokens} tokens. What was answered is in the cache: the same command with "
                "a larger budget goes on from there"
            )


@dataclass(frozen=True)
class Completion:
    """What the base wrote after a prompt, greedily."""

    tokens: list[str]
    logprobs: list[float]
    """Of each token, in nats."""
    top: list[dict[str, float]]
    """The likeliest tokens at each place with their log-probabilities, the token itself included."""
    ended: bool
    """Whether the base came to an end by itself; its end-of-text may be among the tokens or not."""

    @classmethod
    def of(cls, response: dict) -> "Completion":
        """From the JSON of the completions endpoint.

        Raises:
            Malformed: it lacks something, log-probabilities above all.
        """
        try:
            choice = response["choices"][0]
            found = choice["logprobs"]
            tokens, logprobs = list(found["tokens"]), list(map(float, found["token_logprobs"]))
            top = [dict(each or {}) for each in found["top_logprobs"] or [{}] * len(tokens)]
            ended = choice.get("finish_reason") == "stop"
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Malformed(f"no completion with log-probabilities ({error!r})") from None
        if not (len(tokens) == len(logprobs) == len(top)):
            raise Malformed(f"{len(tokens)} tokens with log-probabilities of {len(top)}")
        for token, logprob, likely in zip(tokens, logprobs, top, strict=True):
            likely.setdefault(token, logprob)
        return cls(tokens, logprobs, top, ended)


@dataclass
class Endpoint:
    """The completions endpoint of an OpenAI-compatible server.

    Every answer is in the cache before it is used, so that a run that was killed pays for nothing
    twice. The key comes from the environment alone.
    """

    name: str
    """`openai:MODEL@URL`."""
    budget: Budget
    cache: Path = CACHE
    timeout: float = 60.0
    """Seconds for one try."""
    tries: int = 6
    model: str = field(init=False)
    url: str = field(init=False)
    takes_ids: bool | None = field(init=False, default=None)
    """Whether it takes a prompt as token ids; None until it was tried."""

    def __post_init__(self):
        named = NAMED.fullmatch(self.name)
        if not named:
            raise ValueError(f"a base behind an API is openai:MODEL@URL, not {self.name!r}")
        self.model, self.url = named["model"], named["url"]
        if "@" in self.url:
            raise ValueError(f"the key of an API belongs into {KEY}, not into its URL")
        self.key = os.environ.get(KEY) or "none"
        self.client = openai.OpenAI(
            base_url=self.url, api_key=self.key, timeout=self.timeout, max_retries=0
        )
        self.cache = Path(self.cache)
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.kept = sqlite3.connect(self.cache, isolation_level=None)  # each answer at once
            self.kept.execute("CREATE TABLE IF NOT EXISTS answers (request PRIMARY KEY, response)")
        except sqlite3.Error as error:
            raise OSError(f"{self.cache} is no cache of answers: {error}") from None

    def complete(self, ids: list[int], text: str, max_tokens: int, top: int) -> Completion:
        """The base's greedy continuation of a prompt.

        Args:
            ids, text: the prompt as tokens, and as what they decode to, for servers that take text
                alone.
            max_tokens: longest continuation.
            top: log-probabilities wanted at each place.

        Raises:
            ValueError: the budget does not allow it, or the server refuses it.
            OSError: no whole answer after so many tries.
        """
        request = {"max_tokens": max_tokens, "logprobs": top, "temperature": 0}
        by_ids, by_text = request | {"prompt": ids}, request | {"prompt": text}
        if self.takes_ids is None and self.known(by_text):
            self.takes_ids = False  # as an earlier run found out
        if self.takes_ids is not False:
            try:
                answer = self.ask(by_ids, len(ids), () if self.takes_ids else NO_IDS)
                self.takes_ids = True
                return answer
            except openai.APIStatusError:
                self.takes_ids = False
        return self.ask(by_text, len(ids))

    def counted(self, text: str, about: int) -> int | None:
        """As how many tokens the server counts a text; None where it does not say.

        Args:
            about: as how many tokens it is reckoned.
        """
        request = {"max_tokens": 1, "logprobs": 1, "temperature": 0, "prompt": text}
        self.ask(request, about)
        return ((self.known(request) or {}).get("usage") or {}).get("prompt_tokens")

    def has(self, ids: list[int], text: str, max_tokens: int, top: int) -> bool:
        """Whether `complete` would be answered from the cache."""
        request = {"max_tokens": max_tokens, "logprobs": top, "temperature": 0}
        return any(self.known(request | {"prompt": prompt}) for prompt in (ids, text))

    def ask(self, request: dict, prompt_tokens: int, final: tuple[int, ...] = ()) -> Completion:
        """The completion from the cache, else from the server.

        Raises:
            openai.APIStatusError: the server's status is one of `final`.
            ValueError, OSError: as in `complete`.
        """
        known = self.known(request)
        if known is not None:
            self.budget.cached += 1
            return Completion.of(known)

        def passing(error: BaseException) -> bool:
            return isinstance(error, PASSING) and status_of(error) not in final

        waited = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.tries),
            wait=patience,
            retry=tenacity.retry_if_exception(passing),
            reraise=True,
        )
        try:
            return waited(self.try_once, request, prompt_tokens)
        except (openai.APIError, Malformed) as error:
            if status_of(error) in final:
                raise
            if isinstance(error, PASSING):
                raise OSError(
                    f"{self.url} gave no whole answer in {self.tries} tries: {self.said(error)}. "
                    "What was answered before is in the cache"
                ) from None
            hint = "is there a completions endpoint, and this model?"
            raise ValueError(
                f"{self.url} refuses {self.model}: {self.said(error)} "
                f"{hint if status_of(error) == 404 else ''}".strip()
            ) from None

    def try_once(self, request: dict, prompt_tokens: int) -> Completion:
        """One request over the wire; its answer goes into the cache if it is whole."""
        self.budget.check(prompt_tokens + request["max_tokens"])
        self.budget.requests += 1
        raw = self.client.completions.with_raw_response.create(model=self.model, **request)
        try:
            response = json.loads(raw.text)
        except ValueError:
            raise Malformed("what came is no JSON") from None
        completion = Completion.of(response)
        usage = response.get("usage") or {}
        self.budget.tokens += usage.get("total_tokens") or prompt_tokens + len(completion.tokens)
        row = (self.digest(request), json.dumps(response))
        self.kept.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)
        return completion

    def known(self, request: dict) -> dict | None:
        """What the cache has of a request."""
        query = "SELECT response FROM answers WHERE request = ?"
        row = self.kept.execute(query, (self.digest(request),)).fetchone()
        return row and json.loads(row[0])

    def digest(self, request: dict) -> str:
        """What a request is kept under: the same for the same model at the same address."""
        whole = json.dumps([self.url, self.model, request], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def said(self, error: Exception) -> str:
        """What went wrong in one line, without the key."""
        line = " ".join(str(error).split()) or type(error).__name__
        line = line if self.key == "none" else line.replace(self.key, "...")
        return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer that is an error; None where none came."""
    return getattr(error, "status_code", None)


BACK_OFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=8.0)


def patience(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: what the server asks for, else twice as long as before."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else BACK_OFF(state)
