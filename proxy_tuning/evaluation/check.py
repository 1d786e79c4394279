"""Is a trio what it should be? Files, identities, drafts and answers in one report.

Every check says "ok", "wrong" or "skipped", and why; they come in order of cost.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from proxy_tuning.answering import answer_questions
from proxy_tuning.decoding import stream
from proxy_tuning.families import (
    PROBES,
    Family,
    check_there,
    load_family,
    load_part,
    locate,
    missing_files,
)
from proxy_tuning.logits import PLAIN
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import WithoutAdapter
from proxy_tuning.prompts import prompt
from proxy_tuning.records import file_hash, machine, write_json, written_beside
from proxy_tuning.speculative import speculate

GPT2_TOKENIZER = "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6"
KNOWN = {
    "openai-community/gpt2": {
        "revision": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "model.safetensors": (
            548105171,
            "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        ),
        "tokenizer.json": (None, GPT2_TOKENIZER),
    },
    "distilbert/distilgpt2": {
        "revision": "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        "model.safetensors": (
            352824413,
            "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
        ),
        "tokenizer.json": (None, GPT2_TOKENIZER),
    },
}
"""Of models on the Hub: the revision that is meant, and bytes and SHA-256 of its files."""
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "tokenizer.json")
QUESTIONS = (*PROBES, "What is the capital of France?")
"""The five that all three answer."""
CLOSE = 1e-3
"""What two orders of the same float32 arithmetic may differ by, in logits up to a hundred."""
TIE = 1e-4
"""Two favourites this near in logits are a tie, which rounding may break either way."""
DRAFTS = ("ngram", "expert", "base", "auto")
NEW_TOKENS = 24


class Mismatch(Exception):
    """What was looked at is not as it should be; the text says how."""


class Skipped(Exception):
    """What could not be looked at; the text says why."""


def check(family: Family, progress: Callable[[str], None] = print) -> dict:
    """Run all checks of a trio, the cheap ones first.

    Args:
        family: the trio; each part a name on the Hub or a folder.
        progress: called with a line for every check that is done.

    Returns:
        {"family", "parts", "machine", "ok", "checks": rows of check, result, said and seconds,
        "answers": rows of question, base, expert and steered}; `ok` is False on any mismatch.
    """
    rows: list[dict] = []
    found: dict = {"answers": []}
    for name, look in checks_of(family, found):
        begun = time.perf_counter()
        try:
            result, said = "ok", look()
        except Mismatch as error:
            result, said = "wrong", str(error)
        except Skipped as error:
            result, said = "skipped", str(error)
        seconds = round(time.perf_counter() - begun, 2)
        rows.append({"check": name, "result": result, "said": said, "seconds": seconds})
        progress(f"{result:8}{name}: {said}")
    return {
        "family": family.name,
        "parts": {part: getattr(family, part) for part in ("base", "antiexpert", "expert")},
        "machine": machine(),
        "ok": all(row["result"] != "wrong" for row in rows),
        "checks": rows,
        "answers": found["answers"],
    }


def checks_of(family: Family, found: dict) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, what says how it went) for each check; `found` gets the trio and its answers."""
    for part in ("base", "antiexpert", "expert"):
        yield f"files of {part}", partial(files_said, part, getattr(family, part))
    yield "the trio fits together", partial(trio_said, family, found)
    identities = {
        "alpha 0 is M": alpha_zero,
        "M+ = M- is M": no_difference,
        "M = M- at alpha 1 is M+": base_is_antiexpert,
        "with caches as without": cached_as_whole,
        "in a batch as alone": batch_as_alone,
    }
    for name, identity in identities.items():
        yield name, partial(on_trio, identity, found)
    for draft in DRAFTS:
        yield f"draft {draft}", partial(on_trio, draft_said, found, draft=draft)
    yield "five questions", partial(on_trio, answers_said, found, found=found)
    yield "engines", partial(skip, "compared by: pytest tests/test_engines.py, on random weights")
    yield (
        "LAMBADA",
        partial(
            skip,
            f"needs a download: python -m proxy_tuning evaluate --family {family.name} "
            "--tasks lambada_openai; gpt2 alone has accuracy 0.3256 and perplexity 40.06",
        ),
    )


def skip(why: str) -> str:
    """Never returns: raises Skipped."""
    raise Skipped(why)


def on_trio(look: Callable[..., str], trio: dict, **more) -> str:
    """What `look` says of the loaded trio; `trio` is as `loaded` takes it."""
    return look(*loaded(trio), **more)


def loaded(found: dict) -> tuple[ProxyTunedForCausalLM, Any, list[torch.Tensor]]:
    """(model, tokenizer, prompts (1, T) int64); Skipped where the trio was not loaded."""
    if "trio" not in found:
        raise Skipped("the trio was not loaded")
    return found["trio"]


