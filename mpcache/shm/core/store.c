/* The store: find, copy, set, fill, delete, and the scan of all keys.  What depends on the present value is in rmw.c.
 * index.c and ring.c do the work; this file decides.
 *
 *     reader   look up -> copy -> did the tail pass it? again
 *     writer   note the drops | void the key's lease | lock the shard | look up | make room, append | publish |
 *              a drop meanwhile? undo | unlock
 *     fill     lock the shard | lock the lease's bucket | still the owner, not voided? | append, publish | voided? undo
 *     delete   void the key's lease, let a fill end | look up | empty the slot, from the word that was looked up */
#include "store.h"

#include "attach.h"
#include "evict.h"
#include "ghost.h"
#include "index.h"
#include "retire.h"
#include "wordlock.h"

#define LINES_READ 20 /* at most: beyond these the hardware prefetcher takes over */
#define SLOT_READS 64 /* how often one record may be moved while its key is copied */
#define DELETE_ROUNDS 1024 /* each lost round means that another process completed its own set */

/* -- reading ------------------------------------------------------------------------------------------------------- */

/* Count the use by one CAS whose failure is ignored.  A saturated count is not written, so that hot keys stay shared
 * by all cores. */
static void mpc_bump_freq(const mpc_hit *hit)
{
    u64 seen = hit->word;
    if (mpc_word_freq(seen) < 3)
        atomic_compare_exchange_strong_explicit(hit->slot, &seen, seen + MPC_FREQ_ONE, memory_order_relaxed,
                                                memory_order_relaxed);
}

/* Remember the length of this record, in cache lines: the next one is likely to be as long. */
static void mpc_remember_length(mpc_ctx *ctx, const struct mpc_record *record)
{
    u64 lines = record->units * MPC_UNIT / MPC_LINE + 2; /* it begins and ends within a line */
    mpc_store(&ctx->lines, (u32)(lines < LINES_READ ? lines : LINES_READ));
}

/* Return whether this hit checks that the segment still has its file.  Reading a clock costs a tenth of a hit, so
 * only some hits do (attach.c). */
static inline bool mpc_is_time_to_revalidate(mpc_ctx *ctx)
{
#ifdef MPC_FAULT_HITS_NEVER_LOOK
    return false;
#endif
    u32 left = mpc_load(&ctx->hits_left);
    if (left == 0)
        return true;
    mpc_store(&ctx->hits_left, left - 1); /* two threads may count one hit for two, and never pass 0 */
    return false;
}

static inline mpc_status mpc_find_inline(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit, u32 lines)
{
    /* If every retry was lapped, it counts as a miss. */
    mpc_status status = mpc_look_up_and_prefetch(ctx, mpc_shard_of(ctx, key), key, hit, lines);
    if (status == MPC_OK && mpc_is_gone(ctx, &hit->record))
        status = MPC_ABSENT;
    if (status == MPC_OK) {
        mpc_remember_length(ctx, &hit->record);
        mpc_bump_freq(hit);
        return mpc_is_time_to_revalidate(ctx) && mpc_revalidate_after_hits(ctx) == MPC_RETIRED ? MPC_RETIRED : MPC_OK;
    }
    return mpc_revalidate(ctx) == MPC_RETIRED ? MPC_RETIRED : MPC_ABSENT;
}

/* Return whether the segment may be read, before looking for one key, or for many. */
mpc_status mpc_may_read(mpc_ctx *ctx)
{
    mpc_status status = mpc_enter(ctx);
    return status == MPC_NO_SLOT || status == MPC_NO_DESCRIPTOR ? MPC_OK : status; /* unregistered may read */
}

/* Look the key up.  MPC_OK: hit->record is a validated copy, and mpc_copy() may be called for the value.  Takes no
 * lock and never waits.  The caller counts hits and misses: it knows whether it may do so without atomic additions. */
mpc_status mpc_find(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit)
{
    mpc_status status = mpc_may_read(ctx);
    return status == MPC_OK ? mpc_find_inline(ctx, key, hit, mpc_load(&ctx->lines)) : status;
}

/* Look up one of many keys.  The caller has called mpc_may_read(), and mpc_prefetch_record() for this key. */
mpc_status mpc_find_prefetched(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit)
{
    /* Check again: a call for many keys may last longer than a remover waits for it. */
    return mpc_retired(ctx) ? MPC_RETIRED : mpc_find_inline(ctx, key, hit, 0);
}

