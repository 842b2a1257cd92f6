/* Between the files of the store: index.c finds and publishes, ring.c writes logs, evict.c says who stays in them,
 * ghost.c remembers who left, store.c and change.c decide what is done with a key.  Nothing outside core/ includes
 * this. */
#ifndef MPC_STORE_H
#define MPC_STORE_H

#include "engine.h"

/* A writer's own view of one ring, judged when it was opened; under the shard's lock only this writer moves it. */
struct mpc_log {
    struct mpc_ring *ring;
    u8 *base;
    u64 capacity, tail, head; /* in units */
    u64 place; /* head % capacity: to divide takes longer than to write a line */
    a64 *steps; /* of this process, and the shard's: both move with the work, for those who wait for the shard */
    a32 *moves;
    unsigned which;
    bool over; /* its positions come near their limit, or a restart was not finished */
};

/* One set's view of a shard: what it has done to make room, and where the record may now be appended. */
struct mpc_room {
    mpc_ctx *ctx;
    struct mpc_shard *shard;
    struct mpc_log log[MPC_RINGS];
    u64 movable, widest; /* units: the most that is ever moved, and the most that was ever stored of these */
    a64 *own; /* the slot of the record that is being overwritten; NULL: the key is new */
    u32 moves;
    unsigned ring; /* where the record goes, */
    bool guest;    /* and on what account */
};

/* index.c */
a64 *mpc_bucket(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, int which);
bool mpc_record_at(const mpc_ctx *ctx, struct mpc_shard *shard, u64 word, struct mpc_record *record, const u8 **at);
a64 *mpc_slot_naming(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 place, u64 *word);
mpc_status mpc_look_up(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_look_up_and_prefetch(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit, u32 lines);
bool mpc_cas_slot(a64 *slot, u64 seen, u64 want);
void mpc_publish_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_hit *old, u64 place,
                        mpc_hit *put);

/* ring.c */
mpc_status mpc_log_open(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, struct mpc_log *log);
void mpc_log_restart_locked(const mpc_ctx *ctx, struct mpc_shard *shard, struct mpc_log *log);
u8 *mpc_log_at(const struct mpc_log *log, u64 position);
u64 mpc_log_free(const struct mpc_log *log);
u64 mpc_log_need(const struct mpc_log *log, u64 units);
bool mpc_log_record(const struct mpc_log *log, u64 position, struct mpc_record *record);
u64 mpc_log_append_locked(struct mpc_log *log, const mpc_key *key, const mpc_value *value, bool guest);
void mpc_log_copy_locked(struct mpc_log *log, const struct mpc_log *from, const struct mpc_record *record);
void mpc_log_pass_locked(struct mpc_log *log, u64 units);

/* evict.c */
u64 mpc_largest_units(const mpc_ctx *ctx);
mpc_status mpc_make_room_locked(mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 units, const mpc_hit *old,
                                struct mpc_room *room);

/* store.c */
mpc_status mpc_may_write(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value);
void mpc_prefetch_for_write(const mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key);
mpc_status mpc_put_fresh_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                                u32 drops);

/* ghost.c */
u16 *mpc_ghosts_of(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash);
void mpc_ghost_add_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash);
bool mpc_ghost_take_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 youngest);

/* -- what every look and every write needs, too small to be called ----------------------------------------------- */

static inline u64 mpc_tag(u64 hash)
{
    return hash >> 44 & 0xfff;
}

/* The value starts on 16 bytes: where source and destination lie 1 to 15 bytes apart modulo 4096, memcpy is up
 * to thirty times slower. */
static inline u64 mpc_value_at(u32 klen)
{
    return (sizeof(struct mpc_record) + klen + 15) & ~15ull;
}

static inline u64 mpc_units(u32 klen, u64 vlen)
{
    return (mpc_value_at(klen) + vlen + 15) / 16 * MPC_ALIGN_UNITS;
}

static inline u8 *mpc_ring_base(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring)
{
    return (u8 *)shard + (ring == MPC_MAIN ? ctx->geometry.main_at : ctx->geometry.small_at);
}

static inline u64 mpc_ring_units(const mpc_ctx *ctx, unsigned ring)
{
    return ring == MPC_MAIN ? ctx->geometry.main_units : ctx->geometry.small_units;
}

/* Where the sets of this key that gave up are counted, with those of the keys of its class. */
static inline a32 *mpc_drops_of(struct mpc_shard *shard, const mpc_key *key)
{
#ifdef MPC_FAULT_DROPS_BY_SHARD
    return shard->drops;
#endif
    return &shard->drops[(key->hash >> 36) % MPC_DROP_CLASSES];
}

/* Ask for a record that will be copied.  How long it is stands in its first line; to wait for that before asking for
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

/* The other half of a read.  The bytes of a record change only after its tail has passed it, and head falls below
 * it only when a shard is cleared; so if neither has happened by now, all that was copied before stood still. */
static inline bool mpc_still_valid(const mpc_hit *hit)
{
    atomic_thread_fence(memory_order_acquire);
#ifdef MPC_FAULT_NO_RECHECK
    return true;
#endif
    u64 position = mpc_word_position(hit->word);
    return mpc_load(&hit->ring->tail) <= position && position < mpc_load(&hit->ring->head);
}

/* No longer to be served by anyone: expired, or of an epoch before the namespace was cleared. */
static inline bool mpc_is_gone(mpc_ctx *ctx, const struct mpc_record *record)
{
    if (record->epoch < mpc_load_acquire(&mpc_namespace_at(ctx, record->namespace)->clear_at))
        return true;
    return record->expires != 0 && record->expires <= mpc_wall_ns();
}

/* Gone, or of an epoch before the namespace was invalidated. */
static inline bool mpc_is_hidden(mpc_ctx *ctx, const struct mpc_record *record)
{
    return mpc_is_gone(ctx, record) || record->epoch < mpc_load_acquire(&mpc_namespace_at(ctx, record->namespace)->hard_at);
}

#endif
