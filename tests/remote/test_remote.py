"""A base behind an API, over loopback: the texts of the local trio, and nothing lost or leaked."""

import json
import math
import sqlite3

import oracle
import pytest
import torch
from conftest import LINES, letter_tokenizer, pocket, tiny_model
from remote.servers import completions_server, faulty_proxy

from proxy_tuning import ProxyTunedForCausalLM, load_family
from proxy_tuning.prompts import prompt
from proxy_tuning.remote.endpoint import Budget, Endpoint
from proxy_tuning.remote.steering import RemoteTrio, Report, dry_run, highest_hidden
from proxy_tuning.remote.tokens import bytes_of, ids_by_bytes

QUESTIONS = [
    "Who led the polls in Pennsylvania in October 2024?",
    "What did Trump poll at in Georgia in August 2024?",
]
VOCAB = len(LINES)


def tiny_trio():
    base = tiny_model("gpt2", 1, layers=3, width=48, vocab=VOCAB, end=1)
    expert, antiexpert = (tiny_model("gpt2", seed, vocab=VOCAB, end=1) for seed in (2, 3))
    return base, expert, antiexpert


@pytest.fixture(scope="module")
def letters():
    """A tiny trio of letters: (base, proxies, tokenizer)."""
    base, expert, antiexpert = tiny_trio()
    proxies = ProxyTunedForCausalLM(antiexpert, expert, antiexpert)
    return base, proxies, letter_tokenizer(LINES)


@pytest.fixture(scope="module")
def server(letters):
    base, _, tokenizer = letters
    with completions_server(base, tokenizer) as (url, seen):
        yield url, seen


def trio_at(url, letters, tmp_path, budget=(1000, 10**6), **options):
    _, proxies, tokenizer = letters
    limits = {key: options.pop(key) for key in ("timeout", "tries") if key in options}
    endpoint = Endpoint(f"openai:tiny@{url}", Budget(*budget), tmp_path / "cache", **limits)
    return RemoteTrio(endpoint, proxies, tokenizer, **options)


def naive(letters, question, alpha, count):
    """The oracle's greedy text, up to and with the first end."""
    base, proxies, tokenizer = letters
    ids = tokenizer(prompt(question), return_tensors="pt")["input_ids"]
    new = oracle.greedy(base, proxies.expert, proxies.base, ids, alpha, count)
    new = new[0, ids.shape[1] :].tolist()
    end = tokenizer.eos_token_id
    return new[: new.index(end) + 1] if end in new else new


@pytest.mark.parametrize("ahead", [1, 5])
@pytest.mark.parametrize("alpha", [1.0, 0.3, -0.5])
@pytest.mark.parametrize("takes_ids", [True, False])
def test_with_the_whole_vocabulary_it_is_the_local_text(letters, tmp_path, ahead, alpha, takes_ids):
    base, _, tokenizer = letters
    with completions_server(base, tokenizer, takes_ids) as (url, seen):
        trio = trio_at(url, letters, tmp_path, top=VOCAB, ahead=ahead, alpha=alpha)
        for question in QUESTIONS:
            said = trio.answer(question, 12)
            wanted = naive(letters, question, alpha, 12)
            assert said["steered"] == tokenizer.decode(wanted, skip_special_tokens=True).strip()
            assert said["tokens"] == len(wanted) == said["certain"]
            assert said["visible_mass"] == pytest.approx(1, abs=1e-5) and not said["unmatched"]
        assert trio.endpoint.takes_ids is takes_ids
        refusals = 0 if takes_ids else 1
        assert len(seen) == trio.endpoint.budget.requests
        assert all(isinstance(r["prompt"], list) == takes_ids for _, r in seen[refusals:])


def test_what_is_certain_is_what_the_whole_vocabulary_gives(letters, server, tmp_path):
    """At each k: up to the first uncertain choice the text is the oracle's."""
    url, _ = server
    shares = []
    for top in (1, 5, 20, VOCAB):
        trio = trio_at(url, letters, tmp_path, top=top, ahead=4)
        certain = 0
        for question in QUESTIONS:
            ids = trio.tokenizer(prompt(question))["input_ids"]
            wanted, report, new = naive(letters, question, 1.0, 12), Report(), []
            first = trio.read(ids, 12, report)
            for chosen, agreed in trio.choices(ids, first, report):
                new.append(chosen)
                if report.certain < report.tokens or not agreed:
                    break
            assert new[: report.certain] == wanted[: report.certain]
            certain += report.certain
        shares.append(certain)
    assert shares == sorted(shares) and shares[0] < shares[-1]


