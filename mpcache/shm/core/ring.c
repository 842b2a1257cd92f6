/* The ring log: values in the order in which they came, and how old ones leave.
 *
 *        tail                                   head
 *     ...| record | pad | record | ... | record |  gap  |...      place = position % capacity
 *
 * A record never wraps; a pad fills the way to the end.  Room is made by moving the tail, and only then are the
 * bytes below it written over: that order, kept by a release fence, is what a reader's re-check of the tail rests
 * on.  A new record is whole before head passes it, and head passes it before a slot names it; so after the death
 * of a writer at any instruction the log is a log, and what it had half written was never in it.
 *
 * Eviction is CLOCK with two bits (Corbato, "A paging experiment with the Multics system", 1968): a record that was read since it came
 * is copied to the head with one bit of use less, another leaves. */
#include "store.h"

#define MOVES_PER_SET 64 /* after these, victims leave whatever their use: a set's latency is bounded */
#define LARGEST_SHARE 4  /* a record may take this part of the main ring */
#define MOVABLE_SHARE 32 /* larger ones leave instead of being copied */
#define GAP_SHARE 16     /* free space that is kept, so that a copy fits before the tail moves */

/* The value starts on 16 bytes: where source and destination lie 1 to 15 bytes apart modulo 4096, memcpy is up
 * to thirty times slower. */
u64 mpc_value_at(u32 klen)
{
    return (sizeof(struct mpc_record) + klen + 15) & ~15ull;
}

u64 mpc_units(u32 klen, u64 vlen)
{
    return (mpc_value_at(klen) + vlen + 15) / 16 * MPC_ALIGN_UNITS;
}

u64 mpc_largest_units(const mpc_ctx *ctx)
{
    return ctx->geometry.main_units / LARGEST_SHARE / MPC_ALIGN_UNITS * MPC_ALIGN_UNITS;
}

u64 mpc_largest_value(const mpc_ctx *ctx, u32 klen)
{
    u64 most = mpc_largest_units(ctx) * MPC_UNIT - mpc_value_at(klen);
    return most < UINT32_MAX ? most : UINT32_MAX;
}

u8 *mpc_ring_base(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring)
{
    return (u8 *)shard + (ring == MPC_MAIN ? ctx->geometry.main_at : ctx->geometry.small_at);
}

u64 mpc_ring_units(const mpc_ctx *ctx, unsigned ring)
{
    return ring == MPC_MAIN ? ctx->geometry.main_units : ctx->geometry.small_units;
}

static u8 *byte_at(const mpc_ctx *ctx, struct mpc_shard *shard, u64 position)
{
    return mpc_ring_base(ctx, shard, MPC_MAIN) + position % ctx->geometry.main_units * MPC_UNIT;
}

static u64 units_to_end(const mpc_ctx *ctx, u64 position)
{
    return ctx->geometry.main_units - position % ctx->geometry.main_units;
}

/* No longer to be served by anyone: expired, or of an epoch before the namespace was cleared. */
bool mpc_is_gone(mpc_ctx *ctx, const struct mpc_record *record)
{
    if (record->epoch < mpc_load_acquire(&mpc_space_at(ctx, record->space)->clear_at))
        return true;
    return record->expires != 0 && record->expires <= mpc_wall_ns();
}

static bool is_hidden(mpc_ctx *ctx, const struct mpc_record *record)
{
    return mpc_is_gone(ctx, record) || record->epoch < mpc_load(&mpc_space_at(ctx, record->space)->hard_at);
}

/* Everything that is written into the ring goes through here: the tail had moved before this space was free, and
 * a reader that sees one of these bytes must see that tail. */
static void write_bytes(u8 *to, const void *from, u64 n)
{
#ifndef MPC_FAULT_NO_RELEASE_FENCE
    atomic_thread_fence(memory_order_release);
#endif
    mpc_copy_in(to, from, n);
    MPC_POINT();
}

/* A writer's own copy of head and tail, read once under the lock and judged: whatever happens to the shared words
 * meanwhile, it writes inside the ring. */
struct ends {
    u64 tail, head;
};

