import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.errors import LortHubError
from lort_hub.training.epoch_loss import READ_EVERY, EpochLoss


def add(losses, values, share=1.0):
    for step, value in enumerate(values):
        losses.add(torch.tensor(value, requires_grad=True), share=share, step=step)
    return losses


@pytest.mark.parametrize("after", [1, READ_EVERY])
def test_the_first_loss_that_is_not_finite_is_named_with_the_newest_checkpoint(after, tmp_path):
    for epoch in (2, 10, 9):
        (tmp_path / f"epoch_{epoch:04d}").mkdir()
    losses = EpochLoss(epoch=10, lr=0.5, checkpoints=tmp_path)
    place = f"inf in epoch 11, step 4, at lr 0.5; last good checkpoint: {tmp_path}/epoch_0010."
    values = [2.0, 1.0, 1.0, math.inf, *[math.nan] * after]
    with pytest.raises(LortHubError, match=re.escape(place)):
        add(losses, values).total()


def test_losses_are_read_together_before_the_epoch_ends():
    losses = EpochLoss(epoch=0, lr=0.5, checkpoints=Path())
    add(losses, [math.nan] * (READ_EVERY - 1))
    losses = EpochLoss(epoch=0, lr=0.5, checkpoints=Path())
    with pytest.raises(LortHubError, match="step 1,"):
        add(losses, [math.nan] * READ_EVERY)


@given(st.lists(st.floats(0.0, 9.0, width=32), max_size=2 * READ_EVERY + 1))
def test_losses_are_summed_by_their_shares_without_their_graphs(values):
    losses = EpochLoss(epoch=0, lr=0.5, checkpoints=Path())
    total = add(losses, values, share=0.25).total()
    assert not total.requires_grad
    assert float(total) == pytest.approx(sum(values) / 4, rel=1e-5)
