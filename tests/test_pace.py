"""Which tokens are proposed, how many and by whom, against figures worked out by hand."""

import math
from collections import deque
from types import SimpleNamespace

import pytest
import torch

from proxy_tuning.drafts import (
    GAMMAS,
    PROBE,
    Drafters,
    Fixed,
    Known,
    Ngrams,
    Nobody,
    Pace,
    QuantisedExpert,
    weigher,
    what_followed,
)


def learnt(*rounds, rows=1):
    """A pace after rounds of (gamma, accepted in each row, seconds)."""
    pace = Pace(rows)
    for gamma, accepted, seconds in rounds:
        pace.learn(gamma, torch.tensor(accepted), seconds)
    return pace


@pytest.mark.parametrize("rows, first", [(1, 3), (2, 1), (8, 1)])
def test_two_rounds_show_what_they_cost(rows, first):
    pace = Pace(rows)
    assert (pace.gamma(), pace.rate()) == (first, math.inf)
    pace.learn(first, torch.tensor([first] * rows), 4.0)
    assert (pace.gamma(), pace.rate()) == (0, math.inf)
    pace.learn(0, torch.tensor([0] * rows), 1.0)
    assert pace.rate() < math.inf
    untried = learnt((0, [0], 2.0))
    most = sum(0.75**i for i in range(17)) / 2.0
    assert untried.rate() == pytest.approx(most), "sixteen proposals for nothing"


@pytest.mark.parametrize(
    "gamma, accepted, kept, tested",
    [
        (3, [3], 0.9 * 3 + 3, 0.9 * 4 + 3),  # all of them: nobody knows of a fourth
        (3, [2], 0.9 * 3 + 2, 0.9 * 4 + 3),  # two were right and the third was wrong
        (3, [0], 0.9 * 3 + 0, 0.9 * 4 + 1),
        (3, [0, 2, 3], 0.9 * 3 + 5, 0.9 * 4 + 7),
        (1, [1, 0], 0.9 * 3 + 1, 0.9 * 4 + 2),
        (0, [0, 0], 3.0, 4.0),  # nothing proposed, nothing learnt
    ],
    ids=str,
)
def test_what_was_kept(gamma, accepted, kept, tested):
    pace = learnt((gamma, accepted, 1.0))
    assert (pace.kept, pace.tested) == (pytest.approx(kept), pytest.approx(tested))


def test_expected_tokens():
    """1 + s + s**2 + ..., with a share of 3/4 before anything is known."""
    pace = Pace()
    assert (pace.gamma(), Pace(rows=2).gamma()) == (3, 1), "the first guess"
    assert [pace.tokens(gamma) for gamma in (0, 1, 2)] == [1, 1.75, 1.75 + 0.5625]


def test_costs_measured_between_and_beyond():
    pace = learnt((0, [0], 1.0), (3, [0], 4.0))
    assert [pace.cost(gamma) for gamma in (0, 1, 2, 3)] == [1, 2, 3, 4]
    assert pace.cost(8) == 9, "on the line through the plain round"
    pace.learn(6, torch.tensor([0]), 10.0)
    assert [pace.cost(gamma) for gamma in (2, 3, 4, 5, 6)] == [3, 4, 6, 8, 10]
    assert pace.cost(8) == pytest.approx(1 + 9 * 8 / 6)
    three = learnt((0, [0], 1.0), (1, [0], 5.0), (3, [0], 6.0))
    assert three.cost(2) == 5.5, "between its neighbours, not from the plain round"


def test_the_middle_of_the_last_five():
    pace = learnt(*((0, [0], seconds) for seconds in (9, 9, 9, 1, 2, 30, 4, 5)))
    assert pace.cost(0) == 4


def test_the_best_rate_is_taken():
    """Shares and costs so that the best gamma can be read off a table."""
    pace = learnt((0, [0], 1.0), (3, [3], 1.75))
    share = (0.9 * 3 + 3) / (0.9 * 4 + 3)
    rates = {g: sum(share**i for i in range(g + 1)) / (1 + g / 4) for g in GAMMAS}
    assert pace.gamma() == max(rates, key=rates.get) not in (0, 3, max(GAMMAS))
    assert pace.rate() == pytest.approx(max(rates.values()))


def test_a_draft_that_does_not_pay_is_tried_again_after_a_while():
    pace = learnt((3, [0], 100.0), *[(0, [0], 1.0)] * (PROBE - 1))
    assert pace.gamma() == 0
    pace.learn(0, torch.tensor([0]), 1.0)
    assert pace.gamma() == 1
    pace.learn(1, torch.tensor([0]), 40.0)
    assert pace.gamma() == 0, "and then rests as long again"
    for _ in range(PROBE):
        assert pace.gamma() == 0
        pace.learn(0, torch.tensor([0]), 1.0)
    assert pace.gamma() == 1


def test_a_new_text_rests_as_long():
    known = Known()
    known.seconds[0].append(1.0)
    known.seconds[3] = deque([100.0])
    pace = Pace(known=known)
    for _ in range(PROBE):
        assert pace.gamma() == 0
        pace.learn(0, torch.tensor([0]), 1.0)
    assert pace.gamma() == 1


def test_a_draft_that_pays_is_not_probed():
    pace = learnt((3, [3], 1.0), *[(0, [0], 1.0)] * (PROBE + 1))
    assert pace.gamma() == max(GAMMAS), "costs nothing more, so as many as may be"


