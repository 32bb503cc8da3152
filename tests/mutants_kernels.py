"""Planted breaks in kernels, nn and matrices."""

from mutants import Mutant

KERNELS = "tests/kernels/test_backends.py"
GROUPED = "tests/kernels/test_grouped_queries.py"
GROUPS = "tests/kernels/test_groups.py"
BANDS = "tests/kernels/test_bands.py"
WINDOWED = "tests/kernels/test_windowed.py"
FUSED = "tests/kernels/test_fused.py"
CACHE = "tests/nn/test_cache.py"
SCORES = "tests/nn/test_scores.py"
VARIANTS = "tests/nn/test_variants.py"
NN = "tests/nn/test_networks.py"
MIXING = "tests/forecasters/test_channel_mixing.py"
FEEDFORWARD = "tests/nn/test_feedforward.py"
MATRICES = "tests/matrices/test_matrices.py"

MUTANTS = [
    # levels, patterns and the reference
    Mutant(
        "tsattn/kernels/geometry.py",
        "near = (here - there).abs() < self.window",
        "near = (here - there).abs() <= self.window",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "visible = visible & (there <= here)",
        "visible = visible & (there < here + 2)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "near | ((here >= 0) & (here < self.n_global)) | (there < self.n_global)",
        "near | (there < self.n_global)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "here = torch.arange(n_keys - n_queries, n_keys, device=device) + shift",
        "here = torch.arange(n_queries, device=device) + shift",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "if field.name not in known and value != field.default:",
        "if field.name not in known and value is None:",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "scale = n_features**-0.5 if scale is None else scale",
        "scale = levels.ranks[0] ** -0.5 if scale is None else scale",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "first = min(0, self.n_keys - self.n_queries)",
        "first = 0",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/reference.py",
        "count = count + same.to(q.dtype)",
        "count = count + 1",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/reference.py",
        "return (here == there[..., None, :]) & (here >= 0)",
        "return here == there[..., None, :]",
        GROUPS,
    ),
    Mutant(
        "tsattn/kernels/reference.py",
        "    return weights.masked_fill(~visible, 0.0)",
        "    return weights",
        KERNELS,
    ),
    # the dense backends
    Mutant(
        "tsattn/kernels/dense.py",
        "self.may_be_empty = self.hidden is not None and bool(self.hidden.all(dim=1).any())",
        "self.may_be_empty = False",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "raw.sub_(means[here]).mul_(weights)",
        "raw.mul_(weights)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "raw.mul_(_of(share, heads) if self.groups is None else at(share, here))",
        "raw.mul_(1)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "firsts[levels] + slots) | (levels < geometry.n_global_levels)",
        "firsts[levels] + slots) | (levels < 1)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "            if kept is None:\n                self.plan.weights",
        "            if kept is not None:\n                self.plan.weights",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/blocks.py",
        "top = max(block * size - offset - shift, 0)",
        "top = max(block * size - offset, 0)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/blocks.py",
        "if self.common and self.common[-1][1] == factor:",
        "if self.common:",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/blocks.py",
        "place.addcmul_(part.view(place.shape), at(same, here), value=factor)",
        "place.add_(part.view(place.shape), alpha=factor)",
        GROUPS,
    ),
    Mutant(
        "tsattn/kernels/blocks.py",
        "query = max(key - (geometry.n_keys - geometry.n_queries), 0)",
        "query = min(key, geometry.n_queries - 1)",
        GROUPS,
    ),
    Mutant(
        "tsattn/kernels/dispatch.py",
        "square = geometry.n_queries == geometry.n_keys or not geometry.pattern.causal",
        "square = True",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dispatch.py",
        'whole = not masked_keys and geometry.pattern.beyond("causal") is None',
        "whole = not masked_keys",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dispatch.py",
        'shared = q.device.type == "cpu" and k.shape[1] == v.shape[1] < q.shape[1]',
        "shared = k.shape[1] < q.shape[1]",
        GROUPED,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "        with torch.autocast(grad.device.type, enabled=False):\n            return",
        "        with torch.autocast(grad.device.type, enabled=True):\n            return",
        f"{KERNELS} {BANDS} {WINDOWED}",
    ),
    # bands, windows and what they stand on
    Mutant(
        "tsattn/kernels/partition.py",
        "if stop < high and not geometry.pattern.causal:",
        "if stop < high:",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/partition.py",
        "scale=scale / (coarse + 1 if mean else 1)",
        "scale=scale / (coarse + 2 if mean else 1)",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/partition.py",
        "shift = (run.query + geometry.levels.offsets[0]) % finer[0] if finer else 0",
        "shift = run.query % finer[0] if finer else 0",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/bands.py",
        "torch.logaddexp(lse, part_lse, out=lse)",
        "torch.maximum(lse, part_lse, out=lse)",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/bands.py",
        "target[..., :width] += part[..., :width]",
        "target[...] += part",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/fused.py",
        "    out.masked_fill_(empty, 0.0)\n    lse.masked_fill_(empty, -HIDDEN)",
        "    out.masked_fill_(empty, 0.0)",
        f"{BANDS} {WINDOWED}",
    ),
    Mutant(
        "tsattn/kernels/fused.py",
        "needed == list(wanted) and optional and len(schema.returns) == n_results",
        "needed == list(wanted) and len(schema.returns) == n_results",
        FUSED,
    ),
    Mutant(
        "tsattn/kernels/windowed.py",
        "low = max(start - window + 1, n_global)",
        "low = max(start - window + 2, n_global)",
        WINDOWED,
    ),
    Mutant(
        "tsattn/kernels/windowed.py",
        "high = stop if causal else min(stop + window - 1, length)",
        "high = min(stop + window - 1, length)",
        WINDOWED,
    ),
    Mutant(
        "tsattn/kernels/windowed.py",
        "        x[:, :, : self.n_global] += part[:, :, : self.n_global]",
        "        x[:, :, : self.n_global] = part[:, :, : self.n_global]",
        WINDOWED,
    ),
    Mutant(
        "tsattn/kernels/decode.py",
        "scores[:, heads, :, first:] += part[:, heads, :, : n_tokens - first]",
        "scores[:, heads] += part[:, heads, :, :n_tokens]",
        CACHE,
    ),
    # layers
    Mutant(
        "tsattn/nn/cache.py",
        "lap = max(ring, stop - (stop - self.n_global) % self.window)",
        "lap = max(ring, stop - stop % self.window)",
        CACHE,
    ),
    Mutant(
        "tsattn/nn/cache.py",
        "own = tuple(max((position + offset) // size * size - offset, 0) for offset in"
        " self._offsets)",
        "own = tuple(max(position // size * size, 0) for offset in self._offsets)",
        CACHE,
    ),
    Mutant(
        "tsattn/nn/cache.py", "if any(len(set(own)) > 1 for own in groups):", "if False:", CACHE
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "partners = torch.cat([halves[i ^ 1] for i in range(len(halves))], dim=3)",
        "partners = torch.cat(halves[::-1], dim=3)",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "levels = replace(levels, scales=tuple(1 / rank for rank in levels.ranks), mean=True)",
        "levels = replace(levels, scales=tuple(1 / rank for rank in levels.ranks))",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "if x.shape[0] * x.shape[1] < DENSE_TOKENS * width:",
        "if x.shape[0] * x.shape[1] < width:",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "        return q * factors[:, None, :], k",
        "        return q, k",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "here = tuple(part[..., part.shape[-2] - q.shape[2] :, :] for part in places.angles)",
        "here = tuple(part[..., : q.shape[2], :] for part in places.angles)",
        GROUPS,
    ),
    Mutant(
        "tsattn/nn/attention.py",
        "self.local = Pattern(causal=causal, window=window)",
        "self.local = Pattern(causal=causal, window=window + 1)",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/attention.py",
        "        if start == 0 and x.shape[1] > 1:",
        "        if x.shape[1] > 1:",
        VARIANTS,
    ),
    Mutant(
        "tsattn/nn/variants.py",
        "return tuple(shift * (head // group % 2) for head in range(config.n_heads))",
        "return tuple(shift * (head % 2) for head in range(config.n_heads))",
        VARIANTS,
    ),
    Mutant(
        "tsattn/nn/blocks.py",
        "x = self._mix(i, block(x, key_mask=key_mask), key_mask)\n        return self.norm(x)",
        "x = self._mix(i, block(x), key_mask)\n        return self.norm(x)",
        VARIANTS,
    ),
    Mutant(
        "tsattn/nn/blocks.py",
        "mixed = self.attention((by_token + self.places).flatten(0, 1), key_mask=seen)",
        "mixed = self.attention((by_token + self.places).flatten(0, 1))",
        MIXING,
    ),
    Mutant(
        "tsattn/nn/layers.py",
        "dw2.mul_(steps.factor), grad.sum(0)",
        "dw2, grad.sum(0)",
        FEEDFORWARD,
    ),
    Mutant(
        "tsattn/nn/layers.py",
        "keep = self.noise(x.shape, x.device) >= self.n_dropped",
        "keep = self.noise(x.shape, x.device) > self.n_dropped",
        NN,
    ),
    Mutant(
        "tsattn/nn/patching.py",
        "return (x - level) / torch.where(spread > 0, spread, torch.ones_like(spread))",
        "return (x - level) / spread.clamp(min=1e-6)",
        NN,
    ),
    Mutant(
        "tsattn/nn/decoder.py",
        "series = self.revin(series[:, series.shape[1] % length :], level, spread)",
        "series = self.revin(series[:, : series.shape[1] // length * length], level, spread)",
        VARIANTS,
    ),
    # structured matrices
    Mutant(
        "tsattn/matrices/levels.py",
        "return picked * (places <= last).to(x.dtype)",
        "return picked * (places <= last + 1).to(x.dtype)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/levels.py",
        "    y = expand(_transposed(z, level.right_blocks) if level.shuffled else z, right)",
        "    y = expand(_transposed(z, level.left_blocks) if level.shuffled else z, right)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/products.py",
        "if b * c * (a + d) <= a * d * (b + c):",
        "if b * c * (a + d) >= a * d * (b + c):",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/products.py",
        "reversed(range(self.n_stages)), transpose=True",
        "range(self.n_stages), transpose=True",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/structured.py",
        "[left_features(level, x, left).flatten(-2) * level.alpha for level, left, _ in"
        " self._parts]",
        "[left_features(level, x, left).flatten(-2) for level, left, _ in self._parts]",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/structured.py",
        "total = float(sum(level.left_features for level in self.levels))",
        "total = float(max(level.left_features for level in self.levels))",
        MATRICES,
    ),
]
