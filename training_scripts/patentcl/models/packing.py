"""Embed texts of different lengths without padding: one row of tokens, with attention inside each text only.

Everything in an encoder but attention works on single tokens, so the texts of a batch are concatenated and padding
costs nothing there. Attention runs over groups of texts of similar length with `scaled_dot_product_attention`, with
MPNet's relative position bias (Raffel et al. 2020, https://arxiv.org/abs/1910.10683) as its mask. On CUDA, static
shapes and FlexAttention (https://pytorch.org/blog/flexattention/) take rows of whole texts instead. The result is the
stock model's: `choose_backend` compares both on a few texts, and architectures that differ are padded as usual.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from ..common.cli import first_line
from .attention import Layout
from .device import autocast, precision, to_device
from .static import RECOMPILES, Static, shapes_for
from .tokens import prompt_of, token_ids

GROUPS = 3  # of similar length, where texts must be padded
TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 5e-2}  # relative to the norm of embeddings and of gradients
STATIC = {"sdpa": "rows", "flex": "flex"}  # what a backend is called in static shapes
COMPILE_MODE = "max-autotune-no-cudagraphs"
PROBE = [  # texts to compare with the stock model; on random tokens some models amplify rounding errors a hundredfold
    "Pump",
    "Valve that opens when the pressure of a liquid in the chamber rises above a limit",
    "Lamp whose reflector throws the light of a diode on the wall behind the housing",
    "Treatment of waste water by bacteria. A sensor measures the oxygen, and a controller sets the blower by it. " * 4,
]


class Packing:
    """What the attention of one transformer follows: a layout of packed texts, or None for stock attention."""

    def __init__(self, transformer: nn.Module) -> None:
        """Let every module of `transformer` refer to this object, and replace MPNet's attention.

        Other architectures find it through the attention interface of transformers, while a layout is followed.
        """
        self.config: Any = getattr(transformer, "config", None)
        self.layout: Layout | Static | None = None
        self.backend, self.static = "", False  # for inference, once it is chosen
        self.compiled: list[tuple[nn.Module, Callable[..., Any]]] = []  # layers, to train in static shapes
        for module in transformer.modules():
            module.__dict__["packing"] = self
            if type(module) in _PACKED:
                module.__class__ = _PACKED[type(module)]

    @contextmanager
    def follow(self, layout: Layout | Static) -> Iterator[None]:
        """Pack the forward passes inside the `with` block."""
        stock = self.config._attn_implementation
        self.config._attn_implementation, self.layout = "patentcl", layout
        compiled = self.compiled if isinstance(layout, Static) and torch.is_grad_enabled() else []
        for layer, forward in compiled:
            layer.__dict__["forward"] = forward
        try:
            yield
        finally:
            self.config._attn_implementation, self.layout = stock, None
            for layer, _ in compiled:
                del layer.__dict__["forward"]

    def compile_layers(self, transformer: nn.Module) -> None:
        """Compile each layer, for each static shape in which it is trained."""
        layers = [layer for module in transformer.modules() if isinstance(module, nn.ModuleList) for layer in module]
        options: Any = {"dynamic": False, "mode": COMPILE_MODE}
        torch._dynamo.config.recompile_limit = RECOMPILES
        self.compiled = [(layer, torch.compile(layer.forward, **options)) for layer in layers]


def _interface(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **more: Any
) -> tuple[Tensor, None]:
    """Attention as the models of transformers call it (BERT, RoBERTa, …)."""
    scale = more.get("scaling") or query.shape[-1] ** -0.5
    return module.__dict__["packing"].layout.attend(query, key, value, scale, more.get("dropout", 0.0)), None


AttentionInterface.register("patentcl", _interface)
AttentionMaskInterface.register("patentcl", lambda *_, **__: None)


class _PackedMPNetAttention(MPNetSelfAttention):
    """MPNet's attention, which does not use the interface."""

    def forward(self, hidden_states: Tensor, *args: Any, **more: Any) -> Any:
        layout = self.__dict__["packing"].layout
        if layout is None:
            return super().forward(hidden_states, *args, **more)
        parts = (self.q, self.k, self.v)  # in one product, because launching kernels is what a GPU waits for
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        joint = linear(hidden_states, weight, bias).unflatten(-1, (3, -1, self.attention_head_size))
        dropout = self.dropout.p if self.training else 0.0
        out = layout.attend(*joint.transpose(1, 3).unbind(2), self.attention_head_size**-0.5, dropout)
        return (self.o(out.flatten(2)),)


class _PackedMPNetEncoder(MPNetEncoder):
    """MPNet's layers, which compute the relative position bias once per forward pass."""

    def compute_position_bias(self, x: Tensor, *args: Any, **more: Any) -> Any:
        layout = self.__dict__["packing"].layout
        if layout is None:
            return super().compute_position_bias(x, *args, **more)
        if isinstance(layout, Static) and layout.flex:
            distances = torch.arange(1 - layout.longest, layout.longest, device=x.device)
            layout.add_bias(self.relative_attention_bias(self.relative_position_bucket(distances)).T.contiguous())
        else:
            layout.add_bias(super().compute_position_bias(x.new_empty(1, layout.width, 0))[0])
        return None  # the layers take it from the layout


_PACKED: dict[type, type] = {MPNetSelfAttention: _PackedMPNetAttention, MPNetEncoder: _PackedMPNetEncoder}


def packing_of(model: SentenceTransformer) -> Packing:
    """The packing of the model's transformer, installed on the first call."""
    transformer: Any = getattr(model[0], "model", model[0])
    packing: Packing = transformer.__dict__.get("packing") or Packing(transformer)
    return packing


