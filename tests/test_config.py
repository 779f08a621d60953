"""Configuration files: strict, and clear about what is wrong."""

from pathlib import Path

import pytest

from streamcnn import config
from streamcnn.errors import ConfigError

ROOT = Path(__file__).parents[1]
GOOD = """
streams:
  - name: mic0
    source: {device: "USB Audio", rate: 48000, channels: [2], block: 128, gain: 2.0}
    nets:
      - name: ramp
        net: nets/ramp.safetensors
        detector: {kind: peak, label: ramp, threshold: 0.6, refractory: 10ms}
publish: {bind: "tcp://127.0.0.1:5556"}
"""


def test_a_whole_configuration_is_read():
    """Every value arrives with its type, and spans of time in seconds."""
    read = config.parse(GOOD, Path("x.yaml"))
    (stream,) = read.streams
    assert stream.source == config.Source(device="USB Audio", rate=48000, channels=(2,), block=128, gain=2.0)
    (net,) = stream.nets
    assert (net.detector.threshold, net.detector.refractory) == (0.6, 0.010)


def test_a_tags_settings_are_read():
    """A tag's thresholds are one number or one a label, and its spans of time are in seconds."""
    tag = "{kind: tag, labels: [a, b], on: {a: 0.7, b: 0.9}, off: 0.4, smooth: 100ms, min_duration: 150ms}"
    read = config.parse(
        GOOD.replace("{kind: peak, label: ramp, threshold: 0.6, refractory: 10ms}", tag), Path("x.yaml")
    )
    detector = read.streams[0].nets[0].detector
    assert config.kind_of(detector) == "tag"
    assert (detector.labels, detector.on, detector.off) == (("a", "b"), {"a": 0.7, "b": 0.9}, 0.4)
    assert (detector.smooth, detector.min_duration) == (0.1, 0.15)


def test_paths_start_at_the_configuration(tmp_path: Path):
    """A net's relative path starts at the configuration's folder; a bare name stays the name of a shipped net."""
    (tmp_path / "c.yaml").write_text(GOOD + "", encoding="utf-8")
    assert config.load(tmp_path / "c.yaml").streams[0].nets[0].net == str(tmp_path / "nets/ramp.safetensors")
    (tmp_path / "d.yaml").write_text(GOOD.replace("nets/ramp.safetensors", "ramp"), encoding="utf-8")
    assert config.load(tmp_path / "d.yaml").streams[0].nets[0].net == "ramp"


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("gain: 2.0", "gian: 2.0"), 4, ["streams[0].source", "unknown field `gian`"]),
        (("rate: 48000", "rate: fast"), 4, ["streams[0].source.rate", "`int | null`", "`str`"]),
        (("rate: 48000", "rate: 0"), 4, ["streams[0].source.rate", ">= 1"]),
        (("channels: [2]", "channels: [0]"), 4, ["streams[0].source.channels[0]", ">= 1"]),
        (("channels: [2]", "channels: []"), 4, ["streams[0].source.channels", "length >= 1"]),
        (("gain: 2.0", "gain: -1"), 4, ["streams[0].source.gain", "> 0"]),
        (("name: mic0", "name: mic.0"), 3, ["streams[0].name", "regex"]),
        (("refractory: 10ms", "refractory: 10"), 8, ["streams[0].nets[0].detector.refractory", "`10ms`", "got `10`"]),
        (
            ("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "kind: tag, on: 1.5"),
            8,
            ["detector.on", "<= 1.0"],
        ),
        (("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "kind: tag, labels: [a, a]"), 8, ["`a` twice"]),
        (("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "on: 0.5"), 8, ["detector", "kind"]),
        (("kind: peak", "kind: peek"), 8, ["streams[0].nets[0].detector.kind", "'peek'"]),
        (("net: nets/ramp.safetensors\n", "\n"), 6, ["streams[0].nets[0]", "missing required field `net`"]),
        (("gain: 2.0", "gain: .inf"), 4, ["streams[0].source", "finite", "gain"]),
        (("threshold: 0.6", "threshold: .nan"), 8, ["streams[0].nets[0].detector", "finite", "threshold"]),
        (("refractory: 10ms", "refractory: 9999999999d"), 8, ["refractory", "ten years"]),
        (("rate: 48000", "rate: 99999999999999999999"), 4, ["streams[0].source.rate"]),
        (("name: mic0", "name: 2024-13-45 x"), 3, ["streams[0].name"]),
        (('bind: "tcp://127.0.0.1:5556"', "bind: 5556"), 9, ["publish.bind", "`str`"]),
        (("name: ramp\n", "name: ramp\n        name: ramp\n"), 7, ["'name' stands twice"]),
        (("streams:\n", "streams:\n  x: ["), None, ["not valid YAML"]),
    ],
)
def test_mistakes_are_named_with_file_line_and_path(change: tuple[str, str], line: int | None, words: list[str]):
    """A mistake in a configuration is an error with its file, line and path, and what was expected."""
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError) as error:
        config.parse(text, Path("/etc/x.yaml"))
    message = str(error.value).lower()
    assert message.startswith(f"/etc/x.yaml:{line}:" if line else "/etc/x.yaml:")
    assert [word for word in words if word.lower() not in message] == [], message


@pytest.mark.parametrize("text", ["", "[]", "streams: []", "streams: 3", "just words", "\0", "streams: &a [*a]"])
def test_other_text_is_refused(text: str):
    """A text that is no configuration is a ConfigError."""
    with pytest.raises(ConfigError):
        config.parse(text, Path("x.yaml"))


def test_two_streams_of_one_name_are_refused():
    """Names must be different: events could not be told apart."""
    twice = GOOD.replace("publish", "  - {name: mic0, nets: [{name: a, net: ramp}]}\npublish")
    with pytest.raises(ConfigError, match="two have the name 'mic0'"):
        config.parse(twice, Path("x.yaml"))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path):
    """Every configuration that is shipped can be read, and its nets exist."""
    from streamcnn.listener import load_listeners, stream_rate

    for stream in config.load(path).streams:
        assert stream_rate(load_listeners(stream), stream.source.rate) > 0


def test_numbers_and_names_are_read_as_people_mean_them():
    """1e-3 is a number, and a name that looks like a date is a name."""
    text = GOOD.replace("gain: 2.0", "gain: 1e-3").replace("name: mic0", "name: 2024-13-45")
    stream = config.parse(text, Path("x.yaml")).streams[0]
    assert (stream.source.gain, stream.name) == (0.001, "2024-13-45")


def test_only_one_stream_reads_standard_input():
    """Two streams on one pipe would share its frames."""
    stream = "{name: NAME, source: {device: '-'}, nets: [{name: n, net: r}]}"
    two = f"streams: [{stream.replace('NAME', 'a')}, {stream.replace('NAME', 'b')}]"
    with pytest.raises(ConfigError, match="two read standard input"):
        config.parse(two, Path("x.yaml"))
