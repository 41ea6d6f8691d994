"""Losses: the values of the library, no negatives that are positives, and how to add a loss."""

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    TripletLoss,
)

from patentcl.common.cli import InputError
from patentcl.models.load import Model
from patentcl.training.losses import LOSSES, InBatchContrast, Links, Nested, TripletMargin
from patentcl.training.options import Hyperparameters
from patentcl.triplets.dataset import Dataset

FAR_APART = Links(np.empty((0, 2), int), np.arange(9))
ROWS = np.array([[0, 3, 6], [1, 4, 7], [2, 5, 8]])


class OneDirection(InBatchContrast):
    """From anchors to candidates only, as the library's."""

    def value(self, anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, *masks: Any) -> torch.Tensor:
        anchor, positive, negative = (torch.nn.functional.normalize(part) for part in (anchor, positive, negative))
        scores = anchor @ torch.cat([positive, negative]).T * self.scale
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(anchor)))


def columns() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    anchor, positive, negative = (torch.randn(3, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    return anchor, positive, negative


def test_the_triplet_loss_is_the_librarys(small_model: Model) -> None:
    stock = TripletLoss(small_model.load(), triplet_margin=2).compute_loss_from_embeddings([*columns()], torch.empty(0))

    assert TripletMargin(2)(*columns(), ROWS).item() == stock.item()


def test_the_contrast_is_the_librarys_where_nothing_is_linked(small_model: Model) -> None:
    stock = MultipleNegativesRankingLoss(small_model.load(), scale=20)
    anchor, positive, negative = columns()
    forth = stock.compute_loss_from_embeddings([anchor, positive, negative], torch.empty(0))
    back = stock.compute_loss_from_embeddings([positive, anchor], torch.empty(0))

    ours = InBatchContrast(FAR_APART, scale=20)(anchor, positive, negative, ROWS)

    assert ours.item() == pytest.approx((forth.item() + back.item()) / 2, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_nested_dimensions_have_the_loss_and_the_gradient_of_the_library(name: str, small_model: Model) -> None:
    network = small_model.load()
    stock_loss = TripletLoss(network, triplet_margin=2) if name == "triplet" else MultipleNegativesRankingLoss(network)
    own_loss = TripletMargin(2) if name == "triplet" else OneDirection(FAR_APART, scale=20)
    texts = [["pump", "valve"], ["a pump", "a valve"], ["lamp", "chair"]]
    features = [network.preprocess(column) for column in texts]
    network.eval()
    network.zero_grad()

    stock = MatryoshkaLoss(network, stock_loss, [32, 16, 4])(features, torch.empty(0))
    stock.backward()
    wanted = torch.cat([p.grad.ravel() for p in network.parameters() if p.grad is not None])
    network.zero_grad()
    embeddings = [network(network.preprocess(column))["sentence_embedding"] for column in texts]
    ours = Nested(own_loss, (32, 16, 4))(embeddings[0], embeddings[1], embeddings[2], ROWS[:2])
    ours.backward()

    assert ours.item() == pytest.approx(stock.item(), rel=1e-5)
    got = torch.cat([p.grad.ravel() for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    network.zero_grad()


def test_a_positive_of_another_triplet_is_not_a_negative() -> None:
    same = torch.eye(3, 8)
    anchor = torch.stack([same[0], same[0], same[2]])  # the first two anchors are alike, and linked crosswise
    crosswise = Links(np.array([[0, 4], [1, 3]]), np.arange(9))

    blind = InBatchContrast(FAR_APART, scale=20)(anchor, anchor, -anchor, ROWS)
    guarded = InBatchContrast(crosswise, scale=20)(anchor, anchor, -anchor, ROWS)

    assert blind.item() == pytest.approx(2 / 3 * np.log(2), rel=1e-3)
    assert guarded.item() == pytest.approx(0, abs=1e-6)


def test_links_have_no_direction_and_hold_families() -> None:
    crosswise = Links(np.array([[0, 4], [1, 3]]), np.arange(9))
    families = Links(np.empty((0, 2), int), np.array([5, 5, 6]))

    assert crosswise.between(np.array([4]), np.array([0, 1])).tolist() == [[True, False]]
    assert families.between(np.array([0]), np.arange(3)).tolist() == [[True, True, False]]


def test_every_loss_is_built_from_data_and_hyperparameters(data: Dataset, tiny: Hyperparameters) -> None:
    rows = data.triplets_of("train")[:3]
    for name, kind in LOSSES.items():
        options = {option: getattr(tiny, option) for option in kind.options}
        loss = kind.build(data, **options)

        assert loss(*columns(), rows).isfinite(), name
        assert {option: getattr(loss, option) for option in kind.options} == options


def test_an_option_of_another_loss_is_refused() -> None:
    with pytest.raises(InputError, match=r"--margin .* --loss contrast"):
        Hyperparameters(loss="contrast", margin=1)
    with pytest.raises(InputError, match=r"--scale .* --loss triplet"):
        Hyperparameters(scale=10)
    with pytest.raises(InputError, match="--loss other"):
        Hyperparameters(loss="other")