def test_who_proposes():
    """Everybody once, then who gives most tokens a second; each learns from its own rounds alone."""
    drafters = Drafters({"ngram": "N", "expert": "E"}, rows=1, gamma=None)
    asked = []
    for _ in range(3):
        who, gamma = drafters.next()
        asked.append((who, gamma))
        paid = {"N": 0, "E": gamma}[who]
        drafters.learn(gamma, torch.tensor([paid]), 1.0)
    assert asked == [("N", 3), ("N", 0), ("E", 3)], "what a plain round costs is known by then"
    assert drafters.next()[0] == "E"
    ngram, expert = (drafters.paces[name] for name in ("ngram", "expert"))
    assert (ngram.kept, expert.kept) == (pytest.approx(0.9 * 3), pytest.approx(0.9 * 3 + 3))


def test_who_cannot_be_better_is_not_tried():
    """N gives 17 tokens a second; E, untried, at most four."""
    drafters = Drafters({"ngram": "N", "expert": "E"}, rows=1, gamma=None)
    asked = []
    for _ in range(9):
        who, gamma = drafters.next()
        asked.append(who)
        drafters.learn(gamma, torch.tensor([gamma]), 1.0)
    assert set(asked) == {"N"} and drafters.paces["ngram"].gamma() == max(GAMMAS)


def test_what_rounds_cost_is_known_in_the_next_text():
    """N keeps nothing and costs as much as E, which keeps all.

    The next text begins with a guess for both, and nobody is asked for the sake of a measurement.
    """
    known = {}
    for text in range(2):
        drafters = Drafters({"ngram": "N", "expert": "E"}, rows=1, gamma=None, known=known)
        asked = []
        for _ in range(6):
            who, gamma = drafters.next()
            asked.append((who, gamma))
            seconds = 1.0 + gamma * {"N": 2.0, "E": 0.1}[who]
            drafters.learn(gamma, torch.tensor([gamma if who == "E" else 0]), seconds)
        assert asked[:3] == [("N", 3), ("N", 0), ("E", 3)] or text
    assert {who for who, _ in asked} == {"E"}, "the cheaper one, at once"


def write_text(known, shares, rounds=12):
    """Who was asked in a text whose rounds cost the same for both, with these shares kept."""
    drafters = Drafters({"ngram": "N", "expert": "E"}, rows=1, gamma=None, known=known)
    asked = []
    for _ in range(rounds):
        who, gamma = drafters.next()
        asked.append(who)
        kept = min(gamma, int(gamma * shares[who] + 0.5))
        drafters.learn(gamma, torch.tensor([kept]), 1.0 + 0.1 * gamma)
    return asked


def test_who_was_no_good_in_earlier_texts_is_not_asked_first():
    known = {}
    assert "N" in write_text(known, {"N": 0.0, "E": 1.0})
    assert set(write_text(known, {"N": 0.0, "E": 1.0})) == {"E"}


def test_nobody_is_given_up_for_good():
    """The other gets worse, in texts where the one given up would be right: it is found out."""
    known = {}
    write_text(known, {"N": 0.0, "E": 1.0})
    texts = [write_text(known, {"N": 1.0, "E": 0.0}) for _ in range(4)]
    assert texts[-1].count("N") > 8


def test_what_was_kept_in_earlier_texts_fades():
    """By hand: 2 of 2 after 0.98 of a guess of 0.75; the next text hopes for a tenth of it again."""
    known = Known()
    pace = Pace(known=known)
    assert pace.kept == pytest.approx(3.0)
    pace.learn(2, torch.tensor([2]), 1.0)
    assert (known.kept, known.tested) == (pytest.approx(0.98 * 0.75 + 2), pytest.approx(2.98))
    share = 0.9 * (0.98 * 0.75 + 2) / 2.98 + 0.1 * 0.75
    assert Pace(known=known).kept == pytest.approx(4 * share)


@pytest.mark.parametrize("gamma", [0, 2])
def test_a_gamma_that_is_given_is_everybodys(gamma):
    drafters = Drafters({"ngram": "N", "expert": "E"}, rows=1, gamma=gamma)
    for _ in range(3):
        assert drafters.next() == ("N", gamma), "no drafter is preferred: the first one"
        drafters.learn(gamma, torch.tensor([0]), 1.0)


def test_an_expert_in_8_bits_has_to_be_there():
    with pytest.raises(ValueError, match="load_family"):
        QuantisedExpert(SimpleNamespace(quantised_expert=None), {})


def test_nobody_proposes_nothing():
    drafters = Drafters({"none": "nobody"}, rows=1, gamma=None)
    assert drafters.next() == ("nobody", 0) and drafters.paces["none"] == Fixed(0)
    texts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert Nobody(None, {}).propose(texts, torch.ones(2, 3), 0)[0].shape == (2, 0)


def test_the_longest_known_end_decides():
    """Two words stood before, and the last of them again later, before something else."""
    text = torch.tensor([5, 2, 8, 9, 2, 7, 5, 2])
    assert what_followed(text, 1).tolist() == [8]
    assert what_followed(text, 1, longest=1).tolist() == [7]


def test_what_stood_before_is_all_that_ngrams_would_draw():
    """When sampling, each proposal with a probability of 1; greedily, no probabilities."""
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=5))
    texts, mask = torch.tensor([[1, 2, 3, 1, 2]]), torch.ones(1, 7, dtype=torch.long)
    greedy = Ngrams(model, {}).propose(texts, mask, 2)
    assert greedy[0].tolist() == [[3, 1]] and greedy[1] is None
    drafted, q, _ = Ngrams(model, {}, weigh=weigher(1.0, 0, 1.0)).propose(texts, mask, 2)
    assert drafted.tolist() == [[3, 1]]
    assert q.tolist() == [[[0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]]
