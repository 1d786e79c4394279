"""The words that questions about polls are made of, and what lies outside the fact tables.

A word of a question that is no place, no time, no candidate and none of `KNOWN` could not be
placed, and is said to be so.
"""

import re
import unicodedata

from proxy_tuning.polls.natural_forms import NATURAL
from proxy_tuning.polls.spelling import Speller
from proxy_tuning.polls.templates import TEMPLATES

MORE = """
a about actual actually after again ahead all also am an and another answer any anybody anyone apart
are around as ask asked asking at average averages away back battleground battlegrounds be beat
beating beats became become been before behind being best better between big bigger biggest both but
by came campaign can candidate candidates carried carry change changed changes close closer closest
come comes compare compared comparing contest could curious currently data date day days dead dem
democrat democratic democrats dems did didnt difference differ do does doesnt doing done dont down
dropped during each earlier early edge elect elected election elections else end ended ends ever
exactly far favor favorite fewer figure figures final finally find first flip flipped for from front
frontrunner gain gained gap general get gets getting give go goes going gone good got guess gop had
happened has have having he head held hello her hers hey hi high higher him his hold holding hot how
hows i if in into is isnt it its just keep kind know large larger largest last lasted late later
latest lead leader leaders leading leads lean leaned leaning least led less let like long look
looked looking looks lose loses losing loss lost lot made majority make many margin me mean mid
middle might mind mine miss missed month months more most move moved movement moving much my name
narrow nation national nationally near nearly neck need never next nominee nominees nor now number
numbers of off office ok okay on one ones only open opinion or other others our out outcome over
overall part party people percent percentage pct perform performed per person pick picked place
places please pls plz plurality point points poll polled polling polls popular position potus
presidency president presidential presidents pretty prior pts question quick quickly race races
really recent red blue register remember report reported republican republicans result results
right run running said same saw say saying says score seem seemed share shares she should show
showed showing shown shows sir since single slight small smaller so some somebody someone soon spread
stand standing stands start started state states still stood strong stronger support supported sure
surveys survey swing swinging take taken takes taking tell than thank thanks that the their them then
there these they thing think this those thought through throughout thx tie tied ties tight tighter
till time times to today told too took top toss tossup total track tracking trail trailed trailing
trend trended trending trends trump tv two u umm under until up upset ur us use used very versus via
victor victory vote voted voter voters votes voting vs want wanted wants was wasnt way we week weeks
well went were werent what whats when where which while who whom whos whose why will win winner
winners winning wins with within without won wonder wondering would wrong ya yeah year years yes yet
you your yr
accurate accuracy error errors predict predicted prediction accurately badly exact percents figures
democratically kamala donald joe hillary barack mitt rfk jr robert john george bob bill jimmy ronald
al walter michael hubert mcgovern mr mrs ms vp gov outright overtake overtook score stats
whole entire across country countrywide nationwide america american americans usa eve night november
numbers breakdown info details update rn atm tbh lol btw bro dude yo gimme lemme gonna wanna kinda
cd district withdrew withdrawal quit candidacy matchup match heat landslide blowout
swung shift shifted fell rose drop rise increase decrease grew slip slipped climb climbed half
thru moment gops jrs battle purple key white house congressional confirm bag exceed locked low outperform overperform own
avg avgs declared diff every ge hiya home kindly minus monthly popvote spring summer autumn thousands though
safe secure short solid underperform hw wat whta wich teh pol pols poling leadin winnin
"""
"""Words of questions that no template happens to have."""

