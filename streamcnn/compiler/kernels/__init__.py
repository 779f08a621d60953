"""The machine code of the engine: one kernel a kind of layer, and the interpreter that calls them.

Rules. Every output value is computed by one fixed chain of float32 operations, whatever the block, chunk or vector width;
for a convolution it is

    y = ((bias + S_0) + S_1) + ...,    S_j = fma(x[c1], w[j,c1], fma(x[c0], w[j,c0], 0)) ...   over the channels of tap j,

and where a tap has one channel, one chain of fused multiply-adds over the taps, from the bias on. (Attention rounds each
product by itself; long kernels, in `partitioned`, are transforms of blocks that begin at fixed frame numbers.)

Vector lanes are always different outputs, never partial sums, and nothing here may be compiled with fastmath. That makes
the results bit-identical for any split of the signal. Denormal numbers count as zero (`compiler.denormals`): on x86 those that
are read and those that would be made, on ARM those of vectors, which may differ from x86 in numbers below 1e-37.

Kernels allocate nothing, raise nothing, and hold no Python object. An operation takes addresses: of its node's row in the
table, of its input's frame 0, of the first window and of the output; and the numbers of frames (see `compiler.build`).
"""
