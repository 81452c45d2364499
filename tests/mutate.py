"""Mutation testing of window arithmetic and kernels: does the ordinary suite notice small faults?

    python tests/mutate.py geometry --count 60      mutants of _geometry.py
    python tests/mutate.py kernels --count 60       of the .pyx files, each compiled for AVX2 and one dtype

Mutants are drawn with ``--seed``: an operator, a comparison, a constant or a bound changes in one place of a
copy of this tree. A kernel's mutant is compiled with little optimisation, in float32 or float64 as the seed says
(where sums are in double anyway, the latter), into a module that has no other functions than its tests call. The
tests run until one fails, on at most ten minutes of processor; before, they must pass without a change. A mutant
that does not compile, or whose object code is that of the original, counts for nothing. Survivors are printed with
their change; docs/campaigns.md explains them.
"""

import argparse
import io
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests", "docs", "setup.py", "pyproject.toml", "README.md")
SWAPS = {"+": "-", "-": "+", "*": "+", "//": "*", "%": "//", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
         "!=": "==", "min": "max", "max": "min", "and": "or", "or": "and", "+=": "-=", "-=": "+=", "True": "False",
         "False": "True", "low": "high", "stride": "dilation", "dilation": "stride", "not": "", "0": "1", "1": "2",
         "2": "3"}
NOT_CODE = ("import", "from", "cimport", "raise", "def ", "include", "class", "@", "ctypedef")
KERNELS = "_kernels"
LIMITS = {resource.RLIMIT_CPU: 600, resource.RLIMIT_AS: 2**34}      # seconds and bytes of the tests of a mutant


class Group(NamedTuple):
    """Files, the tests about them, the most telling ones first, and other files whose functions the tests call."""

    files: str
    tests: str
    others: str = ""
    modules: tuple = ("avx2_f32", "avx2_f64")


GEOMETRY = Group("_geometry.py", "geometry arithmetic filters wrong_calls layers pool conv adaptive_pool "
                                 "convolution_kinds", modules=())
POOLS = "pool pool_tap pool_lines pool_outputs pool_plan pool_reduced pool_backward pool_halved pool_index"
GROUPS = (
    Group("tile slide slide_nine window conv_plan conv_pack conv conv_phases conv_depthwise conv_joined conv_weight "
          "conv_weight_pack conv_depthwise_weight conv_depthwise_weight_nine", "conv convolution_kinds"),
    Group("conv_weight_blocks blocks dense_blocks pooled", "blocks", f"conv conv_weight conv_weight_pack {POOLS} "
                                                                     "activation softmax channels loss optimizer"),
    Group(POOLS, "pool pool_kinds adaptive_pool unpool"),
    Group("front", "front wrong_calls", modules=("front",)),
    Group("elementary activation", "activation_functions activation", "softmax"),
    Group("softmax", "activation activation_functions", "activation", ("avx2_f64",)),
    Group("channels", "batch_norm"), Group("loss", "losses"), Group("optimizer", "optimizers"),
    Group("augment", "augmentation"),
)
STRIPPED = {"kernels"}.union(*(group.files.split() for group in GROUPS))     # of functions that tests do not call


class Mutant(NamedTuple):
    group: Group
    name: str       # of the file, from src/cyconv
    change: tuple   # row, column, old, new
    module: str     # "" for Python


# ---------------------------------------------------------------- drawing


def changes(text):
    """What may change, as (row, column, old, new): outside signatures, messages and comments."""
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, column = token.start
        line, old = lines[row - 1], token.string
        starts = line.lstrip()
        is_declaration = starts.startswith("cdef") and ("=" not in line or line.rstrip().endswith(":"))
        if old in SWAPS and not starts.startswith(NOT_CODE) and not is_declaration and not is_sign(old, line, column):
            yield row - 1, column, old, SWAPS[old]


def is_sign(operator, line, column):
    """A pointer's star or a sign has nothing, or an operator, before it."""
    before = line[:column].rstrip()
    return operator in "+-*" and (not before or before[-1] in "([,=<>*:+-/%" or before.endswith(("return", "real")))


def mutated(text, change):
    row, column, old, new = change
    lines = text.split("\n")
    lines[row] = lines[row][:column] + new + lines[row][column + len(old):]
    return "\n".join(lines)


