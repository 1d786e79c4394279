"""One answer as a record for JSON, and its tokens as CSV."""

import csv
import io
import math

from proxy_tuning.widget.stories import (
    BINS,
    MODELS,
    Choice,
    Story,
    bin_of,
    branch_text,
    token_text,
)


def story_record(story: Story, tokenizer, family: str) -> dict:
    """Everything about one answer, ready for JSON; probabilities from 0 to 1."""
    ask, found = story.ask, story.found
    return {
        "question": ask.question,
        "family": family,
        "alpha": ask.alpha,
        "temperature": ask.temperature,
        "length": ask.length,
        "seed": ask.seed,
        "asked_as": story.prompted,
        **story.texts,
        "understood": found.understood,
        "page_says": found.page,
        "facts": found.facts,
        "missing": found.missing,
        "near": [*found.near, *(question for question, _ in found.pairs)],
        "check": {who: story.topic.verdict(text, found) for who, text in story.texts.items()},
        "tokens": [token_record(choice, tokenizer) for choice in story.choices],
        "branches": [
            {
                "alpha": branch.alpha,
                "parent": branch.parent,
                "at": branch.at,
                "text": branch_text(branch, tokenizer),
            }
            for branch in story.branches
        ],
    }


def token_record(choice: Choice, tokenizer) -> dict:
    """One token of the steered answer: what steering did to it, and what each model predicted."""

    def likeliest(row):
        pairs = zip(choice.top_ids[row].tolist(), choice.top_scores[row].tolist(), strict=True)
        return [
            {"token": token_text(tokenizer, token), "p": round(math.exp(score), 5)}
            for token, score in pairs
        ]

    return {
        "token": token_text(tokenizer, choice.token),
        "id": choice.token,
        "change": round(choice.change, 4),
        "change_in_words": BINS[bin_of(choice.change)][2],
        "first_choice_changed": choice.turned,
        "p": {
            who: round(math.exp(score), 5) for who, score in zip(MODELS, choice.scores, strict=True)
        },
        "predictions": {who: likeliest(row) for row, who in enumerate(MODELS)},
    }


def story_csv(record: dict) -> str:
    """One line per token of the steered answer, from `story_record`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["position", "token", "id", "change", "first_choice_changed"]
    writer.writerow([*columns, *(f"p_{who}" for who in MODELS)])
    for position, token in enumerate(record["tokens"]):
        row = [position, *(token[column] for column in columns[1:])]
        writer.writerow([*row, *(token["p"][who] for who in MODELS)])
    return out.getvalue()