/* Copy the value that was found.  MPC_LAPPED: it was overwritten meanwhile, and the copy is invalid; look up again. */
mpc_status mpc_copy(mpc_ctx *ctx, const mpc_hit *hit, void *to)
{
    mpc_copy_out(to, hit->value, hit->record.vlen);
    MPC_POINT();
    if (!mpc_still_valid(hit)) {
        mpc_count(ctx, MPC_COUNT_LAPS);
        return MPC_LAPPED;
    }
    return MPC_OK;
}

/* Read the record of a slot, if it is of the namespace.  If the tail has passed the record because it was moved, the
 * key keeps its slot: the slot is read again. */
static bool mpc_read_slot(mpc_ctx *ctx, struct mpc_shard *shard, a64 *slot, u16 namespace, mpc_hit *hit,
                          u8 key[MPC_MAX_KEY])
{
    u64 word = mpc_load_acquire(slot);
    for (int i = 0; word != 0 && i < SLOT_READS; i++) {
        const u8 *at;
        *hit = (mpc_hit){.slot = slot, .word = word, .ring = &shard->ring[mpc_word_ring(word)]};
        MPC_POINT();
        if (mpc_record_at(ctx, shard, word, &hit->record, &at)) {
            bool wanted = hit->record.namespace == namespace && !mpc_is_gone(ctx, &hit->record);
            if (wanted)
                mpc_copy_out(key, at + sizeof hit->record, hit->record.klen);
            if (mpc_still_valid(hit))
                return wanted;
        }
#ifdef MPC_FAULT_KEYS_LOOK_ONCE
        return false;
#endif
        u64 now = mpc_load_acquire(slot);
        if (mpc_same_place(now, word))
            return false; /* the tail has passed it: the slot is empty */
        word = now;
    }
    return false;
}

/* Find the next key of the namespace that can be served, in no order; MPC_ABSENT at the end.  Keys that come or go
 * during the scan may be seen, or not, or twice.  A key that stays is seen: moved or overwritten, it keeps its slot. */
mpc_status mpc_next_key(mpc_ctx *ctx, mpc_cursor *cursor, u16 namespace, mpc_hit *hit, u8 key[MPC_MAX_KEY])
{
    u64 slots = (u64)ctx->geometry.index_buckets * MPC_SLOTS_PER_BUCKET;
    for (; cursor->shard < ctx->geometry.shards; cursor->shard++, cursor->slot = 0) {
        struct mpc_shard *shard = mpc_shard_at(ctx, cursor->shard);
        a64 *index = (a64 *)((u8 *)shard + ctx->geometry.index_at);
        while (cursor->slot < slots) {
            if (mpc_retired(ctx))
                return MPC_RETIRED; /* a remover does not wait for the end of a scan */
            if (mpc_read_slot(ctx, shard, &index[cursor->slot++], namespace, hit, key))
                return MPC_OK;
        }
    }
    return MPC_ABSENT;
}

/* -- asking for memory --------------------------------------------------------------------------------------------- */

#define LINES_WRITTEN 32 /* at most: beyond these the hardware prefetcher takes over */

static const u8 *mpc_at_position(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, u64 position)
{
    return mpc_ring_base(ctx, shard, ring) + position % mpc_ring_units(ctx, ring) * MPC_UNIT;
}

/* A look-up of many keys prefetches their memory, a few keys ahead: first the line of the index that most likely has
 * the slot, */
void mpc_prefetch_slot(const mpc_ctx *ctx, const mpc_key *key)
{
    __builtin_prefetch(mpc_bucket(ctx, mpc_shard_of(ctx, key), key->hash, 0));
}

/* and, when that has arrived, the record.  If the tag is another key's, the prefetch is wasted. */
void mpc_prefetch_record(const mpc_ctx *ctx, const mpc_key *key)
{
    struct mpc_shard *shard = mpc_shard_of(ctx, key);
    a64 *bucket = mpc_bucket(ctx, shard, key->hash, 0);
    for (unsigned i = 0; i < MPC_SLOTS_PER_BUCKET; i++) {
        u64 word = mpc_load(&bucket[i]);
        if (word >> MPC_TAG_SHIFT != mpc_tag(key->hash))
            continue;
        mpc_prefetch_lines(mpc_at_position(ctx, shard, mpc_word_ring(word), mpc_word_position(word)),
                           mpc_load(&ctx->lines));
        return;
    }
}

/* Prefetch the memory beyond a head.  It was last written one turn of the ring ago, perhaps by another core: without
 * this, each store into it waits for the line of the store before. */