def mutants(what, pattern, count, seed):
    """Drawn without repetition, the files in proportion to what may change in them."""
    rng = random.Random(seed)
    files = [(group, name if group is GEOMETRY else f"{KERNELS}/{name}.pyx")
             for group in ((GEOMETRY,) if what == "geometry" else GROUPS) for name in group.files.split()]
    everything = [(group, name, change) for group, name in files if re.search(pattern, name)
                  for change in changes((ROOT / "src/cyconv" / name).read_text())]
    drawn = rng.sample(everything, min(count, len(everything)))
    return [Mutant(*one, rng.choice(one[0].modules) if one[0].modules else "") for one in drawn]


# ---------------------------------------------------------------- trying


class Tree:
    """A copy of the project, in which one file at a time is another."""

    def __init__(self, folder):
        self.root, self.package = folder, folder / "src/cyconv"
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / name)
        for module in (self.package / KERNELS).glob("*.so"):
            module.unlink()
        # Flags that come last win: a quarter of the time of -O3.
        (folder / "cc").write_text('#!/bin/sh\nexec gcc "$@" -O1 -g0\n')
        (folder / "cc").chmod(0o755)
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.reset()

    def reset(self, group=GEOMETRY):
        """All sources as they are, but without the functions that Python calls outside the group."""
        shutil.copy(ROOT / "src/cyconv/_geometry.py", self.package)
        for source in (ROOT / "src/cyconv" / KERNELS).glob("*.pyx"):
            text = source.read_text()
            if source.stem not in f"{group.files} {group.others}".split() and source.stem in STRIPPED:
                text = re.sub(r"^def .*?(?=^\S|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
            (self.package / KERNELS / source.name).write_text(text)

    def build(self, module):
        """Object code of the module, None when it does not compile."""
        more = {"CYCONV_BUILD": module, "CC": str(self.root / "cc")}
        built = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"], cwd=self.root,
                               env=self.environment | more, capture_output=True)
        return None if built.returncode else next(self.root.glob(f"build/**/{module}.o")).read_bytes()

    def passes(self, group):
        files = [f"tests/test_{test}.py" for test in group.tests.split()]
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *files]
        return not subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True,
                                  preexec_fn=limit).returncode

    @cache      # noqa: B019
    def original(self, group, module):
        """Object code of the group without a change, with which its tests pass."""
        self.reset(group)
        # Among those here is the last mutant; all sets would take three times as long.
        present = [built for built in (ROOT / "src/cyconv" / KERNELS).glob("*.so")
                   if built.name.startswith(("avx2", "cpu", "front"))]
        if not present:
            raise SystemExit("build the kernels first: python setup.py build_ext --inplace")
        for built in present:
            shutil.copy(built, self.package / KERNELS)
        code = self.build(module) if module else None
        if not self.passes(group):
            raise SystemExit(f"the tests {group.tests} fail without any change")
        return code

    def verdict(self, mutant):
        """"killed", "survived", "invalid" or "the same code"."""
        code = self.original(mutant.group, mutant.module)
        self.reset(mutant.group)
        target = self.package / mutant.name
        target.write_text(mutated((ROOT / "src/cyconv" / mutant.name).read_text(), mutant.change))
        if mutant.module:
            found = self.build(mutant.module)
            if found is None or found == code:
                return "invalid" if found is None else "the same code"
        return "survived" if self.passes(mutant.group) else "killed"


def limit():
    for what, most in LIMITS.items():
        resource.setrlimit(what, (most, most))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("geometry", "kernels"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="so many that an earlier run tried")
    parser.add_argument("--only", default="", help="pattern of file names")
    options = parser.parse_args()
    results = dict.fromkeys(("killed", "survived", "invalid", "the same code"), 0)
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        drawn = mutants(options.what, options.only, options.count, options.seed)
        # Those of one module one after the other, for a module in the tree is that of its last mutant.
        in_turn = list(enumerate(sorted(drawn, key=lambda m: (m.group.files, m.module))))
        for number, mutant in in_turn[options.skip:]:
            result = tree.verdict(mutant)
            results[result] += 1
            row, column, old, new = mutant.change
            line = (ROOT / "src/cyconv" / mutant.name).read_text().split("\n")[row].strip()
            print(f"{number:3d} {result:13} {mutant.name}:{row + 1}:{column + 1} {mutant.module} {old} -> "
                  f"{new or 'nothing'}   {line}", flush=True)
    tried = results["killed"] + results["survived"]
    print(f"{results}: {results['killed'] / max(tried, 1):.1%} of {tried} killed")


if __name__ == "__main__":
    main()
