"""From a graph to tables of numbers, and the machine code that runs them."""

import os

# Intel's vector functions round otherwise than the scalar ones that finish a loop: with them, bits would depend on the
# split. Numba reads this when it is first imported, which everything below does.
os.environ.setdefault("NUMBA_DISABLE_INTEL_SVML", "1")
