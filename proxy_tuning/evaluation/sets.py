"""The fixed question sets in `data/questions` and how an answer to one of them is graded.

Every function is pure: a row of a set and the answer's text in, marks out. What counts as right
and as sane stands in `data/questions/README.md`.
"""

import json
import re
import unicodedata

from proxy_tuning.evaluation import claims
from proxy_tuning.records import DATA

QUESTIONS = DATA / "questions"

RISES = (
    r"grew|grow(?:n|ing)|rose|rise|up|increas\w+|gain(?:ed|s)?|widen\w*|bigger|larger|higher|"
    r"climbed|improved"
)
FALLS = (
    r"fell|fall(?:en)?|drop\w*|down|decreas\w+|declin\w+|shr[aiu]nk\w*|narrow\w*|lost|smaller|"
    r"lower|slipped"
)
LESS = r"\b(?:less|lower|smaller|narrower|behind|weaker|worse)\b"
MORE = r"\b(?:more|higher|larger|bigger|wider|greater)\b"

_COUNT = r"\d+|\w+teen|\w+ty|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
GENERAL_KINDS = {
    "capital": r"\bcapitals?\b(?!i)",
    "currency": r"\bcurrenc(?:y|ies)\b",
    "continent": r"\bcontinents?\b",
    "country code": r"two-letter|\bcountry codes?\b|\biso code",
    "element symbol": r"\bsymbols?\b|chemical element|periodic table",
    "element name": r"\belements?\b|chemical symbol",
    "atomic number": r"\batomic\b|\bprotons?\b",
    "opposite": r"\bopposites?\b|\bantonyms?\b",
    "month order": r"\bmonth\b.*\b(?:after|before|follows?|precedes?|comes?|year)\b|"
    r"\b(?:after|before)\b.*\bmonth\b",
    "weekday order": r"\bdays? of the week\b|\bday (?:comes|follows|precedes|is tomorrow|was "
    r"yesterday)\b|\b\w+day comes\b",
    "letter order": r"\balphabet|\bletter (?:comes|follows)",
    "sum": rf"\b(?:{_COUNT}) ?(?:\+|plus) ?(?:{_COUNT})\b|\badd (?:{_COUNT})\b|\bsum of\b",
    "difference": rf"\b(?:{_COUNT}) (?:-|−|minus) (?:{_COUNT})\b|\bsubtract|\btake \d+ away",
    "product": rf"\b(?:{_COUNT}) ?(?:[x*×]|times) ?(?:{_COUNT})\b|\bmultipl|\bproduct of\b",
    "quotient": rf"\b(?:{_COUNT}) ?[/÷] ?(?:{_COUNT})\b|\bdivided?\b|\bgo into\b",
    "square": r"\bsquared?\b|\bto the power\b",
    "plural": r"\bplurals?\b",
    "past tense": r"\bpast tense\b|\bsimple past\b",
    "colour mixing": r"\bmix(?:es|ed|ing)?\b",
    "animal young": r"\bbaby\b|\bthe young of\b|\bname for a young\b",
    "animal sound": r"\b(?:sound|noise)\b",
    "roman numeral": r"\broman numerals?\b",
    "number word": r"\bin (?:digits|figures)\b|\bnumber word\b",
    "unit": r"\bhow many \w+ (?:are|make)\b|\bhas how many\b",
    "shape": r"\bsides\b",
    "translation": r"\btranslate|\bin (?:french|spanish|german)\b|\b(?:french|spanish|german) word",
}


def load(name):
    """The rows of `natural`, `near_misses` or `general`, as dicts.

    Raises:
        FileNotFoundError: there is no such set.
    """
    lines = (QUESTIONS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def is_like_general(text):
    """Whether a text touches a kind of `general.jsonl`; too often rather than too rarely."""
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in GENERAL_KINDS.values())


def _folded(text, case_sensitive=False):
    """Without accents, and without case unless it matters."""
    letters = unicodedata.normalize("NFKD", claims.plain(text))
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    return letters if case_sensitive else letters.casefold()


def grade_short(row, answer):
    """Whether one of the row's accepted answers stands in the answer as whole words.

    Accents are folded, and case too except where the row is `case_sensitive`. A number stands
    alone: 12 is not in 12.5, 3.12 or 1,200.
    """
    case = row.get("case_sensitive", False)
    text = _folded(answer, case)
    accepted = (re.escape(_folded(a, case)) for a in row["answers"])
    return any(re.search(rf"(?<!\w)(?<!\d[.,]){a}(?!\w|[.,]\d)", text) for a in accepted)


def is_sane(answer, row=None):
    """Whether an answer is a sentence or a short phrase that does not repeat or contradict itself.

    Args:
        answer: the text.
        row: of `natural.jsonl`, to hold the words against the figures; None for any other text.
    """
    text = claims.plain(answer)
    words = text.casefold().split()
    if not words or not re.search(r"[A-Za-z]{2}|\d", text):
        return False
    if len(words) > 8 and not re.search(r"[.!?%)\"']$", text):
        return False
    fours = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    told = [s.casefold() for s in re.split(r"(?<=[.!?]) ", text)]
    if any(fours.count(four) > 2 for four in set(fours)) or len(set(told)) < len(told):
        return False
    if re.search(r"\b(\w+)(?: \1\b){2}", text.casefold()) or re.search(r"\d\.\d+\.\d|\d%\d", text):
        return False
    if any(float(n) > 100 for n in re.findall(r"(\d+(?:\.\d+)?) ?(?:%|percent)", text)):
        return False
    polls_and_votes = row is not None and row.get("check") == "overstated"  # two leaders, maybe
    return row is None or polls_and_votes or not _contradicts_itself(text, row)


