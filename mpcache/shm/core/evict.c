/* Eviction: which records stay, by S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson, "FIFO queues are all you need for cache
 * eviction", SOSP 2023) on the two rings of a shard.
 *
 *                       unread: its fingerprint                       read: to the head, freq - 1
 *                      .-----------> ghosts                              .---------.
 *                      |               |                                 v         |
 *          new --> [ small ]           | asked for again --------> [       main       ] --> unread: out
 *                      |                                                 ^
 *                      '---------------- read ---------------------------'
 *
 * Most keys are never asked for again.  They pass through the small ring and cost no used record its place.  Records
 * that can no longer be served (overwritten, deleted, expired, invalidated) are passed over.
 *
 * A guest is a record that came to main without having been read: because it is too large for the small ring, or
 * because main had room.  An unread guest is worth no more than what leaves the small ring, so the one makes room for
 * the other.  So a cache that was never read keeps what is newest; and a cache that was cleared, or whose values have
 * expired, fills again (docs/decisions/0009).
 *
 * A record is moved in this order: room for it, its bytes, head, its slot by compare-and-swap, tail.  So the key is
 * found at every moment, whichever process dies.  A slot that was emptied meanwhile stays empty, and the copy is an
 * orphan. */
#include "evict.h"

#include "ghost.h"
#include "index.h"

#define MOVES_PER_SET 64 /* after these, victims leave even if they were read: a set's latency is bounded */
#define LARGEST_SHARE 4  /* a record may take this part of the main ring; */
#define SMALL_SHARE 4    /* a new one that would take this part of the small ring goes to main */
#define MOVABLE_SHARE 32 /* of main; larger ones leave instead of being copied */
#define MEAN_OF 64       /* new keys, over which the mean length is taken */
#define RESERVE 16 /* records: the room that guests leave in main, so that what is promoted displaces them first; */
#define RESERVE_SHARE 64 /* of main, at most */
#define PATIENCE 64 /* guests that are refused for each step of the tail of a main ring that is not read */

u64 mpc_largest_units(const mpc_ctx *ctx)
{
    return ctx->geometry.main_units / LARGEST_SHARE / MPC_ALIGN_UNITS * MPC_ALIGN_UNITS;
}

u64 mpc_largest_value(const mpc_ctx *ctx, u32 klen)
{
    u64 room = mpc_largest_units(ctx) * MPC_UNIT, taken = mpc_value_at(klen, 0);
    u64 most = room > taken ? room - taken : 0;
    return most < UINT32_MAX ? most : UINT32_MAX;
}

/* -- one step of a tail -------------------------------------------------------------------------------------------- */

/* The record at a tail.  `slot` is NULL where the record may leave without loss: it is a pad, or no slot names it
 * any more. */
struct mpc_victim {
    struct mpc_record record;
    a64 *slot;
    u64 word;
    bool hidden;
};

static mpc_status mpc_read_victim(struct mpc_room *room, struct mpc_log *log, struct mpc_victim *victim)
{
    struct mpc_record *record = &victim->record;
    if (log->tail >= log->head || !mpc_log_record(log, log->tail, record))
        return MPC_DAMAGED;
    victim->slot = NULL;
    victim->hidden = false;
    if (record->flags & MPC_PAD)
        return MPC_OK;
    u64 place = mpc_word(0, 0, log->which, log->tail);
    victim->slot = mpc_slot_naming(room->ctx, room->shard, record->hash, place, &victim->word);
    victim->hidden = victim->slot && mpc_is_hidden(room->ctx, record);
    return MPC_OK;
}

static bool mpc_is_unread_guest(const struct mpc_victim *victim)
{
    return (victim->record.more & MPC_GUEST) && mpc_word_freq(victim->word) == 0;
}

/* Return whether the record stays.  That uses up one of the set's moves, before room is made for the copy.  A record
 * that is being overwritten is in use, and must be found until then: it always has a move. */
static bool mpc_takes_a_move(struct mpc_room *room, const struct mpc_victim *victim)
{
    return victim->slot && !victim->hidden && (mpc_word_freq(victim->word) > 0 || victim->slot == room->own) &&
           victim->record.units <= room->movable && (room->moves < MOVES_PER_SET || victim->slot == room->own) &&
           ++room->moves;
}

