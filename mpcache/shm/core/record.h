/* Records: a value to be stored, what a look-up found, where the bytes of a record lie, and whether they may be
 * used. */
#ifndef MPC_RECORD_H
#define MPC_RECORD_H

#include "hash.h"

typedef struct {
    const void *bytes;
    u64 len;
} mpc_piece;

typedef struct {
    const void *bytes;
    u64 len;
    const mpc_piece *pieces; /* NULL: the value lies in `bytes`; else in these pieces, of `len` bytes in all */
    u64 n_pieces;
    i64 created; /* wall clock, ns */
    i64 expires; /* wall clock, ns; 0: never */
    u64 epoch;
    u64 version; /* 0: a new one */
    const u64 *tags; /* hashes of its tags */
    u8 n_tags;
    u8 flags;
    u16 took; /* how long its creation took: mpc_took_of_ns() */
} mpc_value;

/* What a look-up found: a private copy of the header, and where the value was then. */
typedef struct {
    struct mpc_record record;
    const u8 *value;
    a64 *slot;
    u64 word;
    struct mpc_ring *ring;
} mpc_hit;

static inline u64 mpc_tag(u64 hash)
{
    return hash >> 44 & 0xfff;
}

static inline u32 mpc_tags_of(u16 more)
{
    return more >> MPC_TAGS_SHIFT & MPC_MAX_TAGS;
}

/* The value starts on 16 bytes: where source and destination lie 1 to 15 bytes apart modulo 4096, memcpy is up
 * to thirty times slower.  The hashes of the tags lie just before it. */
static inline u64 mpc_value_at(u32 klen, u32 n_tags)
{
    return (sizeof(struct mpc_record) + klen + n_tags * sizeof(u64) + 15) & ~15ull;
}

static inline u64 mpc_units(u32 klen, u64 vlen, u32 n_tags)
{
    return (mpc_value_at(klen, n_tags) + vlen + 15) / 16 * MPC_ALIGN_UNITS;
}

static inline u64 mpc_units_of(const struct mpc_record *record)
{
    return mpc_units(record->klen, record->vlen, mpc_tags_of(record->more));
}

/* The time that a creation took, in the 11 bits that a record has for it: microseconds, as an exponent of two and the
 * 6 bits after the first; exact below 128, 1.6 % less than true at most above, and 38 hours at most. */
#define MPC_TOOK_BITS 6
#define MPC_TOOK_MOST ((1u << (16 - MPC_TOOK_SHIFT)) - 1)

static inline u16 mpc_took_of_ns(u64 ns)
{
    u64 us = ns / 1000, code = us;
    if (us >> MPC_TOOK_BITS) {
        u32 exponent = 63 - MPC_TOOK_BITS - (u32)__builtin_clzll(us);
        code = (u64)(exponent + 1) << MPC_TOOK_BITS | (us >> exponent & ((1u << MPC_TOOK_BITS) - 1));
    }
    return (u16)(code < MPC_TOOK_MOST ? code : MPC_TOOK_MOST);
}

static inline u64 mpc_ns_of_took(u16 took)
{
    u32 exponent = took >> MPC_TOOK_BITS;
    u64 bits = took & ((1u << MPC_TOOK_BITS) - 1);
    return (exponent ? (bits | 1u << MPC_TOOK_BITS) << (exponent - 1) : bits) * 1000;
}

static inline u8 *mpc_ring_base(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring)
{
    return (u8 *)shard + (ring == MPC_MAIN ? ctx->geometry.main_at : ctx->geometry.small_at);
}

static inline u64 mpc_ring_units(const mpc_ctx *ctx, unsigned ring)
{
    return ring == MPC_MAIN ? ctx->geometry.main_units : ctx->geometry.small_units;
}

/* Prefetch a record that will be copied.  Its length stands in its first line; to wait for that before requesting
 * the others would be to wait twice. */
static inline void mpc_prefetch_lines(const u8 *at, u32 lines)
{
    for (u32 line = 0; line < lines; line += 4) {
        __builtin_prefetch(at + line * MPC_LINE);
        __builtin_prefetch(at + (line + 1) * MPC_LINE);
        __builtin_prefetch(at + (line + 2) * MPC_LINE);
        __builtin_prefetch(at + (line + 3) * MPC_LINE);
    }
}

/* The second half of a read: return whether what was copied before is valid.  The bytes of a record change only
 * after its tail has passed it, and head falls below it only when a shard is cleared; so if neither has happened by
 * now, the bytes had not changed. */
static inline bool mpc_still_valid(const mpc_hit *hit)
{
    atomic_thread_fence(memory_order_acquire);
#ifdef MPC_FAULT_NO_RECHECK
    return true;
#endif
    u64 position = mpc_word_position(hit->word);
    return mpc_load(&hit->ring->tail) <= position && position < mpc_load(&hit->ring->head);
}

/* Far more than the coarse clock can lag, which is a tick: 10 ms at most. */
#define MPC_COARSE_LAG_NS ((i64)MPC_NS_PER_S)

/* Return whether a time to live has ended; 0: it never does.  The exact clock costs a quarter of a hit, so it is read
 * only near the end, where the coarse one cannot decide. */
static inline bool mpc_is_over(i64 expires)
{
    if (expires == 0 || expires > mpc_wall_coarse_ns() + MPC_COARSE_LAG_NS)
        return false;
    return expires <= mpc_wall_ns();
}

/* Return whether an end is soft: it makes the value stale, and the record stays. */
static inline bool mpc_is_soft(i64 expires)
{
    return (expires & 1) != 0;
}

/* Return whether the record must not be served: it is expired, or of an epoch before the namespace was cleared. */
static inline bool mpc_is_gone(mpc_ctx *ctx, const struct mpc_record *record)
{
    if (record->epoch < mpc_load_acquire(&mpc_namespace_at(ctx, record->namespace)->clear_at))
        return true;
    return !mpc_is_soft(record->expires) && mpc_is_over(record->expires);
}

/* Return whether the record is gone, or of an epoch before the namespace was invalidated. */
static inline bool mpc_is_hidden(mpc_ctx *ctx, const struct mpc_record *record)
{
    return mpc_is_gone(ctx, record) ||
           record->epoch < mpc_load_acquire(&mpc_namespace_at(ctx, record->namespace)->hard_at);
}

#endif
