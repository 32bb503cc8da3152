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
        "near = (queries - keys).abs() < self.window",
        "near = (queries - keys).abs() <= self.window",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "visible = visible & (keys <= queries)",
        "visible = visible & (keys < queries + 2)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "visible = near | global_query | global_key",
        "visible = near | global_key",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "query_blocks = torch.div(queries + shifts,",
        "query_blocks = torch.div(queries - queries[0] + shifts,",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "if field.name not in served_fields and value != field.default:",
        "if field.name not in served_fields and value is None:",
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
        "first_position = min(0, self.n_keys - self.n_queries)",
        "first_position = 0",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/reference.py",
        "n_shared = n_shared + same.to(q.dtype)",
        "n_shared = n_shared + 1",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "return same_group & in_a_group",
        "return same_group",
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
        "raw.sub_(means[index]).mul_(weights)",
        "raw.mul_(weights)",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "raw.mul_(mask_slice(self.share, index))\n        to_q = dq[index]",
        "raw.mul_(1)\n        to_q = dq[index]",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "is_global = level_of < geometry.n_global_levels",
        "is_global = level_of < 1",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/dense.py",
        "            if stored is None:\n                self.plan.weights",
        "            if stored is not None:\n                self.plan.weights",
        KERNELS,
    ),
    Mutant(
        "tsattn/kernels/blocks.py",
        "first_query = max(block_start - shift, 0)",
        "first_query = max(block_start, 0)",
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
        "target.addcmul_(products, mask_slice(level.same, index), value=level.factor)",
        "target.add_(products, alpha=level.factor)",
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
        "if n_after > 0 and not geometry.pattern.causal:",
        "if n_after > 0:",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/partition.py",
        "n_averaged = coarse + 1 if mean else 1",
        "n_averaged = coarse + 2 if mean else 1",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/partition.py",
        "shift = (run.query + offset) % fine_sizes[0]",
        "shift = run.query % fine_sizes[0]",
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
        "dq[..., :width] += part_dq[..., :width]",
        "dq += part_dq",
        BANDS,
    ),
    Mutant(
        "tsattn/kernels/fused.py",
        "    out.masked_fill_(empty_rows, 0.0)\n    lse.masked_fill_(empty_rows, -HIDDEN)",
        "    out.masked_fill_(empty_rows, 0.0)",
        f"{BANDS} {WINDOWED}",
    ),
    Mutant(
        "tsattn/kernels/fused.py",
        "except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):",
        "except (AttributeError, NotImplementedError, RuntimeError, TypeError):",
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
        "        global_rows += part[:, :, : self.n_global]",
        "        global_rows[:] = part[:, :, : self.n_global]",
        WINDOWED,
    ),
    Mutant(
        "tsattn/kernels/decode.py",
        "scores[:, heads, :, first:] += part[:, heads, :, :n_head_slots]",
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
        "block = (position + offset) // size\n",
        "offset, block = 0, position // size\n",
        CACHE,
    ),
    Mutant(
        "tsattn/nn/cache.py", "if offset != key_offsets[head // group_size]:", "if False:", CACHE
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "partners = torch.cat(exchanged, dim=3)",
        "partners = torch.cat(halves[::-1], dim=3)",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "levels = replace(levels, scales=scales, mean=True)",
        "levels = replace(levels, scales=scales)",
        SCORES,
    ),
    Mutant(
        "tsattn/nn/scores.py",
        "if n_tokens < DENSE_TOKENS * width:",
        "if n_tokens < width:",
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
        "query_cosines = cosines[..., first_query:, :]\n"
        "            query_sines = sines[..., first_query:, :]",
        "query_cosines = cosines[..., : q.shape[2], :]\n"
        "            query_sines = sines[..., : q.shape[2], :]",
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
        "x = block(x, key_mask=key_mask)\n            x = self._mix(layer, x, key_mask)\n        return self.norm(x)",
        "x = block(x)\n            x = self._mix(layer, x, key_mask)\n        return self.norm(x)",
        VARIANTS,
    ),
    Mutant(
        "tsattn/nn/blocks.py",
        "mixed = self.attention(queries, key_mask=key_mask)",
        "mixed = self.attention(queries)",
        MIXING,
    ),
    Mutant(
        "tsattn/nn/layers.py",
        "        dw2.mul_(steps.factor)\n",
        "",
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
        "divisor = torch.where(spread > 0, spread, torch.ones_like(spread))",
        "divisor = spread.clamp(min=1e-6)",
        NN,
    ),
    Mutant(
        "tsattn/nn/decoder.py",
        "series = self.revin(series[:, n_dropped:], location, spread)",
        "series = self.revin(series[:, : series.shape[1] // length * length], location, spread)",
        VARIANTS,
    ),
    # structured matrices
    Mutant(
        "tsattn/matrices/structured.py",
        "if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):",
        "if x.dtype != dtype:",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/products.py",
        'd = _largest_small_divisor(check_whole("n_in", n_in))',
        "d = _largest_small_divisor(n_in)",
        MATRICES,
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "if not isinstance(scale, Real) or not -math.inf < float(scale) < math.inf:",
        "if not isinstance(scale, Real):",
        KERNELS,
    ),
    Mutant(
        "tsattn/matrices/levels.py",
        "in_block = (rows <= last_rows).to(x.dtype)",
        "in_block = (rows <= last_rows + 1).to(x.dtype)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/levels.py",
        "z = _transpose_groups(z, level.right_blocks)",
        "z = _transpose_groups(z, level.left_blocks)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/products.py",
        "if second_first <= first_first:",
        "if second_first >= first_first:",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/products.py",
        "last_first = reversed(range(self.n_stages))",
        "last_first = range(self.n_stages)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/structured.py",
        "projections.append(projection * level.alpha)",
        "projections.append(projection)",
        MATRICES,
    ),
    Mutant(
        "tsattn/matrices/structured.py",
        "total = float(sum(level.left_features for level in self.levels))",
        "total = float(max(level.left_features for level in self.levels))",
        MATRICES,
    ),
    Mutant(
        "tsattn/kernels/dispatch.py",
        "if not may_lack and not isinstance(x, Tensor):",
        "if False:",
        "tests/kernels/test_backends.py::test_arrays_and_lists_are_no_tensors",
    ),
    Mutant(
        "tsattn/kernels/geometry.py",
        "if not isinstance(numbers, Iterable):",
        "if False:",
        "tests/kernels/test_backends.py::test_counts_are_told_by_number",
    ),
]
