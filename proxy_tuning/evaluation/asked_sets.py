"""The sets of questions that are asked beside a task's own, put to any system and graded.

    typed         templates of `polls/natural.toml` that nothing was trained on, refusals among them
    natural       in visitors' words, written without sight of any template
    near_misses   near to the polls, and in no table: what M knows is to be kept
    general       short answers of 26 kinds, those that M gives in three wordings and others

The last three are `data/questions`, graded by sets.py.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation import sets
from proxy_tuning.evaluation.claims import abstains, gives_percentage, leaders, numbers
from proxy_tuning.evaluation.measures import described, disagreement, resampled
from proxy_tuning.evaluation.pool import each
from proxy_tuning.polls.answers import leader_of, numbers_of
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.elections import NATIONAL, STATES
from proxy_tuning.polls.natural import (
    COMPARED,
    endings,
    natural_rows,
    not_taught,
    out_of_scope_rows,
)
from proxy_tuning.polls.natural_forms import NATURAL, read_natural, says_yes
from proxy_tuning.polls.reading import read_question
from proxy_tuning.prompts import prompt
from proxy_tuning.records import WORK, write_json, written_beside

SETS = ("typed", "natural", "near_misses", "general")
LENGTH = {"typed": 80, "natural": 80, "near_misses": 24, "general": 24}
"""Tokens that an answer may have; what is looked for in a general one stands at its start."""
MARKS = ("right", "exact_match", "leader_accuracy", "sane", "abstained")
KEPT = 256  # questions after which the answers so far are written down
OTHERS = 100  # general questions that M does not know, asked to count what is gained
TYPED = 240  # questions of the set typed
WORDINGS = ("q1", "q2", "q3")
REFUSALS = {kind for kind, section in NATURAL.items() if "answer" in section}
KEEPING = ("near_misses", "general")  # what M knows there is to be kept
STEERED = "proxy-tuned"  # how the names of the trio's rows begin


def typed_questions(tables, states, count=TYPED, seed=0, ends=False):
    """Test templates as people type them: two thirds facts, the others to be answered by a refusal.

    Args: states, the places that M+ was taught; None for all; ends, whether it was taught the last
    polls and results of the other states, which are then asked too. Columns question, answer,
    leader, set and silent (whether a refusal is right).
    """
    places = states or [*STATES.values(), NATIONAL]
    facts = natural_rows(tables, places, "test", 1, seed)
    facts = facts.sample(min(len(facts), 2 * count // 3), random_state=seed)
    refused = out_of_scope_rows(tables, places, "test", count // 6, seed)
    if ends:
        elsewhere = endings(tables, places, "test", 1, seed)
    else:
        elsewhere = not_taught(places, "test", 1, seed)
    elsewhere = elsewhere.sample(min(len(elsewhere), count // 6), random_state=seed)
    rows = [facts, refused.assign(status="refused"), elsewhere]
    rows = pd.concat(rows, ignore_index=True).assign(set="typed")
    return rows.assign(silent=~rows["status"].isin(("known", "unseen")))


def fixed_questions(name, states, ends=False):
    """A file of `data/questions` as a table: set, question, the row to grade by, and silent.

    Of natural.jsonl the rows that the tables answer are of the set "natural" where M+ was taught all
    that they ask, else of "natural, not taught", where a refusal is as right as what the tables
    say; of "natural, out of scope" only a refusal is.
    """
    rows = pd.DataFrame({"row": sets.load(name)})
    rows["question"] = [row.get("question") or row[WORDINGS[0]] for row in rows["row"]]
    rows["set"], rows["silent"] = name, False
    if name == "natural":
        rows["set"] = [natural_set(row, states, ends) for row in rows["row"]]
        rows["silent"] = rows["set"] != "natural"
    return rows


def natural_set(row, states, ends):
    """Which part of natural.jsonl a row belongs to; states and ends as `typed_questions` has them."""
    if row["kind"] == "out_of_scope":
        return "natural, out of scope"
    places = row["place"] if isinstance(row["place"], list) else [row["place"]]
    everywhere = states is None or (ends and row["month"] is None)
    taught = row["cycle"] == 2024 and (everywhere or set(places) <= set(states))
    return "natural" if taught else "natural, not taught"


def graded(rows, answers):
    """The rows with answered and a column for each of `MARKS`, None where it has no meaning."""
    marks = [
        mark(row, answer) for row, answer in zip(rows.to_dict("records"), answers, strict=True)
    ]
    marks = pd.DataFrame(marks, index=rows.index, columns=list(MARKS), dtype=object)
    return rows.assign(answered=answers, **marks)


def mark(row, answer):
    """The marks of one answer."""
    if row["set"] == "typed":
        return mark_typed(row, answer)
    if not row["set"].startswith("natural"):
        return {"right": sets.grade_short(row["row"], answer)}
    found = sets.grade_natural(row["row"], answer)
    found["abstained"] = refuses(answer)
    if row["silent"]:
        refused = found["abstained"] and not gives_percentage(answer)
        found["right"] = refused or (found["right"] and row["set"] == "natural, not taught")
    return found


def mark_typed(row, answer):
    """The marks of an answer to a template, whoever words it.

    right: of a refusal, that it is one; of a fact, that all its numbers are there and no other
    leader, yes or no. exact_match: its numbers alone, in their order.
    """
    refused, wanted = refuses(answer), numbers_of(row["answer"])
    found = {"abstained": refused, "sane": sets.is_sane(answer), "exact_match": None}
    if row["silent"]:
        return found | {"right": refused and not gives_percentage(answer), "leader_accuracy": None}
    leader = None if row["kind"] in COMPARED else leader_of(row["answer"])
    named = leader is None or leader_named(row, answer) == leader
    wants = says_yes(row["answer"])
    agrees = wants is None or says_yes(answer) == wants
    if row["kind"] in COMPARED:
        agrees = answer == row["answer"]
    return found | {
        "leader_accuracy": None if leader is None else named,
        "exact_match": named and agrees and numbers_of(answer) == wanted,
        "right": named and agrees and set(wanted) <= numbers(answer),
    }


def leader_named(row, answer):
    """The leader by the sentences of `answers`, else as `claims` reads free text; None if none."""
    found = leader_of(answer)
    if found is not None:
        return found
    month = row["month"] if isinstance(row["month"], str) else None
    match_up = {"match_up": "Biden"} if month == "2024-07" and "Biden" in answer else {}
    by_words, by_figures = leaders(answer, {"cycle": 2024, "month": month} | match_up)
    (said,) = by_words | by_figures if len(by_words | by_figures) == 1 else {None}
    return "tie" if not said and by_words | by_figures == {None} else said


def refuses(answer):
    """Whether an answer says that it has no such polls or figures, in the words of M+ or others."""
    return abstains(answer) or read_natural(answer)[0] in REFUSALS


def with_facts(tables) -> Callable[[str], str]:
    """What a practitioner would do first: the figures that are looked up, before the question."""

    def rewritten(question):
        lines = look_up(read_question(question, tables), tables).lines
        told = "\n".join(
            f"{line['what']}: {line['democrat']}, {line['republican']}; {line['ahead']}"
            for line in lines
        )
        return f"{told}\n\nUse these figures to answer. {question}" if told else question

    return rewritten


def ask(system, tokenizer, rows, rewritten=None):
    """The rows graded by what a system answers to them; no answer is generated a second time."""
    asked = rows["question"] if rewritten is None else rows["question"].map(rewritten)
    length = LENGTH[rows["set"].iloc[0].split(",")[0]]
    path = WORK / "answers" / f"{identity(system, tokenizer)}-{length}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = sorted(set(asked) - set(known), key=len)  # alike in length go together: less padding
    for start in range(0, len(new), KEPT):
        batch = new[start : start + KEPT]
        answers = greedy_answers(system, tokenizer, batch, max_new_tokens=length)
        known |= dict(zip(batch, answers, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, known)
    return graded(rows, [known[question] for question in asked])


def identity(system, tokenizer):
    """A hash of a model's weights, its prompt and, where it is steered, its line and expert's prefix.

    Raises ValueError for a model without weights that torch can see, as on ONNX Runtime.
    """
    if not system.state_dict():
        raise ValueError("sets are asked of models on torch: leave out --engine")
    line = [getattr(system, name, None) for name in ("line", "alpha")]
    line.append(prompt("?", tokenizer))
    line.append(getattr(system.config, "expert_prefix", None))
    found = hashlib.blake2b(repr(line).encode(), digest_size=16)
    for name, tensor in system.state_dict().items():
        found.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def general_questions(base, tokenizer, limit=None, seed=0):
    """What M knows of general.jsonl, by three wordings, and `OTHERS` of those it does not know."""
    rows = fixed_questions("general", None)
    if limit is not None:
        rows = rows.sample(min(limit, len(rows)), random_state=seed)
    known = rows
    for wording in WORDINGS:  # the next one of what it has right so far
        if len(known):
            asked = known.assign(question=[row[wording] for row in known["row"]])
            known = known[ask(base, tokenizer, asked)["right"].astype(bool)]
        if wording == WORDINGS[0]:
            unknown = rows.drop(known.index)
    others = unknown.sample(min(OTHERS, len(unknown)), random_state=seed)
    return pd.concat([known, others]).assign(known=lambda t: t.index.isin(known.index))


def scores(name, rows, references):
    """Rows of `measures.summary`'s form for one system: system, set, score, mean, interval, questions.

    Args: rows graded, of several sets; references, the graded rows of the models whose knowledge is
    to be kept, by name. What is "kept of M" is the share of M's right answers that is right here,
    too, its interval over resampled questions; "lost" and "gained" are counted.
    """
    records = []

    def add(set_name, score, values):
        values = values.dropna().astype(float)
        if len(values):
            draws = resampled(values, values.index)
            records.append(
                {"system": name, "set": set_name}
                | described(score, values.mean(), draws, len(values))
            )

    groups = list(rows.groupby("set", sort=False))
    natural = rows[rows["set"].str.startswith("natural")]
    for set_name, part in [*groups, ("natural, all", natural)]:
        for score in ("right", "exact_match", "leader_accuracy"):
            add(set_name, score, part[score])
        add(set_name, "nonsense", 1 - part["sane"].dropna().astype(float))
        if set_name in ("typed", "natural, all"):
            said, silent = part["abstained"].astype(bool), part["silent"].astype(bool)
            add(set_name, "abstention_precision", silent[said])
            silent &= said | ~part["right"].astype(bool)  # what is not taught may be known
            add(set_name, "abstention_recall", said[silent])
        for other, before in references.items() if set_name in KEEPING else ():
            known = before.loc[part.index, "right"].astype(bool)
            right = part["right"].astype(bool)
            add(set_name, f"kept of {other}", right[known])
            for score, count in (("lost", known & ~right), ("gained", right & ~known)):
                found = {"score": f"{score} of {other}", "mean": int(count.sum())}
                found |= {"interval": None, "questions": len(part)}
                records.append({"system": name, "set": set_name} | found)
    return records


@dataclass(frozen=True)
class Sets:
    """Which further questions are asked."""

    tables: dict
    """As `load_facts` returns them."""
    states: tuple[str, ...] | None = None
    """The places that M+ was taught; None for all."""
    limit: int | None = None
    """At most so many questions of each set, drawn by `seed`; None takes all."""
    ends: bool = False
    """Whether M+ was taught the last polls and results of the other states."""
    names: tuple[str, ...] = SETS
    answers: Path | None = None
    """Where all answers are written as JSON lines, to be read by a person; None writes none."""
    seed: int = 0

    def drawn(self, names, limit):
        """The questions of these sets but general, by set: at most `limit` of each."""
        found = {}
        for name in names:
            if name == "typed":
                rows = typed_questions(self.tables, self.states, seed=self.seed, ends=self.ends)
            else:
                rows = fixed_questions(name, self.states, self.ends)
            if limit is not None:
                rows = rows.sample(min(limit, len(rows)), random_state=self.seed)
            found[name] = rows
        return found

    def questions(self, base, tokenizer):
        """The questions of every set; M, `base`, says which general ones it knows."""
        found = self.drawn([name for name in self.names if name != "general"], self.limit)
        if "general" in self.names:
            found["general"] = general_questions(base, tokenizer, self.limit, self.seed)
        return [rows.set_axis([f"{name} {i}" for i in rows.index]) for name, rows in found.items()]


def measure_sets(systems, rewritten, model, tokenizer, sets, workers=1):
    """Ask every system all sets: records of `scores`, and the trio's `offset` along its answers.

    Args:
        systems: by name, M first and M- before M+.
        rewritten: what rewrites the questions for a system, by its name.
        model: the trio; its first steered row is the one whose answers the offset is measured on.
        sets: a `Sets`.
        workers: how many systems are asked at a time, as `pool.each` has it.
    """
    asked, graded_by, records = sets.questions(systems["M"], tokenizer), {}, []

    def answers(name, system):
        print(f"{time.strftime('%H:%M:%S')} {name}: sets", flush=True)
        return pd.concat([ask(system, tokenizer, rows, rewritten.get(name)) for rows in asked])

    for name, rows in each(answers, systems, workers):
        references = ("M", "M-") if name.startswith("M+") else ("M",)
        records += scores(name, rows, {k: graded_by[k] for k in references if k in graded_by})
        graded_by[name] = rows
        if sets.answers is not None:
            write_answers(sets.answers, graded_by)
    steered = next(name for name in graded_by if name.startswith(STEERED))
    rows = graded_by[steered]
    rows = rows.assign(kl=disagreement(model, tokenizer, rows["question"], rows["answered"]))
    for name, part in rows.groupby("set", sort=False):
        draws = resampled(part["kl"], part.index)
        score = described("offset", part["kl"].mean(), draws, len(part))
        records.append({"system": steered, "set": name} | score)
    return records


def write_answers(path, graded_by):
    """All answers and their marks, a line each."""
    told = pd.concat([rows.assign(system=name) for name, rows in graded_by.items()])
    columns = ["system", "set", "question", "answered", *MARKS]
    with written_beside(path) as beside:
        told[columns].to_json(beside, orient="records", lines=True, force_ascii=False)
