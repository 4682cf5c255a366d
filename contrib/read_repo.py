#!/usr/bin/env python3
"""Reads a metastash repository without metastash: lists, verifies and restores snapshots.

Written from docs/format.md alone, for the day when nothing else is at hand. It needs Python 3.8 and the package
`zstandard` (pip install zstandard; apt-get install python3-zstandard), writes nothing but what it restores, and never
changes a repository. The package `blake3`, where it is installed, makes it much faster.

  read_repo.py REPO list [SNAP]          the snapshots, or the documents of one
  read_repo.py REPO verify [SNAP]        every byte of all snapshots and packs, or of one snapshot
  read_repo.py REPO restore SNAP DEST    write its documents below DEST, which must not exist

SNAP is the beginning of an id, a label, or `latest`. Exit codes: 0 done, 1 failed, 2 wrong usage, 13 damaged.
"""
import argparse, os, struct, sys  # noqa: E401
from functools import lru_cache

try:
    import zstandard
except ImportError:
    sys.exit("read_repo.py needs the package zstandard: pip install zstandard, or apt-get install python3-zstandard")
try:
    from blake3 import blake3
except ImportError:
    blake3 = None


class Damaged(Exception):
    """Stored bytes are not what they must be."""


# BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), for where the package is not installed
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64


def compress(chain, block, counter, length, flags):
    v, m = list(chain) + list(IV[:4]) + [counter, 0, length, flags], struct.unpack("<16I", block)
    for _ in range(7):
        for n, (a, b, c, d) in enumerate(MIXES):
            for x, first, second in ((m[2 * n], 16, 12), (m[2 * n + 1], 8, 7)):
                v[a] = v[a] + v[b] + x & 0xFFFFFFFF
                t = v[d] ^ v[a]
                v[d] = (t >> first | t << 32 - first) & 0xFFFFFFFF
                v[c] = v[c] + v[d] & 0xFFFFFFFF
                t = v[b] ^ v[c]
                v[b] = (t >> second | t << 32 - second) & 0xFFFFFFFF
        m = tuple(m[n] for n in ORDER)
    return tuple(v[n] ^ v[n + 8] for n in range(8))


def slow_blake3(data, key=IV, flags=0):
    def subtree(data, counter, root):
        if len(data) > 1024:
            left = 1 << (len(data) - 1).bit_length() - 1
            pair = subtree(data[:left], counter, 0) + subtree(data[left:], counter + left // 1024, 0)
            return compress(key, struct.pack("<16I", *pair), 0, 64, flags | PARENT | root)
        chain, last = key, max(len(data) - 1, 0) // 64
        for n in range(last + 1):
            block, f = data[64 * n:64 * n + 64], flags | (CHUNK_START if n == 0 else 0)
            f |= CHUNK_END | root if n == last else 0
            chain = compress(chain, block.ljust(64, b"\0"), counter, len(block), f)
        return chain

    return struct.pack("<8I", *subtree(data, 0, ROOT))


def hash_of(data):
    return blake3(data).digest() if blake3 else slow_blake3(data)


def derive(context, data):
    if blake3:
        return blake3(data, derive_key_context=context).digest()
    return slow_blake3(data, struct.unpack("<8I", slow_blake3(context.encode(), flags=CONTEXT)), MATERIAL)


class Bytes:
    """Reads bytes from front to back."""
    SIMPLE = {0xC0: None, 0xC2: False, 0xC3: True}
    NUMBERS = dict(zip(range(0xCC, 0xD4), (">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")))
    SIZES = dict(zip((0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF), (1, 2, 4, 1, 2, 4, 2, 4, 2, 4)))

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        if self.at > len(self.data):
            raise Damaged("something is cut off")
        return self.data[self.at - count:self.at]

    def end(self, value=None):
        if self.at == len(self.data):
            return value
        raise Damaged("something is longer than it should be")

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def varints(self):
        values = []
        while self.at < len(self.data):
            values.append(self.varint())
        return values

    def value(self):
        kind = self.take(1)[0]
        if kind < 0x80 or kind >= 0xE0:
            return kind if kind < 0x80 else kind - 0x100
        if kind in self.SIMPLE:
            return self.SIMPLE[kind]
        if kind in self.NUMBERS:
            form = self.NUMBERS[kind]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if kind < 0xC0:
            count = kind & (31 if kind >= 0xA0 else 15)
        elif kind in self.SIZES:
            count = int.from_bytes(self.take(self.SIZES[kind]), "big")
        else:
            raise Damaged(f"unknown MessagePack type {kind:#x}")
        if kind < 0x90 or kind >= 0xDE:
            return {self.value(): self.value() for _ in range(count)}
        if kind < 0xA0 or kind >= 0xDC:
            return [self.value() for _ in range(count)]
        raw = self.take(count)
        return raw if 0xC4 <= kind <= 0xC6 else raw.decode()


def unpack(data):
    reader = Bytes(data)
    return reader.end(reader.value())


VERSION, FEATURE_REPLAYED, RAW_BYTES_MAX = 1, 1, 64 << 20


def decode_blob(blob, raw_length, what):
    if not blob or blob[0] > 1 or raw_length > RAW_BYTES_MAX:
        raise Damaged(f"{what} is stored in an unknown way")
    raw = blob[1:]
    try:
        if blob[0]:
            raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=max(raw_length, 1))
    except zstandard.ZstdError as error:
        raise Damaged(f"{what} can't be decompressed: {error}") from error
    if len(raw) == raw_length:
        return raw
    raise Damaged(f"{what} has another length than it should")


