"""The trio in vLLM says what our own loops say, token for token; what it cannot do is refused.

The engines run in one process of vLLM's environment, most of whose time is its start.
"""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import VOCAB, tiny_model, tiny_trio
from peft import LoraConfig, get_peft_model
from serving import trios
from serving.environment import vllm_python

from proxy_tuning import ProxyTunedForCausalLM

pytestmark = pytest.mark.vllm
ENGINE = Path(__file__).with_name("engine.py")
PER_REQUEST = {"logits_processors": ["proxy_tuning.serving.alphas:RequestAlpha"]}
KINDS = ["gpt2", "llama", "mixed"]
PROMPTS = trios.prompts(3, 7, 12, 20, 33, 50)
LONG = trios.prompts(70, 90, 100)
ALPHAS = [None, 1.0, 0.0, 2.0, -0.5, None]
GREEDY = {"max_tokens": trios.TOKENS, "ignore_eos": True}
LINES = {"plausible": {"plausibility": 0.05}, "nucleus": {"base_top_p": 0.8}}
LINES["adaptive"] = {"adaptive": True}
WRONG = {  # a request's parameters, and what is said of them
    "finite number, at most 1e+30, got 'x'": {"extra_args": {"alpha": "x"}},
    "finite number, at most 1e+30, got True": {"extra_args": {"alpha": True}},
    "finite number, at most 1e+30, got 1e+31": {"extra_args": {"alpha": 1e31}},
    "1 expert(s) take as many alphas": {"extra_args": {"alpha": [1.0, 2.0]}},
    "does not go with prompt_logprobs": {"extra_args": {"alpha": 1.0}, "prompt_logprobs": 1},
    "all parts read the same prompt": {"extra_args": {"expert_input_ids": [1]}},
}


def call(prompts=PROMPTS, alphas=None, **params):
    """A call of `engine.py`: these prompts at once, each with an alpha of its own or without."""
    own = [
        GREEDY | params | ({} if alpha is None else {"extra_args": {"alpha": alpha}})
        for alpha in alphas or [None] * len(prompts)
    ]
    return {"prompts": prompts, "params": own}


def serve(folder, *calls, **llm):
    return {"llm": {"model": str(folder)} | llm, "calls": list(calls)}


def alphas_job(folder):
    """Log-probabilities; several alphas in one batch, some beside log-probabilities of prompts."""
    mixed = call(alphas=ALPHAS)
    for params in mixed["params"]:
        if "extra_args" not in params:
            params["prompt_logprobs"] = 1
    wrong = [call(PROMPTS[:1], **each) for each in WRONG.values()]
    return serve(folder, call(logprobs=5), mixed, *wrong, **PER_REQUEST)


def pocket_jobs(folder):
    model, tokenizer, prompts = trios.pocket()
    folder = trios.saved(model, folder / "pocket")
    tokenizer.save_pretrained(folder)
    ngram = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
    draft = {"method": "draft_model", "model": f"{folder}/expert", "num_speculative_tokens": 3}
    own = call(prompts[:1], alphas=[0.5])
    return {
        "ngram": serve(folder, call(prompts), own, speculative_config=ngram),
        "draft": serve(folder, call(prompts), own, speculative_config=draft),
        "no processor": serve(folder, call(prompts), own),
    }


def several_jobs(folder):
    """Two experts over one antiexpert; parts by reference."""
    several = trios.model_of("llama", [0.6, -0.3], [tiny_model("llama", 4, width=128, spread=0.15)])
    own = call(alphas=[[1.0, 0.5], 0.25, None, [0.0, 0.0], None, [0.6, -0.3]])
    several_job = serve(trios.saved(several, folder / "several"), call(), own, **PER_REQUEST)
    return {"several": several_job, "by reference": serve(by_reference(folder), call())}


def by_reference(folder):
    """A few hundred bytes that name three folders; two parts have got rows of padding since."""
    parts = {}
    for name, part in zip(("base", "expert", "antiexpert"), trios.trio("llama"), strict=True):
        part.save_pretrained(folder / "parts" / name)
        parts[name] = type(part).from_pretrained(folder / "parts" / name)
    model = ProxyTunedForCausalLM(**parts, alpha=0.7)
    named = trios.saved(model, folder / "named", by_reference=True)
    for name in ("base", "expert"):
        parts[name].resize_token_embeddings(VOCAB + 7)
        parts[name].save_pretrained(folder / "parts" / name)
    return named


