"""What was understood of a question."""

from dataclasses import dataclass

from proxy_tuning.polls.elections import month_name, place_name


@dataclass(frozen=True)
class Limit:
    """What a question asks for yes or no: whether a share, or a lead, is above or below a number."""

    number: float
    """Percent, or points of a lead."""
    above: bool
    who: str | None = None
    """Whose: a surname, 'Democrat' or 'Republican'; None for a lead, whoever has it."""
    of_lead: bool = False


@dataclass(frozen=True)
class Asked:
    """What was understood of a question; None or empty where it says nothing."""

    kind: str | None = None
    """'month', 'months' (all of a year), 'trend', 'year', 'final', 'result', 'miss', or None: it
    is not looked up."""
    state: str | None = None
    """As in the tables; of several places the first."""
    cycle: int | None = None
    """Year of the election."""
    month: str | None = None
    """YYYY-MM; for a trend its end."""
    start: str | None = None
    """YYYY-MM, where a trend starts."""
    names: tuple[str, ...] = ()
    """Candidates, by surname."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out, in sentences."""
    others: tuple[str, ...] = ()
    """Further places."""
    ranked: bool = False
    """Whether the closest of all states is wanted."""
    day: int | None = None
    """Of the month, where one is named."""
    democrat: str | None = None
    """Whose match-up is meant where a month had two."""
    year: int | None = None
    """For 'months': which."""
    wanted: str = "leader"
    """'leader', 'share', 'margin' or 'standing'."""
    by_electors: bool = False
    """Whether electoral votes, which no table has, made another one president than the votes did."""
    claim: tuple[str, bool] | None = None
    """Of a question for yes or no: a candidate, and whether it asks if they lead or won."""
    limit: Limit | None = None
    """Of a question for yes or no on a share or a lead; a tie is a lead below 0.05."""
    outside: str = ""
    """What lies outside the tables: 'Senate races'."""
    years: tuple[int, ...] = ()
    """Further elections that are named and not looked up."""
    unplaced: tuple[str, ...] = ()
    """Words without a meaning that is known here; an answer then gets no tick."""

    @property
    def places(self) -> tuple[str, ...]:
        """All places, as in the tables."""
        return (self.state, *self.others) if self.state else self.others

    @property
    def when(self) -> str:
        """The time and what is looked up there, in words."""
        months = [month_name(month) for month in (self.start, self.month) if month]
        return {
            "year": f"last polls and result of {self.cycle}",
            "final": f"last polls before the election of {self.cycle}",
            "result": f"result of the election of {self.cycle}",
            "miss": f"last polls and result of {self.cycle}",
            "months": f"polls of each month of {self.year}",
            "trend": f"polls from {' to '.join(months)}",
            "month": f"polls of {' to '.join(months)}",
        }.get(self.kind or "", "")

    def __str__(self):
        """What was understood, in one line."""
        if self.kind is None:
            notes = self.notes or ("I found neither a state nor a time in the question.",)
            return " ".join(["I could not look this up.", *notes])
        about = f", about {' and '.join(self.names)}" if self.names else ""
        where = "the closest states" if self.ranked else listed(map(place_name, self.places))
        return " ".join([f"Read as: {self.when} in {where}{about}.", *self.notes])


def listed(words):
    """'a', 'a and b', 'a, b and c'."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
