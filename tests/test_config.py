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
        (("net: nets/ramp.safetensors\n", "\n"), 6, ["streams[0].nets[0]", "one of `net`", "got none"]),
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


@pytest.mark.parametrize("word", ["falsetto", "true-north", "1e5kick", "off", "on", "no", "2e3x"])
def test_words_are_words(word: str):
    """What only begins like a boolean or a number is a word, and so are YAML 1.1's `on` and `off`."""
    text = f"streams: [{{name: {word}, nets: [{{name: n, net: ramp, detector: {{kind: peak, label: {word}}}}}]}}]"
    (stream,) = config.parse(text, Path("x.yaml")).streams
    assert (stream.name, stream.nets[0].detector.label) == (word, word)


def test_a_preset_is_a_name():
    """`detector: ramp` is the detector that the preset stands for, and other names are refused."""
    text = "streams: [{name: s, nets: [{name: n, net: ramp, detector: PRESET}]}]"
    (stream,) = config.parse(text.replace("PRESET", "ramp"), Path("x.yaml")).streams
    assert stream.nets[0].settings == config.PRESETS["ramp"]
    with pytest.raises(ConfigError, match="ramq"):
        config.parse(text.replace("PRESET", "ramq"), Path("x.yaml"))


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        ("{kind: peak, threshold: 1, false_alarm: 1e-6}", "got both"),
        ("{kind: peak, false_alarm: 0.6}", "false_alarm"),
        ("{kind: trigger, on: 1, max_duration: 1s, min_duration: 2s}", "max_duration"),
        ("{kind: trigger, on: .nan}", "finite"),
        ("{kind: tag, votes: {needed: 4, of: 3}}", "4 of 3"),
        ("{kind: tag, top: 0}", "top"),
        ("{kind: measure, every: 0s}", "above 0"),
        ("{kind: measure, change: .inf}", "finite"),
        ("{kind: peak, most_per_s: 0}", "most_per_s"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(detector: str, said: str):
    """Thresholds out of order, durations that cannot be, and two answers to one question are named with their place."""
    with pytest.raises(ConfigError, match=rf"x.yaml:1: at streams\[0\].nets\[0\].detector.*{said}"):
        config.parse(f"streams: [{{name: s, nets: [{{name: n, net: ramp, detector: {detector}}}]}}]", Path("x.yaml"))


def test_paths_begin_at_the_configuration(tmp_path: Path):
    """Files named in a configuration are looked for beside it: nets, templates, filters, keys, journal and clips."""
    path = tmp_path / "x.yaml"
    path.write_text(
        "streams: [{name: s, clips: {folder: clips}, nets: [{name: a, net: nets/a.safetensors}, {name: b, net: ramp},"
        " {name: c, template: c.wav}, {name: d, template: [c.wav, /d.wav]}, {name: e, fir: taps.txt}]}]\n"
        "publish: {bind: 'tcp://*:5556', curve: {secret: a.key_secret, clients: keys}}\njournal: {path: j.db}\n"
    )
    loaded = config.load(path)
    (stream,) = loaded.streams
    assert [net.net for net in stream.nets[:2]] == [str(tmp_path / "nets/a.safetensors"), "ramp"]
    assert [net.templates for net in stream.nets[2:4]] == [
        (tmp_path / "c.wav",), (tmp_path / "c.wav", Path("/d.wav"))
    ]  # fmt: skip
    assert (stream.nets[4].fir, stream.clips.folder) == (tmp_path / "taps.txt", tmp_path / "clips")
    assert loaded.publish.curve == config.Curve(secret=tmp_path / "a.key_secret", clients=tmp_path / "keys")
    assert loaded.journal.place == tmp_path / "j.db"
