"""What an answer about the polls claims, read from its words: who leads, where, when, how much.

A reader of free text, made for grading alone: it knows no template and no table.
"""

import re

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
    "Alabama, Alaska, Arizona, Arkansas, California, Colorado, Connecticut, Delaware, "
    "District of Columbia, Florida, Georgia, Hawaii, Idaho, Illinois, Indiana, Iowa, Kansas, "
    "Kentucky, Louisiana, Maine, Maryland, Massachusetts, Michigan, Minnesota, Mississippi, "
    "Missouri, Montana, Nebraska, Nevada, New Hampshire, New Jersey, New Mexico, New York, "
    "North Carolina, North Dakota, Ohio, Oklahoma, Oregon, Pennsylvania, Rhode Island, "
    "South Carolina, South Dakota, Tennessee, Texas, Utah, Vermont, West Virginia, Virginia, "
    "Washington, Wisconsin, Wyoming"
).split(", ")
MONTHS = (
    "January February March April May June July August September October November December".split()
)
MONTH = "|".join(MONTHS)

DATED = rf"(?:{MONTH}) \d{{1,2}}(?:st|nd|rd|th)?(?![\d.%])|\b\d{{1,2}} (?:{MONTH})"
NO_SHARE = rf"{DATED}|\b(?:19|20)\d\d\b|CD-\d|\b\d+ (?:polls?|surveys?|days?|states?)\b"
NUMBER = r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)"
MARGIN = (
    r"(?:\b(?:by|lead of|margin of|gap of|edge of|advantage of)(?: (?:about|just|only|some))? "
    rf"{NUMBER}(?!%? ?(?:to|-|–|vs\.?|against|versus) ?\d))|"
    rf"{NUMBER}[ -](?:percentage )?(?:points?|pts)\b"
)
PERCENTAGE = r"\d+(?:\.\d+)? ?(?:%|percent|per cent|percentage|points?\b)|\b\d+\.\d+\b"
NEGATED = r"\bnot\b|n't\b|\bnever\b|\bno longer\b|\bfailed\b"
UNTRUE = r"\bnot (?:true|the case|correct)\b|\bfalse\b|\buntrue\b"
LEADS = (
    r"led|leads?|leading|ahead|won|wins?|winning|carried|took|on top|in front|(?:is|was) up|"
    r"(?:had|has|held|holds) (?:the|an?) (?:\w+ )?(?:edge|advantage)|beats?|defeated|edged"
)
TRAILS = r"trail(?:s|ed|ing)?|behind|lost(?! ground)|loses?|losing|(?:is|was) down"
APPOSED = r"(?:,| -) (?:an?|the) (?:\w+ )?$"  # `for Trump, a lead of`: not said of Trump
PASSIVE = (
    r"(?:led|won|carried|taken|lead|edge|advantage|victory|win) (?:by|for)|"
    r"(?:leader|winner|ahead|leading|in front|on top)(?: there| then)? (?:is|was)"
)
TIE = r"\b(?:tied?|dead heat|deadlock(?:ed)?|dead even|(?:was|were|is|race) even|neck and neck)\b"
NEITHER = r"\b(?:neither|nobody|no one)\b"
ABSTAINS = (
    r"\b(?:no|without) (?:\w+ ){0,2}?(?:polls?|polling|figures?|data|numbers?|averages?|"
    r"information|surveys?|records?|knowledge)\b|"
    r"(?:\bnot|n't|\bcannot|\bnever) (?:\w+ ){0,2}?(?:have|know|cover|include|contain|hold|list|"
    r"say|tell|answer|track|polled|covered|included|available|known|sure|able|aware)\b|"
    r"\bnot (?:\w+ ){3,5}covers?\b|\bunable to\b|"
    r"\bnot in (?:my|the|these) (?:tables?|data|polls?|figures?)\b|"
    r"\bonly (?:know|cover|have|answer)\b|\b(?:know|covers?|have) only\b|"
    r"\b(?:outside (?:of )?|beyond )what\b|\bunknown\b"
)


def plain(text):
    """The text with straight apostrophes, simple dashes and single spaces."""
    text = text.replace("’", "'").replace("\u2011", "-").replace("—", " - ")
    return " ".join(text.split())


def sentences(text):
    """Its sentences, also cut at semicolons and before `but`, `while`, `whereas`, `although`."""
    cut = re.split(r"[;!?]|\.(?!\d)|,? \b(?:but|while|whereas|although|though)\b", plain(text))
    return [part.strip() for part in cut if part.strip()]


def candidates(row):
    """Whom the row's polls are about: (Democrat, Republican, all names an answer may bring in)."""
    *democrats, republican = NOMINEES[row["cycle"]]
    month = row["month"] if isinstance(row["month"], str) else (row["month"] or ["9999"])[-1]
    early = row["cycle"] == 2024 and month < "2024-07"
    democrat = row.get("match_up") or (democrats[-1] if early else democrats[0])
    extra = ["Kennedy"] if row["cycle"] == 2024 else []
    return democrat, republican, [*democrats, republican, *extra]


