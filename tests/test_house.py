"""The house: who may import whom, how long a file may be, and how seldom the formatter is off.

Who imports whom is read from the syntax tree.
"""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "proxy_tuning"
HOUSE = {
    "prompts": ["prompts"],
    "records": ["records"],
    "the line": ["logits"],
    "parts": ["parts", "loading", "learnt"],
    "model": ["config", "caches", "passes", "generation", "saving", "model"],
    "engines": ["engines"],
    "decoding": ["decoding"],
    "speculative": ["drafts", "speculative"],
    "families": ["families"],
    "answering": ["answering"],
    "serving": ["serving"],
    "remote": ["remote"],
    "bulk": ["bulk"],
    "polls": ["polls"],
    "training": ["training"],
    "evaluation": ["evaluation"],
    "widget": ["widget"],
    "notebooks": ["notebooks"],
    "commands": ["__main__", "commands"],
}
"""Room -> its files or folders. A room imports from itself and from those before it."""
CLOSED = {"polls": {"prompts", "records"}}
"""Rooms that see even less than what stands before them: polls know no model."""
LONGEST = 420
"""Lines in a file: what fits one head, with room to finish a sentence."""
SKIP = "fmt: " + "skip"


def room_of(module):
    """The room of a module by its name below the package; KeyError where it has none."""
    return {name: room for room, names in HOUSE.items() for name in names}[module.split(".")[0]]


def imported(source):
    """Modules of the package that a source imports, by their names below it: [(line, module)]."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "proxy_tuning":
            names = [f"proxy_tuning.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        for name in names:
            if name.startswith("."):
                raise ValueError(f"line {node.lineno} imports {name}: write the module's full name")
            if name.startswith("proxy_tuning."):
                found.append((node.lineno, name.removeprefix("proxy_tuning.")))
    return found


def wrong_arrows(sources):
    """A sentence for each import against the order of the house, of {module: source}."""
    rooms = list(HOUSE)
    for module, source in sources.items():
        room = room_of(module)
        for line, other in imported(source):
            try:
                its_room = room_of(other)
            except KeyError:
                yield f"{module}, line {line}: {other} is no file of the house; name its module"
                continue
            if rooms.index(its_room) > rooms.index(room):
                yield (
                    f"{module}, line {line}, imports {other}: the arrow from {room} to {its_room} "
                    f"goes the wrong way, for {its_room} stands after {room}"
                )
            elif its_room != room and its_room not in CLOSED.get(room, rooms):
                yield (
                    f"{module}, line {line}, imports {other}: {room} may import from "
                    f"{', '.join(sorted(CLOSED[room]))} alone"
                )


def package_sources():
    """{module: source} of the package, without its front door, which imports nothing at once."""
    sources = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        if module:
            sources[module] = path.read_text(encoding="utf-8")
    return sources


def files(*endings):
    """All files of the tree with these endings, the notebooks' import included."""
    yield from (path for path in ROOT.glob("*.py") if path.suffix in endings)
    for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "docs"):
        yield from (path for path in sorted(folder.rglob("*")) if path.suffix in endings)


def test_every_file_has_a_room():
    names = {module.split(".")[0] for module in package_sources()}
    rooms = {name for names in HOUSE.values() for name in names}
    assert names - rooms == set(), "give them a line in HOUSE, where their users come after them"
    assert rooms - names == set(), "HOUSE names what is not there"


def test_imports_follow_the_order_of_the_house():
    wrong = list(wrong_arrows(package_sources()))
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "module, source, said",
    [
        ("decoding", "from proxy_tuning.model import x", None),
        ("model", "import torch\nfrom proxy_tuning.passes import x", None),
        ("model", "\nfrom proxy_tuning.decoding import x", "line 2, imports decoding: the arrow"),
        ("logits", "import proxy_tuning.parts", "from the line to parts goes the wrong way"),
        ("training.a", "def f():\n    import proxy_tuning.widget.page", "training to widget"),
        ("polls.facts", "from proxy_tuning.records import DATA", None),
        ("polls.facts", "from proxy_tuning.families import x", "records alone"),
        ("widget.page", "from proxy_tuning import polls", None),
        ("polls.facts", "from proxy_tuning import widget", "polls to widget"),
        ("widget.page", "from proxy_tuning import load_family", "load_family is no file"),
    ],
)
def test_an_arrow_is_seen(module, source, said):
    wrong = list(wrong_arrows({module: source}))
    assert len(wrong) == (said is not None) and all(said in sentence for sentence in wrong)


def test_imports_name_their_module_in_full():
    with pytest.raises(ValueError, match="line 1 imports .facts: write the module's full name"):
        list(wrong_arrows({"polls.templates": "from .facts import x"}))


def test_no_file_is_too_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in files(".py", ".js", ".css")
    }
    too_long = {path: length for path, length in lengths.items() if length > LONGEST}
    assert not too_long, f"longer than {LONGEST} lines: {too_long}"


def test_the_formatter_is_seldom_switched_off():
    counts = {
        str(p.relative_to(ROOT)): p.read_text(encoding="utf-8").count(SKIP) for p in files(".py")
    }
    where = {path: count for path, count in counts.items() if count}
    assert sum(where.values()) < 10, where


@pytest.mark.parametrize("folder", ["benchmarks", "docs"])
def test_what_the_scripts_import_is_there(folder):
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("proxy_tuning"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    there = hasattr(module, alias.name) or importlib.util.find_spec(
                        f"{node.module}.{alias.name}"
                    )
                    assert there, f"{path.name}: {node.module} has no {alias.name}"