def _contradicts_itself(text, row):
    """Whether words and figures name different leaders of one place and month, or exceed 100%."""
    if row["cycle"] not in claims.NOMINEES:
        return False
    for sentence in claims.sentences(text):
        if sum(claims.shares(claims.named(sentence, row)).values()) > 100.5 and "vote" not in text:
            return True
    by_words, by_figures = claims.leaders(text, row)
    one_subject = len(claims.places(text)) < 2 and len(claims.months(text)[0]) < 2
    return one_subject and len(by_words | by_figures) > 1


def grade_natural(row, answer):
    """Marks for an answer to a row of `natural.jsonl`.

    Returns:
        A dict of three booleans. `right`: the answer is the tables' (for a row that is out of
        scope, that it says so and gives no percentage). `sane`: it is no nonsense. `abstained`: it
        says that it has no such polls or figures.
    """
    abstained = claims.abstains(answer)
    if row["kind"] == "out_of_scope":
        right = abstained and not claims.gives_percentage(answer)
    else:
        right = _is_right(row, answer, abstained)
    return {"right": right, "sane": is_sane(answer, row), "abstained": abstained}


def _is_right(row, answer, abstained):
    if row["wants"] in ("compare", "closest"):
        return _right_leaders(row, answer) if "leaders" in row else _right_pick(row, answer)
    if not _right_place_and_time(row, answer):
        return False
    if row["wants"] == "trend":
        return _right_trend(row, answer)
    wanted = [row["figures"], *row.get("or", [])]
    if row["need"] == "all" and not any(set(w) <= claims.numbers(answer) for w in wanted):
        return False
    return _right_claims(row, answer, abstained)


def _right_claims(row, answer, abstained):
    """Yes or no, the leader, and whose the figure is."""
    said = re.match(r"\W*(yes|yeah|yep|no|nope|not)\b", answer, re.IGNORECASE)
    said = said or re.search(r"\bso (yes|no)(?=\W*$|[.,;!])", answer, re.IGNORECASE)
    by_words, by_figures = claims.leaders(answer, row)
    claimed = by_words | by_figures
    if not claimed and not abstained and not said:
        named = claims.people(answer, row)
        claimed = named if len(named) == 1 and row["part"] == "leader" else set()
    if row.get("answer") in ("yes", "no") and said:
        if (said[1].lower()[0] == "y") != (row["answer"] == "yes"):
            return False
        if row.get("check") == "overstated":
            return True
    elif row["wants"] == "yes_no" and row["check"] not in ("leads", "won", "tied"):
        return False
    elif row["part"] == "leader":
        return claimed == {row["leader"]}
    if row["part"] == "share" and row["wants"] != "yes_no":
        figures = [row["figures"], *row.get("or", [])]
        given = [claims.shares(claims.named(s, row)) for s in claims.sentences(answer)]
        owners = {name for pair in given for name, v in pair.items() if [v] in figures}
        if owners and row["candidate"] not in owners:
            return False
    return claimed <= {row["leader"]}


def _right_place_and_time(row, answer):
    """Whether the place, months and years that the answer names, if any, are the row's."""
    found = [place for place in claims.places(answer) if place != "National"]
    if found and row["place"].split(" CD-")[0] not in found:
        return False
    months, years = claims.months(answer)
    asked = row["month"] if isinstance(row["month"], list) else [row["month"]]
    if asked == [None]:
        asked = [f"{row['cycle']}-10", f"{row['cycle']}-11"]
    known = {int(month[:4]) for month in asked} | {row["cycle"]}
    return (not months or bool(months & {m[5:] for m in asked})) and (
        not years or bool(years & known)
    )


def _right_pick(row, answer):
    """Whether the place picked is the row's: the first one named, unless said to have less.

    What an answer concludes after "so" is its pick, whatever stands before.
    """
    conclusion = re.split(r"\bso\b", answer, flags=re.IGNORECASE)[-1]
    if set(claims.places(conclusion)) & set(row["place"]):
        answer = conclusion
    order = [place for place in claims.places(answer) if place in row["place"]]
    if not order:
        return False
    first = next(s for s in claims.sentences(answer) if order[0] in claims.places(s))
    against = LESS if row["most"] else MORE
    beaten = re.search(against, first, re.IGNORECASE) and len(order) == len(row["place"]) == 2
    return (order[1] if beaten else order[0]) == row["answer"]


def _right_leaders(row, answer):
    """Whether each place's leader is told in the part that names the place, or one for all."""
    parts = re.split(r",? \b(?:and|but|while|whereas)\b|[,;]|\.(?!\d)", claims.plain(answer))
    told = {}
    for part in parts:
        by_words, by_figures = claims.leaders(part, row)
        for place in claims.places(part):
            told.setdefault(place, set()).update(by_words | by_figures or claims.people(part, row))
    return all(told.get(place) == {leader} for place, leader in row["leaders"].items())


def _right_trend(row, answer):
    """Whether the direction is the row's, or else both figures stand there in order."""
    moves = set()
    for m in re.finditer(rf"\b(?:({RISES})|({FALLS}))\b", answer, re.IGNORECASE):
        denied = re.search(claims.NEGATED, answer[max(0, m.start() - 16) : m.start()])
        moves.add("up" if bool(m[1]) != bool(denied) else "down")
    first, last = (
        rf"(?<![\d.]){re.escape(f'{f:g}')}{'' if f % 1 else '(?:[.]0)?'}(?![.]?\d)"
        for f in row["figures"]
    )
    in_order = re.search(rf"{first}.*{last}", answer)
    return moves == {row["answer"]} or (not moves and bool(in_order))
