"""The machine code of the engine: one kernel a kind of layer, and the interpreter that calls them.

Rules. Every output value is computed by one fixed chain of float32 operations, whatever the block, chunk or vector width;
for a convolution it is

    y = ((bias + S_0) + S_1) + ...,    S_j = ((0 + x[c0]*w[j,c0]) + x[c1]*w[j,c1]) + ...   over the channels of tap j.

Vector lanes are always different outputs, never partial sums, and nothing here may be compiled with fastmath. That makes
the results bit-identical for any split of the signal.

Kernels allocate nothing, raise nothing and hold no Python object. They take the arena, the row of their node, and where
their input and output frames begin in it.
"""