static u64 free_units(const mpc_ctx *ctx, const struct ends *ends)
{
    return ctx->geometry.main_units - (ends->head - ends->tail);
}

/* The pad that a record of so many units would need before it. */
static u64 pad_before(const mpc_ctx *ctx, u64 head, u64 units)
{
    u64 left = units_to_end(ctx, head);
    return units <= left ? 0 : left;
}

static void advance_head(struct mpc_shard *shard, struct ends *ends, u64 units)
{
    ends->head += units;
    mpc_store_release(&shard->ring[MPC_MAIN].head, ends->head);
    MPC_POINT();
}

static void advance_tail(struct mpc_shard *shard, struct ends *ends, u64 units)
{
    ends->tail += units;
    mpc_store_release(&shard->ring[MPC_MAIN].tail, ends->tail);
    MPC_POINT();
}

/* The caller has made room for it. */
static void write_pad_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends, u64 units)
{
    struct mpc_record pad = {.position = ends->head, .units = (u32)units, .flags = MPC_PAD};
    write_bytes(byte_at(ctx, shard, ends->head), &pad, MPC_ALIGN_UNITS * MPC_UNIT);
    advance_head(shard, ends, units);
}

/* Copy a record that is about to leave to the head, with one bit of use less.  The copy is published before the
 * tail passes the original, so the key is found at every moment.  A slot that was cleared meanwhile stays so, and
 * the copy is an orphan. */
static bool move_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends, struct mpc_record *record, a64 *slot,
                        u64 word)
{
    u64 pad = pad_before(ctx, ends->head, record->units);
    if (pad + record->units > free_units(ctx, ends))
        return false;
    if (pad)
        write_pad_locked(ctx, shard, ends, pad);
    const u8 *from = byte_at(ctx, shard, ends->tail);
    u8 *to = byte_at(ctx, shard, ends->head);
    u64 position = record->position = ends->head;
    write_bytes(to, record, sizeof *record);
    write_bytes(to + sizeof *record, from + sizeof *record, record->units * MPC_UNIT - sizeof *record);
    advance_head(shard, ends, record->units);
    mpc_retarget(slot, word, mpc_word(mpc_tag(record->hash), mpc_word_freq(word) - 1, MPC_MAIN, position));
    mpc_add(&shard->moved, 1);
    return true;
}

/* A private copy of what lies at `position`, before `head`; false if it is nothing that the engine writes there.  Of a
 * pad only the first words count. */
bool mpc_log_record(const mpc_ctx *ctx, struct mpc_shard *shard, u64 position, u64 head, struct mpc_record *record)
{
    u64 left = units_to_end(ctx, position);
    const u8 *from = byte_at(ctx, shard, position);
    memset(record, 0, sizeof *record);
    mpc_copy_out(record, from, MPC_ALIGN_UNITS * MPC_UNIT);
    if ((record->flags & MPC_PAD) == 0 && left >= MPC_RECORD_UNITS)
        mpc_copy_out(record, from, sizeof *record);
    if (record->position != position || record->units == 0 || record->units > left || record->units > head - position)
        return false;
    if (record->flags & MPC_PAD)
        return record->units == left;
    return left >= MPC_RECORD_UNITS && record->units == mpc_units(record->klen, record->vlen);
}

static bool is_kept(mpc_ctx *ctx, const struct mpc_record *record, u64 word, u32 *moves)
{
    if (mpc_word_freq(word) == 0 || *moves >= MOVES_PER_SET || is_hidden(ctx, record) ||
        record->units > ctx->geometry.main_units / MOVABLE_SHARE)
        return false;
    ++*moves;
    return true;
}