def files_said(part: str, name_or_dir: str) -> str:
    """Bytes and SHA-256 of a part's files, held against what is known of its name.

    Raises:
        Mismatch: a file that is not there or another than the known one.
        Skipped: what is to be downloaded first.
    """
    try:
        check_there(name_or_dir)
        folder = Path(locate(name_or_dir))
    except (OSError, ValueError) as error:
        raise Mismatch(str(error)) from error
    known = KNOWN.get(name_or_dir, {})
    if not folder.is_dir():
        cached = try_to_load_from_cache(name_or_dir, "config.json")
        if not isinstance(cached, str):
            raise Skipped(f"{name_or_dir} is on the Hub and not yet in the cache")
        folder = Path(cached).parent
    if part == "expert" and (missing := missing_files(folder)):
        raise Mismatch(f"{folder} lacks {', '.join(missing)}")
    said = []
    if "revision" in known and known["revision"] != folder.name:
        raise Mismatch(f"{name_or_dir} is at {folder.name}, not at {known['revision']}")
    for file in (folder / name for name in WEIGHTS):
        if not file.is_file():
            if file.name in known:
                raise Mismatch(f"{folder} lacks {file.name}")
            continue
        size, digest = file.stat().st_size, file_hash(file)
        bytes_wanted, wanted = known.get(file.name, (None, None))
        if bytes_wanted not in (None, size):
            raise Mismatch(f"{file.name} has {size:,} bytes, not {bytes_wanted:,}")
        if wanted not in (None, digest):
            raise Mismatch(f"{file.name} has SHA-256 {digest}, not {wanted}")
        said.append(f"{file.name} {size:,} bytes, SHA-256 {digest}")
    if not said:
        raise Mismatch(f"{folder} has none of {', '.join(WEIGHTS)}")
    return "; ".join(said) + ("" if known else "; nothing is known to hold them against")


def trio_said(family: Family, found: dict) -> str:
    """Load the trio; Mismatch where the parts are not whole or not one trio."""
    try:
        model, tokenizer = load_family(family, line=PLAIN)
    except (OSError, ValueError) as error:
        raise Mismatch(str(error)) from error
    texts = [prompt(question, tokenizer) for question in QUESTIONS]
    found["trio"] = (
        model,
        tokenizer,
        [tokenizer(t, return_tensors="pt")["input_ids"] for t in texts],
    )
    sizes = [f"{name} {part.num_parameters():,}" for name, part in parameters_of(model).items()]
    return f"one vocabulary of {model.config.vocab_size:,}; parameters: {', '.join(sizes)}"


def parameters_of(model) -> dict:
    """The parts with weights of their own, by name."""
    parts = {name: getattr(model, name) for name in model.part_names}
    return {name: part for name, part in parts.items() if not isinstance(part, WithoutAdapter)}


@torch.no_grad()
def logits_of(model, ids: torch.Tensor, **inputs) -> torch.Tensor:
    """Log-probabilities (B, T, V) float32 of a whole text."""
    return model(input_ids=ids, use_cache=False, **inputs).logits.float().log_softmax(-1)


def near(first: torch.Tensor, second: torch.Tensor) -> str:
    """How far two tensors are apart at most; Mismatch beyond `CLOSE`, or where one is not finite."""
    apart = (first - second).abs().max().item()
    if not apart <= CLOSE:
        raise Mismatch(f"log-probabilities are {apart:.2g} apart, more than {CLOSE:g}")
    return f"log-probabilities at most {apart:.2g} apart"


def alpha_zero(model, tokenizer, prompts) -> str:
    """Identity 1, in logits and in greedy tokens."""
    ids = prompts[0]
    said = near(logits_of(model, ids, alpha=0.0), logits_of(model.base, ids))
    own = greedy(model, ids, alpha=0.0)
    with torch.no_grad():
        wanted = model.base.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
        )[0, ids.shape[1] :].tolist()
    if own != wanted:
        raise Mismatch(f"greedy tokens are {own}, by M.generate {wanted}")
    return f"{said}; the same {len(own)} greedy tokens as M.generate"


def no_difference(model, tokenizer, prompts) -> str:
    """Identity 2."""
    minus = own_antiexpert(model)
    trio = ProxyTunedForCausalLM(model.base, minus, minus, alpha=1.0)
    return near(logits_of(trio, prompts[0]), logits_of(model.base, prompts[0]))


def base_is_antiexpert(model, tokenizer, prompts) -> str:
    """Identity 3."""
    minus = own_antiexpert(model)
    trio = ProxyTunedForCausalLM(minus, model.expert, minus, alpha=1.0)
    return near(logits_of(trio, prompts[0]), logits_of(model.expert, prompts[0]))


def own_antiexpert(model):
    """M- as a model of its own: loaded anew where it is M+ with its adapter off."""
    if isinstance(model.antiexpert, WithoutAdapter):
        return load_part(model.sources["antiexpert"])[0]
    return model.antiexpert


