"""The templates of natural.toml, and the answers that only natural questions get.

Yes or no, states side by side and refusals are written and read by the same `FORMS`; single facts
are told in the sentences of `answers`.
"""

import re
import tomllib
from pathlib import Path
from string import Formatter

from proxy_tuning.polls.templates import SPLITS

NATURAL = tomllib.loads(Path(__file__).with_name("natural.toml").read_text("utf-8"))
"""Kind -> split -> templates; a refusal also has its answer and the fillings of {what}."""
RUN = 5  # words in a row that no held-out template may share with one of training

WON_BY = "{leader} won by {lead:.1f} points: {dem} got {d:.1f}% and {rep} {r:.1f}% of the votes"
PARTS = {
    "led": "in {place}, {leader} led by {lead} points",
    "won": "in {place}, {leader} won by {lead} points",
    "tied": "in {place}, the two were tied",
}
FORMS = {
    "yes": "{usual} So yes.",
    "no": "{usual} So no.",
    "latest": "{usual} These are the latest polls I have.",
    "better": "{time}, {parts}; so {who} did better in {where}.",
    "bigger": "{time}, {parts}; so the lead was larger in {where}.",
    "closest": "{time}, {parts}; so {where} was the closest.",
    "both": "{time}, {parts}.",
    "lead_moved": "{usual}; so {whose} lead went from {first} to {last} points.",
    "lead_changed": "{usual}; so the lead changed from {one}'s {first} to {other}'s {last} points.",
} | {kind: section["answer"] for kind, section in NATURAL.items() if "answer" in section}


def read_form(form, text):
    """The slots of a text that a form wrote, as a dict of strings; None where it did not."""
    pattern = "".join(
        re.escape(literal) + (f"(?P<{slot}>.+?)" if slot else "")
        for literal, slot, _, _ in Formatter().parse(form)
    )
    found = re.fullmatch(pattern, text)
    return found.groupdict() if found else None


YES = "yes|yep|yeah|correct|true|indeed|absolutely"
NO = "no|nope|false|incorrect"


def says_yes(text):
    """Whether an answer says yes, first or as its conclusion; None where it says neither."""
    found = re.search(
        rf"^\W*({YES}|{NO})\b(?! (?:one|doubt|question)\b)|(?:\bso|\bis|\btherefore|[.:]) (yes|no)(?=\W*$|[.,;!])",
        text,
        re.IGNORECASE,
    )
    return bool(re.fullmatch(YES, (found[1] or found[2]).lower())) if found else None


def write_parts(parts):
    """[(verb, leader, lead, place), ...] -> 'in Texas, Trump led by 6.5 points; ...'."""
    said = [
        PARTS[verb if leader else "tied"].format(leader=leader, lead=f"{lead:.1f}", place=place)
        for verb, leader, lead, place in parts
    ]
    return "; ".join(said)


def read_parts(text):
    """What `write_parts` was given, or None."""
    parts = []
    for said in text.split("; "):
        read = {verb: read_form(form, said) for verb, form in PARTS.items()}
        verb = next((verb for verb in PARTS if read[verb]), None)
        if verb is None:
            return None
        slots = {"leader": None, "lead": "0.0"} | read[verb]
        if not re.fullmatch(r"\d+\.\d+", slots["lead"]):
            return None
        parts.append((verb, slots["leader"], float(slots["lead"]), slots["place"]))
    return parts


def read_natural(text):
    """The kind and slots of an answer in one of `FORMS`; (None, {}) for any other sentence."""
    for kind, form in FORMS.items():
        slots = read_form(form, text)
        if slots and "parts" in slots:
            slots["parts"] = read_parts(slots["parts"])
        if slots and all(value is not None for value in slots.values()):
            return kind, slots
    return None, {}


def listed(words, last):
    """['a', 'b', 'c'] -> 'a, b or c' where `last` is 'or'."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def runs(template):
    """All runs of `RUN` words of a template; a slot ends a run."""
    found = set()
    for piece in re.split(r"\{\w+\}", template.lower().replace("'", "")):
        words = re.findall(r"[a-z0-9%]+", piece)
        found |= {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
    return found


def shared_runs(held_out, training):
    """The held-out templates that share a run with a training one: {template: its runs}."""
    known = set().union(*map(runs, training))
    return {template: runs(template) & known for template in held_out if runs(template) & known}


def templates_of(kind, split):
    """The templates of one kind and split."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    return NATURAL[kind][split]