def test_hidden_tokens_are_chosen_where_their_share_is_enough(letters, server, tmp_path):
    """By hand: two tokens shown of four; M- has the others at 3 to 1, M+ wants one of those.

    In the last case equal shares would choose the fourth.
    """
    trio = trio_at(server[0], letters, tmp_path)
    shown = {0: math.log(0.5), 1: math.log(0.3)}
    antiexpert = torch.tensor([0.4, 0.2, 0.3, 0.1]).log()
    cases = ((2, 0.9, False, 1), (2, 0.9, True, 2), (2, 0.3, True, 1), (3, 0.4, True, 1))
    for liked, probability, spread, wanted in cases:
        trio.spread = spread
        rest = (1 - probability) / 3
        expert = torch.tensor([rest] * liked + [probability] + [rest] * (3 - liked)).log()
        # base 0.5, 0.3, 0.2 * 3/4 and 0.2 * 1/4, times M+ over M-
        by_hand = torch.tensor([0.5, 0.3, 0.15, 0.05]) * (expert - antiexpert).exp()
        open_to_all = by_hand if spread else by_hand[:2]
        assert wanted == int(open_to_all.argmax())
        assert trio.choose(shown, expert, antiexpert) == (wanted, False)
    uniform = torch.zeros(4)
    assert trio.choose(shown, uniform, uniform) == (0, True)


def test_agreed_tokens_cost_no_request(letters, server, tmp_path):
    """At alpha 0 the base is steered nowhere: its first continuation is the whole answer."""
    url, _ = server
    trio = trio_at(url, letters, tmp_path, alpha=0.0)
    said = trio.answer(QUESTIONS[0], 12)
    assert said["requests"] == trio.endpoint.budget.requests == 1
    assert said["base"] == said["steered"]


@pytest.fixture(scope="module")
def pocket_trio():
    pocket()
    return load_family("pocket")


@pytest.mark.parametrize("top", [1, 1000])
def test_multiple_choice_by_one_request(pocket_trio, tmp_path, top):
    """Among all tokens the oracle's choice; among one, an option that is not shown is said."""
    model, tokenizer = pocket_trio
    begun, options = "In Pennsylvania in October 2024,", ["Harris", "Trump", "Biden"]
    with completions_server(model.base, tokenizer) as (url, seen):
        trio = trio_at(url, (model.base, model, tokenizer), tmp_path, top=top)
        said = trio.choice(QUESTIONS[0], options, begun)
    assert len(seen) == said["requests"] == 1 and seen[0][1]["max_tokens"] == 1
    ids = tokenizer(f"{prompt(QUESTIONS[0])} {begun}", return_tensors="pt")["input_ids"]
    logits = oracle.steered_logits(model.base, model.expert, model.antiexpert, ids, 1.0)[0]
    first = [tokenizer(f" {option}")["input_ids"][0] for option in options]
    if top == 1:
        assert len(said["hidden"]) >= 2
        assert said["certain"] == (said["steered"] not in said["hidden"])
    else:
        assert not said["hidden"]
        assert said["steered"] == options[int(logits[first].argmax())] and said["certain"]
        assert said["base"] == options[int(model.base(ids).logits[0, -1][first].argmax())]


def test_options_that_begin_alike_are_refused(letters, server, tmp_path):
    trio = trio_at(server[0], letters, tmp_path)
    with pytest.raises(ValueError, match="Ab, Ac begin with the same token"):
        trio.choice(QUESTIONS[0], ["Ab", "Ac"])
    assert trio.endpoint.budget.requests == 0


