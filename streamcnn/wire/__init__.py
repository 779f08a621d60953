"""Events over ZeroMQ. The only files that know zmq."""
