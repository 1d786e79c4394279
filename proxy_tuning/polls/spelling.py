"""Slips of the finger: which known name a misspelt word is nearly, in time that no list of names adds to."""

import difflib
from collections.abc import Iterable

PLAIN = set(
    """bide blush brush career cater caters doll fold food fork form fort four joke jokes mint tramp
    trumpet harrison clinic marsh georgian hawaiian indian mainland marie marine mountain network
    teams texts michelin bottle bread butter camping captain channels claim clothing cloud comet
    conquest content context contrast court curry director electric fiction flavor friction function
    guest guests horse landing layer lender machine martin movie palace peace pools portion prejudice
    prison production protection rally scope screw seats secret sharks shirt shoes shopping skill
    spending sport sports stage stages stars status store stores string studying swimming tasks taxes
    train trained training trial trick truck waste water weather whale winter witch write yeast
    """.split()
)
"""Words that are near a name or a word of questions, and never a slip of it."""


def shortened(word: str, letters: int) -> set[str]:
    """The word and what is left of it without one, or up to two, of its letters."""
    found, last = {word}, {word}
    for _ in range(letters):
        last = {each[:i] + each[i + 1 :] for each in last for i in range(len(each))}
        found |= last
    return found


class Speller:
    """Finds the name that a word is one slip away from; two for words of eight letters or more.

    Names and word are compared with letters left out, so a look-up takes as long for one name as
    for a thousand. The first letter has to be right.
    """

    def __init__(self, names: Iterable[str]):
        self.near: dict[str, list[str]] = {}
        for name in names:
            for short in shortened(name, 2 if len(name) > 7 else 1):
                self.near.setdefault(short, []).append(name)

    def like(self, word: str) -> str | None:
        """The name most like a lower-case word of four letters or more, or None."""
        if len(word) < 4 or word in PLAIN:
            return None
        letters = 2 if len(word) > 7 else 1
        found = {
            name
            for short in shortened(word, letters)
            for name in self.near.get(short, ())
            if name[0] == word[0] and abs(len(name) - len(word)) <= letters
        }
        best = difflib.get_close_matches(word, sorted(found), 1, 0.75)
        return best[0] if best else None
