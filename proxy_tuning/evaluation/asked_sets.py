"""The sets of questions that are asked beside a task's own, put to any system and graded.

    typed         templates of `polls/natural.toml` that nothing was trained on, refusals among them
    natural       in visitors' words, written without sight of any template
    near_misses   near to the polls, and in no table: what M knows is to be kept
    general       short answers of 26 kinds, those that M gives in three wordings and others

The last three are `data/questions`, graded by sets.py.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation import sets
from proxy_tuning.evaluation.claims import abstains
from proxy_tuning.evaluation.measures import described, disagreement, resampled
from proxy_tuning.polls.answers import leader_of
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.elections import NATIONAL, STATES
from proxy_tuning.polls.natural import natural_rows, not_taught, out_of_scope_rows
from proxy_tuning.polls.reading import read_question
from proxy_tuning.records import WORK, write_json, written_beside

SETS = ("typed", "natural", "near_misses", "general")
LENGTH = {"typed": 80, "natural": 64, "near_misses": 40, "general": 32}
"""Tokens that an answer may have; what is looked for in a general one stands at its start."""
KEPT = 256  # questions after which the answers so far are written down
OTHERS = 100  # general questions that M does not know, asked to count what is gained
TYPED = 240  # questions of the set typed
WORDINGS = ("q1", "q2", "q3")


def typed_questions(tables, states, count=TYPED, seed=0):
    """Test templates as people type them: two thirds facts, the others to be answered by a refusal.

    Args: states, the places that M+ was taught; None for all. Columns question, answer, leader, set
    and silent (whether a refusal is right).
    """
    places = states or [*STATES.values(), NATIONAL]
    facts = natural_rows(tables, places, "test", 1, seed)
    facts = facts.sample(min(len(facts), 2 * count // 3), random_state=seed)
    refused = out_of_scope_rows(tables, places, "test", count // 6, seed)
    untaught = not_taught(places, "test", 1, seed)
    untaught = untaught.sample(min(len(untaught), count // 6), random_state=seed)
    rows = [facts.assign(silent=False), refused.assign(silent=True), untaught.assign(silent=True)]
    return pd.concat(rows, ignore_index=True).assign(set="typed")


def fixed_questions(name, states):
    """A file of `data/questions` as a table: set, question, the row to grade by, and silent.

    Of natural.jsonl the rows that the tables answer are of the set "natural" where M+ was taught all
    that they ask, else of "natural, not taught"; there as for those of "natural, out of scope" a
    refusal is right.
    """
    rows = pd.DataFrame({"row": sets.load(name)})
    rows["question"] = [row.get("question") or row[WORDINGS[0]] for row in rows["row"]]
    rows["set"], rows["silent"] = name, False
    if name == "natural":
        rows["set"] = [natural_set(row, states) for row in rows["row"]]
        rows["silent"] = rows["set"] != "natural"
    return rows


def natural_set(row, states):
    """Which part of natural.jsonl a row belongs to."""
    if row["kind"] == "out_of_scope":
        return "natural, out of scope"
    places = row["place"] if isinstance(row["place"], list) else [row["place"]]
    taught = row["cycle"] == 2024 and (states is None or set(places) <= set(states))
    return "natural" if taught else "natural, not taught"


def graded(rows, answers):
    """The rows with answered, right and, where it has a meaning, sane, abstained and leader."""
    rows = rows.assign(answered=answers, right=None, sane=None, abstained=None, leader_right=None)
    marks = [
        mark(row, answer) for row, answer in zip(rows.to_dict("records"), answers, strict=True)
    ]
    return rows.drop(columns=list(marks[0])).join(pd.DataFrame(marks, index=rows.index))


def mark(row, answer):
    """The marks of one answer."""
    if row["set"].startswith("natural"):
        found = sets.grade_natural(row["row"], answer)
        if row["set"] == "natural, not taught":
            found["right"] = found["abstained"]
        return found
    if row["set"] == "typed":
        leader = leader_of(row["answer"])
        return {
            "right": answer == row["answer"],
            "abstained": abstains(answer),
            "leader_right": None if leader is None else leader_of(answer) == leader,
            "sane": sets.is_sane(answer),
        }
    return {"right": sets.grade_short(row["row"], answer), "sane": sets.is_sane(answer)}


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
    path = WORK / "answers" / f"{identity(system)}-{length}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = sorted(set(asked) - set(known), key=len)  # alike in length go together: less padding
    for start in range(0, len(new), KEPT):
        batch = new[start : start + KEPT]
        answers = greedy_answers(system, tokenizer, batch, max_new_tokens=length)
        known |= dict(zip(batch, answers, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, known)
    return graded(rows, [known[question] for question in asked])


def identity(system):
    """A hash of a model's weights and, where it is steered, of its line."""
    line = [getattr(system, name, None) for name in ("line", "alpha")]
    found = hashlib.blake2b(repr(line).encode(), digest_size=16)
    for name, tensor in system.state_dict().items():
        found.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def general_questions(base, tokenizer, limit=None, seed=0):
    """What M knows of general.jsonl, by three wordings, and `OTHERS` of those it does not know."""
    rows = fixed_questions("general", None)
    if limit is not None:
        rows = rows.sample(min(limit, len(rows)), random_state=seed)
    right = pd.DataFrame(
        {
            wording: ask(
                base, tokenizer, rows.assign(question=[row[wording] for row in rows["row"]])
            )["right"]
            for wording in WORDINGS
        }
    )
    known, unknown = rows[right.all(axis=1)], rows[~right["q1"]]
    others = unknown.sample(min(OTHERS, len(unknown)), random_state=seed)
    return pd.concat([known, others]).assign(known=lambda t: t.index.isin(known.index))


