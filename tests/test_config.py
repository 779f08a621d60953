"""Configuration files: strict, and clear about what is wrong."""

import re
import time
from pathlib import Path

import pytest

from streamcnn import config, endpoint, strict_yaml
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
        (("gain: 2.0", "gian: 2.0"), 4, ["streams[0].source: there is no key 'gian' here", "did you mean 'gain'?"]),
        (("rate: 48000", "rate: fast"), 4, ["streams[0].source.rate: expected a whole number, got the text 'fast'"]),
        (("rate: 48000", "rate: 0"), 4, ["streams[0].source.rate: expected a whole number of at least 1, got 0"]),
        (("channels: [2]", "channels: [0]"), 4, ["channels[0]: expected a whole number of at least 1, got 0"]),
        (("channels: [2]", "channels: []"), 4, ["streams[0].source.channels: expected at least 1 of them, got an empty list"]),
        (("gain: 2.0", "gain: -1"), 4, ["streams[0].source.gain: expected a number above 0, got -1"]),
        (("name: mic0", "name: mic.0"), 3, ["streams[0].name: the text 'mic.0' is no name: letters, digits"]),
        (("refractory: 10ms", "refractory: 10"), 8, ["streams[0].nets[0].detector.refractory", "'10ms'", "got '10'"]),
        (
            ("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "kind: tag, on: 1.5"),
            8,
            ["detector.on: expected a number of at most 1, got 1.5"],
        ),
        (("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "kind: tag, labels: [a, a]"), 8, ["'a' twice"]),
        (("kind: peak, label: ramp, threshold: 0.6, refractory: 10ms", "on: 0.5"), 8, ["detector", "kind"]),
        (("kind: peak", "kind: peek"), 8, ["streams[0].nets[0].detector.kind", "the text 'peek'", "did you mean 'peak'?"]),
        (
            ("refractory: 10ms", "refractry: 10ms"),
            8,
            ["detector: there is no key 'refractry' here; did you mean 'refractory'? there are kind, most_per_s, label, thr"],
        ),
        (("net: nets/ramp.safetensors\n", "\n"), 6, ["streams[0].nets[0]", "one of 'net'", "got none"]),
        (("gain: 2.0", "gain: .inf"), 4, ["streams[0].source", "finite", "gain"]),
        (("threshold: 0.6", "threshold: .nan"), 8, ["streams[0].nets[0].detector", "finite", "threshold"]),
        (("refractory: 10ms", "refractory: 9999999999d"), 8, ["refractory", "ten years"]),
        (("rate: 48000", "rate: 99999999999999999999"), 4, ["streams[0].source.rate"]),
        (("name: mic0", "name: 2024-13-45 x"), 3, ["streams[0].name"]),
        (('bind: "tcp://127.0.0.1:5556"', "bind: 5556"), 9, ["publish.bind: expected text, got 5556"]),
        (("name: ramp\n", "name: ramp\n        name: ramp\n"), 7, ["the key 'name' stands twice"]),
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
    from streamcnn.pipeline.listener import load_listeners, stream_rate

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


NET = "streams: [{name: s, nets: [{name: n, net: ramp}]}]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("016000", ["x.yaml:2: '016000' has a leading zero", "write 16000"]),
        ("-012", ["'-012' has a leading zero", "write 12"]),
        ("13:20:00", ["'13:20:00' is a number of base 60 for some programs"]),
        ("1:0", ["'1:0' is a number of base 60"]),
        ("1_000", ["journal.most_mb: expected a number, got the text '1_000'"]),
        ("0b11", ["expected a number, got the text '0b11'"]),
        ("'12,5'", ["expected a number, got the text '12,5'", "write decimals with a point"]),
        ("9" * 40, ["a number of 40 digits"]),
        ("yes", ["expected a number, got the text 'yes'"]),
        ("[]", ["expected a number, got an empty list"]),
        ("{0,6}", ["'0' stands where a key should", "write decimals with a point"]),
        ("{1: 2}", ["'1' stands where a key should, and is no text"]),
        ("{[a]: 2}", ["a list or mapping stands where a key should"]),
        ('"\\ud800"', ["half of a surrogate pair"]),
        ('"\a"', ["x.yaml:2: the character U+0007 may not stand in YAML"]),
        ("1e39", ["finite number (float32)"]),
        ("!!bool maybe", ["not valid YAML"]),
        ("!!binary aGk=", ["x.yaml:2: values of the tag 'binary' are not read"]),
        ("!!timestamp 2020-01-01", ["values of the tag 'timestamp' are not read"]),
        ("!!str 012", ["expected a number, got the text '012'"]),
    ],
)
def test_numbers_that_programs_read_differently_are_refused(text: str, words: list[str]):
    """What YAML 1.1 and 1.2 read as different numbers, and what is none, is an error with its line and what was read."""
    with pytest.raises(ConfigError) as error:
        config.parse(f"{NET}journal: {{most_mb: {text}}}", Path("x.yaml"))
    assert [word for word in words if word not in str(error.value)] == [], str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x10", 16), ("0o17", 15), ("+12", 12), ("0", 0), ("0.5", 0.5), (".5", 0.5), ("-1.e3", -1000.0), ("1e-3", 0.001)],
)
def test_numbers_of_the_core_schema_are_read(text: str, value: float):
    """Hexadecimal, octal and decimal numbers are what YAML 1.2 says; 0 and 0.5 have no leading zero."""
    assert strict_yaml.load(f"a: {text}", Path("x.yaml"))[0] == {"a": value}


