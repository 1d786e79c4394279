"""ONNX Runtime against torch: the same logits and texts; exports that are not trusted blindly."""

import json
import shutil
import subprocess
import weakref
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from peft import PromptTuningConfig, get_peft_model
from test_adapters import adapter
from test_families import families_in, folders  # noqa: F401  tiny families, as fixtures
from transformers import DynamicCache

from proxy_tuning import ProxyTunedForCausalLM, load_family
from proxy_tuning.answering import greedy_answers
from proxy_tuning.decoding import stream, stream_side_by_side
from proxy_tuning.engines import compare, run_on, why_not
from proxy_tuning.engines.onnx_runtime import OnnxCausalLM, find_export, make_export, onnx_model
from proxy_tuning.families import PROBES
from proxy_tuning.prompts import prompt

CLOSE = {"rtol": 0, "atol": 1e-4}
"""What is promised of float32."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A cache of exported models that this module's tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module", params=["gpt2", "llama", "qwen3"])
def pair(request, exports):
    """The same model in torch and in ONNX Runtime."""
    model = tiny_model(request.param, 1)
    return model, onnx_model(model)


def both(pair, **inputs):
    """Logits of torch and of ONNX Runtime, and their caches."""
    with torch.no_grad():
        return [model(**inputs, past_key_values=None, use_cache=True) for model in pair]


def test_logits_of_a_padded_batch(pair, batch):
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    ours, theirs = both(pair, **batch, position_ids=positions)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours.logits[real], theirs.logits[real], **CLOSE)


@pytest.mark.parametrize("keep", [0, 1, 3, torch.tensor([-4, -2]), torch.tensor([1])])
def test_logits_to_keep(pair, prompt, keep):
    ours, theirs = both(pair, input_ids=prompt, logits_to_keep=keep)
    torch.testing.assert_close(ours.logits, theirs.logits, **CLOSE)


def test_pieces_crop_and_rows(pair):
    """Pieces of several lengths, a step back, rows exchanged: the caches stay the same."""
    generator = torch.Generator().manual_seed(5)
    caches = [DynamicCache(config=model.config) for model in pair]
    for length in (7, 1, 1, 5, 2, 12):
        ids = torch.randint(1, 97, (2, length), generator=generator)
        ours, theirs = (
            model(input_ids=ids, past_key_values=cache, use_cache=True).logits
            for model, cache in zip(pair, caches, strict=True)
        )
        torch.testing.assert_close(ours, theirs, **CLOSE)
        for cache in caches:
            if length == 5:
                cache.crop(-3)
            cache.reorder_cache(torch.tensor([1, 0]))
    assert caches[0].get_seq_length() == caches[1].get_seq_length() == 25


def test_holes_in_the_mask(pair):
    """Tokens in the middle that count for nothing, as after a verification in a batch."""
    ids = torch.randint(1, 97, (2, 10), generator=torch.Generator().manual_seed(6))
    holes = torch.tensor([[1, 1, 1, 1, 0, 0, 1, 1, 1, 1], [1] * 10])
    positions = (holes.cumsum(-1) - 1).clamp(min=0)
    caches = [DynamicCache(config=model.config) for model in pair]
    for first, last in ((0, 6), (6, 10)):
        ours, theirs = (
            model(
                input_ids=ids[:, first:last],
                attention_mask=holes[:, :last],
                position_ids=positions[:, first:last],
                past_key_values=cache,
                use_cache=True,
            ).logits
            for model, cache in zip(pair, caches, strict=True)
        )
    torch.testing.assert_close(ours, theirs, **CLOSE)
    without = ids[0, holes[0].bool()][None]
    torch.testing.assert_close(theirs[0], pair[0](without).logits[0, -4:], **CLOSE)


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"use_cache": False}])
def test_generation(pair, batch, how):
    ours, theirs = (
        model.generate(**batch, max_new_tokens=9, do_sample=False, eos_token_id=None, **how)
        for model in pair
    )
    assert torch.equal(ours, theirs)


def test_trio_in_every_loop(exports, batch, tmp_path):
    parts = [tiny_model("gpt2", 1), tiny_model("llama", 1), tiny_model("qwen3", 1)]
    ours = ProxyTunedForCausalLM(*parts, alpha=0.7)
    theirs = ProxyTunedForCausalLM(*map(onnx_model, parts), alpha=0.7)
    for loop in (stream, stream_side_by_side):
        for our, their in zip(
            loop(ours, **batch, max_new_tokens=8, eos_token_id=-1),
            loop(theirs, **batch, max_new_tokens=8, eos_token_id=-1),
            strict=True,
        ):
            assert torch.equal(our.next_ids, their.next_ids)
            torch.testing.assert_close(our.steered, their.steered, **CLOSE)
    generated = [model.generate(**batch, max_new_tokens=8, num_beams=2) for model in (ours, theirs)]
    assert torch.equal(*generated)
    ours.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no weights to save"):
        theirs.save_pretrained(tmp_path)
    assert ProxyTunedForCausalLM.from_pretrained(tmp_path).alpha == 0.7  # what was there is whole


def test_tied_embedding_is_stored_once(pair):
    model = pair[0]
    data = find_export(model).with_name("model.onnx.data")
    weights = sum(p.numel() for p in model.parameters()) * 4
    embedding = model.get_input_embeddings().weight.numel() * 4
    # small vectors are in the graph itself, alignment takes some bytes
    assert 0.98 * weights < data.stat().st_size < weights + 0.9 * embedding


@pytest.fixture(scope="module")
def second_cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("second")


@pytest.fixture
def second_cache(second_cache_folder, monkeypatch):
    """Empty before `test_auto_takes_what_is_exported`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(second_cache_folder))