def scores(name, rows, reference=None, reference_name=None):
    """Rows of `measures.summary`'s form for one system: system, set, score, mean, interval, questions.

    Args: rows graded, of several sets; reference, the graded rows of the model whose knowledge is to
    be kept, in the same order.
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

    for set_name, part in rows.groupby("set", sort=False):
        add(set_name, "right", part["right"])
        add(set_name, "nonsense", 1 - part["sane"].astype(float))
        add(set_name, "leader right", part["leader_right"])
        if reference is not None and set_name in ("near_misses", "general"):
            known = reference.loc[part.index, "right"].astype(bool)
            add(set_name, f"kept of {reference_name}", part.loc[known, "right"])
            add(set_name, f"gained on {reference_name}", part.loc[~known, "right"])
    for label, part in (
        ("typed", rows[rows["set"] == "typed"]),
        ("natural, all", rows[rows["set"].str.startswith("natural")]),
    ):
        said = part["abstained"].astype("boolean")
        add(label, "abstention precision", part.loc[said.fillna(False), "silent"])
        add(label, "abstention recall", said[part["silent"].astype(bool)])
        if label == "natural, all":
            add(label, "right", part["right"])
            add(label, "nonsense", 1 - part["sane"].astype(float))
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
    names: tuple[str, ...] = SETS
    answers: Path | None = None
    """Where all answers are written as JSON lines, to be read by a person; None writes none."""
    seed: int = 0

    def questions(self, base, tokenizer):
        """The questions of every set; M, `base`, says which general ones it knows."""
        for name in self.names:
            if name == "typed":
                rows = typed_questions(self.tables, self.states, seed=self.seed)
            elif name == "general":
                rows = general_questions(base, tokenizer, self.limit, self.seed)
            else:
                rows = fixed_questions(name, self.states)
            if self.limit is not None and name != "general":
                rows = rows.sample(min(self.limit, len(rows)), random_state=self.seed)
            yield rows.set_axis([f"{name} {i}" for i in rows.index])


def measure_sets(systems, model, tokenizer, sets):
    """Ask every system all sets: records of `scores`, and the trio's `offset` along its answers.

    Args:
        systems: pairs of name and model, M first and M- before M+; a third member, where there is
            one, rewrites the question.
        model: the trio; its first steered row is the one whose answers the offset is measured on.
        sets: a `Sets`.
    """
    asked, graded_by, records = [], {}, []
    for name, system, *rewritten in systems:
        print(name, flush=True)
        asked = asked or list(sets.questions(system, tokenizer))
        rows = pd.concat([ask(system, tokenizer, each, *rewritten) for each in asked])
        reference = "M-" if name.startswith("M+") else "M"
        records += scores(name, rows, graded_by.get(reference), reference)
        graded_by[name] = rows
        if sets.answers is not None:
            write_answers(sets.answers, graded_by)
    steered = next(name for name in graded_by if name.startswith("proxy-tuned"))
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
    columns = ["system", "set", "question", "answered", "right", "sane", "abstained"]
    with written_beside(path) as beside:
        told[columns].to_json(beside, orient="records", lines=True, force_ascii=False)