def embed_packed(model: SentenceTransformer, texts: list[np.ndarray], backend: str = "sdpa") -> Tensor:
    """Embed texts given as token ids, special tokens included; (U, d) in the order given.

    `backend` is "sdpa", "flex" or "padded", see `choose_backend`, or "rows", which is "sdpa" in static shapes.
    """
    lengths = np.array([len(text) for text in texts])
    if backend in STATIC.values():
        width, (count, *_) = shapes_for([lengths], int(lengths.max()))
        static = Static(count, width, len(texts), int(lengths.max()), backend, model.device)
        static.dynamic = True
        static.fill(texts)
        return embed_static(model, static)
    order = np.argsort(-lengths, kind="stable")
    rows = [texts[row].astype(np.int64) for row in order]
    if backend == "padded":
        size = math.ceil(len(rows) / GROUPS)
        embeddings = torch.cat([_pad(model, rows[start : start + size]) for start in range(0, len(rows), size)])
    else:
        ids = to_device(np.concatenate(rows)[None], model.device)
        embeddings = _embed(model, ids, Layout(lengths[order], model.device))
    return embeddings.index_select(0, to_device(np.argsort(order), model.device))[:, : model.truncate_dim]


def _pad(model: SentenceTransformer, rows: list[np.ndarray]) -> Tensor:
    """Embed texts as the stock library does it."""
    features = _features(model, pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True))
    padding = getattr(model.tokenizer, "pad_token_id", None) or 0
    ids = pad_sequence([torch.from_numpy(row) for row in rows], True, padding)
    return model(batch_to_device({"input_ids": ids, **features}, model.device))["sentence_embedding"]


def embed_static(model: SentenceTransformer, static: Static) -> Tensor:
    """Embed the texts in `static`; (texts, d), with rows of no meaning for the missing ones."""
    return _embed(model, static.ids, static)[:, : model.truncate_dim]


def _embed(model: SentenceTransformer, ids: Tensor, layout: Layout | Static) -> Tensor:
    """Embed the packed tokens `ids` (rows, T), then pool each text and do what else the model does."""
    body: Any = model[0]
    kind = model.device.type
    layout.prepare(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)
    positions = layout.positions + body._infer_flatten_position_offset()  # of the first token: 2 for MPNet, RoBERTa
    with packing_of(model).follow(layout):
        tokens = body({"input_ids": ids, "position_ids": positions.view_as(ids)})["token_embeddings"]
    if isinstance(layout, Static):
        layout.mask = layout.bias = None  # whose memory a graph would keep
    features = {**_features(model, layout.is_token), "token_embeddings": layout.pad(tokens.flatten(0, 1).float())}
    for module in list(model)[1:]:  # pooling and what follows
        features = module(features)
    return features["sentence_embedding"]


def _features(model: SentenceTransformer, is_token: Tensor) -> dict[str, Any]:
    """What pooling must know of the texts (U, longest)."""
    prompt, body = prompt_of(model), cast(Any, model[0])
    return {"attention_mask": is_token} | ({"prompt_length": body._get_prompt_length(prompt)} if prompt else {})


def choose_backend(
    model: SentenceTransformer, wanted: str = "sdpa", warn: Callable[[str], None] = print, gradients: bool = True
) -> str:
    """Return `wanted` if embeddings and `gradients` of a few texts equal the stock model's, else the next best backend.

    Backends are "flex", "sdpa" and "padded", best first. A fallback is reported through `warn`, and so is a difference
    that "padded" has, too.
    """
    if not (problem := difference(model, wanted, gradients)):
        return wanted
    if wanted == "padded":
        warn(f"The model's own encode() gives other vectors than these ({problem}).")
        return wanted
    other = "sdpa" if wanted == "flex" else "padded"
    warn(f"--attention {wanted} is unavailable ({problem}); using {other}.")
    return choose_backend(model, other, warn, gradients)


def difference(model: SentenceTransformer, backend: str, gradients: bool = True) -> str:
    """Why `backend` does not compute what the stock model does; empty if it does."""
    if backend == "flex" and any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
        return "FlexAttention has no dropout: add --dropout 0"
    if backend == "flex" and model.device.type != "cuda":
        return "FlexAttention trains on CUDA only"
    training = model.training
    model.eval()
    try:
        with torch.set_grad_enabled(gradients), autocast(model):
            stock, packed = (_probe(model, name) for name in ("stock", backend))
        apart = max(float((a - b).norm() / a.norm()) for a, b in zip(stock, packed, strict=True))
    except Exception as error:  # noqa: BLE001 (architectures and compilers fail in many ways)
        return f"{type(error).__name__}: {first_line(error)}"
    finally:
        model.train(training)
        if gradients:
            model.zero_grad()
    return "" if apart <= TOLERANCE[precision()] else f"it differs from the stock model by {apart:.1e}"


def _probe(model: SentenceTransformer, backend: str) -> list[Tensor]:
    """The embeddings of `PROBE`, and if they have one the gradient of a number that depends on all of them.

    "stock" embeds them as the model's own `encode` does.
    """
    if backend == "stock":
        features = model.preprocess(PROBE, prompt=prompt_of(model))
        output = model(batch_to_device(features, model.device))["sentence_embedding"][:, : model.truncate_dim]
    else:
        output = embed_packed(model, token_ids(model, PROBE), backend)
    embeddings = output.float()
    if not embeddings.requires_grad:
        return [embeddings]
    model.zero_grad()
    weights = torch.linspace(-1, 1, embeddings.numel(), device=embeddings.device).view_as(embeddings)
    (embeddings * weights).sum().backward()
    return [embeddings.detach(), torch.cat([p.grad.ravel() for p in model.parameters() if p.grad is not None])]
