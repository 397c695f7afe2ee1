#!/usr/bin/env python3
"""An independent verifier of the audit log, written from docs/audit-log.md and RFC 8032 alone, with nothing but Python.

verify_log.py FOLDER [--key HEX] [--against FILE]
verify_log.py --stdin    reads such arguments from stdin, one JSON list a line, and answers each with the exit code.
Exit codes: 0 whole, 1 changed, 2 something is missing.
"""
import fcntl
import functools
import hashlib
import json
import pathlib
import re
import subprocess
import sys

HEAD = ["seq", "prev", "kind", "time", "boot_ns", "node", "boot_id"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
UNSIGNED_MAX = 65536
LINE_MAX = 1 << 20

# Ed25519, RFC 8032 section 5.1. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point_add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = point_add(q, p)
        p, s = point_add(p, p), s >> 1
    return q


def point_decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


@functools.lru_cache(100_000)
def ed25519_verify(key, message, signature):
    a, r, s = point_decompress(key), point_decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = point_mul(s, BASE), point_add(r, point_mul(h, a))
    return not any((left[i] * right[2] - right[i] * left[2]) % P for i in (0, 1))


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tree_root(entries):
    """The Merkle tree hash of RFC 6962, section 2.1."""
    if not entries:
        return sha256(b"")
    level = [sha256(b"\0", entry) for entry in entries]
    while len(level) > 1:
        # Pairs from the left; what has no partner goes up as it is: the same as splitting at the largest power of two.
        pairs = [sha256(b"\1", left, right) for left, right in zip(level[::2], level[1::2])]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


class Changed(Exception):
    pass


def is_hex(text, digits):
    return isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None


def parse(line):
    try:
        text = line.decode("utf-8")
        pairs = json.loads(text, object_pairs_hook=list)
        record = dict(pairs)
    except (ValueError, TypeError, RecursionError):
        raise Changed("not JSON")
    if [name for name, _ in pairs[: len(HEAD)]] != HEAD or not text.startswith('{"seq":'):
        raise Changed("members are not in order")
    numbers = all(type(record[name]) is int and 0 <= record[name] < 2**64 for name in ("seq", "boot_ns"))
    texts = all(type(record[name]) is str for name in ("kind", "time", "node", "boot_id"))
    if not (numbers and texts and is_hex(record["prev"], 64) and TIME.fullmatch(record["time"]) and re.fullmatch("[a-z_]+", record["kind"])):
        raise Changed("a member of the head has not its form")
    if not text.startswith(
        '{"seq":%d,"prev":"%s","kind":"%s","time":"%s","boot_ns":%d,"node":"'
        % tuple(record[name] for name in HEAD[:5])
    ):
        raise Changed("the head is not written as it must be")
    return record


def is_signed(line, record, key):
    end = b',"signature":"%s"}' % str(record.get("signature")).encode()
    if not is_hex(record.get("signature"), 128) or not line.endswith(end):
        return False
    return ed25519_verify(key, line[: -len(end)], bytes.fromhex(record["signature"]))


def public_key(record):
    if not is_hex(record.get("key"), 64) or type(record.get("epoch")) is not int:
        raise Changed("no key is named")
    return bytes.fromhex(record["key"])


def lines_of(segment):
    if segment.name.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", segment], check=True, stdout=subprocess.PIPE).stdout.split(b"\n")
    return segment.read_bytes().split(b"\n")


def is_being_written(folder):
    try:
        with open(folder / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def noted_keys(folder, pinned):
    """The key of each epoch in keys.ndjson, and whether it goes back to the pinned key; and the lines."""
    path = folder / "keys.ndjson"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    keys = {}
    for line in lines:
        try:
            record = json.loads(line)
            key = public_key(record)
        except (ValueError, Changed, AttributeError):
            continue
        signer, descends = keys.get(record.get("signed_by"), (pinned, True))
        descends = signer is not None and (descends or signer == pinned)
        keys[record["epoch"]] = key, key == pinned or (descends and is_signed(line, record, signer))
    return keys, lines


def kept(lines, only):
    records = set()
    for line in lines:
        try:
            record = parse(line)
        except Changed:
            continue
        if only is None or record["kind"] == only:
            records.add((record["seq"], hashlib.sha256(line).digest(), record["node"]))
    return records


class Log:
    def __init__(self, pinned):
        self.pinned, self.changed, self.missing = pinned, [], []
        self.prev, self.seq, self.first_seq, self.hashes = None, None, None, {}
        self.current, self.descends, self.is_pinned, self.checkpoints = None, False, False, 0
        self.unsigned, self.is_closed, self.retained_from, self.told_retained_from = 0, False, 0, 0
        self.nodes, self.unpinned = set(), 0

    def segment(self, segment, is_last, noted):
        lines = lines_of(segment)
        half = lines.pop()
        self.entries, self.first = [], None
        for number, line in enumerate(lines):
            try:
                self.record(line, int(segment.name[:20]) if number == 0 else None, noted)
            except Changed as problem:
                self.changed.append(f"{segment.name}:{number + 1}: {problem}")
            self.prev = sha256(line)
            self.entries.append(self.prev)
        if half and not is_last:
            self.changed.append(f"{segment.name}: ends with half a record")
        return half

    def record(self, line, named, noted):
        if len(line) >= LINE_MAX:
            raise Changed("the line is too long")
        record = parse(line)
        seq, before, is_begin = record["seq"], self.seq, record["kind"] == "segment"
        self.seq, self.is_closed = seq, False
        self.nodes.add(record["node"])
        self.hashes[seq] = sha256(line)
        if self.first_seq is None:
            self.first_seq = seq
        left_unsigned = named is not None and self.unsigned > 0
        if named is not None:
            self.first = seq
        self.unsigned += 1
        too_long = self.unsigned == UNSIGNED_MAX + 1
        self.meaning(line, record, noted)
        if named is not None and named != seq:
            raise Changed("the segment has the wrong name")
        if is_begin != (named is not None):
            raise Changed("a segment record is where none belongs, or missing")
        if before is not None and seq != before + 1:
            raise Changed(f"record {seq} follows {before}")
        if self.prev is not None and record["prev"] != self.prev.hex():
            raise Changed("the chain is broken")
        if seq == 1 and record["prev"] != "0" * 64:
            raise Changed("the first record has a predecessor")
        if left_unsigned:
            raise Changed("the segment before does not end with a checkpoint")
        if too_long:
            raise Changed("too many records without a checkpoint")

    def meaning(self, line, record, noted):
        kind = record["kind"]
        if kind == "segment":
            key = public_key(record)
            if self.current is None:
                known, descends = noted.get(record["epoch"], (None, False))
                self.descends = key == self.pinned or (known == key and descends)
                self.current = record["epoch"], key
            if self.current != (record["epoch"], key):
                raise Changed("another key than the one that signs")
        elif kind == "key":
            self.key(line, record, public_key(record))
        elif kind == "checkpoint":
            key = public_key(record)
            if self.current != (record["epoch"], key) or not is_signed(line, record, key):
                raise Changed("the signature does not hold")
            covered = self.first, len(self.entries), tree_root(self.entries).hex()
            if (record.get("first"), record.get("size"), record.get("root")) != covered:
                raise Changed("the root is wrong")
            self.checkpoints, self.unsigned = self.checkpoints + 1, 0
            self.is_closed, self.is_pinned = record.get("why") == "close", self.descends
            self.unpinned += self.pinned is not None and not self.descends
            self.retained_from = max(self.retained_from, self.told_retained_from)
        elif kind == "retention":
            self.told_retained_from = max(self.told_retained_from, record["deleted_to_seq"] + 1)
        elif kind == "recovery" and record.get("cut_lines", 0) > 0:
            self.missing.append("whole lines were cut off after a crash")

    def key(self, line, record, key):
        epoch = record["epoch"]
        if record.get("signed_by") == epoch:
            if not is_signed(line, record, key):
                raise Changed("the key has not signed itself")
            if self.current != (epoch, key):
                self.current, self.descends = (epoch, key), key == self.pinned
                self.missing.append(f"no earlier key has signed that of epoch {epoch}")
            return
        if self.current is None or record.get("signed_by") != self.current[0] or epoch <= self.current[0]:
            raise Changed("the key before is another one")
        if not is_signed(line, record, self.current[1]):
            raise Changed("the new key is not signed by the one before")
        self.current, self.descends = (epoch, key), self.descends or key == self.pinned

    def compare(self, records, what, nodes):
        good, wrong = 0, []
        for seq, digest, node in sorted(records):
            if (nodes is not None and node not in nodes) or seq < self.first_seq:
                continue
            if self.hashes.get(seq) == digest:
                good += 1
            else:
                wrong.append(f"{what}: record {seq} was kept, and is not there")
        self.changed += wrong
        return good + len(wrong)


def verify(folder, key=None, against=None):
    folder = pathlib.Path(folder)
    was_being_written = is_being_written(folder)
    noted, noted_lines = noted_keys(folder, key)
    anchored = kept(pathlib.Path(against).read_bytes().split(b"\n")[:-1], "checkpoint") if against else None
    names = {path.name: path for path in folder.iterdir() if re.fullmatch(r"\d{20}\.ndjson(\.zst)?", path.name)}
    # Of a segment that is there in both forms the plain one counts.
    segments = [path for name, path in sorted(names.items()) if name.removesuffix(".zst") == name or name[:-4] not in names]
    log, half = Log(key), b""
    for segment in segments:
        half = log.segment(segment, segment == segments[-1], noted)
    is_open = was_being_written or is_being_written(folder)
    if log.first_seq is None:
        log.missing.append("there are no records")
    else:
        if log.first_seq > 1 and log.retained_from < log.first_seq:
            log.missing.append("the beginning is missing")
        if not is_open and not log.is_closed:
            log.missing.append("the log was not closed")
        log.compare(kept(noted_lines, None), "keys.ndjson", None)
        if anchored is not None and log.compare(anchored, "anchor", log.nodes) == 0:
            log.missing.append("the anchor has no checkpoint of this log")
    if half and not is_open:
        log.missing.append("the log ends with half a record")
    if key is not None and log.checkpoints == 0:
        log.missing.append("no checkpoint")
    elif key is not None and not log.is_pinned:
        log.changed.append("the key that signed last does not go back to the one that was given")
    elif log.unpinned > 0:
        log.missing.append("checkpoints that do not go back to the key that was given")
    return log


def run(arguments):
    folder, options = arguments[0], dict(zip(arguments[1::2], arguments[2::2]))
    key = bytes.fromhex(options["--key"]) if "--key" in options else None
    log = verify(folder, key, options.get("--against"))
    return log, 1 if log.changed else 2 if log.missing else 0


def main():
    if sys.argv[1] == "--stdin":
        for line in sys.stdin:
            print(run(json.loads(line))[1], flush=True)
        return
    log, code = run(sys.argv[1:])
    for problem in log.changed[:100] + log.missing[:100]:
        print(problem)
    print(["whole", "THE LOG WAS CHANGED", "something is missing"][code] + f", head {log.prev.hex() if log.prev else None}")
    sys.exit(code)


main()
