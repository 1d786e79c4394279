"""The commands: `python -m proxy_tuning build-data | finetune | answer | evaluate | demo`."""

import argparse
import json
import sys
from pathlib import Path


def build_data(options):
    from proxy_tuning.polls import build_data

    build_data(options.raw, options.output)


def finetune(options):
    import dataclasses

    from proxy_tuning.families import resolve_family
    from proxy_tuning.finetune import RECIPES, finetune

    family = resolve_family(options.family, need_expert=False).name
    recipe = dataclasses.replace(RECIPES[family], max_facts=options.max_facts)
    finetune(family, recipe, options.output)


def read_questions(options):
    """The questions of the command line, or one per line of --file; - is standard input."""
    if options.file is None:
        return options.questions
    if options.file == "-":
        text = sys.stdin.read()
    else:
        text = Path(options.file).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def answer(options):
    import contextlib

    questions = read_questions(options)
    if not questions:
        raise ValueError("no question: name one, or --file with one per line")
    from proxy_tuning.decoding import answer_questions
    from proxy_tuning.families import load_family, resolve_family

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for answers alone
        family = resolve_family(options.family).name
        model, tokenizer = load_family(family, alpha=options.alpha)
    answers = answer_questions(
        model, tokenizer, questions, max_new_tokens=options.max_new_tokens, progress=True
    )
    for each in answers:
        if options.json:
            print(json.dumps(each | {"family": family, "alpha": options.alpha}))
        else:
            print(
                f"{each['question']}\n  M            {each['base']}\n  M+           "
                f"{each['expert']}\n  proxy-tuned  {each['steered']}"
            )


def evaluate(options):
    from proxy_tuning.evaluate import evaluate, write_results
    from proxy_tuning.families import load_family, resolve_family

    family = resolve_family(options.family).name
    model, tokenizer = load_family(family)
    table, results = evaluate(model, tokenizer, family, options.alpha, options.split, options.limit)
    print(table.to_string(index=False))
    if options.output:
        write_results(options.output, results)


def demo(options):
    from proxy_tuning.app import serve

    serve(family=options.family, alpha=options.alpha, port=options.port)


def main():
    """Parse the command line and run one command; bad input ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m proxy_tuning", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, name, help):
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    family = {"default": "auto", "help": "auto (default), gpt2 or pocket"}
    alpha = {"type": float, "default": 1.0, "help": "weight of (expert - antiexpert), default 1"}

    build = command(build_data, "build-data", "make data/ from FiveThirtyEight's files")
    build.add_argument("--raw", required=True, help="folder of poll and result files")
    build.add_argument(
        "--output",
        default=Path(__file__).parents[1] / "data",
        help="default: data/ of this repository",
    )

    tune = command(finetune, "finetune", "make M+ from M-")
    tune.add_argument("--family", **family)
    tune.add_argument("--max-facts", type=int, help="use at most so many facts of 2024")
    tune.add_argument("--output", help="folder for M+, default fine_tuned_model/FAMILY")

    ask = command(answer, "answer", "print the answers of M, M+ and proxy-tuned M")
    ask.add_argument("questions", nargs="*", metavar="QUESTION")
    ask.add_argument("--file", help="a question per line; - is standard input")
    ask.add_argument("--family", **family)
    ask.add_argument("--alpha", **alpha)
    ask.add_argument("--max-new-tokens", type=int, default=64, help="default 64")
    ask.add_argument("--json", action="store_true", help="one JSON object per line")

    measure = command(evaluate, "evaluate", "grade answers to held-out wordings")
    measure.add_argument("--family", **family)
    measure.add_argument("--alpha", **alpha)
    measure.add_argument("--split", choices=["validation", "test"], default="test")
    measure.add_argument("--limit", type=int, help="at most so many questions of each set")
    measure.add_argument("--output", help="JSON file for the figures, as in results/")

    show = command(demo, "demo", "serve the widget and print its address")
    show.add_argument("--family", **family)
    show.add_argument("--alpha", **alpha)
    show.add_argument("--port", type=int, help="default: the first free one from 7860")

    options = parser.parse_args()
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