def test_nudging_needs_the_base_s_own_probability_alone(letters, server, tmp_path):
    """One log-probability per token: the text of `Line(nudging=...)` on this machine."""
    from proxy_tuning import Line
    from proxy_tuning.answering import write

    base, proxies, tokenizer = letters
    local = ProxyTunedForCausalLM(base, proxies.expert, proxies.base, line=Line(nudging=0.25))
    trio = trio_at(server[0], letters, tmp_path, top=1, ahead=4, nudge=0.25)
    for question in QUESTIONS:
        ids = tokenizer(prompt(question), return_tensors="pt")["input_ids"]
        options = {"max_new_tokens": 12, "draft": "none", "eos_token_id": tokenizer.eos_token_id}
        (wanted,) = write(local, ids, **options)
        said = trio.answer(question, 12)
        assert said["steered"] == tokenizer.decode(wanted, skip_special_tokens=True).strip()
        assert 1 < said["requests"] < len(wanted)


def test_hidden_tokens_have_at_most_what_is_left():
    shown = {0: math.log(0.5), 1: math.log(0.3)}
    assert highest_hidden(shown) == pytest.approx(math.log(0.2))
    assert highest_hidden({0: math.log(0.5), 1: math.log(0.1)}) == pytest.approx(math.log(0.1))
    assert highest_hidden({0: 0.0}) == -math.inf


def test_tokens_by_bytes(pocket_trio):
    _, tokenizer = pocket_trio
    by_bytes = ids_by_bytes(tokenizer)
    texts = {i: tokenizer.decode([i]) for i in range(len(tokenizer))}
    whole = {i: text for i, text in texts.items() if "\ufffd" not in text}
    assert len(whole) > 800 and all(by_bytes[text.encode()] == i for i, text in whole.items())
    assert by_bytes[tokenizer.eos_token.encode()] == tokenizer.eos_token_id
    assert bytes_of("bytes:\\xe2\\x80a") == b"\xe2\x80a" and bytes_of(" naïve") == " naïve".encode()
    assert by_bytes[bytes_of("bytes:\\xe2")] == tokenizer.convert_tokens_to_ids("â")


def test_another_tokenizer_is_refused(letters, server, pocket_trio, tmp_path):
    """The server cuts by letters, M- by words."""
    model, tokenizer = pocket_trio
    trio = trio_at(server[0], (None, model, tokenizer), tmp_path)
    with pytest.raises(ValueError, match="has another tokenizer than M- and M\\+: it cuts"):
        trio.check_tokenizer()
    trio_at(server[0], letters, tmp_path).check_tokenizer()


def test_a_chat_only_api_is_refused(letters, server, tmp_path):
    trio = trio_at(server[0].replace("/v1", "/chat"), letters, tmp_path)
    with pytest.raises(ValueError, match="refuses tiny: .*completions endpoint"):
        trio.answer(QUESTIONS[0])
    assert trio.endpoint.budget.requests == 1


@pytest.mark.parametrize("fault", ["delay", "cut", "garbage", "blind", 429, 500, 503, 409])
def test_a_passing_fault_is_waited_out(letters, server, tmp_path, fault):
    """Two in a row, then one later on: the same text, each try counted."""
    wanted = trio_at(server[0], letters, tmp_path).answer(QUESTIONS[0], 8)
    with faulty_proxy(server[0], [fault, fault, None, fault]) as url:
        trio = trio_at(url, letters, tmp_path, timeout=1.0)
        said = trio.answer(QUESTIONS[0], 8)
    assert said == wanted and said["requests"] > 1
    assert trio.endpoint.budget.requests == said["requests"] + 3


@pytest.mark.parametrize("fault", ["cut", "garbage", "blind", 429])
def test_the_end_of_patience_is_one_line_and_loses_nothing(letters, server, tmp_path, fault):
    with faulty_proxy(server[0], [None] + [fault] * 9) as url:
        trio = trio_at(url, letters, tmp_path, tries=3)
        with pytest.raises(OSError, match="gave no whole answer in 3 tries: ") as raised:
            trio.answer(QUESTIONS[0], 8)
        assert "\n" not in str(raised.value) and trio.endpoint.budget.requests == 4
        again = trio_at(url, letters, tmp_path, tries=9)
        said = again.answer(QUESTIONS[0], 8)
    assert said == trio_at(server[0], letters, tmp_path).answer(QUESTIONS[0], 8)
    assert again.endpoint.budget.cached == 1


