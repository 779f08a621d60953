"""A net with its detector: what listens to a stream."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from streamcnn.config import DetectorSettings, Duration, Measure, Peak, Stream, Tag, Trigger, kind_of, parse_detector
from streamcnn.detect.hits import Detector
from streamcnn.detect.measure import MeasureDetector
from streamcnn.detect.peak import PeakDetector
from streamcnn.detect.tag import TagDetector
from streamcnn.detect.trigger import TriggerDetector
from streamcnn.errors import ConfigError, RateError
from streamcnn.filters import Chance, made_of_files, rate_of
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, Node
from streamcnn.graph.pointwise import Activation

# The highest value of functions that have one.
_HIGHEST = {"sigmoid": 1.0, "hard_sigmoid": 1.0, "softmax": 1.0, "tanh": 1.0, "hard_tanh": 1.0, "softsign": 1.0, "relu6": 6.0}
MINUTE_S = 60.0
OFF_SHARE = 0.5  # of `on`, where no `off` is configured
REFRACTORY_S = 0.010  # where nothing else is configured
MEASURED_EVERY_S = 1.0  # where nothing else is configured


@dataclass(frozen=True)
class Listener:
    """A net with its detector's settings, under the name that its events carry as `detector`.

    `chance`: what noise does to its scores, where that is known. Raises ConfigError where the settings do not fit the net.
    """

    name: str
    graph: Graph
    settings: DetectorSettings
    chance: Chance | None = None

    def __post_init__(self):
        """Check the settings against the net."""
        _ = self.labels
        highest = _HIGHEST.get(_last_function(self.computed))
        for label, threshold in self.thresholds.items():
            if highest is not None and threshold > highest:
                raise ConfigError(
                    f"net '{self.name}': the threshold of '{label}' is {threshold:g}, which no score reaches: the net's "
                    f"outputs go up to {highest:g}",
                    "lower it",
                )

    @property
    def kind(self) -> str:
        """The kind of its detector."""
        return kind_of(self.settings)

    @cached_property
    def computed(self) -> Graph:
        """The net as it runs: with the activation that makes probabilities of its outputs, where one is configured."""
        function = self.settings.outputs if isinstance(self.settings, Tag) else "probabilities"
        if function == "probabilities":
            return self.graph
        last = self.graph.output_name
        node = Node(f"{last}/{function}", Activation(activation=function), (last,))
        return replace(self.graph, nodes=(*self.graph.nodes, node))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the net's outputs: the configured one, the net's own, or the listener's name, numbered."""
        outputs = self.graph.output_channels
        label = self.settings.label if isinstance(self.settings, Peak) else None
        if label is not None:
            if outputs != 1:
                raise ConfigError(
                    f"net '{self.name}': one label, '{label}', for {outputs} outputs",
                    "leave it out, and name the outputs when converting: --labels",
                )
            return (label,)
        if self.graph.info.labels:
            return self.graph.info.labels
        return (self.name,) if outputs == 1 else tuple(f"{self.name}-{k}" for k in range(outputs))

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """The labels that its detector looks for."""
        wanted = self.settings.labels if isinstance(self.settings, Tag | Trigger) else None
        self._refuse_unknown(wanted or ())
        return wanted or self.labels

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """For each watched label the score that begins a detection: configured, or the net's own.

        Raises ConfigError where there is neither, and where a tag would end above the score that it begins with.
        """
        match self.settings:
            case Measure():
                return {}
            case Peak(threshold=given):
                return self._unlikely() or self._by_label("threshold", given, self.graph.info.threshold)
        thresholds = self._unlikely() or self._by_label("on", self.settings.on, self.graph.info.threshold)
        is_tag = isinstance(self.settings, Tag)
        for label, off in self._ends(thresholds).items():
            on = thresholds[label]
            if not off <= on or (is_tag and not 0 < off <= on <= 1):
                raise ConfigError(
                    f"net '{self.name}': the {self.kind} '{label}' begins at {on:g} and ends below {off:g}",
                    "a tag needs 0 < off <= on <= 1" if is_tag else "a trigger needs off <= on",
                )
        return thresholds

    def detector(self, rate: int) -> Detector:
        """Make its detector, for a stream of `rate` Hz."""
        graph, settings = self.graph, self.settings
        outputs, watched = graph.output_channels, [self.labels.index(label) for label in self.watched]
        on, off = list(self.thresholds.values()), list(self._ends(self.thresholds).values())

        def frames(span: float) -> int:
            """Return how many output frames cover a time span in seconds."""
            return -(-round(span * rate) // graph.hop)

        match settings:
            case Peak():
                return PeakDetector(on, frames(_refractory_s(settings)), frames(settings.merge or 0))
            case Trigger():
                longest = None if settings.max_duration is None else max(1, frames(settings.max_duration))
                shortest, pause = frames(settings.min_duration), frames(settings.hold_off)
                return TriggerDetector(outputs, watched, on, off, shortest, longest, pause)
            case Tag():
                votes = settings.votes.needed, settings.votes.of
                smooth, shortest = settings.smooth * rate / graph.hop, frames(settings.min_duration)
                return TagDetector(outputs, watched, on, off, smooth, shortest, votes, settings.top)
            case Measure():
                every = settings.every or (0 if settings.change else MEASURED_EVERY_S)
                return MeasureDetector(outputs, frames(every), settings.change, settings.statistic)

    def describe(self) -> str:
        """Return its name and thresholds, for people."""
        if not self.thresholds:
            return f"{self.name} ({self.kind} of {', '.join(self.labels)})"
        different = sorted(set(self.thresholds.values()))
        values = f"{different[0]:g}" if len(different) == 1 else f"{different[0]:g} to {different[-1]:g}"
        return f"{self.name} ({self.kind}, threshold {values})"

    def _unlikely(self) -> dict[str, float] | None:
        """Return, where a probability of false alarms is configured, the watched labels' thresholds for it."""
        probability = None if isinstance(self.settings, Tag) else self.settings.false_alarm
        if probability is None:
            return None
        if self.chance is None:
            raise ConfigError(
                f"net '{self.name}': false_alarm is {probability:g}, but what noise does to its scores is not known",
                "give a threshold; or, of a template, normalized: true or the noise_rms",
            )
        try:
            values = self.chance.thresholds(probability)
        except ConfigError as error:
            raise ConfigError(f"net '{self.name}': {error.message}", error.remedy) from error
        thresholds = dict(zip(self.labels, values, strict=True))
        return {label: thresholds[label] for label in self.watched}

    def _ends(self, thresholds: dict[str, float]) -> dict[str, float]:
        if isinstance(self.settings, Peak | Measure):
            return {}
        if self.settings.off is None:
            return {label: OFF_SHARE * on if on > 0 else on for label, on in thresholds.items()}
        return self._by_label("off", self.settings.off, None)

    def _by_label(self, key: str, given: float | dict[str, float] | None, own: float | None) -> dict[str, float]:
        """Return one value for each watched label, from one for all of them, from one each, or from the net's own."""
        if isinstance(given, dict):
            self._refuse_unknown(given)
        values = {}
        for label in self.watched:
            value = given.get(label, own) if isinstance(given, dict) else own if given is None else given
            if value is None:
                raise ConfigError(
                    f"net '{self.name}': no threshold for '{label}', neither configured nor in the net's file",
                    f"set detector.{key}, or give --threshold",
                )
            values[label] = value
        return values

    def _refuse_unknown(self, labels: "tuple[str, ...] | dict[str, float]") -> None:
        for label in labels:
            if label not in self.labels:
                raise ConfigError(
                    f"net '{self.name}' has no output '{label}'", f"its outputs are {', '.join(self.labels)}"
                )


def load_listeners(
    stream: Stream, rate: int | None = None, say: Callable[[str], None] = lambda _text: None
) -> list[Listener]:
    """Load the nets of a stream, and make those that are made of files.

    `rate`: of the stream, Hz, where that is given; filters are made for it, or for the highest rate of the nets. `say` is told,
    a line each, what a user should know. Raises NetFileError or AudioFileError where a file cannot be read,
    ConfigError where settings do not fit, RateError where nothing says a rate for a filter.
    """
    graphs = {net.name: store.load(net.net) for net in stream.nets if net.net is not None}
    filters = [net for net in stream.nets if net.net is None]
    rate = rate or stream.source.rate
    if filters and rate is None:
        rates = [graph.info.rate for graph in graphs.values()] or [rate_of(net) for net in filters]
        rate = max((known for known in rates if known is not None), default=None)
        if rate is None:
            raise RateError(f"nothing says for what rate to make '{filters[0].name}'", "give the source a rate")
    made = {net.name: made_of_files(net, rate, len(stream.source.channels)) for net in filters}
    listeners = []
    for net in stream.nets:
        filter_ = made.get(net.name)
        graph = graphs[net.name] if filter_ is None else filter_.graph
        settings = net.settings or own_detector(graph)
        if filter_ is not None:
            for note in filter_.notes:
                say(f"net '{net.name}': {note}")
            if isinstance(settings, Peak):
                settings = _with_lobes(settings, filter_.lobes / rate)
        for span in _long_spans(settings):
            say(f"net '{net.name}': {span}")
        listeners.append(Listener(net.name, graph, settings, filter_ and filter_.chance))
    return listeners


def _last_function(graph: Graph) -> str | None:
    """Return the function that makes a net's outputs, None where its last layer has none."""
    return getattr(graph.nodes[-1].layer, "activation", None)


def _long_spans(settings: DetectorSettings) -> Iterator[str]:
    """Yield what spans of more than a minute were read as: `10 m` are ten minutes, whatever was meant."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Duration) and value > MINUTE_S:
            yield f"{name} is {value:,g} s"


def _refractory_s(settings: Peak) -> float:
    """Return how close two peaks may be, in seconds."""
    return REFRACTORY_S if settings.refractory is None else settings.refractory


def _with_lobes(settings: Peak, lobes_s: float) -> Peak:
    """Return settings in which the lobes of a matched filter's peak are one, unless they say otherwise."""
    merge = Duration(lobes_s) if settings.merge is None else settings.merge
    refractory = max(REFRACTORY_S, lobes_s) if settings.refractory is None else settings.refractory
    return msgspec.structs.replace(settings, merge=merge, refractory=Duration(refractory))


def own_detector(graph: Graph) -> DetectorSettings:
    """Return the settings of the detector that a net's file asks for: `peak` where it asks for none."""
    if not graph.info.detector:
        return Peak()
    return parse_detector(dict(graph.info.detector), f"net '{graph.info.name}'")


def with_threshold(settings: DetectorSettings, threshold: float) -> DetectorSettings:
    """Return settings in which everything begins at `threshold`."""
    match settings:
        case Measure():
            raise ConfigError("a net that measures has no threshold", "leave out --threshold")
        case Peak():
            return msgspec.structs.replace(settings, threshold=threshold, false_alarm=None)
        case Trigger():
            return msgspec.structs.replace(settings, on=threshold, off=None, false_alarm=None)
        case Tag():
            return msgspec.structs.replace(settings, on=threshold, off=None)


def stream_rate(listeners: list[Listener], given: int | None) -> int:
    """Return the rate of a stream for these nets, Hz: the given one, or the highest of theirs.

    Nets of other rates get resampled frames; nets that do not know theirs take the stream's. Raises RateError where nothing
    says a rate.
    """
    rates = [net.graph.info.rate for net in listeners if net.graph.info.rate is not None]
    if given is None and not rates:
        raise RateError(
            f"net '{listeners[0].name}' does not know its sample rate", "give --rate, or convert it again with --rate"
        )
    return max(rates) if given is None else given
