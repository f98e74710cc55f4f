"""Builds what Lambda runs: the functions' modules, their dependencies, bytecode. `sam build` runs it (infra/build.mk).

Left out is what no code here can reach and what costs a cold start most (docs/performance.md): botocore's data but for
the operations that the functions call, and the guessing of text encodings. Needs Python 3.13 with pip, nothing else.
"""

from __future__ import annotations

import ast
import compileall
import gzip
import hashlib
import importlib.util
import json
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ROOT / "functions"
# Where Lambda unpacks a function: the path that bytecode names for its source.
TASK_ROOT = "/var/task"
# requests takes it if it is there, for a guess at the encoding of a text that the functions never ask for.
LEFT_OUT = {"charset-normalizer"}
_DATA = ("_retry.json", "partitions.json", "sdk-default-configuration.json")


class ArtefactError(Exception):
    """A dependency is not as this build knows it; the message says what to look at."""


def build(target: Path, install: Callable[[Path, Path], None]) -> None:
    """Fill a directory with what `sam deploy` uploads for either function. Raises ArtefactError.

    `install` puts what a requirements file lists into a directory.
    """
    if sys.version_info[:2] != (3, 13):
        raise ArtefactError("Python 3.13 is needed: the functions' runtime reads no other bytecode")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(requirements((ROOT / "requirements.txt").read_text()))
        wanted.flush()
        install(Path(wanted.name), target)
    for scripts in target.glob("bin"):
        shutil.rmtree(scripts)
    for source in sorted(FUNCTIONS.rglob("*.py")):
        copy = target / source.relative_to(FUNCTIONS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    prune_botocore(target / "botocore" / "data", calls(FUNCTIONS))
    hash_authorities((target / "certifi" / "cacert.pem").read_text(), target / "authorities")
    _compile(target)


def requirements(text: str) -> str:
    """The lock file without what is left out. Raises ArtefactError if that is no longer in it."""
    blocks = re.findall(r"^[^\s#].*\n(?:[ \t].*\n)*", text, re.MULTILINE)
    named = {re.split(r"[=\s;\[]", block, maxsplit=1)[0]: block for block in blocks}
    if missing := LEFT_OUT - named.keys():
        raise ArtefactError(f"requirements.txt has no {', '.join(missing)}: take it out of LEFT_OUT")
    return "".join(block for name, block in named.items() if name not in LEFT_OUT)


def pip_install(requirements: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        python = sys.executable
        if importlib.util.find_spec("pip") is None:  # as Debian ships Python
            venv.create(scratch, with_pip=True)
            python = str(Path(scratch) / "bin" / "python")
        # By hash, and the list is complete. `any`: it runs on another processor than this one.
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--platform=any", "--python-version=3.13"]
        command += ["--implementation=py", f"--target={target}", f"--requirement={requirements}"]
        subprocess.run(command, check=True)


def calls(functions: Path) -> dict[str, set[str]]:
    """The services that the functions' code makes clients of, and with each the name of every method that the code
    calls anywhere: which object a method belongs to is not looked at, so rather too many than too few."""
    trees = [ast.parse(path.read_text()) for path in functions.rglob("*.py")]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {node.func.attr for node in found if isinstance(node.func, ast.Attribute)}
    if missing := methods & {"get_paginator", "get_waiter"}:
        raise ArtefactError(f"the functions call {', '.join(missing)}, whose data is not shipped: see prune_botocore")
    services = {
        node.args[0].value
        for node in found
        if "client" in {getattr(node.func, "attr", None), getattr(node.func, "id", None)}
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }
    return dict.fromkeys(services, methods)


def prune_botocore(data: Path, called: Mapping[str, Iterable[str]]) -> None:
    """Leave of botocore's data what the calls need. Raises ArtefactError."""
    kept = {name: json.loads((data / name).read_text()) for name in _DATA}
    prefixes = set()
    for service, methods in called.items():
        versions = sorted((data / service).glob("*/service-2.json.gz"))
        if not versions:
            raise ArtefactError(f"botocore has no model of {service} where it used to be: see prune_botocore")
        place = versions[-1].parent
        model = pruned_model(_read(versions[-1]), set(methods))
        prefixes.add(model["metadata"]["endpointPrefix"])
        kept[f"{service}/{place.name}/service-2.json"] = model
        rules = place / "endpoint-rule-set-1.json.gz"
        kept[f"{service}/{place.name}/endpoint-rule-set-1.json"] = _read(rules)
    endpoints = json.loads((data / "endpoints.json").read_text())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: one for name, one in partition["services"].items() if name in prefixes}
    kept["endpoints.json"] = endpoints
    shutil.rmtree(data)
    for name, content in kept.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(json.dumps(content, separators=(",", ":")))


def pruned_model(model: dict[str, Any], methods: set[str]) -> dict[str, Any]:
    """A service's model with the operations that these methods call, and the shapes that they need."""
    operations = {name: one for name, one in model["operations"].items() if method_of(name) in methods}
    if not operations:
        raise ArtefactError(f"no call of {model['metadata']['serviceId']} is recognised: see prune_botocore")
    shapes: dict[str, Any] = {}
    waiting = _shapes(operations)
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += _shapes(shapes[name])
    return {**model, "operations": operations, "shapes": shapes}


def method_of(operation: str) -> str:
    """A client's method for an operation, as botocore's `xform_name` forms it for names without acronyms."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()


def _shapes(tree: Any) -> list[str]:
    """The names of the shapes that part of a model refers to."""
    return re.findall(r'"shape": "(\w+)"', json.dumps(tree))


def _read(path: Path) -> dict[str, Any]:
    """One of botocore's files without its prose."""
    return dict(json.loads(gzip.decompress(path.read_bytes()), object_hook=_without_prose))


def _without_prose(part: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in part.items() if not (name == "documentation" and isinstance(one, str))}


def hash_authorities(bundle: str, directory: Path) -> None:
    """Write every certificate of a bundle to a file whose name is the hash of its subject, as `openssl rehash` names
    them. OpenSSL then reads only the one that it needs, where parsing all takes a sixth of a cold start.
    https://docs.openssl.org/3.0/man1/openssl-rehash/"""
    directory.mkdir()
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle, re.DOTALL)
    if not certificates:
        raise ArtefactError("certifi's bundle holds no certificate in PEM: see hash_authorities")
    taken: Counter[str] = Counter()
    for certificate in certificates:
        name = subject_hash(ssl.PEM_cert_to_DER_cert(certificate))
        (directory / f"{name}.{taken[name]}").write_text(f"{certificate}\n")
        taken[name] += 1


