/* The vector type of one instruction set and one floating-point type.

   The compiler's flags decide the width; CYCONV_FLOAT64 makes the element a double. Where the
   compiler has no vector extension a vector is one element: slow, right, portable. */
#pragma once
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef CYCONV_FLOAT64
typedef double real;
#define REAL_BYTES 8
#else
typedef float real;
#define REAL_BYTES 4
#endif

/* ACCUMULATORS vectors stay in registers together with two weight vectors and one scalar. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ACCUMULATORS 28
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define ACCUMULATORS 12
#else
#define VECTOR_BYTES 16
#define ACCUMULATORS 12
#endif

#ifdef __GNUC__
#define LANES (VECTOR_BYTES / REAL_BYTES)
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BYTES), may_alias));
#define SPLAT(x) ((x) - (vec){0})
#else
#define LANES 1
typedef real vec, loose;
#define SPLAT(x) (x)
#endif

#ifdef __GNUC__
#define prefetch(p) __builtin_prefetch(p, 1)
#else
#define prefetch(p)
#endif
static inline vec load(const real *p) { return *(const loose *)p; }
static inline void store(real *p, vec v) { *(loose *)p = v; }
static inline vec splat(real x) { return SPLAT(x); }

/* The first n elements, 0 <= n <= LANES; the others are zero, or stay as they are in memory. */
#if defined(__AVX512F__) && !defined(CYCONV_FLOAT64)
static inline vec load_part(const real *p, long n) { return (vec)_mm512_maskz_loadu_ps((1u << n) - 1, p); }
static inline void store_part(real *p, vec v, long n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
#elif defined(__AVX512F__)
static inline vec load_part(const real *p, long n) { return (vec)_mm512_maskz_loadu_pd((1u << n) - 1, p); }
static inline void store_part(real *p, vec v, long n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, (__m512d)v); }
#elif defined(__AVX2__) && !defined(CYCONV_FLOAT64)
static inline __m256i first(long n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec load_part(const real *p, long n) { return (vec)_mm256_maskload_ps(p, first(n)); }
static inline void store_part(real *p, vec v, long n) { _mm256_maskstore_ps(p, first(n), (__m256)v); }
#elif defined(__AVX2__)
static inline __m256i first(long n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline vec load_part(const real *p, long n) { return (vec)_mm256_maskload_pd(p, first(n)); }
static inline void store_part(real *p, vec v, long n) { _mm256_maskstore_pd(p, first(n), (__m256d)v); }
#else
static inline vec load_part(const real *p, long n)
{
    vec v = splat(0);
    memcpy(&v, p, n * sizeof(real));
    return v;
}
static inline void store_part(real *p, vec v, long n) { memcpy(p, &v, n * sizeof(real)); }
#endif

/* Transpose LANES vectors of LANES elements in registers: log2(LANES) rounds; round s swaps the
   off-diagonal s x s blocks of every two rows that are s apart. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define LOW(j, s) ((j) & (s) ? LANES + (j) - (s) : (j))
#define HIGH(j, s) ((j) & (s) ? LANES + (j) : (j) + (s))
#define PICK2(F, j, s) F(j, s), F(j + 1, s)
#define PICK4(F, j, s) PICK2(F, j, s), PICK2(F, j + 2, s)
#define PICK8(F, j, s) PICK4(F, j, s), PICK4(F, j + 4, s)
#define PICK16(F, j, s) PICK8(F, j, s), PICK8(F, j + 8, s)
#define ROUND(PICK, s)                                                     \
    for (int i = 0; i < LANES; i++)                                        \
        if (!(i & s)) {                                                    \
            vec a = rows[i], b = rows[i + s];                              \
            rows[i] = __builtin_shufflevector(a, b, PICK(LOW, 0, s));      \
            rows[i + s] = __builtin_shufflevector(a, b, PICK(HIGH, 0, s)); \
        }
static inline void transpose(vec *rows)
{
#if LANES == 16
    ROUND(PICK16, 1) ROUND(PICK16, 2) ROUND(PICK16, 4) ROUND(PICK16, 8)
#elif LANES == 8
    ROUND(PICK8, 1) ROUND(PICK8, 2) ROUND(PICK8, 4)
#elif LANES == 4
    ROUND(PICK4, 1) ROUND(PICK4, 2)
#else
    ROUND(PICK2, 1)
#endif
}
#else
static inline void transpose(vec *rows)
{
    real *cell = (real *)rows;
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            real swap = cell[i * LANES + j];
            cell[i * LANES + j] = cell[j * LANES + i];
            cell[j * LANES + i] = swap;
        }
}
#endif
