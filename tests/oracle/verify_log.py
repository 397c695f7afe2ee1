#!/usr/bin/env python3
"""An independent verifier of the audit log, written from docs/audit-log.md alone. Exit code 0: the chain is whole."""
import hashlib
import json
import pathlib
import re
import sys

GENESIS = "0" * 64
ORDER = ["seq", "prev", "kind", "time", "boot_ns", "node", "boot_id"]


def main(folder):
    segments = sorted(path for path in pathlib.Path(folder).iterdir() if re.fullmatch(r"\d{20}\.ndjson", path.name))
    previous, expected = None, None
    for segment in segments:
        data = segment.read_bytes()
        lines = data.split(b"\n")
        if lines.pop() != b"" and segment != segments[-1]:
            sys.exit(f"{segment.name}: ends with half a record")
        for number, line in enumerate(lines, 1):
            record = json.loads(line.decode("utf-8", errors="strict"))
            where = f"{segment.name}:{number}"
            if list(record)[: len(ORDER)] != ORDER:
                sys.exit(f"{where}: members are not in order")
            if number == 1 and record["seq"] != int(segment.name[:20]):
                sys.exit(f"{where}: the segment has the wrong name")
            if expected is not None and record["seq"] != expected:
                sys.exit(f"{where}: record {record['seq']} instead of {expected}")
            if previous is not None and record["prev"] != previous:
                sys.exit(f"{where}: the chain is broken")
            if record["seq"] == 1 and record["prev"] != GENESIS:
                sys.exit(f"{where}: the first record has a predecessor")
            previous, expected = hashlib.sha256(line).hexdigest(), record["seq"] + 1
    print(f"whole, head {previous}")


main(sys.argv[1])
