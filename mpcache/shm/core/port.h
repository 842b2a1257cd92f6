/* What the engine asks of the machine: atomics, clocks, futexes, and the points where tests strike.
 * Leans on libc and Linux; nothing here knows what a cache is. */
#ifndef MPC_PORT_H
#define MPC_PORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;
typedef _Atomic u32 a32;
typedef _Atomic u64 a64;

_Static_assert(sizeof(a64) == 8 && sizeof(a32) == 4, "atomics must have the size of their values");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "an atomic with a hidden lock cannot be shared by processes");

#define MPC_LINE 64 /* bytes that one cache line holds */
#define MPC_NS_PER_MS 1000000ull
#define MPC_NS_PER_S 1000000000ull

#ifdef MPC_FAULT_RELAXED /* nothing is ordered by anything */
#define MPC_ACQUIRE memory_order_relaxed
#define MPC_RELEASE memory_order_relaxed
#define MPC_ACQ_REL memory_order_relaxed
#else
#define MPC_ACQUIRE memory_order_acquire
#define MPC_RELEASE memory_order_release
#define MPC_ACQ_REL memory_order_acq_rel
#endif

/* Relaxed accesses of words that an order elsewhere protects, or whose exact moment does not matter. */
#define mpc_load(p) atomic_load_explicit((p), memory_order_relaxed)
#define mpc_store(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define mpc_load_acquire(p) atomic_load_explicit((p), MPC_ACQUIRE)
#define mpc_store_release(p, v) atomic_store_explicit((p), (v), MPC_RELEASE)
#define mpc_add(p, n) ((void)atomic_fetch_add_explicit((p), (n), memory_order_relaxed))

/* One compare-and-swap; on failure *seen is what stood there. */
static inline bool mpc_cas32(a32 *p, u32 *seen, u32 want)
{
    return atomic_compare_exchange_strong_explicit(p, seen, want, MPC_ACQ_REL, MPC_ACQUIRE);
}

static inline bool mpc_cas64(a64 *p, u64 *seen, u64 want)
{
    return atomic_compare_exchange_strong_explicit(p, seen, want, MPC_ACQ_REL, MPC_ACQUIRE);
}

/* Where a test may stop, delay or kill: each lies between two accesses of shared memory whose order matters.
 * MPC_DELAYS builds sleep there at random, MPC_POINTS builds call what a test brings; ordinary builds have nothing. */
#if defined(MPC_DELAYS) || defined(MPC_POINTS)
void mpc_point(void);
#define MPC_POINT() mpc_point()
#else
#define MPC_POINT() ((void)0)
#endif

/* Bytes that other processes may be writing.  The reader proves afterwards that they stood still, or throws
 * its copy away (a sequence-lock read: Boehm, "Can seqlocks get along with programming language memory
 * models?", MSPC 2012).  ThreadSanitizer builds copy by relaxed atomic words, which C11 allows to race. */
#if defined(__SANITIZE_THREAD__) && !defined(MPC_FAULT_PLAIN_COPY)
#define MPC_ATOMIC_COPY
void mpc_copy_in(void *shared, const void *private, size_t n);
void mpc_copy_out(void *private, const void *shared, size_t n);
bool mpc_same_bytes(const void *shared, const void *private, size_t n);
#else
static inline void mpc_copy_in(void *shared, const void *private, size_t n)
{
    memcpy(shared, private, n);
}

/* A single fetch: the compiler may not read the shared bytes again where the copy is used (the barrier says that they
 * may have changed). */
static inline void mpc_copy_out(void *private, const void *shared, size_t n)
{
    memcpy(private, shared, n);
    __asm__ __volatile__("" ::: "memory");
}

static inline bool mpc_same_bytes(const void *shared, const void *private, size_t n)
{
    return memcmp(shared, private, n) == 0;
}
#endif

static inline u64 mpc_round_up(u64 n, u64 to)
{
    return (n + to - 1) / to * to;
}

static inline u64 mpc_round_down(u64 n, u64 to)
{
    return n / to * to;
}

static inline void mpc_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

u64 mpc_mono_ns(void);       /* for durations: never steps */
u64 mpc_mono_coarse_ns(void); /* the same clock, some ms behind, at a tenth of the cost */
i64 mpc_wall_ns(void);       /* for ages and expiry: since the Unix epoch */
i64 mpc_wall_coarse_ns(void); /* the same, as the coarse one of the other clock */

/* Sleep until *word is not `expected`, somebody wakes, a signal arrives or `ns` have passed. */
void mpc_futex_wait(a32 *word, u32 expected, u64 ns);
void mpc_futex_wake(a32 *word, int count);

bool mpc_random(void *bytes, size_t n);

#endif
