"""A net with its detector's settings: what listens to a stream."""

from dataclasses import dataclass

from streamcnn.config import Peak, Stream
from streamcnn.errors import ConfigError, RateError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph


@dataclass(frozen=True)
class Listener:
    """A net with its detector's settings, under the name that its events carry as `detector`."""

    name: str
    graph: Graph
    settings: Peak

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the net's outputs: the configured one, the net's own, or the listener's name, numbered."""
        outputs = self.graph.output_channels
        if self.settings.label is not None:
            if outputs != 1:
                raise ConfigError(
                    f"net '{self.name}': one label, '{self.settings.label}', for {outputs} outputs",
                    "leave it out, and name the outputs when converting: --labels",
                )
            return (self.settings.label,)
        if self.graph.info.labels:
            return self.graph.info.labels
        return (self.name,) if outputs == 1 else tuple(f"{self.name}-{k}" for k in range(outputs))

    @property
    def threshold(self) -> float:
        """The configured threshold or the net's own; raises ConfigError where there is neither."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        if self.graph.info.threshold is None:
            raise ConfigError(
                f"net '{self.name}': no threshold, neither configured nor in the net's file",
                "set detector.threshold, or give --threshold",
            )
        return self.graph.info.threshold


def load_listeners(stream: Stream) -> list[Listener]:
    """Load the nets of a stream; raises NetFileError where one cannot be read."""
    return [Listener(net.name, store.load(net.net), net.detector) for net in stream.nets]


def needed_rate(listeners: list[Listener], given: int | None) -> int:
    """Return the sample rate that the nets of one stream need, Hz.

    `given` counts for nets that do not know theirs. Raises RateError where the nets differ, from each other or from
    `given`, and where nothing says a rate.
    """
    rates = {net.graph.info.rate: net.name for net in listeners if net.graph.info.rate is not None}
    if len(rates) > 1:
        listing = ", ".join(f"'{name}' {rate} Hz" for rate, name in rates.items())
        raise RateError(f"the nets of one stream have different rates: {listing}", "put them on streams of their own")
    rate = next(iter(rates), given)
    if rate is None:
        raise RateError(
            f"net '{listeners[0].name}' does not know its sample rate", "give --rate, or convert it again with --rate"
        )
    if given is not None and given != rate:
        raise RateError(
            f"net '{rates[rate]}' needs {rate} Hz, {given} Hz is asked for",
            f"use {rate} Hz, or a net that was trained for {given} Hz",
        )
    return rate
