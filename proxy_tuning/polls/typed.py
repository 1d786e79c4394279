"""How people type: places, candidates and times in short forms, lower case, slips of the finger.

Every choice comes from a `random.Random` that the caller has seeded.
"""

import calendar
import re

from proxy_tuning.polls.elections import STATES, THIRD, place_name
from proxy_tuning.polls.places import SHORT, WORDS_TOO

CODES = {state: code for code, state in STATES.items()}
OLDER = {STATES[code]: short for short, code in SHORT.items() if len(short) > 2}
NATIONALLY = (
    "nationally",
    "nationwide",
    "in the US",
    "in the country",
    "in the United States",
    "across the country",
    "in the USA",
)
PAIRS = {
    "Harris": [
        ("Harris", "Trump"),
        ("Harris", "Trump"),
        ("Kamala", "Trump"),
        ("Kamala", "Donald"),
        ("Kamala Harris", "Donald Trump"),
        ("the Democrat", "the Republican"),
    ],
    "Biden": [
        ("Biden", "Trump"),
        ("Biden", "Trump"),
        ("Joe", "Donald"),
        ("Joe Biden", "Donald Trump"),
    ],
}
"""Democrat of 2024 -> how both nominees are called in one breath."""
CALLED = {
    "Harris": ["Harris", "Harris", "Harris", "Kamala", "Kamala Harris"],
    "Biden": ["Biden", "Biden", "Biden", "Joe Biden", "Joe"],
    "Trump": ["Trump", "Trump", "Trump", "Donald Trump", "Donald"],
    THIRD: ["Kennedy", "Kennedy", "RFK", "RFK Jr", "Robert Kennedy"],
}
PARTY = {
    True: ["the Democrat", "the Democratic candidate", "the dem"],
    False: ["the Republican", "the Republican candidate", "the GOP"],
}
PARTIES = {
    True: ["Democrats", "the Democrats", "dems", "the Dems"],
    False: ["Republicans", "the Republicans", "Republicans"],
}
"""Whether the Democrat is meant -> names of the party in the plural."""
NOW = ("right now", "now", "currently", "at the moment", "today", "as of now", "as of today")
LAST = (
    "right before the election",
    "just before the election",
    "before election day",
    "on election eve",
    "at the end",
    "at the end of the campaign",
    "in the last polls",
    "in the final polls",
)
VOTE = (
    "",
    "",
    "",
    "in 2024",
    "in 2024",
    "in the 2024 election",
    "in the election",
    "on election day",
)
VOTED = ("on election day", "in the actual vote", "in the election", "in the results")
ASKS = {
    "who",
    "whos",
    "which",
    "what",
    "whats",
    "how",
    "hows",
    "was",
    "is",
    "were",
    "are",
    "did",
    "does",
    "do",
    "where",
    "wheres",
    "can",
    "could",
    "will",
    "has",
    "by",
    "so",
    "and",
    "am",
    "when",
    "any",
}


def typed_place(state, rng, form=None):
    """A state in full, by its two letters or an older short form; `form` decides where given."""
    form = form or rng.choice(("full", "full", "full", "code", "code", "older"))
    if form == "code":
        return CODES[state]
    return OLDER.get(state, place_name(state)) if form == "older" else place_name(state)


def typed_month(month, rng):
    """'2024-10' -> 'October', 'Oct' or 'October 2024'; a year is often left out."""
    number = int(month[5:])
    full = calendar.month_name[number]
    short = "Sept" if number == 9 else full[:3]
    return rng.choice((full, full, full, short, f"{full} 2024", f"{full} 2024", f"{short} 2024"))


def typed_when(month, rng, democrat):
    """'in October', 'on Oct 15': a day lies in the days of the match-up that `democrat` is in."""
    number = int(month[5:])
    if rng.random() < 0.2:
        first, last = {"2024-07": (1, 21) if democrat == "Biden" else (22, 31)}.get(month, (1, 28))
        day = rng.randint(first, 4 if number == 11 else last)
        name = calendar.month_name[number][: rng.choice((3, 20, 20))]
        return f"on {name} {day}{rng.choice(('', '', ', 2024'))}"
    if month == "2024-07" and rng.random() < 0.5:
        biden = ("in early July", "in July before Biden dropped out", "in July with Biden running")
        harris = ("in late July", "in July after Biden dropped out")
        return rng.choice(biden if democrat == "Biden" else harris)
    return f"{rng.choice(('in', 'in', 'in', 'in', 'during', 'back in'))} {typed_month(month, rng)}"


