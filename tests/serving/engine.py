"""Runs in vLLM's environment: `python engine.py JOBS.json RESULTS.json`.

A job is {"llm": keywords of `vllm.LLM`, "calls": [{"prompts": [token ids], "params": [keywords of
`SamplingParams`, one for each prompt]}]}. Its result is {"calls": [[an answer for each prompt]],
"metrics": {name: value}}, or {"error": what was said}; a call that is refused is {"error": ...}.
Engines run one after the other.
"""

import json
import multiprocessing
import os
import sys
import traceback

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TORCHDYNAMO_DISABLE": "1",
}
COMMON = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "max_model_len": 128,
    "max_num_seqs": 64,
    "disable_log_stats": False,
    "kv_cache_memory_bytes": 2**26,
}


def answer(output):
    """What is compared of one request: tokens, log-probabilities, prompt tokens from the cache."""
    first = output.outputs[0]
    logprobs = first.logprobs and [
        {token: each.logprob for token, each in step.items()} for step in first.logprobs
    ]
    prompt = output.prompt_logprobs and [
        step and {token: each.logprob for token, each in step.items()}
        for step in output.prompt_logprobs
    ]
    return {
        "ids": list(first.token_ids),
        "logprobs": logprobs,
        "prompt_logprobs": prompt,
        "cached": output.num_cached_tokens or 0,
    }


def run(job):
    from vllm import LLM, SamplingParams

    llm = LLM(**COMMON | job["llm"])
    calls = []
    for call in job["calls"]:
        params = [SamplingParams(**{"temperature": 0} | each) for each in call["params"]]
        prompts = [{"prompt_token_ids": ids} for ids in call["prompts"]]
        try:
            calls.append(list(map(answer, llm.generate(prompts, params, use_tqdm=False))))
        except Exception as error:  # what was said is what is tested
            calls.append({"error": str(error)})
    metrics = {each.name: each.value for each in llm.get_metrics() if hasattr(each, "value")}
    return {"calls": calls, "metrics": metrics}


def attempt(job):
    try:
        return run(job)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def apart(job):
    """What comes of a job in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(attempt(job)))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        return {"error": "the engine's process died"}


def main(jobs_file, results_file):
    import vllm  # noqa: F401  # before any process parts from this one: it takes long

    with open(jobs_file) as file:
        jobs = json.load(file)
    # after an engine that speculates, vLLM 0.32 can start no other in the same process
    results = {i: apart(job) for i, job in enumerate(jobs) if "speculative_config" in job["llm"]}
    results |= {i: attempt(job) for i, job in enumerate(jobs) if i not in results}
    with open(results_file, "w") as file:
        json.dump([results[i] for i in range(len(jobs))], file)


if __name__ == "__main__":
    main(*sys.argv[1:])
