"""From a graph to tables of numbers, and the machine code that runs them."""
