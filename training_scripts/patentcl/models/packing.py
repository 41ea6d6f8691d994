"""Embedding texts of different lengths without padding: one row of tokens, attention inside each text only.

Everything in an encoder but attention works on single tokens, so the texts of a step are laid end to end and padding
costs nothing there. Attention goes over groups of texts of similar length with `scaled_dot_product_attention`, MPNet's
relative position bias (Raffel et al. 2020, https://arxiv.org/abs/1910.10683) as its mask, or, on CUDA, over the whole
row at once with FlexAttention (https://pytorch.org/blog/flexattention/). The mathematics is the stock model's; which
architectures that holds for is checked with a few texts (`choose_way`), and the others are padded as usual.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from ..common.cli import first_line
from .device import autocast, precision, to_device
from .load import first_position
from .tokens import token_ids

GROUPS = 3  # of similar length, where texts must be padded
SLACK = {"cpu": 0.15, "cuda": 0.7}  # of a group's cells may be padding, in attention only; a GPU wants few groups
BLOCK = 128  # tokens, of FlexAttention's masks
TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 5e-2}  # of the norm of vectors and gradients
PROBE = (  # texts to compare with the stock model; on random tokens some models multiply rounding errors a hundredfold
    "Pump",
    "Valve that opens when the pressure of a liquid in the chamber rises above a limit",
    "Lamp whose reflector throws the light of a diode on the wall behind the housing",
    "Treatment of waste water. Water flows through a basin in which bacteria break down what is dissolved in it. "
    "A sensor measures the oxygen, and a controller sets the speed of the blower by it, so that the bacteria get "
    "neither too much air nor too little. Sludge settles in a second basin, from where a part of it is pumped "
    "back into the first.",
)


class Layout:
    """Where each text lies in a row of tokens; texts are sorted by length, longest first."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Lay out texts of `lengths` (U,), in tokens."""
        self.lengths, self.device = lengths, device
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.bias: Tensor | None = None  # (heads, L, L), of this forward
        slack = SLACK.get(device.type, SLACK["cpu"])
        self.groups = [Group(self, first, end) for first, end in _similar(lengths, slack)]

    @cached_property
    def positions(self) -> Tensor:
        """The place of each token in its text, (T,)."""
        return to_device(_places(self.lengths), self.device)

    @cached_property
    def texts(self) -> Tensor:
        """The number of each token's text, (T,)."""
        return to_device(np.repeat(np.arange(len(self.lengths)), self.lengths), self.device)

    @cached_property
    def blocks(self) -> BlockMask:
        """Which blocks of the row's tokens see each other: those that share a text."""
        own = np.repeat(np.arange(len(self.lengths)), self.lengths)
        ends = np.arange(0, len(own), BLOCK)
        first = self.starts[own[ends]] // BLOCK
        last = (self.starts[own[np.minimum(ends + BLOCK, len(own)) - 1] + 1] - 1) // BLOCK
        count = last - first + 1
        indices = np.minimum(first[:, None] + np.arange(len(ends)), len(ends) - 1)  # those after `count` are not read
        text = self.texts

        def same_text(_: Tensor, __: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return text[q] == text[k]

        return BlockMask.from_kv_blocks(
            to_device(count.astype(np.int32)[None, None], self.device),
            to_device(indices.astype(np.int32)[None, None], self.device),
            BLOCK_SIZE=BLOCK,
            mask_mod=same_text,
            seq_lengths=(len(own), len(own)),
        )


class Group:
    """Texts of similar length, whose attention is computed at once."""

    def __init__(self, layout: Layout, first: int, end: int) -> None:
        """Texts `first` to `end` of the layout."""
        self.layout = layout
        lengths = layout.lengths[first:end]
        self.count, self.width = end - first, int(lengths[0])
        self.begin, self.tokens = int(layout.starts[first]), int(lengths.sum())
        self.padded = self.tokens < self.count * self.width
        if self.padded:
            real = np.arange(self.width) < lengths[:, None]
            self.real = to_device(np.flatnonzero(real), layout.device)
            self.is_key = to_device(real[:, None, None, :], layout.device)

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, T, d) → (count, heads, width, d), padded with zeros."""
        own = packed[0, :, self.begin : self.begin + self.tokens].transpose(0, 1)
        if self.padded:
            own = own.new_zeros(self.count * self.width, *own.shape[1:]).index_copy_(0, self.real, own)
        return own.unflatten(0, (self.count, self.width)).transpose(1, 2)

    def gather(self, spread: Tensor) -> Tensor:
        """(count, heads, width, d) → (tokens, heads, d)."""
        rows = spread.transpose(1, 2).flatten(0, 1)
        return rows.index_select(0, self.real) if self.padded else rows

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores: bias, and -inf on padding; the same for all layers."""
        if self._mask is not None and self._mask.dtype == dtype:
            return self._mask
        bias = self.layout.bias
        own = None if bias is None else bias[None, :, : self.width, : self.width].to(dtype)
        if self.padded:
            closed = torch.zeros(self.is_key.shape, dtype=dtype, device=self.is_key.device)
            closed = closed.masked_fill(~self.is_key, -torch.inf)
            own = closed if own is None else own + closed
        self._mask = own
        return own

    _mask: Tensor | None = None