static void mpc_prefetch_head(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, u64 units)
{
    const u8 *head = mpc_at_position(ctx, shard, ring, mpc_load(&shard->ring[ring].head));
    u64 lines = units * MPC_UNIT / MPC_LINE + 1;
    for (u64 line = 0; line < lines && line < LINES_WRITTEN; line++)
        __builtin_prefetch(head + line * MPC_LINE, 1);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Prefetch what a set is about to read.  It lies in cold memory, in places that do not depend on each other: all are
 * requested at once, before the lock is taken. */
void mpc_prefetch_for_write(const mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key)
{
    __builtin_prefetch(mpc_bucket(ctx, shard, key->hash, 0), 1);
    __builtin_prefetch(mpc_bucket(ctx, shard, key->hash, 1), 1);
    __builtin_prefetch(mpc_ghosts_of(ctx, shard, key->hash), 1);
    for (unsigned ring = 0; ring < MPC_RINGS; ring++) {
        __builtin_prefetch(mpc_at_position(ctx, shard, ring, mpc_load(&shard->ring[ring].tail)));
    }
}

mpc_status mpc_may_write(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value)
{
    mpc_status status = mpc_enter(ctx);
    if (status != MPC_OK)
        return status;
    if (value->len > UINT32_MAX || mpc_units(key->len, value->len, value->n_tags) > mpc_largest_units(ctx))
        return MPC_TOO_LARGE;
    return mpc_revalidate(ctx);
}

/* Append and publish the value.  Making room may have moved or dropped the key's old record, and a delete may have
 * removed it: then the key is looked up once more. */
static mpc_status mpc_put_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                                 mpc_hit *put)
{
    mpc_hit old;
    struct mpc_room room;
    u64 units = mpc_units(key->len, value->len, value->n_tags);
    bool had = mpc_look_up(ctx, shard, key, &old) == MPC_OK;
    mpc_prefetch_head(ctx, shard, had ? mpc_word_ring(old.word) : MPC_SMALL, units); /* most likely */
    mpc_status status = mpc_make_room_locked(ctx, shard, key->hash, units, had ? &old : NULL, &room);
    if (status != MPC_OK)
        return status;
    u64 position = mpc_log_append_locked(&room.log[room.ring], key, value, room.guest);
    if (had && !mpc_same_place(mpc_load(old.slot), old.word))
        had = mpc_look_up(ctx, shard, key, &old) == MPC_OK;
    mpc_publish_locked(ctx, shard, key, had ? &old : NULL, mpc_word(0, 0, room.ring, position), put);
    return MPC_OK;
}

/* Give up a set.  A value that could not be stored must at least not leave an older value behind: every other
 * process would read that as the newest. */
void mpc_drop(mpc_ctx *ctx, const mpc_key *key)
{
    /* before the look-up: a stopped writer publishes after it */
    atomic_fetch_add(mpc_drops_of(mpc_shard_of(ctx, key), key), 1);
    mpc_delete(ctx, key, MPC_SHARD_WAIT_NS);
    mpc_count(ctx, MPC_COUNT_DROPPED);
}

/* Undo what was just published: no other slot word will ever name its place. */
static void mpc_unpublish(const mpc_hit *put)
{
    mpc_cas_slot(put->slot, put->word, 0);
}

/* Store a plain set or add.  While its process was stopped with the lock, sets of others may have given up: those
 * are newer, perhaps of this key, so what was begun before them is undone.  Either this read sees the drop, or the
 * dropper's look-up, which comes after its count, sees what was published here. */
mpc_status mpc_put_fresh_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                                u32 drops)
{
    mpc_hit put;
    mpc_status status = mpc_put_locked(ctx, shard, key, value, &put);
    if (status != MPC_OK)
        return status;
    atomic_thread_fence(memory_order_seq_cst);
    if (mpc_load(mpc_drops_of(shard, key)) == drops)
        return MPC_OK;
    mpc_unpublish(&put);
    mpc_count(ctx, MPC_COUNT_DROPPED);
    return MPC_DROPPED;
}

/* Store the value.  With `wait_ns` 0 the lock is only tried: MPC_BUSY, nothing was stored, though a creation under way
 * is voided.  MPC_DROPPED: the key has no value now, because the shard's owner made no progress for `wait_ns`
 * (wordlock.c), or because another set of the key's class gave up while this one was under way. */
mpc_status mpc_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns)
{
    mpc_status status = mpc_may_write(ctx, key, value);
    if (status != MPC_OK)
        return status;
    struct mpc_shard *shard = mpc_shard_of(ctx, key);
    u32 drops = mpc_load_acquire(mpc_drops_of(shard, key));
    mpc_prefetch_for_write(ctx, shard, key);
    mpc_lease_void(ctx, key);
    status = mpc_lock_shard(ctx, shard, wait_ns);
    if (status == MPC_BUSY && wait_ns != 0) {
        mpc_drop(ctx, key);
        return MPC_DROPPED;
    }
    if (status != MPC_OK)
        return status;
    status = mpc_put_fresh_locked(ctx, shard, key, value, drops);
    mpc_unlock_shard(ctx, shard);
    if (status == MPC_OK)
        mpc_count(ctx, MPC_COUNT_SETS);
    return status;
}