class Repository:
    def __init__(self, path):
        self.path, self.packs, self.places, self.damage = path, {}, ({}, {}), []
        config = self.read("config", b"C")
        if hash_of(config[:-32]) != config[-32:]:
            raise Damaged("config does not match its hash")
        for name in self.names("packs"):
            try:
                self.load_pack(name)
            except Damaged as error:
                self.damage.append(str(error))

    def names(self, folder):
        return sorted(os.listdir(f"{self.path}/{folder}")) if os.path.isdir(f"{self.path}/{folder}") else []

    def read(self, name, kind):
        with open(os.path.join(self.path, name), "rb") as file:
            data = file.read()
        if len(data) < 48 or data[:9] != b"METASTSH" + kind:
            raise Damaged(f"{name} does not begin as it must, or is cut off")
        if data[10] > VERSION or int.from_bytes(data[12:16], "little") & ~FEATURE_REPLAYED:
            raise Damaged(f"{name} was written by a newer metastash, in a format that this program does not know")
        return data

    def load_pack(self, name):
        """Reads the directory of a pack: no index is needed."""
        data = self.read(f"packs/{name}", b"P")
        stored, raw, check, magic = struct.unpack("<II16s8s", data[-32:])
        blob = data[max(len(data) - 32 - stored, 0):-32]
        if magic != b"PACK-END" or hash_of(blob)[:16] != check:
            raise Damaged(f"the directory of pack {name} is damaged")
        directory = unpack(decode_blob(blob, raw, f"the directory of pack {name}"))["directory"]
        sizes, counts, lengths = (Bytes(directory[column]).varints() for column in ("stored", "counts", "lengths"))
        offset, chunk, frames, ids = 16, 0, [], directory["ids"]
        if len(lengths) != sum(counts) or len(ids) != 8 * sum(counts) or 16 + sum(sizes) + stored + 32 != len(data):
            raise Damaged(f"the directory of pack {name} does not fit the pack")
        for kind, size, count in zip(directory["kinds"], sizes, counts):
            start = 0
            for n in range(chunk, chunk + count):
                self.places[kind].setdefault(ids[8 * n:8 * n + 8], []).append((name, len(frames), start, lengths[n]))
                start += lengths[n]
            frames.append((offset, size, start))
            offset, chunk = offset + size, chunk + count
        self.packs[name] = frames

    @lru_cache(maxsize=16)
    def frame(self, name, number):
        offset, size, raw = self.packs[name][number]
        with open(os.path.join(self.path, "packs", name), "rb") as file:
            file.seek(offset)
            return decode_blob(file.read(size), raw, f"frame {number} of pack {name}")

    @lru_cache(maxsize=None if blake3 is None else 0)  # a hash in Python takes longer than all the rest
    def chunk(self, kind, chunk_id):
        """Returns a chunk whose hash is right; of several copies any will do."""
        for name, frame, start, length in self.places[kind].get(chunk_id[:8], []):
            try:
                data = self.frame(name, frame)[start:start + length]
            except (Damaged, OSError):
                continue
            if hash_of(data) == chunk_id:
                return data
        raise Damaged(f"chunk {chunk_id.hex()} is in no pack, or damaged")

    def snapshots(self):
        """Returns all snapshots, oldest first, each with its id."""
        found = []
        for name in self.names("snapshots"):
            data = self.read(f"snapshots/{name}", b"S")
            if hash_of(data).hex() != name.rsplit("-", 1)[-1]:
                raise Damaged(f"snapshot {name} does not match its name")
            raw = decode_blob(data[24:], int.from_bytes(data[16:24], "little"), f"snapshot {name}")
            found.append((hash_of(data).hex(), unpack(raw)))
        return found

    def find(self, wanted):
        every = self.snapshots()
        if wanted == "latest":
            fits = [s for s in every if "restored" not in s[1] and "replayed" not in s[1]][-1:]
        else:
            fits = [s for s in every if s[1].get("label") == wanted] or [s for s in every if s[0].startswith(wanted)]
        if len(fits) != 1:
            sys.exit(f"there is {'more than one' if fits else 'no'} snapshot `{wanted}`")
        return fits[0]

    def entries(self, manifest):
        """Returns what a snapshot holds, by path, in path order."""
        found = {}
        for run in unpack(self.chunk(1, manifest["tree"]))["runs"]:
            for leaf in unpack(self.chunk(1, run))["leaves"]:
                found.update(leaf_records(unpack(self.chunk(1, leaf["leaf"]))))
        return {path: found[path] for path in sorted(found, key=lambda path: path.replace(b"/", b"\0")) if found[path]}

    def content(self, entry):
        if not entry["pieces"]:
            return self.chunk(0, entry["content"])
        data = b"".join(self.chunk(0, piece) for piece in entry["pieces"])
        if len(data) != entry["size"] or hash_of(data) != entry["content"]:
            raise Damaged(f"the pieces of the document {entry['content'].hex()} do not make it up")
        return data


