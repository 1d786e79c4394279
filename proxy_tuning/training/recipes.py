"""How an M+ is made: recipes for the families, for polls and for a reader's own rows."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from proxy_tuning.loading import in_one_line
from proxy_tuning.polls.elections import NATIONAL, SWING
from proxy_tuning.polls.history import STATES


@dataclass(frozen=True)
class Recipe:
    """How M+ is made; checked when made."""

    epochs: float = 3
    """Passes over the training questions."""
    optimizer: str = "adamw"
    """"adamw", or "muon": `optim.MuonAdamW`, which learns facts in far fewer steps."""
    learning_rate: float = 1e-4
    """The highest rate, after warm-up; it falls linearly to zero."""
    batch_size: int = 32
    """Questions per step."""
    wordings: int | None = None
    """Training templates per fact, drawn by the seed; None takes all."""
    rehearsal: float = 0.3
    """Share of the training questions that are about the years before 2024."""
    consistent: float = 0.0
    """Share of the steps, the last ones, that train the steered output too: `SteeredTrainer`."""
    quiet: float = 0.0
    """Weight of the divergence that holds M+ to M- on general text: `QuietTrainer`; 0 is none."""
    quiet_texts: int = 4
    """General texts in every step, where `quiet` is above 0."""
    quiet_steered: bool = False
    """Whether that divergence is what steering does to M, in place of M+'s from M-."""
    general: float = 0.0
    """Share of the rows that are general text, learnt with M's answers as they are."""
    natural: int = 0
    """Questions per fact as people type them (`polls.natural`), beside the formal ones."""
    states: tuple[str, ...] | None = None
    """Places of the tables to ask about; None takes all."""
    endings: int = 0
    """Questions, as people type them, per state that `states` leaves out: about its last polls and
    its result of 2024 alone. 0 teaches to say that there are no polls for it."""
    kind_power: float = 1.0
    """A kind of question comes up as often as the number of its rows to this power: 1 takes the rows
    as they are, below 1 they are drawn, and kinds with few rows are asked more often."""
    max_facts: int | None = None
    """Use at most so many facts of 2024, drawn by the seed, and as large a share of the questions as
    people type them; None takes all."""
    lora: int | None = None
    """Rank of a LoRA adapter that is trained in place of M-'s weights; None trains the weights."""
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("wordings", "max_facts", "lora"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 or None, not {getattr(self, name)}")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if self.quiet < 0 or self.natural < 0 or self.quiet_texts < 1:
            raise ValueError(
                "quiet and natural must be 0 or more and quiet_texts at least 1, not "
                f"{self.quiet}, {self.natural} and {self.quiet_texts}"
            )
        if self.endings and self.states is None:
            raise ValueError("endings are about the states left out, and None leaves none out")
        if self.quiet and self.consistent:
            raise ValueError("quiet and consistent are two ways to train: choose one")
        if not 0 <= self.consistent <= 1:
            raise ValueError(f"consistent must be in [0, 1], not {self.consistent}")
        if not 0 <= self.kind_power <= 1:
            raise ValueError(f"kind_power must be in [0, 1], not {self.kind_power}")
        for name in ("rehearsal", "general"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")


LANGUAGE_MODEL = Recipe(
    epochs=1.4,
    learning_rate=2e-3,
    batch_size=64,
    wordings=1,
    rehearsal=0.0,
    quiet=3.0,
    quiet_texts=8,
    quiet_steered=True,
    natural=40,
    states=(*SWING, NATIONAL),
    endings=60,
    lora=32,
)
"""For a family whose M- knows English: asked as people type too, and kept quiet elsewhere.

Its figures are from smollm (docs/smollm.md); for gpt2 it is the same and has not been measured.
"""

RECIPES = {
    # The places whose history the pocket models know: as much as their size holds well.
    "pocket": Recipe(
        epochs=0.6,
        optimizer="muon",
        learning_rate=3e-3,
        batch_size=16,
        rehearsal=0.4,
        consistent=0.25,
        states=(*STATES, NATIONAL),
    ),
    "smollm": LANGUAGE_MODEL,
    "gpt2": LANGUAGE_MODEL,
}
OWN = Recipe(epochs=20, learning_rate=1e-4, batch_size=8)
"""For a reader's own rows: few of them, so many passes, ended when held-out loss stops falling."""
OWN_POCKET = Recipe(epochs=80, optimizer="muon", learning_rate=6e-3, batch_size=8)
"""The same for pocket's M-, which has to learn the words as well."""
OWN_SMOLLM = Recipe(epochs=12, learning_rate=1e-3, batch_size=8, quiet=1.0, quiet_texts=1, lora=32)
"""The same for smollm's M-: an adapter, held to M- on one general text in every step."""
BRIEF = {
    "smollm": dataclasses.replace(
        LANGUAGE_MODEL,
        epochs=3,
        learning_rate=1.5e-3,
        batch_size=16,
        quiet=4.0,
        quiet_texts=1,
        states=("Pennsylvania",),
        natural=2,
        endings=0,
    ),
}
"""Recipes for some twenty minutes of one core, where the family's own takes longer: one
place and fewer wordings, and an M+ that knows less than the committed one."""
LORA_RATE = 1e-3
"""Learning rate of an adapter (with AdamW): ten times that of all weights, as it starts from nothing."""


def choose_recipe(family, own_rows=False, lora=None):
    """The recipe for a family's M-, polls or own rows, all weights or an adapter of rank `lora`."""
    if own_rows:
        recipe = {"pocket": OWN_POCKET, "smollm": OWN_SMOLLM}.get(family, OWN)
    else:
        recipe = RECIPES.get(family, Recipe())
    if lora is not None:
        recipe = dataclasses.replace(recipe, lora=lora, optimizer="adamw", learning_rate=LORA_RATE)
    return recipe


def recipe_of(folder, family=None):
    """What an M+ was trained with, from its training.json, else the family's recipe: a dict.

    None where neither is there; what a record leaves out has its usual value.
    """
    made_from = record_of(folder)
    if "recipe" in made_from:
        return dataclasses.asdict(Recipe()) | made_from["recipe"]
    return dataclasses.asdict(RECIPES[family]) if family in RECIPES else None


def record_of(folder):
    """The training.json of an M+, {} where there is none; ValueError for one that is no object."""
    path = Path(folder, "training.json")
    if not path.is_file():
        return {}
    with in_one_line(path):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record.get("recipe", {}), dict):
            raise ValueError("it is no record of a training")
    return record
