/* The log of one ring: records in the order in which they were written.
 *
 *        tail                                   head
 *     ...| record | pad | record | ... | record |  free |...      place = position % capacity
 *
 * A record never wraps; a pad fills the rest of the ring.  Room is made by moving the tail, and only then are the bytes
 * below it overwritten: a reader's re-check of the tail depends on that order, which a release barrier keeps.  A new
 * record is complete before head passes it, and head passes it before a slot names it.  So after the death of a writer
 * at any instruction the log is consistent, and what was half written was never in it.
 *
 * evict.c decides which record leaves, and which is moved where. */
#include "ring.h"

#define COPIED_AT_ONCE (256u << 10) /* bytes */

/* -- looking ------------------------------------------------------------------------------------------------------- */

u8 *mpc_log_at(const struct mpc_log *log, u64 position)
{
    return log->base + position % log->capacity * MPC_UNIT;
}

u64 mpc_log_free(const struct mpc_log *log)
{
    return log->capacity - (log->head - log->tail);
}

/* Return the units that a record takes with the pad before it. */
u64 mpc_log_need(const struct mpc_log *log, u64 units)
{
    u64 left = log->capacity - log->place;
    return units <= left ? units : left + units;
}

/* Copy what lies at `position`, before the head.  False: it is nothing that the engine writes there.  Of a pad only
 * the first words count. */
bool mpc_log_record(const struct mpc_log *log, u64 position, struct mpc_record *record)
{
    u64 place = position % log->capacity, left = log->capacity - place;
    const u8 *from = log->base + place * MPC_UNIT;
    memset(record, 0, sizeof *record);
    if (left < MPC_ALIGN_UNITS)
        return false; /* no record starts there, and what follows is not the ring's */
    mpc_copy_out(record, from, MPC_ALIGN_UNITS * MPC_UNIT);
    if ((record->flags & MPC_PAD) == 0 && left >= MPC_RECORD_UNITS)
        mpc_copy_out(record, from, sizeof *record);
    if (record->position != position || record->units == 0 || record->units > left ||
        record->units > log->head - position)
        return false;
    if (record->flags & MPC_PAD)
        return record->units == left;
    return left >= MPC_RECORD_UNITS && record->units == mpc_units_of(record);
}

/* -- opening ------------------------------------------------------------------------------------------------------- */

/* A restart moves head before tail.  A writer that died in between left tail > head, a state that nothing else
 * produces. */
static bool mpc_log_is_half_restarted(const struct mpc_log *log, u64 limit)
{
    return log->tail > log->head && log->head == log->capacity && log->tail <= limit;
}

static bool mpc_log_is_sound(const struct mpc_log *log, u64 limit)
{
    return mpc_log_is_half_restarted(log, limit) ||
           (log->tail <= log->head && log->head - log->tail <= log->capacity && log->head <= limit &&
            log->head % MPC_ALIGN_UNITS == 0 && log->tail % MPC_ALIGN_UNITS == 0);
}

/* Open a writer's view of a ring.  Head and tail are read once and judged: whatever happens to the shared words
 * meanwhile, the writer writes inside the ring. */
mpc_status mpc_log_open(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, struct mpc_log *log)
{
    u64 limit = ctx->geometry.position_limit;
    *log = (struct mpc_log){.ring = &shard->ring[ring],
                            .which = ring,
                            .base = mpc_ring_base(ctx, shard, ring),
                            .capacity = mpc_ring_units(ctx, ring),
                            .steps = mpc_steps_of(ctx),
                            .moves = &shard->moves};
    log->tail = mpc_load(&log->ring->tail);
    log->head = mpc_load(&log->ring->head);
    log->place = log->head % log->capacity;
    if (!mpc_log_is_sound(log, limit))
        return MPC_DAMAGED;
    log->over = mpc_log_is_half_restarted(log, limit) || log->head + MPC_LAPS_PER_SET * log->capacity > limit;
    return MPC_OK;
}

static void mpc_log_step_locked(const struct mpc_log *log)
{
    mpc_step(log->steps);
    mpc_store(log->moves, mpc_load(log->moves) + 1);
}

/* Empty the ring and start again, because positions must not pass their limit.  Head falls first: a reader that
 * still holds an old position sees that it lies beyond head, until the tail has fallen too and from then on.  A
 * process that takes over from a writer that died in here starts the restart again. */