def leaf_records(columns):
    """Yields path and entry of each record; no entry where it says that there is none."""
    column = {name: Bytes(columns.get(name, b"")) for name in
              "shared own names contents sizes modes units times versions identities pieces encodings".split()}
    path, time = b"", 0
    for flag in columns["flags"]:
        path = path[:column["shared"].varint()]
        path += column["names"].take(column["own"].varint())
        if b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
            raise Damaged(f"{path!r} is no path")
        if flag == 2:
            yield path, None
            continue
        entry = {"content": None, "size": 0, "pieces": []}
        if flag != 1:
            entry["content"], entry["size"] = column["contents"].take(32), column["sizes"].varint()
        entry["mode"] = column["modes"].varint() - 1  # -1 for none
        unit = (1, 10**3, 10**6, 10**9)[column["units"].take(1)[0]]
        time = (time // unit + column["times"].signed()) * unit
        entry["time_ns"] = time = (time + (1 << 63)) % (1 << 64) - (1 << 63)  # wraps at 64 bits
        if column["versions"].varint() == 2:
            column["versions"].signed()
        column["identities"].signed()
        if flag == 3:
            entry["pieces"] = [column["pieces"].take(32) for _ in range(column["pieces"].varint())]
        if flag != 1 and "encodings" in columns:
            column["encodings"].take(1)
        yield path, entry
    for one in column.values():
        one.end()


def root_of(entries):
    """Returns the content root: a hash of paths and contents."""
    projects, whole = {}, b""
    for path, entry in entries.items():
        if entry["content"]:
            listed = projects.setdefault(path.split(b"/")[0] if b"/" in path else b"", bytearray())
            listed += struct.pack("<I", len(path)) + path + entry["content"]
    for name in sorted(projects):
        root = derive("metastash v1 project content root", bytes(projects[name]))
        whole += struct.pack("<I", len(name)) + name + root
    return derive("metastash v1 content root", whole)


def name_of(path, layout):
    """Returns the name of the file for a path: docs/format.md, "Layouts"."""
    parts, core = path.split(b"/"), {"kylin-new": b"", "kylin-new-backup": b"core_meta/"}.get(layout)
    if layout is None:
        return path
    if layout == "kylin-old":
        if parts[0] == b"_files":
            return b"/".join(parts[1:])
        if parts[1:] == [b"project", parts[0] + b".json"]:
            return b"_global/project/" + parts[2]
        return b"_global/acl/" + parts[2] if len(parts) == 3 and parts[1] == b"object_acl" else path
    if core is None:
        sys.exit(f"the snapshot is of the layout {layout}, which this program does not know")
    if parts[0] in (b"_files", b"_beside"):
        return (core if parts[0] == b"_files" else b"") + b"/".join(parts[1:])
    if len(parts) != 3:
        raise Damaged(f"{path!r} is no path of the layout {layout}")
    if parts[1] in (b"job_info", b"favorite_rule", b"query_history_id_offset"):
        return b"%b/%b/%b.json" % (parts[1], parts[0], parts[2])
    return b"%b%b/%b.json" % (core, parts[1], parts[2])


def list_all(repo, args):
    for path, entry in repo.entries(repo.find(args.snapshot)[1]).items() if args.snapshot else ():
        print(f"{entry['content'].hex() if entry['content'] else 'directory':64} {entry['size']:>10} {os.fsdecode(path)!r}")
    for snapshot_id, manifest in () if args.snapshot else repo.snapshots():
        about = manifest.get("label") or ("checkpoint" if "restored" in manifest else "")
        print(f"{snapshot_id} {manifest['time_ms']} {manifest['documents']:>8} {manifest['store']} {about}".rstrip())


def verify(repo, args):
    damage = list(repo.damage)
    for name in () if args.snapshot else repo.packs:
        if hash_of(repo.read(f"packs/{name}", b"P")).hex() != name:
            damage.append(f"pack {name} does not match its name")
    for snapshot_id, manifest in [repo.find(args.snapshot)] if args.snapshot else repo.snapshots():
        try:
            entries = repo.entries(manifest)
        except Damaged as error:
            damage.append(f"snapshot {snapshot_id}: {error}")
            continue
        if root_of(entries) != manifest["root"]:
            damage.append(f"snapshot {snapshot_id} does not hold what its root says")
        documents = [(path, entry) for path, entry in entries.items() if entry["content"]]
        for path, entry in documents:
            try:
                repo.content(entry)
            except Damaged as error:
                damage.append(f"snapshot {snapshot_id}: {os.fsdecode(path)!r}: {error}")
        print(f"snapshot {snapshot_id}: {len(documents)} documents")
    if damage:
        raise Damaged("\n".join(damage))


def restore(repo, args):
    manifest, dest = repo.find(args.snapshot)[1], os.fsencode(args.dest)
    os.makedirs(dest)  # Nothing is ever overwritten.
    finish = []
    for path, entry in repo.entries(manifest).items():
        file = os.path.join(dest, name_of(path, manifest.get("layout")))
        os.makedirs(file if entry["content"] is None else os.path.dirname(file), exist_ok=True)
        if entry["content"]:
            with open(file, "xb") as out:
                out.write(repo.content(entry))
            os.utime(file, ns=(entry["time_ns"], entry["time_ns"]))
        if entry["mode"] >= 0:
            finish.append((file, entry["mode"]))
    for file, mode in reversed(finish):  # Directories last: they may be read-only.
        os.chmod(file, mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("list", list_all), ("verify", verify), ("restore", restore)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("snapshot", nargs=None if run is restore else "?")
    command.add_argument("dest")
    args = parser.parse_args()
    try:
        args.run(Repository(args.repo), args)
    except (Damaged, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(13 if isinstance(error, Damaged) else 1)


if __name__ == "__main__":
    main()
