/* Between the three files of the store: index.c finds and publishes, ring.c makes room and writes, store.c decides.
 * Nothing outside core/ includes this. */
#ifndef MPC_STORE_H
#define MPC_STORE_H

#include "engine.h"

/* index.c */
u64 mpc_tag(u64 hash);
a64 *mpc_bucket(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, int which);
bool mpc_record_at(const mpc_ctx *ctx, struct mpc_shard *shard, u64 word, struct mpc_record *record, const u8 **at);
a64 *mpc_slot_naming(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, unsigned ring, u64 position);
mpc_status mpc_look_up(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, mpc_hit *hit);
bool mpc_still_valid(const mpc_hit *hit);
bool mpc_retarget(a64 *slot, u64 seen, u64 want);
a64 *mpc_publish_locked(mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, const mpc_hit *old, u64 position);

/* ring.c */
u64 mpc_units(u32 klen, u64 vlen);
u64 mpc_largest_units(const mpc_ctx *ctx);
u8 *mpc_ring_base(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring);
u64 mpc_ring_units(const mpc_ctx *ctx, unsigned ring);
mpc_status mpc_append_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                             u64 *position);
bool mpc_log_record(const mpc_ctx *ctx, struct mpc_shard *shard, u64 position, u64 head, struct mpc_record *record);
bool mpc_is_gone(mpc_ctx *ctx, const struct mpc_record *record);
u64 mpc_value_at(u32 klen);

#endif