static bool mpc_is_invalidated(mpc_ctx *ctx, u16 which, u64 epoch)
{
    struct mpc_namespace *namespace = mpc_namespace_at(ctx, which);
    return epoch < mpc_load_acquire(&namespace->hard_at) || epoch < mpc_load_acquire(&namespace->clear_at);
}

static mpc_status mpc_fill_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                                  const mpc_hold *guard, u64 wait_ns)
{
    mpc_status status;
    mpc_hit put;
    if (!mpc_lease_fill_begin(ctx, key, guard, wait_ns, &status))
        return status;
    if (mpc_is_invalidated(ctx, key->namespace, value->epoch))
        status = MPC_REFUSED;
    else
        status = mpc_put_locked(ctx, shard, key, value, &put);
    mpc_lease_fill_end(ctx, guard);
    if (status != MPC_OK)
        return status;
    atomic_thread_fence(memory_order_seq_cst);
    MPC_POINT();
#ifdef MPC_FAULT_NO_SECOND_LOOK
    return MPC_OK;
#endif
    if (!mpc_lease_voided(ctx, guard))
        return MPC_OK;
    mpc_unpublish(&put);
    return MPC_REFUSED;
}

/* Fill under the shard's lock.  A process that changes the key without the shard's lock first voids the lease, then
 * waits until no process is between fill_begin and fill_end, and then looks for the slot: so it finds what this fill
 * published, also if the filler was killed right after.  A filler that is stopped there cannot be waited for;
 * against that, the fill checks the void once more after it has published: whatever their order, one of the two sees
 * the other (Dekker's argument). */
static mpc_status mpc_fill_under_lock(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *guard,
                                      u64 wait_ns)
{
    struct mpc_shard *shard = mpc_shard_of(ctx, key);
    mpc_status status = mpc_lock_shard(ctx, shard, wait_ns);
    if (status != MPC_OK)
        return status == MPC_BUSY && wait_ns != 0 ? MPC_DROPPED : status;
    status = mpc_fill_locked(ctx, shard, key, value, guard, wait_ns);
    mpc_unlock_shard(ctx, shard);
    return status;
}

/* Store what a creator made, unless the key was set, deleted or invalidated since its fill began. */
mpc_status mpc_fill(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *guard, u64 wait_ns)
{
    mpc_status status = mpc_may_write(ctx, key, value);
    if (status != MPC_OK)
        return status;
    if (!mpc_lease_mine(ctx, guard) || mpc_lease_voided(ctx, guard))
        status = MPC_REFUSED; /* what the key has now is newer: no lock is needed to know that */
    else
        status = mpc_fill_under_lock(ctx, key, value, guard, wait_ns);
    if (status == MPC_DROPPED)
        mpc_drop(ctx, key);
    if (status != MPC_BUSY)
        mpc_count(ctx, status == MPC_OK ? MPC_COUNT_FILLS : MPC_COUNT_FILLS_REFUSED);
    return status;
}

/* Delete the key.  No lock is needed, because a writer publishes by compare-and-swap from the word that it saw.
 * MPC_OK: the key had a value that was not hidden.  `wait_ns` 0 does not wait for a fill that is just being published:
 * MPC_BUSY, the key is not deleted. */
mpc_status mpc_delete(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns)
{
    mpc_status status = mpc_enter(ctx);
    if (status == MPC_OK)
        status = mpc_revalidate(ctx);
    if (status != MPC_OK)
        return status;
    if (mpc_lease_void(ctx, key) && !mpc_lease_settle(ctx, key, wait_ns))
        return MPC_BUSY;
    struct mpc_shard *shard = mpc_shard_of(ctx, key);
    bool was_there = false;
    for (int i = 0; i < DELETE_ROUNDS; i++) {
        mpc_hit hit;
        mpc_status found = mpc_look_up(ctx, shard, key, &hit);
        if (found == MPC_LAPPED)
            continue; /* a look-up that was lapped does not prove that the key is absent */
        if (found != MPC_OK)
            break;
        bool hidden = mpc_is_hidden(ctx, &hit.record);
        MPC_POINT();
        if (mpc_cas_slot(hit.slot, hit.word, 0)) {
            was_there = was_there || !hidden;
            break;
        }
    }
    mpc_count(ctx, MPC_COUNT_DELETES);
    return was_there ? MPC_OK : MPC_ABSENT;
}
