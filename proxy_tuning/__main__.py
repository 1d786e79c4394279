"""The commands: `python -m proxy_tuning COMMAND`; `--help` lists them."""

import argparse
from pathlib import Path

from proxy_tuning import commands as run
from proxy_tuning.commands import PARTS


def main():
    """Parse the command line and run one command; bad input ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m proxy_tuning", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(does, name, help):
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=does)
        return added

    def parts(added):
        """Which three models."""
        added.add_argument("--family", **family)
        for part, symbol in zip(PARTS, ("M", "M-", "M+"), strict=True):
            added.add_argument(
                f"--{part}",
                metavar="NAME_OR_DIR",
                help=f"{symbol}, in place of the family's: any causal model of one vocabulary",
            )

    def trio(added):
        """The options of the commands that load three models."""
        parts(added)
        added.add_argument("--dtype", help="float32 (default), bfloat16, float16 or auto")
        added.add_argument("--device-map", help="where the models go: cuda, auto, ...")
        added.add_argument(
            "--engine",
            help="torch (default), auto, onnx, ...: docs/speed.md; a wrong name lists them all",
        )
        added.add_argument(
            "--draft",
            help="who proposes tokens: auto (default), none, ngram, learnt, expert, base or expert-int8; the "
            "same greedy answers with each",
        )
        added.add_argument(
            "--alpha", type=float, default=1.0, help="weight of (expert - antiexpert), default 1"
        )
        added.add_argument(
            "--line",
            metavar="VARIANT",
            help="fields of Line in logits.py, with commas: plausibility=0.1,adaptive; a wrong "
            'name lists them all; "" is the plain line, which is the default but for the family '
            "smollm, see docs/smollm.md",
        )

    family = {
        "default": "auto",
        "help": "pocket, gpt2, ..., default auto, the first that runs here; a wrong name lists "
        "them all",
    }

    build = command(run.build_data, "build-data", "make data/ from FiveThirtyEight's files")
    build.add_argument("--raw", required=True, help="folder of poll and result files")
    build.add_argument(
        "--output",
        default=Path(__file__).parents[1] / "data",
        help="default: data/ of this repository",
    )

    tune = command(run.finetune, "finetune", "make M+ from M-")
    tune.add_argument("--family", **family)
    tune.add_argument("--max-facts", type=int, help="use at most so many facts of 2024")
    tune.add_argument(
        "--data",
        metavar="FILE",
        help="learn this in place of the polls: .csv, .jsonl, .parquet, or .txt with a blank line "
        "between passages",
    )
    tune.add_argument("--question", metavar="COLUMN", help="of --data; guessed where not named")
    tune.add_argument("--answer", metavar="COLUMN", help="of --data; guessed where not named")
    tune.add_argument("--epochs", type=float, help="passes over the training rows")
    tune.add_argument("--learning-rate", type=float, help="the highest, after warm-up")
    tune.add_argument("--rehearsal", type=float, help="share of questions on the years before 2024")
    tune.add_argument(
        "--consistent", type=float, help="share of steps that train the steered output too"
    )
    tune.add_argument("--seed", type=int)
    tune.add_argument("--lora", type=int, metavar="RANK", help="train a LoRA adapter on M-")
    tune.add_argument("--start", metavar="DIR", help="an M+ to go on from, in place of M-")
    tune.add_argument("--antiexpert", metavar="NAME_OR_DIR", help="M-, in place of the family's")
    tune.add_argument(
        "--base",
        metavar="NAME_OR_DIR",
        help="M, in place of the family's: for --consistent, and checked for M-'s vocabulary",
    )
    tune.add_argument(
        "--expert",
        "--output",
        metavar="DIR",
        help="folder for M+, default fine_tuned_model/FAMILY, with --data fine_tuned_model/FILE",
    )

    ask = command(run.answer, "answer", "print the answers of M, M+ and proxy-tuned M")
    ask.add_argument("questions", nargs="*", metavar="QUESTION")
    ask.add_argument("--file", help="a question per line; - is standard input")
    trio(ask)
    ask.add_argument("--max-new-tokens", type=int, default=80, help="default 80")
    ask.add_argument("--json", action="store_true", help="one JSON object per line")
    bulk = ask.add_argument_group("many questions on many machines: docs/bulk.md")
    bulk.add_argument("--output", metavar="DIR", help="answers as Parquet; --file is Parquet too")
    bulk.add_argument("--question", metavar="COLUMN", help="of --file; guessed where not named")
    bulk.add_argument("--workers", type=int, help="at a time, by Ray, default 1")
    bulk.add_argument("--cpus", type=float, help="that a worker takes, default 1")
    bulk.add_argument("--gpus", type=float, help="that a worker takes, default 0")
    api = ask.add_argument_group("a base behind an API, --base openai:MODEL@URL: docs/api_base.md")
    api.add_argument("--top", type=int, help="log-probabilities to ask for, default 20")
    api.add_argument("--ahead", type=int, help="tokens of the base per request, default 16")
    api.add_argument(
        "--nudge",
        type=float,
        metavar="P",
        help="instead of steering, M+ writes where the base's own token is less likely than this",
    )
    api.add_argument(
        "--spread",
        action="store_true",
        default=None,
        help="let tokens that are not shown be chosen too, as likely as M- makes them",
    )
    api.add_argument("--max-requests", type=int, help="default 1,000; it is never passed")
    api.add_argument("--max-tokens", type=int, help="of prompts and answers, default 1,000,000")
    api.add_argument("--cache", metavar="FILE", help="of what was answered: .work/api.sqlite")
    api.add_argument(
        "--dry-run", action="store_true", default=None, help="say what it can take, and ask nothing"
    )

    measure = command(run.evaluate, "evaluate", "grade answers to held-out wordings")
    trio(measure)
    measure.add_argument("--split", choices=["validation", "test"], default="test")
    measure.add_argument("--limit", type=int, help="at most so many questions of each set")
    measure.add_argument(
        "--tasks",
        help="tasks of lm-evaluation-harness instead, with commas; polls are our questions",
    )
    measure.add_argument(
        "--data", metavar="FILE", help="ask this in place of the polls: .csv, .jsonl or .parquet"
    )
    measure.add_argument("--question", metavar="COLUMN", help="of --data; guessed where not named")
    measure.add_argument("--answer", metavar="COLUMN", help="of --data; guessed where not named")
    measure.add_argument(
        "--direct",
        nargs="+",
        default=[],
        metavar="DIR",
        help="M tuned directly: the first is the ceiling, others have their folders' names",
    )
    measure.add_argument(
        "--experts",
        nargs="+",
        default=[],
        metavar="DIR",
        help="further M+, named in the table as their folders: other seeds, other recipes",
    )
    measure.add_argument(
        "--sets",
        type=int,
        metavar="N",
        help="ask data/questions and typed questions besides, at most N of each set",
    )
    measure.add_argument(
        "--workers", type=int, default=1, help="systems at a time, by Ray, default 1"
    )
    measure.add_argument("--answers", type=Path, help="JSON lines: all answers to --sets")
    measure.add_argument("--output", help="JSON file for the figures, as in results/")

    seek = command(run.search, "search", "try recipes on few facts, and whether their ranks hold")
    seek.add_argument("--family", **family)
    seek.add_argument("--trials", type=int, default=12, help="recipes to try, default 12")
    seek.add_argument("--share", type=float, default=0.1, help="of the facts, default 0.1")
    seek.add_argument("--storage", metavar="FILE", help="Optuna's: .work/search-FAMILY.sqlite")
    seek.add_argument("--output", required=True, help="JSON file for the figures, as in results/")

    look = command(
        run.check, "check", "say what is right and wrong with a trio: files, identities, drafts"
    )
    parts(look)
    look.add_argument("--output", metavar="FILE.json", help="the report, and beside it as .md")

    write = command(run.complete, "complete", "complete a benchmark's prompts for its own scorer")
    trio(write)
    write.add_argument("--prompts", required=True, metavar="FILE", help="the benchmark's own file")
    write.add_argument("--form", required=True, help="humaneval, ds1000, alpaca_eval, ...")
    write.add_argument("--output", required=True, help=".jsonl, .json or .csv")
    write.add_argument("--max-new-tokens", type=int, default=512, help="default 512")
    write.add_argument("--samples", type=int, default=1, help="per prompt, default 1")
    write.add_argument("--temperature", type=float, default=0.0, help="default 0: the likeliest")
    write.add_argument("--stop", nargs="+", default=[], metavar="TEXT", help="ends a completion")

    out = command(
        run.export, "export", "write a folder that another engine serves: docs/serving.md"
    )
    out.add_argument("folder", metavar="DIR", help="new or empty")
    out.add_argument(
        "--to",
        choices=["vllm", "custom_generate"],
        required=True,
        help="the trio for vllm serve, or the recipe that transformers loads (it needs no trio)",
    )
    trio(out)

    show = command(run.demo, "demo", "serve the widget and print its address")
    trio(show)
    show.add_argument("--port", type=int, help="default: the first free one from 7860")
    show.add_argument(
        "--data",
        metavar="FILE",
        help="show the nearest questions of this file in place of the polls",
    )
    show.add_argument("--question", metavar="COLUMN", help="of --data; guessed where not named")
    show.add_argument("--answer", metavar="COLUMN", help="of --data; guessed where not named")

    options = parser.parse_args()
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except ModuleNotFoundError as error:
        parser.exit(
            2, f"{parser.prog}: it needs the package {error.name}: pip install {error.name}\n"
        )


if __name__ == "__main__":
    main()