/* Empty the record's slot: it leaves `ring`. A record that had no time to be read becomes a ghost. */
static void mpc_evict(struct mpc_room *room, const struct mpc_victim *victim, unsigned ring)
{
    if (!victim->slot || !mpc_cas_slot(victim->slot, victim->word, 0))
        return;
    mpc_tally_locked(victim->hidden ? &room->shard->expired : &room->shard->evicted[ring]);
    if (!victim->hidden && (ring == MPC_SMALL || mpc_is_unread_guest(victim)))
        mpc_ghost_add_locked(room->ctx, room->shard, victim->record.hash);
}

/* Move the record to the head of main, into the room that is kept free for this.  False: that room is too small, and
 * the record leaves. */
static bool mpc_move_to_main(struct mpc_room *room, const struct mpc_log *from, const struct mpc_victim *victim,
                             u64 freq)
{
    struct mpc_log *main = &room->log[MPC_MAIN];
    u64 need = mpc_log_need(main, victim->record.units);
    if (need > mpc_log_free(main))
        return false;
    u64 place = mpc_word(mpc_tag(victim->record.hash), freq, MPC_MAIN, main->head + need - victim->record.units);
#ifdef MPC_FAULT_SLOT_BEFORE_COPY
    mpc_cas_slot(victim->slot, victim->word, place);
#endif
    mpc_log_copy_locked(main, from, &victim->record);
    mpc_cas_slot(victim->slot, victim->word, place);
    return true;
}

static void mpc_pass_main(struct mpc_room *room, const struct mpc_victim *victim)
{
    struct mpc_log *main = &room->log[MPC_MAIN];
    u64 freq = mpc_word_freq(victim->word);
    if (mpc_takes_a_move(room, victim) && mpc_move_to_main(room, main, victim, freq ? freq - 1 : 0))
        mpc_tally_locked(&room->shard->reinserted);
    else
        mpc_evict(room, victim, MPC_MAIN);
    mpc_log_pass_locked(main, victim->record.units);
}

/* -- room ---------------------------------------------------------------------------------------------------------- */

/* The room that main keeps free: what the largest of its movable records takes, with the pad before it.  There must
 * be room for the copy before the tail leaves the original. */
static u64 mpc_gap_of(const struct mpc_room *room)
{
    return 2 * room->widest;
}

static u64 mpc_reserve_of(const struct mpc_room *room)
{
    u64 most = room->log[MPC_MAIN].capacity / RESERVE_SHARE;
    return RESERVE * room->widest < most ? RESERVE * room->widest : most;
}

static mpc_status mpc_make_room_in_main(struct mpc_room *room, u64 units)
{
    struct mpc_log *main = &room->log[MPC_MAIN];
    while (mpc_log_free(main) < mpc_log_need(main, units) + mpc_gap_of(room)) {
        struct mpc_victim victim;
        mpc_status status = mpc_read_victim(room, main, &victim);
        if (status != MPC_OK)
            return status;
        mpc_pass_main(room, &victim);
    }
    return MPC_OK;
}

/* Return whether the record at main's tail leaves for a guest: it does unless it was promoted or read. */
static bool mpc_gives_way(struct mpc_room *room, const struct mpc_victim *victim)
{
    if (!victim->slot || victim->hidden || mpc_is_unread_guest(victim))
        return true;
    mpc_tally_locked(&room->shard->refused);
    return mpc_load(&room->shard->refused) % PATIENCE == 0;
}

/* Make room in main for a guest, at the cost of other unread guests only.  MPC_OK: there is room.  MPC_ABSENT: the
 * record at the tail stays. */
static mpc_status mpc_make_room_for_guest(struct mpc_room *room, u64 units)
{
    struct mpc_log *main = &room->log[MPC_MAIN];
    while (mpc_log_free(main) < mpc_log_need(main, units) + mpc_gap_of(room) + mpc_reserve_of(room)) {
        struct mpc_victim victim;
        mpc_status status = mpc_read_victim(room, main, &victim);
        if (status != MPC_OK)
            return status;
        if (!mpc_gives_way(room, &victim))
            return MPC_ABSENT;
        mpc_pass_main(room, &victim);
    }
    return MPC_OK;
}

