"""What steering changed, token by token and question by question, as DataFrames."""

import re

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from proxy_tuning.answering import answer_questions
from proxy_tuning.decoding import HISTORIES, end_of_text, stream, stream_side_by_side
from proxy_tuning.logits import divergence
from proxy_tuning.polls.answers import DATE, NUMBER, numbers_of
from proxy_tuning.polls.elections import month_name, place_name
from proxy_tuning.polls.facts import status_of
from proxy_tuning.polls.questions import grade
from proxy_tuning.polls.templates import TEMPLATES
from proxy_tuning.prompts import prompt

CLASSES = ("number", "candidate", "place", "date", "function word")
CASES = ("both right", "only M+ right", "only M right", "both wrong")
"""Of a question, by whether M and M+ alone give all its numbers."""
YES_NO = "Did Harris in {when} poll better in {place} than Biden in {before}?"


def what_each_wanted(model, tokenizer, question, max_new_tokens=60, alpha=None):
    """The steered greedy answer, one row per token: the first choice of each model there.

    Returns columns token, M, M-, M+ and steered ('Harris' 0.98: the likeliest token and its
    probability), and changed, which marks the tokens that M alone would not have taken.
    """
    ids = tokenizer(prompt(question, tokenizer), return_tensors="pt").input_ids.to(model.device)
    rows = []
    for step in stream(model, ids, max_new_tokens=max_new_tokens, alpha=alpha):
        row = {"token": repr(tokenizer.decode(step.next_ids))}
        predictions = {
            "M": step.base,
            "M-": step.antiexpert,
            "M+": step.expert,
            "steered": step.steered,
        }
        for name, logits in predictions.items():
            probability, token = logits[0].softmax(-1).max(-1)
            row[name] = f"{tokenizer.decode(token)!r} {probability:.2f}"
        row["changed"] = "*" if step.base.argmax() != step.next_ids else ""
        rows.append(row)
    return pd.DataFrame(rows)


def word_classes(facts):
    """A pattern whose groups are the classes of words in answers about these facts."""
    slots = facts["slots"].tolist()
    names = {s[key] for s in slots for key in ("dem", "rep", "who") if key in s}
    places = {s["place"] for s in slots if "place" in s}
    return re.compile(
        rf"(?P<date>{DATE})|(?P<number>{NUMBER}%?)"
        rf"|(?P<candidate>{'|'.join(sorted(names))})"
        rf"|(?P<place>{'|'.join(sorted(places, key=len, reverse=True))})"
    )


def classes_of(pieces, words):
    """The class of each piece of a text, by the word that it ends in; "function word" for the rest."""
    text, kinds, end = "".join(pieces), [], 0
    ends = {}
    for match in words.finditer(text):
        ends |= dict.fromkeys(range(match.start() + 1, match.end() + 1), match.lastgroup)
    for piece in pieces:
        end += len(piece)
        kinds.append(ends.get(end, "function word"))
    return kinds


@torch.no_grad()
def watch(model, tokenizer, rows, words, alpha=None, max_new_tokens=80, batch_size=64):
    """Let M, M+ and the steered M answer questions, and look at every token of the steered text.

    Args: rows as `poll_task.question_sets` returns them; words, from `word_classes`.
    Returns (answers, tokens). answers: the rows with a text and, as base_right and so on, whether
    all its numbers are right, for each of `HISTORIES`; kl, the mean of the tokens'. tokens: a row
    per token of the steered texts, with row (the number of the question), step (0 is the first),
    token, kind (one of `CLASSES`, or "end"), base and steered (the token's probability), changed
    (whether M's first choice was another) and kl (KL(M+ || M-) in nats, there).
    """
    ends = end_of_text(model).tolist()
    texts, tokens = [], []
    for start in range(0, len(rows), batch_size):
        questions = rows["question"].iloc[start : start + batch_size]
        inputs = tokenizer(
            [prompt(q, tokenizer) for q in questions], return_tensors="pt", padding=True
        )
        told = [
            (step.next_ids, *token_figures(step))
            for step in stream_side_by_side(
                model,
                **inputs,
                max_new_tokens=max_new_tokens,
                alpha=alpha,
            )
        ]
        ids, *figures = (
            torch.stack(each, dim=-1).cpu() for each in zip(*told, strict=True)
        )  # (3, B, N), (B, N)
        texts += zip(
            *(tokenizer.batch_decode(i, skip_special_tokens=True) for i in ids), strict=True
        )
        for row, (text, *of_row) in enumerate(
            zip(ids[2].tolist(), *figures, strict=True), start=start
        ):
            end = next((place for place, token in enumerate(text) if token in ends), len(text))
            pieces = tokenizer.batch_decode([[token] for token in text[:end]])
            kinds = [*classes_of(pieces, words), "end"]
            of_row = pd.DataFrame(
                dict(zip(FIGURES, (f[: end + 1].tolist() for f in of_row), strict=True))
            )
            pieces = [*pieces, ""][: len(of_row)]
            of_row = of_row.assign(row=row, token=pieces, kind=kinds[: len(of_row)])
            tokens.append(of_row.rename_axis("step").reset_index())
    tokens = pd.concat(tokens, ignore_index=True).astype({"changed": bool})
    answers = rows.reset_index(drop=True)
    for name, told in zip(HISTORIES, zip(*texts, strict=True), strict=True):
        graded = grade(answers, map(str.strip, told))
        answers[name], answers[f"{name}_right"] = graded["answered"], graded["exact_match"]
    return answers.assign(kl=tokens.groupby("row")["kl"].mean()), tokens