SPANISH = {
    "quien": "who",
    "quienes": "who",
    "gano": "won",
    "ganaron": "won",
    "gana": "won",
    "ganador": "winner",
    "lidero": "led",
    "lideraba": "led",
    "lidera": "leads",
    "adelante": "ahead",
    "iba": "was",
    "estaba": "was",
    "encuesta": "poll",
    "encuestas": "polls",
    "sondeos": "polls",
    "eleccion": "election",
    "elecciones": "election",
    "presidenciales": "presidential",
    "votos": "votes",
    "puntos": "points",
    "porcentaje": "percentage",
    "cuanto": "how much",
    "cuantos": "how many",
    "cual": "what",
    "que": "what",
    "fue": "was",
    "resultado": "result",
    "estado": "state",
    "estados": "states",
    "unidos": "united",
    "tenia": "had",
    "ventaja": "lead",
    "en": "in",
    "por": "by",
    "el": "the",
    "las": "the",
    "los": "the",
    "del": "of the",
    "y": "and",
    "o": "or",
    "enero": "January",
    "febrero": "February",
    "marzo": "March",
    "abril": "April",
    "mayo": "May",
    "junio": "June",
    "julio": "July",
    "agosto": "August",
    "septiembre": "September",
    "octubre": "October",
    "noviembre": "November",
    "diciembre": "December",
    "la": "the",
    "de": "of",
    "a": "to",
}
"""Enough Spanish to be asked who won; without accents, in lower case."""
TELLS_SPANISH = {
    "quien",
    "quienes",
    "gano",
    "encuestas",
    "cuanto",
    "cual",
    "elecciones",
    "lideraba",
}

