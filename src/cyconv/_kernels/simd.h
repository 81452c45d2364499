/* The vector type of one instruction set and one floating-point type.

   The compiler's flags decide the width; CYCONV_FLOAT64 makes the element a double. Where the
   compiler has no vector extension a vector is one element: slow, right, portable. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef CYCONV_WIDE /* vectors as long as those of AVX-512 without it: tests see on any processor what it computes */
#undef __AVX512F__
#undef __AVX2__
#undef __AVX__
#undef __SSE2__
#endif

#ifdef CYCONV_FLOAT64
typedef double real;
#define REAL_BYTES 8
#else
typedef float real;
#define REAL_BYTES 4
#endif

/* ACCUMULATORS vectors stay in registers together with two weight vectors and one scalar,
   PRODUCTS together with four vectors and one more. SAMPLES of a block fill whole vectors. */
#if defined(__AVX512F__) || defined(CYCONV_WIDE)
#define VECTOR_BYTES 64
#define ACCUMULATORS 28
#define PRODUCTS 24
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define ACCUMULATORS 12
#define PRODUCTS 12
#else
#define VECTOR_BYTES 16
#define ACCUMULATORS 12
#define PRODUCTS 12
#endif
#define SAMPLES (64 / REAL_BYTES)

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
#define prefetch_input(p) __builtin_prefetch(p)
#else
#define prefetch(p)
#define prefetch_input(p)
#endif
/* The compiler forgets what it knows of the memory behind a pointer, and so reads it anew. With AVX-512 it would
   keep a table in vector registers otherwise, elsewhere it keeps what fits in general ones, which is faster. */
#if defined(__GNUC__) && defined(__AVX512F__)
#define reread(pointer) __asm__("" : "+r"(*(pointer)))
#else
#define reread(pointer)
#endif
/* So does it with the value of a pointer: addresses behind it are computed anew, not kept. */
#ifdef __GNUC__
#define forget(pointer) __asm__("" : "+r"(*(pointer)))
#else
#define forget(pointer)
#endif
static inline vec load(const real *p) { return *(const loose *)p; }
static inline void store(real *p, vec v) { *(loose *)p = v; }
static inline vec splat(real x) { return SPLAT(x); }

/* The first n elements, 0 <= n <= LANES; the others are zero, or stay as they are in memory. Those of lanes
   with 0 <= at + i < n, for at and n below 2**31; the others are zero, or those of ``rest``. */
