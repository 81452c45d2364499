"""What the processor, the compiler and OpenMP offer. Compiled for any processor: it runs before the choice."""

cdef extern from *:
    """
    #if defined(_OPENMP)
    #include <omp.h>
    #else
    static int omp_get_max_threads(void) { return 1; }
    #endif

    /* The compiler's run-time library also asks the operating system whether it saves the registers. */
    #if !defined(__x86_64__) || !defined(__GNUC__)
    static int x86_64_level(void) { return 0; }
    #elif __GNUC__ >= 12 && !defined(__clang__)
    static int x86_64_level(void)
    {
        return __builtin_cpu_supports("x86-64-v4") ? 4 : __builtin_cpu_supports("x86-64-v3") ? 3
             : __builtin_cpu_supports("x86-64-v2") ? 2 : 1;
    }
    #else   /* knows single features only: those that tell the levels apart on processors there are */
    #define CPU_HAS __builtin_cpu_supports
    static int x86_64_level(void)
    {
        if (!CPU_HAS("sse4.2") || !CPU_HAS("popcnt"))
            return 1;
        if (!CPU_HAS("avx2") || !CPU_HAS("fma") || !CPU_HAS("bmi") || !CPU_HAS("bmi2"))
            return 2;
        return CPU_HAS("avx512f") && CPU_HAS("avx512bw") && CPU_HAS("avx512cd") && CPU_HAS("avx512dq") && CPU_HAS("avx512vl") ? 4 : 3;
    }
    #endif

    #if defined(__clang__)
    #define COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define COMPILER "GCC " __VERSION__
    #elif defined(_MSC_VER)
    #define TEXT(x) #x
    #define TEXT_OF(x) TEXT(x)
    #define COMPILER "MSVC " TEXT_OF(_MSC_VER)
    #else
    #define COMPILER "unknown"
    #endif

    #ifdef _OPENMP
    #define HAS_OPENMP 1
    #else
    #define HAS_OPENMP 0
    #endif
    """
    int omp_get_max_threads() nogil
    int x86_64_level() nogil
    const char *COMPILER
    bint HAS_OPENMP

compiler = COMPILER.decode()
openmp = HAS_OPENMP


def instruction_sets():
    """Names of the instruction sets that the processor and the operating system run, best last."""
    cdef int level = x86_64_level()
    if level == 0:
        return ("baseline",)
    return ("baseline", "avx2", "avx512")[:level - 1]


def max_threads():
    """Threads that OpenMP would start now for the calling thread; 1 in a build without OpenMP."""
    return omp_get_max_threads()