@pytest.mark.parametrize(("text", "value"), [("True", True), ("TRUE", True), ("false", False), ("False", False)])
def test_booleans_are_those_of_the_core_schema(text: str, value: bool):
    """`True` and `TRUE` are true, as YAML 1.2 has it."""
    assert config.parse(f"{NET}publish: {{insecure: {text}}}", Path("x.yaml")).publish.insecure is value


def test_infinities_and_nan_are_numbers():
    """The core schema's words for them, in each of their spellings."""
    values, _ = strict_yaml.load("[.inf, -.Inf, +.INF, .nan, .NaN]", Path("x.yaml"))
    assert values[:3] == [float("inf"), float("-inf"), float("inf")]
    assert all(value != value for value in values[3:])


@pytest.mark.parametrize("step", ["[*a, *a, *a, *a, *a, *a, *a, *a, *a]", "{<<: [*a, *a, *a, *a, *a, *a, *a, *a, *a]}"])
def test_aliases_cost_no_time(step: str):
    """A text of aliases that stand for billions of values is refused at once, with their number."""
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{level}: &a{level} {step.replace('*a', f'*a{level - 1}')}" for level in range(1, 12)]
    began = time.monotonic()
    with pytest.raises(ConfigError, match="values; have at most 100,000"):
        config.parse("\n".join(lines), Path("x.yaml"))
    assert time.monotonic() - began < 2


def test_an_alias_is_what_it_names():
    """Aliases and merge keys serve to say things once."""
    text = "streams: [{name: s, nets: [&n {name: a, net: ramp}, {<<: *n, name: b}]}]"
    (stream,) = config.parse(text, Path("x.yaml")).streams
    assert [(net.name, net.net) for net in stream.nets] == [("a", "ramp"), ("b", "ramp")]


