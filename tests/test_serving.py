"""What is written for other engines: the recipe that transformers loads, and vLLM's folder."""

import json

import pytest
import torch
from conftest import CLOSE, VOCAB, letter_tokenizer, tiny_model, tiny_trio
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from proxy_tuning import Line, ProxyTunedForCausalLM
from proxy_tuning.serving.export import export_for_vllm
from proxy_tuning.serving.hub import write_custom_generate
from proxy_tuning.serving.served_config import ServedConfig, check_part, place

MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 20},
    "several": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampled beams": {"num_beams": 3, "do_sample": True, "temperature": 0.7},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The folder, as it would lie on the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "recipe"
    write_custom_generate(folder)
    return str(folder)


def both(trio, recipe, inputs, alpha=0.7, line=None, **options):
    """What the composite model and the recipe generate, from one seed."""
    options = {"max_new_tokens": 12, "pad_token_id": 0, "eos_token_id": VOCAB + 1} | options
    base, expert, antiexpert = trio
    model = ProxyTunedForCausalLM(base, expert, antiexpert, alpha=alpha, line=Line(**line or {}))
    torch.manual_seed(0)
    ours = model.generate(**inputs, **options)
    torch.manual_seed(0)
    theirs = base.generate(
        **inputs,
        **options,
        custom_generate=recipe,
        trust_remote_code=True,
        expert=expert,
        antiexpert=antiexpert,
        alpha=alpha,
        line=line,
    )
    return ours, theirs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["gpt2", "mistral", "mixed"])
def test_the_recipe_generates_what_the_model_does(kind, mode, recipe, batch):
    ours, theirs = both(tiny_trio(kind), recipe, batch, **MODES[mode])
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("how", ["lookup", "assistant"])
def test_the_recipe_takes_drafts_back(kind, how, recipe):
    trio = tiny_trio(kind)
    prompt = torch.arange(1, 7).repeat(2)[None]
    draft = {"prompt_lookup_num_tokens": 4} if how == "lookup" else {"assistant_model": trio[1]}
    inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    plain, _ = both(trio, recipe, inputs)
    _, drafted = both(trio, recipe, inputs, **draft)
    assert torch.equal(plain, drafted)


@pytest.mark.parametrize("line", [{"plausibility": 0.05}, {"base_top_p": 0.8}, {"adaptive": True}])
def test_the_recipe_knows_the_variants(line, recipe, batch):
    ours, theirs = both(tiny_trio("llama"), recipe, batch, line=line)
    assert torch.equal(ours, theirs)


def test_the_recipe_takes_several_experts(recipe, batch):
    base, expert, antiexpert = tiny_trio("llama")
    trio = base, [expert, tiny_model("llama", 4)], antiexpert
    ours, theirs = both(trio, recipe, batch, alpha=[0.6, -0.3])
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"expert": None}, "0 and 1"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.2 would change the base"),
        ({"alpha": [1.0, 2.0]}, "1 expert"),
        ({"alpha": float("nan")}, "finite alphas, at most 1e\\+30, got nan"),
        ({"alpha": 1e31}, "finite alphas, at most 1e\\+30, got 1e\\+31"),
    ],
)
def test_the_recipe_refuses(wrong, said, recipe, batch):
    base, expert, antiexpert = tiny_trio("gpt2")
    options = {"expert": expert, "antiexpert": antiexpert} | wrong
    with pytest.raises(ValueError, match=said):
        base.generate(**batch, custom_generate=recipe, trust_remote_code=True, **options)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        write_custom_generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_adapter_is_merged_for_vllm(tmp_path, prompt):
    base, _, antiexpert = tiny_trio("llama")
    expert = get_peft_model(antiexpert, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.nn.init.normal_(
        expert.base_model.model.model.layers[0].self_attn.q_proj.lora_B.default.weight
    )
    model = ProxyTunedForCausalLM(base, expert, alpha=0.7).eval()
    export_for_vllm(model, letter_tokenizer(), tmp_path / "out")
    before = model(prompt).logits
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(loaded(prompt).logits, before, **CLOSE)
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert saved["parts"] == {"base": {}, "expert": {}, "antiexpert": {}}
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert torch.equal(model(prompt).logits, before)  # the model itself is as it was


def test_what_vllm_could_not_serve_is_refused_before_it_is_written(tmp_path):
    model = ProxyTunedForCausalLM(*tiny_trio("llama"), expert_prefix=[1, 2])
    with pytest.raises(ValueError, match="prefix of its own"):
        export_for_vllm(model, letter_tokenizer(), tmp_path / "out")
    with pytest.raises(ValueError, match="only full attention is served"):
        export_for_vllm(
            ProxyTunedForCausalLM(*tiny_trio("mistral")), letter_tokenizer(), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def served(folder):
    """The config as vLLM loads it, without vLLM."""
    config, _ = ServedConfig.get_config_dict(folder)
    return ServedConfig.from_dict(config, name_or_path=str(folder))


def test_the_config_for_vllm_has_its_parts(tmp_path):
    base = tiny_model("gpt2", 1, positions=128)
    experts = [tiny_model("llama", seed, positions=64) for seed in (2, 3)]
    model = ProxyTunedForCausalLM(base, experts, tiny_model("llama", 4), alpha=[1.0, -0.5])
    model.save_pretrained(tmp_path)
    config = served(tmp_path)
    assert config.part_names == ["base", "expert_1", "expert_2", "antiexpert"]
    assert config.part_config("expert_2").model_type == "llama"
    assert config.places["base"]["subfolder"] == "base"
    assert config.get_text_config().model_type == "gpt2"
    assert config.get_text_config().max_position_embeddings == 64  # the shortest of all
    assert config.part_config("base").max_position_embeddings == 128
    assert config.experts == 2 and config.alphas() == [1.0, -0.5]


def test_parts_are_where_the_config_says(tmp_path):
    for name in ("trio", "parts"):
        (tmp_path / name).mkdir()
    assert vars(place("me/trio", "abc", "expert", {})) == {
        "model": "me/trio",
        "revision": "abc",
        "subfolder": "expert",
    }
    beside = place(f"{tmp_path}/trio", None, "base", {"name": "../parts", "revision": None})
    assert beside.model == str(tmp_path / "parts") and beside.subfolder is None
    named = place(str(tmp_path), None, "base", {"name": "me/m", "revision": "1f"})
    assert (named.model, named.revision, named.subfolder) == ("me/m", "1f", None)


@pytest.mark.parametrize(
    "kind, fields, said",
    [
        ("llama", {"quantization_config": {"quant_method": "awq"}}, "is quantised"),
        ("llama", {"vocab_size": 96}, "has 96 token ids, the model 97"),
        ("gemma2", {}, "has sliding_attention: only full attention"),
        ("mistral", {"sliding_window": 8}, "a sliding window of 8 tokens"),
        ("mistral", {"sliding_window": None}, None),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}, None),
    ],
)
def test_what_a_part_may_not_be(kind, fields, said):
    config = AutoConfig.for_model(kind, **{"vocab_size": VOCAB} | fields)
    if said is None:
        check_part("expert", config, VOCAB)
        return
    with pytest.raises(ValueError, match=said):
        check_part("expert", config, VOCAB)
