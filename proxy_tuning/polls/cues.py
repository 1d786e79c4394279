"""The turns of phrase that tell what a question about polls wants."""

import re

POLITE = re.compile(r"^\W*may (?:i|we) (?:please )?(?:ask|know)\b,?", re.IGNORECASE)
SWINGS = re.compile(r"\b(?:swing|battleground|key|purple)[ -]states?\b|\bbattlegrounds\b")

RESULT = re.compile(
    r"\b(?:won|wins?|winner|winning vote|victor|victory|carried|carry|took|take|(?:go|goes|went) for|chose|choose|picked|results?|votes?|"
    r"voted|outcome|elected|gets?|got|came first|beat|lost?|lose|flip(?:ped)?|"
    r"election (?:of \d+ )?end(?:ed)?)\b"
)
ENDED_UP = re.compile(
    r"\bend(?:s|ed)? up (?:win\w*|losing|ahead|behind|taking|carrying|on top|going)\b"
)
POLLED = re.compile(
    r"\b(?:polls?|polled|polling|averages?|surveys?|led|leads?|leader|leading|ahead|behind|up|"
    r"trail\w*|losing|winning)\b"
)
FINAL = re.compile(
    r"\b(?:last|final|closing|latest|eve|(?:just|right) before|before the|going into|"
    r"(?:end|close) of the|campaign (?:of \d+ )?ended)\b"
)
MISS = re.compile(
    r"\b(?:off|wrong|errors?|miss|missed|differ|differed|accurate|good|right(?! before| now)|"
    r"predict|predicted|(?:over|under)estimate\w*|(?:polls?|polling) .*\bresults?|results? .*\b(?:polls?|polling))\b"
)
ANCHOR = re.compile(
    r"\b(?:polls?|polled|polling|averages?|surveys?|led|leads?|leader|leading|ahead|president\w*|"
    r"elections?|doing|numbers|figures|behind|winning|losing|support\w*|close|closest|tight|candidates?|nominees?|democrats?|republicans?|dems?|gop|votes?|voted)\b"
)
OVER_A_YEAR = re.compile(
    r"\b(?:over|during|throughout|through|across|all)\b.{0,20}\b(?:year|\d{4}|months?)\b|"
    r"\b(?:month by month|(?:each|every|by|which|what|best|worst) month|monthly|ever|never|always|"
    r"at any (?:point|time)|when did|spring|summer|autumn|winter)\b"
)
CLOSEST = re.compile(
    r"\b(?:wh(?:ich|at) (?:\w+ )?(?:states?|race) .*\bclosest|closest (?:states?|races?)|"
    r"(?:tightest|narrowest) (?:states?|races?)|wh(?:ich|at) .*(?:tightest|narrowest)|"
    r"closest(?! to))\b"
)
RANKED = re.compile(
    r"\b(?:(?:which|what) (?:\w+ )?states?|by state|"
    r"(?:biggest|largest|most(?! recent)|best|worst|strongest|highest|lowest) (?:\w+ ){0,3}states?)\b"
)
LEFT = re.compile(r"\bBiden\b.*\b(?:dropped|drops|quit|withdr\w+|left)\b", re.IGNORECASE)
BEFORE_HE_LEFT = re.compile(
    r"\bbefore\b.*\b(?:biden|he)\b.*\b(?:dropped|drops|quit|withdr\w+|left)\b"
)
AFTER_HE_LEFT = re.compile(
    r"\b(?:after|since|once)\b.*\b(?:biden|he)\b.*\b(?:dropped|drops|quit|withdr\w+|left)\b"
)
A_WHILE = re.compile(
    r"\b(?:days|months?) (?:before|after)\b|\bweeks?\b|\bin (?:the )?fall\b|"
    r"\b(?:start|beginning|half) of (?:the )?(?:year|\d{4})\b"
)
"""A time that is neither a month nor the last before an election."""
YES = re.compile(
    r"^\W*(?:(?:so|and|hey|ok|but) )?(?:(?:did|was|is|were|does|do|has|had)(?:n'?t)?|am i right|"
    r"can you confirm|tell me (?:if|whether)|i (?:heard|read))\b|^(?!.*\b(?:who|which|what|how|when)\b).*\b(?:right|correct|true)\W*$"
)
DENIED = re.compile(r"^\W*\w+(?:n'?t)?\b.*(?:\bnot|n't)\b")
"""A question whose yes says that it is not so."""
LOSES = re.compile(r"\b(?:lose|lost|loses|losing|behind|trail\w*|down|less|fewer|lower|worse)\b")
HALF = re.compile(r"\b(?:majority|(?:over|above|more than) half)\b")
NEAR_LEAD = re.compile(r"\bby (?:\w+ ){0,2}$")
"""Right before a limit, by which it is one of a lead."""
ELECTION_THERE = re.compile(
    r"(?:the )?(?:us|u\.s\.?|united states|usa|america|national) (?:\d{4} )?"
    r"(?:general |popular )?(?:president\w*|elections?|race|votes?)\b|popular vote"
)
"""The nation, where it only says which election is meant: 'the US election in Ohio'."""
OTHER_YEAR = re.compile(
    r"\b(?:than|same as|compared (?:to|with)) (?:(?:he|she|they|it|biden|clinton|obama) "
    r"(?:did|was|had|got) )?(?:back )?(?:in )?(?:\d{4}|last time|four years)\b|"
    r"\b(?:up|down|chang\w+|swing|swung|shift\w*|improv\w+|gain\w*|mov\w+)\b.*"
    r"\b(?:from|since|on|vs\.?|versus) (?:\d{4}\b(?!-)|last time|four years ago)|"
    r"\bresults? (?:vs\.?|versus) \d{4}\b"
)
LIMIT = re.compile(
    r"\b(?:over|above|under|below|than|least|past|break|crack|hit|reach|within|beyond) \d\d?(?:\.\d)?"
    r"\b(?! (?:polls?|days?|weeks?|months?|states?))|\btop \d\d? ?(?:%|percent)"
    r"|\bat \d\d?(?:\.\d)?(?:%| percent)? or (?:more|less|above|below|higher|lower)\b"
)
BELOW = re.compile(
    r"\b(?:under|below|within|(?:less|lower|smaller|fewer) than|or (?:less|below|lower))\b"
)
OF_LEAD = re.compile(
    r"\b(?:leads?|leading|led|ahead|up|gap|margin|difference|apart|within|by|points?|spread)\b"
)
PARTIES = {
    "Democrat": re.compile(r"\b(?:dems?|democrat\w*)\b"),
    "Republican": re.compile(r"\b(?:gop|republican\w*)\b"),
}
TIED = re.compile(r"\b(?:tied?|dead heat|dead even)\b")
MORE_THAN_A_LEAD = re.compile(
    r"\b(?:tied?|ties|even|level|equal|dead heat|square|same|(?:over|under|out)(?:estimat|rat|perform)\w*|"
    r"flatter\w*|flip\w*|any(?:one|body)|some(?:one|body)|half|majority|skewed|biased|too (?:high|low|good|bad|kind|hard|optimistic|pessimistic)|"
    r"(?:beat|exceed|fall short of|better than|worse than) (?:\w+ )?(?:polls?|polled|polling))\b"
)
"""What a yes or no may be about besides who leads; whether it is so is not checked."""
WANTED = [
    (
        "share",
        r"percent(?!age points?)\w*|share|support|% |polling at|at in|how much support|"
        r"how many (?:votes|(?:people|voters|americans) vot)",
    ),
    (
        "margin",
        r"by how|how (?:much|many|big|far|close|tight|large|narrow)|margin|spread|gap|points",
    ),
    (
        "standing",
        r"how did|how (?:is|was|were|are)|stand|numbers|what did|state of the race|figures",
    ),
]