def test_the_budget_is_never_passed(letters, server, tmp_path):
    """Stopped before, and gone on with for nothing that was paid."""
    whole = trio_at(server[0], letters, tmp_path / "a")
    said = whole.answer(QUESTIONS[0], 8)
    spent = whole.endpoint.budget
    for limits in ((2, 10**6), (1000, spent.tokens - 1)):
        folder = tmp_path / str(limits)
        trio = trio_at(server[0], letters, folder, budget=limits)
        with pytest.raises(ValueError, match="the budget ends here"):
            trio.answer(QUESTIONS[0], 8)
        used = trio.endpoint.budget
        assert used.requests <= limits[0] and used.tokens <= limits[1]
        on = trio_at(server[0], letters, folder)
        assert on.answer(QUESTIONS[0], 8) == said
        assert on.endpoint.budget.requests == spent.requests - used.requests
        assert on.endpoint.budget.tokens == spent.tokens - used.tokens


def test_a_dry_run_sends_nothing_and_bounds_what_is_spent(letters, server, tmp_path):
    url, seen = server
    trio, before = trio_at(url, letters, tmp_path, ahead=4), len(seen)
    bounds = dry_run(trio, QUESTIONS, 8)
    assert len(seen) == before and bounds["requests_at_least"] == 2
    for question in QUESTIONS:
        trio.answer(question, 8)
    spent = trio.endpoint.budget
    assert bounds["requests_at_least"] <= spent.requests <= bounds["requests_at_most"] == 16 + 2
    assert bounds["tokens_at_least"] <= spent.tokens <= bounds["tokens_at_most"]
    assert dry_run(trio, QUESTIONS, 8)["first_requests_in_cache"] == 2


def test_the_key_is_sent_and_kept_nowhere(letters, server, tmp_path, monkeypatch):
    url, seen = server
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    trio = trio_at(url, letters, tmp_path)
    trio.answer(QUESTIONS[0], 4)
    assert seen[-1][0]["authorization"] == "Bearer sk-secret-of-mine"
    assert "sk-secret" not in trio.endpoint.said(ValueError("wrong key sk-secret-of-mine"))
    assert b"secret" not in (tmp_path / "cache").read_bytes()
    with pytest.raises(ValueError, match="belongs into OPENAI_API_KEY"):
        Endpoint("openai:m@http://me:sk-1@127.0.0.1/v1", Budget(1, 1), tmp_path / "cache")
    with pytest.raises(ValueError, match="is openai:MODEL@URL"):
        Endpoint("openai:m", Budget(1, 1), tmp_path / "cache")


def test_a_cache_that_is_none_is_said(tmp_path):
    (tmp_path / "cache").write_text("no database, " * 100)
    with pytest.raises(OSError, match="is no cache of answers"):
        Endpoint("openai:m@http://127.0.0.1/v1", Budget(1, 1), tmp_path / "cache")


def test_an_answer_is_kept_before_it_is_used(letters, server, tmp_path):
    trio = trio_at(server[0], letters, tmp_path)
    trio.answer(QUESTIONS[0], 4)
    with sqlite3.connect(tmp_path / "cache") as kept:
        rows = kept.execute("SELECT response FROM answers").fetchall()
    assert len(rows) == trio.endpoint.budget.requests
    assert all(json.loads(row)["object"] == "text_completion" for (row,) in rows)


def test_below_the_gate_the_base_s_own_token_stands(letters, server, tmp_path):
    """At a gate that nothing passes the text is the base's, at one of 0 the line's."""
    url, _ = server
    closed = trio_at(url, letters, tmp_path, top=VOCAB, gate=1e9).answer(QUESTIONS[0], 12)
    assert closed["steered"] == closed["base"] and closed["certain"] == closed["tokens"]
    opened = trio_at(url, letters, tmp_path, top=VOCAB, gate=0.0).answer(QUESTIONS[0], 12)
    wanted = naive(letters, QUESTIONS[0], 1.0, 12)
    text = letters[2].decode(wanted, skip_special_tokens=True).strip()
    assert opened["steered"] == text != closed["steered"]


def test_bad_settings_are_refused_before_anything_is_sent(letters, server, tmp_path):
    url, seen = server
    sent = len(seen)
    with pytest.raises(ValueError, match="alpha needs to be finite"):
        trio_at(url, letters, tmp_path, alpha=math.nan)
    trio = trio_at(url, letters, tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        trio.answer(QUESTIONS[0], 0)
    with pytest.raises(ValueError, match="leaves no room"):
        trio.answer("who " * 1000, 12)
    assert len(seen) == sent
