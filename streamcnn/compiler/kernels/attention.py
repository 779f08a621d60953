"""Attention: every frame looks at every other one, head by head."""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import floats, integers, kernel
from streamcnn.compiler.kernels.functions import softmax
from streamcnn.compiler.tables import (
    ATTENTION_SCALE,
    CAUSAL,
    CHANNELS,
    COUNT,
    FRAME_STEP,
    HEADS,
    LINES,
    ORIGIN,
    SCRATCH,
    WEIGHTS,
)  # fmt: skip

ZERO = np.float32(0)


@kernel
def frame_at(line, frame):
    """Return the address of a frame of a line."""
    return line[ORIGIN] + frame * line[FRAME_STEP]


@operation
def attention(node, done, frames, available, zero, source, target):
    """Weigh the values by the softmax of the products of queries and keys; the scratch takes one query's scores."""
    row = integers(node)
    lines, heads, scores = integers(row[LINES]), row[HEADS], floats(row[SCRATCH])
    scale = floats(row[WEIGHTS])[row[ATTENTION_SCALE]]
    queries, keys, values = integers(lines[0]), integers(lines[1]), integers(lines[2])
    width, depth = keys[CHANNELS] // heads, values[CHANNELS] // heads
    for t in range(frames):
        query = frame_at(queries, done + t)
        seen = keys[COUNT]
        if row[CAUSAL]:
            seen = min(seen, done + t + 1)
        for head in range(heads):
            q, y = floats(query + 4 * head * width), floats(target + 4 * (t * heads + head) * depth)
            for n in range(seen):
                k = floats(frame_at(keys, n) + 4 * head * width)
                chain = ZERO
                for c in range(width):
                    chain += q[c] * k[c]
                scores[n] = chain * scale
            softmax(False, scores, seen)
            for c in range(depth):
                y[c] = ZERO
            for n in range(seen):
                v, share = floats(frame_at(values, n) + 4 * head * depth), scores[n]
                for c in range(depth):
                    y[c] += share * v[c]