def test_auto_takes_what_is_exported(second_cache, folders, capsys):  # noqa: F811
    """torch as long as nothing is exported, and never another token."""
    ids = torch.tensor([[3, 5, 7]])
    texts = []
    for engine in ("auto", "onnx", "auto"):
        capsys.readouterr()
        model, _ = load_family("pocket", **folders, engine=engine)
        said = capsys.readouterr().out
        on_onnx = {isinstance(getattr(model, name), OnnxCausalLM) for name in model.part_names}
        assert on_onnx == {engine == "onnx" or len(texts) == 2}
        if engine == "auto":
            assert ("Engine onnx" if texts else "Engine torch: these weights are not") in said
        texts.append(model.generate(ids, max_new_tokens=9, do_sample=False).tolist())
    assert texts[0] == texts[1] == texts[2]


def test_int8_is_measured_and_printed(second_cache, folders, capsys):  # noqa: F811
    exact, tokenizer = load_family("pocket", **folders)
    coarse, _ = load_family("pocket", **folders, engine="onnx-int8")
    said = capsys.readouterr().out.splitlines()[-1]
    logits = []
    for model in (exact, coarse):
        rows = []
        for question in PROBES:
            ids = tokenizer(prompt(question, tokenizer), return_tensors="pt")["input_ids"]
            text = exact.generate(ids, max_new_tokens=32, do_sample=False)
            rows.append(model(text, use_cache=False).logits[0])  # one pass: int8 depends on it
        logits.append(torch.cat(rows))
    p, q = (x.log_softmax(-1) for x in logits)
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean").item()
    same = (p.argmax(-1) == q.argmax(-1)).float().mean().item()
    assert f"is {kl:.2g} nats" in said and f"at {same:.1%} of {len(p)} positions" in said
    assert 1e-6 < kl < 1e-3, "not exact, and yet the same model: 4 bits lose far more"


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_m_plus_in_8_bits_drafts_what_the_plain_loop_writes(second_cache, folders, engine):  # noqa: F811
    plain, tokenizer = load_family("pocket", **folders, draft="none")
    model, _ = load_family("pocket", **folders, engine=engine, draft="expert-int8")
    assert isinstance(model.quantised_expert, OnnxCausalLM)
    assert "quantised_expert" not in model.part_names
    questions = list(PROBES)
    expected = greedy_answers(plain, tokenizer, questions, max_new_tokens=24)
    for draft in ("expert-int8", "auto"):
        found = greedy_answers(model, tokenizer, questions, draft=draft, max_new_tokens=24)
        assert found == expected
    again, _ = load_family("pocket", **folders, engine="onnx")
    assert isinstance(again.quantised_expert, OnnxCausalLM), "auto takes the earlier export"
    with pytest.raises(ValueError, match="expert-int8"):
        greedy_answers(plain, tokenizer, questions, draft="expert-int8")


def test_compare():
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    others = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    kl, same = compare(logits, others)
    p = 1 / (1 + torch.tensor(-1.0).exp())  # KL of (p, 1 - p) to (1 - p, p) is 2p - 1
    assert (kl, same) == (pytest.approx((2 * p.item() - 1) / 2), 0.5)


def test_torch_weights_are_released(exports):
    model = ProxyTunedForCausalLM(*(tiny_model("gpt2", 1) for _ in range(3)))
    weights = [weakref.ref(p) for p in model.parameters()]
    run_on("onnx", model, [])
    assert not any(ref() is not None for ref in weights)
    assert not list(model.parameters())


