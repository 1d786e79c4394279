"""The end of a run: where M+ goes, what it is compared with, and what it answers."""

from pathlib import Path

import pandas as pd
from transformers import AutoModelForCausalLM, Trainer

from proxy_tuning.answering import answer_questions, greedy_answers
from proxy_tuning.families import Family, load_family, load_part, missing_files
from proxy_tuning.loading import add_adapter
from proxy_tuning.records import ROOT, TUNED
from proxy_tuning.training.trainers import PackedTrainer, exact_answers

SHOWN = 3  # questions of each kind whose answers are printed
NEW_TOKENS = 80  # of such an answer at most


def place_for(family: Family) -> Path:
    """Where a family's new M+ goes: to its own place, or beside where a complete M+ is there."""
    if missing_files(family.expert):
        return Path(family.expert)
    return TUNED / f"{family.name}-new"


def short(folder) -> str:
    """The name of a folder as seen from the repository."""
    return str(folder).removeprefix(f"{ROOT}/")


def load_expert(folder, antiexpert):
    """A saved M+ or a checkpoint of one, whole or an adapter that is put on M- loaded anew."""
    if Path(folder, "adapter_config.json").is_file():
        return add_adapter(load_part(antiexpert)[0], folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def compare_with(earlier, output, antiexpert, trainer: Trainer, loss: float, exact: float) -> None:
    """Measure the M+ that was there on the new one's held-out rows, and print what to do.

    Args:
        earlier, output: the folders of the M+ that stays and of the new one.
        antiexpert: M-, on which an earlier adapter is put.
        trainer: of the new M+; its held-out rows are asked.
        loss, exact: the new M+'s, in nats per token and as a share.
    """
    old = PackedTrainer(
        load_expert(earlier, antiexpert),
        trainer.args,
        eval_dataset=trainer.eval_dataset,
        compute_metrics=exact_answers,
    ).evaluate()
    better = "better" if loss < old["eval_loss"] else "not better"
    print(
        f"{short(earlier)} had an M+, which stays as it is: on the same held-out questions its "
        f"loss is {old['eval_loss']:.3f} with {old['eval_exact']:.0%} right, the new one's "
        f"{loss:.3f} with {exact:.0%}. The new one is {better}.\n"
        f"To steer with the new one name it, --expert {short(output)} or "
        f'load_family(expert="{short(output)}"); to keep it, put its folder in place of '
        f"{short(earlier)}."
    )


def never_fell(log: list[dict]) -> bool:
    """Whether the held-out loss was lowest at the first of several evaluations."""
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return len(losses) > 1 and min(losses) == losses[0]


def warn_of_memorising(output, last) -> None:
    """Say that nothing carried over to held-out questions, and which two states there are."""
    print(
        "WARNING: the held-out loss never fell after the first evaluation. What is learnt does "
        "not carry over to questions that were held out: that is learning by heart.\n"
        f"{short(output)} has the state of the first evaluation, which has seen little; "
        f"{short(last)} has the last state, which knows the training rows best. Compare their "
        "answers below. It helps to ask each fact in several ways (docs/your_own_data.md)."
    )


def show_answers(output, antiexpert, base, training: pd.DataFrame, held_out: pd.DataFrame) -> None:
    """Print trained and held-out questions with what M+ and the steered M answer.

    The models are loaded from their folders, so what is shown is what was saved.

    Args:
        output: the folder of M+.
        antiexpert, base: names or folders of M- and M; without a base M+ alone answers.
        training, held_out: rows with question and answer; those without a question are passed over.
    """
    shown = {
        what: rows[rows["question"].notna()].drop_duplicates("question").head(SHOWN)
        for what, rows in (
            ("trained on", training.sample(frac=1, random_state=0)),
            ("held out", held_out.sample(frac=1, random_state=0)),
        )
    }
    questions = [question for rows in shown.values() for question in rows["question"]]
    if not questions:
        return
    if base is None:
        tokenizer = load_part(antiexpert)[1]
        texts = greedy_answers(
            load_expert(output, antiexpert), tokenizer, questions, max_new_tokens=NEW_TOKENS
        )
        said = [{"M+": text} for text in texts]
    else:
        trio = Family("own", str(base), str(antiexpert), str(output))
        model, tokenizer = load_family(trio)
        answers = answer_questions(model, tokenizer, questions, max_new_tokens=NEW_TOKENS)
        said = [{"M+": each["expert"], "steered M": each["steered"]} for each in answers]
    told = iter(said)
    print(f"\nThe M+ in {short(output)} answers:")
    for what, rows in shown.items():
        for question, answer in zip(rows["question"], rows["answer"], strict=True):
            print(f"{what}: {question}\n  {'to learn':10} {answer}")
            for system, text in next(told).items():
                print(f"  {system:10} {text}")
