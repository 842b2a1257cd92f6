/* Read-modify-write: add, compare-and-set, incr and touch.
 *
 *     lock the shard | look up | decide | void the key's lease | make room | append | publish | unlock
 *                         ^                                                             |
 *                         '--------- the slot was emptied meanwhile: decide again ------'
 *
 * While the shard is locked no other process can give the key a record; but a delete, which takes no lock, can
 * remove it.  So a decision holds only as long as the slot's word is the one that was looked up, and the new record
 * is published by compare-and-swap from that word: the change and the delete happen one after the other, and none is
 * lost.  A record that was appended and not published is an orphan.  A process that cannot have the shard has
 * changed nothing: MPC_BUSY. */
#include "rmw.h"

#include "evict.h"
#include "index.h"
#include "lease.h"
#include "retire.h"
#include "store.h"
#include "wordlock.h"

#define DECISIONS 4 /* two are made at most: a slot that was emptied stays so while the shard is locked */

/* A change under way.  `decide` judges what the key has (NULL: nothing that can be served) and returns MPC_OK with
 * the value to be stored, or why there is none. */
struct mpc_change {
    const mpc_key *key;
    mpc_value value;
    bool keeps_bytes; /* the value's bytes are those of the record that is there; */
    bool keeps_tags;  /* so are its tags */
    mpc_status (*decide)(struct mpc_change *change, const mpc_hit *there);
    u64 version;            /* swap: the one that the key's record must have */
    i64 from, by, sum;      /* incr */
    const mpc_value *fresh; /* incr: the record of a count that begins; */
    bool may_begin;         /* where there is none, it may */
    i64 expires;            /* touch */
    u8 but;                 /* touch: flags of a record that is left alone */
    bool in_haste;          /* touch: copies nothing long */
};

/* -- carrying it out ----------------------------------------------------------------------------------------------- */

/* Replace the key's record.  MPC_ABSENT: it was deleted before its slot was taken, or it left when room was made,
 * because it is too large to be moved. */
static mpc_status mpc_replace_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct mpc_change *change, mpc_hit *old)
{
    struct mpc_room room;
    mpc_value *value = &change->value;
    u64 units = mpc_units(change->key->len, value->len, value->n_tags);
    mpc_status status = mpc_make_room_locked(ctx, shard, change->key->hash, units, old, &room);
    if (status != MPC_OK)
        return status;
    if (!mpc_same_place(mpc_load(old->slot), old->word) && mpc_look_up(ctx, shard, change->key, old) != MPC_OK)
        return MPC_ABSENT;
    if ((change->keeps_bytes && old->record.vlen != value->len) ||
        (change->keeps_tags && mpc_tags_of(old->record.more) != value->n_tags))
        return MPC_DAMAGED;
    if (change->keeps_bytes)
        value->bytes = old->value; /* until the shard is unlocked no tail passes it */
    if (change->keeps_tags)
        value->tags = (const u64 *)(const void *)old->value - value->n_tags;
    u64 place = mpc_word(0, 0, room.ring, mpc_log_append_locked(&room.log[room.ring], change->key, value, room.guest));
    u64 freq = mpc_word_freq(old->word), used = freq < 3 ? freq + 1 : 3;
    MPC_POINT();
#ifdef MPC_FAULT_BLIND_PUBLISH
    mpc_hit put;
    mpc_publish_locked(ctx, shard, change->key, old, place, &put);
    return MPC_OK;
#endif
    return mpc_cas_slot(old->slot, old->word, place | mpc_tag(change->key->hash) << MPC_TAG_SHIFT | used * MPC_FREQ_ONE)
               ? MPC_OK
               : MPC_ABSENT;
}

static mpc_status mpc_change_locked(mpc_ctx *ctx, struct mpc_shard *shard, struct mpc_change *change, u32 drops)
{
    for (int i = 0; i < DECISIONS; i++) {
        mpc_hit there;
        bool is_there = mpc_look_up(ctx, shard, change->key, &there) == MPC_OK && !mpc_is_hidden(ctx, &there.record);
        mpc_status status = change->decide(change, is_there ? &there : NULL);
        if (status != MPC_OK)
            return status;
        mpc_lease_void(ctx, change->key);
        if (!is_there)
            return mpc_put_fresh_locked(ctx, shard, change->key, &change->value, drops);
        status = mpc_replace_locked(ctx, shard, change, &there);
        if (status != MPC_ABSENT)
            return status;
    }
    return MPC_BUSY;
}

/* Carry out a change.  If another process gave up a set of the key while this process was stopped in here, that set
 * dropped everything that was begun before it: this change counts as not made. */
static mpc_status mpc_make_change(mpc_ctx *ctx, struct mpc_change *change, enum mpc_count what, u64 wait_ns)
{
    mpc_status status = mpc_may_write(ctx, change->key, &change->value);
    if (status != MPC_OK)
        return status;
    struct mpc_shard *shard = mpc_shard_of(ctx, change->key);
    u32 drops = mpc_load_acquire(mpc_drops_of(shard, change->key));
    mpc_prefetch_for_write(ctx, shard, change->key);
#ifdef MPC_FAULT_STALE_COUNT
    mpc_hit early;
    change->from = mpc_look_up(ctx, shard, change->key, &early) == MPC_OK ? *(const i64 *)early.value : 0;
#endif
    status = mpc_lock_shard(ctx, shard, wait_ns);
    if (status != MPC_OK)
        return status;
    status = mpc_change_locked(ctx, shard, change, drops);
    mpc_unlock_shard(ctx, shard);
    if (status == MPC_OK)
        mpc_count(ctx, what);
    return status == MPC_DROPPED ? MPC_BUSY : status;
}