OUTSIDE = [
    (
        r"who(?: is| was)? (?:the )?(?:us |u\.s\. |current |american )?president",
        "who held an office",
    ),
    (
        r"what time|(?:polls?|polling (?:places?|stations?)) (?:open|close)\w*|"
        r"when (?:is|are|do|does) (?:\w+ ){0,3}(?:vote|voting|polls|elections?)|"
        r"(?:where|how) (?:do|can|should) i vote|poll workers?",
        "when and where to vote",
    ),
    (
        r"(?:last|first) time (?:\w+ ){0,3}(?:voted|won|went|was won)|last (?:voted?|went)|"
        r"when did (?:\w+ ){1,3}last|ever (?:voted?|won|win|gone|went|carried|flipped)",
        "first and last times",
    ),
    (
        r"(?:leading|leads|running|runs|managing|manages) (?:the )?(?:\w+ )?campaigns?|lottery|"
        r"weather|poll tax\w*|poisoning|super bowl|football|baseball|basketball|parliament\w*",
        "matters other than elections",
    ),
    (
        r"caucus(?:es)?|primar(?:y|ies)|(?:gop|republican|democratic|dem) (?:race|field|contest)|"
        r"nomination|super tuesday|convention",
        "primaries or caucuses",
    ),
    (r"senat\w*", "Senate races"),
    (r"governors?|gubernatorial|governorship|governor's", "races for governor"),
    (
        r"(?<!white )house|"
        r"congress\w*|representatives?|midterms?|speaker|(?-i:[A-Z]{2})-\d{1,2}|"
        r"(?:district|cd)[ -]?\d{1,2}|"
        r"(?:\d{1,2}(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth) "
        r"(?:congressional )?district",
        "races for Congress",
    ),
    (
        r"mayor\w*|sheriff|attorney general|secretary of state|school board|judge|supreme court|city council|"
        r"state legislature|referendum|ballot (?:measure|question)s?|proposition|amendment",
        "state and local offices or ballot questions",
    ),
    (r"vice[- ]president\w*|running mates?|veep|\bvp\b", "candidates for vice president"),
    (r"exit polls?|leaving the polls", "exit polls"),
    (
        r"(?:dis)?approval|approve|favorab\w+|unfavorab\w+|job rating|popularity|"
        r"(?:is|was) (?!more)(?:\w+ ){1,2}popular|how popular (?:is|was) (?:the )?(?:president|government)|well[- ]liked|people like|likes|"
        r"think (?:of|about) (?:the president|trump|harris|biden|kamala|joe|him|her)|"
        r"(?:do|does|did) (?:\w+ ){1,2}(?<!look )like(?! to)",
        "approval ratings",
    ),
    (
        r"electoral (?:votes?|college)|electors?|270|how many states|number of states|"
        r"(?:majority|most) of (?:the )?states",
        "counts of electoral votes or of states",
    ),
    (
        r"(?:how many|a lot of) (?:people|voters|americans) vot\w+(?! for)|number of voters|turnout|turn-out|voter turn out|how many registered|registered(?! voters)|registration|early vot\w+|mail[- ]in|absentee",
        "turnout",
    ),
    (
        r"wom[ae]n|men|male|female|latin[oax]s?|hispanics?|black|whites?(?! house)|asians?|young(?:er)?|youth|"
        r"seniors?|older|elderly|college|educated|independents|evangelicals?|catholics?|christians?|"
        r"muslims?|jewish|among (?!(?:likely |registered |all )?voters|those|the\b)\w+|of (?:republicans|democrats)|"
        r"suburban\w*|rural|urban|gen z|millennials?|union|veterans?|moms?|"
        r"working class|first-time|undecided\w*|(?:republican|democratic) voters?|"
        r"(?:republicans|democrats) vot\w+|aged \d\d|\d\d (?:and|or) (?:over|older|under|younger)|"
        r"(?:people|voters?|those|adults|folks|americans|anyone) (?:aged? )?"
        r"(?:over|under|above|below|older than|younger than) \d\d",
        "groups of voters",
    ),
    (
        r"(?:good|bad|best|worst|great|better) president|should i|i should|i vote|would you|do you "
        r"(?:like|support|prefer|want)",
        "opinions",
    ),
    (
        r"(?:is|was|are) (?!.*\b(?:lead|margin|gap|win|share|support|votes?|polls?)\b).* (?:bigger|larger|smaller) than|how old|"
        r"how (?:tall|many people live)",
        "matters other than elections",
    ),
    (r"debates?|debated", "debates"),
    (
        r"predict (?:the|who|how)|predict (?:\w+ ){1,2}for me|your prediction|how sure|what will happen|odds|betting|bets?|forecasts?|chances?|probabilit\w+|polymarket|predictit|"
        r"(?:will|going to|gonna|is going to) (?:\w+ ){0,2}"
        r"(?:win|be|beat|carry|take|lose)|who(?:'?ll| will) win|"
        r"next (?:\w+ ){0,3}(?:election|president|race)|who should",
        "forecasts",
    ),
    (
        r"cnn|fox|emerson|quinnipiac|siena|rasmussen|yougov|ipsos|reuters|selzer|des moines register|"
        r"marist|monmouth|suffolk|atlas ?intel|morning consult|cygnal|gallup|pew|nbc|abc|cbs|msnbc|"
        r"washington post|nyt|new york times|538|fivethirtyeight|real ?clear\w*|rcp|nate silver|"
        r"trafalgar|marquette|sample size|margin of error|most accurate (?:polls?|pollsters?)|"
        r"which (?:polls?|pollsters?) (?:is|are|was|were) (?:the )?(?:most|best)",
        "single polls or pollsters",
    ),
    (
        r"count(?:y|ies)|city|cities|towns?|precincts?|suburbs?|zip code|philadelphia|philly|"
        r"pittsburgh|detroit|milwaukee|phoenix|atlanta|las vegas|miami|chicago|los angeles|houston|"
        r"dallas|austin|boston|seattle|cleveland|nyc|charlotte|maricopa|dade",
        "cities or counties",
    ),
    (
        r"(?:rust|sun|bible|corn) ?belt|mid-?west|new england|blue wall|deep south|pacific northwest|"
        r"the south(?! carolina| dakota)",
        "regions of several states",
    ),
    (
        r"third place|came third|other candidates|libertarians?|green party",
        "other candidates",
    ),
    (
        r"(?:is|was) (?:\w+ ){1,2}a (?:swing|battleground|red|blue|purple) state|"
        r"what did (?:trump|harris|biden|kamala|donald|he|she|they) say|"
        r"(?:is|was|are) \w+ (?:from|born)|econom\w+|immigra\w+|abortion|inflation",
        "matters other than polls and votes",
    ),
    (r"raised|fundrais\w+|donat\w+|ads?|spending|money", "money or advertising"),
]
"""What questions about elections ask that no fact table has: a pattern and what it is."""
OUTSIDE_PATTERNS = [
    (re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), what) for pattern, what in OUTSIDE
]
OTHER_PEOPLE = """
haley nikki desantis ron ramaswamy vivek christie vance walz pence kaine palin cheney sanders bernie
warren buttigieg pete klobuchar bloomberg newsom gavin whitmer shapiro kelly stein jill oliver chase
cornel perot nader anderson wallace gallego lake kari cruz allred casey mccormick moreno sherrod
slotkin tester sheehy ossoff warnock walker fetterman oz hobbs abbott youngkin murkowski rubio marco
cruz kasich bachmann gingrich santorum ron paul manchin liz hawley kemp abrams obamas michelle ivanka
melania taylor swift musk elon zelensky putin trudeau macron starmer johnson boris merkel milei
lula lincoln roosevelt truman eisenhower jfk evers rosen moore cooper beshear brown hogan
alsobrooks kim curtis osborn fischer hovde baldwin rogers elissa tammy robinson hochul zeldin dixon
""".split()
"""People of other races, other offices and other times whom questions name."""

