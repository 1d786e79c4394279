"""A reader's own questions and answers: from a file to clean rows, with everything left out counted.

CSV, JSON lines and Parquet have a column of questions and one of answers. Plain text has passages
with blank lines between them, and every token of a passage is learnt.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from proxy_tuning.records import DATA, not_utf8, read_csv

GENERAL = DATA / "general_text.jsonl"
USUAL = {
    "question": ("question", "prompt", "instruction", "query"),
    "answer": ("answer", "response", "output", "completion"),
}  # names that columns are guessed by, the surest first
HELD_OUT = 0.1  # share of the questions that training never sees
LONGEST_CELL = (
    100_000  # characters; beyond, a quotation mark was left open rather than a text meant
)


def read_rows(path, question=None, answer=None):
    """Read a file into rows with columns question and answer, and print what was left out.

    Rows with an empty question or answer, and rows that are there already, are left out and
    counted. Columns that are not named are guessed by name, or as the first and second of two,
    and the guess is printed.

    Args:
        path: .csv (with a line of column names), .jsonl (an object per line) or .parquet; or .txt,
            passages with blank lines between them. UTF-8.
        question, answer: names of the columns; not for plain text.
    Returns a DataFrame of str; question is missing (None) in passages of plain text.
    Raises ValueError (OSError where it cannot be opened): kind, encoding or form of the file, a
    column that is not there, a cell that is no text or is over LONGEST_CELL characters, no rows.
    """
    path = Path(path)
    readers = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet, ".txt": read_text}
    kind = path.suffix.lower()
    if kind not in readers:
        raise ValueError(f"{path}: the kind {kind!r} is not one of {', '.join(readers)}")
    table = readers[kind](path)
    if kind == ".txt":
        if question or answer:
            raise ValueError(f"{path}: plain text has no columns to name")
        rows = table
    else:
        names = choose_columns(path, list(table.columns), question, answer)
        rows = pd.DataFrame(
            {what: as_text(path, table[name]) for what, name in names.items()}, dtype=object
        )
    empty = (rows == "").any(axis=1)
    twice = rows.duplicated() & ~empty
    kept = rows[~empty & ~twice].reset_index(drop=True)
    print(
        f"{path.name}: {len(rows)} rows; left out: {empty.sum()} with an empty question or "
        f"answer, {twice.sum()} duplicates; kept: {len(kept)}."
    )
    if kept.empty:
        raise ValueError(f"{path} has no rows to learn from")
    return kept


def read_jsonl(path):
    """One object per line; blank lines are skipped."""
    records = []
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number} is not an object in braces: {line[:40]}")
        records.append(record)
    return pd.DataFrame(records, dtype=object)


def read_parquet(path):
    """As pyarrow reads it."""
    with open(path, "rb"):  # a missing file is told as with the other kinds
        pass
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as Parquet: {said}") from None


def read_text(path):
    """Passages with blank lines between them; the lines of a passage are joined by spaces."""
    passages, lines = [], []
    for line in [*read_utf8(path).splitlines(), ""]:
        if line.strip():
            lines.append(line.strip())
        elif lines:
            passages.append(" ".join(lines))
            lines = []
    return pd.DataFrame({"question": None, "answer": passages}, dtype=object)


def read_utf8(path):
    """The text of a file; a byte order mark at its start is dropped."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None


def choose_columns(path, columns, question, answer):
    """{"question": column, "answer": column}: as named, else guessed, and the guess printed."""
    chosen = {"question": question, "answer": answer}
    columns = [str(column) for column in columns]
    for what, name in chosen.items():
        if name is not None and name not in columns:
            raise ValueError(f"{path} has no column {name!r}; it has {columns}")
        if name is None:
            matches = (c for usual in USUAL[what] for c in columns if c.strip().lower() == usual)
            chosen[what] = next(matches, None)
    if len(columns) == 2:
        rest = [column for column in columns if column not in chosen.values()]
        chosen = {what: name if name is not None else rest.pop(0) for what, name in chosen.items()}
    for what, name in chosen.items():
        if name is None:
            raise ValueError(
                f"{path}: which column is the {what}? It has {columns}; name it with --{what}"
            )
    if chosen["question"] == chosen["answer"]:
        raise ValueError(f"{path}: question and answer are both column {chosen['answer']!r}")
    if question is None or answer is None:
        print(
            f"Columns guessed: question = {chosen['question']!r}, answer = "
            f"{chosen['answer']!r}; --question and --answer name others."
        )
    return chosen


def as_text(path, column):
    """A column as stripped text, '' for missing cells; numbers are written out."""
    texts = []
    for number, value in enumerate(column, start=1):
        if isinstance(value, (list, dict, tuple, set, np.ndarray)):
            raise ValueError(
                f"{path}, row {number}: column {column.name!r} holds a "
                f"{type(value).__name__}; it needs text"
            )
        text = "" if pd.isna(value) else str(value).strip()
        if len(text) > LONGEST_CELL:
            raise ValueError(
                f"{path}, row {number}: column {column.name!r} has {len(text):,} characters, more "
                f"than {LONGEST_CELL:,}; is a quotation mark left open before it?"
            )
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise ValueError(
                f"{path}, row {number}: column {column.name!r} has half a character (a lone "
                "surrogate), which no tokenizer takes"
            )
        texts.append(text)
    return texts


def general_rows(path=GENERAL):
    """General text that M+ is kept quiet on: chats as questions with answers, and plain passages.

    Args: path, what `own_text` wrote.
    """
    records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    pairs = [record.get("chat") or (None, record["text"]) for record in records]
    return pd.DataFrame(pairs, columns=["question", "answer"], dtype=object)


def split_rows(rows, seed=0, share=HELD_OUT):
    """Set a share of the questions aside: (training, held out), at least one question in each.

    A question with all its answers goes to one side, whatever its spacing and capitals, so that
    no held-out question was trained on; passages without a question count by their own text.
    Raises ValueError where there are not two.
    """
    asked = rows["question"].fillna(rows["answer"])
    keys = asked.str.casefold().str.split().str.join(" ")
    different = pd.Series(sorted(keys.unique()))
    if len(different) < 2:
        raise ValueError(
            f"{len(different)} different question(s): at least two are needed, as a part is held out"
        )
    count = min(max(1, round(share * len(different))), len(different) - 1)
    held_out = keys.isin(different.sample(count, random_state=seed))
    return rows[~held_out].reset_index(drop=True), rows[held_out].reset_index(drop=True)