def test_home_is_home_and_variables_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """In every path of a configuration `~` is the user's home, and `$` is an error that names the path."""
    monkeypatch.setenv("HOME", "/home/somebody")
    texts = {
        "streams: [{name: s, clips: {folder: PATH}, nets: [{name: n, net: ramp}]}]": lambda c: c.streams[0].clips.folder,
        "streams: [{name: s, nets: [{name: n, net: PATH}]}]": lambda c: c.streams[0].nets[0].net,
        "streams: [{name: s, nets: [{name: n, template: PATH}]}]": lambda c: c.streams[0].nets[0].templates[0],
        "streams: [{name: s, nets: [{name: n, template: [PATH]}]}]": lambda c: c.streams[0].nets[0].templates[0],
        "streams: [{name: s, nets: [{name: n, fir: PATH}]}]": lambda c: c.streams[0].nets[0].fir,
        f"{NET}publish: {{bind: 'tcp://*:1', curve: {{secret: PATH}}}}": lambda c: c.publish.curve.secret,
        f"{NET}publish: {{bind: 'tcp://*:1', curve: {{secret: a, clients: PATH}}}}": lambda c: c.publish.curve.clients,
        f"{NET}journal: {{path: PATH}}": lambda c: c.journal.path,
    }
    for text, path in texts.items():
        (tmp_path / "c.yaml").write_text(text.replace("PATH", "~/x.safetensors"))
        assert str(path(config.load(tmp_path / "c.yaml"))) == "/home/somebody/x.safetensors"
        for wrong, said in (("$HOME/x.wav", "path without '$'"), ("~nobody-here/x.wav", "nobody of that name")):
            with pytest.raises(ConfigError, match=re.escape(said)):
                config.parse(text.replace("PATH", wrong), Path("x.yaml"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("device: demo, format: s16le", "for standard input"),
        ("device: '-', width: 2, channels: [3]", "up to 2"),
        ("device: '-', format: s16", "did you mean 's16"),
        ("device: mic, channels: [1000000000]", "of at most 1,024, got 1000000000"),
    ],
)
def test_sources_that_cannot_be_are_refused(changes: str, said: str):
    """A channel that a source does not have, and options of another kind of source, are named."""
    with pytest.raises(ConfigError) as error:
        config.parse(f"streams: [{{name: s, source: {{{changes}}}, nets: [{{name: n, net: ramp}}]}}]", Path("x.yaml"))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["tcp://::1:5956", "tcp://]127.0.0.1[:5", "tcp://127.0.0.1:80000", "tcp://127.0.0.1:5x", "tcp://127.0.0.1", "tcp://:5",
     "tcp://1.2.3.4.5:9", "tcp://a b:5", "tcp://[127.0.0.1]:5", "tcp://[::1:5", "ipc://", "ipc://" + "x" * 200, "udp://a:5",
     "5556", "", "tcp://[::g]:5"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_before_zeromq_reads_it(text: str):
    """Ports beyond 65,535, addresses without their brackets and other rubbish are refused when they are read."""
    with pytest.raises(ConfigError):
        config.parse_publish(text)
    with pytest.raises(ConfigError, match="publish"):
        config.parse(f"{NET}publish: {{bind: '{text}', insecure: true}}", Path("x.yaml"))
    with pytest.raises(ValueError, match="endpoint|port|host|brackets|name"):
        endpoint.parse_peer(text)


def test_endpoints_are_read():
    """Names, addresses of both kinds, all interfaces and any free port are endpoints."""
    assert endpoint.parse("tcp://[::1]:5611") == ("tcp", "::1", 5611)
    assert endpoint.parse("tcp://*:*") == ("tcp", "*", 0)
    assert endpoint.parse("tcp://mic-0.local:5556").port == 5556
    assert endpoint.parse("ipc:///run/x") == ("ipc", "/run/x", None)
    assert endpoint.parse("tcp://[::1]:1").is_private
    assert endpoint.parse("tcp://[::1]:1").is_ipv6
    assert not endpoint.parse("tcp://[fe80::1%eth0]:1").is_private
    for text in ("tcp://*:5556", "tcp://127.0.0.1:0"):
        with pytest.raises(ValueError, match="to connect to"):
            endpoint.parse_peer(text)


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("{r: x}", "expected a number, got the text 'x'"),
        ("{a.b: 0.5}", "not all of its keys ('a.b')"),
        ("{'': 1}", "not all of its"),
    ],
)
def test_values_and_keys_of_mappings_are_named(threshold: str, said: str):
    """Where a value belongs to a label, the wrong value is shown, and so are labels that are none."""
    text = f"streams:\n- name: s\n  nets:\n  - {{name: n, net: r, detector: {{kind: peak, threshold: {threshold}}}}}"
    with pytest.raises(ConfigError) as error:
        config.parse(text, Path("x.yaml"))
    assert str(error.value).startswith("x.yaml:4: at streams[0].nets[0].detector.threshold: ")
    assert said in str(error.value)


def test_a_mistake_that_came_by_a_merge_key_has_a_line():
    """What stands elsewhere than where its path says is named with the nearest line that there is."""
    with pytest.raises(ConfigError, match=r"x.yaml:\d+: at streams\[0\]"):
        config.parse("<<: {streams: [words]}\njournal: {}\n", Path("x.yaml"))
