"""What each command of `python -m proxy_tuning` does with its options, as `__main__` parses them."""

import json
import shlex
import sys
import time
from pathlib import Path

PARTS = ("base", "antiexpert", "expert")
OF_RECIPE = ("max_facts", "epochs", "learning_rate", "rehearsal", "consistent", "seed")
OF_BULK = ("workers", "cpus", "gpus", "question")  # of answers into a folder
OF_TRIO = ("top", "ahead", "nudge", "spread")  # of a base behind an API
OF_API = (*OF_TRIO, "max_requests", "max_tokens", "cache", "dry_run")
LOADING = ("dtype", "device_map", "engine", "draft")  # keywords of `load_family`


def build_data(options):
    from proxy_tuning.polls.tables import build_data

    build_data(options.raw, options.output)


def finetune(options):
    """Polls, or the reader's own file; options that do not go together are refused at once."""
    if options.data is None and (options.question or options.answer):
        raise ValueError("--question and --answer name columns of --data FILE")
    if options.data and options.max_facts is not None:
        raise ValueError("--max-facts is for the polls, not for --data")
    if options.expert is None and options.antiexpert:
        raise ValueError("an own --antiexpert needs --expert DIR, the folder for M+")
    from proxy_tuning.training.material import read_rows

    rows = read_rows(options.data, options.question, options.answer) if options.data else None

    import dataclasses

    from proxy_tuning.families import FAMILIES, resolve_family
    from proxy_tuning.records import TUNED
    from proxy_tuning.training.finetune import finetune
    from proxy_tuning.training.recipes import choose_recipe

    name = family = options.family
    if options.antiexpert is None:
        family = resolve_family(family, need_expert=False)
        name = family.name
    recipe = choose_recipe(name, rows is not None, options.lora)
    recipe = dataclasses.replace(recipe, **given(options, OF_RECIPE))
    output = options.expert
    if rows is not None and output is None:
        output = TUNED / Path(options.data).stem
        if output.name in FAMILIES:
            raise ValueError(f"{output} is for a family: name another folder with --expert")
    own = given(options, ("antiexpert", "base", "start"))
    finetune(family, recipe, output, rows=rows, **own)


def given(options, names):
    """Those of the named options that were given, as keywords."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def load(options):
    """(name, model, tokenizer) of the trio that the options ask for; the name is for the record."""
    from proxy_tuning.families import load_family, resolve_family
    from proxy_tuning.parts import check_devices

    check_devices(options.device_map)
    line = line_of(options)
    parts, family = given(options, PARTS), options.family
    if len(parts) < len(PARTS):
        family = resolve_family(family, need_expert="expert" not in parts)
    model, tokenizer = load_family(
        family, alpha=options.alpha, line=line, **parts, **given(options, LOADING)
    )
    return "own" if parts else family.name, model, tokenizer


def line_of(options):
    """The `Line` that --line names; None, which is the family's own, without."""
    from proxy_tuning.logits import Line

    return None if options.line is None else Line.of(options.line)


def read_questions(options):
    """The questions of the command line, or one per line of --file; - is standard input."""
    if options.file is None:
        return options.questions
    if options.questions:
        raise ValueError("questions and --file are two ways to ask: choose one")
    if options.file == "-":
        text = sys.stdin.read()
    else:
        text = Path(options.file).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def answer(options):
    import contextlib

    if options.output:
        answer_in_bulk(options)
        return
    if stray := [f"--{name}" for name in given(options, OF_BULK)]:
        raise ValueError(f"{', '.join(stray)} needs --output DIR")
    questions = read_questions(options)
    if not questions or not all(map(str.strip, questions)):
        raise ValueError("no question: name one, or --file with one per line")
    if (options.base or "").startswith("openai:"):
        answer_over_api(options, questions)
        return
    if stray := [f"--{name.replace('_', '-')}" for name in given(options, OF_API)]:
        raise ValueError(f"{', '.join(stray)} is for a --base openai:MODEL@URL alone")
    from proxy_tuning.answering import answer_questions

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for answers alone
        family, model, tokenizer = load(options)
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


