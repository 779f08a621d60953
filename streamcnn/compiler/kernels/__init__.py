"""The machine code of the engine: one kernel a kind of layer, and the interpreter that calls them.

Rules. Every output value is computed by one fixed chain of float32 operations, whatever the block, chunk or vector width;
for a convolution it is

    y = ((bias + S_0) + S_1) + ...,    S_j = fma(x[c1], w[j,c1], fma(x[c0], w[j,c0], 0)) ...   over the channels of tap j,

and where a tap has one channel, one chain of fused multiply-adds over the taps, from the bias on. (Transposed convolutions, and
attention, round each product by itself.)

Vector lanes are always different outputs, never partial sums, and nothing here may be compiled with fastmath. That makes
the results bit-identical for any split of the signal.

Kernels allocate nothing, raise nothing and hold no Python object. They take the arena, the row of their node, and where
their input and output frames begin in it.
"""