def _similar(lengths: np.ndarray, slack: float) -> Iterator[tuple[int, int]]:
    """Ranges of texts with at most a share of `slack` of padding."""
    first = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - first) * lengths[first] * (1 - slack) > lengths[first : end + 1].sum():
            yield first, end
            first = end


def _places(lengths: np.ndarray) -> np.ndarray:
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _by_groups(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float) -> Tensor:
    """Attention (1, heads, T, d) → (1, T, heads, d), group by group."""
    found = []
    for group in layout.groups:
        q, k, v = (group.spread(packed) for packed in (query, key, value))
        out = scaled_dot_product_attention(q, k, v, attn_mask=group.mask(q.dtype), dropout_p=dropout, scale=scale)
        found.append(group.gather(out))
    return torch.cat(found)[None]


def _flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float) -> Tensor:
    """The same over the whole row; a text's tokens see each other only."""
    place, bias = layout.positions, layout.bias
    if dropout:
        raise ValueError("FlexAttention has no dropout")

    def add_bias(score: Tensor, _: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, place[q], place[k]]

    score_mod = add_bias if bias is not None else None
    attend: Any = _compiled_flex() if query.is_cuda else flex_attention
    out: Any = attend(query, key, value, score_mod=score_mod, block_mask=layout.blocks, scale=scale)
    return out.transpose(1, 2)


@cache
def _compiled_flex() -> Any:
    """FlexAttention as one kernel for all lengths."""
    return torch.compile(flex_attention, dynamic=True)


_ATTENTION: dict[str, Callable[..., Tensor]] = {"sdpa": _by_groups, "flex": _flex}
_CURRENT: dict[str, Any] = {}  # the layout of the forward that runs, for transformers' attention interface


def _interface(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **more: Any
) -> tuple[Tensor, None]:
    """Attention as the models of transformers call it (BERT, RoBERTa, …)."""
    scale = more.get("scaling") or query.shape[-1] ** -0.5
    return _CURRENT["attend"](query, key, value, _CURRENT["layout"], scale, more.get("dropout", 0.0)), None


AttentionInterface.register("patentcl", _interface)
AttentionMaskInterface.register("patentcl", lambda *_, **__: None)