static mpc_status mpc_promote(struct mpc_room *room, const struct mpc_victim *victim)
{
    mpc_status status = mpc_make_room_in_main(room, victim->record.units);
    if (status != MPC_OK)
        return status;
#ifdef MPC_FAULT_TAIL_BEFORE_SLOT
    mpc_store_release(&room->log[MPC_SMALL].ring->tail, room->log[MPC_SMALL].tail + victim->record.units);
    MPC_POINT();
#endif
    if (mpc_move_to_main(room, &room->log[MPC_SMALL], victim, 0))
        mpc_tally_locked(&room->shard->promoted);
    else
        mpc_evict(room, victim, MPC_SMALL);
    return MPC_OK;
}

/* Make room in the small ring; or in main, and leave the small ring as it is, in two cases: the record that is being
 * overwritten is the next to leave, or the key is new and main has room for a guest. */
static mpc_status mpc_make_room_in_small(struct mpc_room *room, u64 units)
{
    struct mpc_log *small = &room->log[MPC_SMALL];
    while (mpc_log_free(small) < mpc_log_need(small, units)) {
        struct mpc_victim victim;
        mpc_status status = mpc_read_victim(room, small, &victim);
        if (status != MPC_OK)
            return status;
        if (victim.slot && victim.slot == room->own) {
            room->ring = MPC_MAIN;
            return mpc_make_room_in_main(room, units);
        }
        if (mpc_takes_a_move(room, &victim)) {
            status = mpc_promote(room, &victim);
            if (status != MPC_OK)
                return status;
        } else if (!room->own && victim.slot && !victim.hidden && mpc_make_room_for_guest(room, units) == MPC_OK) {
            room->guest = true;
            room->ring = MPC_MAIN;
            return MPC_OK;
        } else {
            mpc_evict(room, &victim, MPC_SMALL);
        }
        mpc_log_pass_locked(small, victim.record.units);
    }
    return MPC_OK;
}

static mpc_status mpc_open_rings_locked(struct mpc_room *room, mpc_ctx *ctx, struct mpc_shard *shard, u64 units,
                                        a64 *own)
{
    *room = (struct mpc_room){.ctx = ctx, .shard = shard, .own = own};
    for (unsigned ring = 0; ring < MPC_RINGS; ring++) {
        struct mpc_log *log = &room->log[ring];
        mpc_status status = mpc_log_open(ctx, shard, ring, log);
        if (status != MPC_OK)
            return status;
        if (log->over)
            mpc_log_restart_locked(ctx, shard, log);
    }
    room->movable = room->log[MPC_MAIN].capacity / MOVABLE_SHARE;
    u64 widest = mpc_load(&shard->widest);
    if (units > widest && units <= room->movable)
        mpc_store(&shard->widest, widest = units);
    room->widest = widest < room->movable ? widest : room->movable;
#ifdef MPC_FAULT_OWN_LEAVES
    room->own = NULL;
#endif
    return MPC_OK;
}

/* Return whether the key is a ghost, and forget the ghost.  As many ghosts count as main has records, by the mean
 * length of new records: a key has as long to come back as it would have had in main. */
static bool mpc_was_ghost(struct mpc_room *room, u64 hash, u64 units)
{
    u64 lengths = mpc_load(&room->shard->lengths);
    lengths = lengths == 0 ? MEAN_OF * units : lengths - lengths / MEAN_OF + units;
    mpc_store(&room->shard->lengths, lengths);
    u64 records = room->log[MPC_MAIN].capacity / (1 + lengths / MEAN_OF);
    if (!mpc_ghost_take_locked(room->ctx, room->shard, hash, records))
        return false;
    mpc_tally_locked(&room->shard->ghost_hits);
    return true;
}

/* Choose the ring for a record of `units` units, and make room in it.  `old` is what the key has now; NULL: nothing. */
mpc_status mpc_make_room_locked(mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 units, const mpc_hit *old,
                                struct mpc_room *room)
{
    mpc_status status = mpc_open_rings_locked(room, ctx, shard, units, old ? old->slot : NULL);
    if (status != MPC_OK)
        return status;
    bool is_ghost = !old && mpc_was_ghost(room, hash, units);
    bool is_large = units > room->log[MPC_SMALL].capacity / SMALL_SHARE;
    room->ring = is_large || is_ghost || (old && mpc_word_ring(old->word) == MPC_MAIN) ? MPC_MAIN : MPC_SMALL;
    room->guest = room->ring == MPC_MAIN && !old && !is_ghost;
    return room->ring == MPC_MAIN ? mpc_make_room_in_main(room, units) : mpc_make_room_in_small(room, units);
}
