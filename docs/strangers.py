"""Questions as strangers type them, asked on the widget: `python -m docs.strangers --family pocket`.

Prints how each was read, what the steered M said and how that was marked, as a table for demo.md.
"""

import argparse
import csv
import re

from proxy_tuning.families import load_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, ROOT
from proxy_tuning.widget.desk import Desk
from proxy_tuning.widget.topics import Polls

QUESTIONS = ROOT / "docs" / "examples" / "strangers.tsv"
"""A line per question: what it is meant as, a tab, the question."""


def cell(text: str) -> str:
    """A text that fits a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="auto")
    parser.add_argument("--own-words", action="store_true", help="never in a trained wording")
    options = parser.parse_args()
    desk = Desk(*load_family(options.family), options.family, Polls(load_facts(DATA)))
    print("| meant as | question | read and said by the page | steered M | mark |")
    print("|---|---|---|---|---|", flush=True)
    with QUESTIONS.open(encoding="utf-8", newline="") as file:
        for kind, question in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            told = desk.ask(question, reword=False if options.own_words else None)
            read = " ".join(filter(None, (told["page_says"], told["understood"], told["missing"])))
            row = kind, question, read, told["steered"], told["check"]["steered"]
            print("|", " | ".join(map(cell, row)), "|", flush=True)


if __name__ == "__main__":
    main()
