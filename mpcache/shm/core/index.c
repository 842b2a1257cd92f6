/* The index: hints from keys to positions.
 *
 *     hash ->  tag:12,  two buckets of 8 slot words
 *     slot:    tag:12 | freq:2 | ring:1 | position:49         0: empty
 *
 * A slot proves nothing: the key of the record that it names is compared in full.  A slot whose position its ring's
 * tail has passed is empty for every process.  A position is used once only, so a slot word always names the same
 * place of the same record, and a compare-and-swap from a word that was looked up cannot hit another record's. */
#include "index.h"

#define LOOKUPS 8 /* look-ups that may be lapped before a reader settles for a miss */

/* Range reduction by multiplication; the second bucket from bits that the first does not use much. */
a64 *mpc_bucket(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, int which)
{
    u64 bits = which == 0 ? (u32)hash : (u32)((hash >> 12) * 0x9e3779b97f4a7c15ull >> 32);
    u64 bucket = bits * ctx->geometry.index_buckets >> 32;
    return (a64 *)((u8 *)shard + ctx->geometry.index_at + bucket * MPC_LINE);
}

/* Where the record lies that a slot word names, if the ring's tail and head allow it to be there. */
struct mpc_spot {
    u64 position, place, capacity, head; /* in units */
    const u8 *at;
};

static bool mpc_locate(const mpc_ctx *ctx, struct mpc_shard *shard, u64 word, struct mpc_spot *spot)
{
    unsigned which = mpc_word_ring(word);
    u64 position = mpc_word_position(word);
    struct mpc_ring *ring = &shard->ring[which];
    u64 tail = mpc_load_acquire(&ring->tail), head = mpc_load_acquire(&ring->head);
    u64 capacity = mpc_ring_units(ctx, which), place = position % capacity;
    if (position < tail || position + MPC_RECORD_UNITS > head || position % MPC_ALIGN_UNITS != 0 ||
        place + MPC_RECORD_UNITS > capacity)
        return false;
    *spot = (struct mpc_spot){position, place, capacity, head, mpc_ring_base(ctx, shard, which) + place * MPC_UNIT};
    return true;
}

/* Copy the record's header.  False: it is not sound. */
static bool mpc_read_header(const struct mpc_spot *spot, struct mpc_record *record)
{
    mpc_copy_out(record, spot->at, sizeof *record);
#ifdef MPC_FAULT_NO_BOUNDS
    return true;
#endif
    return record->position == spot->position && (record->flags & MPC_PAD) == 0 &&
           record->units == mpc_units_of(record) && record->units <= spot->capacity &&
           spot->place + record->units <= spot->capacity && spot->position + record->units <= spot->head;
}

/* Copy the header of the record that `word` names.  False: it is gone or not sound.  The copy may be believed only
 * after mpc_still_valid() has confirmed that the tail had not passed the record. */
bool mpc_record_at(const mpc_ctx *ctx, struct mpc_shard *shard, u64 word, struct mpc_record *record, const u8 **at)
{
    struct mpc_spot spot;
    if (!mpc_locate(ctx, shard, word, &spot))
        return false;
    *at = spot.at;
    return mpc_read_header(&spot, record);
}

static bool mpc_is_key(const struct mpc_record *record, const mpc_key *key, const u8 *at)
{
    return record->hash == key->hash && record->klen == key->len && record->kind == key->kind &&
           record->namespace == key->namespace && mpc_same_bytes(at + sizeof *record, key->bytes, key->len);
}

/* MPC_OK: found.  MPC_ABSENT: this slot is another's.  MPC_LAPPED: it changed while it was looked at. */
static inline mpc_status mpc_try_slot(mpc_ctx *ctx, struct mpc_shard *shard, a64 *slot, u64 word, const mpc_key *key,
                                      mpc_hit *hit, u32 lines)
{
    struct mpc_spot spot;
    bool found = mpc_locate(ctx, shard, word, &spot);
    if (found) {
        mpc_prefetch_lines(spot.at, lines);
        found = mpc_read_header(&spot, &hit->record) && mpc_is_key(&hit->record, key, spot.at);
    }
    MPC_POINT();
    if (!found)
        return mpc_same_place(mpc_load_acquire(slot), word) ? MPC_ABSENT : MPC_LAPPED;
    hit->slot = slot;
    hit->word = word;
    hit->ring = &shard->ring[mpc_word_ring(word)];
    hit->value = spot.at + mpc_value_at(hit->record.klen, mpc_tags_of(hit->record.more));
    return mpc_still_valid(hit) ? MPC_OK : MPC_LAPPED;
}

