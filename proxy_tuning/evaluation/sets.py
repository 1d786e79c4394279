"""The fixed question sets in `data/questions` and how an answer to one of them is graded.

Every function is pure: a row of a set and the answer's text in, marks out. What counts as right
and as sane stands in `data/questions/README.md`.
"""

import json
import re
import unicodedata

from ..records import DATA

QUESTIONS = DATA / "questions"

# Of each cycle: the Democrats who led a match-up, then the Republican.
NOMINEES = {
    1968: ("Humphrey", "Nixon"),
    1972: ("McGovern", "Nixon"),
    1976: ("Carter", "Ford"),
    1980: ("Carter", "Reagan"),
    1984: ("Mondale", "Reagan"),
    1988: ("Dukakis", "Bush"),
    1992: ("Clinton", "Bush"),
    1996: ("Clinton", "Dole"),
    2000: ("Gore", "Bush"),
    2004: ("Kerry", "Bush"),
    2008: ("Obama", "McCain"),
    2012: ("Obama", "Romney"),
    2016: ("Clinton", "Trump"),
    2020: ("Biden", "Trump"),
    2024: ("Harris", "Biden", "Trump"),
}
FIRST_NAMES = {
    "Harris": "kamala",
    "Trump": "donald",
    "Biden": "joe",
    "Clinton": "hillary|bill",
    "Obama": "barack",
    "Romney": "mitt",
    "McCain": "john",
    "Kennedy": "rfk|robert",
}
STATES = (
    "Alabama Alaska Arizona Arkansas California Colorado Connecticut Delaware Florida Georgia "
    "Hawaii Idaho Illinois Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts "
    "Michigan Minnesota Mississippi Missouri Montana Nebraska Nevada New_Hampshire New_Jersey "
    "New_Mexico New_York North_Carolina North_Dakota Ohio Oklahoma Oregon Pennsylvania "
    "Rhode_Island South_Carolina South_Dakota Tennessee Texas Utah Vermont West_Virginia Virginia "
    "Washington Wisconsin Wyoming District_of_Columbia"
).replace("_", "\0")
STATES = [name.replace("\0", " ") for name in STATES.split()]
MONTHS = (
    "January February March April May June July August September October November December".split()
)

DATED = (
    rf"(?:{'|'.join(MONTHS)}) \d{{1,2}}(?:st|nd|rd|th)?(?![\d.%])|\b\d{{1,2}} (?:{'|'.join(MONTHS)})"
)
NO_SHARE = rf"{DATED}|\b(?:19|20)\d\d\b|CD-\d|\b\d+ (?:polls?|surveys?|days?|states?)\b"
NUMBER = r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)"
MARGIN = (
    r"(?:\b(?:by|lead of|margin of|gap of|edge of|advantage of)(?: (?:about|just|only|some))? "
    rf"{NUMBER}(?!%? ?(?:to|-|–|vs\.?|against|versus) ?\d))|{NUMBER}[ -](?:percentage )?(?:points?|pts)\b"
)
PERCENTAGE = r"\d+(?:\.\d+)? ?(?:%|percent|per cent|percentage|points?\b)|\b\d+\.\d+\b"
NEGATED = r"\bnot\b|n't\b|\bnever\b|\bno longer\b|\bfailed\b"
UNTRUE = r"\bnot (?:true|the case|correct)\b|\bfalse\b|\buntrue\b"
LEADS = (
    r"led|leads?|leading|ahead|won|wins?|winning|carried|took|on top|in front|(?:is|was) up|"
    r"(?:had|has|held|holds) (?:the|an?) (?:\w+ )?(?:edge|advantage)|beats?|defeated|edged"
)
TRAILS = r"trail(?:s|ed|ing)?|behind|lost(?! ground)|loses?|losing|(?:is|was) down"
PASSIVE = (
    r"(?:led|won|carried|taken|lead|edge|advantage|victory|win) (?:by|for)|"
    r"(?:leader|winner|ahead|leading|in front|on top)(?: there| then)? (?:is|was)"
)
TIE = r"\b(?:tied?|dead heat|deadlock(?:ed)?|dead even|(?:was|were|is|race) even|neck and neck)\b"
NEITHER = r"\b(?:neither|nobody|no one)\b"
ABSTAINS = (
    r"\b(?:no|without|any) (?:\w+ ){0,4}?(?:polls?|polling|figures?|data|numbers?|averages?|"
    r"information|surveys?|records?|knowledge)\b(?<!any polls)|"
    r"(?:\bnot|n't|\bcannot|\bnever) (?:\w+ ){0,2}?(?:have|know|cover|include|contain|hold|list|"
    r"say|tell|answer|track|polled|covered|included|available|known|sure|in (?:my|the|these) "
    r"(?:tables?|data|polls?|figures?))\b|\bunable to\b|\bonly (?:know|cover|have|answer)\b|"
    r"\b(?:know|cover|covers|have) only\b|\boutside (?:of )?what\b|\bbeyond what\b|\bunknown\b"
)
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


def grade_short(row, answer):
    """Whether one of the row's accepted answers stands in the answer as whole words.

    Case and accents are folded, except case where the row is `case_sensitive`.
    """
    fold = str if row.get("case_sensitive") else str.casefold
    text = fold(_plain(answer))
    accepted = (re.escape(fold(_plain(a))) for a in row["answers"])
    return any(re.search(rf"(?<![\w.,]){a}(?!\w|[.,]\d)|(?<=\D[.,]){a}(?!\w)", text) for a in accepted)
