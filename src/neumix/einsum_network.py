"""Einsum networks: circuits of sums and products whose exact densities and EM are products of matrices."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from neumix.leaf_distributions import Binomial, Normal, make_leaves
from neumix.region_graph import Layer, RegionGraph

__all__ = ["EinsumNetwork"]

_WORK = 2**18  # products of one chunk of regions: what fits a cache
_WORK_ON_GPU = 2**26
_LEAST_WEIGHT = 1e-16
_LEAST_MASS = 1e-12  # of points: what has less keeps its parameters in EM
_SAMPLES = 500  # drawn at once


class Sums(nn.Module):
    r"""Weights of a layer's regions: of pairs of their parts' components, and of partitions where there are several.

    Arguments:
        layer: regions and partitions.
        size: components of each part, K.
        outputs: components of each region, O.
        generators: one for each seed.
    """

    def __init__(self, layer: Layer, size: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        shape = (layer.regions, outputs, layer.partitions)
        self.pairs = nn.Parameter(_random_logits((*shape, size * size), generators))  # (S, R, O, P, K K)
        self.mixing = nn.Parameter(_random_logits(shape, generators)) if layer.partitions > 1 else None

    def weights(self) -> Tensor:
        """Return the weights of all pairs of all partitions, which sum to one, (S, R, O, P K K)."""
        pairs = self.pairs.softmax(4)
        return (pairs if self.mixing is None else pairs * self.mixing.softmax(3)[..., None]).flatten(3)

    def maximise(self, counts: Tensor, step: float) -> None:
        """Move the weights a step towards shares of expected counts (S, R, O, P K K)."""
        counts = counts.view_as(self.pairs)
        by_partition = counts.sum(4)
        _towards(self.pairs, counts, by_partition, step)
        if self.mixing is not None:
            _towards(self.mixing, by_partition, by_partition.sum(3), step)


def _random_logits(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Return logits of weights between 0.01 and 0.99 before they are normalised."""
    return (0.01 + 0.98 * torch.stack([torch.rand(*shape, generator=g) for g in generators])).log()


def _towards(logits: Tensor, counts: Tensor, total: Tensor, step: float) -> None:
    """Move softmax weights a step towards shares of counts, unless these are of nothing."""
    shares = counts / total.clamp(min=_LEAST_MASS)[..., None]
    steps = (step * (total > _LEAST_MASS).to(logits))[..., None]
    weights = torch.softmax(logits, -1)
    torch.log(weights.lerp_(shares, steps).clamp_(min=_LEAST_WEIGHT), out=logits)


@dataclasses.dataclass(frozen=True)
class _Wires:
    """A layer of all seeds: its regions' first index, and the rows (S R, P) of their parts among all regions of all."""

    start: int
    left: Tensor
    right: Tensor


