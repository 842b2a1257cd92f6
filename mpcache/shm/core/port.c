/* What the engine asks of the machine, done for Linux. */
#include "port.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef MPC_ATOMIC_COPY

/* Records and their values start on 8-byte borders in shared memory, so words can be copied atomically; the
 * private side may lie anywhere. */
void mpc_copy_in(void *shared, const void *private, size_t n)
{
    a64 *to = shared;
    const u8 *from = private;
    for (; n >= 8; n -= 8, from += 8, to++) {
        u64 word;
        memcpy(&word, from, 8);
        mpc_store(to, word);
    }
    _Atomic u8 *tail = (_Atomic u8 *)to;
    while (n--)
        mpc_store(tail++, *from++);
}

void mpc_copy_out(void *private, const void *shared, size_t n)
{
    a64 *from = (a64 *)(uintptr_t)shared;
    u8 *to = private;
    for (; n >= 8; n -= 8, to += 8, from++) {
        u64 word = mpc_load(from);
        memcpy(to, &word, 8);
    }
    _Atomic u8 *tail = (_Atomic u8 *)from;
    while (n--)
        *to++ = mpc_load(tail++);
}

bool mpc_same_bytes(const void *shared, const void *private, size_t n)
{
    _Atomic u8 *a = (_Atomic u8 *)(uintptr_t)shared;
    const u8 *b = private;
    while (n--)
        if (mpc_load(a++) != *b++)
            return false;
    return true;
}

#endif

static u64 mpc_clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (u64)t.tv_sec * MPC_NS_PER_S + (u64)t.tv_nsec;
}

u64 mpc_mono_ns(void)
{
    return mpc_clock_ns(CLOCK_MONOTONIC);
}

u64 mpc_mono_coarse_ns(void)
{
    return mpc_clock_ns(CLOCK_MONOTONIC_COARSE);
}

i64 mpc_wall_ns(void)
{
    return (i64)mpc_clock_ns(CLOCK_REALTIME);
}

i64 mpc_wall_coarse_ns(void)
{
    return (i64)mpc_clock_ns(CLOCK_REALTIME_COARSE);
}

/* Not FUTEX_PRIVATE: the word is shared by processes. */
void mpc_futex_wait(a32 *word, u32 expected, u64 ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MPC_NS_PER_S), .tv_nsec = (long)(ns % MPC_NS_PER_S)};
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT, expected, &t, NULL, 0);
    errno = saved;
}

void mpc_futex_wake(a32 *word, int count)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    errno = saved;
}

bool mpc_random(void *bytes, size_t n)
{
    u8 *to = bytes;
    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);
        if (got < 0 && errno != EINTR)
            return false;
        if (got > 0) {
            to += got;
            n -= (size_t)got;
        }
    }
    return true;
}

#ifdef MPC_DELAYS
/* One visit in 64 sleeps for up to 2 ms: long enough for other processes to do dozens of operations. */
void mpc_point(void)
{
    static _Thread_local u32 dice;
    if (dice == 0)
        dice = (u32)mpc_mono_ns() | 1u;
    dice ^= dice << 13;
    dice ^= dice >> 17;
    dice ^= dice << 5;
    if (dice % 64 == 0)
        usleep(dice / 64 % 2000);
}
#endif