def answer_in_bulk(options):
    """Questions of a Parquet file into a folder of answers, by workers that may be killed."""
    import functools

    if options.questions or options.file is None:
        raise ValueError("--output DIR needs --file QUESTIONS.parquet, and no other questions")
    if (options.base or "").startswith("openai:"):
        raise ValueError(f"{options.base} answers one by one, without --output")
    from proxy_tuning.bulk import Source, answer_file, by_trio, by_vllm, check_exported
    from proxy_tuning.drafts import check_draft
    from proxy_tuning.engines import check_engine
    from proxy_tuning.families import resolve_family
    from proxy_tuning.logits import PLAIN, Line
    from proxy_tuning.records import file_hash

    if stray := given(options, OF_API):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in stray)
        raise ValueError(f"{names} is for a --base openai:MODEL@URL alone")
    if options.engine != "vllm":
        check_engine(options.engine or "torch")
        check_draft(options.draft or "auto")
    elif stray := given(options, (*LOADING[:2], "draft", "line")):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in stray)
        raise ValueError(f"{names} is not for --engine vllm, which takes what was exported")
    Line(alpha=options.alpha)
    if options.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens needs to be at least 1, not {options.max_new_tokens}")
    source = Source.of(options.file, options.question)
    said = {"alpha": options.alpha, "line": options.line or ""}
    said |= {"max_new_tokens": options.max_new_tokens}
    parts = given(options, PARTS)
    if options.engine == "vllm":
        if set(parts) != {"base"}:
            raise ValueError(
                "--engine vllm takes --base DIR, which `export --to vllm` wrote, alone"
            )
        said["line"] = check_exported(options.base, options.alpha)
        load = functools.partial(by_vllm, options.base, options.max_new_tokens)
        said |= parts | {"engine": "vllm"}
        weights = Path(options.base).rglob("*.safetensors")
    else:
        family = resolve_family(options.family, need_expert="expert" not in parts)
        loading = given(options, LOADING)
        said |= {"family": family.name} | parts | loading
        folders = {"expert": family.expert} | parts
        weights = [path for each in folders.values() for path in Path(each).glob("*.safetensors")]
        loading |= {"name": family, "alpha": options.alpha, "line": line_of(options)}
        if options.line is None and not options.expert and family.line != PLAIN:
            said["line"] = str(family.line)
        load = functools.partial(by_trio, loading | parts, options.max_new_tokens)
    said["weights"] = [file_hash(path) for path in sorted(weights)]
    done = answer_file(
        source,
        options.output,
        load,
        said,
        **given(options, ("workers", "cpus", "gpus")),
    )
    print(
        f"{source.rows} questions in {source.parts} parts in {options.output}; "
        f"{done['answered']} answered now, in {done['seconds']:.0f} s."
    )


def answer_over_api(options, questions):
    """Answers of a base behind an API, alone and steered, one by one as they are paid for."""
    import contextlib

    local = ("--engine, --draft, --line", (options.engine, options.draft, options.line))
    if any(local[1]):
        raise ValueError(f"{local[0]} are for a base on this machine, not for {options.base}")
    from proxy_tuning.families import load_family, resolve_family
    from proxy_tuning.remote.endpoint import CACHE, Budget, Endpoint
    from proxy_tuning.remote.steering import RemoteTrio, dry_run

    most = given(options, ("max_requests", "max_tokens"))
    budget = Budget(most.get("max_requests", 1000), most.get("max_tokens", 1_000_000))
    endpoint = Endpoint(options.base, budget, options.cache or CACHE)
    with contextlib.redirect_stdout(sys.stderr):
        parts, gate = given(options, ("antiexpert", "expert")), None
        if "antiexpert" not in parts:
            family = resolve_family(options.family, need_expert="expert" not in parts)
            gate = None if "expert" in parts else family.line.gate
            parts = {"expert": family.expert, "antiexpert": family.antiexpert} | parts
        loading = given(options, ("dtype", "device_map"))
        proxies, tokenizer = load_family(base=parts["antiexpert"], **parts, **loading)
        trio = RemoteTrio(
            endpoint, proxies, tokenizer, options.alpha, gate=gate, **given(options, OF_TRIO)
        )
    if options.dry_run:
        print(json.dumps(dry_run(trio, questions, options.max_new_tokens), indent=1))
        return
    trio.check_tokenizer()
    try:
        for question in questions:
            said = trio.answer(question, options.max_new_tokens)
            if options.json:
                print(json.dumps(said | {"base_model": options.base, "alpha": options.alpha}))
            else:
                print(
                    f"{question}\n  M            {said['base']}\n  proxy-tuned  {said['steered']}"
                    f"\n  {said['tokens']} tokens by {said['requests']} "
                    f"request{'s' * (said['requests'] > 1)}, "
                    f"{said['certain']} of them certain; visible mass {said['visible_mass']:.3f}"
                )
            sys.stdout.flush()
    finally:
        print(
            f"{budget.requests} requests sent, {budget.tokens} tokens; {budget.cached} answered "
            "from the cache.",
            file=sys.stderr,
        )