#if defined(__AVX512F__) || defined(CYCONV_WIDE)
#define CHEAP_MASKS 1
#else
#define CHEAP_MASKS 0
#endif
#if defined(__AVX512F__)
typedef uint32_t some_lanes;
static inline some_lanes lanes_inside(long at, long n)
{
    unsigned low = at < -LANES ? LANES : at < 0 ? -at : 0, high = n - at > LANES ? LANES : n < at ? 0 : n - at;
    return ((1u << high) - 1) & ~((1u << low) - 1);
}
#ifdef CYCONV_FLOAT64
static inline vec load_some(const real *p, some_lanes lanes) { return (vec)_mm512_maskz_loadu_pd(lanes, p); }
static inline vec load_some_or(const real *p, some_lanes lanes, vec rest) { return (vec)_mm512_mask_loadu_pd((__m512d)rest, lanes, p); }
static inline void store_part(real *p, vec v, long n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, (__m512d)v); }
#else
static inline vec load_some(const real *p, some_lanes lanes) { return (vec)_mm512_maskz_loadu_ps(lanes, p); }
static inline vec load_some_or(const real *p, some_lanes lanes, vec rest) { return (vec)_mm512_mask_loadu_ps((__m512)rest, lanes, p); }
static inline void store_part(real *p, vec v, long n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
#endif
static inline vec load_part(const real *p, long n) { return load_some(p, (1u << n) - 1); }
#elif defined(__AVX2__)
typedef __m256i some_lanes;
#ifdef CYCONV_FLOAT64
static inline some_lanes first(long n) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
static inline some_lanes lanes_inside(long at, long n) { return _mm256_andnot_si256(first(-at), first(n - at)); }
static inline vec load_some(const real *p, some_lanes lanes) { return (vec)_mm256_maskload_pd(p, lanes); }
/* By halves: AMD's processors take 12 cycles for a masked store. */
static inline void store_part(real *p, vec v, long n)
{
    __m128d rest = _mm256_castpd256_pd128((__m256d)v);
    if (n >= LANES) {
        store(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd((__m256d)v, 1);
        p += 2;
    }
    if (n & 1)
        _mm_store_sd(p, rest);
}
#else
static inline some_lanes first(long n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline some_lanes lanes_inside(long at, long n) { return _mm256_andnot_si256(first(-at), first(n - at)); }
static inline vec load_some(const real *p, some_lanes lanes) { return (vec)_mm256_maskload_ps(p, lanes); }
static inline void store_part(real *p, vec v, long n)
{
    __m128 rest = _mm256_castps256_ps128((__m256)v);
    if (n >= LANES) {
        store(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps((__m256)v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, rest);
}
#endif
static inline vec load_part(const real *p, long n) { return load_some(p, first(n)); }
static inline vec load_some_or(const real *p, some_lanes lanes, vec rest)
{
#ifdef CYCONV_FLOAT64
    return (vec)_mm256_blendv_pd((__m256d)rest, (__m256d)load_some(p, lanes), (__m256d)lanes);
#else
    return (vec)_mm256_blendv_ps((__m256)rest, (__m256)load_some(p, lanes), (__m256)lanes);
#endif
}
#else
typedef struct { long at, n; } some_lanes;
static inline some_lanes lanes_inside(long at, long n) { return (some_lanes){at, n}; }
static inline vec load_some_or(const real *p, some_lanes lanes, vec rest)
{
    for (long i = 0; i < LANES; i++)
        if (0 <= lanes.at + i && lanes.at + i < lanes.n)
            memcpy((real *)&rest + i, p + i, sizeof(real));
    return rest;
}
static inline vec load_some(const real *p, some_lanes lanes) { return load_some_or(p, lanes, splat(0)); }
static inline vec load_part(const real *p, long n)
{
    vec v = splat(0);
    memcpy(&v, p, n * sizeof(real));
    return v;
}
static inline void store_part(real *p, vec v, long n) { memcpy(p, &v, n * sizeof(real)); }
#endif

/* Transpose LANES vectors of LANES elements in registers, by instructions that every port of shuffles takes: first
   within blocks of 16 bytes, then those blocks. Round s of the first interleaves the elements of rows s apart. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define LOW(j, s) ((j) & (s) ? LANES + (j) - (s) : (j))
#define HIGH(j, s) ((j) & (s) ? LANES + (j) : (j) + (s))
#define PICK2(F, j, s) F(j, s), F(j + 1, s)
#define PICK4(F, j, s) PICK2(F, j, s), PICK2(F, j + 2, s)
#define PICK8(F, j, s) PICK4(F, j, s), PICK4(F, j + 4, s)
#define PICK16(F, j, s) PICK8(F, j, s), PICK8(F, j + 8, s)
#if LANES == 16
#define PICK(F, s) PICK16(F, 0, s)
#elif LANES == 8
#define PICK(F, s) PICK8(F, 0, s)
#elif LANES == 4
#define PICK(F, s) PICK4(F, 0, s)
#else
#define PICK(F, s) PICK2(F, 0, s)
#endif
#define BLOCK (16 / REAL_BYTES)
#define INTERLEAVED(j, s) ((j) / BLOCK * BLOCK + (j) % BLOCK / (2 * (s)) * (s) + (j) % (s) + ((j) & (s) ? LANES : 0))
#define INTERLEAVED_HIGH(j, s) (INTERLEAVED(j, s) + BLOCK / 2)
#define EVEN_BLOCKS(j, s) ((j) / BLOCK * 2 * BLOCK + (j) % BLOCK) /* of both rows, one after the other */
#define ODD_BLOCKS(j, s) (EVEN_BLOCKS(j, s) + BLOCK)
#define PAIRS(F, G, s, i, j)                                               \
    {                                                                      \
        vec a = rows[i], b = rows[j];                                      \
        rows[i] = __builtin_shufflevector(a, b, PICK(F, s));               \
        rows[j] = __builtin_shufflevector(a, b, PICK(G, s));               \
    }
static inline void transpose(vec *rows)
{
#if BLOCK == 4
    for (int i = 0; i < LANES; i += 4) { /* columns come out as 0, 2, 1, 3 */
        PAIRS(INTERLEAVED, INTERLEAVED_HIGH, 1, i, i + 1)
        PAIRS(INTERLEAVED, INTERLEAVED_HIGH, 1, i + 2, i + 3)
        PAIRS(INTERLEAVED, INTERLEAVED_HIGH, 2, i, i + 2)
        PAIRS(INTERLEAVED, INTERLEAVED_HIGH, 2, i + 1, i + 3)
        vec swap = rows[i + 1];
        rows[i + 1] = rows[i + 2];
        rows[i + 2] = swap;
    }
#else
    for (int i = 0; i < LANES; i += 2)
        PAIRS(INTERLEAVED, INTERLEAVED_HIGH, 1, i, i + 1)
#endif
#if LANES > BLOCK
    for (int s = BLOCK; s < LANES; s *= 2)
        for (int i = 0; i < LANES; i++)
            if (!(i & s))
                PAIRS(EVEN_BLOCKS, ODD_BLOCKS, 0, i, i + s)
#endif
}
/* rows[0][i] = sum of rows[i], halves of a row first; rows are overwritten. */
#define FOLD(s)                                                                    \
    for (int i = 0; i < s; i++) {                                                  \
        vec a = rows[i], b = rows[i + s];                                          \
        rows[i] = __builtin_shufflevector(a, b, PICK(LOW, s))                      \
                + __builtin_shufflevector(a, b, PICK(HIGH, s));                    \
    }
static inline void sum_rows(vec *rows)
{
#if LANES >= 16
    FOLD(8)
#endif
#if LANES >= 8
    FOLD(4)
#endif
#if LANES >= 4
    FOLD(2)
#endif
    FOLD(1)
}
#else
static inline void sum_rows(vec *rows)
{
    real *cell = (real *)rows;
    for (int i = 0; i < LANES; i++) {
        real *row = cell + i * LANES;
        for (int step = LANES / 2; step; step /= 2)
            for (int j = 0; j < step; j++)
                row[j] += row[j + step];
        cell[i] = row[0];
    }
}
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

/* out[j * out_step + i] = x[i * x_step + j] for i, j < LANES. Not inlined, it would take registers from what is around. */
#ifdef __GNUC__
__attribute__((noinline))
#endif
static void transpose_block(real *out, ptrdiff_t out_step, const real *x, ptrdiff_t x_step)
{
    vec rows[LANES];
    for (int i = 0; i < LANES; i++)
        rows[i] = load(x + i * x_step);
    transpose(rows);
    for (int i = 0; i < LANES; i++)
        store(out + i * out_step, rows[i]);
}

/* Elementary functions: integers as wide as the elements, comparisons (all bits of a true element are
   set), and the parts of a floating-point number. */
#ifdef CYCONV_FLOAT64
typedef int64_t whole_element;
#define MANTISSA 52
#define BIAS 1023
#define ROUNDER 6755399441055744.0 /* 1.5 * 2**52: a sum with it has no fraction, and its low bits are the integer */
#else
typedef int32_t whole_element;
#define MANTISSA 23
#define BIAS 127
#define ROUNDER 12582912.0f /* 1.5 * 2**23 */
#endif
#ifdef __GNUC__
typedef whole_element whole __attribute__((vector_size(VECTOR_BYTES)));
static inline whole less(vec a, vec b) { return a < b; }
static inline whole at_most(vec a, vec b) { return a <= b; }
#else
typedef whole_element whole;
static inline whole less(vec a, vec b) { return -(whole)(a < b); }
static inline whole at_most(vec a, vec b) { return -(whole)(a <= b); }
#endif
static inline whole bits_of(vec v)
{
    whole b;
    memcpy(&b, &v, sizeof v);
    return b;
}
static inline vec of_bits(whole b)
{
    vec v;
    memcpy(&v, &b, sizeof b);
    return v;
}
#ifdef CYCONV_FLOAT64
#define OF_REALS(width, name) _mm##width##_##name##_pd
#else
#define OF_REALS(width, name) _mm##width##_##name##_ps
#endif
/* Elements chosen by tests of which all bits are equal. */
#if defined(__AVX2__) && !defined(__AVX512F__)
static inline vec pick(whole test, vec yes, vec no) { return (vec)OF_REALS(256, blendv)(no, yes, of_bits(test)); }
#else
static inline vec pick(whole test, vec yes, vec no) { return of_bits((test & bits_of(yes)) | (~test & bits_of(no))); }
#endif
/* The larger, the smaller of a bound and v; NaN when v is. */
#if defined(__AVX512F__)
static inline vec at_least(vec bound, vec v) { return (vec)OF_REALS(512, max)(bound, v); }
static inline vec no_more_than(vec bound, vec v) { return (vec)OF_REALS(512, min)(bound, v); }
#elif defined(__AVX2__)
static inline vec at_least(vec bound, vec v) { return (vec)OF_REALS(256, max)(bound, v); }
static inline vec no_more_than(vec bound, vec v) { return (vec)OF_REALS(256, min)(bound, v); }
#else
static inline vec at_least(vec bound, vec v) { return pick(less(v, bound), bound, v); }
static inline vec no_more_than(vec bound, vec v) { return pick(less(bound, v), bound, v); }
#endif
/* Tests of each element, and elements chosen by them. `is_over` holds where one is NaN, `is_less` does not. */
#if defined(__AVX512F__) && !defined(CYCONV_FLOAT64)
typedef __mmask16 test;
#define COMPARE(a, b, how) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), how)
static inline vec choose(test t, vec yes, vec no) { return (vec)_mm512_mask_blend_ps(t, (__m512)no, (__m512)yes); }
static inline whole choose_whole(test t, whole yes, whole no) { return (whole)_mm512_mask_blend_epi32(t, (__m512i)no, (__m512i)yes); }
static inline test is_same(whole a, whole b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
#elif defined(__AVX512F__)
typedef __mmask8 test;
#define COMPARE(a, b, how) _mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), how)
static inline vec choose(test t, vec yes, vec no) { return (vec)_mm512_mask_blend_pd(t, (__m512d)no, (__m512d)yes); }
static inline whole choose_whole(test t, whole yes, whole no) { return (whole)_mm512_mask_blend_epi64(t, (__m512i)no, (__m512i)yes); }
static inline test is_same(whole a, whole b) { return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b); }
#else
typedef whole test;
static inline test is_less(vec a, vec b) { return less(a, b); }
#ifdef __AVX2__
static inline test has_nan(vec a, vec b) { return (whole)OF_REALS(256, cmp)(a, b, _CMP_UNORD_Q); }
static inline test is_over(vec a, vec b) { return (whole)OF_REALS(256, cmp)(a, b, _CMP_NLE_UQ); }
#else
static inline test has_nan(vec a, vec b) { return ~(at_most(a, a) & at_most(b, b)); }
static inline test is_over(vec a, vec b) { return ~at_most(a, b); }
#endif
static inline vec choose(test t, vec yes, vec no) { return pick(t, yes, no); }
static inline whole choose_whole(test t, whole yes, whole no) { return bits_of(pick(t, of_bits(yes), of_bits(no))); }
#ifdef __GNUC__
static inline test is_same(whole a, whole b) { return a == b; }
#else
static inline test is_same(whole a, whole b) { return -(whole)(a == b); }
#endif
#endif
#if defined(__AVX512F__)
static inline test is_less(vec a, vec b) { return COMPARE(a, b, _CMP_LT_OQ); }
static inline test has_nan(vec a, vec b) { return COMPARE(a, b, _CMP_UNORD_Q); }
static inline test is_over(vec a, vec b) { return COMPARE(a, b, _CMP_NLE_UQ); }
static inline int any(test t) { return t != 0; }
#elif defined(__AVX2__)
static inline int any(test t) { return !_mm256_testz_si256((__m256i)t, (__m256i)t); }
#elif defined(__GNUC__)
static inline int any(test t)
{
    long long found = 0, parts[VECTOR_BYTES / 8];
    memcpy(parts, &t, sizeof t);
    for (int i = 0; i < VECTOR_BYTES / 8; i++)
        found |= parts[i];
    return found != 0;
}
#else
static inline int any(test t) { return t != 0; }
#endif
static inline whole splat_whole(whole_element k) { return k - (whole){0}; }
static inline whole load_whole(const whole_element *p)
{
    whole v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store_whole(whole_element *p, whole v) { memcpy(p, &v, sizeof v); }

/* LANES bytes. The compiler would take them one by one. */
static inline whole load_bytes(const uint8_t *p)
{
    whole v = {0};
#ifdef __AVX2__
    __m128i bytes = _mm_setzero_si128();
    memcpy(&bytes, p, LANES);
#endif
#if defined(__AVX512F__) && LANES == 16
    v = (whole)_mm512_cvtepu8_epi32(bytes);
#elif defined(__AVX512F__)
    v = (whole)_mm512_cvtepu8_epi64(bytes);
#elif defined(__AVX2__) && LANES == 8
    v = (whole)_mm256_cvtepu8_epi32(bytes);
#elif defined(__AVX2__)
    v = (whole)_mm256_cvtepu8_epi64(bytes);
#elif LANES > 1
    for (int i = 0; i < LANES; i++)
        v[i] = p[i];
#else
    v = *p;
#endif
    return v;
}
/* The first n elements as bytes, and as 64-bit integers that are ``base`` larger. */
static inline void store_bytes(uint8_t *p, whole v, long n)
{
    uint8_t bytes[16];
#if defined(__AVX512F__) && LANES == 16
    _mm_storeu_si128((__m128i *)bytes, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)bytes, _mm512_cvtepi64_epi8((__m512i)v));
#elif defined(__AVX2__)
    /* The low byte of each element: first to the front of each half. */
    __m128i low = _mm256_castsi256_si128((__m256i)v), high = _mm256_extracti128_si256((__m256i)v, 1);
    __m128i pick = _mm_set_epi32(-1, -1, -1, LANES == 8 ? 0x0c080400 : 0xffff0800);
    _mm_storeu_si128((__m128i *)bytes, _mm_or_si128(_mm_shuffle_epi8(low, pick),
                                                    _mm_bslli_si128(_mm_shuffle_epi8(high, pick), LANES / 2)));
#elif LANES > 1
    for (int i = 0; i < LANES; i++)
        bytes[i] = (uint8_t)v[i];
#else
    bytes[0] = (uint8_t)v;
#endif
    if (n >= LANES)
        memcpy(p, bytes, LANES);
    else
        for (long i = 0; i < n; i++)
            p[i] = bytes[i];
}
static inline void store_longs(int64_t *p, whole v, int64_t base, long n)
{
#if defined(__AVX512F__)
    unsigned lanes = (1u << (n < LANES ? n : LANES)) - 1;
    __m512i start = _mm512_set1_epi64(base);
#if LANES == 16
    _mm512_mask_storeu_epi64(p, (__mmask8)lanes, _mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)v)) + start);
    _mm512_mask_storeu_epi64(p + 8, (__mmask8)(lanes >> 8), _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)v, 1)) + start);
