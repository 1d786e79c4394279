"""Whatever is put in: a reader, a configuration or the page gives a result or one clear ValueError.

hypothesis draws the inputs: a short, fixed draw in `make test`, a long one in `make test-all`
(HYPOTHESIS_PROFILE=long).
"""

import contextlib
import json
import os
import string
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_tuning.logits import Line
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.marks import mark_numbers, ticks, verdict
from proxy_tuning.polls.reading import LONGEST, read_question
from proxy_tuning.polls.sources import rows_of
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import write_json
from proxy_tuning.saving import check_config
from proxy_tuning.training.material import read_rows
from proxy_tuning.widget.asking import LIMITS, Ask

TABLES = load_facts(Path(__file__).parents[1] / "data")
common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("short", max_examples=40, derandomize=True, database=None, **common)
settings.register_profile("long", max_examples=1500, database=None, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

WORDS = (
    "who led won trump harris biden kennedy texas ohio PA nationally polls october 2024 2020 '16 july "
    "1.7 50% closest and or vs did was the between over of tied Georgia Washington DC jul 4 -3 1e9"
).split()
typed = st.one_of(
    st.text(max_size=120), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def one_line(error):
    """That a message is one line that says something."""
    assert str(error).strip() and "\n" not in str(error), str(error)


@contextlib.contextmanager
def or_one_line(*others):
    try:
        yield
    except (ValueError, *others) as error:
        one_line(error)


@given(question=typed, answer=typed)
def test_any_question_is_read_and_any_answer_marked(question, answer):
    asked = read_question(question, TABLES)
    facts = look_up(asked, TABLES)
    pieces = mark_numbers(answer, asked, facts)
    assert "".join(piece.text for piece in pieces) == answer
    verdict(answer, asked, facts)
    if asked.kind is None or asked.unplaced:
        assert ticks(answer, asked, facts) == []


@given(question=st.text(min_size=LONGEST + 1, max_size=LONGEST + 50))
def test_what_is_too_long_is_not_read(question):
    assert read_question(question, TABLES).kind is None


@given(
    question=scalars | typed,
    chosen=st.fixed_dictionaries({name: scalars | st.integers(-1, 3) for name in LIMITS}),
)
def test_an_ask_is_within_its_limits_or_refused(question, chosen):
    with or_one_line():
        ask = Ask(question, **chosen)
        assert ask.question == " ".join(ask.question.split()) != ""
        for name, (low, high) in LIMITS.items():
            assert low <= getattr(ask, name) <= high


@given(fields=st.dictionaries(st.sampled_from(sorted(Line.__dataclass_fields__)), scalars))
def test_a_line_is_finite_or_refused(fields):
    with or_one_line():
        line = Line(**fields)
        logits = torch.tensor([[0.0, 1.0, -1.0]])
        steered = line(logits, [logits + 1], [logits], [line.alpha])
        assert not steered.isnan().any() and steered.max() > -torch.inf


@given(text=st.text(st.sampled_from(string.ascii_lowercase + "=.,_ 0123456789-"), max_size=40))
def test_words_of_a_line_are_read_or_refused(text):
    with or_one_line():
        assert isinstance(Line.of(text), Line)


FIELDS = ("vocab_size", "expert_prefix", "antiexpert_prefix", "line", "parts")


@given(edited=st.dictionaries(st.sampled_from(FIELDS), anything, min_size=1))
def test_an_edited_configuration_is_right_or_refused_with_the_field(edited):
    whole = {
        "vocab_size": 97,
        "expert_prefix": [],
        "antiexpert_prefix": None,
        "line": None,
        "parts": {"base": {}, "expert": {}, "antiexpert": {}},
    }
    try:
        check_config(SimpleNamespace(**whole | edited))
    except ValueError as error:
        one_line(error)
        words = {*edited, *Line.__dataclass_fields__}
        assert any(word in str(error) for word in words), error


KINDS = st.sampled_from([".csv", ".jsonl", ".parquet", ".txt", ".docx", ""])
tables = st.lists(
    st.dictionaries(st.sampled_from(["question", "answer", "q", "a"]), scalars, min_size=1),
    min_size=1,
    max_size=4,
)


@given(content=st.binary(max_size=200), kind=KINDS)
def test_any_bytes_are_rows_or_refused(tmp_path, content, kind):
    path = tmp_path / f"rows{kind}"
    path.write_bytes(content)
    with or_one_line(OSError):
        rows = read_rows(path)
        assert len(rows) and (rows["answer"].str.strip() != "").all()


@given(rows=tables, kind=st.sampled_from([".csv", ".jsonl"]))
def test_any_table_keeps_its_cells_or_is_refused(tmp_path, rows, kind):
    path = tmp_path / f"rows{kind}"
    if kind == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8", "surrogatepass")
    with or_one_line(OSError):
        found = read_rows(path)
        assert 0 < len(found) <= len(rows)
        assert not found.duplicated().any()


@given(content=st.binary(max_size=200))
def test_any_bytes_are_cells_of_a_csv_file_or_refused(tmp_path, content):
    path = tmp_path / "polls.csv"
    path.write_bytes(content)
    with or_one_line(OSError):
        assert len(rows_of(path))


@given(content=anything)
def test_json_is_written_whole_or_not_at_all(tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text("{}")
    with contextlib.suppress(ValueError, UnicodeEncodeError):
        write_json(path, content)
    json.loads(path.read_text(encoding="utf-8"))
    assert [each.name for each in tmp_path.iterdir()] == ["figures.json"]