def _mpnet_attention(self: MPNetSelfAttention, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    """MPNet's attention, which knows no interface."""
    parts = (self.q, self.k, self.v)  # in one product, for a GPU waits for what launches its kernels
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    joint = linear(hidden_states, weight, bias).unflatten(-1, (3, -1, self.attention_head_size))
    query, key, value = (part.transpose(1, 2) for part in joint.unbind(-3))
    dropout = self.dropout.p if self.training else 0.0
    out = _CURRENT["attend"](query, key, value, _CURRENT["layout"], self.attention_head_size**-0.5, dropout)
    return (self.o(out.flatten(2)),)


def _mpnet_bias(self: MPNetEncoder, hidden_states: Tensor) -> None:
    """Compute the bias for the longest text, once a forward; layers take it from the layout."""
    layout = _CURRENT["layout"]
    longest = int(layout.lengths[0])
    layout.bias = type(self).compute_position_bias(self, hidden_states.new_empty(1, longest, 0))[0]


@contextmanager
def _attending(transformer: nn.Module, attend: Callable[..., Tensor], layout: Layout) -> Iterator[None]:
    """Let the attention of `transformer` follow `layout`."""
    patched = [m for m in transformer.modules() if isinstance(m, MPNetSelfAttention | MPNetEncoder)]
    config: Any = transformer.config
    before = config._attn_implementation
    config._attn_implementation = "patentcl"
    _CURRENT.update(attend=attend, layout=layout)
    for module in patched:
        if isinstance(module, MPNetEncoder):
            module.compute_position_bias = partial(_mpnet_bias, module)  # type: ignore[method-assign]
        else:
            module.forward = partial(_mpnet_attention, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        config._attn_implementation = before
        _CURRENT.clear()
        for module in patched:
            module.__dict__.pop("compute_position_bias", None)
            module.__dict__.pop("forward", None)


def embed_packed(model: SentenceTransformer, texts: list[np.ndarray], way: str = "sdpa") -> Tensor:
    """Embed texts given as token ids, special tokens included; (U, d) in the order given.

    `way` is "sdpa", "flex" or "padded": "padded" is for models whose texts cannot be packed.
    """
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(-lengths, kind="stable")
    rows = [texts[i].astype(np.int64) for i in order]
    if way == "padded":
        size = math.ceil(len(rows) / GROUPS)
        embedded = torch.cat([_padded(model, rows[i : i + size]) for i in range(0, len(rows), size)])
    else:
        embedded = _packed(model, rows, Layout(lengths[order], model.device), way)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return embedded.index_select(0, to_device(back, embedded.device))


def _packed(model: SentenceTransformer, rows: list[np.ndarray], layout: Layout, way: str) -> Tensor:
    transformer: Any = model[0]
    ids = to_device(np.concatenate(rows), model.device)[None]
    places = layout.positions[None] + first_position(model)
    with _attending(transformer.model, _ATTENTION[way], layout):
        tokens = transformer({"input_ids": ids, "position_ids": places})["token_embeddings"][0]
    return _pool(model, tokens, layout)


def _pool(model: SentenceTransformer, tokens: Tensor, layout: Layout) -> Tensor:
    """Pooling, and whatever else the model does with the vectors of a text's tokens."""
    count, width = len(layout.lengths), int(layout.lengths[0])
    cells = layout.texts * width + layout.positions
    padded = tokens.new_zeros(count * width, tokens.shape[1], dtype=torch.float32).index_copy_(0, cells, tokens.float())
    mask = (torch.arange(width, device=tokens.device) < to_device(layout.lengths, tokens.device)[:, None]).long()
    features: dict[str, Any] = {"token_embeddings": padded.unflatten(0, (count, width)), "attention_mask": mask}
    for module in list(model)[1:]:
        features = module(features)
    embedded: Tensor = features["sentence_embedding"]
    return embedded


def _padded(model: SentenceTransformer, rows: list[np.ndarray]) -> Tensor:
    """As the stock library does it: all as long as the longest."""
    lengths = np.array([len(row) for row in rows])
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(real.shape, getattr(model.tokenizer, "pad_token_id", None) or 0)
    ids[real] = np.concatenate(rows)
    features = {"input_ids": to_device(ids, model.device), "attention_mask": to_device(real * 1, model.device)}
    embedded: Tensor = model(features)["sentence_embedding"]
    return embedded


def choose_way(
    model: SentenceTransformer, wanted: str = "sdpa", say: Callable[[str], None] = print, gradients: bool = True
) -> str:
    """Return `wanted` if vectors and `gradients` of a few texts are the stock model's, else the next best way.

    Says so in a sentence when it is not `wanted`.
    """
    if wanted == "padded":
        return wanted
    problem = _difference(model, wanted, gradients)
    if not problem:
        return wanted
    other = "sdpa" if wanted == "flex" else "padded"
    say(f"--attention {wanted} does not do here ({problem}): takes {other}")
    return choose_way(model, other, say, gradients)


def _difference(model: SentenceTransformer, way: str, gradients: bool) -> str:
    """What keeps `way` from being the stock model's mathematics; the empty text where it is."""
    if way == "flex" and any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
        return "FlexAttention knows no dropout: add --dropout 0"
    if way == "flex" and model.device.type != "cuda":
        return "FlexAttention trains on CUDA only"
    texts = [ids.astype(np.int64) for ids in token_ids(model, list(PROBE))]
    training = model.training
    model.eval()
    try:
        with torch.set_grad_enabled(gradients), autocast(model):
            stock = _probe(model, _padded(model, texts))
            ours = _probe(model, embed_packed(model, texts, way))
        apart = max(float((a - b).norm() / a.norm()) for a, b in zip(stock, ours, strict=True))
    except Exception as problem:  # noqa: BLE001 (architectures and compilers fail in many ways)
        return f"{type(problem).__name__}: {first_line(problem)}"
    finally:
        model.train(training)
        if gradients:
            model.zero_grad()
    return "" if apart <= TOLERANCE[precision()] else f"it differs from the stock model by {apart:.1e}"


def _probe(model: SentenceTransformer, vectors: Tensor) -> list[Tensor]:
    """Vectors, and with gradients that of a number that depends on all of them."""
    if not vectors.requires_grad:
        return [vectors.float()]
    model.zero_grad()
    weights = torch.linspace(-1, 1, vectors.numel(), device=vectors.device).view_as(vectors)
    (vectors.float() * weights).sum().backward()
    grads = [p.grad.ravel() for p in model.parameters() if p.grad is not None]
    return [vectors.detach().float(), torch.cat(grads)]
