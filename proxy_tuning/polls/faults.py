"""What is wrong with an answer whatever its figures: faults, each in a sentence, and refusals."""

import re

from proxy_tuning.polls.answers import BETWEEN, NAME, NO_POLLS, NUMBER, read_answer
from proxy_tuning.polls.asked import listed
from proxy_tuning.polls.elections import THIRD, place_name
from proxy_tuning.polls.natural_forms import NATURAL, read_natural, says_yes
from proxy_tuning.polls.people import FIRST_NAMES, people_of
from proxy_tuning.polls.places import place_spans, without_districts
from proxy_tuning.polls.words import OTHER_PEOPLE, outside_of

REFUSALS = {kind for kind, section in NATURAL.items() if "answer" in section}
REFUSES = re.compile(
    r"^(?:Sorry, |Unfortunately, )?I (?:have no|do not have|don't have|make no|do not know|"
    r"don't know|cannot|can't)\b"
)
NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|unlike|instead of|rather than|would|could|might|may have|almost|if|"
    r"fail\w*|no longer|nobody|false|myth|(?<!no )doubt|perhaps|maybe|hardly|contrary|den(?:y|ied)|"
    r"lost the|no poll)\b|n't\b",
    re.IGNORECASE,
)
RUNAWAY = re.compile(r"\d{5,}|\d+\.\d{3,}|\d+(?:\.\d+){2,}|\b(\d+)(?:[ ,]+\1){3,}")
LAST_POLLS = re.compile(r"\b(?:last|final) polls\b|\bbefore the (?:\d{4} )?election\b")
TITLES = re.compile(rf"(?i:\b(?:(?:former )?(?:vice[- ])?president|vp)) (?={NAME})")
ELECTION = re.compile(
    r"\b(?:poll|vote|voter|lead|led|won|win|ahead|behind|tie|tied|points?|percent|election|margin|"
    r"average|race|carried|close|closest)s?\b|%"
)
CLOSEST_SAID = re.compile(r"\b(?:was|is|were) (?:the )?(?:closest|closer|tightest|tighter)\b")
LED = re.compile(
    rf"{NAME},? (?:{BETWEEN}(?:led|leads|leading|ahead|in front|was up|is up)|did lead)\b"
)
WON = re.compile(
    rf"{NAME},? {BETWEEN}(?:(?:won|wins|carried|took)\b(?! {NUMBER} ?(?:%|percent))|"
    rf"(?:beat|defeated|prevailed|was the winner|did (?:win|carry|take))\b)|(?:winner (?:was|is)|went to|won by) {NAME}"
)
LOST = re.compile(rf"{NAME},? {BETWEEN}(?:lost|loses|trail(?:ed|s)|(?:was|is) behind)\b")
TIE_SAID = {
    "poll": re.compile(r"\b(?:tied|tie|dead heat|level|even|deadlock\w*)\b"),
    "vote": re.compile(r"\btied\b"),  # a tie in the polls may stand beside who won
}


def refuses(answer):
    """Whether an answer says that it has no figures or makes no forecast."""
    text = answer.strip()
    return text == NO_POLLS or bool(REFUSES.match(text)) or read_natural(text)[0] in REFUSALS


def faults_of(answer, asked, facts):
    """The faults of an answer to a question, in sentences; a refusal has none."""
    if refuses(answer) or asked.kind is None:
        return []
    said = read_answer(answer)
    found = [
        runaway(answer),
        contradiction(said, asked),
        other_place(said, asked, facts),
        closest_said(said, asked, facts),
        other_topic(said, asked, facts),
        other_polls(answer, asked),
        verdict(answer, asked, facts),
        hedged(answer),
    ]
    if not (ELECTION.search(answer) or said.claims or re.search(NAME, answer)):
        words = re.findall(r"[A-Za-z]+", answer)
        found.append("It is no sentence about an election." if len(words) != 1 else "")
    return [fault for fault in found if fault]


def runaway(answer):
    """A number that runs away, or more than a hundred percent."""
    if match := RUNAWAY.search(re.sub(r"\d{1,3}(?:,\d{3})+", "", answer)):
        return f"{match[0]} is a number that runs away."
    over = [n for n in re.findall(r"(\d+(?:\.\d+)?) ?(?:%|percent)", answer) if float(n) > 100]
    return f"{over[0]}% is more than everybody." if over else ""