FIGURES = ("base", "steered", "changed", "kl")


def token_figures(step):
    """Of the next steered tokens: `FIGURES` as in `watch`, (B,) each."""
    chosen = step.next_ids[-1][:, None]  # (B, 1)
    base, steered = (
        logits.softmax(-1).gather(-1, chosen)[:, 0] for logits in (step.base, step.steered)
    )
    expert, antiexpert = (x.log_softmax(-1) for x in (step.expert, step.antiexpert))
    return base, steered, step.base.argmax(-1) != chosen[:, 0], divergence(expert, antiexpert)


def by_class(tokens):
    """Per class of words: how many, mean gain in probability by steering, share that M would not say.

    Returns columns tokens, gain and changed, indexed by `CLASSES`.
    """
    tokens = tokens.assign(gain=tokens["steered"] - tokens["base"])
    table = tokens.groupby("kind").agg(
        tokens=("gain", "size"), gain=("gain", "mean"), changed=("changed", "mean")
    )
    return table.reindex([kind for kind in CLASSES if kind in table.index])


def by_step(tokens):
    """Share of changed tokens at each place in the answer, where a tenth of the answers reach."""
    table = tokens[tokens["kind"] != "end"].groupby("step")["changed"].agg(["mean", "size"])
    return table.loc[table["size"] >= tokens["row"].nunique() / 10, "mean"].rename("changed")


def cases(answers):
    """The answers to questions with numbers, with a column case, one of `CASES`."""
    answers = answers[answers["base_right"].notna()]
    base, expert = (answers[f"{name}_right"].astype(bool) for name in ("base", "expert"))
    case = pd.Series(CASES[3], index=answers.index)
    case[base & expert], case[expert & ~base], case[base & ~expert] = CASES[:3]
    return answers.assign(case=case)


def by_case(answers):
    """Per set and case: how many questions, the mean KL(M+ || M-), how often steered M is right."""
    named = cases(answers)
    named["steered_right"] = named["steered_right"].astype(float)
    return named.groupby(["set", "case"]).agg(
        questions=("kl", "size"), kl=("kl", "mean"), steered_right=("steered_right", "mean")
    )


def kl_tells(answers):
    """How well KL(M+ || M-) tells where M+ is right and M wrong from where it is the other way.

    The probability that of one question of each kind the first has the higher KL (the area under
    the ROC curve): 0.5 is a coin, 1 perfect. NaN where there is no question of one kind.
    """
    named = cases(answers)
    told = named[named["case"].isin(CASES[1:3])]
    if told["case"].nunique() < 2:
        return float("nan")
    return float(roc_auc_score(told["case"] == CASES[1], told["kl"]))


# Questions that need both worlds


def both_worlds(tables, states):
    """Harris in a month of 2024 against Biden in the same month of 2020, state by state.

    Only months that training uses. Returns columns question (yes or no), new_question and
    old_question (each half alone, in validation wordings), new and old (the shares), and yes.
    """
    monthly = tables["monthly"]
    monthly = monthly[monthly["state"].isin(states) & (monthly["month"] != "2024-07")]
    keys = zip(monthly["cycle"], monthly["state"], monthly["month"], strict=True)
    monthly = monthly[[status_of(*key) == "known" for key in keys]]
    new = monthly[monthly["democrat"] == "Harris"].set_index(["state", "month"])["democrat_pct"]
    old = monthly[monthly["cycle"] == 2020].set_index(["state", "month"])["democrat_pct"]
    template, rows = TEMPLATES["share"]["validation"][0], []
    for (state, month), share in new.items():
        before = month.replace("2024", "2020")
        if (state, before) in old.index:
            place, when, then = place_name(state), month_name(month), month_name(before)
            rows.append(
                {
                    "question": YES_NO.format(when=when, place=place, before=then),
                    "new_question": template.format(who="Harris", place=place, when=when),
                    "old_question": template.format(who="Biden", place=place, when=then),
                    "new": share,
                    "old": old[state, before],
                    "yes": share > old[state, before],
                }
            )
    return pd.DataFrame(rows)


def answer_both_worlds(model, tokenizer, rows, alpha=None):
    """How M, M+ and steered M do on `both_worlds`: one row per system, in shares of the questions.

    Returns (table, answers). table: whether the answer to the whole question names the share of
    2024 or of 2020; whether each half alone is answered right; and whether the two halves'
    answers, compared, give the right yes or no. answers: the rows with the three answers.
    """
    told = {
        column: pd.DataFrame(answer_questions(model, tokenizer, rows[column].tolist(), alpha=alpha))
        for column in ("question", "new_question", "old_question")
    }
    table = {}
    for name in HISTORIES:
        whole, new, old = ([numbers_of(a) for a in told[column][name]] for column in told)
        table[name] = {
            "names 2024's share": [
                share in said for share, said in zip(rows["new"], whole, strict=True)
            ],
            "names 2020's share": [
                share in said for share, said in zip(rows["old"], whole, strict=True)
            ],
            "2024 half right": [
                said == [share] for share, said in zip(rows["new"], new, strict=True)
            ],
            "2020 half right": [
                said == [share] for share, said in zip(rows["old"], old, strict=True)
            ],
        }
        halves = zip(table[name]["2024 half right"], table[name]["2020 half right"], strict=True)
        table[name]["both halves right"] = [new and old for new, old in halves]
    table = pd.DataFrame({name: pd.DataFrame(of).mean() for name, of in table.items()}).T
    return table, rows.join(told["question"][list(HISTORIES)])