class EinsumNetwork(nn.Module):
    r"""Circuits of S seeds with K components $p_{rk}$ for each region r, and one component for the root.

    $$ p_{ro}(x) = \sum_n v_{ron} \sum_{ij} w_{ronij}\, p_{a(n) i}(x)\, p_{b(n) j}(x), $$ where the partitions n of a
    region have the parts a(n) and b(n), and those of a leaf are products over its variables. Densities are exact as
    long as no weight is as small as float32's least number, of which EM keeps far away.

    References:
        Peharz et al. (2020), Einsum networks: fast and scalable learning of tractable probabilistic circuits, Sec 3.

    Arguments:
        graph: of the regions.
        family: of the leaves.
        size: components of each region but for the root, K.
        generators: one for each seed; they draw the initial parameters.
    """

    scopes: Tensor
    padding: Tensor

    def __init__(
        self, graph: RegionGraph, family: Normal | Binomial, size: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.graph, self.size, self.n_seeds = graph, size, len(generators)
        self.entries = sum(len(scope) for scope in graph.leaves)
        self.leaves = make_leaves(family, self.entries, size, generators)
        root = len(graph.scopes) - 1
        self.sums = nn.ModuleList(
            Sums(layer, size, 1 if layer.start == root else size, generators) for layer in graph.layers
        )
        self._register_scopes()
        for index, layer in enumerate(graph.layers):
            for name, parts in (("left", layer.left), ("right", layer.right)):
                rows = torch.stack([torch.from_numpy(parts) + seed * root for seed in range(self.n_seeds)])
                self.register_buffer(f"{name}_{index}", rows.flatten(0, 1), persistent=False)

    def _register_scopes(self) -> None:
        """Keep the variables of the leaves (L, W), and the rows of their parameters, the last for those with fewer."""
        leaves = self.graph.leaves
        width = max(map(len, leaves))
        scopes = torch.zeros(len(leaves), width, dtype=torch.long)
        padding = torch.full((len(leaves), width), self.entries)
        start = 0
        for leaf, scope in enumerate(leaves):
            scopes[leaf, : len(scope)] = torch.tensor(scope)
            padding[leaf, : len(scope)] = torch.arange(start, start + len(scope))
            start += len(scope)
        self.register_buffer("scopes", scopes, persistent=False)
        self.register_buffer("padding", padding, persistent=False)

    @property
    def values_of_a_point(self) -> int:
        """Number of values that are kept or computed at once for a point of each seed."""
        most = max(layer.partitions for layer in self.graph.layers)
        return self.n_seeds * (len(self.graph.scopes) * self.size + most * self.size**2)

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the log-density, or log-probability, of points (S, B, D) in nats, (S, B).

        Arguments:
            x: points; what they have in place of the features that are not observed does not matter.
            observed: which features to take, booleans (D,); the others are integrated out. None: all.
        """
        weights = [layer.weights() for layer in self._layers]
        return self._log_prob(x, self.leaves.natural(), weights, observed).to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def _layers(self) -> Sequence[Sums]:
        return cast("Sequence[Sums]", self.sums)

    def _wires(self) -> list[_Wires]:
        return [
            _Wires(layer.start, self.get_buffer(f"left_{index}"), self.get_buffer(f"right_{index}"))
            for index, layer in enumerate(self.graph.layers)
        ]

    def _log_prob(self, x: Tensor, natural: Tensor, weights: Sequence[Tensor], observed: Tensor | None) -> Tensor:
        """Return the log-density in float64, differentiable in the leaves' natural parameters and in the weights."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.double().mT  # (S, D, B)
            if observed is not None:
                x = torch.where(observed[:, None], x, 0)
            statistics, base = self.leaves.statistics(x), self.leaves.log_base(x)
            if observed is not None:
                statistics = torch.where(observed[:, None, None], statistics, 0)
                base = torch.where(observed[:, None], base, 0)
            root: Tensor = _Circuit.apply(  # type: ignore[no-untyped-call]
                self._wires(), self._leaf_densities(statistics, natural), *weights
            )
            return root + base.sum(1)

    def _leaf_densities(self, statistics: Tensor, natural: Tensor) -> Tensor:
        """Return log p / h of the leaves' components, (S, L, K, B), from statistics (S, D, F, B)."""
        leaves, width = self.scopes.shape
        if self.entries < leaves * width:
            natural = nn.functional.pad(natural, (0, 0, 0, 0, 0, 1)).index_select(1, self.padding.flatten())
        given = statistics.index_select(1, self.scopes.flatten())
        given = torch.unflatten(given, 1, (leaves, width)).flatten(2, 3)  # (S, L, W F, B)
        return torch.unflatten(natural, 1, (leaves, width)).flatten(2, 3).mT @ given

    def em_step(self, x: Tensor, step: float, chunk: int) -> Tensor:
        r"""Take a step of EM in place, and return each seed's mean log-likelihood before it, (S,).

        Each mean parameter, also each weight, moves from $\phi$ to $(1 - s) \phi + s \hat\phi$; with a step s of 1 the
        likelihood of the points never falls. What no point has any part in stays as it is.

        References:
            Peharz et al. (2020), Sec 3.5.

        Arguments:
            x: points, (S, N, D).
            step: s, above 0 and at most 1.
            chunk: points of each seed that are evaluated at once.
        """
        with torch.no_grad():
            given = [self.leaves.natural(), *(layer.weights() for layer in self._layers)]
        learned = [value.requires_grad_() for value in given]
        total, expected = x.new_zeros(len(x), dtype=torch.float64), list[Tensor]()
        for part in torch.split(x, chunk, 1):
            with torch.enable_grad():
                log_prob = self._log_prob(part, learned[0], learned[1:], None)
            found = torch.autograd.grad(log_prob.sum(), learned)
            expected = [a + b for a, b in zip(expected, found, strict=True)] if expected else list(found)
            total += log_prob.detach().sum(1)
        with torch.no_grad():
            self.leaves.maximise(expected[0], step)
            for layer, weights, slopes in zip(self._layers, learned[1:], expected[1:], strict=True):
                layer.maximise(slopes.mul_(weights), step)
        return total / x.shape[1]

    @torch.no_grad()
    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, D)."""
        weights = [layer.weights() for layer in self._layers]
        found = [
            torch.cat([self._sample_seed(seed, count, weights, generator) for count in _parts(size, _SAMPLES)])
            for seed, generator in enumerate(noise)
        ]
        return torch.stack(found)

    def _sample_seed(self, seed: int, size: int, weights: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """Return samples (size, D): from the root down, each region chosen chooses a partition and its components."""
        chosen = torch.full((len(self.graph.scopes), size), -1)
        chosen[-1] = 0
        for layer, own in zip(reversed(self.graph.layers), reversed(weights), strict=True):
            inside = chosen[layer.start : layer.start + layer.regions]
            region, point = (inside >= 0).nonzero(as_tuple=True)
            shares = own[seed, region, inside[region, point]].cpu()
            pair = torch.multinomial(shares, 1, generator=generator)[:, 0] if len(shares) else region
            partition, pair = pair // self.size**2, pair % self.size**2
            chosen[torch.from_numpy(layer.left)[region, partition], point] = pair // self.size
            chosen[torch.from_numpy(layer.right)[region, partition], point] = pair % self.size
        samples = torch.empty(size, self.graph.variables, dtype=self._dtype, device=weights[0].device)
        start = 0
        for leaf, scope in enumerate(self.graph.leaves):
            point = (chosen[leaf] >= 0).nonzero()[:, 0]
            drawn = self.leaves.draw(seed, slice(start, start + len(scope)), chosen[leaf, point], generator)
            samples[point[:, None], torch.tensor(scope)] = drawn
            start += len(scope)
        return samples


def _parts(count: int, at_most: int) -> Iterator[int]:
    """Yield the sizes of parts of a number of points."""
    return (min(at_most, count - start) for start in range(0, count, at_most))


class _Circuit(torch.autograd.Function):
    r"""Log-densities of the root, (S, B), from those of the leaves, (S, L, K, B), and weights (S, R, O, P K K).

    Densities of a region are kept as $e_k \exp m$ with $\max_k e_k = 1$, all regions of all seeds in one row. Products
    of pairs exist for some regions at a time and are computed once more for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, wires: Sequence[_Wires], leaves: Tensor, *weights: Tensor) -> Tensor:
        seeds, count, size, batch = leaves.shape
        regions = wires[-1].start  # all but the root
        scaled = leaves.new_empty(seeds, regions, size, batch, dtype=weights[0].dtype)
        offset, peak = leaves.new_empty(seeds, regions, batch), scaled.new_ones(seeds, regions, batch)
        offset[:, :count] = leaves.amax(2)
        scaled[:, :count] = (leaves - offset[:, :count, None]).exp_()
        for layer, own in zip(wires, weights, strict=True):
            pairs = _Pairs(layer, scaled, offset)
            rows = own.flatten(0, 1)  # (S R, O, P K K)
            mixed = scaled.new_empty(*rows.shape[:2], batch)
            for part in pairs.parts():
                torch.bmm(rows[part], pairs.products(part), out=mixed[part])
            top = mixed.amax(1).clamp_(min=torch.finfo(mixed.dtype).tiny)  # (S R, B)
            level = torch.unflatten(pairs.offset + top.log(), 0, (seeds, -1))
            if layer.start == regions:
                break
            inside = slice(layer.start, layer.start + level.shape[1])
            offset[:, inside], peak[:, inside] = level, torch.unflatten(top, 0, (seeds, -1))
            scaled[:, inside] = torch.unflatten(mixed.div_(top[:, None]), 0, (seeds, -1))
        ctx.save_for_backward(scaled, offset, peak, top, *weights)
        ctx.wires, ctx.leaves = wires, count
        return level[:, 0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        scaled, offset, peak, root, *weights = ctx.saved_tensors
        regions, size, batch = scaled.shape[1:]
        flow = torch.zeros_like(scaled)  # of the gradient with respect to log-densities
        gradients = []
        with torch.autocast(scaled.device.type, enabled=False):
            for layer, own in zip(reversed(ctx.wires), reversed(weights), strict=True):
                if layer.start == regions:
                    slope = (outer[0].to(scaled.dtype) / root)[:, None]
                else:
                    inside = slice(layer.start, layer.start + own.shape[1])
                    mixed = scaled[:, inside] * peak[:, inside, None]
                    slope = (flow[:, inside] / mixed.clamp_(min=torch.finfo(mixed.dtype).tiny)).flatten(0, 1)
                pairs = _Pairs(layer, scaled, offset)
                gradients.append(pairs.pass_down(own.flatten(0, 1), slope, flow.view(-1, size, batch)).view_as(own))
        return None, flow[:, : ctx.leaves].to(offset.dtype), *reversed(gradients)


class _Pairs:
    """Products of the densities of all pairs of components of a layer's parts, for some regions at a time.

    Arguments:
        wires: of the layer.
        scaled: densities of all regions over their largest one, (S, regions, K, B).
        offset: logarithms of the largest ones, (S, regions, B).
    """

    def __init__(self, wires: _Wires, scaled: Tensor, offset: Tensor) -> None:
        self.wires, self.scaled = wires, scaled.flatten(0, 1)
        rows, partitions = wires.left.shape
        self.shape = (partitions, *scaled.shape[2:])
        flat = offset.flatten(0, 1)
        level = flat[wires.left] + flat[wires.right]  # (S R, P, B)
        self.offset = level.amax(1)
        self.factor = (level - self.offset[:, None]).exp_().to(scaled.dtype)
        values = partitions * scaled.shape[2] ** 2 * scaled.shape[3]
        self.at_once = max(1, min(rows, (_WORK if scaled.device.type == "cpu" else _WORK_ON_GPU) // values))
        self.buffer = scaled.new_empty(self.at_once, partitions, *scaled.shape[2:3], *scaled.shape[2:])

    def parts(self) -> Iterator[slice]:
        """Yield the regions whose products are computed at once."""
        rows = len(self.wires.left)
        return (slice(start, min(start + self.at_once, rows)) for start in range(0, rows, self.at_once))

    def products(self, part: slice) -> Tensor:
        """Return the products of some regions (r, P K K, B) relative to their offset, valid until the next call."""
        left, right = (
            torch.unflatten(self.scaled.index_select(0, parts[part].flatten()), 0, (-1, self.shape[0]))
            for parts in (self.wires.left, self.wires.right)
        )
        left.mul_(self.factor[part, :, None])
        found = torch.mul(left[:, :, :, None], right[:, :, None], out=self.buffer[: len(left)])
        return found.flatten(1, 3)

    def pass_down(self, weights: Tensor, slope: Tensor, flow: Tensor) -> Tensor:
        """Return the gradient with respect to weights (S R, O, P K K), and add that of the parts to their flow.

        Arguments:
            weights: of the layer.
            slope: gradient with respect to the sums of weighted products, (S R, O, B).
            flow: gradient with respect to the log-densities of all regions, (S regions, K, B).
        """
        gradient = torch.empty_like(weights)
        for part in self.parts():
            products = self.products(part)
            torch.bmm(slope[part], products.mT, out=gradient[part])
            share = torch.bmm(weights[part].mT, slope[part]).mul_(products)
            share = torch.unflatten(share, 1, (self.shape[0], self.shape[1], self.shape[1]))  # (r, P, K, K, B)
            flow.index_add_(0, self.wires.left[part].flatten(), share.sum(3).flatten(0, 1))
            flow.index_add_(0, self.wires.right[part].flatten(), share.sum(2).flatten(0, 1))
        return gradient