/* Let the record at the tail go, or move it to the head.  A record that no slot names was overwritten or deleted. */
static mpc_status pass_tail_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends, u32 *moves)
{
    struct mpc_record record;
    u64 tail = ends->tail;
    if (tail >= ends->head || !mpc_log_record(ctx, shard, tail, ends->head, &record))
        return MPC_DAMAGED;
    u64 units = record.units;
    a64 *slot = record.flags & MPC_PAD ? NULL : mpc_slot_naming(ctx, shard, record.hash, MPC_MAIN, tail);
    if (slot) {
        u64 word = mpc_load(slot);
        bool named = mpc_word_position(word) == tail;
        if (!named || !is_kept(ctx, &record, word, moves) || !move_locked(ctx, shard, ends, &record, slot, word)) {
            mpc_add(is_hidden(ctx, &record) ? &shard->expired : &shard->evicted[MPC_MAIN], 1);
            if (named)
                mpc_retarget(slot, word, 0);
        }
    }
    advance_tail(shard, ends, units);
    return MPC_OK;
}

static mpc_status make_room_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends, u64 units)
{
    u32 moves = 0;
    u64 gap = ctx->geometry.main_units / GAP_SHARE;
    for (;;) {
        u64 need = pad_before(ctx, ends->head, units) + units + gap;
        if (free_units(ctx, ends) >= need)
            return MPC_OK;
        mpc_status status = pass_tail_locked(ctx, shard, ends, &moves);
        if (status != MPC_OK)
            return status;
    }
}

/* Positions may not pass their limit.  Head falls first: a reader that still holds an old position sees that it
 * lies beyond head, until the tail has fallen too and ever after.  A writer that dies in between leaves
 * tail > head, which no other state has, and the next one finishes. */
static void restart_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends)
{
    struct mpc_ring *ring = &shard->ring[MPC_MAIN];
    a64 *slots = (a64 *)((u8 *)shard + ctx->geometry.index_at);
    for (u64 i = 0; i < (u64)ctx->geometry.index_buckets * MPC_SLOTS_PER_BUCKET; i++)
        mpc_store_release(&slots[i], 0);
    MPC_POINT();
    ends->head = ends->tail = ctx->geometry.main_units;
    atomic_store(&ring->head, ends->head);
    MPC_POINT();
    atomic_store(&ring->tail, ends->tail);
    mpc_add(&shard->cleared, 1);
}

static mpc_status ready_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct ends *ends, u64 units)
{
    u64 capacity = ctx->geometry.main_units, limit = ctx->geometry.position_limit;
    u64 tail = ends->tail = mpc_load(&shard->ring[MPC_MAIN].tail);
    u64 head = ends->head = mpc_load(&shard->ring[MPC_MAIN].head);
    bool half_restarted = tail > head && head == capacity && tail <= limit;
    bool sound = tail <= head && head - tail <= capacity && head % MPC_ALIGN_UNITS == 0 &&
                 tail % MPC_ALIGN_UNITS == 0 && head <= limit;
    if (!sound && !half_restarted)
        return MPC_DAMAGED;
    if (half_restarted || head + 2 * capacity > limit)
        restart_locked(ctx, shard, ends);
    return make_room_locked(ctx, shard, ends, units);
}

/* Write a record after the head.  Nobody sees it before it is published in the index. */
mpc_status mpc_append_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                             u64 *position)
{
    struct ends ends;
    u64 units = mpc_units(key->len, value->len);
    mpc_status status = ready_locked(ctx, shard, &ends, units);
    if (status != MPC_OK)
        return status;
    u64 pad = pad_before(ctx, ends.head, units);
    if (pad)
        write_pad_locked(ctx, shard, &ends, pad);
    struct mpc_record record = {
        .position = ends.head, .units = (u32)units, .klen = (u16)key->len, .sort = key->sort, .flags = value->flags,
        .version = ends.head, .hash = key->hash, .vlen = (u32)value->len, .space = key->space, .epoch = value->epoch,
        .created = value->created, .expires = value->expires,
    };
    u8 *to = byte_at(ctx, shard, ends.head);
    *position = ends.head;
#ifdef MPC_FAULT_HEAD_FIRST
    advance_head(shard, &ends, units);
    units = 0;
#endif
    write_bytes(to, &record, sizeof record);
    write_bytes(to + sizeof record, key->bytes, key->len);
    write_bytes(to + mpc_value_at(key->len), value->bytes, value->len);
    advance_head(shard, &ends, units);
    return MPC_OK;
}
