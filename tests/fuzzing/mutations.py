"""Ways to spoil what is valid: bytes, text, and trees of values as JSON and YAML have them."""

import copy
import math
from collections.abc import Sequence
from random import Random

NUMBERS = (0, -1, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1,
           2**62, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63), -(2**63) - 1, 10**30, 0.0, -0.0, 0.5, 1.5, 5e-324, 1e-300, 1e39,
           1e308, -1e308, math.nan, math.inf, -math.inf)  # fmt: skip
TEXTS = ("", " ", "0", "-1", "1e999", "nan", "inf", "1,5", "null", "true", "\0", "a\0b", "\n", "a\nb", "\r", "\t", "\x1b[31m",
         "\u0085", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "😀", "\udc80", "\ud800", "%s", "{}", "..", "/", "~", "$HOME",
         "'", '"', '""', ",", ";", "x" * 300, "x" * 20_000, "10ms", "1e9d", "ramp")  # fmt: skip
RUNS = (b"\0", b"[", b"{", b"(", b'"', b"'", b"-", b",", b" ", b"\t", b"\n", b"\r", b"9", b"\xff", b"a", b"&", b"- ",
        b'[{"a":')  # fmt: skip
PIECES = (b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\r", b"\n\n", b"\0", b'"', b'""', b"'", b";", b",", b",,", b"\t", b"\\",
          b"#", b"\x1a", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"NaN", b"Infinity",
          b"1e999", b"-0", b"0x10", b"\\ud800", b"\\u0000", b": ", b"!!", b"*a", b"&a ", b"<<", b"%", b"|", b">",
          b"?")  # fmt: skip


def some(random: Random, most: int) -> int:
    """Return how many changes to make: one, mostly."""
    return min(most, 1 + int(random.expovariate(1.0)))


def spoiled(random: Random, data: bytes, *, most: int = 5, within: tuple[int, int] | None = None) -> bytes:
    """Return bytes with some of them flipped, overwritten, cut, doubled, moved or put in; `within`: where."""
    first, end = within or (0, len(data))
    head, part, tail = data[:first], bytearray(data[first:end]), data[end:]
    for _ in range(some(random, most)):
        part = _spoiled_once(random, part)
    return head + bytes(part) + tail


def _spoiled_once(random: Random, data: bytearray) -> bytearray:
    at = random.randrange(len(data) + 1)
    length = min(1 + int(random.expovariate(1 / 8)), max(1, len(data)))
    match random.randrange(10):
        case 0 if data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            data[at % len(data)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            other = random.randrange(len(data) + 1)
            data[at:at] = data[other : other + length]
        case 5:
            data[at : at + length] = random.randbytes(length)
        case 6:
            data[at : at + 4] = random.choice(NUMBERS_4).to_bytes(4, random.choice(("little", "big")))
        case 7:
            data[at:at] = random.choice(PIECES)
        case 8 if random.random() < 0.5:
            del data[at:]
        case 9 if random.random() < 0.2:
            data[at:at] = random.choice(RUNS) * random.choice((2, 100, 3000, 100_000))
        case _:
            if data:
                data[at % len(data)] = random.randrange(256)
    return data


NUMBERS_4 = tuple(number for number in NUMBERS if isinstance(number, int) and 0 <= number < 2**32)


def odd(random: Random) -> object:
    """Return a value that is seldom meant."""
    match random.randrange(8):
        case 0 | 1 | 2:
            return random.choice(NUMBERS)
        case 3 | 4:
            return random.choice(TEXTS)
        case 5:
            return random.choice((None, True, False))
        case 6:
            return random.choice(([], {}, [[]], [None], {"": None}, [1, "a"], {"a": {"b": []}}))
    return [odd(random) for _ in range(random.randrange(3))]


def changed(random: Random, value: object, *, most: int = 4) -> object:
    """Return a tree of lists and mappings with some of its parts replaced, removed, doubled, swapped or renamed."""
    value = copy.deepcopy(value)
    for _ in range(some(random, most)):
        places = list(_places(value))
        if not places:
            return odd(random)
        _change(random, places, *random.choice(places))
    return value


def nudged(random: Random, value: object, *, most: int = 4) -> object:
    """Return a tree some of whose leaves are others of the same type: what is closer to valid goes further."""
    value = copy.deepcopy(value)
    places = [(holder, key) for holder, key in _places(value) if not isinstance(holder[key], list | dict)]
    for holder, key in random.sample(places, min(len(places), some(random, most))):
        other, other_key = random.choice(places)
        holder[key] = _alike(random, holder[key], other[other_key])
    return value


def _alike(random: Random, value: object, other: object) -> object:
    """Return another value of the same type, perhaps this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = (value + 1, value - 1, 2 * value, 1000 * value, -value, random.randrange(300))
        return random.choice((*near, random.choice([number for number in NUMBERS if isinstance(number, int)])))
    if isinstance(value, float):
        near = (value * 1.01, -value, value * 1e6, value / 1e6, 0.0)
        return random.choice((*near, random.choice([number for number in NUMBERS if isinstance(number, float)])))
    if isinstance(value, str):
        return other if isinstance(other, str) and random.random() < 0.6 else random.choice(TEXTS)
    return other


def _places(value: object) -> list[tuple[object, object]]:
    """Return every place in a tree: what holds it, and its key or index there."""
    if isinstance(value, dict):
        here = [(value, key) for key in value]
    elif isinstance(value, list):
        here = [(value, k) for k in range(len(value))]
    else:
        return []
    return here + [place for part in (value.values() if isinstance(value, dict) else value) for place in _places(part)]


def _change(random: Random, places: Sequence[tuple[object, object]], holder: object, key: object) -> None:
    match random.randrange(8):
        case 0:
            del holder[key]
        case 1:
            other, other_key = random.choice(places)
            holder[key] = copy.deepcopy(other[other_key])
        case 2 if isinstance(holder, dict):
            holder[random.choice((*TEXTS, str(key) + "s", str(key).upper()))] = holder.pop(key)
        case 3 if isinstance(holder, dict):
            holder[random.choice(("extra", *TEXTS))] = odd(random)
        case 2 | 3:
            holder[key:key] = [copy.deepcopy(holder[key])] * random.choice((1, 1, 2, 50))
        case 4 if isinstance(holder[key], int | float):
            holder[key] = random.choice(
                (-holder[key], holder[key] * 2, holder[key] + 1, str(holder[key]), [holder[key]])
            )
        case 5:
            holder[key] = [holder[key]]
        case _:
            holder[key] = odd(random)