# Tags of ASN.1's strings that OpenSSL makes comparable, with their encodings.
_STRINGS = {12: "utf-8", 19: "ascii", 20: "latin-1", 22: "ascii", 26: "ascii", 28: "utf-32-be", 30: "utf-16-be"}


def subject_hash(certificate: bytes) -> str:
    """What OpenSSL finds a certificate (DER) by: SHA-1 of its subject with each text in UTF-8, in lower case, and its
    spaces collapsed. https://github.com/openssl/openssl/blob/openssl-3.0/crypto/x509/x_name.c"""
    ((_, whole),) = _elements(certificate)
    fields = list(_elements(next(_elements(whole))[1]))
    # The version comes first if it is said; serial number, algorithm, issuer and validity follow.
    subject = fields[5 if fields[0][0] == 0xA0 else 4][1]
    canonical = b""
    for tag, names in _elements(subject):
        entries = []
        for _, entry in _elements(names):
            (kind, identifier), (form, value) = _elements(entry)
            if form in _STRINGS:
                text = re.sub(r"\s+", " ", value.decode(_STRINGS[form]), flags=re.ASCII).strip(" ")
                # ASCII alone is folded.
                form, value = 12, re.sub("[A-Z]+", lambda upper: upper[0].lower(), text).encode()
            entries.append(_element(0x30, _element(kind, identifier) + _element(form, value)))
        canonical += _element(tag, b"".join(sorted(entries)))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents of a run of DER elements."""
    while data:
        size, start = data[1], 2
        if size >= 0x80:
            start += size - 0x80
            size = int.from_bytes(data[2:start])
        yield data[0], data[start : start + size]
        data = data[start + size :]


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 + len(digits)]) + digits + content


def _compile(target: Path) -> None:
    # Lambda cannot write bytecode. Not looked at whether it matches the source: both come from here, zip files keep no
    # usable times, and hashing every source would be 3 % of a cold start. Edit the source here, not in the console.
    # https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    compiled = compileall.compile_dir(
        target,
        maxlevels=sys.getrecursionlimit(),
        force=True,
        quiet=1,
        stripdir=str(target),
        prependdir=TASK_ROOT,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise ArtefactError("not every module compiles; what is wrong is above")


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), pip_install)
    except (ArtefactError, subprocess.CalledProcessError) as error:
        sys.exit(f"infra/artefact.py: {error}")