def evaluate(options):
    """Polls, or the reader's own file, or tasks of lm-evaluation-harness."""
    if options.data is None and (options.question or options.answer):
        raise ValueError("--question and --answer name columns of --data FILE")
    if options.tasks and options.draft not in (None, "none"):
        raise ValueError("--draft is not for --tasks: the harness decodes with generate")
    if options.tasks and options.workers != 1:
        raise ValueError("--workers is not for --tasks: the harness has its own loop")
    if options.data and options.tasks:
        raise ValueError("--data and --tasks are two things to measure: name one")
    if options.tasks and (options.direct or options.experts):
        raise ValueError("--direct and --experts are not for --tasks: it measures one trio")
    if options.sets is not None and (options.tasks or options.data):
        raise ValueError("--sets are questions about the polls: leave out --tasks and --data")
    if options.answers and options.sets is None:
        raise ValueError("--answers keeps the answers to --sets N: name it, too")
    from proxy_tuning.training.material import read_rows

    rows = read_rows(options.data, options.question, options.answer) if options.data else None

    from proxy_tuning.evaluation.asked_sets import Sets
    from proxy_tuning.evaluation.evaluate import evaluate
    from proxy_tuning.evaluation.poll_task import polls_task
    from proxy_tuning.evaluation.reports import drafts_table, markdown, reports_of
    from proxy_tuning.evaluation.task import own_task, trained_part
    from proxy_tuning.polls.tables import load_facts
    from proxy_tuning.records import DATA, write_json
    from proxy_tuning.training.recipes import recipe_of

    options.line = options.line or ""  # rows are of the line that is named
    family, model, tokenizer = load(options)
    sets = None
    said = {"command": shlex.join(["python", "-m", "proxy_tuning", *sys.argv[1:]])}
    said |= given(options, PARTS)
    if rows is not None:
        folder = model.sources["expert"]
        trained = trained_part(rows, folder, model.expert, tokenizer)
        task = own_task(rows, trained, options.limit)
    else:
        recipe = recipe_of(model.sources["expert"], family)
        tables, states = load_facts(DATA), recipe and recipe["states"]
        task = polls_task(tables, states, options.limit)
        if options.sets is not None:
            ends = bool(recipe and recipe.get("endings"))
            sets = Sets(tables, states, options.sets, ends, answers=options.answers)
    if options.tasks:
        from proxy_tuning.evaluation.harness import evaluate_tasks

        names = options.tasks.split(",")
        results = evaluate_tasks(
            model, tokenizer, family, names, task, options.split, options.limit
        )
        print(json.dumps(results["results"], indent=1))
    else:
        results = evaluate(
            model,
            tokenizer,
            family,
            task,
            options.split,
            direct=options.direct,
            experts=options.experts,
            sets=sets,
            workers=options.workers,
        )
        for report in reports_of(results):
            print(f"\n{markdown(results, report)}")
        print(drafts_table(results))
    if options.output:
        write_json(options.output, said | results)


def check(options):
    """A report of what is right and wrong with a trio; a mismatch ends with exit status 1."""
    from proxy_tuning.evaluation.check import check, write_report
    from proxy_tuning.families import Family, resolve_family

    parts = given(options, PARTS)
    family = resolve_family(options.family, need_expert=False) if len(parts) < 3 else None
    parts = {part: getattr(family, part, None) for part in PARTS} | parts
    report = check(Family(family.name if family else "own", **parts))
    if options.output:
        write_report(report, options.output)
    if not report["ok"]:
        raise SystemExit(1)


def search(options):
    from proxy_tuning.evaluation.search import search
    from proxy_tuning.families import resolve_family

    family = resolve_family(options.family, need_expert=False)
    found = search(family, options.trials, options.share, options.output, storage=options.storage)
    print(
        f"Spearman's rank correlation of {found['pairs']} pairs is {found['spearman']}; by proxy "
        f"{found['hours']['by_proxy']} hours, all trials on all facts {found['hours']['full']}.\n"
        f"On all facts the family's recipe has quality {found['own']}, the best trial "
        f"{found['best']['quality']} with {found['best']['params']}, the one that the search by "
        f"proxy takes {found['by_proxy']['quality']} with {found['by_proxy']['params']}."
    )


def complete(options):
    from proxy_tuning.evaluation.completions import FORMS, export

    if options.form not in FORMS:
        raise ValueError(f"--form must be one of {', '.join(FORMS)}, not {options.form!r}")
    _, model, tokenizer = load(options)
    export(
        model,
        tokenizer,
        options.prompts,
        options.output,
        options.form,
        samples=options.samples,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        stop=options.stop,
    )


def export(options):
    """For the Hub no model is needed; for vLLM the trio is loaded and written whole."""
    if options.to == "custom_generate":
        from proxy_tuning.serving.hub import write_custom_generate

        write_custom_generate(options.folder)
        return
    from proxy_tuning.serving.export import export_for_vllm
    from proxy_tuning.serving.hub import check_empty

    check_empty(options.folder)
    _, model, tokenizer = load(options)
    export_for_vllm(model, tokenizer, options.folder)


def demo(options):
    begun = time.monotonic()
    print("Loading PyTorch, transformers and Gradio ...", flush=True)
    from proxy_tuning.widget.page import serve

    if options.data is None and (options.question or options.answer):
        raise ValueError("--question and --answer name columns of --data FILE")
    about = None
    if options.data:
        from proxy_tuning.training.material import read_rows

        about = read_rows(options.data, options.question, options.answer)
    parts = given(options, PARTS + LOADING) | {"line": line_of(options)}
    serve(options.family, options.alpha, options.port, begun=begun, about=about, **parts)
