"""Mutation testing of window arithmetic and kernels: does the ordinary suite notice small faults?

    python tests/mutate.py geometry --count 60      mutants of _geometry.py
    python tests/mutate.py kernels --count 60       of the .pyx files, each compiled for AVX2 and float32

Mutants are drawn with ``--seed``: an operator, a comparison, a constant or a bound changes in one place of a
copy of this tree, which has the compiled modules for AVX2 only. The tests that are about the file run until one
fails, for at most ten minutes. A mutant that does not compile counts for nothing. Survivors are printed with
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
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests", "docs", "setup.py", "pyproject.toml", "README.md")
SWAPS = {"+": "-", "-": "+", "*": "+", "//": "*", "%": "//", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
         "!=": "==", "min": "max", "max": "min", "and": "or", "or": "and", "+=": "-=", "-=": "+=", "True": "False",
         "False": "True", "low": "high", "stride": "dilation", "dilation": "stride", "not": "", "0": "1", "1": "2",
         "2": "3"}
NOT_CODE = ("import", "from", "cimport", "raise", "def ", "include", "class", "@", "ctypedef")
POOL = "pool pool_kinds adaptive_pool unpool"
TESTS = {       # about each file, the most telling ones first
    "_geometry.py": "geometry arithmetic filters wrong_calls layers pool conv adaptive_pool convolution_kinds",
    "_kernels/tile.pyx": "conv", "_kernels/conv.pyx": "conv convolution_kinds",
    "_kernels/conv_plan.pyx": "conv convolution_kinds", "_kernels/conv_pack.pyx": "conv convolution_kinds bounds",
    "_kernels/conv_weight.pyx": "conv convolution_kinds", "_kernels/window.pyx": f"conv {POOL}",
    "_kernels/pool.pyx": POOL, "_kernels/pool_tap.pyx": POOL, "_kernels/pool_backward.pyx": POOL,
    "_kernels/activation.pyx": "activation activation_functions", "_kernels/softmax.pyx": "activation",
    "_kernels/elementary.pyx": "activation_functions activation losses", "_kernels/channels.pyx": "batch_norm",
    "_kernels/loss.pyx": "losses", "_kernels/optimizer.pyx": "optimizers", "_kernels/augment.pyx": "augmentation",
}


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


def mutants(names, count, seed):
    """(name, change) drawn without repetition, the files in proportion to what may change in them."""
    everything = [(name, change) for name in names for change in changes((ROOT / "src/cyconv" / name).read_text())]
    return random.Random(seed).sample(everything, min(count, len(everything)))


def copy_tree(folder):
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


def quick_compiler(tree):
    """Flags that come last win: a quarter of the time of -O3."""
    (tree / "cc").write_text('#!/bin/sh\nexec gcc "$@" -O1 -g0\n')
    (tree / "cc").chmod(0o755)


def only_avx2(tree):
    """Leave the compiled modules of one instruction set, for three would take three times as long."""
    for module in (tree / "src/cyconv/_kernels").glob("*.so"):
        if not module.name.startswith(("avx2", "cpu")):
            module.unlink()


def verdict(tree, name, change):
    """"killed", "survived" or "invalid"."""
    target = tree / "src/cyconv" / name
    original = target.read_text()
    target.write_text(mutated(original, change))
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        if name.endswith(".pyx"):
            environment |= {"CYCONV_BUILD": "avx2_f32", "CC": str(tree / "cc")}
            built = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"], cwd=tree,
                                   env=environment, capture_output=True)
            if built.returncode:
                return "invalid"
        files = [f"tests/test_{test}.py" for test in TESTS[name].split()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
        done = subprocess.run(command, cwd=tree, env=environment, timeout=600, capture_output=True,
                              preexec_fn=limit_memory)
        return "killed" if done.returncode else "survived"
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        target.write_text(original)


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("geometry", "kernels"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="pattern of file names")
    options = parser.parse_args()
    names = [name for name in TESTS if name.endswith(".pyx") == (options.what == "kernels")
             and re.search(options.only, name)]
    results = {"killed": 0, "survived": 0, "invalid": 0}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        only_avx2(tree)
        quick_compiler(tree)
        for number, (name, change) in enumerate(mutants(names, options.count, options.seed)):
            result = verdict(tree, name, change)
            results[result] += 1
            row, column, old, new = change
            line = (tree / "src/cyconv" / name).read_text().split("\n")[row].strip()
            print(f"{number:3d} {result:8} {name}:{row + 1}:{column + 1} {old} -> {new or 'nothing'}   {line}",
                  flush=True)
    tried = results["killed"] + results["survived"]
    print(f"{results}: {results['killed'] / max(tried, 1):.1%} of {tried} killed")


if __name__ == "__main__":
    main()
