"""Losses: the library's own values, without negatives that are positives."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from patentcl.models.load import MINILM, find_model
from patentcl.training.losses import InBatchContrast, Links

FAR_APART = Links(np.empty((0, 2), int), np.arange(9))
LABELS = torch.tensor([[0, 3, 6], [1, 4, 7], [2, 5, 8]])


def test_the_contrast_is_the_librarys_where_nothing_is_linked() -> None:
    model = find_model(MINILM).load()
    columns = [torch.randn(3, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    both = MultipleNegativesRankingLoss(model, scale=20).compute_loss_from_embeddings(columns, LABELS)
    back = MultipleNegativesRankingLoss(model, scale=20).compute_loss_from_embeddings([columns[1], columns[0]], LABELS)

    ours = InBatchContrast(FAR_APART, scale=20).compute_loss_from_embeddings(columns, LABELS)

    assert ours.item() == pytest.approx((both.item() + back.item()) / 2, rel=1e-5)


def test_a_positive_that_happens_to_stand_in_the_batch_is_no_negative() -> None:
    same = torch.eye(3, 8)
    anchors = torch.stack([same[0], same[0], same[2]])  # the first two anchors say the same, and are linked crosswise
    columns = [anchors, anchors.clone(), -anchors]
    crosswise = Links(np.array([[0, 4], [1, 3]]), np.arange(9))

    blind = InBatchContrast(FAR_APART, scale=20).compute_loss_from_embeddings(columns, LABELS)
    guarded = InBatchContrast(crosswise, scale=20).compute_loss_from_embeddings(columns, LABELS)

    assert blind.item() == pytest.approx(2 / 3 * np.log(2), rel=1e-3)
    assert guarded.item() == pytest.approx(0, abs=1e-6)
    assert crosswise.between(np.array([4]), np.array([0, 1])).tolist() == [[True, False]]
    assert Links(np.empty((0, 2), int), np.array([5, 5, 6])).between(np.array([0]), np.arange(3)).tolist() == [
        [True, True, False]
    ]