def typed_people(template, fact, rng):
    """How a question calls the candidates: its slots dem, rep, who, other, front, trail, party.

    Args: fact, a dictionary with dem, rep, who and leader, surnames or None.
    """
    dem, rep = rng.choice(PAIRS[fact["dem"]])
    called = {fact["dem"]: dem, fact["rep"]: rep}
    who = fact["who"] or rng.choice((fact["dem"], fact["rep"]))
    other = fact["rep"] if who == fact["dem"] else fact["dem"]
    front = fact["leader"] or who
    if rng.random() < 0.15:
        front = fact["rep"] if front == fact["dem"] else fact["dem"]
    trail = fact["rep"] if front == fact["dem"] else fact["dem"]
    if "{other}" not in template:
        names = CALLED[who]
        short = re.search(r"\} \{who\}|\{who\} \{", template)
        by_party = who in called and not short and rng.random() < 0.25
        called[who] = rng.choice(PARTY[who != "Trump"] if by_party else names)
    return {
        "dem": dem,
        "rep": rep,
        "who": called[who],
        "other": called[other],
        "front": called[front],
        "trail": called[trail],
        "party": rng.choice(PARTIES[who != "Trump"]),
    }


def typed_times(template, fact, rng):
    """How a question calls the time: its slots when, month, now, vote, start and end.

    Args: fact, a dictionary with dem, month (YYYY-MM, or None for the last polls) and, where votes
    are asked about as a time, voted, and for a trend span, its two months.
    """
    polls = [time for time in LAST if "poll" not in template or "polls" not in time]
    votes = [vote for vote in VOTE if "election" not in template or "election" not in vote]
    month, when = None, rng.choice(VOTED if fact.get("voted") else polls)
    if fact["month"]:
        month = typed_month(fact["month"], rng)
        when = typed_when(fact["month"], rng, fact["dem"])
    span = [typed_month(end, rng) for end in fact.get("span", ())]
    return {
        "when": when,
        "month": month,
        "now": rng.choice(NOW),
        "vote": rng.choice(votes),
        **dict(zip(("start", "end"), span, strict=False)),
    }


def tells_match_up(question, month, democrat):
    """Whether a question about July 2024 says by itself that it means Biden's match-up."""
    said = r"\b(?:Biden|Joe|early July)\b|\bJul(?:y)? (?:1?\d|2[01])\b(?!\d)"
    said_so = re.search(said, question, re.IGNORECASE)
    return month != "2024-07" or democrat != "Biden" or bool(said_so)


def slip(text, rng):
    """One slip of the finger inside a word of five letters or more: swapped, dropped or doubled."""
    words = [m for m in re.finditer(r"[A-Za-z]{5,}", text)]
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 2)
    a, b = text[at], text[at + 1]
    return text[:at] + rng.choice((b + a, b, a + a + b)) + text[at + 2 :]


def small(text):
    """Lower case; two letters of a state stay capital where they are a word too (OR, IN, ME)."""
    return re.sub(
        r"\S+",
        lambda m: (
            m[0] if m[0].strip(",.?:").lower() in WORDS_TOO and m[0].isupper() else m[0].lower()
        ),
        text,
    )


def as_typed(text, rng):
    """The question as a person leaves it: with or without capitals, apostrophes, mark and slip.

    Args: text, a filled template without a mark at its end.
    """
    text = re.sub(r" +([,:?]|$)", r"\1", " ".join(text.split()))
    text = text[0].upper() + text[1:]
    asks = re.match(r"\w+", text.replace("'", ""))[0].lower() in ASKS
    mark = ("?" if asks else rng.choice(("", "", "?"))) if rng.random() < 0.6 else ""
    if rng.random() < 0.45:
        text = small(text)
    if rng.random() < 0.15:
        text = slip(text, rng)
    if rng.random() < 0.2:
        text = text.replace("'", "")
    return text + mark