def test_an_adapter_is_merged_and_m_minus_is_without(exports):
    """The trio of an M- with a LoRA adapter, as torch runs it in one pass, and as three graphs."""
    trio = tiny_model("llama", 1), adapter(tiny_model("llama", 2)), None
    model, ids = ProxyTunedForCausalLM(*trio, 1.5), torch.arange(1, 13)[None]
    before = {name: weight.clone() for name, weight in model.expert.state_dict().items()}
    expected = model(ids).logits
    texts = model.generate(ids, max_new_tokens=9, do_sample=False, eos_token_id=None)
    run_on("onnx", model, [])
    assert all(isinstance(part, OnnxCausalLM) for part in (model.expert, model.antiexpert))
    torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
    found = model.generate(ids, max_new_tokens=9, do_sample=False, eos_token_id=None)
    assert torch.equal(found, texts)
    assert all(torch.equal(trio[1].state_dict()[name], was) for name, was in before.items())


def test_parts_that_onnx_runtime_cannot_run(exports, capsys):
    model = tiny_model("gpt2", 1)
    assert why_not(model) == ""
    assert "bfloat16, not float32" in why_not(tiny_model("gpt2", 1).bfloat16())
    assert "on meta" in why_not(tiny_model("gpt2", 1).to("meta"))
    assert "window" in why_not(tiny_model("mistral", 1))
    assert "whole text" in why_not(tiny_model("gemma2", 1))
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    adapted = get_peft_model(tiny_model("gpt2", 1), prompts)
    assert "cannot be merged" in why_not(adapted)
    trio = ProxyTunedForCausalLM(model, adapted.eval(), tiny_model("gpt2", 1))
    with pytest.raises(ValueError, match="cannot run expert: its adapter"):
        run_on("onnx", trio, [])
    run_on("auto", trio, [])
    assert capsys.readouterr().out.startswith("Engine torch: ONNX Runtime cannot run expert:")
    with pytest.raises(ValueError, match="'onxx'; there are auto, torch, onnx, onnx-int8"):
        load_family("pocket", engine="onxx")


@pytest.fixture
def built(exports, tmp_path, monkeypatch):
    """A list that grows with every graph made; the graphs come from an earlier export, at once."""
    earlier = find_export(tiny_model("gpt2", 1)) or make_export(tiny_model("gpt2", 1))
    graphs = []

    def run(command, **kwargs):
        graphs.append(command)
        shutil.copy(earlier, command[-1])
        shutil.copy(f"{earlier}.data", f"{command[-1]}.data")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    return graphs


def damage_weights(folder):
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[1000] ^= 1
    (folder / "model.onnx.data").write_bytes(data)


def damage_graph(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-7])


def lose_weights(folder):
    (folder / "model.onnx.data").unlink()


def half_a_manifest(folder):
    (folder / "export.json").write_text('{"versions": ')


def empty_manifest(folder):
    (folder / "export.json").write_text('{"versions": {}, "files": {}}')


def other_version(folder):
    manifest = json.loads((folder / "export.json").read_text())
    manifest["versions"]["onnxruntime"] = "1.0"
    (folder / "export.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [damage_weights, damage_graph, lose_weights, half_a_manifest, empty_manifest, other_version],
)
def test_untrustworthy_exports_are_made_again(built, damage, prompt):
    model = tiny_model("gpt2", 1)
    graph = make_export(model)
    assert find_export(model) == graph and len(built) == 1
    damage(graph.parent)
    assert find_export(model) is None
    assert make_export(model) == graph == find_export(model) and len(built) == 2
    assert [path.name for path in graph.parent.parent.iterdir()] == [graph.parent.name]
    torch.testing.assert_close(onnx_model(model)(prompt).logits, model(prompt).logits, **CLOSE)
    assert len(built) == 2


def test_other_weights_and_shapes_are_other_exports(built):
    model = tiny_model("gpt2", 1)
    make_export(model)
    with torch.no_grad():
        model.transformer.wte.weight[3, 4] += 1e-3
    assert find_export(model) is None
    other = tiny_model("gpt2", 1)
    other.config.scale_attn_by_inverse_layer_idx = True  # the same weights, another model
    assert find_export(other) is None
    assert find_export(tiny_model("gpt2", 1)) is not None
    assert find_export(tiny_model("gpt2", 1), "int8") is None


def test_a_cache_that_cannot_be_written(built, tmp_path, monkeypatch, capsys, prompt):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    model = tiny_model("gpt2", 1)
    graph = make_export(model)
    assert tmp_path not in graph.parents and "cannot be kept" in capsys.readouterr().out
    engine = OnnxCausalLM(model.config, graph)
    torch.testing.assert_close(engine(prompt).logits, model(prompt).logits, **CLOSE)


def test_a_read_only_cache_is_used(built, monkeypatch):
    model = tiny_model("gpt2", 1)
    graph = make_export(model)

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    for name in ("mkdir", "rename", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert find_export(model) == graph