KNOWN = set(MORE.split()) | {
    word
    for text in [
        *(t for kind in TEMPLATES.values() for split in kind.values() for t in split),
        *(
            t
            for section in NATURAL.values()
            if "answer" not in section
            for split in ("train", "validation", "test")
            for t in section[split]
        ),
    ]
    for word in re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.lower().replace("'", "")))
}
"""All words, in lower case and without apostrophes, that a question about the tables may have."""


def plain_text(text: str) -> str:
    """The same text with straight quotes, single spaces and no possessive endings."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    return re.sub(r"'s\b", "", " ".join(text.split()))


def in_english(text: str) -> str:
    """A text without accents and inverted marks; Spanish questions word by word in English."""
    letters = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in letters if not unicodedata.combining(c) and c not in "\u00bf\u00a1")
    if not TELLS_SPANISH & set(re.findall(r"[a-z]+", bare.lower())):
        return bare.strip()
    return re.sub(r"[A-Za-z]+", lambda m: SPANISH.get(m[0].lower(), m[0]), bare).strip()


TOPICS = Speller(
    """approval caucus chances congressional elections election electoral electors going governor people predict
    prediction primary primaries senate senator turnout voters""".split()
)
"""Words of `OUTSIDE` that are often misspelt."""


def outside_of(text: str) -> str:
    """What lies outside the tables in a text: 'Senate races'; empty where nothing does."""
    spelt = re.sub(r"[A-Za-z]{5,}", lambda word: spelt_topic(word[0]), text)
    return next((what for pattern, what in OUTSIDE_PATTERNS if pattern.search(spelt)), "")


def spelt_topic(word: str) -> str:
    """A word, or that of `TOPICS` which it is a slip of."""
    return word if word.lower() in KNOWN else TOPICS.like(word.lower()) or word


GREETING = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|yo|greetings|good (?:morning|afternoon|evening)|hola|"
    r"thanks?(?: you)?(?: so much)?|thx|bye|goodbye|how are you(?: doing)?(?: today)?|what'?s up|"
    r"sup|test(?:ing)?|nice to meet you|there|everyone|all|[ ,.!?])+",
    re.IGNORECASE,
)
PROJECT = [
    (
        r"proxy[- ]?tun\w+|\bsteer(?:ing|ed)?\b|how (?:does|do) (?:this|it|the page) work",
        "Proxy-tuning steers a large model without changing it: at every token the difference "
        "between a small model after and before fine-tuning is added to its logits.",
    ),
    (
        r"\balpha\b",
        "Alpha is how much of the small models' difference is added to the large model: 0 leaves "
        "it alone, 1 adds it once.",
    ),
    (
        r"\bM ?[+\u2212-](?!\w)|\bexpert\b|antiexpert|anti-expert|\bM alone\b|what is M\b",
        "M is the large model, M\u2212 a small model before and M+ the same after fine-tuning; "
        "the proxy-tuned M is M + alpha (M+ \u2212 M\u2212).",
    ),
    (
        r"(?:this|the) (?:page|site|website|project|demo|app|tool|repo\w*)\b|are you|your name|"
        r"who made|what can (?:you|i|this)|what do you (?:do|know)|what should i ask|^\W*help\W*$|"
        r"language model|training data|where .* data .* from",
        "This page shows a large language model beside the same model steered by two small ones, "
        "and looks questions about US presidential polls and results up in its tables.",
    ),
]


def page_sentence(question: str) -> str:
    """What the page itself says to a greeting or a question about the project; else empty."""
    if GREETING.fullmatch(question):
        return (
            "Hello. Ask about a US presidential election: a place, a time and what you want to "
            "know, such as who led the polls."
        )
    return next(
        (said for pattern, said in PROJECT if re.search(pattern, question, re.IGNORECASE)), ""
    )