def contradiction(said, asked):
    """What an answer says against itself about one place and one time."""
    if natural := comparison(said.text):
        return natural
    several = asked.others or asked.ranked or asked.kind in ("trend", "months")
    if several or len(set(said.months)) > 1 or len(said.places) > 1:
        return ""
    for kind, leading in (("poll", LED), ("vote", WON)):
        shares = {}
        for claim in said.claims:
            if claim.kind == kind or (kind == "vote" and asked.kind == "result"):
                if claim.kind in ("poll", "vote") and claim.name:
                    shares.setdefault(claim.name, set()).add(float(claim.number))
        leads = [float(c.number) for c in said.claims if c.kind in ("lead", "won by")]
        text = by_surname(said.text)
        names = {match[1] or match[2] for match in leading.finditer(text)}
        if asked.kind == "result":
            names |= {match[1] for match in LED.finditer(text)}
        lost = {match[1] for match in LOST.finditer(text)}
        if fault := against(shares, names, leads, bool(TIE_SAID[kind].search(text)), lost):
            return f"It contradicts itself: {fault}."
    return ""


def by_surname(text):
    """The text with surnames alone where it has first names: 'Kamala won' -> 'Harris won'."""
    for first, surname in FIRST_NAMES.items():
        text = re.sub(rf"\b{first}(?: {surname})?\b", surname, text, flags=re.IGNORECASE)
    return text


def against(shares, leaders, leads, tied, lost):
    """What is said against itself by shares, leaders, losers and leads of one time, or ''."""
    if len(leaders) > 1:
        return f"{' and '.join(sorted(leaders))} both lead"
    if tied and leaders:
        return "a tie and a leader"
    twice = [name for name, numbers in shares.items() if len(numbers) > 1]
    if twice:
        return f"two shares of {twice[0]}"
    pair = {name: next(iter(numbers)) for name, numbers in shares.items() if name != THIRD}
    if sum(pair.values()) > 100.5:
        return "more than 100% together"
    if len(pair) != 2:
        return ""
    lead = max(pair.values()) - min(pair.values())
    first = max(pair, key=pair.get)
    if lead and first in lost:
        return f"{first} is behind with more"
    if leaders and lead and leaders != {first}:
        return f"{next(iter(leaders))} leads with less"
    if tied and lead > 0.05:
        return "a tie of different shares"
    if leaders and not lead and all(number != int(number) for number in pair.values()):
        return "a leader with equal shares"
    whole = any(number == int(number) for number in pair.values())
    if leads and abs(lead - leads[0]) > (1.01 if whole else 0.15):
        return f"a lead of {leads[0]:g} between shares {lead:.1f} apart"
    return ""


def comparison(text):
    """What a comparison of states concludes against its own figures, or ''."""
    kind, slots = read_natural(text)
    if kind not in ("better", "bigger", "closest"):
        return ""
    leads = {place: (leader, lead) for _, leader, lead, place in slots["parts"]}

    def score(place):
        leader, lead = leads[place]
        if kind == "better":
            return lead if leader == slots["who"] else -lead
        return -lead if kind == "closest" else lead

    if slots["where"] not in leads:
        return "It contradicts itself: it concludes on a place without figures."
    best = max(leads, key=score)
    if score(best) > score(slots["where"]):
        return f"It contradicts itself: by its own figures it is {best}."
    return ""


def wanted_places(asked, facts):
    """The places that an answer may speak of."""
    return {*facts.places} if asked.ranked else {*asked.places}


def other_place(said, asked, facts):
    """A place that an answer names and nobody asked about."""
    wanted = wanted_places(asked, facts)
    strange = [place for place in said.places if place not in wanted]
    if strange and asked.ranked and facts.places:
        best = listed(map(place_name, facts.places))
        return f"It names {place_name(strange[0])}, and by the tables it is {best}."
    return f"It names {place_name(strange[0])}, which was not asked." if strange else ""


