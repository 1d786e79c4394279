"""Text that M writes itself, chats and plain: a JSON object per line, going on where it stopped.

    python -m proxy_tuning.training.own_text --output FILE --rounds 60

A chat begins with a question that M makes up when it is given an empty user turn (Magpie, arXiv
2406.08464, section 2.1), and goes on with M's answer. Plain text begins with end-of-text alone.
It is what M- is distilled on (distill.py) and what M+ is held to M- on (`trainers.QuietTrainer`).
"""

import argparse
import json
from pathlib import Path

import torch

from proxy_tuning.families import FAMILIES, load_part
from proxy_tuning.training.short_questions import short_questions

OPENERS = (
    "What How Why When Where Who Which Can Could Please Write Explain Describe Give Tell Is Are Do "
    "Does Did Should I My We The In If Create Make Find List Suggest Compare Summarize Rewrite "
    "Translate Help Imagine Let's Hi Hello Thanks Design Name Define Choose Read Solve Discuss"
).split()
"""First words of half of the questions, so that they differ; the other half begins freely."""
ROWS = 96  # texts of a round
PLAIN_EVERY = 4  # one round in so many is plain text
QUESTION, ANSWER, PLAIN, SHORT = 48, 128, 160, 40  # tokens at most
CHARACTERS = range(3, 301)  # of a question
TOP_K = 64


@torch.inference_mode()
def sample(model, tokenizer, prompts, length, temperature, ends):
    """Tokens drawn after each prompt, up to what ends it: a list of (ids, whether it ended)."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
    new = model.generate(
        **inputs,
        max_new_tokens=length,
        do_sample=True,
        temperature=temperature,
        top_k=TOP_K,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )[:, inputs["input_ids"].shape[1] :]
    for row in new.tolist():
        end = next((place for place, token in enumerate(row) if token in ends), None)
        yield row[:end], end is not None


def chats(model, tokenizer, count):
    """Questions that M makes up and its answers: {"chat": [question, answer], "done": ...}."""
    mark = "\N{SNOWMAN}"
    head, _ = turn(tokenizer, mark).split(mark)
    ends = [tokenizer.eos_token_id, *tokenizer.encode("<|endoftext|>", add_special_tokens=False)]
    picks = torch.randint(len(OPENERS), (count,)).tolist()
    begun = [OPENERS[pick] if row % 2 else "" for row, pick in enumerate(picks)]
    drawn = sample(model, tokenizer, [head + b for b in begun], QUESTION, 0.9, ends)
    texts = [
        b + tokenizer.decode(ids) for b, (ids, ended) in zip(begun, drawn, strict=True) if ended
    ]
    questions = [text.strip() for text in texts if len(text.strip()) in CHARACTERS]
    if not questions:
        return
    answers = sample(model, tokenizer, [turn(tokenizer, q) for q in questions], ANSWER, 0.7, ends)
    for question, (ids, ended) in zip(questions, answers, strict=True):
        yield {"chat": [question, tokenizer.decode(ids)], "done": ended}


def turn(tokenizer, question):
    """A question in M's chat template, up to where the answer begins."""
    message = {"role": "user", "content": question}
    return tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)


def short_chats(model, tokenizer):
    """The short questions with M's greedy answers, as `chats` has them."""
    asked = sorted(short_questions(), key=len)
    for start in range(0, len(asked), ROWS):
        batch = asked[start : start + ROWS]
        prompts = [turn(tokenizer, question) for question in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
        new = model.generate(
            **inputs, max_new_tokens=SHORT, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )[:, inputs["input_ids"].shape[1] :]
        for question, ids in zip(batch, new.tolist(), strict=True):
            done = tokenizer.eos_token_id in ids
            ids = ids[: ids.index(tokenizer.eos_token_id)] if done else ids
            yield {"chat": [question, tokenizer.decode(ids)], "done": done}
        print(f"{start + len(batch)} of {len(asked)}", flush=True)


def plain(model, tokenizer, count):
    """Texts without a template: {"text": ..., "done": ...}."""
    end = tokenizer.encode("<|endoftext|>", add_special_tokens=False)
    drawn = sample(model, tokenizer, ["<|endoftext|>"] * count, PLAIN, 0.9, end)
    for ids, ended in drawn:
        yield {"text": tokenizer.decode(ids), "done": ended}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=FAMILIES["smollm"].base, help="M; default: smollm's")
    parser.add_argument("--output", type=Path, required=True, help=".jsonl, appended to")
    parser.add_argument("--rounds", type=int, default=60, help=f"of {ROWS} texts each, default 60")
    parser.add_argument("--short", action="store_true", help="answer `short_questions` instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, tokenizer = load_part(options.base, dtype=torch.bfloat16)
    if options.short:
        rows = list(short_chats(model, tokenizer))
        with options.output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return
    for number in range(options.rounds):
        lines = len(options.output.read_bytes().splitlines()) if options.output.is_file() else 0
        torch.manual_seed(options.seed + lines)  # another one in a run that goes on
        write = plain if number % PLAIN_EVERY == PLAIN_EVERY - 1 else chats
        rows = list(write(model, tokenizer, ROWS))
        with options.output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"round {number + 1} of {options.rounds}: {len(rows)} texts", flush=True)


if __name__ == "__main__":
    main()
