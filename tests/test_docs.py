"""The pages of docs/: their links, the code they quote, what code prints for them, their figures."""

import inspect
import json
import re
from pathlib import Path

import pytest

from docs import diagrams, pairs
from proxy_tuning import load_family
from proxy_tuning.answering import answer_questions
from proxy_tuning.decoding import stream
from proxy_tuning.evaluation.reports import headline
from proxy_tuning.training.material import read_rows, split_rows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LATER = {"results", "fine_tuned_model"}  # written by commands, perhaps not yet


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    for link in links:
        if not link.startswith("http") and Path(link).name not in LATER:
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_overview():
    overview = (DOCS / "overview.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "overview.md" or f"]({page.name})" in overview


def test_the_loop_on_the_page_is_the_loop_in_the_code():
    """Every line that method.md quotes stands in `stream`, in this order; `...` leaves out."""
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\|.*\| `(.+)` \|$", page.split("| in words | in `stream` |")[1], re.M)
    rest = " ".join(inspect.getsource(stream).split())
    assert len(quoted) >= 10
    for code in quoted:
        for part in filter(None, map(str.strip, code.rstrip(")").split("..."))):
            assert part in rest, f"not in stream, or not at this place: {code}"
            rest = rest.split(part, 1)[1]


def test_the_table_of_pairs_is_what_the_code_prints():
    assert pairs.table() in (DOCS / "pairs.md").read_text(encoding="utf-8")


def test_a_cache_is_as_large_as_reckoned():
    """A tiny Llama's real cache after 7 tokens, against the formula."""
    import torch
    from conftest import tiny_model

    model = tiny_model("llama", 0)
    cache = model(torch.ones(1, 7, dtype=torch.long)).past_key_values
    real = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    shapes = pairs.llama(32, 2, 4, 2, 64, 97)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairs.SHAPES, "tiny", shapes)
        assert pairs.cache_bytes("tiny", tokens=7) == pairs.BYTES * real
        assert pairs.parameters("tiny") == model.num_parameters()


def test_the_worked_example_prints_what_its_page_says(capsys):
    rows = read_rows(DOCS / "examples" / "bakery.csv", "asked", "said")
    training, held_out = split_rows(rows)
    page = (DOCS / "your_own_data.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page
    assert f"{len(training)} rows to learn from, {len(held_out)} held out by question." in page
    assert set(held_out["answer"]) <= set(training["answer"])  # each fact is also trained on


def test_the_report_of_the_readme_is_the_headline_of_the_results():
    results = json.loads((ROOT / "results" / "pocket.json").read_text(encoding="utf-8"))
    assert headline(results) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_says_what_the_models_say():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    question = re.search(r'answer --family pocket "(.+)"', page)[1]
    model, tokenizer = load_family("pocket")
    (said,) = answer_questions(model, tokenizer, [question])
    for who, answer in said.items():
        assert answer in page, who


def test_figures_are_written(tmp_path):
    diagrams.write(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} <= {f.name for f in (DOCS / "images").iterdir()}
    assert all(b"<svg" in f.read_bytes() for f in tmp_path.iterdir())
