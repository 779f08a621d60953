"""Attention: every frame looks at every other one, head by head."""

import numpy as np

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.kernels.exponential import exp
from streamcnn.compiler.tables import ATTENTION_SCALE, BASE, CAUSAL, CHANNELS, COUNT, HEADS, LINKS, OFFSET

ZERO = np.float32(0)


@kernel
def frame_at(links, lines, counters, row, number, frame):
    """Return where a frame of the input of that number begins in the arena."""
    line = links[row[LINKS] + number]
    return lines[line, OFFSET] + (frame - counters[line, BASE]) * lines[line, CHANNELS]


@kernel
def attention(weights, links, lines, counters, arena, scratch, row, done, target, frames):
    """Weigh the values by the softmax of the products of queries and keys; the scratch takes one query's scores."""
    heads, scale = row[HEADS], weights[row[ATTENTION_SCALE]]
    keys = links[row[LINKS] + 1]
    width, depth = lines[keys, CHANNELS] // heads, lines[links[row[LINKS] + 2], CHANNELS] // heads
    for t in range(frames):
        query = frame_at(links, lines, counters, row, 0, done + t)
        seen = counters[keys, COUNT]
        if row[CAUSAL]:
            seen = min(seen, done + t + 1)
        for head in range(heads):
            q, y = query + head * width, target + (t * heads + head) * depth
            highest = np.float32(-np.inf)
            for n in range(seen):
                k = frame_at(links, lines, counters, row, 1, n) + head * width
                chain = ZERO
                for c in range(width):
                    chain += arena[q + c] * arena[k + c]
                scratch[n] = chain * scale
                if not scratch[n] <= highest:
                    highest = scratch[n]
            total = ZERO
            for n in range(seen):
                scratch[n] = exp(scratch[n] - highest)
                total += scratch[n]
            for c in range(depth):
                arena[y + c] = ZERO
            for n in range(seen):
                v, share = frame_at(links, lines, counters, row, 2, n) + head * depth, scratch[n] / total
                for c in range(depth):
                    arena[y + c] += share * arena[v + c]
