"""The compiled modules of cyconv and their flags; everything else stands in pyproject.toml."""

import os
import re
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

PACKAGE = "cyconv._kernels"
FOLDER = "src/cyconv/_kernels"

# The same kernels once per instruction set. Other processors than x86-64 get the baseline, unflagged.
INSTRUCTION_SETS = {
    "baseline": ["-march=x86-64-v2"],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
FLOATS = {"f32": [], "f64": ["-DCYCONV_FLOAT64"]}
ANY_PROCESSOR = ["cpu", "front"]

# A tile of the micro-kernel must become one block of code without loops, or it leaves the registers.
INLINE = ["-DCYTHON_INLINE=inline __attribute__((always_inline))"]
UNROLL = ["--param=max-completely-peeled-insns=2000", "--param=max-completely-peel-times=32"]

# All loops begin with a cache line: those of tiles take 6 cycles instead of 5 where they begin elsewhere (Zen 3).
ALIGN = ["-falign-loops=64", "--param=align-threshold=65536", "--param=align-loop-iterations=1"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,  # the kernels keep no state between calls
}

TRIVIAL = "int main(void) { return 0; }"
PARALLEL = """
#include <omp.h>
int main(void)
{
    int i, threads[8];
    #pragma omp parallel for num_threads(2)
    for (i = 0; i < 8; i++)
        threads[i] = omp_get_max_threads();
    return threads[0] < 1;
}
"""


class BuildKernels(build_ext):
    """Compile with what this compiler understands; instruction sets it does not know are left out."""

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            common, openmp, sets = ["/O2"], ["/openmp"], {"baseline": []}
        else:
            common, openmp = ["-O3", "-Wno-psabi", *INLINE], ["-fopenmp"]
            for known in UNROLL, ALIGN:
                common += known if self.links(TRIVIAL, ["-Werror", *known]) else []
            sets = INSTRUCTION_SETS if self.links(TRIVIAL, INSTRUCTION_SETS["avx512"]) else {"baseline": []}
        openmp = openmp if self.links(PARALLEL, openmp) else []
        flags = {f"{PACKAGE}.{isa}_{real}": sets[isa] + FLOATS[real] for isa in sets for real in FLOATS}
        flags |= {f"{PACKAGE}.{name}": [] for name in ANY_PROCESSOR}
        self.extensions = [ext for ext in self.extensions if ext.name in flags and is_wanted(ext.name)]
        for ext in self.extensions:
            ext.extra_compile_args = common + openmp + flags[ext.name]
            ext.extra_link_args = openmp
        # Translate here, not inside the parallel build: Cython is not thread-safe (cython#7997).
        in_c = cythonize(self.extensions, compiler_directives=DIRECTIVES, build_dir=self.build_temp)
        for ext, translated in zip(self.extensions, in_c):
            ext.sources = translated.sources
        super().build_extensions()

    def links(self, source, flags):
        """Whether the compiler makes a program of ``source`` with ``flags``."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            try:
                objects = self.compiler.compile([str(path)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=flags)
            except (CompileError, LinkError):
                return False
            return True


def is_wanted(name):
    """Whether CYCONV_BUILD, a pattern such as "cpu|avx2_f32", names the module; unset means all of them."""
    return re.fullmatch(os.environ.get("CYCONV_BUILD", ".*"), name.removeprefix(f"{PACKAGE}."))


def extension(name):
    return Extension(
        f"{PACKAGE}.{name}",
        sources=[f"{FOLDER}/{name}.pyx"],
        include_dirs=[FOLDER, numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        depends=glob(f"{FOLDER}/*.pyx") + glob(f"{FOLDER}/*.h"),
    )


setup(
    ext_modules=[extension(name) for name in (*ANY_PROCESSOR, *(f"{isa}_{real}" for isa in INSTRUCTION_SETS
                                                                for real in FLOATS))],
    cmdclass={"build_ext": BuildKernels},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
