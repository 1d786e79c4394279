"""Questions to answers: how every command, table and notebook lets the models speak."""

import torch
from tqdm.auto import tqdm

from proxy_tuning.decoding import HISTORIES, stream, stream_side_by_side
from proxy_tuning.prompts import prompt


def answer_questions(
    model,
    tokenizer,
    questions: list[str],
    *,
    alpha: float | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = False,
) -> list[dict[str, str]]:
    """Greedy answers of M, M+ and the proxy-tuned M to each question, in the order given.

    Args:
        model, tokenizer: as `load_family` returns them (padding on the left).
        questions: plain questions; each is asked as `prompts.prompt` says.
        alpha: weight of (expert - antiexpert); None takes the model's.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions answered together.
        progress: whether to show a bar on standard error.

    Returns:
        One dictionary per question, keys question, base, expert and steered.
    """
    answers = []
    for start in tqdm(
        range(0, len(questions), batch_size), desc="answering", unit="batch", disable=not progress
    ):
        batch = questions[start : start + batch_size]
        prompts = [prompt(question, tokenizer) for question in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        steps = stream_side_by_side(
            model,
            inputs["input_ids"],
            inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            alpha=alpha,
            eos_token_id=tokenizer.eos_token_id,
        )
        ids = torch.stack([step.next_ids for step in steps], dim=-1)  # (3, B, N)
        texts = [tokenizer.batch_decode(rows, skip_special_tokens=True) for rows in ids]
        for question, *three in zip(batch, *texts):
            answers.append({"question": question} | dict(zip(HISTORIES, map(str.strip, three))))
    return answers


@torch.no_grad()
def greedy_answers(
    model,
    tokenizer,
    questions: list[str],
    *,
    alphas: list[float] | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 64,
) -> list[str]:
    """Greedy answers of any one causal language model, in the order of the questions.

    Args:
        model: anything with `generate`, the proxy-tuned model included.
        alphas: for the proxy-tuned model alone: each question is answered at each of them, in
            this order; None takes the model's.
        tokenizer, questions, max_new_tokens, batch_size: as in `answer_questions`.
    """
    answers = []
    for start in range(0, len(questions), batch_size):
        prompts = [prompt(q, tokenizer) for q in questions[start : start + batch_size]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
        if alphas is not None:
            alpha = torch.tensor(alphas).expand(len(prompts), -1)
            steps = stream(
                model,
                **inputs,
                max_new_tokens=max_new_tokens,
                alpha=alpha,
                eos_token_id=tokenizer.eos_token_id,
            )
            new_ids = torch.stack([step.next_ids for step in steps], dim=1)
        else:
            ids = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )  # (B, T + N)
            new_ids = ids[:, inputs["input_ids"].shape[1] :]
        answers += map(str.strip, tokenizer.batch_decode(new_ids, skip_special_tokens=True))
    return answers