#else
    _mm512_mask_storeu_epi64(p, (__mmask8)lanes, (__m512i)v + start);
#endif
#else
    int64_t part[LANES], *to = n >= LANES ? p : part;
#if defined(__AVX2__) && LANES == 8 && REAL_BYTES == 4
    __m256i start = _mm256_set1_epi64x(base);
    _mm256_storeu_si256((__m256i *)to, _mm256_cvtepi32_epi64(_mm256_castsi256_si128((__m256i)v)) + start);
    _mm256_storeu_si256((__m256i *)(to + 4), _mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)v, 1)) + start);
#elif defined(__GNUC__)
    for (int i = 0; i < LANES; i++)
        to[i] = v[i] + base;
#else
    *to = v + base;
#endif
    for (long i = 0; n < LANES && i < n; i++)
        p[i] = part[i];
#endif
}

/* a[0], a[2], ..., b[0], b[2], ... and the others between them; and the inverse. a[1], ..., b[0]. */
#if LANES > 1 && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12))
#define SHUFFLE(F, a, b, s) __builtin_shufflevector(a, b, PICK(F, s))
#if VECTOR_BYTES == 32
/* In two steps: few instructions cross the halves of a vector. */
#define HALVES(j, s) ((j) < LANES / 2 ? (j) + (s) * LANES / 2 : (j) + LANES / 2 + (s) * LANES / 2)
#define QUARTERS(j, s) ((j) % (LANES / 2) < LANES / 4 ? (j) + (j) % (LANES / 2) : LANES + (j) + (j) % (LANES / 2) - LANES / 2)
#define HALF(j, s) (QUARTERS(j, s) + (s))
#define PAIR(j, s) ((j) % 2 * LANES + (s) * LANES / 4 + (j) / (LANES / 2) * (LANES / 2) + (j) % (LANES / 2) / 2)
static inline void split_pairs(vec a, vec b, vec *even, vec *odd)
{
    vec low = SHUFFLE(HALVES, a, b, 0), high = SHUFFLE(HALVES, a, b, 1);
    *even = SHUFFLE(HALF, low, high, 0), *odd = SHUFFLE(HALF, low, high, 1);
}
static inline void join_pairs(vec even, vec odd, vec *a, vec *b)
{
    vec low = SHUFFLE(PAIR, even, odd, 0), high = SHUFFLE(PAIR, even, odd, 1);
    *a = SHUFFLE(HALVES, low, high, 0), *b = SHUFFLE(HALVES, low, high, 1);
}
#else
#define HALF(j, s) (2 * (j) + (s))
#define PAIR(j, s) ((j) % 2 * LANES + (s) * LANES / 2 + (j) / 2)
static inline void split_pairs(vec a, vec b, vec *even, vec *odd)
{
    *even = SHUFFLE(HALF, a, b, 0), *odd = SHUFFLE(HALF, a, b, 1);
}
static inline void join_pairs(vec even, vec odd, vec *a, vec *b)
{
    *a = SHUFFLE(PAIR, even, odd, 0), *b = SHUFFLE(PAIR, even, odd, 1);
}
#endif
#define NEXT(j, s) ((j) + 1)
static inline vec shifted(vec a, vec b) { return SHUFFLE(NEXT, a, b, 0); }
#else
static inline void split_pairs(vec a, vec b, vec *even, vec *odd)
{
    for (int i = 0; i < LANES; i++) {
        const char *pair = (char *)(2 * i < LANES ? &a : &b) + 2 * i % LANES * sizeof(real);
        memcpy((real *)even + i, pair, sizeof(real));
        memcpy((real *)odd + i, LANES > 1 ? pair + sizeof(real) : (char *)&b, sizeof(real));
    }
}
static inline void join_pairs(vec even, vec odd, vec *a, vec *b)
{
    for (int i = 0; i < 2 * LANES; i++)
        memcpy((real *)(i < LANES ? a : b) + i % LANES, (real *)(i % 2 ? &odd : &even) + i / 2, sizeof(real));
}
static inline vec shifted(vec a, vec b)
{
    vec v = b;
    for (int i = 0; i < LANES; i++)
        memcpy((real *)&v + i, i < LANES - 1 ? (real *)&a + i + 1 : (real *)&b, sizeof(real));
    return v;
}
#endif
/* a[0], a[2], ..., b[1], b[3], ...: every second element of 2 * LANES - 1, of which a and b both hold the middle one. */
static inline vec evens(vec a, vec b)
{
#if LANES > 1 && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12))
#define EVEN(j, s) ((j) < LANES / 2 ? 2 * (j) : 2 * (j) + 1)
#if LANES == 8     /* within halves, then pairs: GCC finds no way as short by itself */
    vec v = __builtin_shufflevector(a, b, 0, 2, 9, 11, 4, 6, 13, 15);
    return __builtin_shufflevector(v, v, 0, 1, 4, 5, 2, 3, 6, 7);
#else
    return __builtin_shufflevector(a, b, PICK(EVEN, 0));
#endif
#else
    vec v = a;
    for (int i = 0; i < LANES; i++)
        memcpy((real *)&v + i, 2 * i < LANES ? (real *)&a + 2 * i : (real *)&b + 2 * i + 1 - LANES, sizeof(real));
    return v;
#endif
}
/* Every second element, n of them, 0 < n <= LANES; nothing behind the last is read. */
static inline vec load_even(const real *p, long n)
{
    return evens(2 * n > LANES ? load(p) : load_part(p, 2 * n - 1),
                 n == LANES ? load(p + LANES - 1) : load_part(p + LANES - 1, 2 * n > LANES ? 2 * n - LANES : 0));
}
/* p[0], p[2], ... and p[1], p[3], ...: n of each, 0 < n <= LANES. */
static inline void load_pairs(const real *p, long n, vec *even, vec *odd)
{
    vec a = 2 * n >= LANES ? load(p) : load_part(p, 2 * n);
    vec b = n == LANES ? load(p + LANES) : load_part(p + LANES, 2 * n > LANES ? 2 * n - LANES : 0);
    split_pairs(a, b, even, odd);
}
/* a[0], b[0], a[1], b[1], ...: n pairs, 0 < n <= LANES. */
static inline void store_pairs(real *p, vec a, vec b, long n)
{
    vec low, high;
    join_pairs(a, b, &low, &high);
    store_part(p, low, 2 * n < LANES ? 2 * n : LANES);
    if (2 * n > LANES)
        store_part(p + LANES, high, 2 * n - LANES);
}
/* p[0], p[2], ...: n elements of v, 0 < n <= LANES; nothing between them or behind the last is written. */
static inline void store_even(real *p, vec v, long n)
{
#if defined(__AVX512F__)
    vec low, high;
    unsigned lanes = 0x55555555u & (uint32_t)((1ull << 2 * n) - 1);
    join_pairs(v, v, &low, &high);
    OF_REALS(512, mask_storeu)(p, lanes & ((1u << LANES) - 1), low);
    OF_REALS(512, mask_storeu)(p + LANES, lanes >> LANES, high);
#else
    for (long i = 0; i < n; i++)
        memcpy(p + 2 * i, (real *)&v + i, sizeof(real));
#endif
}
#define SIGN_BIT ((whole_element)(MANTISSA == 52 ? INT64_MIN : INT32_MIN))
static inline vec with_sign(vec size, vec sign)
{
    return of_bits((bits_of(size) & ~SIGN_BIT) | (bits_of(sign) & SIGN_BIT));
}
/* 2**k for whole numbers k from 1 - BIAS to BIAS, and 0 for k = -BIAS. */
static inline vec pow2(vec k) { return of_bits(bits_of(k + splat(ROUNDER + BIAS)) << MANTISSA); }
/* The upper half of the significand: products of two of them are exact. */
static inline vec upper(vec v) { return of_bits(bits_of(v) & -((whole_element)1 << (MANTISSA + 2) / 2)); }