void mpc_log_restart_locked(const mpc_ctx *ctx, struct mpc_shard *shard, struct mpc_log *log)
{
    a64 *slots = (a64 *)((u8 *)shard + ctx->geometry.index_at);
    for (u64 i = 0; i < (u64)ctx->geometry.index_buckets * MPC_SLOTS_PER_BUCKET; i++) {
        if (mpc_word_ring(mpc_load(&slots[i])) == log->which)
            mpc_store_release(&slots[i], 0);
        mpc_log_step_locked(log);
    }
    MPC_POINT();
    mpc_tally_locked(&log->ring->restarts); /* before head falls: who remembers a position remembers this number, too */
    log->head = log->tail = log->capacity;
    log->place = 0;
    log->over = false;
    atomic_store(&log->ring->head, log->head);
    MPC_POINT();
    atomic_store(&log->ring->tail, log->tail);
    mpc_tally_locked(&shard->cleared);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Write bytes into a ring; all writes go through here.  The tail had moved before this space was free, and a reader
 * that sees one of these bytes must also see that tail: hence the release barrier. */
static void mpc_write_bytes(u8 *to, const void *from, u64 n)
{
#ifndef MPC_FAULT_NO_RELEASE_FENCE
    atomic_thread_fence(memory_order_release);
#endif
    mpc_copy_in(to, from, n);
    MPC_POINT();
}

/* Write in pieces, so that processes that wait for the shard see that its owner is at work. */
static void mpc_write_long(const struct mpc_log *log, u8 *to, const u8 *from, u64 n)
{
    for (; n > COPIED_AT_ONCE; n -= COPIED_AT_ONCE, to += COPIED_AT_ONCE, from += COPIED_AT_ONCE) {
        mpc_write_bytes(to, from, COPIED_AT_ONCE);
        mpc_log_step_locked(log);
    }
    mpc_write_bytes(to, from, n);
}

static void mpc_log_advance_head(struct mpc_log *log, u64 units)
{
    log->head += units;
    log->place += units;
    mpc_log_step_locked(log);
    if (log->place == log->capacity)
        log->place = 0;
#ifdef MPC_FAULT_TAIL_LATE
    mpc_store_release(&log->ring->tail, log->tail);
    MPC_POINT();
#endif
    mpc_store_release(&log->ring->head, log->head);
    MPC_POINT();
}

void mpc_log_pass_locked(struct mpc_log *log, u64 units)
{
    log->tail += units;
    mpc_log_step_locked(log);
#ifdef MPC_FAULT_TAIL_LATE /* what a writer without the fence does now and then, on a machine that reorders stores */
    return;
#endif
    mpc_store_release(&log->ring->tail, log->tail);
    MPC_POINT();
}

/* Return where the next record of `units` units goes, after the pad that it may need.  There is room for both. */
static u8 *mpc_log_place_locked(struct mpc_log *log, u64 units)
{
    u64 left = log->capacity - log->place;
    if (units > left) {
        struct mpc_record pad = {.position = log->head, .units = (u32)left, .flags = MPC_PAD};
        mpc_write_bytes(log->base + log->place * MPC_UNIT, &pad, MPC_ALIGN_UNITS * MPC_UNIT);
        mpc_log_advance_head(log, left);
    }
    return log->base + log->place * MPC_UNIT;
}

/* Each piece is copied once, from where its owner has it. */
static void mpc_write_value(const struct mpc_log *log, u8 *to, const mpc_value *value)
{
    if (!value->pieces)
        mpc_write_long(log, to, value->bytes, value->len);
    for (u64 i = 0; value->pieces && i < value->n_pieces; to += value->pieces[i++].len)
        mpc_write_long(log, to, value->pieces[i].bytes, value->pieces[i].len);
}

/* Write a record after the head.  No reader sees it before it is published in the index. */
u64 mpc_log_append_locked(struct mpc_log *log, const mpc_key *key, const mpc_value *value, bool guest)
{
    u64 units = mpc_units(key->len, value->len, value->n_tags);
    u8 *to = mpc_log_place_locked(log, units);
    u64 position = log->head;
    struct mpc_record record = {
        .position = position,
        .units = (u32)units,
        .klen = (u16)key->len,
        .kind = key->kind,
        .flags = value->flags,
        .version = value->version ? value->version : mpc_word(0, 0, log->which, position),
        .hash = key->hash,
        .vlen = (u32)value->len,
        .namespace = key->namespace,
        .more = (u16)(guest | value->n_tags << MPC_TAGS_SHIFT | value->took << MPC_TOOK_SHIFT),
        .epoch = value->epoch,
        .created = value->created,
        .expires = value->expires,
    };
#ifdef MPC_FAULT_HEAD_FIRST
    mpc_log_advance_head(log, units);
    units = 0;
#endif
    mpc_write_bytes(to, &record, sizeof record);
    mpc_write_bytes(to + sizeof record, key->bytes, key->len);
    u8 *at = to + mpc_value_at(key->len, value->n_tags);
    if (value->n_tags != 0)
        mpc_write_bytes(at - value->n_tags * sizeof(u64), value->tags, value->n_tags * sizeof(u64));
    mpc_write_value(log, at, value);
    mpc_log_advance_head(log, units);
    return position;
}

/* Copy the record at the tail of `from`, which may be the same ring, after the head. */
void mpc_log_copy_locked(struct mpc_log *log, const struct mpc_log *from, const struct mpc_record *record)
{
    const u8 *old = mpc_log_at(from, from->tail);
    u8 *to = mpc_log_place_locked(log, record->units);
    struct mpc_record copy = *record;
    copy.position = log->head;
    copy.more &= (u16)~MPC_GUEST;
    mpc_write_bytes(to, &copy, sizeof copy);
    mpc_write_long(log, to + sizeof copy, old + sizeof copy, record->units * MPC_UNIT - sizeof copy);
    mpc_log_advance_head(log, record->units);
}
