"""The pre-2024 world in plain English: what the pocket models and their tokenizer are made from.

Historical poll facts as questions with answers and as statements (training templates only), and a few
sentences on each election. Nothing here speaks of 2024.
"""

import pandas as pd

from proxy_tuning.polls.elections import ELECTION_DAYS, NATIONAL
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.questions import ask

# The nation in every cycle, and these states since 2008: as much as models of this size can hold.
STATES = [
    "Arizona",
    "California",
    "Florida",
    "Georgia",
    "Iowa",
    "Michigan",
    "Minnesota",
    "Nevada",
    "New Hampshire",
    "New York",
    "North Carolina",
    "Ohio",
    "Pennsylvania",
    "Texas",
    "Virginia",
    "Wisconsin",
]
NATIONAL_CYCLES = [year for year in ELECTION_DAYS if year < 2024]
STATE_CYCLES = [2008, 2012, 2016, 2020]
RESULT_CYCLES = [2016, 2020]

TICKETS = {
    1968: ("Hubert Humphrey and Edmund Muskie", "Richard Nixon and Spiro Agnew", "Nixon"),
    1972: ("George McGovern and Sargent Shriver", "Richard Nixon and Spiro Agnew", "Nixon"),
    1976: ("Jimmy Carter and Walter Mondale", "Gerald Ford and Bob Dole", "Carter"),
    1980: ("Jimmy Carter and Walter Mondale", "Ronald Reagan and George Bush", "Reagan"),
    1984: ("Walter Mondale and Geraldine Ferraro", "Ronald Reagan and George Bush", "Reagan"),
    1988: ("Michael Dukakis and Lloyd Bentsen", "George Bush and Dan Quayle", "Bush"),
    1992: ("Bill Clinton and Al Gore", "George Bush and Dan Quayle", "Clinton"),
    1996: ("Bill Clinton and Al Gore", "Bob Dole and Jack Kemp", "Clinton"),
    2000: ("Al Gore and Joe Lieberman", "George W. Bush and Dick Cheney", "Bush"),
    2004: ("John Kerry and John Edwards", "George W. Bush and Dick Cheney", "Bush"),
    2008: ("Barack Obama and Joe Biden", "John McCain and Sarah Palin", "Obama"),
    2012: ("Barack Obama and Joe Biden", "Mitt Romney and Paul Ryan", "Obama"),
    2016: ("Hillary Clinton and Tim Kaine", "Donald Trump and Mike Pence", "Trump"),
    2020: ("Joe Biden and Kamala Harris", "Donald Trump and Mike Pence", "Biden"),
}


def historical_facts(tables):
    """The facts of `facts.make_facts` that the pocket models learn in pre-training."""
    national = make_facts(tables, NATIONAL_CYCLES, [NATIONAL])
    states = make_facts(tables, STATE_CYCLES, STATES)
    results = make_facts(tables, RESULT_CYCLES)
    results = results[(results["kind"] == "result") & ~results["state"].isin([*STATES, NATIONAL])]
    return pd.concat([national, states, results], ignore_index=True)


def sentences():
    """Plain sentences on each election: who stood and who became president."""
    for year, (democrats, republicans, president) in TICKETS.items():
        yield f"In {year} the Democrats nominated {democrats}."
        yield f"In {year} the Republicans nominated {republicans}."
        yield f"{president} won the election of {year} and became president."
        yield f"The candidates of {year} were {democrats} against {republicans}."


def pretraining_rows(tables):
    """What the pocket models read: columns question (None for statements) and answer."""
    facts = historical_facts(tables)
    facts = facts[facts["trained"]]
    questions = ask(facts, "train")[["question", "answer"]]
    said = facts.loc[facts["status"] == "known", "answer"].drop_duplicates().tolist()
    statements = pd.DataFrame({"question": None, "answer": said * 2 + list(sentences()) * 4})
    return pd.concat([questions, statements], ignore_index=True)
