"""Losses: the library's own values, without the padding, and without negatives that are positives."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss, TripletLoss
from torch import Tensor

from patentcl.losses import ByLength, InBatchContrast, Links
from patentcl.models import MINILM, load_model, set_dropout

TEXTS = [
    ["a pump", "a valve that opens when the pressure of a liquid in the chamber rises", "a lamp"],
    ["a shut-off member of some length", "a bulb", "a long text about how water is treated with bacteria in a basin"],
    ["a chair", "a table with four legs and a drawer", "a hat"],
]
FAR_APART = Links(np.empty((0, 2), int), np.arange(9))
LABELS = torch.tensor([[0, 3, 6], [1, 4, 7], [2, 5, 8]])


def gradient(loss: torch.nn.Module, columns: list[dict[str, Tensor]]) -> tuple[float, Tensor]:
    loss.zero_grad()
    value = loss([dict(column) for column in columns], LABELS)
    value.backward()
    parameters = [p for name, p in loss.named_parameters() if p.grad is not None and "layer" in name]
    return value.item(), torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def test_groups_of_similar_length_change_neither_loss_nor_gradient() -> None:
    model = load_model(MINILM)
    set_dropout(model, 0)
    model.train()
    columns = [model.tokenize(texts) for texts in TEXTS]

    stock = gradient(TripletLoss(model, triplet_margin=5), columns)
    ours = gradient(ByLength(TripletLoss(model, triplet_margin=5)), columns)

    assert ours[0] == pytest.approx(stock[0], abs=1e-5)
    torch.testing.assert_close(ours[1], stock[1], atol=1e-5, rtol=1e-3)


def test_the_contrast_is_the_librarys_where_nothing_is_linked() -> None:
    model = load_model(MINILM)
    columns = [torch.randn(3, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    both = MultipleNegativesRankingLoss(model, scale=20).compute_loss_from_embeddings(columns, LABELS)
    back = MultipleNegativesRankingLoss(model, scale=20).compute_loss_from_embeddings([columns[1], columns[0]], LABELS)

    ours = InBatchContrast(model, FAR_APART, scale=20).compute_loss_from_embeddings(columns, LABELS)

    assert ours.item() == pytest.approx((both.item() + back.item()) / 2, rel=1e-5)


def test_a_positive_that_happens_to_stand_in_the_batch_is_no_negative() -> None:
    model = load_model(MINILM)
    same = torch.eye(3, 8)
    anchors = torch.stack([same[0], same[0], same[2]])  # the first two anchors say the same, and are linked crosswise
    columns = [anchors, anchors.clone(), -anchors]
    crosswise = Links(np.array([[0, 4], [1, 3]]), np.arange(9))

    blind = InBatchContrast(model, FAR_APART, scale=20).compute_loss_from_embeddings(columns, LABELS)
    guarded = InBatchContrast(model, crosswise, scale=20).compute_loss_from_embeddings(columns, LABELS)

    assert blind.item() == pytest.approx(2 / 3 * np.log(2), rel=1e-3)
    assert guarded.item() == pytest.approx(0, abs=1e-6)
    assert crosswise.between(np.array([4]), np.array([0, 1])).tolist() == [[True, False]]
    assert Links(np.empty((0, 2), int), np.array([5, 5, 6])).between(np.array([0]), np.arange(3)).tolist() == [
        [True, True, False]
    ]
