"""Evaluations on the validation set during training."""

import time
from copy import deepcopy

import numpy as np
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ..evaluation.held_out import HeldOut
from ..evaluation.metrics import quick
from ..evaluation.rankers import dense_ranker
from ..models.embed import encode_tokens
from ..models.tokens import join_texts, separator, token_ids
from .log import Log
from .options import Hyperparameters

LEAST_QUERIES = 50  # to choose weights by; with fewer the choice would be chance


def average(model: SentenceTransformer, base: dict[str, Tensor], share: float) -> None:
    """Set the weights to `share` of their own and the rest of `base`'s (Wortsman et al. 2022, arXiv:2109.01903)."""
    if share < 1:
        own = model.state_dict()
        model.load_state_dict({k: base[k].lerp(v, share) if v.is_floating_point() else v for k, v in own.items()})


class Validation:
    """Evaluates the model as it would be saved: with its weights averaged with the base model's, if so chosen."""

    def __init__(self, held_out: HeldOut, model: SentenceTransformer, chosen: Hyperparameters, log: Log) -> None:
        """Tokenise the texts, and copy the weights of the base model, which `model` is until it is trained."""
        self.held_out, self.share, self.log = held_out, chosen.average, log
        self.tokens = token_ids(model, join_texts(held_out.texts, separator(model)))
        self.base = deepcopy(model.state_dict()) if self.share < 1 else {}
        self.seconds = 0.0  # of the last evaluation
        self.can_choose = len(np.unique(held_out.pairs[:, 0])) >= LEAST_QUERIES

    def evaluate(self, model: SentenceTransformer, step: int) -> float:
        """Log the metrics of the model as it would be saved now; return nDCG@10."""
        started = time.perf_counter()
        own = deepcopy(model.state_dict()) if self.base else {}
        average(model, self.base, self.share)
        metrics = quick(dense_ranker(encode_tokens(model, self.tokens)), self.held_out).values
        if own:
            model.load_state_dict(own)
        self.log.write("val", {"step": step, **metrics})
        self.seconds = time.perf_counter() - started
        return metrics["nDCG@10"]
