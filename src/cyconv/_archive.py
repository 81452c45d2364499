"""One file of a JSON document and arrays: an npz archive, nothing in it compressed or pickled.

`numpy.load` opens it without pickle, and its checksums tell damage. Reading trusts nothing: what the file
says of its sizes is compared with the bytes that are there before anything is allocated, so that memory
stays in proportion to the file. What document and arrays mean is not known here.
"""

import json
import os
import secrets
import struct
from math import prod
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

DOCUMENT = "model.json"
MAX_DOCUMENT = MAX_DIRECTORY = 2**20     # bytes; parsed, both take 20 times the room
MAX_HEADER = 256                         # NumPy parses it as Python, which is safe for short texts only
KINDS = "biufU"
END, END_OF_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL")


def write(path, document, arrays):
    """Write a dict of JSON values and a dict of arrays; ``path`` is replaced when the new file is whole."""
    text = json.dumps(document, allow_nan=False).encode()
    if len(text) > MAX_DOCUMENT:
        raise ValueError(f"save: what is no array takes {len(text)} bytes as JSON, at most {MAX_DOCUMENT} are allowed")
    path = os.path.realpath(as_path("save", path))
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(f"save: there is no folder {os.path.dirname(path)!r}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"save: {path!r} is a folder or a device; give the path of a file")
    unfinished = f"{path}.{secrets.token_hex(8)}"
    try:
        with open(unfinished, "xb") as file:
            with ZipFile(file, "w", ZIP_STORED) as archive:
                archive.writestr(entry(DOCUMENT), text)
                for name, array in arrays.items():
                    with archive.open(entry(f"{name}.npy"), "w", force_zip64=array.nbytes > 2**30) as stream:
                        npy.write_array(stream, array, version=(1, 0), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        if os.path.exists(unfinished):
            os.remove(unfinished)
        raise


def as_path(function, path):
    try:
        return os.fspath(path)
    except TypeError:
        raise TypeError(f"{function}: path must be a str or path-like, got {path!r:.100}") from None


def entry(name):
    """An entry that depends on its content only: the same model gives the same file."""
    info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    return info


def read(path):
    """Document and arrays of a file; ValueError for everything that `write` does not write."""
    with open(as_path("load", path), "rb") as file:
        try:
            check_directory(file)
            with ZipFile(file) as archive:
                return contents(archive, os.fstat(file.fileno()).st_size)
        except Exception as error:       # which ones zipfile, json and NumPy raise for damaged files, they do not say
            raise ValueError(f"load: {os.fspath(path)!r} is no whole file of a cyconv model: {error}") from error


def check_directory(file):
    """Refuse a table of contents that is longer than any model's before it is read."""
    end_at = file.seek(0, os.SEEK_END) - END.size
    if end_at < 0:
        raise ValueError("it is too short")
    file.seek(max(end_at - END_OF_64.size, 0))
    *before, end = file.read(end_at - file.tell()), file.read(END.size)
    signature, *_, size, _, comment = END.unpack(end)
    if signature != b"PK\5\6" or comment or before[0].startswith(b"PK\6\7"):
        raise ValueError("it does not end as one")
    if size > MAX_DIRECTORY:
        raise ValueError(f"its table of contents has {size} bytes")


def contents(archive, size):
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) < len(archive.infolist()):
        raise ValueError("two entries have one name")
    if any(info.compress_type != ZIP_STORED or info.compress_size != info.file_size for info in entries.values()):
        raise ValueError("an entry is compressed")
    if sum(info.file_size for info in entries.values()) > size:
        raise ValueError("its entries are larger than the file")
    document = entries.pop(DOCUMENT, None)
    if document is None or document.file_size > MAX_DOCUMENT:
        raise ValueError(f"there is no {DOCUMENT}, or it is too long")
    if not all(name.endswith(".npy") for name in entries):
        raise ValueError(f"unknown entries among {sorted(entries)}")
    arrays = {name.removesuffix(".npy"): read_array(archive, info) for name, info in entries.items()}
    return parse(archive.read(document)), arrays


def parse(text):
    return json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)


def unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def read_array(archive, info):
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{info.filename} has version {version}")
        shape, fortran_order, dtype = npy.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
        if fortran_order or dtype.kind not in KINDS or dtype.itemsize == 0 or any(n < 0 for n in shape):
            raise ValueError(f"{info.filename} has dtype {dtype} and shape {shape}")
        if prod(shape) * dtype.itemsize != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} does not hold an array of shape {shape}")
        array = np.empty(shape, dtype)
        stream.readinto(array.reshape(-1).view(np.uint8))
    return array.astype(dtype.newbyteorder("="), copy=False)