static inline mpc_status mpc_scan_buckets(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit,
                                          u32 lines)
{
    u64 tag = mpc_tag(key->hash);
    mpc_status status = MPC_ABSENT;
    for (int side = 0; side < 2; side++) {
        a64 *bucket = mpc_bucket(ctx, shard, key->hash, side);
        for (unsigned i = 0; i < MPC_SLOTS_PER_BUCKET; i++) {
            u64 word = mpc_load_acquire(&bucket[i]);
            if (word == 0 || word >> MPC_TAG_SHIFT != tag)
                continue;
            mpc_status one = mpc_try_slot(ctx, shard, &bucket[i], word, key, hit, lines);
            if (one == MPC_OK)
                return MPC_OK;
            if (one == MPC_LAPPED)
                status = MPC_LAPPED;
        }
    }
    return status;
}

/* A miss counts only if no slot that might have been the key's changed meanwhile.  Without that, a value that is
 * being overwritten is sometimes not found. */
static inline mpc_status mpc_look_up_inline(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit,
                                            u32 lines)
{
    for (int i = 0; i < LOOKUPS; i++) {
        mpc_status status = mpc_scan_buckets(ctx, shard, key, hit, lines);
        if (status != MPC_LAPPED)
            return status;
        mpc_count(ctx, MPC_COUNT_LAPS);
    }
    return MPC_LAPPED;
}

mpc_status mpc_look_up(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit)
{
    return mpc_look_up_inline(ctx, shard, key, hit, 0);
}

/* Look up a key whose whole record will be read: prefetch `lines` cache lines of it at once. */
mpc_status mpc_look_up_and_prefetch(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit, u32 lines)
{
    return mpc_look_up_inline(ctx, shard, key, hit, lines);
}

/* Return the slot whose word names `place` (ring and position) of a key with this hash; NULL: there is none. */
a64 *mpc_slot_naming(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 place, u64 *word)
{
    u64 want = mpc_tag(hash) << MPC_TAG_SHIFT | place;
    for (int side = 0; side < 2; side++) {
        a64 *bucket = mpc_bucket(ctx, shard, hash, side);
        for (unsigned i = 0; i < MPC_SLOTS_PER_BUCKET; i++) {
            *word = mpc_load(&bucket[i]);
            if (mpc_same_place(*word, want))
                return &bucket[i];
#ifdef MPC_FAULT_MOVE_SUPERSEDED
            if (*word >> MPC_TAG_SHIFT == mpc_tag(hash))
                return &bucket[i];
#endif
        }
    }
    return NULL;
}

/* Change the slot's word from `seen` to `want`, unless the slot was emptied meanwhile.  Readers may change its freq,
 * deleters may empty it, and no other process writes to it while the shard is locked. */
bool mpc_cas_slot(a64 *slot, u64 seen, u64 want)
{
    u64 now = seen;
    do
        if (!mpc_same_place(now, seen))
            return false;
    while (!mpc_cas64(slot, &now, want));
    return true;
}

/* Return how valuable a slot is; the lowest is replaced first.  Empty, then small before main, then by freq; the
 * caller breaks ties by age. */
static unsigned mpc_slot_worth(struct mpc_shard *shard, u64 word)
{
    unsigned ring = mpc_word_ring(word);
    if (word == 0 || mpc_word_position(word) < mpc_load(&shard->ring[ring].tail))
        return 0;
    return 1 + ring * 4 + (unsigned)mpc_word_freq(word);
}

static u64 mpc_slot_age(struct mpc_shard *shard, u64 word)
{
    return mpc_load(&shard->ring[mpc_word_ring(word)].head) - mpc_word_position(word);
}

static a64 *mpc_most_dispensable(mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 *word)
{
    a64 *best = NULL;
    unsigned least = 0;
    for (int side = 0; side < 2; side++) {
        a64 *bucket = mpc_bucket(ctx, shard, hash, side);
        for (unsigned i = 0; i < MPC_SLOTS_PER_BUCKET; i++) {
            u64 seen = mpc_load_acquire(&bucket[i]);
            unsigned value = mpc_slot_worth(shard, seen);
            if (best && (value > least || (value == least && mpc_slot_age(shard, seen) <= mpc_slot_age(shard, *word))))
                continue;
            best = &bucket[i];
            least = value;
            *word = seen;
            if (value == 0)
                return best;
        }
    }
    mpc_tally_locked(&shard->overflow);
    return best;
}

/* Publish the record at `place` as the key's: in the slot that named the old one, or else in the least valuable slot
 * of the key's two buckets.  `put` receives where and what was published. */
void mpc_publish_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_hit *old, u64 place,
                        mpc_hit *put)
{
    u64 seen = 0, word = mpc_tag(key->hash) << MPC_TAG_SHIFT | place;
    MPC_POINT();
    put->word = word;
    if (old) {
        u64 freq = mpc_word_freq(old->word);
        put->slot = old->slot;
        if (mpc_cas_slot(old->slot, old->word, word + (freq < 3 ? freq + 1 : 3) * MPC_FREQ_ONE))
            return;
    }
    do
        put->slot = mpc_most_dispensable(ctx, shard, key->hash, &seen);
    while (!mpc_cas64(put->slot, &seen, word));
}