def refused_jobs(folder):
    """{what is said: a job that must not start}."""
    plain = trios.saved(trios.model_of("gpt2"), folder / "plain")
    windows = ProxyTunedForCausalLM(*tiny_trio("mistral"))
    base, expert, antiexpert = trios.trio("gpt2")
    prefixed = ProxyTunedForCausalLM(base, expert, antiexpert, expert_prefix=[5, 6])
    minus = tiny_model("llama", 3, width=128, spread=0.15)
    adapted = get_peft_model(minus, LoraConfig(r=2, target_modules=["q_proj"]))
    adapter = ProxyTunedForCausalLM(trios.trio("llama")[0], adapted)
    return {
        "reads a prefix of its own": serve(trios.saved(prefixed, folder / "prefixed")),
        "expert is an adapter": serve(trios.saved(adapter, folder / "adapter")),
        "a sliding window of 5 tokens": serve(trios.saved(windows, folder / "windows")),
        "quantization": serve(plain, quantization="fp8", dtype="bfloat16"),
        "ipeline parallelism": serve(plain, pipeline_parallel_size=2),
        "LoRA": serve(plain, enable_lora=True),
        "load format": serve(plain, load_format="pt"),
        "embeddings as prompts": serve(plain, enable_prompt_embeds=True),
        "128": serve(plain, max_model_len=256),
        "logits processors are not supported when speculative": serve(
            plain,
            speculative_config={"method": "ngram", "num_speculative_tokens": 2},
            **PER_REQUEST,
        ),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{name of a job: what came of it}."""
    python, folder = vllm_python(), tmp_path_factory.mktemp("served")
    jobs = {kind: alphas_job(trios.saved(trios.model_of(kind), folder / kind)) for kind in KINDS}
    for name, line in LINES.items():
        model = trios.model_of("llama", 1.0, **line)
        jobs[name] = serve(trios.saved(model, folder / name), call())
    jobs["prefix"] = serve(folder / "llama", call(LONG), call(LONG))
    chunks = {"enable_prefix_caching": False, "max_num_batched_tokens": 64}
    jobs["chunked"] = serve(folder / "gpt2", call([*LONG, *PROMPTS]), **chunks)
    jobs |= pocket_jobs(folder) | several_jobs(folder) | refused_jobs(folder)
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    command = [python, ENGINE, folder / "jobs.json", folder / "results.json"]
    with open(folder / "engine.log", "w") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"see {folder / 'engine.log'}"
    return dict(zip(jobs, json.loads((folder / "results.json").read_text()), strict=True))


def ids(result, number=0):
    """The tokens of a call's answers."""
    assert "error" not in result, result["error"]
    answers = result["calls"][number]
    assert isinstance(answers, list), answers
    return [each["ids"] for each in answers]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_the_loops(kind, results):
    assert ids(results[kind]) == trios.greedy(trios.model_of(kind), PROMPTS)


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_three_whole_passes(kind, results):
    for prompt, answer in zip(PROMPTS, results[kind]["calls"][0], strict=True):
        expected = trios.log_probabilities(kind, prompt, 0.7)
        for token, value in answer["logprobs"][0].items():
            assert value == pytest.approx(expected[int(token)].item(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_each_request_of_a_batch_has_its_alpha(kind, results):
    assert ids(results[kind], 1) == trios.greedy(trios.model_of(kind), PROMPTS, ALPHAS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompts_log_probabilities_have_the_models_alpha_beside_others(kind, results):
    answer = results[kind]["calls"][1][-1]["prompt_logprobs"]
    for position in (1, 20, 49):
        expected = trios.log_probabilities(kind, PROMPTS[-1][:position], 0.7)
        for token, value in answer[position].items():
            assert value == pytest.approx(expected[int(token)].item(), abs=1e-4)


@pytest.mark.parametrize("number, said", list(enumerate(WRONG)))
def test_a_wrong_request_is_refused(number, said, results):
    assert said in results["gpt2"]["calls"][2 + number]["error"]


@pytest.mark.parametrize("name", LINES)
def test_variants_of_the_line_are_applied(name, results):
    assert ids(results[name]) == trios.greedy(trios.model_of("llama", 1.0, **LINES[name]), PROMPTS)


def test_a_prefix_is_computed_once(results):
    expected = trios.greedy(trios.model_of("llama"), LONG)
    assert ids(results["prefix"]) == ids(results["prefix"], 1) == expected
    cached = [each["cached"] for each in results["prefix"]["calls"][1]]
    assert cached == [len(each) // 32 * 32 for each in LONG]  # whole blocks of 32 tokens


def test_long_prompts_are_read_in_chunks(results):
    assert ids(results["chunked"]) == trios.greedy(trios.model_of("gpt2"), [*LONG, *PROMPTS])


@pytest.mark.parametrize("name", ["ngram", "draft", "no processor"])
def test_the_embedded_family_answers_as_in_the_loop(name, results):
    model, _, prompts = trios.pocket()
    assert ids(results[name]) == trios.greedy(model, prompts)


@pytest.mark.parametrize("name", ["ngram", "draft"])
def test_proposals_were_kept(name, results):
    assert results[name]["metrics"]["vllm:spec_decode_num_accepted_tokens"] > 0


@pytest.mark.parametrize(
    "name, said",
    [
        ("ngram", "does not go with speculative decoding"),
        ("draft", "does not go with speculative decoding"),
        ("no processor", "needs a server that was started with --logits-processors"),
    ],
)
def test_an_alpha_that_nobody_would_read_is_refused(name, said, results):
    assert said in results[name]["calls"][1]["error"]


def test_several_experts_each_have_an_alpha(results):
    model = trios.model_of("llama", [0.6, -0.3], [tiny_model("llama", 4, width=128, spread=0.15)])
    alphas = [[1.0, 0.5], 0.25, None, [0.0, 0.0], None, [0.6, -0.3]]
    alphas = [[alpha] * 2 if isinstance(alpha, float) else alpha for alpha in alphas]
    assert ids(results["several"]) == trios.greedy(model, PROMPTS)
    assert ids(results["several"], 1) == trios.greedy(model, PROMPTS, alphas)


def test_parts_are_found_where_they_are_named(results):
    assert ids(results["by reference"]) == trios.greedy(trios.model_of("llama"), PROMPTS)


REFUSED = [
    "reads a prefix of its own",
    "expert is an adapter",
    "a sliding window of 5 tokens",
    "quantization",
    "ipeline parallelism",
    "LoRA",
    "load format",
    "embeddings as prompts",
    "128",
    "logits processors are not supported when speculative",
]


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_served_does_not_start(said, results):
    assert said in results[said]["error"]
