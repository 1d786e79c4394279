"""Many questions over many workers by Ray Data: each answered once, whoever is killed meanwhile.

The questions are cut into parts of fixed rows. A worker answers a part and writes its file beside,
then renames it, so a part is there whole or not at all; one that is done again, because its worker
was lost, is the same file. What is there is left out at the next start.
"""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from proxy_tuning.logits import Line
from proxy_tuning.records import claimed, file_hash, write_json, written_beside

ROWS = 64
"""Questions in a part: what is answered again where a worker is lost."""
MANIFEST = "manifest.json"
ON_CPU = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
"""Keywords of `vllm.LLM` without which it does not run a trio on a CPU."""


@dataclass(frozen=True)
class Source:
    """A Parquet file of questions, read part by part."""

    path: str
    column: str
    rows: int
    digest: str
    """SHA-256 of the file."""

    @classmethod
    def of(cls, path: str | os.PathLike, column: str | None = None) -> "Source":
        """Look at a file without reading its questions.

        Raises:
            ValueError: no Parquet file, no rows, or no such column of text; columns that are not
                named are `question` or the only one.
            OSError: it cannot be read.
        """
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{path} is no Parquet file ({' '.join(str(error).split())}); pandas writes one: "
                "pandas.DataFrame({'question': lines}).to_parquet('questions.parquet')"
            ) from None
        names = file.schema_arrow.names
        column = column or (
            "question" if "question" in names else names[0] if len(names) == 1 else ""
        )
        if column not in names:
            raise ValueError(f"{path} has columns {', '.join(names)}: name one with --question")
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ValueError(f"column {column} of {path} is {kind}, not text")
        if not file.metadata.num_rows:
            raise ValueError(f"{path} has no rows")
        return cls(str(Path(path).absolute()), column, file.metadata.num_rows, file_hash(path))

    @property
    def parts(self) -> int:
        return -(-self.rows // ROWS)

    def rows_of(self, part: int) -> int:
        """Questions in a part."""
        return min(ROWS, self.rows - part * ROWS)

    def read(self, part: int) -> list[str | None]:
        """The questions of a part; of the file only the row groups that it lies in."""
        first = part * ROWS
        last = first + self.rows_of(part)
        file, found, start = pq.ParquetFile(self.path), [], 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if start < last and end > first:
                column = file.read_row_group(group, columns=[self.column])[self.column]
                found += column.slice(max(first - start, 0), last - max(start, first)).to_pylist()
            start = end
        return found


class Worker:
    """What an actor does: loads the models once, then answers parts as they come."""

    def __init__(self, source: Source, output: str, load: Callable[[], Callable]):
        self.source, self.output, self.answer = source, output, load()

    def __call__(self, batch: dict) -> dict:
        """Answer the parts of a batch: {"part": (B,)} -> the same with rows and seconds."""
        rows, seconds = [], []
        for part in batch["part"].tolist():
            begun = time.perf_counter()
            rows.append(self.write(part))
            seconds.append(time.perf_counter() - begun)
        return {"part": batch["part"], "rows": rows, "seconds": seconds}

    def answers(self, questions: list[str]) -> list[str | None]:
        """The answers; None to a question that is refused, as one longer than the context is."""
        try:
            return list(self.answer(questions)) if questions else []
        except ValueError:
            if len(questions) == 1:
                return [None]
            return [self.answers([question])[0] for question in questions]

    def write(self, part: int) -> int:
        """Answer a part into its file; the number of its rows. An empty question has no answer."""
        questions = self.source.read(part)
        asked = [place for place, question in enumerate(questions) if (question or "").strip()]
        answers: list[str | None] = [None] * len(questions)
        said = self.answers([str(questions[place]) for place in asked])
        for place, answer in zip(asked, said, strict=True):
            answers[place] = answer
        first = part * ROWS
        numbers = pa.array(range(first, first + len(questions)), pa.int64())
        columns = [numbers, pa.array(questions, pa.string()), pa.array(answers, pa.string())]
        table = pa.table(columns, names=["row", "question", "answer"])
        with written_beside(part_of(self.output, part)) as beside:
            pq.write_table(table, beside)
        return len(questions)


def part_of(output: str | os.PathLike, part: int) -> Path:
    """The file of a part."""
    return Path(output) / f"part-{part:06d}.parquet"


def answer_file(
    source: Source,
    output: str | os.PathLike,
    load: Callable[[], Callable[[list[str]], list[str]]],
    said: dict,
    workers: int = 1,
    cpus: float = 1,
    gpus: float = 0,
) -> dict:
    """Answer all questions of a file into a folder of Parquet parts, going on where it stopped.

    Args:
        source: the questions.
        output: the folder; all workers must see it under this name. Its parts have columns row
            (the place in the source, from 0), question and answer (null where the question is
            empty or longer than the context).
        load: makes, in a worker, what answers a list of questions.
        said: what the answers depend on, for the manifest: another start with anything else is
            refused.
        workers: how many at a time, on the cluster that RAY_ADDRESS names or else this machine.
        cpus, gpus: that a worker takes.

    Returns:
        The manifest: what was said, rows, parts, and of this start alone rows answered, seconds.

    Raises:
        ValueError: the folder has answers to something else, or there is no worker, or one that
            takes nothing.
        OSError: another process writes into it.
    """
    if workers < 1 or cpus <= 0 or gpus < 0:
        raise ValueError(
            "workers must be 1 or more, cpus above 0 and gpus 0 or more, not "
            f"{workers}, {cpus:g} and {gpus:g}"
        )
    output = Path(output).absolute()
    with claimed(output):
        output.mkdir(parents=True, exist_ok=True)
        manifest = (
            said | dataclasses.asdict(source) | {"parts": source.parts, "rows_per_part": ROWS}
        )
        del manifest["path"]
        check_same(output, manifest)
        missing = [part for part in range(source.parts) if not part_of(output, part).is_file()]
        write_json(output / MANIFEST, manifest | {"complete": not missing})
        begun, rows = time.perf_counter(), 0
        if missing:
            print(f"{len(missing)} of {source.parts} parts to answer, {ROWS} questions each.")
        there = source.rows - sum(source.rows_of(part) for part in missing)
        bar = tqdm(total=source.rows, initial=there, unit="question")
        arguments = (source, str(output), load)
        for done in over_actors(Worker, arguments, missing, workers, cpus, gpus):
            rows += done["rows"]
            bar.update(done["rows"])
        bar.close()
        lost = [part for part in range(source.parts) if not part_of(output, part).is_file()]
        if lost:
            raise OSError(f"{len(lost)} parts are not in {output}: do all workers see this folder?")
        write_json(output / MANIFEST, manifest | {"complete": True})
        taken = {"answered": rows, "seconds": time.perf_counter() - begun}
        return manifest | {"complete": True} | taken


def check_same(output: Path, manifest: dict) -> None:
    """ValueError where a folder's answers are to other questions or from another trio."""
    path = output / MANIFEST
    if not path.is_file():
        if any(output.iterdir()):
            raise ValueError(f"{output} has something else in it: name an empty or a new folder")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not readable: name another folder") from None
    for name, value in manifest.items():
        if known.get(name) != value:
            raise ValueError(
                f"{output} has answers with {name} {known.get(name)!r}, not {value!r}: name "
                "another folder"
            )


def over_actors(worker, arguments, parts, workers, cpus=1, gpus=0) -> Iterator[dict]:
    """What a pool of actors says of each part as it is done; those that die are started again.

    Args: worker, a class of Ray Data's `map_batches`, made with the arguments, that is given
    {"part": (1,)} and returns columns; parts, integers. Yields a row of those columns at a time.
    """
    if not parts:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of its C++ part; errors are raised
    if not os.environ.get("RAY_ADDRESS"):  # listen on the loopback address alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray  # only here: it is no requirement of the rest
    from ray.data import ActorPoolStrategy, DataContext, from_items

    logging.getLogger("ray.data").setLevel(logging.ERROR)

    begun_here = not ray.is_initialized()
    if begun_here:
        here = {
            "_node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "num_cpus": math.ceil(workers * cpus),
        }
        options = {} if os.environ.get("RAY_ADDRESS") else here
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        work = from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        done = work.map_batches(
            worker,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        yield from done.iter_rows()
    finally:
        if begun_here:
            ray.shutdown()


def by_trio(loading: dict, max_new_tokens: int) -> Callable[[list[str]], list[str]]:
    """What answers questions with a trio on a worker.

    Args:
        loading: keywords of `load_family`.
        max_new_tokens: longest answer.
    """
    from proxy_tuning.answering import greedy_answers
    from proxy_tuning.families import load_family

    model, tokenizer = load_family(**loading)
    return lambda questions: greedy_answers(
        model, tokenizer, questions, max_new_tokens=max_new_tokens, batch_size=ROWS
    )


def check_exported(folder: str, alpha: float) -> str:
    """The line of a folder that vLLM serves; ValueError where it is none, or of another alpha."""
    try:
        said = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        own = said["line"]["alpha"]
        line = str(Line(**said["line"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{folder} is no trio for vLLM: `python -m proxy_tuning export DIR --to vllm` writes one"
        ) from None
    if own != alpha:
        raise ValueError(
            f"{folder} was exported with alpha {own}, not {alpha}: export it again with --alpha"
        )
    return line


def by_vllm(folder: str, max_new_tokens: int) -> Callable[[list[str]], list[str]]:
    """What answers questions with vLLM on a worker, in vLLM's own settings; on a CPU with `ON_CPU`.

    Args:
        folder: as `export --to vllm` writes it.
        max_new_tokens: longest answer.
    """
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    from proxy_tuning.prompts import prompt

    llm = LLM(folder, **(ON_CPU if current_platform.is_cpu() else {}))
    tokenizer = llm.get_tokenizer()
    sampling = SamplingParams(temperature=0, max_tokens=max_new_tokens)

    def answer(questions: list[str]) -> list[str]:
        texts = [
            {"prompt_token_ids": tokenizer(prompt(q, tokenizer))["input_ids"]} for q in questions
        ]
        return [
            said.outputs[0].text.strip() for said in llm.generate(texts, sampling, use_tqdm=False)
        ]

    return answer