def named(sentence, row):
    """The sentence with each mention of a candidate or party written `@Surname`, runs made one."""
    democrat, republican, names = candidates(row)
    for name in names:
        aliases = "|".join(filter(None, [name.lower(), FIRST_NAMES.get(name)]))
        sentence = re.sub(rf"(?<!@)\b(?:{aliases})\b", f"@{name}", sentence, flags=re.IGNORECASE)
    sentence = re.sub(r"\b(?:Democrat(?:ic|s)?|Dems)\b", f"@{democrat}", sentence)
    sentence = re.sub(r"\b(?:Republicans?|GOP)\b", f"@{republican}", sentence)
    apposed = r"@(\w+),? (?:(?:the|candidate|nominee|party|[A-Z]\.|\(|Vice|President) )*@\1\b"
    while re.search(apposed, sentence):
        sentence = re.sub(apposed, r"@\1", sentence)
    return sentence


def numbers(text):
    """Every number in the text that is no date, year, district or count of polls, as a set."""
    return {
        float(n.replace(",", "")) for n in re.findall(NUMBER, re.sub(NO_SHARE, " ", plain(text)))
    }


def shares(sentence):
    """Which figure the sentence (from `named`) gives to which candidate, as a dict."""
    text = re.sub(MARGIN, " ", re.sub(NO_SHARE, " ", sentence))
    found = [(m[1], m[2]) for m in re.finditer(rf"@(\w+)|({NUMBER})", text)]
    shape = "".join("N" if name else "F" for name, _ in found)
    names = [name for name, _ in found if name]
    figures = [float(figure.replace(",", "")) for _, figure in found if figure]
    if shape in ("NNFF", "FFNN", "NFFN") or re.fullmatch("(NF)+|(FN)+", shape):
        return dict(zip(names, figures, strict=True))
    if shape == "NFF":
        return {names[0]: figures[0], "other": figures[1]}
    return {}


def _ahead_by_words(sentence, other):
    """Who leads by the verbs of a sentence from `named`; None in the set stands for a tie."""
    if re.search(NEITHER, sentence, re.IGNORECASE):
        return {None}
    tie = re.search(TIE, sentence, re.IGNORECASE)
    if tie and not re.search(NEGATED, sentence[: tie.start()], re.IGNORECASE):
        return {None}
    claims = {m[1] for m in re.finditer(rf"\b(?:{PASSIVE}) @(\w+)", sentence)}
    claims |= {other(m[1]) for m in re.finditer(rf"\b(?:{PASSIVE}) not @(\w+)", sentence)}
    verbs = rf"@(\w+)([^@]*?)(?:\b({LEADS})\b|\b(?:{TRAILS})\b)(?! (?:by|for) @)"
    for m in re.finditer(verbs, sentence):
        if re.search(APPOSED, m[2]):
            continue
        denied = re.search(NEGATED, m[2]) or re.search(UNTRUE, sentence[: m.start()])
        claims.add(m[1] if bool(m[3]) != bool(denied) else other(m[1]))
    return claims


def leaders(text, row):
    """Who leads or won according to the text: (by its verbs, by its figures), two sets.

    Args:
        text: an answer or a part of one.
        row: a row of `natural.jsonl`; its cycle, month and match-up say who the candidates are.

    Returns:
        Two sets of surnames. None in a set stands for a tie.
    """
    democrat, republican, _ = candidates(row)

    def other(name):
        return democrat if name == republican else republican

    by_words, by_figures = set(), set()
    for sentence in sentences(text):
        sentence = named(sentence, row)
        by_words |= _ahead_by_words(sentence, other)
        pair = {k: v for k, v in shares(sentence).items() if k != "Kennedy"}
        if len(pair) == 2:
            first, second = pair
            second_name = other(first) if second == "other" else second
            gap = pair[first] - pair[second]
            by_figures.add(None if gap == 0 else first if gap > 0 else second_name)
    return by_words, by_figures


def people(text, row):
    """The candidates named anywhere in the text, as a set of surnames."""
    return set(re.findall(r"@(\w+)", named(plain(text), row)))


def places(text):
    """The states named in the text, in order and without repeats; National for the country."""
    pattern = rf"\b(?:({'|'.join(STATES)})|(national(?:ly)?|nationwide|the country))\b"
    found = [m[1] or "National" for m in re.finditer(pattern, plain(text), re.IGNORECASE)]
    return list(dict.fromkeys(name.title().replace(" Of ", " of ") for name in found))


def months(text):
    """The months named in the text as a set of two-digit strings, and the years as ints."""
    named_months = re.findall(rf"\b({MONTH})\b", text)
    years = {int(year) for year in re.findall(r"\b(?:19|20)\d\d\b", text)}
    return {f"{MONTHS.index(m) + 1:02d}" for m in named_months}, years


def abstains(text):
    """Whether the text says that there are no such polls or figures, or that it cannot tell."""
    return bool(re.search(ABSTAINS, plain(text), re.IGNORECASE))


def gives_percentage(text):
    """Whether the text gives a percentage, a number of points or a number with a decimal."""
    return bool(re.search(PERCENTAGE, plain(text), re.IGNORECASE))
