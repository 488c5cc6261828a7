import numpy as np
import torch

from kinescribe.models.sampling import AllowedTokens, RowEnds, SeededSampling

NO_IDS = torch.zeros(1, 1, dtype=torch.long)


def test_only_allowed_tokens_can_be_drawn():
    scores = AllowedTokens(np.array([2, 4]), torch.device("cpu"))(NO_IDS, torch.zeros(1, 6))
    assert torch.isfinite(scores).tolist() == [[False, False, True, False, True, False]]


def test_a_row_ends_with_its_mark_and_nothing_else_does():
    ends = RowEnds(row_end=5, width=2, prompt_length=3)
    drawn = [ends(torch.zeros(1, 3 + place, dtype=torch.long), torch.ones(1, 6)) for place in range(6)]
    assert [torch.isfinite(scores).sum().item() for scores in drawn] == [6, 6, 1, 6, 6, 1]
    assert drawn[2].argmax() == 5


def test_draws_follow_the_softmax_at_the_temperature():
    logits, temperature, num = torch.tensor([0.0, 1.0, 2.0]), 2.0, 4000
    sampler = SeededSampling(range(num), temperature)
    drawn = sampler(NO_IDS, logits.expand(num, -1)).argmax(-1)
    share = torch.bincount(drawn, minlength=3) / num
    torch.testing.assert_close(share, torch.softmax(logits / temperature, 0), atol=0.03, rtol=0)


def test_a_rows_samples_depend_only_on_its_seed():
    logits = torch.zeros(3, 50)
    many, one = SeededSampling([5, 6, 7], 1.0), SeededSampling([6], 1.0)
    for _ in range(4):
        assert many(NO_IDS, logits).argmax(-1)[1] == one(NO_IDS, logits[:1]).argmax(-1)[0]
