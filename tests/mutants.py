"""How many small mistakes the tests notice: random mutants of the code that decides what is said.

    pip install cosmic-ray coverage
    python -m tests.mutants --count 300 --output results/mutants.json

cosmic-ray makes the mutants; each is tried in a copy of the tree by processes of its own, with the
tests of its module alone, until one fails: first those that run a changed line, the quickest first,
then all (a result that several tests share counts for the first of them). The record is written
after every mutant, and a run that was cut off goes on from it. Not on Windows: processes are
forked, so that torch is imported once.
"""

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from proxy_tuning.records import ROOT, write_json

PLAN = {
    "proxy_tuning/logits.py": ("logits", "properties", "model", "decoding"),
    "proxy_tuning/model.py": ("model", "adapters", "generation", "saved_config", "saving"),
    "proxy_tuning/passes.py": ("model", "adapters", "generation", "decoding"),
    "proxy_tuning/generation.py": ("generation", "model", "decoding"),
    "proxy_tuning/decoding.py": ("answering", "decoding", "generation", "own_prompts"),
    "proxy_tuning/speculative.py": ("speculative", "pace", "generation"),
    "proxy_tuning/drafts.py": ("pace", "speculative", "answering"),
    "proxy_tuning/polls/checking.py": ("checking", "marks", "answers", "asked_sets"),
    "proxy_tuning/polls/marks.py": ("checking", "marks", "answers", "asked_sets"),
}
"""The modules, and the tests of each in the order in which they are tried: tests/test_NAME.py."""
SWAPS = {
    "ReplaceBinaryOperator": "Add Sub, Sub Add, Mul Div, Div Mul, FloorDiv Div, BitAnd BitOr, BitOr BitAnd",
    "ReplaceComparisonOperator": "Eq NotEq, NotEq Eq, Is IsNot, IsNot Is, Lt LtE, Lt GtE, LtE Lt, LtE Gt, "
    "Gt GtE, Gt LtE, GtE Gt, GtE Lt",
    "ReplaceUnaryOperator": "Delete Not, Delete USub",
}
OPERATORS = [
    *("NumberReplacer", "AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "RemoveDecorator"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *(f"{kind}_{'_'.join(p.split())}" for kind, ps in SWAPS.items() for p in ps.split(",")),
]
"""Of cosmic-ray's: those whose mutants are mistakes that somebody could make, not type errors."""
OPTIONS = ["-q", "-p", "no:cacheprovider", "-m", "not slow and not vllm"]
PATIENCE = 300
"""Seconds after which a mutant that hangs counts as noticed."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="results/mutants.json")
    options = parser.parse_args()
    chosen = draw(options.count, options.seed)
    path = Path(options.output)
    tried = json.loads(path.read_text(encoding="utf-8"))["mutants"] if path.is_file() else []
    known = {(mutant["module"], mutant["change"]): mutant for mutant in tried}
    preload()
    with tempfile.TemporaryDirectory() as copy:
        copy_tree(copy)
        lines, done = lines_of_tests(copy), []
        for module, change, code in chosen:
            if (module, change) not in known:
                found = {"module": module, "change": change} | attempt(copy, lines, module, code)
                known[module, change] = found
                print(json.dumps(found), flush=True)
            done.append(known[module, change])
            killed = sum(mutant["killed"] for mutant in done)
            command = f"python -m tests.mutants --count {options.count} --seed {options.seed}"
            record = {"command": command, "count": len(done), "killed": killed, "mutants": done}
            write_json(path, record)
    print(f"{killed} of {len(done)} mutants noticed ({killed / len(done):.0%})")


def draw(count: int, seed: int) -> list[tuple[str, str, str]]:
    """`count` mutants: (module, the change as a diff, the mutated code); annotations are no code."""
    every = []
    for module in PLAN:
        code = (ROOT / module).read_text(encoding="utf-8")
        for name in OPERATORS:
            occurrence = 0
            operator = get_operator(f"core/{name}")()
            while (mutated := mutate_code(code, operator, occurrence)) is not None:
                if meaning(mutated) not in (None, meaning(code)):
                    every.append((module, change_of(module, code, mutated), mutated))
                occurrence += 1
    print(f"{len(every)} mutants, of which {count} are drawn")
    return random.Random(seed).sample(every, count)


def meaning(code: str) -> str | None:
    """Code without its annotations, to compare; None where it is none."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if getattr(node, "posonlyargs", None):  # the bare * of a signature is no product
            return None
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, ast.Constant(None))
    return ast.unparse(tree)