@torch.no_grad()
def cached_as_whole(model, tokenizer, prompts) -> str:
    """Identity 5: a text read in two halves, with caches, and at once."""
    ids = prompts[0]
    half = ids.shape[1] // 2
    first = model(input_ids=ids[:, :half], use_cache=True)
    second = model(
        input_ids=ids[:, half:],
        attention_mask=torch.ones_like(ids),
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    halves = torch.cat([first.logits, second.logits], dim=1).log_softmax(-1)
    return near(halves, logits_of(model, ids))


def batch_as_alone(model, tokenizer, prompts) -> str:
    """Identity 6: a left-padded batch of all prompts, and each alone."""
    texts = [prompt(question, tokenizer) for question in QUESTIONS]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    last = logits_of(model, batch["input_ids"], attention_mask=batch["attention_mask"])[:, -1]
    return near(last, torch.cat([logits_of(model, ids)[:, -1] for ids in prompts]))


def greedy(model, ids: torch.Tensor, **options) -> list[int]:
    """Tokens of the plain loop after a prompt (1, T)."""
    steps = stream(model, ids, max_new_tokens=NEW_TOKENS, **options)
    return [token for step in steps for token in step.next_ids.tolist()]


def draft_said(model, tokenizer, prompts, draft: str) -> str:
    """Identity 7, the acceptance rate, and how fast it was beside the plain loop."""
    tokens = rounds = accepted = proposed = ties = 0
    seconds = {"plain": 0.0, "drafted": 0.0}
    for ids in prompts:
        begun = time.perf_counter()
        steps = list(stream(model, ids, max_new_tokens=NEW_TOKENS))
        seconds["plain"] += time.perf_counter() - begun
        begun = time.perf_counter()
        done = list(speculate(model, ids, max_new_tokens=NEW_TOKENS, draft=draft))
        seconds["drafted"] += time.perf_counter() - begun
        wanted = [token for step in steps for token in step.next_ids.tolist()]
        own = [token for each in done for token in each.new_tokens()[0]]
        tokens, rounds = tokens + len(own), rounds + len(done)
        accepted += sum(sum(each.accepted.tolist()) for each in done)
        proposed += sum(each.ids.shape[1] - 1 for each in done)
        ties += same_but_for_ties(own, wanted, steps)
    rate = f"{accepted / proposed:.0%} of {proposed} proposals" if proposed else "nothing proposed"
    ratio = seconds["plain"] / seconds["drafted"]
    return (
        f"the plain loop's tokens ({ties} prompts part at a tie); {rate} accepted; {tokens} tokens "
        f"in {rounds} passes of M; {ratio:.2f} times as fast as the plain loop"
    )


def same_but_for_ties(own: list[int], wanted: list[int], steps) -> bool:
    """Whether two texts part at a tie; False where they are equal.

    Raises:
        Mismatch: they part where one token was clearly ahead.
    """
    if own == wanted:
        return False
    places = zip(own, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(places) if a != b), min(len(own), len(wanted)))
    if at < len(steps):
        first, second = steps[at].steered[0].topk(2).values.tolist()
        if first - second < TIE:
            return True
    raise Mismatch(f"tokens {own} where the plain loop has {wanted}")


def answers_said(model, tokenizer, prompts, found: dict) -> str:
    """The five questions answered by M, M+ and steered M; Mismatch where steered M says nothing."""
    found["answers"] = answer_questions(model, tokenizer, list(QUESTIONS), max_new_tokens=48)
    empty = [each["question"] for each in found["answers"] if not each["steered"]]
    if empty:
        raise Mismatch(f"no answer to {empty[0]!r}")
    return f"{len(found['answers'])} answered by M, M+ and steered M"


def write_report(report: dict, path: str | os.PathLike) -> None:
    """Write the report as JSON, and beside it as Markdown."""
    write_json(path, report)
    with written_beside(Path(path).with_suffix(".md")) as beside:
        beside.write_text(markdown(report), encoding="utf-8")


def markdown(report: dict) -> str:
    """The report as a person attaches it to a bug."""
    state = "all that was looked at is as it should be" if report["ok"] else "a mismatch"
    lines = [f"# check of {report['family']}: {state}", ""]
    lines += [f"- {name}: {value}" for name, value in report["parts"].items()]
    lines += [f"- {name}: {value}" for name, value in report["machine"].items()]
    lines += ["", "| check | result | | seconds |", "|---|---|---|---|"]
    lines += [
        f"| {row['check']} | {row['result']} | {cell(row['said'])} | {row['seconds']:.1f} |"
        for row in report["checks"]
    ]
    if report["answers"]:
        lines += ["", "| question | M | M+ | proxy-tuned M |", "|---|---|---|---|"]
    lines += [
        f"| {' | '.join(cell(row[key]) for key in ('question', 'base', 'expert', 'steered'))} |"
        for row in report["answers"]
    ]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text as it can stand in a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
