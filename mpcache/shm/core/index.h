/* The index: finds the record of a key, and publishes a new one. */
#ifndef MPC_INDEX_H
#define MPC_INDEX_H

#include "record.h"
#include "status.h"

a64 *mpc_bucket(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, int which);
bool mpc_record_at(const mpc_ctx *ctx, struct mpc_shard *shard, u64 word, struct mpc_record *record, const u8 **at);
a64 *mpc_slot_naming(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 place, u64 *word);
mpc_status mpc_look_up(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_look_up_and_prefetch(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit, u32 lines);
bool mpc_cas_slot(a64 *slot, u64 seen, u64 want);
void mpc_publish_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_hit *old, u64 place,
                        mpc_hit *put);

/* Whether a slot of the index is empty: it is 0, or its ring's tail has passed the position that it names. */
static inline bool mpc_is_stale_slot(struct mpc_shard *shard, u64 word)
{
    return word == 0 || mpc_word_position(word) < mpc_load(&shard->ring[mpc_word_ring(word)].tail);
}

#endif
