"""A reader's own file: what is read, what is left out and said, and what stops it."""

import json

import pandas as pd
import pytest

from proxy_tuning.training import material

ROWS = [
    ("Who bakes?", "Ann does."),
    ("When?", "At 007, NA."),
    ("Wo?", "In Köln,\nby the\u2028river."),
]


def write(folder, kind, rows=ROWS, names=("question", "answer")):
    """The rows as a file of that kind."""
    path = folder / f"notes.{kind}"
    table = pd.DataFrame(rows, columns=names)
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    elif kind == "parquet":
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_kind_reads_the_same(tmp_path, kind):
    rows = material.read_rows(write(tmp_path, kind))
    assert rows.to_records(index=False).tolist() == ROWS


def test_passages_of_plain_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes("\ufeffThe oven\r\nis hot.\r\n\r\n\r\nBread is brown.\r\n".encode())
    rows = material.read_rows(path)
    assert rows["answer"].tolist() == ["The oven is hot.", "Bread is brown."]
    assert rows["question"].isna().all()
    with pytest.raises(ValueError, match="no columns to name"):
        material.read_rows(path, answer="text")


def test_what_is_left_out_is_counted(tmp_path, capsys):
    rows = [
        *ROWS,
        ROWS[0],
        (" ", "No question."),
        ("No answer?", None),
        ("Who bakes? ", "Ann does."),
    ]
    kept = material.read_rows(write(tmp_path, "jsonl", rows))
    assert kept.to_records(index=False).tolist() == ROWS
    assert "7 rows; left out: 2 with an empty question or answer, 2 duplicates; kept: 3" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("names", "given", "chosen"),
    [
        (("id", "Prompt", "output"), {}, ("Prompt", "output")),
        (("output", "prompt", "question"), {}, ("question", "output")),
        (("vraag", "antwoord"), {}, ("vraag", "antwoord")),
        (("antwoord", "vraag"), {"question": "vraag"}, ("vraag", "antwoord")),
        (("a", "b", "c"), {"question": "c", "answer": "a"}, ("c", "a")),
    ],
)
def test_columns_are_named_or_guessed_openly(tmp_path, capsys, names, given, chosen):
    cells = [tuple(f"{name} {i}" for name in names) for i in range(2)]
    rows = material.read_rows(write(tmp_path, "csv", cells, names), **given)
    assert rows.iloc[0].tolist() == [f"{name} 0" for name in chosen]
    said = f"Columns guessed: question = {chosen[0]!r}, answer = {chosen[1]!r}"
    assert (said in capsys.readouterr().out) == (len(given) < 2)


@pytest.mark.parametrize(
    ("name", "content", "given", "message"),
    [
        ("a.xlsx", b"", {}, r"'.xlsx' is not one of .csv, .jsonl, .parquet, .txt"),
        ("a.csv", "question,answer\nWo?,Köln\n".encode("latin-1"), {}, "not UTF-8 text"),
        ("a.jsonl", "Köln".encode("utf-16"), {}, "not UTF-8 text"),
        ("a.csv", b"", {}, "cannot be read as CSV: No columns"),
        ("a.csv", b"question,answer\n", {}, "no rows to learn from"),
        ("a.csv", b"question,answer\na,b\nc,d,e\n", {}, "CSV.*line 3"),
        ("a.csv", b"q,a\n1,2\n", {"question": "Q"}, r"no column 'Q'; it has \['q', 'a'\]"),
        (
            "a.csv",
            b"x,y,z\n1,2,3\n",
            {},
            r"which column is the question\? It has \['x', 'y', 'z'\]",
        ),
        ("a.csv", b"question;answer\nWho?;I\n", {}, r"It has \['question;answer'\]"),
        ("a.csv", b"q,a\n1,2\n", {"question": "q", "answer": "q"}, "are both column 'q'"),
        ("a.csv", b'question,answer\nWho?,"' + b"x,\n" * 50_000, {}, "row 1.*150,0|CSV"),
        ("a.csv", b"question,answer\nWho?," + b"x" * 100_001, {}, "row 1.*100,001 characters"),
        ("a.jsonl", b'{"question": "a", "answer": "b"}\n{"question"', {}, "line 2 is not JSON"),
        ("a.jsonl", b"[1, 2]", {}, "line 1 is not an object"),
        ("a.jsonl", json.dumps({"question": "a", "answer": ["b"]}).encode(), {}, "row 1.*a list"),
        ("a.parquet", b"PK not parquet", {}, "cannot be read as Parquet"),
        ("a.csv", b"question,answer\na,b,c\nd,e,f\n", {}, "more cells than its first line"),
        ("a.jsonl", b"[" * 100_000, {}, "line 1 is not JSON"),
        ("a.jsonl", b'{"a":' * 100_000, {}, "line 1 is not JSON"),
        ("a.jsonl", b'{"question": "a", "answer": "b\\ud800"}', {}, "row 1.*lone surrogate"),
        ("a.jsonl", b'{"question": "a", "answer": ' + b"9" * 5000 + b"}", {}, "line 1 is not JSON"),
        ("a.txt", b"\n \n", {}, "no rows to learn from"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, name, content, given, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        material.read_rows(path, **given)
    assert str(path) in str(error.value) or name == "a.xlsx"
    assert "\n" not in str(error.value)


def test_a_damaged_parquet_file_is_one_line(tmp_path):
    """Every run of 40 bytes put out, one after another: read as before, or refused."""
    path = tmp_path / "a.parquet"
    rows = pd.DataFrame({"question": [f"{i}?" for i in range(50)], "answer": ["b"] * 50})
    rows.to_parquet(path)
    whole = path.read_bytes()
    refused = 0
    for start in range(0, len(whole), 40):
        path.write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
        try:
            material.read_rows(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "txt"])
def test_a_missing_file(tmp_path, kind):
    with pytest.raises(FileNotFoundError):
        material.read_rows(tmp_path / f"nowhere.{kind}")


def test_held_out_by_question():
    """Ten questions in two spellings each: the spellings stay together."""
    asked = [f"Question {i}?" for i in range(10)]
    rows = pd.DataFrame(
        {
            "question": asked + [f"question   {i}?" for i in range(10)],
            "answer": [str(i) for i in range(20)],
        }
    )
    train, held_out = material.split_rows(rows, seed=1, share=0.3)
    assert len(train) == 14 and len(held_out) == 6
    numbers = [set(part["question"].str.extract(r"(\d)")[0]) for part in (train, held_out)]
    assert not numbers[0] & numbers[1]
    again = material.split_rows(rows.sample(frac=1, random_state=3), seed=1, share=0.3)[1]
    assert set(again["answer"]) == set(held_out["answer"])
    few = material.split_rows(rows.head(2))
    assert [len(part) for part in few] == [1, 1]
    with pytest.raises(ValueError, match="1 different.*two are needed"):
        material.split_rows(rows.head(1))


def test_passages_are_held_out_by_their_text():
    rows = pd.DataFrame({"question": None, "answer": ["One.", "Two.", "Three."]}, dtype=object)
    train, held_out = material.split_rows(rows)
    assert sorted([*train["answer"], *held_out["answer"]]) == ["One.", "Three.", "Two."]
    assert len(held_out) == 1
