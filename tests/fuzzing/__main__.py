"""`python -m tests.fuzzing [DOOR ...] [--seed N] [--count N | --only K] [--workers N]`."""

import argparse
import sys
import time
from collections import defaultdict

from tests.fuzzing.harness import DOORS, FEWER, Failure, failure, tried


def main() -> None:
    """Try the cases, say of each kind of failure the first one, and exit with 1 where there is any."""
    arguments = _arguments()
    found = sum(_shown(door, arguments) for door in arguments.doors or DOORS)
    sys.exit(found > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description="Malformed input for every door.")
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"{', '.join(DOORS)}; by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="cases of each door [default: 200, of Keras 20]")
    parser.add_argument("--only", type=int, metavar="K", help="the case of that number alone")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    unknown = set(arguments.doors) - set(DOORS) - {"planted"}
    if unknown:
        parser.error(f"there is no door '{min(unknown)}'")
    return arguments


def _shown(door: str, arguments: argparse.Namespace) -> int:
    """Try a door's cases, say what came of them, and return how many failed."""
    count = arguments.count or 200 // FEWER.get(door, 1)
    numbers = range(count) if arguments.only is None else [arguments.only]
    kinds: dict[str, list[Failure]] = defaultdict(list)
    began, taken, longest_s, most_mb = time.monotonic(), 0, 0.0, 0.0
    for number, result in tried(door, arguments.seed, numbers, arguments.workers):
        taken += result.outcome.is_taken and result.outcome.fault is None
        longest_s, most_mb = max(longest_s, result.took_s), max(most_mb, result.took_mb)
        one = failure(door, arguments.seed, number, result)
        if one is not None:
            kinds[one.kind].append(one)
    failed = sum(map(len, kinds.values()))
    _say(
        f"{door}: {len(numbers)} cases in {time.monotonic() - began:.0f} s, {taken} taken as valid, {failed} failed; "
        f"the longest took {longest_s:.2f} s, the largest {most_mb:.0f} MB"
    )
    for kind, ones in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        first = ones[0]
        _say(f"  {len(ones)} x {kind}\n      {first.made}: {first.detail}\n      {first.again}\n      {first.keep()}")
    return failed


def _say(text: str) -> None:
    sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
