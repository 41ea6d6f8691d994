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
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from .models import autocast, device_dtype
from .tokens import token_ids

GROUPS = 3  # of similar length, where texts must be padded
SLACK = 0.15  # of a group's cells may be padding, in attention only
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # of the norm of vectors and gradients
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
        self.groups = [Group(self, first, end) for first, end in _similar(lengths)]

    @cached_property
    def positions(self) -> Tensor:
        """The place of each token in its text, (T,)."""
        return torch.from_numpy(_places(self.lengths)).to(self.device)

    @cached_property
    def texts(self) -> Tensor:
        """The number of each token's text, (T,)."""
        return torch.from_numpy(np.repeat(np.arange(len(self.lengths)), self.lengths)).to(self.device)


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
            place = np.minimum(np.arange(self.width), lengths[:, None] - 1)  # padding repeats a text's last token
            cells = place + (layout.starts[first:end, None] - self.begin)
            real = np.arange(self.width) < lengths[:, None]
            self.cells = torch.from_numpy(cells.ravel()).to(layout.device)
            self.real = torch.from_numpy(np.flatnonzero(real)).to(layout.device)
            self.is_key = torch.from_numpy(real[:, None, None, :]).to(layout.device)

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, T, d) → (count, heads, width, d)."""
        own = packed[0, :, self.begin : self.begin + self.tokens]
        if self.padded:
            own = own[:, self.cells]
        return own.unflatten(1, (self.count, self.width)).transpose(0, 1)

    def gather(self, spread: Tensor) -> Tensor:
        """(count, heads, width, d) → (tokens, heads, d)."""
        rows = spread.transpose(1, 2).flatten(0, 1)
        return rows[self.real] if self.padded else rows

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


def _similar(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of texts with at most `SLACK` of padding."""
    first = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - first) * lengths[first] * (1 - SLACK) > lengths[first : end + 1].sum():
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
    text, place, bias = layout.texts, layout.positions, layout.bias
    if dropout:
        raise ValueError("FlexAttention has no dropout")

    def same_text(_: Tensor, __: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return text[q] == text[k]

    def add_bias(score: Tensor, _: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, place[q], place[k]]

    block = getattr(layout, "block", None)
    if block is None:
        tokens = query.shape[2]  # compiled, the mask of all pairs of tokens is never in memory
        block = create_block_mask(same_text, None, None, tokens, tokens, device=query.device, _compile=query.is_cuda)
        layout.block = block  # type: ignore[attr-defined]  # the same for all layers
    attend: Any = _compiled_flex() if query.is_cuda else flex_attention
    out = attend(query, key, value, score_mod=add_bias if bias is not None else None, block_mask=block, scale=scale)
    return out.transpose(1, 2)


def _compiled_flex() -> Callable[..., Any]:
    global _COMPILED
    if _COMPILED is None:
        _COMPILED = torch.compile(flex_attention, dynamic=True)
    return _COMPILED


_COMPILED: Callable[..., Any] | None = None
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
    shape = (*hidden_states.shape[:-1], -1, self.attention_head_size)
    query, key, value = (part(hidden_states).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v))
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
    rows = [torch.from_numpy(texts[i].astype(np.int64)) for i in order]
    if way == "padded":
        size = math.ceil(len(rows) / GROUPS)
        embedded = torch.cat([_padded(model, rows[i : i + size]) for i in range(0, len(rows), size)])
    else:
        embedded = _packed(model, rows, Layout(lengths[order], model.device), way)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return embedded[torch.from_numpy(back).to(embedded.device)]


def _packed(model: SentenceTransformer, rows: list[Tensor], layout: Layout, way: str) -> Tensor:
    transformer: Any = model[0]
    ids = torch.cat(rows).to(model.device, non_blocking=True)[None]
    places = layout.positions[None] + transformer._infer_flatten_position_offset()
    with _attending(transformer.model, _ATTENTION[way], layout):
        tokens = transformer({"input_ids": ids, "position_ids": places})["token_embeddings"][0]
    return _pool(model, tokens.split(layout.lengths.tolist()))


def _pool(model: SentenceTransformer, tokens: tuple[Tensor, ...]) -> Tensor:
    """Pooling, and whatever else the model does with the vectors of a text's tokens."""
    padded = pad_sequence(list(tokens), batch_first=True).float()
    lengths = torch.tensor([len(text) for text in tokens], device=padded.device)
    mask = (torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]).long()
    features: dict[str, Any] = {"token_embeddings": padded, "attention_mask": mask}
    for module in list(model)[1:]:
        features = module(features)
    embedded: Tensor = features["sentence_embedding"]
    return embedded


def _padded(model: SentenceTransformer, rows: list[Tensor]) -> Tensor:
    """As the stock library does it: all as long as the longest."""
    pad = getattr(model.tokenizer, "pad_token_id", None) or 0
    ids = pad_sequence(rows, batch_first=True, padding_value=pad).to(model.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    embedded: Tensor = model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
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
    training, dtype = model.training, device_dtype()
    model.eval()
    try:
        with torch.set_grad_enabled(gradients), autocast(model):
            stock = _probe(model, _padded(model, [torch.from_numpy(text) for text in texts]))
            ours = _probe(model, embed_packed(model, texts, way))
        apart = max(float((a - b).norm() / a.norm()) for a, b in zip(stock, ours, strict=True))
    except Exception as problem:  # noqa: BLE001 (architectures and compilers fail in many ways)
        return f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
    finally:
        model.train(training)
        if gradients:
            model.zero_grad()
    return "" if apart <= TOLERANCE[dtype] else f"it differs from the stock model by {apart:.1e}"


def _probe(model: SentenceTransformer, vectors: Tensor) -> list[Tensor]:
    """Vectors, and with gradients that of a number that depends on all of them."""
    if not vectors.requires_grad:
        return [vectors.float()]
    model.zero_grad()
    weights = torch.linspace(-1, 1, vectors.numel(), device=vectors.device).view_as(vectors)
    (vectors.float() * weights).sum().backward()
    grads = [p.grad.ravel() for p in model.parameters() if p.grad is not None]
    return [vectors.detach().float(), torch.cat(grads)]