/* -- deciding ------------------------------------------------------------------------------------------------------ */

static mpc_status mpc_decide_add(struct mpc_change *change, const mpc_hit *there)
{
    (void)change;
    return there ? MPC_EXISTS : MPC_OK;
}

/* Store the value unless the key has one that can be served: MPC_EXISTS. */
mpc_status mpc_add_new(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns)
{
    struct mpc_change change = {.key = key, .value = *value, .decide = mpc_decide_add};
    return mpc_make_change(ctx, &change, MPC_COUNT_ADDS, wait_ns);
}

static mpc_status mpc_decide_swap(struct mpc_change *change, const mpc_hit *there)
{
    if (!there)
        return MPC_ABSENT;
#ifdef MPC_FAULT_ANY_VERSION
    return MPC_OK;
#endif
    return there->record.version == change->version ? MPC_OK : MPC_REFUSED;
}

/* Store the value if the key's value still has this version (mpc_hit.record.version). MPC_REFUSED: it has another;
 * MPC_ABSENT: the key has no value. */
mpc_status mpc_compare_and_set(mpc_ctx *ctx, const mpc_key *key, u64 version, const mpc_value *value, u64 wait_ns)
{
    struct mpc_change change = {.key = key, .value = *value, .decide = mpc_decide_swap, .version = version};
    return mpc_make_change(ctx, &change, MPC_COUNT_SWAPS, wait_ns);
}

static mpc_status mpc_decide_incr(struct mpc_change *change, const mpc_hit *there)
{
    mpc_value *value = &change->value;
    i64 base = change->from;
    if (!there && !change->may_begin)
        return MPC_ABSENT;
    *value = *change->fresh;
    value->bytes = &change->sum;
    value->len = sizeof change->sum;
    if (there) {
        const struct mpc_record *record = &there->record;
        if (record->flags != value->flags || record->vlen != sizeof base)
            return MPC_OTHER_KIND;
#ifndef MPC_FAULT_STALE_COUNT
        mpc_copy_out(&base, there->value, sizeof base);
#endif
        value->created = record->created;
        value->expires = record->expires;
        value->epoch = record->epoch;
        value->n_tags = (u8)mpc_tags_of(record->more);
        value->took = record->more >> MPC_TOOK_SHIFT;
    }
    change->keeps_tags = there != NULL;
    return __builtin_add_overflow(base, change->by, &change->sum) ? MPC_OVERFLOW : MPC_OK;
}

/* Add to the key's number; *sum receives the result.  The record keeps its creation time and expiry.  MPC_ABSENT:
 * the key has no value, and `initial` is NULL; otherwise counting starts at *initial, and the record's other fields
 * are those of `fresh`. A number is 8 bytes under the flags of `fresh`; of any other value MPC_OTHER_KIND.
 * MPC_OVERFLOW: the sum is not a signed number of 64 bits.  In these cases nothing is changed. */
mpc_status mpc_incr(mpc_ctx *ctx, const mpc_key *key, i64 delta, const i64 *initial, const mpc_value *fresh, i64 *sum,
                    u64 wait_ns)
{
    struct mpc_change change = {.key = key,
                                .value = {.len = sizeof change.sum},
                                .decide = mpc_decide_incr,
                                .by = delta,
                                .from = initial ? *initial : 0,
                                .may_begin = initial != NULL,
                                .fresh = fresh};
    mpc_status status = mpc_make_change(ctx, &change, MPC_COUNT_INCRS, wait_ns);
    *sum = change.sum;
    return status;
}

static mpc_status mpc_decide_touch(struct mpc_change *change, const mpc_hit *there)
{
    if (!there)
        return MPC_ABSENT;
    const struct mpc_record *record = &there->record;
    if (record->flags == change->but || mpc_is_soft(record->expires))
        return MPC_OTHER_KIND;
    if (change->in_haste && record->vlen >= MPC_LONG_COPY)
        return MPC_BUSY;
    change->value = (mpc_value){.len = record->vlen,
                                .created = record->created,
                                .expires = change->expires,
                                .epoch = record->epoch,
                                .flags = record->flags,
                                .n_tags = (u8)mpc_tags_of(record->more),
                                .took = record->more >> MPC_TOOK_SHIFT,
                                .version = record->version};
    return MPC_OK;
}

/* Change the expiry of the key's value (0: never); value and version stay.  MPC_OTHER_KIND: its flags are `but`, or its
 * end is soft.
 * With `wait_ns` 0 no long value is copied: MPC_BUSY. */
mpc_status mpc_touch(mpc_ctx *ctx, const mpc_key *key, i64 expires, u8 but, u64 wait_ns)
{
    struct mpc_change change = {.key = key,
                                .decide = mpc_decide_touch,
                                .keeps_bytes = true,
                                .keeps_tags = true,
                                .expires = expires,
                                .but = but,
                                .in_haste = wait_ns == 0};
    return mpc_make_change(ctx, &change, MPC_COUNT_TOUCHES, wait_ns);
}