def closest_said(said, asked, facts):
    """A place that an answer calls the closest of several although by the tables another is."""
    found = CLOSEST_SAID.search(said.text)
    if found is None or asked.ranked:
        return ""
    before = list(place_spans(said.text[: found.start()]).values())
    if not before or before[-1] not in facts.places:
        return ""
    best = []
    for figures in (
        {place: here.polls[-1] for place, here in facts.places.items() if here.polls},
        {place: here.votes for place, here in facts.places.items() if here.votes},
    ):
        leads = {place: apart(shares) for place, shares in figures.items()}
        if len(leads) == len(facts.places):
            best += [place for place, lead in leads.items() if lead == min(leads.values())]
    fits = before[-1] in best or not best
    return "" if fits else f"By the tables {place_name(best[0])} was closer."


def apart(shares):
    """How far the two nominees are apart, in points."""
    first, second = [share for who, share in shares.items() if who != THIRD]
    return round(abs(first - second), 1)


def other_topic(said, asked, facts):
    """A topic or a person that an answer speaks of and nobody asked about."""
    text = TITLES.sub("", said.text)
    if topic := outside_of(without_districts(text, place_spans(text))):
        return f"It speaks of {topic}, which was not asked."
    people = set(re.findall(NAME, said.text)) - (figured(facts) or people_of(asked.cycle)) - {THIRD}
    words = re.findall(r"[A-Z][a-z]+", said.text)
    people |= {word for word in words if word.lower() in OTHER_PEOPLE}
    return f"It names {min(people)}, who was not asked about." if people else ""


def other_polls(answer, asked):
    """The last polls, where those of a month were asked about."""
    if asked.kind in ("month", "trend", "months") and LAST_POLLS.search(answer):
        return "It speaks of the last polls, and a month was asked about."
    return ""


def figured(facts):
    """Who has figures in what was looked up."""
    here = [facts, *facts.places.values()]
    months = [shares for each in here for rows in each.months.values() for shares in rows]
    found = [shares for each in here for shares in (*each.polls, each.start, each.votes)]
    return {name for shares in (*found, *months) for name in shares}


def verdict(answer, asked, facts):
    """A yes or no that the tables do not bear out."""
    said = says_yes(answer)
    if said is None or asked.by_electors or not (asked.claim or asked.limit):
        return ""
    wrong = f"It says {'yes' if said else 'no'}, and the tables do not."
    if asked.others:  # a yes is about all of them
        votes = asked.kind == "result"
        here = [
            each.votes if votes else next(iter(each.polls[-1:]), {})
            for each in facts.places.values()
        ]
        so = {is_so(asked, figures) for figures in here}
        return wrong if (False in so if said else so == {True}) else ""
    figures = [facts.votes] if asked.kind == "result" or not facts.polls else facts.polls[-1:]
    if asked.kind == "year" and facts.votes:
        figures = [*facts.polls[-1:], facts.votes]  # an answer may be about either
    if {is_so(asked, each) for each in figures} != {not said}:
        return ""
    return wrong


def is_so(asked, figures):
    """Whether shares (percent by surname) are as a question for yes or no has it; None: unclear.

    A figure that stands at the limit itself is neither above nor below it.
    """
    nominees = [who for who in figures if who != THIRD]
    if len(nominees) != 2:
        return None
    parties = dict(zip(("Democrat", "Republican"), nominees, strict=True))
    who = asked.claim[0] if asked.claim else asked.limit.who
    name = parties.get(who, who)
    if name is not None and name not in figures:
        return None
    shares = [figures[each] for each in nominees if each != name]
    ahead = round(figures[name] - max(shares) if name else abs(shares[0] - shares[1]), 1)
    if asked.claim:
        return ahead > 0.05 if asked.claim[1] else ahead < -0.05
    limit = asked.limit
    value = ahead if limit.of_lead else figures[name]
    if abs(value - limit.number) < 0.05 or (value < 0 and not limit.above):
        return None
    return (value > limit.number) == limit.above


def hedged(answer):
    """A sentence that says what is not, or what would be."""
    match = NEGATED.search(re.sub(r"^(?:Yes|No)[,.] ", "", answer))
    return f"It speaks of what is not so or may be (\u201c{match[0]}\u201d)." if match else ""