def change_of(module: str, code: str, mutated: str) -> str:
    """The lines that differ, with their place."""
    lines = difflib.unified_diff(code.splitlines(), mutated.splitlines(), module, module, "", "", 0)
    return "\n".join(list(lines)[2:])


def copy_tree(copy: str) -> None:
    """What the tests read, where mutants do no harm."""
    for name in ("proxy_tuning", "tests", "data", "docs", "results", "fine_tuned_model"):
        shutil.copytree(ROOT / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.ipynb"),
        ROOT / "README.md",
    ]:
        shutil.copy(path, copy)


def preload() -> None:
    """Import once what every test imports, and forget this package, which each imports mutated."""
    import hypothesis  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in ("proxy_tuning", "tests")]:
        if name != __name__:
            del sys.modules[name]


def lines_of_tests(copy: str) -> dict[str, dict[int, list[str]]]:
    """{module: {line: the tests that run it, the quickest first}}."""
    seconds, lines = {}, {module: {} for module in PLAN}
    for name in dict.fromkeys(name for names in PLAN.values() for name in names):
        if forked(copy, measure_lines, f"tests/test_{name}.py"):
            raise SystemExit(
                f"tests/test_{name}.py fails before anything is changed: mend it first."
            )
        found = json.loads(Path(copy, "lines.json").read_text(encoding="utf-8"))
        seconds |= found["seconds"]
        for module, number, tests in found["lines"]:
            lines[module].setdefault(number, []).extend(tests)
    for tests in [tests for of_module in lines.values() for tests in of_module.values()]:
        tests.sort(key=seconds.get)
    print(f"{len(seconds)} tests in {sum(seconds.values()):.0f} s", flush=True)
    return lines


def measure_lines(test: str) -> int:
    """Run a test file and write lines.json: seconds of its tests, and who ran which line."""
    import coverage
    import pytest

    measured, seconds = coverage.Coverage(data_file=None, include=list(PLAN)), {}

    class Tests:
        def pytest_runtest_logstart(self, nodeid):
            measured.switch_context(nodeid)

        def pytest_runtest_logreport(self, report):
            seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration

    measured.start()
    failed = pytest.main([*OPTIONS, test], plugins=[Tests()])
    measured.stop()
    data = measured.get_data()
    lines = [
        (str(Path(path).relative_to(Path.cwd())), number, [test for test in tests if test])
        for path in data.measured_files()
        for number, tests in data.contexts_by_lineno(path).items()
    ]
    write_json(Path("lines.json"), {"seconds": seconds, "lines": lines})
    return int(failed)


def attempt(copy: str, lines: dict, module: str, code: str) -> dict:
    """Try one mutant: whether and by which tests it was noticed, and the seconds it took."""
    original = Path(copy, module).read_text(encoding="utf-8")
    pairs = zip_longest(original.splitlines(), code.splitlines())
    changed = [number for number, (old, new) in enumerate(pairs, 1) if old != new]
    near = dict.fromkeys(test for line in changed for test in lines[module].get(line, ()))
    Path(copy, module).write_text(code, encoding="utf-8")
    begun, noticed = time.perf_counter(), None
    for tests in ([*near], *([f"tests/test_{name}.py"] for name in PLAN[module])):
        if tests and forked(copy, run, *tests):
            noticed = "those of its line" if tests == [*near] else tests[0]
            break
    Path(copy, module).write_text(original, encoding="utf-8")
    seconds = round(time.perf_counter() - begun, 1)
    return {"killed": noticed is not None, "by": noticed, "seconds": seconds}


def run(*tests: str) -> int:
    import pytest

    return int(pytest.main([*OPTIONS, "-x", *tests]))


def forked(copy: str, work, *tests: str) -> int:
    """What a process of its own in the copy ends with: not 0 if a test fails, hangs, or is none."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            signal.alarm(PATIENCE)
            os.chdir(copy)
            sys.path.insert(0, copy)
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            os._exit(work(*tests))
        finally:
            os._exit(99)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    main()