/* a * b, rounded. The compiler does not see that it is a product and so cannot fuse it with a sum:
   processors with and without fused multiply-add get the same bits. */
#if defined(__GNUC__) && defined(__AVX512F__)
#define OPAQUE(v) __asm__("" : "+v"(v))
#elif defined(__GNUC__) && defined(__SSE2__)
#define OPAQUE(v) __asm__("" : "+x"(v))
#elif defined(__GNUC__) && defined(__aarch64__)
#define OPAQUE(v) __asm__("" : "+w"(v))
#elif defined(__GNUC__)
#define OPAQUE(v) __asm__("" : "+m"(v))
#else
#define OPAQUE(v)
#endif
static inline vec times(vec a, vec b)
{
    a *= b;
    OPAQUE(a);
    return a;
}
/* v, which the compiler cannot load a second time. */
static inline vec loaded(vec v)
{
    OPAQUE(v);
    return v;
}

/* Doubles, for sums of either type: WIDE_LANES elements of an array at a time, or its last n, then zeros. */
#ifdef __GNUC__
#define WIDE_LANES (VECTOR_BYTES / 8)
typedef double wide __attribute__((vector_size(VECTOR_BYTES)));
typedef real thin __attribute__((vector_size(VECTOR_BYTES * REAL_BYTES / 8)));
#define CONVERT(v, type) __builtin_convertvector(v, type)
#else
#define WIDE_LANES 1
typedef double wide;
typedef real thin;
#define CONVERT(v, type) ((type)(v))
#endif
static inline wide splat_double(double x) { return x - (wide){0}; }
static inline wide load_wide(const real *p, long n)
{
    thin v = (thin){0};
    if (n >= WIDE_LANES)
        memcpy(&v, p, sizeof v);
    else
        memcpy(&v, p, n * sizeof(real));
    return CONVERT(v, wide);
}
static inline void store_thin(real *p, wide w, long n)
{
    thin v = CONVERT(w, thin);
    if (n >= WIDE_LANES)
        memcpy(p, &v, sizeof v);
    else
        memcpy(p, &v, n * sizeof(real));
}
static inline wide load_doubles(const double *p, long n)
{
    wide v = splat_double(0);
    if (n >= WIDE_LANES)
        memcpy(&v, p, sizeof v);
    else
        memcpy(&v, p, n * sizeof(double));
    return v;
}
static inline void store_doubles(double *p, wide v, long n)
{
    if (n >= WIDE_LANES)
        memcpy(p, &v, sizeof v);
    else
        memcpy(p, &v, n * sizeof(double));
}
static inline wide wide_times(wide a, wide b)
{
    a *= b;
    OPAQUE(a);
    return a;
}
